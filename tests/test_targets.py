"""Training targets, by hand on 5 x 5 maps."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from upsnet_lite.categories import IGNORE
from upsnet_lite.panoptic_head import y_mask
from upsnet_lite.targets import (
    downsample,
    kept_instances,
    mask_target,
    pad_stack,
    panoptic_target,
    roi_semantic_target,
)

N_STUFF = 2
VOID = IGNORE
SEMANTIC = torch.tensor(  # stuff 0 and 1, things 2 and 3; bottom left is a crowd of class 3, the corner is void
    [
        [0, 0, 0, 1, 1],
        [0, 2, 2, 3, 1],
        [0, 2, 2, 3, 1],
        [3, 3, 1, 2, 2],
        [3, 3, 1, 2, VOID],
    ]
)
MASKS = torch.zeros(3, 5, 5, dtype=torch.bool)
MASKS[0, 1:3, 1:3] = True
MASKS[1, 1:3, 3] = True
MASKS[2, 3, 3:] = MASKS[2, 4, 3] = True


def expected(instances: dict[int, int], unknown: int) -> torch.Tensor:
    """Stuff as it is, instance -> channel as said, every other thing pixel unknown."""
    target = torch.where(SEMANTIC >= N_STUFF, unknown, SEMANTIC)
    for instance, channel in instances.items():
        target = torch.where(MASKS[instance], channel, target)
    return target


def test_all_kept_by_hand() -> None:
    got = panoptic_target(SEMANTIC, MASKS, torch.arange(3), N_STUFF)
    assert got.tolist() == [
        [0, 0, 0, 1, 1],
        [0, 2, 2, 3, 1],
        [0, 2, 2, 3, 1],
        [5, 5, 1, 4, 4],
        [5, 5, 1, 4, VOID],
    ]
    assert got.dtype == torch.int64


def test_left_out_instances_and_crowds_are_unknown() -> None:
    got = panoptic_target(SEMANTIC, MASKS, torch.tensor([0, 2]), N_STUFF)
    assert torch.equal(got, expected({0: 2, 2: 3}, unknown=4))


def test_channels_follow_the_order_of_keep() -> None:
    got = panoptic_target(SEMANTIC, MASKS, torch.tensor([2, 0]), N_STUFF)
    assert torch.equal(got, expected({2: 2, 0: 3}, unknown=4))


def test_keep_as_a_boolean_mask() -> None:
    got = panoptic_target(SEMANTIC, MASKS, torch.tensor([True, False, True]), N_STUFF)
    assert torch.equal(got, expected({0: 2, 2: 3}, unknown=4))


def test_none_keeps_all_and_ignores_what_unknown_would_hold() -> None:
    got = panoptic_target(SEMANTIC, MASKS, None, N_STUFF)
    assert torch.equal(got, expected({0: 2, 1: 3, 2: 4}, unknown=IGNORE))


@pytest.mark.parametrize("keep", [torch.zeros(0, dtype=torch.int64), torch.zeros(3, dtype=torch.bool)])
def test_nothing_kept(keep) -> None:
    assert torch.equal(panoptic_target(SEMANTIC, MASKS, keep, N_STUFF), expected({}, unknown=2))


def test_no_instances_and_no_stuff() -> None:
    empty = MASKS[:0]
    assert torch.equal(panoptic_target(SEMANTIC, empty, torch.arange(0), N_STUFF), expected({}, unknown=2))
    assert torch.equal(panoptic_target(SEMANTIC, empty, None, N_STUFF), expected({}, unknown=IGNORE))
    things = panoptic_target(torch.where(SEMANTIC == VOID, VOID, 0), MASKS, torch.tensor([1]), 0)
    assert (things[MASKS[1]] == 0).all() and things[0, 0] == 1 and things[4, 4] == VOID


def test_inputs_stay_as_they_are() -> None:
    before = SEMANTIC.clone()
    panoptic_target(SEMANTIC, MASKS, torch.tensor([0]), N_STUFF)
    assert torch.equal(SEMANTIC, before)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 400), st.sampled_from([0.1, 0.5, 0.7, 0.9, 1.0]))
def test_kept_instances(count, share) -> None:
    kept = kept_instances(count, share)
    assert len(kept) == (max(1, round(count * share)) if count else 0)
    assert kept.tolist() == sorted(set(kept.tolist())) and all(0 <= k < count for k in kept.tolist())


def test_kept_instances_are_drawn_by_the_global_generator_and_all_come_up() -> None:
    torch.manual_seed(5)
    first = [kept_instances(10, 0.7).tolist() for _ in range(40)]
    torch.manual_seed(5)
    assert first == [kept_instances(10, 0.7).tolist() for _ in range(40)]
    assert len({tuple(f) for f in first}) > 10 and {i for f in first for i in f} == set(range(10))


def test_downsample_takes_the_pixel_next_to_the_cells_centre() -> None:
    ramp = torch.arange(64).view(8, 8)
    assert downsample(ramp, 4).tolist() == [[18, 22], [50, 54]]
    assert torch.equal(downsample(ramp, 1), ramp)
    assert torch.equal(downsample(torch.stack((ramp, -ramp)), 4)[1], -downsample(ramp, 4))
    assert downsample(ramp > 20, 4).dtype == torch.bool


# ------------------------------------------------------------------------------------------------------- RoI semantics


def test_roi_semantic_target_by_hand() -> None:
    """5 cells on 5 pixels read each; 2 cells on 5 pixels read the pixels under their centres, 1.25 and 3.75."""
    maps = torch.stack((SEMANTIC, SEMANTIC.T))
    whole = torch.tensor([[0.0, 0, 0, 5, 5], [1, 0, 0, 5, 5]])
    assert torch.equal(roi_semantic_target(maps, whole, 5), maps)
    assert roi_semantic_target(maps, whole[:1], 2).tolist() == [[[2, 3], [3, 2]]]
    assert roi_semantic_target(maps, torch.tensor([[0.0, 1, 1, 3, 3]])).unique().tolist() == [2]


def test_roi_semantic_target_stays_on_the_map() -> None:
    got = roi_semantic_target(SEMANTIC[None], torch.tensor([[0.0, -3, -3, 9, 9]]), 6)
    assert got[0, 0, 0] == SEMANTIC[0, 0] and got[0, -1, -1] == SEMANTIC[4, 4]
    assert roi_semantic_target(SEMANTIC[None], torch.zeros(0, 5)).shape == (0, 28, 28)


# --------------------------------------------------------------------------------------------------------------- masks


def test_mask_target_of_a_box_that_fits_is_all_ones() -> None:
    got = mask_target(MASKS, torch.tensor([[1.0, 1, 3, 3], [1, 1, 3, 3]]), torch.tensor([0, 1]))
    assert got.shape == (2, 28, 28) and got.dtype == torch.float32
    assert (got[0, 7:-7, 7:-7] == 1).all() and not got[1, :, :14].any()  # the neighbour begins at the right edge


def test_mask_target_samples_pixel_centres() -> None:
    """Two samples to a cell and axis: 2 cells on 2 pixels lie at -0.25, 0.25 | 0.75, 1.25 from the first centre."""
    mask = torch.zeros(1, 4, 4, dtype=torch.bool)
    mask[0, :, 2:] = True
    got = mask_target(mask, torch.tensor([[1.0, 1, 3, 3]]), torch.tensor([0]), size=2)
    assert got[0].tolist() == [[0.125, 0.875]] * 2


def test_mask_target_of_no_box() -> None:
    none = torch.zeros(0, dtype=torch.int64)
    assert mask_target(MASKS, torch.zeros(0, 4), none).shape == (0, 28, 28)
    assert mask_target(MASKS[:0], torch.zeros(0, 4), none).shape == (0, 28, 28)


@pytest.mark.parametrize("radius", [4, 7, 12])
@pytest.mark.parametrize("centre", [(15.0, 20.0), (16.5, 18.5), (20.25, 15.75)])
def test_a_mask_cut_out_and_pasted_back_lies_where_it_was(radius, centre) -> None:
    """target -> Y -> y_mask on discs: any offset of half a pixel would show as an IoU well below 0.97."""
    rows, columns = torch.meshgrid(torch.arange(40.0), torch.arange(40.0), indexing="ij")
    disc = ((rows - centre[0]) ** 2 + (columns - centre[1]) ** 2 <= radius**2)[None]
    y, x = disc[0].nonzero().unbind(1)
    box = torch.stack((x.min(), y.min(), x.max() + 1, y.max() + 1)).float()[None]
    pasted = y_mask(mask_target(disc, box, torch.tensor([0])) - 0.5, box, (40, 40)) > 0
    assert (pasted & disc).sum() / (pasted | disc).sum() > 0.97


def test_pad_stack_fills_with_ignore() -> None:
    got = pad_stack([torch.ones(2, 3, dtype=torch.int64), torch.zeros(3, 1, dtype=torch.int64)], (3, 4))
    i = IGNORE
    assert got.tolist() == [[[1, 1, 1, i], [1, 1, 1, i], [i, i, i, i]], [[0, i, i, i], [0, i, i, i], [0, i, i, i]]]
