"""Files as a user meets them: one clear line on bad input, nothing half-written, no path out of its root."""

import json
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class UserError(Exception):
    """What was wrong, where, and what to do, in one line. The command line prints it and exits with 1."""


@contextmanager
def write_aside(path: Path) -> Iterator[Path]:
    """Yields a temporary name beside `path`; renamed onto it only if the block succeeds, removed if it does not.

    The block makes a file of it, or a folder: a folder may take the place of none, or of an empty one.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{secrets.token_hex(4)}{path.suffix}")  # the suffix tells writers the format
    try:
        yield aside
        os.replace(aside, path)
    except OSError as error:
        if str(error.filename) == str(aside):
            error.filename = str(path)  # the name that the user knows
        raise
    finally:
        if aside.is_dir():
            shutil.rmtree(aside)
        aside.unlink(missing_ok=True)


def is_free(folder: Path) -> bool:
    """Whether a new folder may stand there: nothing does, or an empty one."""
    return not folder.exists() or (folder.is_dir() and not any(folder.iterdir()))


def inside(root: Path, name: str) -> Path:
    """`root / name`; UserError where a name taken from a JSON would lead out of root (`..`, absolute, symlink)."""
    root = Path(root)
    path = root / name
    try:
        within = path.resolve().is_relative_to(root.resolve())
    except (ValueError, OSError):  # a NUL, half a character, a loop of links
        within = None
    if within is None or "\n" in name:  # what goes wrong with the file is said in one line
        raise UserError(f"file name {name!r} cannot be one; fix the file that names it")
    if not within:
        raise UserError(f"file name {name!r} leads out of {root}; fix the file that names it")
    return path


def read_json(path: Path) -> dict:
    """The object in a JSON file; UserError where it is missing, unreadable, not JSON or not an object."""
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path} is missing") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from None
    except RecursionError:
        raise UserError(f"{path} is not valid JSON: nested too deeply") from None
    except ValueError as error:  # JSONDecodeError and UnicodeDecodeError
        raise UserError(f"{path} is not valid JSON: {error}") from None
    if not isinstance(found, dict):
        raise UserError(f"{path} holds a JSON {type(found).__name__}, an object was expected")
    return found
