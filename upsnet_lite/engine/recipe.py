"""How to train: the options of one run, the presets' recipes, the rate at each moment."""

import ast
import json
import math
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Literal

from ..files import UserError


@dataclass(frozen=True)
class Recipe:
    """What goes with a preset. `images` per iteration over all devices."""

    images: int = 16
    optimizer: Literal["sgd", "adamw"] = "sgd"
    lr: float = 0.02  # at `images` images; scaled linearly when the batch differs (the release does the same)
    weight_decay: float = 1e-4
    momentum: float = 0.9
    schedule: Literal["step", "cosine"] = "step"
    warmup: float = 1500 / 90_000  # share of the run in which the rate rises from a third
    drops: tuple[float, ...] = (60 / 90, 80 / 90)  # "step": shares of the run after which the rate is a tenth
    clip: float = 35.0  # norm of the gradient
    iterations: int = 90_000  # where neither minutes nor epochs are asked for


RECIPES = {
    "tiny": Recipe(
        images=4,
        optimizer="adamw",
        lr=2e-3,
        weight_decay=0.02,
        schedule="cosine",
        warmup=0.03,
        clip=10.0,
        iterations=10_000,
    ),
    "resnet50": Recipe(),
    "resnet101_dcn": Recipe(),
}


@dataclass(frozen=True)
class TrainOptions:
    """One run of `upsnet-lite train`. What is None comes from the preset's recipe."""

    data: Path
    out: Path
    preset: str = "tiny"
    split: str = "train"
    resume: Path | None = None
    init: str | None = None  # weights to start from: a checkpoint, "torchvision" or "imagenet" (`weights.initial`)
    minutes: float | None = None
    epochs: float | None = None
    iterations: int | None = None
    images: int | None = None
    lr: float | None = None
    seed: int = 0
    workers: int = 0  # 0 on two cores: a second process would take the time it saves
    devices: str = "auto"
    accelerator: str = "auto"
    precision: str = "32-true"
    strategy: Literal["auto", "ddp"] = "auto"  # with others a process holds only a part of what a checkpoint needs
    num_nodes: int = 1
    accumulate: int = 1  # parts of a batch that a process takes one after the other: less memory, a little slower
    checkpoint_activations: bool = False  # keep less for the gradients, compute it twice: less memory, a third slower
    augment: bool = True
    limit: int | None = None  # use only the first images: overfitting as a sanity check
    save_every: int = 500  # iterations between checkpoints
    overrides: dict = field(default_factory=dict)  # fields of Config

    def __post_init__(self) -> None:
        """UserError where an option is out of range or contradicts another."""
        for name in (*LENGTHS, "images", "lr", "limit", "save_every", "accumulate", "num_nodes"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise UserError(f"{flag(name)} must be more than 0, got {value}")
        given = [flag(name) for name in LENGTHS if getattr(self, name) is not None]
        if len(given) > 1:
            raise UserError(f"{given[0]} and {given[1]} both say how long to train; give one of them")
        if self.init and (self.resume or self.overrides):
            other = "--resume" if self.resume else "overrides"
            raise UserError(f"--init and {other} both say which network to train; give one of them")

    def recipe(self) -> Recipe:
        """The preset's recipe with this run's batch and rate; UserError for an unknown preset."""
        if self.preset not in RECIPES:
            raise UserError(f"unknown preset {self.preset!r}; choose one of {', '.join(RECIPES)}")
        found = RECIPES[self.preset]
        images = found.images if self.images is None else self.images
        return replace(found, images=images, lr=found.lr * images / found.images if self.lr is None else self.lr)


LENGTHS = ("minutes", "epochs", "iterations")
COURSE = ("preset", "split", "seed", "images", "augment", "limit", "overrides")  # a resumed run must not change these


def flag(name: str) -> str:
    """An option as the command line calls it."""
    return "--" + {"images": "batch-size"}.get(name, name.replace("_", "-"))


def resumed(options: TrainOptions, stored: dict) -> TrainOptions:
    """`options`, with what they leave open taken from the run that is resumed (its options as in its checkpoint).

    A new rate or length is welcome; UserError where a change would make it another run.
    """
    length = () if any(getattr(options, name) is not None for name in LENGTHS) else LENGTHS
    left_open = [name for name in ("images", "lr", "limit", *length) if getattr(options, name) is None]
    options = replace(options, **{name: stored[name] for name in left_open})
    now = json.loads(json.dumps(asdict(options), default=str))
    for name in COURSE:
        if stored[name] != now[name]:
            before = f"was started with {flag(name)} {stored[name]}, not {now[name]}"
            raise UserError(f"the run in {options.resume} {before}; resume it with the same, or start a new one")
    return options


def total_iterations(options: TrainOptions, recipe: Recipe, num_images: int) -> int | None:
    """Length of the run; None where the clock decides."""
    if options.minutes is not None:
        return None
    if options.epochs is not None:
        return max(1, round(options.epochs * num_images / recipe.images))
    return options.iterations or recipe.iterations


def rate_factor(recipe: Recipe, progress: float) -> float:
    """Factor on the learning rate after a share `progress` (0 … 1) of the run."""
    if progress < recipe.warmup:
        return 1 / 3 + 2 / 3 * progress / recipe.warmup
    if recipe.schedule == "cosine":
        after = (progress - recipe.warmup) / (1 - recipe.warmup)
        return 0.5 * (1 + math.cos(math.pi * min(1.0, after)))
    return 0.1 ** sum(progress >= drop for drop in recipe.drops)


def parse_settings(settings: list[str]) -> dict:
    """["min_size=256", "norm=group", "widths=8,16,32,64"] -> fields of Config; UserError where there is no value."""
    found = {}
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not (name and equals and value):
            raise UserError(f"--set {setting}: write NAME=VALUE, such as --set min_size=256")
        try:
            found[name] = float(value) if value.endswith("inf") else ast.literal_eval(value)
        except (ValueError, SyntaxError):
            found[name] = value  # a word, such as group
    return found
