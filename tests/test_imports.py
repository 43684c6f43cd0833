"""Who may import whom (DESIGN), and what `import upsnet_lite` costs."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "upsnet_lite"
FILES = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
}
CORE_PACKAGES = {"torch", "torchvision", "numpy", "PIL", "jaxtyping"}
EQUATIONS = ("boxes", "panoptic_head", "segments", "targets", "losses", "panoptic_quality", "deform_conv")
ALSO = {
    "weights": {"engine.checkpoint"},  # a run's checkpoint can be loaded as a model
}
TOP = ("viz", "course", "cli", "cli_data", "terminal", "__main__", "bench")  # nothing below imports these
HEAVY = """
    lightning_fabric lightning safetensors typer rich tqdm matplotlib IPython ipywidgets ipykernel anywidget
    jupyterlab pycocotools panopticapi scipy pandas tensorboard nbgrader beartype hypothesis
""".split()  # noqa: SIM905


def imports(module: str) -> Iterator[tuple[str, bool]]:
    """(dotted name, True at the top level) for each import of a module; names of the project start with a dot."""
    path = FILES[module]
    package = module.split(".") if path.name == "__init__.py" and module != "__init__" else module.split(".")[:-1]

    def visit(node: ast.AST, top: bool) -> Iterator[tuple[str, bool]]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                yield from ((alias.name, top) for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                base = (child.module or "").split(".") if child.module else []
                if child.level:
                    base = ["upsnet_lite", *package[: len(package) - child.level + 1], *base]
                yield ".".join(base), top
                yield from ((".".join([*base, a.name]), top) for a in child.names if base[0] == "upsnet_lite")
            yield from visit(child, top and not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef))

    for name, top in visit(ast.parse(path.read_text(encoding="utf-8")), True):
        yield (name.removeprefix("upsnet_lite") or ".", top) if name.split(".")[0] == "upsnet_lite" else (name, top)


def project_imports(module: str) -> set[str]:
    """Modules of the project that a module imports, anywhere in it."""
    names = {name.strip(".") for name, _ in imports(module) if name.startswith(".")}
    return {name for name in names if name in FILES and name != "__init__"}


def third_party(module: str, top_level_only: bool) -> set[str]:
    roots = {
        name.split(".")[0] for name, top in imports(module) if not name.startswith(".") and (top or not top_level_only)
    }
    return roots - set(sys.stdlib_module_names)


def layer(module: str) -> str:
    return module.split(".")[0]


def test_the_parser_sees_what_it_should():
    assert "config" in project_imports("backbone") and "torch" in third_party("backbone", True)
    assert "datasets.shapes" in project_imports("cli_data"), "imports inside functions count, too"
    assert "rich" in third_party("terminal", False) - third_party("terminal", True)


@pytest.mark.parametrize("module", EQUATIONS)
def test_equations_stand_on_torch_alone(module):
    assert project_imports(module) <= {"boxes", "categories", "config"}
    assert third_party(module, False) <= {"torch", "torchvision", "jaxtyping"}


@pytest.mark.parametrize("module", [m for m in FILES if layer(m) not in TOP])
def test_nothing_below_imports_what_sits_on_top(module):
    assert not {m for m in project_imports(module) if layer(m) in TOP}


@pytest.mark.parametrize("module", [m for m in FILES if layer(m) == "datasets"])
def test_datasets_know_no_model(module):
    assert {layer(m) for m in project_imports(module)} <= {"categories", "config", "files", "datasets"}


STAGES = [m for m in FILES if layer(m) not in (*TOP, "datasets", "engine", "environment", "__init__")]


@pytest.mark.parametrize("module", STAGES)
def test_the_network_knows_neither_data_nor_engine(module):
    upwards = {m for m in project_imports(module) if layer(m) in ("datasets", "engine", "environment")}
    assert upwards <= ALSO.get(module, set())


@pytest.mark.parametrize("module", [*STAGES, *(m for m in FILES if layer(m) == "datasets")])
def test_the_core_needs_five_packages(module):
    assert third_party(module, True) <= CORE_PACKAGES


@pytest.mark.parametrize("module", [m for m in FILES if not m.startswith("viz")])
def test_pictures_and_notebooks_are_imported_where_they_are_used(module):
    assert not third_party(module, True) & {
        "matplotlib",
        "IPython",
        "ipywidgets",
        "anywidget",
        "pycocotools",
        "panopticapi",
    }


def fresh(code: str, *arguments: str) -> str:
    """Runs code in a new interpreter; returns what it printed."""
    result = subprocess.run([sys.executable, "-c", code, *arguments], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def test_import_costs_torch_and_torchvision_and_no_more():
    loaded = f"[m for m in {HEAVY} if m in sys.modules]"
    assert fresh("import sys, upsnet_lite; print('torch' in sys.modules)") == "False"
    code = (
        f"import sys, torch, torchvision; before = {loaded}; import upsnet_lite; upsnet_lite.UPSNet; upsnet_lite.load; "
    )
    assert fresh(code + f"print([m for m in {loaded} if m not in before])") == "[]"


def test_command_line_starts_without_torch():
    assert fresh("import sys, upsnet_lite.cli; print('torch' in sys.modules)") == "False"


def test_names_of_the_package():
    assert fresh("import upsnet_lite as u; print(*u.presets())") == "tiny resnet50 resnet101_dcn"
    assert fresh("import upsnet_lite as u; print({'UPSNet', 'load', 'presets'} <= set(dir(u)))") == "True"
    assert "no attribute 'UPSnet'" in fresh(
        "import upsnet_lite as u\ntry: u.UPSnet\nexcept AttributeError as e: print(e)"
    )


ONLY_THE_CORE = """
import sys
from importlib.machinery import PathFinder
class Hide(PathFinder):  # as if the packages were not installed
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.split(".")[0] in sys.argv[2:] else super().find_spec(name, path, target)
sys.meta_path = [Hide if finder is PathFinder else finder for finder in sys.meta_path]
import torch
from upsnet_lite import UPSNet
from upsnet_lite.datasets.coco_panoptic import CocoPanoptic
from upsnet_lite.datasets.shapes import write_shapes
torch.set_num_threads(1)
write_shapes(sys.argv[1], train=2, val=1, size=96)
data = CocoPanoptic(sys.argv[1], "train")
images, targets = map(list, zip(data[0], data[1]))
model = UPSNet.from_preset("tiny", data.categories.num_stuff, data.categories.num_thing)
losses = model(images, targets)
sum(losses.values()).backward()
result, = model.eval()(images[:1])
print(len(losses), tuple(result["panoptic"].shape))
"""


def test_training_and_prediction_work_with_five_packages(tmp_path):
    assert fresh(ONLY_THE_CORE, str(tmp_path / "shapes"), *HEAVY) == "8 (96, 96)"
