"""Shared by all tests: shapes in signatures are checked at run time, threads are few, data sets are fixtures."""

from pathlib import Path

from jaxtyping import install_import_hook

install_import_hook("upsnet_lite", "typecheck.checked")  # before anything imports upsnet_lite

import pytest  # noqa: E402
import torch  # noqa: E402

ROOT = Path(__file__).parents[1]
torch.set_num_threads(min(2, torch.get_num_threads()))  # small tensors: more threads cost more than they bring


@pytest.fixture(scope="session")
def coco128() -> Path:
    """150 real COCO images with panoptic annotations, in COCO's layout."""
    path = ROOT.parent / "shared" / "coco128"
    if not path.is_dir():
        pytest.skip("needs ../shared/coco128, which is not here")
    return path


@pytest.fixture(scope="session")
def shapes_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small drawn data set: 12 images in "train", 6 in "val", 96 px. Read it, do not write into it."""
    from upsnet_lite.datasets.shapes import write_shapes

    root = tmp_path_factory.mktemp("shapes")
    write_shapes(root, train=12, val=6, size=96, seed=3)
    return root
