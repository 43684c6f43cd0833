"""Augmentation keeps image and target on each other and depends on (seed, epoch, index) alone."""

import copy

import torch

from upsnet_lite.datasets.coco_panoptic import CocoPanoptic, boxes_of
from upsnet_lite.datasets.transforms import augment, collate, flip, jitter_color, sample_generator


def same(a: dict, b: dict) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) if torch.is_tensor(a[k]) else a[k] == b[k] for k in a)


def test_flip_by_hand(root):
    image, target = CocoPanoptic(root, "val")[0]
    image[0] = torch.arange(5.0) / 5
    turned, after = flip(image, target)
    assert turned[0, 0].tolist() == image[0, 0].tolist()[::-1]
    assert after["boxes"].tolist() == [[2, 1, 4, 3], [0, 2, 3, 4]]
    assert after["semantic"][3].tolist() == [2, 2, 2, 1, 1]
    assert [s["bbox"] for s in after["segments_info"]][:2] == [[0, 2, 3, 2], [1, 0, 4, 3]]
    assert target["segments_info"][0]["bbox"] == [2, 2, 3, 2]  # the original stays


def test_flip_is_consistent_and_its_own_inverse(shapes_root):
    for image, target in CocoPanoptic(shapes_root, "val"):
        turned, after = flip(image, target)
        assert torch.equal(after["boxes"], boxes_of(after["masks"]))
        for segment in after["segments_info"]:
            rows, columns = torch.nonzero(after["panoptic"] == segment["id"], as_tuple=True)
            x, y = int(columns.min()), int(rows.min())
            assert segment["bbox"] == [x, y, int(columns.max()) + 1 - x, int(rows.max()) + 1 - y]
        back, again = flip(turned, after)
        assert torch.equal(back, image) and same(again, target)


def test_a_sample_depends_on_seed_epoch_and_index_alone(shapes_root):
    dataset = CocoPanoptic(shapes_root, "train")
    image, target = dataset[4]
    kept_image, kept_target = image.clone(), copy.deepcopy(target)
    first = augment(image, target, sample_generator(1, 2, 4))
    assert torch.equal(image, kept_image) and same(target, kept_target)  # inputs stay
    torch.rand(7)  # the global generator has no say
    second = augment(*dataset[4], sample_generator(1, 2, 4))
    assert torch.equal(first[0], second[0]) and same(first[1], second[1])
    others = [augment(image, target, sample_generator(*key))[0] for key in ((0, 2, 4), (1, 3, 4), (1, 2, 5))]
    assert not any(torch.equal(first[0], other) for other in others)


def test_half_of_the_samples_are_flipped(root):
    image, target = CocoPanoptic(root, "val")[0]
    turned = [
        not torch.equal(augment(image, target, sample_generator(0, 0, i))[1]["boxes"], target["boxes"])
        for i in range(400)
    ]
    assert 160 < sum(turned) < 240


def test_colours_change_within_their_bounds():
    image = torch.rand(3, 8, 8)
    for i in range(50):
        found = jitter_color(image, sample_generator(0, 0, i))
        assert found.min() >= 0 and found.max() <= 1
        assert not torch.equal(found, image)
    grey = torch.full((3, 4, 4), 0.5)  # neither contrast nor saturation can move it: brightness and channels only
    found = torch.stack([jitter_color(grey, sample_generator(0, 1, i)) for i in range(200)])
    assert 0.5 * 0.8 * 0.93 < found.min() < 0.46 and 0.54 < found.max() < 0.5 * 1.2 * 1.07
    torch.testing.assert_close(jitter_color(image, sample_generator(0, 0, 0), strength=0.0), image)


def test_collate_gives_lists(root):
    item = CocoPanoptic(root, "val")[0]
    images, targets = collate([item, item, item])
    assert len(images) == len(targets) == 3 and images[2] is item[0] and targets[0] is item[1]
