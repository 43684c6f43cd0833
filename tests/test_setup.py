"""The set-up: one list of packages in three places, a Makefile that says what is missing and resumes what broke off."""

import os
import re
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

from upsnet_lite import environment

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # comes with pytest

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CONDA_NAMES = {"pytorch": "torch"}


def pinned(lines) -> dict[str, str]:
    return {CONDA_NAMES.get((r := Requirement(line)).name, r.name): str(r.specifier) for line in lines}


def test_conda_twin_names_the_same_packages_and_versions():
    lists = [PROJECT["dependencies"], *PROJECT["optional-dependencies"].values()]
    wanted = pinned(line for lines in lists for line in lines if not line.startswith("upsnet-lite["))
    entries = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    (by_pip,) = (entry["pip"] for entry in entries if isinstance(entry, dict))
    assert "-e ." in by_pip
    found = pinned([e for e in entries if isinstance(e, str)] + [e for e in by_pip if e != "-e ."])
    assert Requirement(f"python{found.pop('python')}").specifier.contains("3.10")
    found.pop("pip")
    assert found == wanted


def test_panopticapi_has_one_pin():
    for name in ("Makefile", "environment.yml"):
        assert set(re.findall(r"panopticapi-lite==[\d.]+", (ROOT / name).read_text())) == {environment.PANOPTICAPI}
    assert not any("panopticapi" in line for line in PROJECT["dependencies"]), "its metadata would drag numpy below 2"


def test_hosted_ci_covers_every_python_and_calls_make_test():
    job = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())["jobs"]["test"]
    assert [step["run"] for step in job["steps"] if "run" in step] == ["make test"]
    stated = [c.rsplit(" ", 1)[1] for c in PROJECT["classifiers"] if "Python :: 3." in c]
    assert job["strategy"]["matrix"]["python"] == stated
    assert re.search(r"^make test$", (ROOT / ".ci/run").read_text(), re.M)


def test_no_tracked_file_knows_a_registry_or_this_machine():
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git checkout")
    secret = re.compile("|".join(("/work" + "/", "/root" + "/", "file:" + "///", "index" + "-url", "pypi" + r"\.org")))
    for name in filter(None, listed.stdout.split("\0")):
        path = ROOT / name
        if path.is_file() and path.suffix not in {".png", ".jpg", ".safetensors"}:
            assert not (hit := secret.search(path.read_text())), f"{name}: {hit}"


# ---- the environment check -------------------------------------------------------------------------------------------


def test_every_package_of_the_tests_is_ok():
    packages = environment.check("test")
    assert not [str(p) for p in packages if p.problem]
    names = [p.name for p in packages]
    assert len(names) == len(set(names))
    assert {"torch", "jupyterlab", "pycocotools", "panopticapi-lite", "pytest"} <= set(names)


def test_check_says_what_to_do(tmp_path, monkeypatch):
    (tmp_path / "broken_one-1.5.dist-info").mkdir()
    (tmp_path / "broken_one-1.5.dist-info/METADATA").write_text("Name: broken-one\nVersion: 1.5\n")
    (tmp_path / "broken_one-1.5.dist-info/top_level.txt").write_text("broken_one\n")
    (tmp_path / "broken_one.py").write_text("raise RuntimeError('operator does not\\nexist')")
    monkeypatch.syspath_prepend(tmp_path)
    lines = ["numpy>=2.0", "no-such-package>=3", "numpy<1", "broken-one"]
    monkeypatch.setattr(environment, "requirements", lambda *extras: iter(lines))
    ok, missing, old, broken = map(str, environment.check())
    assert ok.startswith("OK   numpy")
    assert missing.startswith("FAIL no-such-package") and missing.endswith(
        "not installed: pip install 'no-such-package>=3'"
    )
    assert "should be <1: pip install 'numpy<1'" in old
    assert "does not import (operator does not exist)" in broken and "\n" not in broken


def test_a_project_that_was_never_installed_is_one_line(monkeypatch):
    def missing(*extras):
        raise metadata.PackageNotFoundError("upsnet-lite")

    monkeypatch.setattr(environment, "requirements", missing)
    (line,) = map(str, environment.check("lab"))
    assert line.startswith("FAIL upsnet-lite") and "make lab" in line


def test_unknown_extra_is_named():
    with pytest.raises(KeyError, match="no extra 'labb'; known are course, eval, lab, test"):
        list(environment.requirements("labb"))


# ---- the Makefile ----------------------------------------------------------------------------------------------------

TOOLS = ("make", "bash", "sh", "rm", "mkdir", "touch", "cat", "find")
# A Python that answers the Makefile's questions: VERSION_OK, VENV_OK and PIP_OK are exit codes.
FAKE = """#!/bin/sh
echo "$@" >> "$LOG"
case "$*" in
  *version_info*pip*|*"import pip"*) exit ${PIP_OK:-0} ;;
  *ensurepip*) exit ${VENV_OK:-0} ;;
  *version_info*) exit ${VERSION_OK:-0} ;;
  "-m venv"*) mkdir -p "$3/bin" && cp "$0" "$3/bin/python" ;;
  *"pip install"*) exit ${INSTALL_OK:-0} ;;
  --version) echo Python 3.12.0 ;;
esac
"""


class Project:
    """A folder with our Makefile, and a PATH with the bare tools and perhaps a python3."""

    def __init__(self, root: Path) -> None:
        self.root, self.bin, self.log = root / "project", root / "bin", root / "log"
        self.root.mkdir()
        self.bin.mkdir()
        for name in ("Makefile", "pyproject.toml"):
            shutil.copy(ROOT / name, self.root)
        for tool in (*TOOLS, "cp"):
            (self.bin / tool).symlink_to(shutil.which(tool))

    def python(self, name: str = "python3") -> None:
        (self.bin / name).write_text(FAKE)
        (self.bin / name).chmod(0o755)

    def make(self, *arguments: str, **answers: int) -> subprocess.CompletedProcess:
        env = {"PATH": str(self.bin), "LOG": str(self.log), **{k: str(v) for k, v in answers.items()}}
        return subprocess.run(["make", *arguments], cwd=self.root, env=env, capture_output=True, text=True, timeout=60)

    def calls(self) -> str:
        text = self.log.read_text() if self.log.exists() else ""
        self.log.unlink(missing_ok=True)
        return text


@pytest.fixture
def project(tmp_path: Path) -> Project:
    if any(shutil.which(tool) is None for tool in TOOLS):
        pytest.skip("needs make and the usual tools")
    return Project(tmp_path)


def only_line(result: subprocess.CompletedProcess) -> str:
    """What make wrote to stderr, less its own closing line."""
    assert result.returncode
    (line,) = (line for line in result.stderr.splitlines() if not line.startswith("make"))
    return line


def test_make_says_that_python_is_missing_or_too_old(project):
    assert "needs Python 3.10 or newer" in only_line(project.make("test"))
    project.python()
    assert "needs Python 3.10 or newer" in only_line(project.make("test", VERSION_OK=1))
    assert "python9 is not one" in only_line(project.make("test", "PYTHON=python9"))
    assert not (project.root / ".venv").exists()


def test_make_finds_a_python_that_is_not_called_python3(project):
    project.python("python3.11")
    assert project.make(".venv/.installed-lab").returncode == 0
    assert "-m venv .venv" in project.calls()


def test_make_says_that_venv_is_missing(project):
    project.python()
    assert "apt install python3-venv" in only_line(project.make("lab", VENV_OK=1))
    assert not (project.root / ".venv").exists()


def test_make_sets_up_once_and_again_when_pyproject_changes(project):
    project.python()
    assert project.make(".venv/.installed-test").returncode == 0
    calls = project.calls()
    assert "-e .[test]" in calls and f"--no-deps {environment.PANOPTICAPI}" in calls
    assert "-m upsnet_lite.environment test" in calls
    assert project.make(".venv/.installed-test").returncode == 0
    assert "pip install" not in project.calls()
    later = (project.root / ".venv/.installed-test").stat().st_mtime + 5
    os.utime(project.root / "pyproject.toml", (later, later))
    assert project.make(".venv/.installed-test").returncode == 0
    calls = project.calls()
    assert "pip install" in calls and "-m venv" not in calls


def test_make_resumes_an_install_that_broke_off(project):
    project.python()
    result = project.make(".venv/.installed-lab", INSTALL_OK=1)
    assert "type make again to resume" in only_line(result)
    assert "-m venv" in project.calls()
    assert project.make(".venv/.installed-lab").returncode == 0
    calls = project.calls()
    assert "pip install" in calls and "-m venv" not in calls, "what was already there should be kept"


@pytest.mark.parametrize("damage", ["unfinished", "dangling", "no pip"])
def test_make_replaces_a_venv_that_cannot_work(project, damage):
    project.python()
    assert project.make(".venv/.installed-lab").returncode == 0
    project.calls()
    python = project.root / ".venv/bin/python"
    if damage == "unfinished":
        (project.root / ".venv/.unfinished").touch()
    elif damage == "dangling":
        python.unlink()
        python.symlink_to("/nowhere/python3")
    assert project.make(".venv/.installed-lab", PIP_OK=int(damage == "no pip")).returncode == 0
    calls = project.calls()
    assert "-m venv .venv" in calls and "pip install" in calls
    assert not (project.root / ".venv/.unfinished").exists()


def test_make_clean_keeps_what_is_the_users(project):
    for path in (".venv/x", "runs/a/x", "data/shapes/x", "data/mine/x", "sub/__pycache__/x"):
        (project.root / path).parent.mkdir(parents=True)
        (project.root / path).touch()
    assert project.make("clean").returncode == 0
    left = {str(p.relative_to(project.root)) for p in project.root.rglob("*") if p.is_file()}
    assert left == {"Makefile", "pyproject.toml", "data/mine/x"}


def test_make_clean_and_set_up_in_one_go(project):
    project.python()
    assert project.make(".venv/.installed-test").returncode == 0
    project.calls()
    result = project.make("clean", ".venv/.installed-test")
    assert result.returncode == 0, result.stderr
    calls = project.calls()
    assert "-m venv .venv" in calls and "pip install" in calls
