"""Lesson 07: the curves of several runs side by side, from the metrics.csv that each of them left."""

from collections.abc import Sequence
from pathlib import Path

from upsnet_lite.files import UserError
from upsnet_lite.viz.charts import plot_losses, read_csv
from upsnet_lite.viz.play import Answer, Play, play, several, slider

LOG = "metrics.csv"
STEP = "iteration"


def find_runs(root: str | Path) -> dict[str, Path]:
    """Name -> metrics.csv of every run below a folder that has done an iteration. UserError where there is none."""
    root = Path(root)
    logs = [path for path in sorted(root.rglob(LOG)) if begun(path)]
    if not logs:
        raise UserError(
            f"no run below {root} (no {LOG} with a row); train one: upsnet-lite train ... --out {root}/mine"
        )
    return {path.parent.relative_to(root).as_posix(): path for path in logs}


def begun(path: Path) -> bool:
    try:
        return STEP in read_csv(path)
    except UserError:
        return False


def columns(logs: Sequence[Path]) -> list[str]:
    """What every one of the runs has measured, in the order of the first."""
    tables = [read_csv(path) for path in logs]
    return [k for k in tables[0] if k not in (STEP, "seconds") and all(k in table for table in tables)]


def words(runs: dict[str, Path], keys: Sequence[str], last: int = 20) -> str:
    """Each curve's mean over its last rows."""
    lines = []
    for name, path in runs.items():
        table = read_csv(path)
        ends = ", ".join(f"{k.removeprefix('loss_')} {table[k][-last:].mean():.3g}" for k in keys)
        lines.append(f"{name}, {len(table[keys[0]])} rows: {ends}")
    return f"Mean of the last {last} rows:\n" + "\n".join(lines)


def play_runs(root: str | Path, runs: Sequence[str] = (), keys: Sequence[str] = ()) -> Play:
    """Choose runs and columns. runs, keys: chosen at first; by default three of each, losses."""
    found = find_runs(root)
    known = columns(list(found.values()))
    losses = [k for k in known if k == "total" or k.startswith("loss_")]

    def draw(runs: Sequence[str], keys: Sequence[str], smooth: int) -> Answer:
        if not runs or not keys:
            raise UserError("choose at least one run and one column")
        chosen = {name: found[name] for name in runs}
        return Answer([plot_losses(chosen, list(keys), smooth=smooth, title="runs")], words(chosen, keys))

    return play(
        draw,
        runs=several("runs", list(found), runs or list(found)[:3]),
        keys=several("columns", known, keys or (losses or known)[:3]),
        smooth=slider("smooth, rows", 1, 61, 9, 2),
    )
