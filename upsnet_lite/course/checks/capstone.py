"""Visible checks of exercise 8: equal runs, a fair table, an honest verdict. Nothing here trains but `trained_pq`.

A variant is a dict of fields of Config; results: name -> PQ of each seed, in the order of the seeds.
"""

import os
import random
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from upsnet_lite import load
from upsnet_lite.config import Config, preset
from upsnet_lite.course.feedback import Mistake, agree, right, same, tried
from upsnet_lite.course.variant import seed
from upsnet_lite.datasets.coco_panoptic import CocoPanoptic
from upsnet_lite.datasets.shapes import write_shapes
from upsnet_lite.engine.evaluate import evaluate
from upsnet_lite.engine.recipe import TrainOptions
from upsnet_lite.engine.train import train

SHARED = dict(min_size=64, max_size=64)  # scenes of 64 px: a quarter of the time


@dataclass(frozen=True)
class Verdict:
    """mean and spread of the differences in PQ, seed by seed; clear: the mean is larger than the spread."""

    mean: float
    spread: float
    clear: bool


# ----------------------------------------------------------------------------------------------------- the means


def rehearses(wanted: bool) -> bool:
    """Also where a class is graded or a test runs: there the steps count, the numbers stand in the report."""
    return wanted or bool({"UPSNET_COURSE_QUICK", "UPSNET_STUDENT"} & set(os.environ))


def workplace(rehearsal: bool) -> tuple[tempfile.TemporaryDirectory, int]:
    """A folder with scenes in data/, gone at the end of the session, and the budget of a run in iterations."""
    folder = tempfile.TemporaryDirectory(prefix="capstone-")
    pictures, iterations = ((8, 4), 1) if rehearses(rehearsal) else ((400, 40), 80)
    write_shapes(Path(folder.name) / "data", *pictures, size=64, seed=8)
    return folder, iterations


def my_seeds(student: str) -> list[int]:
    """Three seeds of one's own: nobody can choose those that suit him."""
    return random.Random(seed(student)).sample(range(1000), 3)


def trained_pq(options: TrainOptions) -> float:
    """Trains and evaluates on the 40 images of the split val."""
    model = load(train(options, "silent"))
    return evaluate(model, CocoPanoptic(options.data, "val")).as_dict()["PQ"]


# --------------------------------------------------------------------------------------------------- equal runs


def check_options(options: Callable, data: Path, budget: int) -> None:
    """options(variant, seed, out) -> TrainOptions that differ from run to run in these three alone."""
    shared, out = dict(SHARED), Path("some/folder")
    for variant, number in (({}, 5), (dict(unknown=False), 6), (dict(fpn_channels=32), 7)):
        given = dict(variant)
        found = options(variant, number, out)
        what = f"the options for the variant {variant} and the seed {number}"
        if given != variant or shared != SHARED:
            SHARED.clear()
            SHARED.update(shared)
            raise Mistake(
                "SHARED or the variant was changed: the next run would inherit it; write {**SHARED, **variant}"
            )
        _same_run(found, TrainOptions(data=data, out=out, iterations=budget, seed=number, accelerator="cpu",
                                      devices="1", overrides={**SHARED, **variant}), what)  # fmt: skip
    right("options: the same budget, data and sizes in every run; variant, seed and folder as asked")


def _same_run(found: TrainOptions, wanted: TrainOptions, what: str) -> None:
    if found.minutes is not None:
        raise Mistake(
            f"{what}: minutes are no fair budget, the machine may be busy in one of them; give iterations=BUDGET"
        )
    if found.seed != wanted.seed:
        raise Mistake(f"{what} have the seed {found.seed}: was the seed handed on? Otherwise all runs are the same run")
    if missing := {k: v for k, v in wanted.overrides.items() if found.overrides.get(k) != v}:
        whose = "variant" if missing.keys() - SHARED.keys() else "SHARED"
        raise Mistake(
            f"{what}: the overrides lack {missing}, which {whose} holds; both belong in: {{**SHARED, **variant}}"
        )
    if extra := found.overrides.keys() - wanted.overrides.keys():
        raise Mistake(
            f"{what}: the overrides hold {', '.join(sorted(extra))}, which nobody asked for; was a dict changed?"
        )
    for field in fields(TrainOptions):
        a, b = getattr(found, field.name), getattr(wanted, field.name)
        if a != b:
            raise Mistake(f"{what}: {field.name} is {a!r}, expected {b!r}: only variant, seed and out may differ")


# ------------------------------------------------------------------------------------------------- a fair table


def check_compare(compare: Callable) -> None:
    """compare(variants, seeds, run) -> {name: [PQ of each seed]}, tried with a run that only writes down its calls."""
    variants, seeds = {"A": {}, "B": dict(unknown=False)}, [31, 4, 15]
    table = {"A": [40.0, 44.0, 36.0], "B": [43.0, 41.0, 39.0]}
    calls: list[tuple[str, int]] = []

    def run(variant: Any, number: Any) -> float:
        if not isinstance(variant, Mapping):
            raise Mistake(f"run was called with {variant!r} first: it takes the variant, a dict, and then the seed")
        name = "B" if variant else "A"
        calls.append((name, number))
        return table[name][seeds.index(number)] if number in seeds else 50.0 + len(calls)

    found = compare({k: dict(v) for k, v in variants.items()}, list(seeds), run)
    _right_calls(calls, seeds)
    if set(found) != set(table):
        raise Mistake(f"the table has the rows {', '.join(map(str, found))}, expected one for each variant: A, B")
    for name, expected in table.items():
        what = f"the row of {name}"
        known = {
            f"{what}: it is sorted, and its numbers no longer belong to their seeds: keep the order": sorted(expected),
            f"{what}: only the best seed is kept: that is luck, not the variant; give every seed's PQ": [max(expected)],
            f"{what}: only the mean is kept: without the single numbers there is no spread": [mean(expected)],
        }
        agree(found[name], expected, what, "place", known)
    _failure_is_told(compare, variants, seeds)
    right("compare: every variant with every seed, once each, in the order of the seeds")


def _right_calls(calls: list[tuple[str, int]], seeds: list[int]) -> None:
    of = {name: [number for n, number in calls if n == name] for name in ("A", "B")}
    for name, numbers in of.items():
        if len(numbers) > len(set(numbers)) == len(seeds):
            raise Mistake(
                f"{name} was trained {len(numbers)} times for {len(seeds)} seeds: each run once, it takes time"
            )
        if len(numbers) < len(seeds):
            raise Mistake(f"{name} was trained with the seeds {numbers}, expected all of {seeds}")
    if sorted(of["A"]) != sorted(of["B"]):
        raise Mistake(
            f"A was trained with the seeds {of['A']}, B with {of['B']}: their difference would be variant and luck at "
            "once; give both the same seeds"
        )
    if sorted(of["A"]) != sorted(seeds):
        raise Mistake(f"the runs had the seeds {of['A']}, expected {seeds}")


def _failure_is_told(compare: Callable, variants: dict, seeds: list[int]) -> None:
    def run(variant: Mapping, number: int) -> float:
        if variant and number == seeds[1]:
            raise FloatingPointError("the loss became nan")
        return 40.0

    try:
        found = compare(variants, seeds, run)
    except FloatingPointError:
        return
    raise Mistake(f"a run that failed is hidden: B became {found.get('B')}; let the error through, do not catch it")


# -------------------------------------------------------------------------------------------- an honest verdict


def _verdict(first: Sequence[float], second: Sequence[float]) -> Verdict:
    gains = [b - a for a, b in zip(first, second, strict=True)]
    spread = max(gains) - min(gains)
    return Verdict(mean(gains), spread, len(gains) >= 3 and abs(mean(gains)) > spread)


def check_verdict(verdict: Callable) -> None:
    """verdict(first, second) -> Verdict: better, worse, a tie, two seeds, seeds that do not pair up."""
    for first, second, what in (
        ([40.0, 44.0, 36.0], [43.0, 47.0, 40.0], "A 40, 44, 36 against B 43, 47, 40"),
        ([43.0, 47.0, 40.0], [40.0, 44.0, 36.0], "A 43, 47, 40 against B 40, 44, 36"),
        ([40.0, 44.0, 36.0], [50.0, 41.0, 39.0], "A 40, 44, 36 against B 50, 41, 39"),
        ([30.0, 31.0, 32.0], [33.0, 31.0, 35.0], "A 30, 31, 32 against B 33, 31, 35"),
        ([30.0, 30.0, 30.0, 30.0], [31.0, 32.0, 32.0, 33.0], "A four times 30 against B 31, 32, 32, 33"),
        ([40.0, 40.0], [50.0, 51.0], "two seeds, A 40, 40 against B 50, 51"),
    ):
        found, expected = tried(verdict, first, second, on=what), _verdict(first, second)
        gains = [b - a for a, b in zip(first, second, strict=True)]
        if (
            same(found.mean, expected.spread)
            and same(found.spread, expected.mean)
            and not same(found.mean, found.spread)
        ):
            raise Mistake(f"{what}: mean and spread are exchanged: Verdict(mean, spread, clear)")
        agree(found.mean, expected.mean, f"{what}: the mean", known=_wrong_means(first, second, what))
        agree(found.spread, expected.spread, f"{what}: the spread", known=_wrong_spreads(first, second, gains, what))
        if found.clear != expected.clear:
            _wrong_clear(found, len(first), what)
    try:
        found = verdict([40.0, 44.0, 36.0], [43.0, 46.0])
    except ValueError:
        right("verdict: better, worse, not to be told apart, too few seeds; unpaired seeds are refused")
        return
    raise Mistake(
        f"three seeds against two gave {found}: what has no partner was dropped; zip(..., strict=True) refuses"
    )


def _wrong_means(first: Sequence[float], second: Sequence[float], what: str) -> dict[str, float]:
    return {
        f"{what}: the sign is turned: the mean is second minus first, above 0 where the second is better": mean(first)
        - mean(second),
        f"{what}: this compares the best runs: the best seed is luck; take the mean over all": max(second) - max(first),
        f"{what}: this is the mean of the second alone": mean(second),
    }


def _wrong_spreads(first: Sequence[float], second: Sequence[float], gains: list[float], what: str) -> dict[str, float]:
    every = [*first, *second]
    return {
        f"{what}: this is the spread of all PQs: a hard seed is hard for both; take that of the differences": max(every)
        - min(every),
        f"{what}: this is the larger spread of the two rows: take that of the differences, seed by seed": max(
            max(row) - min(row) for row in (first, second)
        ),
        f"{what}: this is the standard deviation: the spread asked for is the largest minus the smallest": stdev(gains),
    }


def _wrong_clear(found: Verdict, seeds: int, what: str) -> None:
    if seeds < 3:
        raise Mistake(f"{what}: called clear with {seeds} seeds: fewer than three are never enough")
    if found.clear and same(abs(found.mean), found.spread):
        raise Mistake(f"{what}: the mean equals the spread and was called clear: it must be larger (> and not >=)")
    if found.clear:
        raise Mistake(
            f"{what}: mean {found.mean:+g} and spread {found.spread:g} were called clear: the spread is larger"
        )
    sign = "; a clear loss is clear, too: use abs(mean)" if found.mean < 0 else ""
    raise Mistake(f"{what}: mean {found.mean:+g} and spread {found.spread:g} were not called clear{sign}")


# -------------------------------------------------------------------------------------------- question and runs


def check_question(question: Callable) -> None:
    """question() -> {name: variant} of two networks that can be built and differ in one field."""
    variants = question()
    if len(variants) != 2:
        raise Mistake(f"the question has {len(variants)} variant(s) ({', '.join(variants)}), expected two")
    configs = {name: _config(name, variant) for name, variant in variants.items()}
    a, b = configs.values()
    differ = [field.name for field in fields(Config) if getattr(a, field.name) != getattr(b, field.name)]
    if not differ:
        raise Mistake(f"the variants {' and '.join(variants)} are one and the same network: change one field of Config")
    if len(differ) > 1:
        raise Mistake(
            f"the variants differ in {' and '.join(differ)}: if PQ differs, which was it? Change one thing only"
        )
    right(f"question: {' against '.join(variants)}, they differ in {differ[0]} alone")


def _config(name: str, variant: Mapping[str, Any]) -> Config:
    if touched := SHARED.keys() & variant.keys():
        raise Mistake(f"the variant {name!r} changes {', '.join(touched)}, which SHARED holds equal for both")
    try:
        return preset("tiny", 6, 6, **SHARED, **variant)
    except (TypeError, ValueError) as error:
        raise Mistake(f"the variant {name!r} is no network: {error}") from None


def check_results(
    results: Any, variants: Mapping[str, dict], seeds: Sequence[int], student: str, rehearsal: bool
) -> None:
    """What the cell of the runs left: the two variants of the question, the student's own seeds."""
    if list(seeds) != my_seeds(student):
        raise Mistake(f"the seeds were changed to {list(seeds)}: those of {student} are {my_seeds(student)}")
    if not isinstance(results, Mapping):
        raise Mistake("there are no results yet: run the cell of the runs, above")
    if set(results) != set(variants):
        raise Mistake(f"the results are those of {', '.join(results)}, the question asks for {', '.join(variants)}")
    for name, row in results.items():
        if len(row) != len(seeds) or not all(0 <= pq <= 100 for pq in row):
            raise Mistake(f"the row of {name} is {row}: expected one PQ in per cent for each of {len(seeds)} seeds")
    right(f"results{' of the rehearsal' * rehearsal}: {len(results)} variants with the seeds of {student}")
