"""Speed: tables of contenders that are measured side by side in one run, with how far their results agree.

    deform      deform_conv2d, forward + backward      ours against torchvision's         goal: 5 times faster
    roi_align   roi_align, forward + backward          ours against torchvision's
    fusion      the winner of Z, per pixel             predict against building z         goal: 6 times faster
    import      a fresh process                        with upsnet_lite and without       goal: at most 0.3 s more
    iteration   one training step of `tiny`            its stages
    widgets     every control, 128 px, 20 instances    its answer                         goal: at most 150 ms

Contenders take turns and the median counts, so that a busy moment of the machine meets all of them. Everything runs on
the CPU: on a GPU the operators are torchvision's own.
"""

import os
import platform
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import date
from json import dumps
from pathlib import Path
from statistics import median

import torch
import torchvision
from torch import Tensor

from .deform_conv import deform_conv2d, roi_align
from .files import UserError, write_aside
from .panoptic_head import PanopticHead

Seconds = dict[str, float]


@dataclass(frozen=True)
class Result:
    """One table. seconds: median of each contender; figure: what they come to, held against the goal."""

    title: str
    seconds: Seconds
    figure: str
    value: float
    goal: str = ""
    met: bool | None = None
    agreement: dict[str, float] = field(default_factory=dict)  # 0 or a rounding error, or the comparison means nothing


def side_by_side(contenders: dict[str, Callable[[], object]], repeats: int) -> Seconds:
    """Median seconds of each; they take turns, after one turn that does not count."""
    taken = defaultdict(list)
    for _ in range(repeats + 1):
        for name, run in contenders.items():
            begun = time.perf_counter()
            run()
            taken[name].append(time.perf_counter() - begun)
    return {name: median(seconds[1:]) for name, seconds in taken.items()}


def faster(title: str, contenders: dict[str, Callable], repeats: int, agreement: Seconds, goal: float | None) -> Result:
    """The first contender's time over the last one's."""
    seconds = side_by_side(contenders, repeats)
    first, *_, last = seconds.values()
    ratio = first / last
    said = ("", None) if goal is None else (f">= {goal:g}", ratio >= goal)
    return Result(title, seconds, "times faster", ratio, *said, agreement)


# -------------------------------------------------------------------------------------------------- operators


def backwards(operator: Callable[..., Tensor], inputs: list[Tensor], direction: Tensor) -> list[Tensor]:
    """The output and, for every input that wants one, the gradient of <direction, output>."""
    out = operator(*inputs)
    return [out.detach(), *torch.autograd.grad(out, [i for i in inputs if i.requires_grad], direction)]


def largest_difference(a: list[Tensor], b: list[Tensor], names: tuple[str, ...]) -> dict[str, float]:
    parts = zip(names, a, b, strict=True)
    return {f"largest difference, {name}": float((x - y).abs().max()) for name, x, y in parts}


def deform(shape: tuple[int, int, int, int] = (4, 64, 32, 32), c_out: int = 64, repeats: int = 15) -> Result:
    """deform_conv2d, 3 x 3, with offsets of about two pixels."""
    torch.manual_seed(0)
    batch, channels, height, width = shape
    inputs = [
        torch.randn(shape),
        2 * torch.randn(batch, 18, height, width),
        torch.randn(c_out, channels, 3, 3) / (3 * channels**0.5),
        torch.randn(c_out),
    ]
    inputs = [i.requires_grad_() for i in inputs]
    direction = torch.randn(batch, c_out, height, width)

    def run(operator: Callable) -> list[Tensor]:
        return backwards(lambda *i: operator(*i, padding=1), inputs, direction)

    names = ("output", "gradient of x", "gradient of offset", "gradient of weight", "gradient of bias")
    agreement = largest_difference(run(torchvision.ops.deform_conv2d), run(deform_conv2d), names)
    contenders = {"torchvision": lambda: run(torchvision.ops.deform_conv2d), "upsnet_lite": lambda: run(deform_conv2d)}
    return faster(f"deform_conv2d {shape} -> {c_out}, forward + backward", contenders, repeats, agreement, 5)


def roi(
    shape: tuple[int, int, int, int] = (4, 64, 32, 32), rois: int = 192, size: int = 7, repeats: int = 15
) -> Result:
    """roi_align of boxes of 4 to 24 cells, 2 x 2 samples a bin."""
    torch.manual_seed(0)
    batch, _, height, width = shape
    x = torch.randn(shape).requires_grad_()
    corner = torch.rand(rois, 2) * torch.tensor([width, height]) * 0.75
    boxes = torch.cat((torch.randint(batch, (rois, 1)), corner, corner + 4 + 20 * torch.rand(rois, 2)), 1)
    direction = torch.randn(rois, shape[1], size, size)

    def run(operator: Callable) -> list[Tensor]:
        return backwards(lambda x: operator(x, boxes, size, 1.0, 2), [x], direction)

    agreement = largest_difference(run(torchvision.ops.roi_align), run(roi_align), ("output", "gradient of x"))
    contenders = {"torchvision": lambda: run(torchvision.ops.roi_align), "upsnet_lite": lambda: run(roi_align)}
    title = f"roi_align {shape}, {rois} RoIs to {size} x {size}, forward + backward"
    return faster(title, contenders, repeats, agreement, None)


def fusion(
    size: tuple[int, int] = (480, 640), stuff: int = 53, things: int = 80, instances: int = 100, repeats: int = 9
) -> Result:
    """The winning channel of Z: COCO's classes, boxes of 20 to 220 px, or half the map where it is smaller."""
    torch.manual_seed(0)
    height, width = size
    extent = torch.tensor([width, height])
    sides = 20 + torch.rand(instances, 2) * (torch.minimum(torch.tensor(220), extent / 2) - 20).clamp(min=0)
    corner = torch.rand(instances, 2) * (extent - sides).clamp(min=0)
    arguments = (
        torch.randn(stuff + things, height, width),
        torch.cat((corner, corner + sides), 1),
        torch.randint(things, (instances,)),
        2 * torch.randn(instances, 28, 28),
    )
    head = PanopticHead(stuff)

    def build() -> Tensor:
        with torch.no_grad():
            return head(*arguments).z.argmax(0)

    agreement = {"pixels that differ": float((build() != head.predict(*arguments)).sum())}
    contenders = {"z and its argmax": build, "predict": lambda: head.predict(*arguments)}
    title = f"fusion, {stuff} + {things} classes, {height} x {width}, {instances} instances"
    return faster(title, contenders, repeats, agreement, 6)


# ------------------------------------------------------------------------------------- the package and a step


def imports(repeats: int = 5) -> Result:
    """What `import upsnet_lite`, and using its UPSNet, cost above torch and torchvision."""
    base = "import torch, torchvision"
    statements = [base, f"{base}, upsnet_lite", f"{base}, upsnet_lite; upsnet_lite.UPSNet, upsnet_lite.load"]

    def run(statement: str) -> None:
        subprocess.run([sys.executable, "-c", statement], check=True, env=os.environ | {"PYTHONPATH": path})

    path = os.pathsep.join([str(Path(__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])])
    seconds = side_by_side({s: lambda s=s: run(s) for s in statements}, repeats)
    extra = seconds[statements[-1]] - seconds[base]
    return Result("import, fresh process", seconds, "seconds more, all used", extra, "<= 0.3", extra <= 0.3)


class Stopwatch:
    """Seconds by stage; a stage within another counts as its own only."""

    def __init__(self) -> None:
        self.seconds: Seconds = defaultdict(float)
        self.running: list[str] = []
        self.since = time.perf_counter()

    def switch(self) -> None:
        """Books the time since the last switch on the stage that runs."""
        before, self.since = self.since, time.perf_counter()
        if self.running:
            self.seconds[self.running[-1]] += self.since - before

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        self.switch()
        self.running.append(name)
        yield
        self.switch()
        self.running.pop()

    def watch(self, name: str, owner: object, method: str) -> None:
        """From now on, what `owner.method` takes counts as stage `name`."""
        setattr(owner, method, self.stage(name)(getattr(owner, method)))


def iteration(images: int = 4, size: int = 128, repeats: int = 15) -> Result:
    """One training step of `tiny` on drawn images, by stage. The mask head also serves the panoptic loss."""
    from .datasets.coco_panoptic import CocoPanoptic
    from .datasets.shapes import write_shapes
    from .model import UPSNet

    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as root:
        write_shapes(root, train=images, val=1, size=size)
        data = CocoPanoptic(root, "train")
        batch = [list(part) for part in zip(*(data[n] for n in range(images)), strict=True)]
    model = UPSNet.from_preset("tiny", data.categories.num_stuff, data.categories.num_thing).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    watch, head = Stopwatch(), model.instance_head
    for stage, owner, method in (
        ("backbone", model.backbone, "forward"),
        ("semantic", model.semantic_head, "forward"),
        ("semantic", model, "semantic_losses"),
        ("rpn", head, "propose"),
        ("rpn", model, "rpn_losses"),
        ("box", model, "box_and_mask_losses"),
        ("mask", head, "mask_logits"),
        ("panoptic", model, "panoptic_loss"),
    ):
        watch.watch(stage, owner, method)

    taken = []
    for _ in range(repeats + 1):
        watch.seconds.clear()
        with watch.stage("the rest"):
            losses = model(*batch)
            with watch.stage("backward"):
                sum(losses.values()).backward()
            with watch.stage("optimiser"):
                optimizer.step()
                optimizer.zero_grad()
        taken.append(dict(watch.seconds))
    seconds = {stage: median(one[stage] for one in taken[1:]) for stage in taken[0]}
    title = f"one iteration of tiny, {images} images of {size} px"
    return Result(title, seconds, "iterations a second", 1 / sum(seconds.values()))


def widgets(instances: int = 20, images: int = 32, repeats: int = 9) -> Result:
    """What the kernel takes to answer a move of each control."""
    from .viz.speed import answers

    seconds = answers(instances, images, repeats=repeats)
    slowest = 1000 * max(seconds.values())
    title = f"widgets, 128 px, {instances} instances"
    return Result(title, seconds, "slowest control, ms", slowest, "<= 150", slowest <= 150)


# ------------------------------------------------------------------------------------------------- the tables

BENCHMARKS = {
    "deform": deform,
    "roi_align": roi,
    "fusion": fusion,
    "import": imports,
    "iteration": iteration,
    "widgets": widgets,
}


def machine() -> dict[str, str]:
    """What a figure is worth nothing without."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        cpu = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        cpu = platform.processor() or platform.machine()
    return {
        "processor": cpu,
        "cores": f"{os.cpu_count()}, {torch.get_num_threads()} threads",
        "torch": f"{torch.__version__}, torchvision {torchvision.__version__}, Python {platform.python_version()}",
        "command": " ".join(["upsnet-lite", *sys.argv[1:]]),
        "date": date.today().isoformat(),
    }


def table(result: Result):
    """A rich table of one result: medians, each one's share, what they come to, and how far they agree."""
    from rich.table import Table
    from rich.text import Text

    whole = max(result.seconds.values()) if result.goal or result.agreement else sum(result.seconds.values())
    shown = Table(title=result.title, title_justify="left")
    for name, justify in (("", "left"), ("median", "right"), ("share", "right")):
        shown.add_column(name, justify=justify)
    for name, seconds in result.seconds.items():
        shown.add_row(Text(name), f"{1000 * seconds:.1f} ms", f"{seconds / whole:.0%}")
    shown.add_section()
    goal = "" if result.met is None else f"goal {result.goal}: {'met' if result.met else 'MISSED'}"
    shown.add_row(result.figure, f"{result.value:.2f}", goal)
    for name, value in result.agreement.items():
        shown.add_row(name, f"{value:.2g}", "")
    return shown


def main(only: str | None = None, json: Path | None = None) -> list[Result]:
    """Runs all benchmarks or `only` one, prints tables, writes them to `json`. UserError for an unknown name."""
    from rich.console import Console

    if only is not None and only not in BENCHMARKS:
        raise UserError(f"unknown benchmark {only!r}; choose one of {', '.join(BENCHMARKS)}")
    console, about, results = Console(), machine(), {}
    for name, value in about.items():
        console.print(f"{name:10} {value}", markup=False, highlight=False)
    for name in [only] if only else BENCHMARKS:
        with console.status(f"measuring {name}"):
            results[name] = BENCHMARKS[name]()
        console.print(table(results[name]))
    if json is not None:
        content = {"machine": about, "results": {name: asdict(result) for name, result in results.items()}}
        with write_aside(json) as aside:
            aside.write_text(dumps(content, indent=1) + "\n", encoding="utf-8")
    return list(results.values())
