"""One shapes scene: surfaces behind, objects before them, and the segment of every pixel.

    ground -> objects, nearest first; one that stays visible enough is kept -> painted farthest first -> averaged 2 x 2

A pixel belongs to what covers at least half of it. Shapes   image (S, S, 3) uint8    ids (S, S) int64, 0 is void
"""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Int, UInt8

from .shapes_draw import CREAM, OBJECTS, SURFACES, UNITS, noise, shaded, step

MIN_THING, MIN_STUFF = 40.0, 90.0  # visible area in units²; a thing below is left out, a surface below becomes void
VISIBLE = 0.22  # share of a thing that must stay visible
THINGS = tuple(kind for kind in OBJECTS if kind != "twig")


@dataclass(frozen=True)
class Object:
    """One object: where, how large, how turned, how coloured. Lengths in units (the image is 128 wide)."""

    kind: str
    u: float
    v: float
    radius: float
    turn: float
    mirrored: bool
    main: tuple[float, float, float]
    accent: tuple[float, float, float] = CREAM
    surface: str = ""  # painted with the texture of this surface instead of `main`
    crowd: bool = False


@dataclass(frozen=True)
class Scene:
    """`segments`: (kind, iscrowd) of segment 1, 2, ... in `ids`."""

    image: UInt8[np.ndarray, "S S 3"]
    ids: Int[np.ndarray, "S S"]
    segments: tuple[tuple[str, bool], ...]


# ---------------------------------------------------------------------------------------------- what is in it


def some_object(rng: np.random.Generator, small: bool = False, kind: str = "") -> Object:
    kind = kind or str(rng.choice(THINGS))
    _, _, colors, turn = OBJECTS[kind]
    radius = rng.uniform(5.0, 8.0) if small else float(np.clip(rng.lognormal(2.65, 0.35), 7, 32))
    u, v = rng.uniform(-3, UNITS + 3), UNITS * rng.beta(1.5, 1.2)  # some are cut by the border; more below than above
    main = colors[rng.integers(len(colors))]
    disguise = str(rng.choice(list(SURFACES))) if rng.uniform() < 0.12 else ""
    mirrored = bool(rng.integers(2))
    return Object(kind, u, v, radius, rng.uniform(-turn, turn), mirrored, main, surface=disguise)


def twin(rng: np.random.Generator, one: Object) -> Object:
    """Another of the same class, overlapping it; half of them look the same."""
    angle, away = rng.uniform(0, 2 * np.pi), one.radius * rng.uniform(0.7, 1.3)
    place = dict(u=one.u + away * np.cos(angle), v=one.v + away * np.sin(angle), turn=one.turn + rng.uniform(-0.4, 0.4))
    if rng.integers(2):
        return replace(one, **place)
    return replace(some_object(rng, kind=one.kind), radius=one.radius * rng.uniform(0.8, 1.2), **place)


def crowd(rng: np.random.Generator) -> list[Object]:
    """Many tiny ones of one class: nobody would want to label them one by one."""
    kind = str(rng.choice(THINGS))
    cu, cv = rng.uniform(30, UNITS - 30), rng.uniform(40, UNITS - 25)
    wide, tall = rng.uniform(10, 18), rng.uniform(5, 9)
    found = [some_object(rng, small=True, kind=kind) for _ in range(rng.integers(28, 46))]
    places = [dict(u=cu + wide * rng.normal(), v=cv + tall * rng.normal(), radius=rng.uniform(3, 4.2)) for _ in found]
    return [replace(o, **place, surface="", crowd=True) for o, place in zip(found, places, strict=True)]


def objects(rng: np.random.Generator, index: int) -> tuple[list[Object], int]:
    """Candidates, nearest first, and how many of them to keep. Every 50th image has no thing, every 50th has 30."""
    special = index % 50
    if special == 5:
        return [], 0
    if special == 30:
        return [some_object(rng, small=True) for _ in range(150)], 30
    count = int(rng.integers(3, 9))
    found = [some_object(rng, small=rng.uniform() < 0.25) for _ in range(count)]
    if rng.uniform() < 0.4:
        found[-1] = twin(rng, found[0])
    found.sort(key=lambda o: -(o.v + o.radius))  # what stands lower is nearer
    if special in (12, 38):
        found = found[:4] + crowd(rng)
    return found, len(found)


# ---------------------------------------------------------------------------------------------- the ground


def ground(rng: np.random.Generator, u, v) -> tuple[Float[np.ndarray, "3 H W"], Int[np.ndarray, "H W"], list[str]]:
    """Two to four surfaces in smooth regions, each casting a soft shadow on what lies behind it."""
    side = v.shape[0]
    top = "sky" if rng.uniform() < 0.65 else str(rng.choice(["brick", "stone", "grass", "sand"]))
    rest = [str(s) for s in rng.permutation([s for s in SURFACES if s not in (top, "sky")])]
    names = [top]
    image = SURFACES[top](rng, u, v)
    label = np.zeros((side, side), int)

    def lay(surface: str, d) -> None:  # d < 0 where the new surface lies
        nonlocal image
        names.append(surface)
        shadow = 1 - 0.3 * np.exp(-np.maximum(d, 0) / 3.0)
        cover = np.clip(0.5 - d * side / UNITS, 0, 1)
        rim = 1 + 0.12 * np.exp(-np.maximum(-d, 0) / 0.9)
        image = image * (shadow * (1 - cover)) + SURFACES[surface](rng, u, v) * (rim * cover)
        label[d < 0] = len(names) - 1

    if rng.uniform() < 0.25:  # a wall at one side
        edge = rng.uniform(20, 50)
        wall = rest.pop(rest.index(str(rng.choice([s for s in rest if s in ("brick", "stone")]))))
        across = u - edge if rng.integers(2) else (UNITS - u) - edge
        lay(wall, np.maximum(across, rng.uniform(8, 40) - v) + np.zeros_like(label, np.float32))
    heights = np.sort(rng.uniform(38, 112, rng.integers(1, 3)))
    for height in heights[np.diff(heights, prepend=0) > 18]:
        wave = noise(rng, side, 5, 3)[side // 2] * rng.uniform(1, 5) + rng.uniform(-0.12, 0.12) * (u - 64)
        lay(rest.pop(), float(height) + wave - v)
    if rng.uniform() < 0.35:  # a pond, a lawn, a paved place
        wide, tall = rng.uniform(16, 34), rng.uniform(9, 18)
        cu, cv = rng.uniform(20, 108), rng.uniform(70, 112)
        away = np.hypot((u - cu) / wide, (v - cv) / tall)
        if names[label[int(cv / UNITS * side), int(cu / UNITS * side)]] != "sky":  # nothing lies on the sky
            lay(rest.pop(), (away - 1 + 0.12 * noise(rng, side, 4)) * tall)
    return image, label, names


# ---------------------------------------------------------------------------------------------- drawing


def halved(canvas: Float[np.ndarray, "... H W"]) -> Float[np.ndarray, "... h w"]:
    """The means of its 2 x 2 blocks."""
    rows = canvas[..., ::2, :] + canvas[..., 1::2, :]
    return (rows[..., ::2] + rows[..., 1::2]) / 4


@dataclass(frozen=True)
class Stamp:
    """An object on its part of the canvas (`rows`, `columns`; even edges, so that 2 x 2 blocks stay whole)."""

    rows: slice
    columns: slice
    x: Float[np.ndarray, "h w"]
    y: Float[np.ndarray, "h w"]
    d: Float[np.ndarray, "h w"]

    @property
    def covered(self) -> np.ndarray:
        """(h/2, w/2) bool: the image's pixels of which at least half lie inside."""
        return halved((self.d < 0).astype(np.float32)) >= 0.5

    @property
    def pixels(self) -> tuple[slice, slice]:
        return tuple(slice(s.start // 2, s.stop // 2) for s in (self.rows, self.columns))


def stamp(one: Object, side: int) -> Stamp | None:
    """None where the object lies outside the canvas."""
    scale, reach = side / UNITS, 1.45 * one.radius
    spans = []
    for centre in (one.v, one.u):
        low, high = (int(np.clip((centre + s * reach) * scale / 2, 0, side // 2)) * 2 for s in (-1, 1))
        spans.append(slice(low, high))
    rows, columns = spans
    if rows.start >= rows.stop or columns.start >= columns.stop:
        return None
    dy = ((np.arange(rows.start, rows.stop, dtype=np.float32) + 0.5) / scale - one.v)[:, None] / one.radius
    dx = ((np.arange(columns.start, columns.stop, dtype=np.float32) + 0.5) / scale - one.u)[None] / one.radius
    cos, sin = np.float32(np.cos(one.turn)), np.float32(np.sin(one.turn))
    x, y = cos * dx + sin * dy, cos * dy - sin * dx
    x = -x if one.mirrored else x
    return Stamp(rows, columns, x, y, OBJECTS[one.kind][0](x, y).astype(np.float32))


def keep_visible(candidates: list[Object], most: int, side: int) -> list[tuple[Object, Stamp]]:
    """Nearest first: an object is kept where enough of it is seen behind those kept before it."""
    taken = np.zeros((side // 2, side // 2), bool)
    unit = (side / 2 / UNITS) ** 2
    kept = []
    for one in candidates:
        mark = stamp(one, side)
        if mark is None or len(kept) == most:
            continue
        covered = mark.covered
        seen = int((covered & ~taken[mark.pixels]).sum())
        if one.crowd or seen >= max(MIN_THING * unit, VISIBLE * covered.sum()):
            taken[mark.pixels] |= covered
            kept.append((one, mark))
    return kept


def paint(image: np.ndarray, one: Object, mark: Stamp, texture) -> None:
    """The object's shadow, then the object, onto the canvas in place."""
    side = image.shape[1]
    part = image[:, mark.rows, mark.columns]
    away = max(1, round(0.13 * one.radius * side / UNITS))
    shadow = 0.4 * step(-np.roll(mark.d, (away, away), (0, 1)), -0.22, 0.1)
    shadow[:away], shadow[:, :away] = 0, 0  # what rolled in from the far edge
    part *= 1 - shadow
    main = texture(one.surface)[:, mark.rows, mark.columns] if one.surface else one.main
    color = OBJECTS[one.kind][1](mark.x, mark.y, main, one.accent)
    turned = -mark.x if one.mirrored else mark.x
    cos, sin = np.cos(one.turn), np.sin(one.turn)
    dx, dy = cos * turned - sin * mark.y, sin * turned + cos * mark.y  # upright again: light does not turn along
    cover = np.clip(0.5 - mark.d * one.radius * side / UNITS, 0, 1)
    part += (shaded(color, mark.d, dx, dy) - part) * cover


def draw(rng: np.random.Generator, size: int, index: int) -> Scene:
    """Scene number `index`; the same generator state gives the same scene."""
    side = 2 * size
    u = ((np.arange(side, dtype=np.float32) + 0.5) * (UNITS / side))[None]
    v = u.T
    image, label, names = ground(rng, u, v)
    candidates, most = objects(rng, index)
    if rng.uniform() < 0.1:
        candidates.insert(0, replace(some_object(rng, kind="twig"), radius=rng.uniform(9, 18), surface=""))
        most += 1
    kept = keep_visible(candidates, most, side)

    textures: dict[str, np.ndarray] = {}

    def texture(surface: str) -> np.ndarray:
        if surface not in textures:
            textures[surface] = SURFACES[surface](rng, u, v)
        return textures[surface]

    segments = [(name, False) for name in names]
    ids = label[::2, ::2] + 1
    for one, mark in reversed(kept):
        paint(image, one, mark, texture)
        if one.kind == "twig":
            segment = 0
        elif one.crowd and (one.kind, True) in segments:
            segment = segments.index((one.kind, True)) + 1
        else:
            segments.append((one.kind, one.crowd))
            segment = len(segments)
        ids[mark.pixels][mark.covered] = segment
    areas = np.bincount(ids.ravel(), minlength=len(segments) + 1)
    tiny = [s for s in range(1, len(names) + 1) if areas[s] < MIN_STUFF * (size / UNITS) ** 2]
    ids[np.isin(ids, tiny)] = 0

    pixels = halved(image).transpose(1, 2, 0)
    tone = 1 + 0.035 * rng.standard_normal(3).astype(np.float32)  # the hour of the day
    corners = 1 - 0.14 * step(np.hypot(u - 64, v - 64)[::2, ::2], 50.0, 100.0)[..., None]
    pixels = np.clip(pixels * tone * corners, 0, 1) * 255 + 0.5
    return Scene(pixels.astype(np.uint8), ids.astype(np.int64), tuple(segments))
