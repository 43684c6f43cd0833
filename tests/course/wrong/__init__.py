"""Planted wrong solutions: WRONG in the module of each exercise, at least three."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Wrong:
    """`code` in place of the solution cell `solution` makes the graded cell `loses` give 0 and say `says` (a regex)."""

    name: str
    solution: str
    loses: str
    says: str
    code: str


def changed(code: str, changes: Iterable[tuple[str, str]]) -> str:
    """The right solution, with (old, new) replaced."""
    for old, new in changes:
        assert old in code, old
        code = code.replace(old, new)
    return code


def variants(part: str, right: str, prefix: str = "") -> Callable[..., Wrong]:
    """variants(part, right)(name, says, (old, new), ...) is the right solution of the part with a mistake in it."""

    def wrong(name: str, says: str, *changes: tuple[str, str]) -> Wrong:
        return Wrong(prefix + name, part, f"test_{part}", says, changed(right, changes))

    return wrong
