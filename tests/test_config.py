"""What has the right type and still cannot be a network is refused in one line that names the field."""

import pytest

from upsnet_lite.config import PRESETS, preset


@pytest.mark.parametrize(
    "wrong",
    [
        dict(min_size=0), dict(fpn_channels=-4), dict(image_std=(1.0, 0.0, 1.0)), dict(widths=(8, 16)),
        dict(image_mean=(0.5, 0.5)), dict(anchor_sizes=(8, 16)), dict(mask_widths=()), dict(semantic_widths=()),
        dict(anchor_ratios=()), dict(deform_stages=(7,)), dict(frozen_stages=9), dict(keep_share=1.5),
        dict(rpn_nms=-0.1), dict(rpn_fg_iou=0.2), dict(stuff_area=-1),
    ],
    ids=str,
)  # fmt: skip
def test_a_value_without_sense(wrong):
    (name,) = wrong
    with pytest.raises(ValueError, match=rf"^{name}=.*: needs ") as error:
        preset("tiny", 3, 2, **wrong)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", PRESETS)
def test_the_ends_of_the_ranges_are_fine(name):
    preset(name, 0, 1, keep_share=1.0, rpn_nms=0.0, rpn_fg_iou=0.3, rpn_bg_iou=0.3, stuff_area=0, frozen_stages=5)
