"""Weights on disk: safetensors with the configuration and the categories beside the tensors, so a file is a model."""

import json
from dataclasses import asdict, fields
from pathlib import Path

import torch
from torch import Tensor

from .categories import Categories
from .config import Config, LossWeights
from .convert import PUBLISHED, from_imagenet, from_torchvision_maskrcnn, from_upsnet_release, read_state
from .files import UserError, write_aside
from .model import UPSNet

__all__ = ["from_torchvision_maskrcnn", "from_upsnet_release", "initial", "load", "save", "shipped"]

SHIPPED = Path(__file__).parent / "models"


def shipped() -> list[str]:
    """Names of the models that come with the package."""
    return sorted(p.stem for p in SHIPPED.glob("*.safetensors"))


def describe(model: UPSNet) -> dict[str, str]:
    """What a file must say of a network so that it can be built again."""
    return {"config": json.dumps(asdict(model.config)), "categories": json.dumps(model.categories.to_json())}


def build(description: dict[str, str]) -> UPSNet:
    """The untrained network that `describe` described. Raises KeyError, TypeError or ValueError where it cannot be."""
    found = json.loads(description["config"])
    known = {f.name for f in fields(Config)}
    if set(found) - known:
        raise ValueError(f"unknown option {sorted(set(found) - known)[0]!r}")
    found["weights"] = LossWeights(**found["weights"])
    values = {name: tuple(v) if isinstance(v, list) else v for name, v in found.items()}
    model = UPSNet(Config(**values), Categories.from_json(json.loads(description["categories"])))
    return model.to(memory_format=torch.channels_last)


def save(model: UPSNet, path: str | Path, half: bool = False, notes: dict[str, str] | None = None) -> None:
    """Writes a model file, aside first. `half` stores float16, which halves the file; `notes` go into its header."""
    from safetensors.torch import save_file

    tensors = {name: t.detach().cpu().contiguous() for name, t in model.state_dict().items()}
    if half:
        tensors = {name: t.half() if t.is_floating_point() else t for name, t in tensors.items()}
    with write_aside(Path(path)) as aside:
        save_file(tensors, aside, metadata=describe(model) | (notes or {}))
        aside.chmod(0o644)  # safetensors makes files that only their owner reads


def find(path_or_name: str | Path) -> Path:
    """The file meant by a path, a training run's folder or a shipped name; UserError where there is none."""
    path = Path(path_or_name)
    if path.is_dir():  # a run that was interrupted has only its checkpoint
        whole, checkpoint = path / "model.safetensors", path / "checkpoint.pt"
        path = whole if whole.is_file() else checkpoint
    if path.is_file():
        return path
    if (SHIPPED / f"{path_or_name}.safetensors").is_file() and Path(path_or_name).name == str(path_or_name):
        return SHIPPED / f"{path_or_name}.safetensors"
    names = ", ".join(shipped()) or "none"
    raise UserError(
        f"{path_or_name}: no such checkpoint; give a .safetensors or .pt file, a run's folder or a name ({names})"
    )


def read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and header of a .safetensors file, or of a training checkpoint (.pt, tensors only, no pickle)."""
    if path.suffix == ".pt":
        from .engine.checkpoint import read_checkpoint

        found = read_checkpoint(path)
        return found["model"], found["description"]
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path} is not a readable safetensors file ({error}); copy or download it again") from None


def load(path_or_name: str | Path) -> UPSNet:
    """A model in eval mode on the CPU: `load("tiny-shapes")`, a file or a training run's folder.

    A .pth file is taken for a checkpoint that UPSNet's authors released. Raises UserError where there is no such file,
    or where it is broken or neither of these.
    """
    path = find(path_or_name)
    if path.suffix == ".pth":
        return from_upsnet_release(path)
    tensors, description = read(path)
    try:
        model = build(description)
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RuntimeError) as error:
        error = str(error).splitlines()[0] if isinstance(error, RuntimeError) else repr(error)
        raise UserError(f"{path} does not describe a UPSNet-lite model ({error}); is it another program's?") from None
    try:
        model.load_state_dict({name: t.float() if t.is_floating_point() else t for name, t in tensors.items()})
    except RuntimeError as error:
        first = str(error).split("\n\t")[1:2] or [str(error)]
        raise UserError(f"{path} does not hold the weights it describes: {first[0].strip()}") from None
    return model.eval()


def initial(source: str, preset_name: str, categories: Categories) -> UPSNet:
    """The network that `train --init SOURCE` starts from, on the CPU, for a data set of these categories.

    "torchvision"    its COCO Mask R-CNN: all but the semantic head, things matched by name     --preset resnet50
    "imagenet"       its ImageNet classifier: the residual body alone                           resnet50, resnet101_dcn
    a .pth file      either of these, saved by torchvision, or a released UPSNet
    else             as `load`: our own file, run or shipped name, whatever the preset

    Raises UserError where the source does not fit the preset, or is neither here nor to be downloaded.
    """
    if source == "torchvision":
        need(preset_name, "resnet50", "torchvision's Mask R-CNN")
        return from_torchvision_maskrcnn(PUBLISHED["maskrcnn"], categories)
    if source == "imagenet":
        return from_imagenet(None, preset_name, categories)
    path = find(source)
    if path.suffix != ".pth":
        return load(path)
    state = read_state(path)
    if "layer1.0.conv1.weight" in state:
        return from_imagenet(state, preset_name, categories)
    if "rpn.head.bbox_pred.weight" in state:
        need(preset_name, "resnet50", f"{path}, a Mask R-CNN of torchvision,")
        return from_torchvision_maskrcnn(state, categories)
    return from_upsnet_release(path)


def need(preset_name: str, wanted: str, what: str) -> None:
    if preset_name != wanted:
        raise UserError(f"{what} fits --preset {wanted}, not {preset_name}")
