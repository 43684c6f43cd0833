"""Mistakes of exercise 8: unfair runs, tables that hide, verdicts that flatter."""

from . import variants

OPTIONS = """
@shaped
def options(variant: dict, seed: int, out: Path) -> TrainOptions:
    found = {**SHARED, **variant}
    return TrainOptions(DATA, out, iterations=BUDGET, seed=seed, accelerator="cpu", devices="1", overrides=found)
"""

COMPARE = """
@shaped
def compare(
    variants: dict[str, dict], seeds: list[int], run: Callable[[dict, int], float]
) -> dict[str, list[float]]:
    table = {}
    for name, variant in variants.items():
        table[name] = [run(variant, s) for s in seeds]
    return table
"""

VERDICT = """
@shaped
def verdict(first: list[float], second: list[float]) -> Verdict:
    gains = [b - a for a, b in zip(first, second, strict=True)]
    mean, spread = sum(gains) / len(gains), max(gains) - min(gains)
    return Verdict(mean, spread, len(gains) > 2 and abs(mean) > spread)
"""

QUESTION = """
def question() -> dict[str, dict]:
    return {"tiny": {}, "B": dict(unknown=False)}
"""


options = variants("options", OPTIONS)
compare = variants("compare", COMPARE)
verdict = variants("verdict", VERDICT)
question = variants("question", QUESTION)
WRONG = [
    options("the seed forgotten", "was the seed handed on", ("seed=seed, ", "")),
    options("a budget of minutes", "no fair budget", ("iterations=BUDGET", "minutes=0.01")),
    options(
        "SHARED changed",
        "SHARED or the variant was changed",
        ("{**SHARED, **variant}", "SHARED"),
        ("    return", "    found.update(variant)\n    return"),
    ),
    options("the variant forgotten", "which variant holds", ("{**SHARED, **variant}", "dict(SHARED)")),
    compare("seeds drawn anew", "variant and luck at once", ("run(variant, s)", "run(variant, s + 100 * len(table))")),
    compare(
        "the best seed",
        "only the best seed is kept",
        ("= [run(variant, s) for s in seeds]", "= [max([run(variant, s) for s in seeds])]"),
    ),
    compare(
        "sorted", "it is sorted", ("= [run(variant, s) for s in seeds]", "= sorted(run(variant, s) for s in seeds)")
    ),
    compare("seed and variant exchanged", "takes the variant", ("run(variant, s)", "run(s, variant)")),
    verdict("mean and spread exchanged", "are exchanged", ("Verdict(mean, spread,", "Verdict(spread, mean,")),
    verdict("the sign", "sign is turned", ("b - a", "a - b")),
    verdict(
        "the best against the best", "compares the best runs", ("sum(gains) / len(gains)", "max(second) - max(first)")
    ),
    verdict(
        "the spread of the rows",
        "larger spread of the two rows",
        ("max(gains) - min(gains)", "max(max(first) - min(first), max(second) - min(second))"),
    ),
    verdict("a clear loss", "use abs", ("abs(mean)", "mean")),
    verdict("two seeds are enough", "fewer than three", ("len(gains) > 2 and ", "")),
    verdict("unpaired", "has no partner", (", strict=True", "")),
    question("two things at once", "Change one thing only", ("unknown=False", "unknown=False, keep_share=1.0")),
    question("no field of Config", "is no network", ("unknown=False", "unknwon=False")),
]
