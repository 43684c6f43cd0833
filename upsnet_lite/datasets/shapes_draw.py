"""How the shapes data set looks: six surfaces (stuff), six objects (things), each a short formula.

Coordinates   u, v    the whole image is 128 x 128 units, whatever its pixels
              x, y    an object's own: turned with it, its radius is 1
Distances     d < 0 inside, > 0 outside, about 1 per radius near the outline: coverage = clip(1/2 - d * radius_px)
Colours       float32 RGB in [0, 1];  drawn at twice the size and averaged, which smooths every edge and texture
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float
from PIL import Image

UNITS = 128.0
Map = Float[np.ndarray, "H W"]
Rgb = Float[np.ndarray, "3 H W"]

# Okabe and Ito's colours, slightly softened: told apart with any colour vision.
VERMILLION, ORANGE, YELLOW, GREEN = (0.84, 0.37, 0.14), (0.92, 0.62, 0.14), (0.95, 0.87, 0.36), (0.10, 0.60, 0.46)
SKY_BLUE, BLUE, PURPLE, CREAM = (0.42, 0.72, 0.90), (0.12, 0.42, 0.68), (0.78, 0.47, 0.66), (0.97, 0.94, 0.86)
WOOD, DARK = (0.70, 0.50, 0.32), (0.13, 0.14, 0.18)


# ---------------------------------------------------------------------------------------------- stuff: surfaces


def noise(rng: np.random.Generator, side: int, across: int, down: int | None = None) -> Map:
    """Smooth noise of about unit variance with that many bumps `across` and `down` the image."""
    bumps = rng.standard_normal((down or across, across)).astype(np.float32)
    return np.asarray(Image.fromarray(bumps).resize((side, side), Image.Resampling.BICUBIC)) * 1.3


def mix(a: tuple | Rgb, b: tuple | Rgb, share: Map) -> Rgb:
    """a where share is 0, b where it is 1; a and b are colours or maps of colours."""
    a, b = (np.asarray(c, np.float32).reshape(3, 1, 1) if isinstance(c, tuple) else c for c in (a, b))
    return a + (b - a) * share


def step(value: Map, low: float, high: float) -> Map:
    """0 below low, 1 above high, smooth between."""
    t = np.clip((value - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def sky(rng, u, v) -> Rgb:
    blue, dusk, haze = (((0.33, 0.58, 0.86), (0.80, 0.91, 0.97)), ((0.46, 0.51, 0.78), (0.98, 0.84, 0.74)),
                        ((0.45, 0.62, 0.75), (0.88, 0.91, 0.92)))  # fmt: skip
    top, low = (blue, dusk, haze)[rng.integers(3)]
    side = v.shape[0]
    clouds = noise(rng, side, 3, 6) + 0.5 * noise(rng, side, 8, 14) + 0.2 * noise(rng, side, 20, 30)
    plain = mix(top, low, np.broadcast_to(step(v, -10.0, 90.0), clouds.shape))
    return mix(plain, (1.0, 0.99, 0.97), 0.75 * step(clouds, 0.4, 1.9))


def water(rng, u, v) -> Rgb:
    hues = ((0.07, 0.36, 0.53), (0.24, 0.60, 0.70)), ((0.10, 0.29, 0.50), (0.32, 0.52, 0.70))
    deep, shallow = hues[rng.integers(2)]
    side = v.shape[0]
    swell = noise(rng, side, 4, 10)
    waves = np.sin(v * rng.uniform(0.55, 0.8) + 1.7 * swell + 0.3 * np.sin(u * 0.16))
    crests = step(waves, 0.55, 1.0) * step(noise(rng, side, 9, 26), -0.6, 1.2)
    return mix(mix(deep, shallow, 0.5 + 0.3 * swell + 0.14 * waves), (0.86, 0.95, 0.97), 0.7 * crests)


def sand(rng, u, v) -> Rgb:
    side = v.shape[0]
    dunes = noise(rng, side, 3, 5)
    ripples = np.sin(v * 0.9 + u * rng.uniform(-0.25, 0.25) + 2.2 * dunes)
    grains = rng.standard_normal((side, side)).astype(np.float32)
    return mix((0.80, 0.67, 0.47), (0.96, 0.87, 0.68), 0.5 + 0.2 * dunes + 0.12 * ripples + 0.1 * grains)


def grass(rng, u, v) -> Rgb:
    side = v.shape[0]
    blades = noise(rng, side, 110, 26) + 0.6 * noise(rng, side, 64, 12)
    patches = noise(rng, side, 5)
    tint = mix((0.26, 0.47, 0.20), (0.50, 0.66, 0.27), 0.5 + 0.22 * patches)
    return tint * (1 + 0.15 * blades)


def brick(rng, u, v) -> Rgb:
    tall, wide = rng.uniform(7, 9), rng.uniform(15, 19)
    row = np.floor(v / tall)
    along = (u + (row % 2) * wide / 2) / wide + rng.uniform()
    gap = np.minimum(np.minimum(along % 1, 1 - along % 1) * wide, np.minimum(v / tall % 1, 1 - v / tall % 1) * tall)
    shade = rng.uniform(-1, 1, (64, 64)).astype(np.float32)[row.astype(int) % 64, np.floor(along).astype(int) % 64]
    clay = mix((0.60, 0.31, 0.25), (0.78, 0.47, 0.36), 0.5 + 0.35 * shade + 0.1 * noise(rng, v.shape[0], 60))
    return mix((0.83, 0.78, 0.72), clay, step(gap, 0.3, 0.95))


def stone(rng, u, v) -> Rgb:
    """Cobbles: the cells of a jittered grid, and the joints where the two nearest stones are equally far."""
    cell = rng.uniform(10, 13)
    jitter = rng.uniform(0.12, 0.88, (16, 16, 2)).astype(np.float32)
    shades = rng.uniform(-1, 1, (16, 16)).astype(np.float32)
    x, y = u[:, ::2] / cell, v[::2] / cell  # at half resolution: nine neighbours cost, and joints are wide
    column, line = np.floor(x), np.floor(y)
    first = np.full((y.shape[0], x.shape[1]), np.inf, np.float32)
    second, shade = first.copy(), np.zeros_like(first)
    for dj in (-1, 0, 1):
        for di in (-1, 0, 1):
            j, i = (line + dj).astype(int) % 16, (column + di).astype(int) % 16
            away = np.hypot(x - (column + di) - jitter[j, i, 0], y - (line + dj) - jitter[j, i, 1])
            shade = np.where(away < first, shades[j, i], shade)
            second = np.minimum(second, np.maximum(first, away))
            first = np.minimum(first, away)
    top = mix((0.47, 0.48, 0.52), (0.70, 0.70, 0.71), 0.5 + 0.35 * shade + 0.12 * noise(rng, y.shape[0], 50))
    cobbles = mix((0.27, 0.27, 0.30), top * (1.1 - 0.3 * first), step(second - first, 0.03, 0.2))
    return cobbles.repeat(2, 1).repeat(2, 2)


SURFACES: dict[str, Callable[..., Rgb]] = dict(sky=sky, water=water, sand=sand, grass=grass, brick=brick, stone=stone)


# ---------------------------------------------------------------------------------------------- things: outlines


def ball(x: Map, y: Map) -> Map:
    return np.hypot(x, y) - 1


def crate(x: Map, y: Map) -> Map:
    return np.hypot(np.maximum(np.abs(x) - 0.68, 0), np.maximum(np.abs(y) - 0.68, 0)) - 0.1


def star(x: Map, y: Map) -> Map:
    """Five arms: fold the plane onto half an arm, then the distance from its one edge."""
    turn = np.pi / 5
    angle = np.abs((np.arctan2(x, -y) + turn) % (2 * turn) - turn)
    radius = np.hypot(x, y)
    tip, notch = np.array([1.05, 0.0]), 0.5 * np.array([np.cos(turn), np.sin(turn)])
    edge = (notch - tip) / np.linalg.norm(notch - tip)
    return (radius * np.cos(angle) - tip[0]) * edge[1] - radius * np.sin(angle) * edge[0] - 0.04


def leaf(x: Map, y: Map) -> Map:
    """Where two discs overlap, with a stem."""
    blade = np.hypot(np.abs(x) + 0.71, y + 0.12) - 1.18 + 0.012 * np.sin(22 * y)
    return np.minimum(blade, np.maximum(np.abs(x - 0.12 * (y - 0.8)) - 0.06, np.abs(y - 0.9) - 0.25))


def fish(x: Map, y: Map) -> Map:
    body = (np.hypot((x + 0.18) / 0.8, y / 0.47) - 1) * 0.55
    tail = np.maximum(np.abs(y) - 0.62 * (x - 0.28), x - 0.86 - 0.3 * np.abs(y))
    fin = np.maximum(np.hypot(x + 0.02, y + 0.3) - 0.36, y)
    return np.minimum(np.minimum(body, np.maximum(tail, 0.3 - x)), fin)


def mushroom(x: Map, y: Map) -> Map:
    cap = np.maximum((np.hypot(x / 1.0, (y - 0.05) / 0.95) - 1) * 0.9, y - 0.1 - 0.12 * x * x)
    stem = np.maximum(np.abs(x) - 0.27 - 0.12 * np.maximum(y - 0.3, 0), np.abs(y - 0.4) - 0.52)
    return np.minimum(cap, stem)


def twig(x: Map, y: Map) -> Map:
    """Belongs to no class: its pixels are void."""
    return np.maximum(np.abs(y - 0.35 * x * x + 0.1 * np.sin(5 * x)) - 0.07 + 0.03 * x, np.abs(x) - 1)


# ---------------------------------------------------------------------------------------------- things: paint


def darker(main: tuple | Rgb, share: float) -> tuple | Rgb:
    return tuple(share * c for c in main) if isinstance(main, tuple) else share * main


def paint_ball(x, y, main, accent) -> Rgb:
    bulge = x / np.sqrt(np.maximum(1 - y * y, 0.05))
    stripes = step(np.abs((bulge * 1.5 + 0.25) % 1 - 0.5), 0.22, 0.28)
    return mix(mix(accent, main, stripes), accent, step(-np.hypot(x, np.abs(y) - 1), -0.3, -0.24))


def paint_crate(x, y, main, accent) -> Rgb:
    gaps = step(-np.abs((y + 0.78) / 0.52 % 1 - 0.5), -0.49, -0.44)  # 0 in the joint between planks
    planks = mix(darker(main, 0.5), main, gaps)
    brace = step(-np.abs(x - y), -0.2, -0.15)
    frame = step(np.maximum(np.abs(x), np.abs(y)), 0.52, 0.57)
    return mix(planks, darker(main, 0.8), np.maximum(brace, frame))


def paint_star(x, y, main, accent) -> Rgb:
    radius, angle = np.hypot(x, y), np.arctan2(x, -y)
    dots = (np.abs((radius * 4.5 + 0.5) % 1 - 0.5) < 0.2) * (np.cos(5 * angle) > 0.93 - 0.3 * (1 - radius))
    return mix(mix(main, accent, 0.45 * step(-radius, -0.7, 0.0)), accent, 0.75 * dots.astype(np.float32))


def paint_leaf(x, y, main, accent) -> Rgb:
    veins = step(-np.abs(((y + 0.75 * np.abs(x)) * 3.6) % 1 - 0.5), -0.13, -0.05)
    rib = step(-np.abs(x), -0.07, -0.03)
    pale = mix(darker(main, 0.5), (1.0, 1.0, 1.0), np.full_like(x, 0.45))
    return mix(main, pale, np.maximum(0.45 * veins, 0.85 * rib))


def paint_fish(x, y, main, accent) -> Rgb:
    stripes = step(np.sin(9 * x + 3 * y * y), 0.1, 0.5) * step(x, -0.5, -0.4) * step(-x, -0.5, -0.4)
    skin = mix(mix(main, accent, 0.7 * step(y, 0.05, 0.4)), darker(main, 0.62), 0.6 * stripes)
    eye = np.hypot(x + 0.62, y + 0.1)
    return mix(mix(skin, CREAM, step(-eye, -0.15, -0.11)), DARK, step(-eye, -0.085, -0.055))


def paint_mushroom(x, y, main, accent) -> Rgb:
    dots = np.full_like(x + y, np.inf)
    for cx, cy, size in ((-0.45, -0.3, 0.17), (0.08, -0.52, 0.2), (0.52, -0.22, 0.16), (0.0, -0.08, 0.12)):
        dots = np.minimum(dots, np.hypot(x - cx, y - cy) - size)
    cap = mix(main, CREAM, step(-dots, -0.03, 0.03))
    under = step(y - 0.12 * x * x, 0.02, 0.1)
    gills = mix((0.90, 0.84, 0.72), (0.72, 0.64, 0.52), step(-y, -0.3, -0.1))
    return mix(cap, gills, under)


def paint_twig(x, y, main, accent) -> Rgb:
    return mix((0.30, 0.22, 0.17), (0.46, 0.36, 0.27), step(np.sin(14 * x + 9 * y), -0.5, 0.8))


# kind: outline, paint, its colours (shared on purpose: colour alone decides nothing), largest turn
OBJECTS: dict[str, tuple[Callable[..., Map], Callable[..., Rgb], tuple, float]] = {
    "ball": (ball, paint_ball, (VERMILLION, BLUE, YELLOW, PURPLE), np.pi),
    "crate": (crate, paint_crate, (WOOD, ORANGE, BLUE, GREEN), 0.5),
    "star": (star, paint_star, (YELLOW, ORANGE, VERMILLION, PURPLE), np.pi),
    "leaf": (leaf, paint_leaf, (GREEN, ORANGE, VERMILLION, YELLOW), np.pi),
    "fish": (fish, paint_fish, (BLUE, ORANGE, PURPLE, SKY_BLUE), 0.5),
    "mushroom": (mushroom, paint_mushroom, (VERMILLION, PURPLE, ORANGE, WOOD), 0.35),
    "twig": (twig, paint_twig, (DARK,), np.pi),
}


def shaded(paint: Rgb, d: Map, dx: Map, dy: Map) -> Rgb:
    """Light from the upper left: brighter towards it, darker away, a dark rim, a soft gleam."""
    light = 1.0 - 0.17 * (dx + dy) - 0.28 * step(d, -0.22, 0.02)
    gleam = 0.28 * np.exp(-((dx + 0.38) ** 2 + (dy + 0.42) ** 2) / 0.06)
    return np.clip(paint * light + gleam, 0, 1)
