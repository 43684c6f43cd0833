"""Cells that do what they like: each has its outcome, the others have theirs, and nothing is left."""

import os
import re
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from upsnet_lite.course.isolated import Limits, alone, heard, run
from upsnet_lite.course.sandbox import descendants
from upsnet_lite.files import UserError

pytest.importorskip("IPython")
SLEEP = str(100_000 + os.getpid())  # seconds by which a process of ours is found

EATS_TOGETHER = """
import os, time
for _ in range(5):
    if os.fork() == 0:
        eaten = bytearray(b"x") * (700 << 20)
        time.sleep(60)
time.sleep(9)
"""
TELLS = """
import os, time
for name in os.listdir("/proc/self/fd"):
    try: os.write(int(name), {})
    except OSError: pass
time.sleep(1)
"""

# (code, what its last output says)
CELLS = [
    ("import os; x = 1; print('hi')", "hi"),
    ("while True: pass", "longer than 10 s"),
    ("os._exit(3)", "exit code 3"),
    ("os.kill(os.getpid(), 11)", "SIGSEGV"),
    ("eaten = []\nwhile True: eaten.append(bytearray(10**8))", "more than the 1 GB of memory"),
    ("x += 1; print(x)", "2"),
    ("print('a' * 10**9)", "it printed more than 1 MB"),
    ("x = (", "SyntaxError"),
    ("raise SystemExit", "SystemExit"),
    ("input()", "EOF"),
    (f"import subprocess\nsubprocess.Popen(['setsid', 'sleep', '{SLEEP}']); print('started')", "started"),
    ("if os.fork() == 0: os.setsid()\nprint(x)", "2"),
    ("while True: os.fork()", "processes|longer than"),
    (EATS_TOGETHER, "what it started need more than the 1 GB"),
    (TELLS.format(b"junk\n"), "where its results are told"),
    (TELLS.format(b'{"cell": -1}\n'), "where its results are told"),
    ("print('\\ud800')", "[?]"),
    ("display({'text/plain': 5, 'text/html': {'a': 1}}, raw=True); print('shown')", ""),
    ("from IPython.display import HTML; HTML('<b>bold</b>')", "<b>bold</b>"),
    ("print(os.environ.get('UPSNET_STUDENT'), os.environ.get('SECRET'), x)", "ada None 2"),
]


def said(outputs: list[dict]) -> str:
    if not outputs:
        return ""
    last = outputs[-1]
    return str(last.get("evalue") or last.get("text") or last.get("data", {}).get("text/html"))


def left_over() -> list[bytes]:
    """Command lines: of ours among all, of workers among our descendants (another test may run at the same time)."""
    ours, found = set(descendants(os.getpid())), []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            command = path.read_bytes()
            if command.startswith(b"sleep\0" + SLEEP.encode()) or (
                int(path.parent.name) in ours and b"course.worker" in command
            ):
                found.append(command)
    return found


def test_each_cell_has_its_outcome(monkeypatch):
    monkeypatch.setenv("SECRET", "of the teacher")
    outputs = run([code for code, _ in CELLS], Limits(cell=10, memory=1 << 30), env={"UPSNET_STUDENT": "ada"})
    found = {code: said(o) for (code, _), o in zip(CELLS, outputs, strict=True)}
    assert not {
        code: text for (code, says), text in zip(CELLS, found.values(), strict=True) if not re.search(says, text)
    }
    assert not left_over()


def test_the_whole_notebook_has_a_limit_too():
    cells = ["import time; time.sleep(3)"] * 4
    outputs = run(cells, Limits(cell=60, notebook=9))
    assert not outputs[0] and "were over before this cell" in said(outputs[-1])


def test_files_stay_and_what_is_hidden_looks_empty(tmp_path):
    if not alone():
        pytest.skip("this kernel allows no user namespaces")
    hidden, open_ = tmp_path / "hidden", tmp_path / "open"
    for folder in (hidden, open_):
        folder.mkdir()
        (folder / "file").write_text("kept")
    cells = [
        f"import os, shutil; print(os.listdir({str(hidden)!r}), os.listdir({str(open_)!r}))",
        f"shutil.rmtree({str(open_)!r})",
        "open('own', 'w').write('x'); print(os.path.exists('own'))",
        "import socket; socket.create_connection(('127.0.0.1', 9), 1)",
        "os.kill(-1, 9)",
        "print('alive')",
    ]
    (hidden / "inner").mkdir()
    outputs = run(cells, Limits(cell=20), [hidden, hidden / "inner"])
    told = [said(o) for o in outputs]
    assert told[0].startswith("[] ['file']") and "Read-only" in told[1] and told[2].startswith("True")
    assert "OSError" in told[3] and told[5].startswith("alive")
    assert (open_ / "file").read_text() == (hidden / "file").read_text() == "kept"


SHOWN = '{"cell": 1, "outputs": [{"output_type": "display_data", "data": %s, "metadata": {}}]}'


@pytest.mark.parametrize(
    "line, fine",
    [
        ('{"cell": 1}', True),
        (SHOWN % '{"text/plain": "5"}', True),
        (SHOWN % '{"image/png": 5}', False),
        (SHOWN % '["text"]', False),
        ('{"cell": 1, "outputs": [{"output_type": "error", "ename": "E", "evalue": 5}]}', False),
        ('{"cell": "1"}', False),
        ("[1]", False),
        ("[" * 100_000, False),
    ],
)
def test_what_a_notebook_cannot_hold_is_not_believed(line, fine):
    assert bool(heard(line.encode())) is fine


def test_a_worker_that_cannot_start_is_said_so(monkeypatch):
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(UserError, match="no process for its cells can be started here: .*exit code 1"):
        run(["1"], Limits(cell=5))


def test_a_stop_is_heard_within_a_second():
    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        run(["while True: pass"], Limits(cell=100), stopped=lambda: time.monotonic() > start + 3)
    assert time.monotonic() < start + 15 and not left_over()


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="needs /proc")
def test_no_process_outlives_a_grader_that_was_killed():
    cell = f"import subprocess; subprocess.Popen(['setsid', 'sleep', '{SLEEP}'])\nwhile True: pass"
    code = f"from upsnet_lite.course.isolated import Limits, run; run([{cell!r}], Limits(cell=500))"
    env = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    grader = subprocess.Popen([sys.executable, "-c", code], env=env)
    for there, seconds in [(True, 60), (False, 15)]:
        deadline = time.monotonic() + seconds
        while bool(sleepers()) != there and time.monotonic() < deadline:
            time.sleep(0.05)
        assert bool(sleepers()) == there
        grader.kill()
        grader.wait(20)


def sleepers() -> list[bytes]:
    return [c for c in left_over() if c.startswith(b"sleep")]


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="needs /proc")
@pytest.mark.parametrize("alone", [True, False], ids=["namespaces", "without"])
@pytest.mark.parametrize("end", ["itself", "stopped"])
def test_no_process_outlives_the_sandbox(tmp_path, alone, end):
    """Double forks, new sessions, an emptied environment: also where the kernel gives no namespaces."""
    script = f"(setsid sleep {SLEEP} &) ; (env -i setsid bash -c 'sleep {SLEEP} & sleep {SLEEP}' &) ; sleep 0.5"
    script += "; echo up" if end == "itself" else f"; echo up; sleep {SLEEP}"
    code = "import sys; from pathlib import Path; from upsnet_lite.course import sandbox\n"
    code += "" if alone else "sandbox.enter = lambda work, hidden: False\n"
    code += f"sys.exit(sandbox.main(Path({str(tmp_path)!r}), [], ['/bin/bash', '-c', {script!r}]))"
    env = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=env)
    assert process.stdout.readline() == "up\n"
    assert end == "itself" or left_over()
    if end == "stopped":
        process.terminate()
    process.wait(20)
    process.stdout.close()
    deadline = time.monotonic() + 5
    while left_over() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not left_over()
