"""The losses of a run as a CSV file, and for TensorBoard where it is installed."""

import csv
import io
import os
from pathlib import Path

from ..files import write_aside

COLUMNS = ("iteration", "seconds", "lr", "waiting", "total")  # then the losses; waiting: share of time spent on data


class Log:
    """Appends a row per iteration; a resumed run first drops the rows after its checkpoint."""

    def __init__(self, out: Path, losses: list[str], start: int, tensorboard: bool = True) -> None:
        self.path, self.columns, self.made = out / "metrics.csv", [*COLUMNS, *losses], not out.exists()
        if start and self.path.is_file():
            with self.path.open(newline="") as file:
                whole = [row for row in csv.reader(file) if len(row) == len(self.columns)]  # a kill can cut the last
                rows = [row for row in whole if row[0].isdigit() and int(row[0]) <= start]
        else:
            rows = []
        text = io.StringIO()
        csv.writer(text).writerows([self.columns, *rows])
        with write_aside(self.path) as aside:
            aside.write_text(text.getvalue())
        self.file = self.path.open("a", newline="")
        self.writer = csv.writer(self.file)
        self.board = self.tensorboard(out, start) if tensorboard else None

    @staticmethod
    def tensorboard(out: Path, start: int):
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            return None
        return SummaryWriter(out / "tensorboard", purge_step=start + 1)

    def write(self, iteration: int, seconds: float, lr: float, waiting: float, losses: dict[str, float]) -> None:
        numbers = [f"{value:.5f}" for value in (sum(losses.values()), *losses.values())]
        self.writer.writerow([iteration, f"{seconds:.2f}", f"{lr:.3e}", f"{waiting:.3f}", *numbers])
        if self.board and iteration % 10 == 0:
            for name, value in losses.items():
                self.board.add_scalar(f"loss/{name}", value, iteration)
            self.board.add_scalar("lr", lr, iteration)

    def flush(self) -> None:
        self.file.flush()

    def __enter__(self) -> "Log":
        return self

    def __exit__(self, error: type | None, *_) -> None:
        self.file.close()
        if self.board:
            self.board.close()
        if error and not self.path.with_name("checkpoint.pt").exists():  # there is nothing to go on from
            self.path.unlink()
            if self.made and not any(self.path.parent.iterdir()):
                self.path.parent.rmdir()
