"""Activations computed twice: the same losses, gradients and statistics to the bit, and less kept between."""

import copy

import pytest
import torch

from upsnet_lite.datasets.coco_panoptic import CocoPanoptic
from upsnet_lite.datasets.transforms import collate
from upsnet_lite.engine.memory import checkpoint_activations, enough_memory
from upsnet_lite.files import UserError
from upsnet_lite.model import UPSNet

SMALL = dict(min_size=64, max_size=64, widths=(8, 16, 16, 16), fpn_channels=16, semantic_widths=(16, 16), box_hidden=16)


def step(model: UPSNet, batch: tuple) -> dict:
    torch.manual_seed(1)
    losses = model(*batch)
    sum(losses.values()).backward()
    return losses


def kept_bytes(model: UPSNet) -> int:
    """What autograd keeps of one image from the way to X, parameters not counted."""
    parameters = {p.untyped_storage().data_ptr() for p in model.parameters()}
    kept: dict[int, torch.UntypedStorage] = {}  # holding them, so that no other gets their address

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        x = model.semantic_head(model.backbone(torch.rand(1, 3, 64, 64)))
    assert x.requires_grad
    return sum(storage.nbytes() for address, storage in kept.items() if address not in parameters)


@pytest.mark.parametrize("overrides", [dict(norm="batch"), dict(norm="group"), dict(norm="frozen", frozen_stages=2)])
def test_gradients_and_statistics_are_the_same_and_less_is_kept(shapes_root, overrides):
    dataset = CocoPanoptic(shapes_root, "train")
    batch = collate([dataset[0], dataset[1]])
    torch.manual_seed(0)
    sizes = dataset.categories.num_stuff, dataset.categories.num_thing
    plain = UPSNet.from_preset("tiny", *sizes, dataset.categories, **SMALL | overrides)
    thrifty = copy.deepcopy(plain)
    checkpoint_activations(thrifty)
    losses, again = step(plain, batch), step(thrifty, batch)
    assert all(torch.equal(losses[name], again[name]) for name in losses)
    for (name, a), (same, b) in zip(plain.named_parameters(), thrifty.named_parameters(), strict=True):
        assert name == same and (a.grad is None) == (b.grad is None)
        assert a.grad is None or torch.equal(a.grad, b.grad), name
    before, after = plain.state_dict(), thrifty.state_dict()
    assert list(before) == list(after), "a checkpoint does not show how it was trained"
    assert all(torch.equal(before[name], after[name]) for name in before), "norms counted the batch once"
    assert kept_bytes(thrifty) < 0.5 * kept_bytes(plain)


def test_an_exhausted_device_is_one_line():
    with pytest.raises(UserError, match="too little memory.*--checkpoint-activations") as caught, enough_memory():
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB")
    assert "\n" not in str(caught.value)
