"""Devices with little memory: activations computed twice instead of kept, and one line where it does not suffice."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import partial

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from ..deform_conv import DeformConv2d
from ..files import UserError
from ..model import UPSNet


def checkpoint_activations(model: UPSNet) -> None:
    """Of each residual block and each layer of the semantic head only the input is kept. The gradients stay the same.

    These hold nearly all of the memory: the maps of the residual blocks, and the sampled columns of the deformable
    convolutions, nine times their input. Names of parameters do not change, so neither do checkpoints.
    """
    stages = (stage for name, stage in model.backbone.body.items() if name.startswith("layer"))
    blocks = [block for stage in stages for block in stage]
    for layer in [*blocks, *(m for m in model.semantic_head.subnet if isinstance(m, DeformConv2d))]:
        contexts = partial(first_and_again, layer)
        layer.forward = partial(
            checkpoint, layer.forward, use_reentrant=False, preserve_rng_state=False, context_fn=contexts
        )


def first_and_again(layer: nn.Module) -> tuple:
    return nullcontext(), statistics_kept(layer)


@contextmanager
def statistics_kept(layer: nn.Module) -> Iterator[None]:
    """Inside, batch norms do not count the batch: they did so the first time."""
    norms = [m for m in layer.modules() if isinstance(m, _BatchNorm)]
    before = [(norm.momentum, norm.num_batches_tracked.clone()) for norm in norms]
    for norm in norms:
        norm.momentum = 0.0  # the share of the new batch
    try:
        yield
    finally:
        for norm, (momentum, count) in zip(norms, before, strict=True):
            norm.momentum = momentum
            norm.num_batches_tracked.copy_(count)


@contextmanager
def enough_memory() -> Iterator[None]:
    """Inside, a device that runs out of memory is one line that says what to do."""
    try:
        yield
    except torch.OutOfMemoryError:
        advice = "--accumulate 2, --checkpoint-activations, --precision bf16-mixed, or a smaller --batch-size"
        raise UserError(f"the device has too little memory for this; try {advice}") from None
