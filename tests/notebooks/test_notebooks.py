"""What every committed lesson keeps to; `execute.py`, which runs them, is tested below.

A cell is 15 lines at most and a function in it 10. What is longer stands in LONG_CELLS and LONG_FUNCTIONS, 25 at most.
"""

import ast
import base64
import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from importlib import import_module
from pathlib import Path

import execute
import pytest
from execute import LESSONS, ROOT, WIDGET, differences, figures, lessons, printed, stated_minutes, text

CELL, FUNCTION, LONG = 15, 10, 25  # lines
LONG_CELLS: set[tuple[str, str]] = set()  # (lesson, first line of the cell)
LONG_FUNCTIONS: set[tuple[str, str]] = set()  # (lesson, name), where deriving the function is the point
MEGABYTE = 1_000_000
MACHINE = re.compile(r"(?<![\w.:/<])/(?:home|root|Users|work|tmp|usr|opt|mnt|var|private|content)/|[A-Z]:\\\\?Users")
LOADED = re.compile(r"""(?:src|srcset|data)\s*=\s*["']?https?:|url\(\s*["']?https?:|!\[[^\]]*\]\(https?:|@import|"""
                    r"""(?:from|import)\s*\(?\s*["']https?:""")  # fmt: skip
PATHS = lessons()


@pytest.fixture(params=PATHS, ids=lambda p: p.stem)
def path(request) -> Path:
    return request.param


@pytest.fixture
def notebook(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


def cells(notebook: dict, kind: str) -> list[dict]:
    return [c for c in notebook["cells"] if c["cell_type"] == kind]


def prose(notebook: dict) -> str:
    return "\n\n".join(text(c["source"]) for c in cells(notebook, "markdown"))


def outputs(notebook: dict) -> list[dict]:
    return [o for c in cells(notebook, "code") for o in c["outputs"]]


def html(notebook: dict) -> list[str]:
    return [text(o["data"]["text/html"]) for o in outputs(notebook) if "text/html" in o.get("data", {})]


class Page(HTMLParser):
    """The tags of a piece of HTML, and every target of a link in it."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.feed(source)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def links(self) -> list[str]:
        return [a["href"] for tag, a in self.tags if tag == "a" and a.get("href")]


def without_code(markdown: str) -> str:
    return re.sub(r"```.*?```|`[^`\n]*`", "", markdown, flags=re.DOTALL)


def links(markdown: str) -> list[str]:
    return re.findall(r"(?<!!)\]\(([^)\s]+)\)", without_code(markdown)) + Page(without_code(markdown)).links()


# ------------------------------------------------------------------------------------------------ executed, quiet


def test_lessons_exist():
    assert [p.stem[:2] for p in PATHS][:2] == ["00", "01"]


def test_executed_from_top_to_bottom(notebook):
    counts = [c["execution_count"] for c in cells(notebook, "code")]
    assert counts == list(range(1, len(counts) + 1)), "Restart Kernel and Run All Cells, then save"


def test_no_error_and_nothing_on_stderr(notebook):
    assert not [o["ename"] for o in outputs(notebook) if o["output_type"] == "error"]
    assert not [noise for c in cells(notebook, "code") if (noise := printed(c, "stderr"))]


def test_one_cell_prints_the_figures(notebook):
    assert figures(notebook)
    assert "figures" in cells(notebook, "code")[-1]["metadata"].get("tags", ()), "the figures are the last code cell"


def test_kernel_is_any_python_3(notebook):
    assert notebook["metadata"]["kernelspec"]["name"] == "python3"
    assert "path" not in json.dumps(notebook["metadata"]["kernelspec"]).lower()


# --------------------------------------------------------------------------------------------------------- length


def first_line(cell: dict) -> str:
    return text(cell["source"]).strip().splitlines()[0]


def test_cells_are_short(path, notebook):
    for cell in cells(notebook, "code"):
        allowed = LONG if (path.stem, first_line(cell)) in LONG_CELLS else CELL
        lines = text(cell["source"]).strip().splitlines()
        assert len(lines) <= allowed, f"{len(lines)} lines: {lines[0]}"
        assert max(map(len, lines)) <= 120, "a line of code is wider than the page"


def test_functions_are_short(path, notebook):
    for cell in cells(notebook, "code"):
        source = "\n".join(line for line in text(cell["source"]).splitlines() if not line.startswith(("%", "!")))
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.FunctionDef):
                allowed = LONG if (path.stem, node.name) in LONG_FUNCTIONS else FUNCTION
                assert node.end_lineno - node.lineno < allowed, f"{node.name} is long: should the package have it?"


def test_the_exceptions_are_few_and_in_use():
    assert len(LONG_CELLS) <= 6 and len(LONG_FUNCTIONS) <= 4
    code = {p.stem: cells(json.loads(p.read_text(encoding="utf-8")), "code") for p in PATHS}
    assert {(stem, first_line(c)) for stem, found in code.items() for c in found} >= LONG_CELLS
    for stem, name in LONG_FUNCTIONS:
        assert any(f"def {name}(" in text(c["source"]) for c in code[stem]), name


def test_sizes():
    sizes = {p.name: p.stat().st_size for p in PATHS}
    assert sum(sizes.values()) <= 10 * MEGABYTE, sizes
    assert max(sizes.values()) <= 3 * MEGABYTE, sizes


# ------------------------------------------------------------------------------------------------ the way it is told


def test_header_says_what_it_is_for(path, notebook):
    head = text(notebook["cells"][0]["source"])
    assert notebook["cells"][0]["cell_type"] == "markdown" and head.startswith(f"# {path.stem[:2]} · ")
    assert "**Purpose.**" in head and "two CPU cores" in head and "**You need to know**" in head
    assert 0 < stated_minutes(notebook) <= (4 if path.stem.startswith("07") else 1.5)
    assert re.search(r"\]\(\.\./upsnet_lite/[\w/]+\.py\)", head), "no link to the module that it explains"


def test_asks_the_reader_to_predict(notebook):
    assert re.search(r"\*\*Predict\b", prose(notebook))


def test_ends_with_summary_flashcards_and_the_next_lesson(path, notebook):
    _, found, end = prose(notebook).partition("## Summary")
    assert found and 3 <= len(re.findall(r"^- ", end.partition("## Flashcards")[0], re.MULTILINE)) <= 6
    cards = re.findall(r"<details>\s*<summary>(.+?)</summary>(.*?)</details>", end, re.DOTALL)
    assert 3 <= len(cards) <= 6 and end.count("<details") == len(cards)
    for question, answer in cards:
        assert question.strip() and answer.strip(), question
        assert "$" not in answer or answer.startswith("\n\n"), f"a formula needs an empty line before it: {question}"
    assert re.search(r"\*\*Exercises?\b", end), "no pointer to the exercise"
    if path != PATHS[-1]:
        following = PATHS[PATHS.index(path) + 1]
        assert following.name in links(end), f"no link to {following.name}"


# ------------------------------------------------------------------------------------------------ links and pictures


def test_links_lead_somewhere(notebook):
    found = links(prose(notebook)) + [link for page in html(notebook) for link in Page(page).links()]
    inside = [link.partition("#")[0] for link in found if not re.match(r"https?:|mailto:|#", link)]
    assert not [link for link in inside if not (LESSONS / link).exists()]
    assert all(ROOT in (LESSONS / link).resolve().parents for link in inside)


def test_every_picture_has_alt_text(notebook):
    for output in outputs(notebook):
        bare = [kind for kind in output.get("data", {}) if kind.startswith("image/")]
        assert not bare, "show pictures with upsnet_lite.viz.plots, or wrap them: alt(figure, text)"
    assert all(alt.strip() for alt in re.findall(r"!\[([^\]]*)\]\(", without_code(prose(notebook))))
    for page in [*html(notebook), prose(notebook)]:
        for tag, attributes in Page(page).tags:
            if tag == "img":
                assert len(attributes.get("alt") or "") >= 10, "a picture without alt text"
            elif tag in ("svg", "canvas", "video"):
                assert attributes.get("aria-label") or attributes.get("aria-labelledby"), f"<{tag}> without a name"


def test_a_picture_stands_for_every_widget(notebook):
    assert not [o for o in outputs(notebook) if WIDGET in o.get("data", {})] and "widgets" not in notebook["metadata"]


def test_pictures_are_small_enough_for_a_page(notebook):
    for page in html(notebook):
        for data in re.findall(r"base64,([A-Za-z0-9+/=]+)", page):
            assert len(base64.b64decode(data)) < MEGABYTE / 2


def without_pictures(notebook: dict) -> str:
    return re.sub(r"base64,[A-Za-z0-9+/=]+", "", "\n".join([*html(notebook), *map(text, sources(notebook))]))


def sources(notebook: dict):
    yield from (c["source"] for c in notebook["cells"])
    for output in outputs(notebook):
        yield output.get("text", "")
        yield output.get("data", {}).get("text/plain", "")


def test_names_no_folder_of_a_machine(notebook):
    assert not MACHINE.findall(without_pictures(notebook))


def test_loads_nothing_from_the_network(notebook):
    assert not LOADED.findall(without_pictures(notebook))


# ------------------------------------------------------------------------------------------------------ lesson 00


def test_the_map_and_the_table_of_lesson_00():
    first = json.loads(PATHS[0].read_text(encoding="utf-8"))
    assert {p.name for p in PATHS[1:9]} <= set(Page(prose(first)).links()), "a lesson has no box on the map"
    table = re.findall(r"\[`(\w+)\.(\w+)`\]\(\.\./upsnet_lite/(\w+)\.py\)", prose(first))
    assert len(table) >= 12
    for module, name, file in table:
        assert module == file and hasattr(import_module(f"upsnet_lite.{module}"), name), f"{module}.{name}"


# ------------------------------------------------------------------------------------------------------ execute.py


def one(source: str = "", **cell) -> dict:
    return {"cells": [dict(cell_type="markdown", metadata={}, source=source, outputs=[]) | cell]}


@pytest.mark.parametrize(
    "header, minutes",
    [
        ("**Time.** Half a minute on two CPU cores.", 0.5),
        ("takes 1.5 minutes", 1.5),
        ("under a minute and a half", 1.5),
        ("three to four minutes", 4),
        ("3–4 min", 4),
        ("no hurry", None),
    ],
)
def test_minutes_are_read_from_the_header(header, minutes):
    assert stated_minutes(one(header)) == minutes


@pytest.mark.parametrize(
    "committed, found, told",
    [
        ({"pq": 50.0}, {"pq": 50.0 + 1e-7}, []),
        ({"pq": 50.0}, {"pq": 50.1}, ["pq was 50.0, is 50.1 (tolerance 1e-06)"]),
        ({"pq": 50.0, "tolerance": 0.5}, {"pq": 50.4, "tolerance": 9}, []),
        ({"pq": [50.0, 60], "n": 3, "tolerance": {"pq": 1}}, {"pq": [50.9, 61], "n": 3}, []),
        ({"pq": 50.0, "n": 3, "tolerance": {"pq": 1}}, {"pq": 50.9, "n": 4}, ["n was 3, is 4 (tolerance 1e-06)"]),
        ({"pq": 50.0, "tolerance": 0.5}, {"pq": 50.0, "tolerance": 0.5, "sq": 1}, ["sq is new"]),
        ({"a": {"b": 1}}, {"a": {}}, ["a.b is missing"]),
        ({"~seconds": 3.0, "ok": True}, {"~seconds": 99.0, "ok": True}, []),
        ({"~seconds": 3.0}, {"n": 1}, ["n is new", "~seconds is missing"]),
        ({"name": "P2"}, {"name": "P3"}, ["name was P2, is P3 (tolerance 1e-06)"]),
        ({"ok": True}, {"ok": 1}, ["ok was True, is 1 (tolerance 1e-06)"]),
        ({"pq": float("nan")}, {"pq": float("nan")}, []),
        ({"pq": 1}, {"pq": None}, ["pq was 1, is None (tolerance 1e-06)"]),
    ],
)
def test_figures_are_compared_within_their_tolerance(committed, found, told):
    assert differences(committed, found) == told


@pytest.mark.parametrize("output", ["", "42", "{}", "PQ 50", '{"pq": 1} and more'])
def test_a_figures_cell_prints_one_json_object(output):
    stream = [dict(output_type="stream", name="stdout", text=output)]
    with pytest.raises(ValueError, match="one JSON object"):
        figures(one(metadata=dict(tags=["figures"]), outputs=stream))
    with pytest.raises(ValueError, match="0 cells"):
        figures(one(outputs=stream))


def lesson(*sources: str, printing: str) -> dict:
    """A notebook whose committed figures are `printing` and whose last cell prints {"n": 1}."""

    def code(source: str, **more) -> dict:
        return dict(cell_type="code", id=f"c{len(source)}", metadata={}, source=source, outputs=[]) | more

    stream = [dict(output_type="stream", name="stdout", text=printing)]
    tagged = code("print('{\"n\": 1}')", metadata=dict(tags=["figures"]), outputs=stream)
    head = dict(cell_type="markdown", id="head", metadata={}, source="Half a minute")
    made = [head, *map(code, sources), tagged]
    made = [c | dict(execution_count=None) if c["cell_type"] == "code" else c for c in made]
    return dict(cells=made, metadata={}, nbformat=4, nbformat_minor=5)


def test_execution_finds_errors_noise_new_figures_and_stray_files(tmp_path, monkeypatch, capsys):
    pytest.importorskip("nbclient")
    folder, out = tmp_path / "notebooks", tmp_path / "out"
    for name in ("notebooks", "runs"):
        (tmp_path / name).mkdir()
    good = lesson("open('../runs/a', 'w').close()", printing='{"n": 1}')
    bad = lesson("import sys; print('hm', file=sys.stderr); open('b', 'w').close()", printing='{"n": 2}')
    broken = lesson("1 / 0", printing='{"n": 1}')
    for number, notebook in enumerate((good, bad, broken)):
        (folder / f"0{number}_lesson.ipynb").write_text(json.dumps(notebook))
    monkeypatch.setattr(execute, "ROOT", tmp_path)
    monkeypatch.setattr(execute, "LESSONS", folder)
    assert execute.main(out, []) == 1
    told = capsys.readouterr().out
    assert re.findall(r"^(ok|FAIL) ", told, re.MULTILINE) == ["ok", "FAIL", "FAIL"]
    for line in ("stderr: hm", "n was 2, is 1", f"left {Path('notebooks/b')} behind", "ZeroDivisionError"):
        assert line in told
    assert told.endswith("1 passed, 2 failed\n")
    assert json.loads((out / "00_lesson.ipynb").read_text())["cells"][-1]["execution_count"] == 2


@pytest.mark.parametrize(
    "line, found",
    [("saved to /home/me/x.png", True), ("'/tmp/a'", True), ("../runs/x", False), ("https://a.org/usr/b", False)],
)
def test_folders_of_a_machine_are_recognised(line, found):
    assert bool(MACHINE.search(line)) == found


@pytest.mark.parametrize("line, told", [("--help", "usage: execute.py"), ("OUT 99", "there is no lesson '99'")])
def test_a_wrong_call_writes_nothing(tmp_path, line, told):
    done = subprocess.run(
        [sys.executable, execute.__file__, *line.split()], cwd=tmp_path, capture_output=True, text=True
    )
    assert told in done.stdout + done.stderr and done.returncode == (2 if "99" in line else 0)
    assert not list(tmp_path.iterdir())
