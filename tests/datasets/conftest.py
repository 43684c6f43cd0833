"""A data set small enough to be written down: one image of 5 x 5 pixels per entry."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from upsnet_lite.datasets.ids import write_ids

CATEGORIES = [  # not COCO's, and stuff and things interleaved on purpose
    dict(id=7, name="ball", isthing=1, color=[1, 2, 3]),
    dict(id=3, name="sky", isthing=0, color=[4, 5, 6]),
    dict(id=5, name="box", isthing=1, color=[7, 8, 9]),
    dict(id=9, name="sand", isthing=0, color=[10, 11, 12]),
]

# 70000 = 112 + 17 * 256 + 1 * 65536: needs all three channels
IDS = np.array(
    [
        [70000, 70000, 70000, 70000, 0],
        [70000, 5, 5, 70000, 0],
        [70000, 5, 600, 600, 600],
        [40, 40, 600, 600, 600],
        [40, 40, 40, 8, 8],
    ]
)
SEGMENTS = [  # unsorted on purpose; 77 has no pixel
    dict(id=600, category_id=5, iscrowd=0, bbox=[2, 2, 3, 2], area=6),
    dict(id=70000, category_id=3, iscrowd=0, bbox=[0, 0, 4, 3], area=7),
    dict(id=5, category_id=7, iscrowd=0, bbox=[1, 1, 2, 2], area=3),
    dict(id=40, category_id=9, iscrowd=0, bbox=[0, 3, 3, 2], area=5),
    dict(id=8, category_id=7, iscrowd=1, bbox=[3, 4, 2, 1], area=2),
]


def put(root: Path, count: int = 1, split: str = "val", ids: np.ndarray = IDS, segments: list = SEGMENTS) -> Path:
    """Writes `count` equal images; PNG files, so that pixels survive exactly. Returns the JSON's path."""
    images, annotations = [], []
    (root / split).mkdir(parents=True)
    (root / f"annotations/panoptic_{split}").mkdir(parents=True)
    for n in range(1, count + 1):
        Image.fromarray(np.full((*ids.shape, 3), 51, np.uint8)).save(root / split / f"{n}.png")
        write_ids(root / f"annotations/panoptic_{split}/{n}.png", ids)
        images.append(dict(id=n, file_name=f"{n}.png", height=ids.shape[0], width=ids.shape[1]))
        annotations.append(dict(image_id=n, file_name=f"{n}.png", segments_info=json.loads(json.dumps(segments))))
    path = root / f"annotations/panoptic_{split}.json"
    path.write_text(json.dumps(dict(images=images, annotations=annotations, categories=CATEGORIES)))
    return path


def edit(path: Path, change) -> None:
    """Lets `change` alter the content of a JSON."""
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    put(tmp_path / "data")
    return tmp_path / "data"
