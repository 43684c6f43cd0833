"""A training run on disk, written aside and renamed: what is there is whole. Tensors and plain values, no pickle."""

from pathlib import Path

import torch

from ..convert import are_tensors, torch_load
from ..files import UserError, write_aside

PARTS = {"model": dict, "optimizer": dict, "iteration": int, "seconds": float, "description": dict, "options": str}


def checkpoint_file(path: Path) -> Path:
    """The checkpoint meant by a run's folder or by the file itself."""
    return Path(path) / "checkpoint.pt" if Path(path).is_dir() else Path(path)


def write_checkpoint(out: Path, state: dict) -> None:
    with write_aside(out / "checkpoint.pt") as aside:
        torch.save(state, aside)


def read_checkpoint(path: Path) -> dict:
    """UserError where the file is missing, broken, or not a training checkpoint of ours."""
    path = checkpoint_file(path)
    try:
        state = torch_load(path)
    except FileNotFoundError:
        raise UserError(f"{path}: no such checkpoint; give the checkpoint.pt of a run, or its folder") from None
    except Exception:  # on damaged bytes the unpickler raises whatever its broken instructions lead to
        raise UserError(f"{path} is not a readable training checkpoint; give the checkpoint.pt of a run") from None
    whole = isinstance(state, dict) and all(isinstance(state.get(part), kind) for part, kind in PARTS.items())
    described = whole and all(isinstance(v, str) for v in state["description"].values())
    if not described or not are_tensors(state["model"]):
        raise UserError(f"{path} is not a training checkpoint of UPSNet-lite; give the checkpoint.pt of a run")
    return state
