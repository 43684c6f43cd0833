"""What a learner is told before anything is handed in: the visible checks alone name each planted mistake."""

import io
import json
import re
from contextlib import redirect_stdout
from importlib import import_module

import pytest

from upsnet_lite.course import paths
from upsnet_lite.course.checks import panoptic_quality, z_and_unknown
from upsnet_lite.course.feedback import one_line
from upsnet_lite.course.score import about, source

NAMES = [e.name for e in paths.exercises()]
PLANTED = [(name, wrong) for name in NAMES for wrong in import_module(f"wrong.{name}").WRONG]


@pytest.fixture(scope="module")
def notebooks() -> dict[str, dict]:
    return {name: json.loads(paths.exercise(name).path("source").read_text(encoding="utf-8")) for name in NAMES}


def visible(notebook: dict, wrong) -> str:
    """What the wrong solution is told; "" where it passes. Pictures and the checks of other parts are left out."""
    namespace: dict = {"__name__": "exercise"}
    for cell in notebook["cells"]:
        code, tested = source(cell), about(cell).get("grade_id") == wrong.loses
        other = about(cell).get("grade") and not tested
        if cell["cell_type"] != "code" or other or "show_when_done(" in code:
            continue
        code = re.sub(r"### BEGIN HIDDEN TESTS.*### END HIDDEN TESTS", "", code, flags=re.DOTALL)
        try:
            with redirect_stdout(io.StringIO()):
                exec(wrong.code if about(cell).get("grade_id") == wrong.solution else code, namespace)
        except Exception as error:
            return one_line(error)
        if tested:
            return ""
    raise AssertionError(f"no cell {wrong.loses}")


@pytest.mark.parametrize("name, wrong", [pytest.param(n, w, id=f"{n}: {w.name}") for n, w in PLANTED])
def test_a_planted_mistake_is_named_without_hidden_tests(notebooks, name, wrong):
    assert re.search(wrong.says, visible(notebooks[name], wrong))


def test_maps_by_hand_are_worth_counting():
    qualities = [panoptic_quality.my_quality(seed) for seed in range(60)]
    assert all(5 < q.pq < 95 for q in qualities), "neither hopeless nor perfect"
    assert all(any(c.fp + c.fn for c in q.per_class) for q in qualities)
    assert len({round(q.pq, 6) for q in qualities}) > 20


def test_a_pixel_by_hand_is_worth_computing():
    answers = [z_and_unknown.my_answer(seed) for seed in range(60)]
    assert len(set(answers)) > 50
    for seed, (z_inst, unknown, percent) in enumerate(answers):
        z, seen, rival = z_and_unknown.my_z(seed)
        assert z_inst == z[2] and unknown >= 0 and 0.05 < percent < 99.95
        assert unknown == max(seen, rival) - max(seen, 0)
