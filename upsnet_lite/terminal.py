"""What every command shares: one line for what went wrong, an example in each --help, bars and tables.

Exit codes: 0 done, 1 the user's input or machine was at fault (one line on stderr), 2 wrong options, 130 interrupted.
"""

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from .files import UserError

Out = Annotated[Path, typer.Option(help="Folder to write to.")]


class Commands(typer.core.TyperGroup):
    """What a user can meet becomes one line and an exit code; anything else is our mistake and keeps its traceback."""

    def invoke(self, ctx):
        try:
            return super().invoke(ctx)
        except UserError as error:
            fail(str(error))
        except BrokenPipeError:  # the reader of our output went away: `upsnet-lite ... | head`
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(1) from None
        except OSError as error:  # disk full, no permission
            fail(f"{error.filename or 'a file'}: {error.strerror or error}")
        except KeyboardInterrupt:
            fail("interrupted", 130)


def fail(line: str, code: int = 1) -> None:
    print(f"upsnet-lite: {' '.join(line.split())}", file=sys.stderr)
    raise typer.Exit(code) from None


def command(group: typer.Typer, name: str, example: str) -> Callable:
    """Registers a command whose --help ends with an example."""
    return group.command(name, epilog=f"Example:  upsnet-lite {example}", no_args_is_help=False)


@contextmanager
def progress_bar(title: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on stderr, where that is a terminal; yields progress(done, total)."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn(title), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(title, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def bar(share: float, most: int = 24) -> Any:
    """A bar for a table, `most` characters wide or what room there is; only a whole share fills it."""
    from rich.measure import Measurement
    from rich.text import Text

    class Bar:
        def __rich_measure__(self, console, options) -> Measurement:
            return Measurement(1, most)

        def __rich_console__(self, console, options) -> Iterator[Text]:
            full = int(options.max_width * max(0.0, min(1.0, share)))
            yield Text("█" * full + "░" * (options.max_width - full))

    return Bar()


def show(*head: str, rows: Iterable[Sequence]) -> None:
    """A table on stdout; numbers with one decimal, None as a dash."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(*head)
    for row in rows:
        table.add_row(*(v if hasattr(v, "__rich_console__") else Text(written(v)) for v in row))
    Console().print(table)


def written(value: str | float | None) -> str:
    return value if isinstance(value, str) else "-" if value is None else f"{value:.1f}"
