"""What a learner reads: one line that says what is wrong, and where.

A check raises `Mistake`. Three tools find it: `shaped` watches a function's shapes and dtypes, `agree` names the first
place that differs, and the mistakes known to `agree` are recognised by what they would give on the same input.
"""

import inspect
import re
from collections.abc import Callable, Mapping
from functools import wraps
from pathlib import Path
from traceback import extract_tb
from typing import Any, get_args, get_origin, get_type_hints

import torch
from jaxtyping import AbstractArray, jaxtyped
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

RELATIVE, ABSOLUTE = 1e-4, 1e-5  # rounding is no mistake


class Mistake(AssertionError):
    """One line: what is wrong, where, and where it is known what was probably done."""


class Misfit(Mistake):
    """A shape or dtype is wrong."""


# ------------------------------------------------------------------------------------------------------- shapes


def shaped(function: Callable) -> Callable:
    """The function, its annotations checked in every call: a wrong shape or dtype is a Mistake in words.

    A dimension's name, as N_inst, stands for one number in all arguments and in what is returned.
    """
    from beartype.door import is_bearable

    signature, hints = inspect.signature(function), get_type_hints(function, include_extras=True)
    tower = _tower()

    @wraps(function)
    def checked(*args, **kwargs):
        bound = signature.bind(*args, **kwargs)
        sizes: dict[str, int] = {}
        # In the context, every check binds the dimensions' names for the next one. It ends where a function with checks
        # of its own begins, which under test is each of ours: so is_bearable decides here and nowhere deeper.
        with jaxtyped("context"):
            for name, value in bound.arguments.items():
                if not is_bearable(value, hints.get(name, Any), conf=tower):
                    raise Misfit(_misfit(value, hints[name], f"{function.__name__} was called with {name}", sizes))
                _bind(value, hints.get(name, Any), sizes)
            found = function(*args, **kwargs)
            if not is_bearable(found, hints.get("return", Any), conf=tower):
                raise Misfit(_misfit(found, hints["return"], f"{function.__name__} returned", sizes))
        return found

    return checked


def _is_array(hint: Any) -> bool:
    return inspect.isclass(hint) and issubclass(hint, AbstractArray)


def _bind(value: Any, hint: Any, sizes: dict[str, int]) -> None:
    """Remembers what the names of an argument's dimensions stand for."""
    names = hint.dim_str.split() if _is_array(hint) else []
    if names and len(names) == value.ndim:  # no "..." among them
        sizes.update({n: s for n, s in zip(names, value.shape, strict=True) if n.isidentifier()})


def _misfit(value: Any, hint: Any, what: str, sizes: Mapping[str, int]) -> str:
    parts = get_args(hint) if get_origin(hint) is tuple else ()
    if not parts:
        return f"{what} {described(value)}, expected {_array(hint, sizes) if _is_array(hint) else _name(hint)}"
    if not isinstance(value, tuple) or len(value) != len(parts):
        names = ", ".join("abcdefgh"[: len(parts)])
        return f"{what} {described(value)}, expected a tuple of {len(parts)}, ({names})"
    wrong = (n for n, pair in enumerate(zip(value, parts, strict=True)) if not _fits(*pair, sizes))
    n = next(wrong, 0)
    return _misfit(value[n], parts[n], f"{what} {len(parts)} values, of which number {n + 1} is", sizes)


def _fits(value: Any, hint: Any, sizes: Mapping[str, int]) -> bool:
    """Whether one value of a tuple does: its kind and number of dimensions, and those of its sizes that are known.

    The sizes are compared here: with its own checks, under test, this function has left the context that binds them.
    """
    from beartype.door import is_bearable

    names = hint.dim_str.split() if _is_array(hint) else []
    return is_bearable(value, hint, conf=_tower()) and all(
        sizes.get(name, size) == size for name, size in zip(names, getattr(value, "shape", ()), strict=False)
    )


def _tower():
    """An int will do for a float."""
    from beartype import BeartypeConf

    return BeartypeConf(is_pep484_tower=True)


def _array(wanted: Any, sizes: Mapping[str, int]) -> str:
    """`shape (N_inst, H, W) = (2, 5, 5), a float tensor`."""
    names = wanted.dim_str.split()
    kind = re.match(r"\w+", wanted.__name__)[0].lower()
    text = f"({', '.join(names)}{',' * (len(names) == 1)})"
    if names and all(n in sizes or n.isdigit() for n in names) and any(n in sizes for n in names):
        text += f" = {tuple(sizes.get(n) if n in sizes else int(n) for n in names)}"
    else:
        known = [f"{n} = {sizes[n]}" for n in names if n in sizes]
        text += f" with {', '.join(known)}" if known else ""
    return f"shape {text}, {'an' if kind[0] in 'aeiou' else 'a'} {kind} tensor"


def _name(hint: Any) -> str:
    return "None" if hint is type(None) else str(hint) if get_args(hint) else getattr(hint, "__name__", str(hint))


def described(value: Any) -> str:
    """A value as a learner would call it: `None`, `shape (2, 5), int64`, `the number 3`."""
    if isinstance(value, Tensor):
        return f"shape {tuple(value.shape)}, {str(value.dtype).removeprefix('torch.')}"
    if isinstance(value, bool | int | float):
        return f"the number {value}"
    if isinstance(value, tuple | list):
        return f"a {type(value).__name__} of {len(value)}"
    return "None (is a return missing?)" if value is None else f"a {type(value).__name__}"


# ------------------------------------------------------------------------------------------------------- values


def same(found: Any, expected: Any) -> bool:
    """Equal in shape and, but for rounding, in value. Whatever is no number is equal to nothing."""
    a, b = _tensor(found), _tensor(expected)
    if a is None or b is None or a.shape != b.shape:
        return False
    return not bool(_differ(a, b).any())


def known_as(found: Any, known: Mapping[str, Any]) -> str:
    """The first known mistake that gives what was found; "" where none does."""
    return next((mistake for mistake, wrong in known.items() if same(found, wrong)), "")


def said_of(what: str, known: Mapping[str, Any]) -> dict[str, Any]:
    """Known mistakes that say on which input they were made."""
    return {f"{what}: {mistake}": wrong for mistake, wrong in known.items()}


def agree(
    found: Any, expected: Any, what: str, axes: str = "row, column", known: Mapping[str, Any] | None = None
) -> None:
    """Mistake unless found equals expected: "y_mask at instance 1, row 3, column 7: 0.42, expected 0".

    Tensors, numbers or lists of them. axes: names of the dimensions; known: {what to say: what a well-known wrong
    answer gives on this input}, of which the first that fits is told.
    """
    if same(found, expected):
        return
    if mistake := known_as(found, known or {}):
        raise Mistake(mistake)
    a, b = _tensor(found), _tensor(expected)
    if a is None:
        raise Mistake(f"{what} is {described(found).removeprefix('the number ')}, expected {_words(b)}")
    if a.shape != b.shape:
        raise Mistake(f"{what} has shape {tuple(a.shape)}, expected {tuple(b.shape)}")
    if a.ndim == 0:
        raise Mistake(f"{what}: {_number(a)}, expected {_number(b)}")
    differ = _differ(a, b)
    place = tuple(differ.nonzero()[0].tolist())
    names = axes.split(", ")
    names = ["index"] * (a.ndim - len(names)) + names if a.ndim >= len(names) else ["index"] * a.ndim
    where = ", ".join(f"{n} {i}" for n, i in zip(names, place, strict=True))
    more = f" ({int(differ.sum())} of {differ.numel()} places differ)" if differ.sum() > 1 else ""
    raise Mistake(f"{what} at {where}: {_number(a[place])}, expected {_number(b[place])}{more}")


def _tensor(value: Any) -> Tensor | None:
    if isinstance(value, Tensor):
        return value.detach()
    try:
        return torch.as_tensor(value)
    except (TypeError, ValueError, RuntimeError):
        return None


def _differ(a: Tensor, b: Tensor) -> Tensor:
    if not (a.is_floating_point() or b.is_floating_point()):
        return a != b
    return ~torch.isclose(a.double(), b.double(), RELATIVE, ABSOLUTE, equal_nan=True)


def _number(value: Tensor) -> str:
    number = value.item()
    return f"{number:.4g}" if isinstance(number, float) else str(number)


def _words(expected: Tensor) -> str:
    return _number(expected) if expected.ndim == 0 else f"shape {tuple(expected.shape)}"


def tried(function: Callable, *args: Any, on: str, hints: Mapping[str, str] | None = None) -> Any:
    """function(*args); an error becomes a Mistake that says on which input, as `no instance at all`.

    So does a tensor among the arguments that the function has overwritten. hints: {part of an error: what to say}.
    """
    before = [a.detach().clone() if isinstance(a, Tensor) else None for a in args]
    try:
        found = function(*args)
        if overwritten := [n for n, old in enumerate(before) if old is not None and not _unchanged(args[n], old)]:
            name = list(inspect.signature(function).parameters)[overwritten[0]]
            raise Mistake(f"your function changed the {name} that it was given: compute it anew, without += or [...] =")
        return found
    except Misfit as error:
        raise Misfit(f"{error} (when {_called(function)} was tried on {on})") from None
    except (Mistake, NotImplementedError):
        raise
    except Exception as error:  # whatever a learner's code can raise
        text = f"{_called(function)} fails on {on}: {one_line(error)}"
        hint = next((hint for part, hint in (hints or {}).items() if part in text), "")
        raise Mistake(f"{hint} ({text})" if hint else text) from error


def _unchanged(now: Tensor, before: Tensor) -> bool:
    return now.shape == before.shape and torch.allclose(now, before, rtol=0, atol=0, equal_nan=True)


def _called(function: Callable) -> str:
    return getattr(function, "__name__", "the function")


class Without(TorchDispatchMode):
    """While it is entered, an operator of `told` raises a Mistake with its text: {"aten::grid_sampler_2d": "..."}."""

    def __init__(self, told: Mapping[str, str]) -> None:
        super().__init__()
        self.told = told

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if text := self.told.get(function._schema.name):
            raise Mistake(text)
        return function(*args, **kwargs or {})


def one_line(error: BaseException) -> str:
    """What is told of an error: a Mistake's own text; of any other its kind, too."""
    text = " ".join(str(error).split())
    if isinstance(error, SyntaxError):
        return f"{type(error).__name__}: {error.msg} (line {error.lineno})"
    if isinstance(error, NotImplementedError) and not text:  # torch raises it, too, with a text
        return f"not done yet: {_raiser(error)} still raises NotImplementedError"
    if isinstance(error, Mistake) and text:
        return text
    return f"{type(error).__name__}: {text}".removesuffix(": ") + _place(error)


def _place(error: BaseException) -> str:
    """` (lateral, line 3 of its cell)`; "" where it was no function of a notebook that raised it."""
    frames = [f for f in extract_tb(error.__traceback__) if not Path(f.filename).is_file()]  # a cell is no file
    own = [f for f in frames if not f.name.startswith("<")]
    return f" ({own[-1].name}, line {own[-1].lineno} of its cell)" if own else ""


def _raiser(error: BaseException) -> str:
    """The function that raised it: not always the one above, since parts build on one another."""
    frames = extract_tb(error.__traceback__)
    name = frames[-1].name if frames else "<module>"
    return "the function" if name.startswith("<") else name


# ------------------------------------------------------------------------------------------------- in a notebook


def right(text: str) -> None:
    print(f"✓ {text}")


def show_when_done(draw: Callable[[], Any]) -> Any:
    """What draw() returns; while the learner's function is not there yet, one line instead of an error."""
    try:
        return draw()
    except Exception as error:  # whatever a half-written function can raise: the graded cell above tells it in full
        print(f"not yet: {one_line(error).removeprefix('not done yet: ')}")
