"""Planted wrong solutions: WRONG in the module of each exercise, at least three."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Wrong:
    """`code` in place of the solution cell `solution` makes the graded cell `loses` give 0 and say `says` (a regex)."""

    name: str
    solution: str
    loses: str
    says: str
    code: str
