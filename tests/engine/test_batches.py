"""batches: every image once an epoch, the same stream after a resume, slices that partition the batch."""

import json
import math
from itertools import islice

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from upsnet_lite.config import preset
from upsnet_lite.engine.batches import Batches, generator, loader, shape_groups
from upsnet_lite.files import UserError
from upsnet_lite.preprocess import resized_size


def take(count: int, *arguments, **named) -> list[list[tuple[int, int]]]:
    return list(islice(Batches(*arguments, **named), count))


@given(length=st.integers(1, 12), images=st.integers(1, 15), seed=st.integers(0, 3))
def test_every_image_once_in_each_epoch(length, images, seed):
    epochs = 3
    stream = [place for batch in take(-(-epochs * length // images), length, images, seed) for place in batch]
    assert all(len(batch) == images for batch in take(3, length, images, seed))
    for epoch in range(epochs):
        part = stream[epoch * length : (epoch + 1) * length]
        assert sorted(part) == [(epoch, index) for index in range(length)]


@given(length=st.integers(1, 12), images=st.integers(1, 15), start=st.integers(0, 9))
def test_a_stream_that_starts_later_is_the_rest_of_the_whole(length, images, start):
    assert take(4, length, images, 0, start) == take(start + 4, length, images, 0)[start:]


@given(length=st.integers(1, 12), share=st.integers(1, 5), world=st.integers(1, 4))
def test_the_slices_of_all_processes_make_the_batch(length, share, world):
    whole = take(4, length, share * world, 5)
    slices = [take(4, length, share * world, 5, rank=rank, world=world) for rank in range(world)]
    assert [sum(parts, []) for parts in zip(*slices, strict=True)] == whole


def test_epochs_and_seeds_are_shuffled_differently():
    first, second = take(2, 50, 50, seed=0)
    other = take(1, 50, 50, seed=1)[0]
    orders = [[index for _, index in batch] for batch in (first, second, other)]
    assert orders[0] != orders[1] and orders[0] != orders[2] and orders[0] != list(range(50))


def test_close_seeds_give_unrelated_streams():
    seeds = [(a, b) for a in range(20) for b in range(20)]
    firsts = {float(torch.rand((), dtype=torch.float64, generator=generator(*s))) for s in seeds}
    assert len(firsts) == len(seeds), "(1, 2) and (2, 1) differ, too"


class Images(torch.utils.data.Dataset):
    """Image n is filled with n / 10; the last cannot be read."""

    def __len__(self):
        return 4

    def __getitem__(self, n):
        if n == 3:
            raise UserError("3.png cannot be read")
        boxes = torch.tensor([[0.0, 0.0, 1.0, 2.0]])
        return torch.full((3, 2, 4), n / 10), {"image_id": n, "boxes": boxes}


@pytest.mark.parametrize("workers", [0, 2])
def test_samples_are_the_same_in_any_process_and_after_any_start(workers):
    class Good(Images):
        def __len__(self):
            return 3

    whole = list(islice(loader(Good(), 2, 7, 0, True, 0), 5))
    later = list(islice(loader(Good(), 2, 7, 2, True, workers), 3))
    for (images, targets), (images_again, targets_again) in zip(whole[2:], later, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(images, images_again, strict=True))
        for a, b in zip(targets, targets_again, strict=True):
            assert a["image_id"] == b["image_id"] and torch.equal(a["boxes"], b["boxes"])
    assert any(not torch.equal(i, torch.full_like(i, t["image_id"] / 10)) for i, t in zip(*whole[0], strict=True))
    plain = list(islice(loader(Good(), 2, 7, 0, False, 0), 2))
    assert all(torch.equal(i, torch.full_like(i, t["image_id"] / 10)) for b in plain for i, t in zip(*b, strict=True))


@pytest.mark.parametrize("workers", [0, 1])
def test_a_file_that_cannot_be_read_is_named_in_one_line(workers):
    with pytest.raises(UserError) as caught:
        list(islice(loader(Images(), 4, 0, 0, True, workers), 1))
    assert str(caught.value) == "3.png cannot be read"


# ---- images of one shape together ------------------------------------------------------------------------------------

SHAPES = st.lists(st.integers(0, 3), min_size=1, max_size=14)


@given(groups=SHAPES, images=st.integers(1, 5), seed=st.integers(0, 3))
def test_grouped_epochs_hold_every_image_once_too(groups, images, seed):
    length = len(groups)
    batches = take(-(-3 * length // images), length, images, seed, groups=groups)
    stream = [place for batch in batches for place in batch]
    for epoch in range(3):
        assert sorted(stream[epoch * length : (epoch + 1) * length]) == [(epoch, n) for n in range(length)]


@given(groups=SHAPES, images=st.integers(1, 5), start=st.integers(0, 9))
def test_a_grouped_stream_that_starts_later_is_the_rest_of_the_whole(groups, images, start):
    length = len(groups)
    assert take(3, length, images, 0, start, groups=groups) == take(start + 3, length, images, 0, groups=groups)[start:]


@given(length=st.integers(1, 12), images=st.integers(1, 5), group=st.integers(-2, 2))
def test_images_of_one_shape_come_as_if_there_were_no_groups(length, images, group):
    assert take(6, length, images, 3, groups=[group] * length) == take(6, length, images, 3)


def test_most_batches_hold_one_shape():
    """Ninety landscapes, thirty portraits, five squares; batches of eight, an epoch of 125 ends within one."""
    groups = [1] * 90 + [-1] * 30 + [0] * 5
    batches = take(8 * 125 // 8, 125, 8, 0, groups=groups)
    alike = sum(len({groups[index] for _, index in batch}) == 1 for batch in batches)
    plain = sum(len({groups[index] for _, index in batch}) == 1 for batch in take(125, 125, 8, 0))
    assert alike >= 0.8 * len(batches) > 0.3 * len(batches) > plain
    kinds = ["".join(str(groups[index]) for _, index in batch) for batch in batches[:15]]
    assert kinds != sorted(kinds) and len(set(map(tuple, batches))) == len(batches), "the shapes come in any order"


def test_photographs_are_padded_less(coco128):
    """What the README says of four images a batch: 31 % of a batch is padding without groups, 11 % with them."""
    images = json.loads((coco128 / "annotations/panoptic_train2017.json").read_text())["images"]
    sizes = [resized_size(i["height"], i["width"], preset("resnet50", 53, 80)) for i in images]

    def padding(groups: list[int]) -> float:
        used = padded = 0
        for batch in take(250, len(images), 4, 0, groups=groups):
            height, width = (max(side) for side in zip(*(sizes[n] for _, n in batch), strict=True))
            used += sum(math.prod(sizes[n]) for _, n in batch)
            padded += 4 * -(-height // 32) * 32 * -(-width // 32) * 32
        return 100 * (1 - used / padded)

    assert (round(padding([])), round(padding(shape_groups(images)))) == (31, 11)


def test_groups_are_half_an_octave_wide():
    size = [(640, 480), (640, 427), (480, 640), (500, 500), (640, 360)]
    assert shape_groups([dict(width=w, height=h) for w, h in size]) == [1, 1, -1, 0, 2]
    assert shape_groups([dict(width=4, height=1), dict(width=4)]) == [0, 0], "an entry without a size: no groups at all"


@given(share=st.integers(1, 3), world=st.integers(1, 3), accumulate=st.integers(1, 3))
def test_the_parts_of_all_processes_make_the_batch(share, world, accumulate):
    images, groups = share * world * accumulate, [0, 1, 1, 0, 1, 2]
    whole = take(4, 6, images, 5, groups=groups)
    parts = [take(4 * accumulate, 6, images, 5, 0, accumulate, rank, world, groups) for rank in range(world)]
    for n, batch in enumerate(whole):
        assert sum((p for own in parts for p in own[n * accumulate : (n + 1) * accumulate]), []) == batch
