"""The line that a learner reads."""

import pytest
import torch
from jaxtyping import Float, Int
from torch import Tensor

from upsnet_lite.course import variant
from upsnet_lite.course.feedback import Mistake, agree, one_line, right, same, shaped, show_when_done, tried
from upsnet_lite.course.score import score

WRITTEN = {}
RESULT, INTS = "shape (N, 8) = (2, 8), a float tensor", "shape (N,) = (2,), an int tensor"


@shaped
def double(
    x: Float[Tensor, "N 4"], classes: Int[Tensor, " N"], size: tuple[int, int], scale: float = 1
) -> Float[Tensor, "N 8"]:
    return WRITTEN["answer"]


def said(function, *arguments, **named) -> str:
    with pytest.raises(Mistake) as mistake:
        function(*arguments, **named)
    return str(mistake.value)


# ---------------------------------------------------------------------------------------------------------- shapes


@pytest.mark.parametrize(
    "x, classes, size, answer, says",
    [
        (
            (2, 5),
            (2,),
            (1, 1),
            None,
            "was called with x shape (2, 5), float32, expected shape (N, 4), a float tensor",
        ),
        ((2, 4), (3,), (1, 1), None, "was called with classes shape (3,), int64, expected " + INTS),
        ((2, 4), (2,), [1, 1], None, "was called with size a list of 2, expected a tuple of 2, (a, b)"),
        ((2, 4), (2,), (1, 1), None, "returned None (is a return missing?), expected " + RESULT),
        ((2, 4), (2,), (1, 1), (2, 4), "returned shape (2, 4), float32, expected " + RESULT),
        ((2, 4), (2,), (1, 1), (3, 8), "returned shape (3, 8), float32, expected " + RESULT),
    ],
)
def test_a_wrong_shape_is_told_in_words(x, classes, size, answer, says):
    WRITTEN["answer"] = None if answer is None else torch.zeros(answer)
    assert said(double, torch.zeros(x), torch.zeros(classes, dtype=torch.long), size) == f"double {says}"


def test_what_fits_passes_and_an_int_is_a_float():
    WRITTEN["answer"] = torch.zeros(0, 8)
    found = double(torch.zeros(0, 4), torch.zeros(0, dtype=torch.long), (1, 1), scale=2)
    assert found.shape == (0, 8) and double.__name__ == "double"


# ---------------------------------------------------------------------------------------------------------- values


def test_agree_names_the_first_place_that_differs():
    expected = torch.zeros(2, 5, 8)
    found = expected.clone()
    found[1, 3, 7] = 0.42
    axes = "instance, row, column"
    assert said(agree, found, expected, "y_mask", axes) == "y_mask at instance 1, row 3, column 7: 0.42, expected 0"
    found[1, 4] = 1
    assert said(agree, found, expected, "y_mask", axes).endswith("expected 0 (9 of 80 places differ)")
    assert said(agree, found[1], expected[1], "m").startswith("m at row 3, column 7")
    assert said(agree, found, expected, "m").startswith("m at index 1, row 3, column 7")
    assert said(agree, found[1, 3], expected[1, 3], "m").startswith("m at index 7")


@pytest.mark.parametrize(
    "found, expected, says",
    [
        (1, 2.5, "v: 1, expected 2.5"),
        (True, False, "v: True, expected False"),
        (None, [1, 2], "v is None (is a return missing?), expected shape (2,)"),
        ("a", 1, "v is a str, expected 1"),
        ([1, 2], [1, 2, 3], "v has shape (2,), expected (3,)"),
        (float("nan"), 1.0, "v: nan, expected 1"),
        (torch.tensor([300, 44]), torch.tensor([300, 43]), "v at index 1: 44, expected 43"),
    ],
)
def test_agree_on_anything(found, expected, says):
    assert said(agree, found, expected, "v") == says


def test_rounding_is_no_mistake_and_nan_equals_nan():
    agree(torch.tensor([0.1 + 0.2, float("nan"), float("inf")]), [0.3, float("nan"), float("inf")], "v")
    assert not same(torch.tensor([2**24 + 1]), torch.tensor([2**24])), "whole numbers are compared exactly"


def test_a_known_mistake_is_named_before_a_place():
    known = {"softmax over the wrong axis": [2.0, 2], "another": [2.0, 2]}
    assert said(agree, [2.0, 2], [1.0, 1], "p", known=known) == "softmax over the wrong axis"
    agree([2.0, 2], [2.0, 2], "p", known=known)


def test_an_error_on_an_input_names_the_input():
    def first(x):
        return x[0]

    assert said(tried, first, [], on="no instance at all").startswith("first fails on no instance at all: IndexError")
    with pytest.raises(NotImplementedError):
        tried(lambda: (_ for _ in ()).throw(NotImplementedError), on="x")


def test_an_error_without_words_has_some_and_a_place_in_the_notebook():
    assert one_line(Mistake("")) == "Mistake"
    cells = [
        dict(cell_type="code", source="def twice(x):\n    y = x + x\n    return y[5]"),
        dict(cell_type="code", source="twice([1])", metadata={"nbgrader": dict(grade=True, grade_id="a", points=1)}),
        dict(cell_type="code", source="gone(1)", metadata={"nbgrader": dict(grade=True, grade_id="b", points=1)}),
    ]
    assert [part.message for part in score({"cells": cells})] == [
        "IndexError: list index out of range (twice, line 3 of its cell)",
        "NameError: name 'gone' is not defined (no cell before it defines it)",
    ]


def test_a_picture_waits_for_the_function(capsys):
    def stub():
        raise NotImplementedError

    def later():
        return 1 + stub()

    assert show_when_done(lambda: 3) == 3 and show_when_done(later) is None and show_when_done(lambda: 1 / 0) is None
    right("done")
    told = capsys.readouterr().out.splitlines()
    assert told == [
        "not yet: stub still raises NotImplementedError",
        "not yet: ZeroDivisionError: division by zero",
        "✓ done",
    ]


def test_a_stub_is_named_by_whoever_it_stops():
    def stub():
        raise NotImplementedError

    with pytest.raises(NotImplementedError) as stopped:
        agree((lambda: 1 + stub())(), 2, "the sum")
    assert one_line(stopped.value) == "not done yet: stub still raises NotImplementedError"
    with pytest.raises(NotImplementedError) as by_torch:
        torch.zeros(2, device="meta").cpu()
    assert one_line(by_torch.value).startswith("NotImplementedError: ")


# -------------------------------------------------------------------------------------------------------- variants


def test_a_seed_is_the_same_on_every_machine():
    assert variant.seed("ada") == variant.seed(" Ada ") == 4260250381 != variant.seed("bela")
    assert variant.seed("Zo\u00eb") == variant.seed("zoe\u0308"), "one character, or two as macOS writes them"


def test_the_answer_of_another_student_is_recognised(monkeypatch):
    monkeypatch.setenv("UPSNET_STUDENT", "bela")
    monkeypatch.setenv("UPSNET_CLASS", "bela\ncleo")
    assert variant.student("ada") == "bela"
    variant.own(variant.seed("bela"), lambda seed: seed, "bela", "the sum")
    assert "the answer of 'cleo', who has other numbers; yours are those of 'bela'" in said(
        variant.own, variant.seed("cleo"), lambda seed: seed, "bela", "the sum"
    )
    assert "'ada'" in said(variant.own, variant.seed("ada"), lambda seed: seed, "bela", "the sum")
    assert said(variant.own, 3, lambda seed: seed, "bela", "the sum").startswith("the sum: yours is not right")
    monkeypatch.delenv("UPSNET_STUDENT")
    assert variant.student("ada") == "ada"


# ----------------------------------------------------------------------------------------------------------- points


def cell(code: str, grade_id: str = "", points: int = 0, **more) -> dict:
    marks = dict(nbgrader=dict(grade_id=grade_id, grade=bool(points), solution=not points, points=points) | more)
    return dict(cell_type="code", metadata=marks if grade_id else {}, source=code)


def test_points_of_a_notebook_without_nbgrader():
    cells = [
        cell("x = 1"),
        cell("def f(:"),
        cell("assert x == 1; print('✓ one'); print('✓ two')", "a", 2),
        cell("f()", "b", 3),
        cell("raise SystemExit", "c", 1),
        cell("raise NotImplementedError", "d", 1),
        cell("my words", "e", 8, solution=True),
        cell("from upsnet_lite.course.feedback import Mistake\nraise Mistake('rows and columns')", "f", 1),
    ]
    found = {p.grade_id: (p.points, p.max_points, p.message) for p in score(dict(cells=cells))}
    assert found["a"] == (2, 2, "one; two") and found["c"] == (0, 1, "SystemExit")
    assert found["b"][0] == 0 and "NameError" in found["b"][2] and "SyntaxError" in found["b"][2]
    assert "not done yet" in found["d"][2] and found["f"][2] == "rows and columns"
    assert found["e"][:2] == (None, 8)


def test_tried_tells_an_error_and_an_overwritten_argument():
    def adds(x, y):
        return x.add_(y)

    with pytest.raises(Mistake, match="adds fails on two sizes: RuntimeError: The size of tensor a .2. must match"):
        tried(adds, torch.zeros(2), torch.ones(3), on="two sizes")
    with pytest.raises(Mistake, match="changed the x that it was given"):
        tried(adds, torch.zeros(2), torch.ones(2), on="two sizes")
    assert torch.equal(tried(torch.add, torch.zeros(2), torch.ones(2), on="two sizes"), torch.ones(2))
