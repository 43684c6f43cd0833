"""Other projects' weights -> UPSNet. Names are facts; the tables say which became which and what stays different.

torchvision   Mask R-CNN v1 (ResNet-50 FPN): everything but the semantic head, which starts fresh
              ResNet classifiers (ImageNet): the residual body alone
UPSNet        the checkpoints its authors released: the whole network

A reader that finds an entry it does not know, or lacks one, raises UserError: half-filled networks train silently.
"""

import contextlib
import http.client
import re
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor
from torchvision.models import ResNet50_Weights, ResNet101_Weights
from torchvision.models.detection import MaskRCNN_ResNet50_FPN_Weights

from .categories import Categories
from .config import LossWeights, preset
from .files import UserError
from .known_categories import CITYSCAPES, COCO
from .model import UPSNet

State = dict[str, Tensor]
HEADS = "instance_head.roi_heads"
FROZEN_EPS = 1e-5  # of FrozenBatchNorm2d
PUBLISHED = {
    "maskrcnn": MaskRCNN_ResNet50_FPN_Weights.COCO_V1,
    "resnet50": ResNet50_Weights.IMAGENET1K_V1,  # V1: the recipe that the paper's ImageNet weights follow
    "resnet101": ResNet101_Weights.IMAGENET1K_V1,
}

# ------------------------------------------------------------------------------------------------------------ reading


def published(weights) -> State:
    """The state dict of torchvision's published weights, from torch's cache or the network. UserError in one line."""
    file = Path(torch.hub.get_dir()) / "checkpoints" / weights.url.rsplit("/", 1)[1]
    if file.is_file():
        return read_state(file)
    try:
        with contextlib.redirect_stdout(sys.stderr):  # torch announces the download
            return torch.hub.load_state_dict_from_url(
                weights.url, map_location="cpu", progress=sys.stderr.isatty(), check_hash=True, weights_only=True
            )
    except (OSError, http.client.HTTPException, RuntimeError) as error:
        reason = getattr(error, "reason", None) or error
        raise UserError(
            f"{file.name} is not at {file}, where torch looks for it, and could not be downloaded ({reason}); "
            f"copy it there from {weights.url}, or name a file of your own with --init FILE"
        ) from None


def torch_load(path: str | Path) -> object:
    """What torch.save wrote, read without running code; torch's warning about other pickles would say it twice."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.load(path, map_location="cpu", weights_only=True)


def are_tensors(state: object) -> bool:
    """Whether it is a state dict."""
    return isinstance(state, dict) and all(isinstance(n, str) and isinstance(t, Tensor) for n, t in state.items())


def read_state(path: str | Path) -> State:
    """The tensors of a .pth file, read without running code (weights_only); UserError where that cannot be."""
    try:
        state = torch_load(path)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except Exception:  # on damaged bytes the unpickler raises whatever its broken instructions lead to
        raise UserError(f"{path} is not a readable file of weights; copy or download it again") from None
    if not are_tensors(state):
        raise UserError(f"{path} holds more than a state dict; save its tensors alone, torch.save(model.state_dict())")
    return {name.removeprefix("module."): t for name, t in state.items()}


def fill(model: UPSNet, state: State, what: str, fresh: str = " ") -> UPSNet:
    """`state` into `model`; UserError unless every entry fits and all but the `fresh` modules are set."""
    try:
        missing, unexpected = model.load_state_dict(state, strict=False)
    except RuntimeError as error:
        raise UserError(f"{what} does not fit: {str(error).splitlines()[1].strip()}") from None
    missing = [name for name in missing if not name.startswith(fresh)]
    if missing or unexpected:
        raise UserError(f"{what} does not fit: it {'lacks' if missing else 'has also'} {(missing or unexpected)[0]}")
    return model


# -------------------------------------------------------------------------------------------------------- torchvision


def from_torchvision_maskrcnn(
    source: Mapping[str, Tensor] | MaskRCNN_ResNet50_FPN_Weights,
    categories: Categories = COCO,
    eps: float | None = None,
    **overrides,
) -> UPSNet:
    """torchvision's COCO Mask R-CNN (maskrcnn_resnet50_fpn, 91 classes) as the `resnet50` preset.

    | torchvision                        | UPSNet                                                          |
    |------------------------------------|-----------------------------------------------------------------|
    | backbone.body.*, backbone.fpn.*    | the same; no pooled context on P5 (fpn_gap=False)               |
    | rpn.*, roi_heads.*                 | instance_head.rpn.*, instance_head.roi_heads.*                  |
    | row id of cls_score, bbox_pred     | row C + 1 of the thing with this COCO name; background stays 0  |
    | row id of mask_fcn_logits          | row C: a mask per class (mask_agnostic=False)                   |
    | —                                  | semantic_head.*: fresh; things that COCO lacks: fresh rows      |

    Boxes, labels, scores and mask probabilities are torchvision's, but for its ten classes without a name ("N/A"):
    they are dropped, so what little probability training left them goes to the others.
    `eps` of the source's norms: None takes 0 where they were frozen, as torchvision does for the weights it publishes,
    and 1e-5 where they counted batches. It is absorbed into the norm's weight, since ours is 1e-5.
    Raises UserError for v2: its box head (four convolutions, one layer), its RPN (two convolutions) and its norms
    in FPN and heads are another network, not other names. Raises TypeError for an unknown override.
    """
    state = dict(source) if isinstance(source, Mapping) else published(source)
    if "roi_heads.box_head.0.0.weight" in state:
        raise UserError("Mask R-CNN v2 has other heads than UPSNet; give maskrcnn_resnet50_fpn (v1)")
    rows = state.get("roi_heads.box_predictor.cls_score.weight")
    if rows is None or len(rows) != 91:
        found = "no box predictor" if rows is None else f"{len(rows)} classes"
        raise UserError(f"a Mask R-CNN of torchvision with COCO's 91 classes is needed, this one has {found}")
    overrides = dict(fpn_gap=False, mask_agnostic=False) | overrides
    model = UPSNet.from_preset("resnet50", categories.num_stuff, categories.num_thing, categories, **overrides)
    state = {f"{'' if n.startswith('backbone') else 'instance_head.'}{n}": t for n, t in absorb_eps(state, eps).items()}
    known = {c.name: c.id for c in COCO.things}
    ids = [known.get(c.name) for c in categories.things]
    parts = {
        "box_predictor.cls_score": [0, *ids],
        "box_predictor.bbox_pred": [0, *ids],
        "mask_predictor.mask_fcn_logits": ids,
    }
    for name in [f"{HEADS}.{part}.{kind}" for part in parts for kind in ("weight", "bias")]:
        rows_of = parts[name.removeprefix(HEADS + ".").rsplit(".", 1)[0]]
        state[name] = pick_rows(state[name], model.get_parameter(name), 91, rows_of)
    return fill(model, state, "Mask R-CNN", fresh="semantic_head.")


def absorb_eps(state: State, eps: float | None) -> State:
    """The same norms with FROZEN_EPS: weight / sqrt(var + eps) must not change. None: as from_torchvision_maskrcnn."""
    if eps is None:
        eps = FROZEN_EPS if any(name.endswith("num_batches_tracked") for name in state) else 0.0
    state = dict(state)
    for name in [n for n in state if n.endswith("running_var")] if eps != FROZEN_EPS else ():
        weight = name.replace("running_var", "weight")
        state[weight] = state[weight] * ((state[name] + FROZEN_EPS) / (state[name] + eps)).sqrt()
    return {n: t for n, t in state.items() if not n.endswith("num_batches_tracked")}


def pick_rows(old: Tensor, fresh: Tensor, classes: int, ids: list[int | None]) -> Tensor:
    """Row `ids[n]` of `old` becomes row n; None keeps the fresh one. A class may have several rows (box deltas: 4)."""
    old, fresh = old.unflatten(0, (classes, -1)), fresh.detach().unflatten(0, (len(ids), -1))
    rows = [fresh[n] if i is None else old[i] for n, i in enumerate(ids)]
    return torch.stack(rows).flatten(0, 1)


def from_imagenet(source: Mapping[str, Tensor] | None, preset_name: str, categories: Categories) -> UPSNet:
    """A fresh network with the residual body of torchvision's ImageNet classifier (None: its published weights)."""
    depth = preset(preset_name, categories.num_stuff, categories.num_thing).backbone
    if depth not in PUBLISHED:
        raise UserError(f"preset {preset_name} has no ImageNet weights; use --preset resnet50 or resnet101_dcn")
    state = published(PUBLISHED[depth]) if source is None else source
    model = UPSNet.from_preset(preset_name, categories.num_stuff, categories.num_thing, categories)
    body = {n: t for n, t in state.items() if not n.startswith("fc.") and not n.endswith("num_batches_tracked")}
    own = model.state_dict()
    fresh = {n: t for n, t in own.items() if not n.startswith("backbone.body.") or ".offset." in n}
    return fill(model, fresh | {f"backbone.body.{n}": t for n, t in body.items()}, f"a classifier for {depth}")


# ---------------------------------------------------------------------------------------------------- UPSNet's release

RELEASED = {  # name in the release -> name here; {n}: the number in it, counted as here
    r"resnet_backbone\.conv1\.(?P<rest>.+)": ("backbone.body.{rest}", None),
    r"resnet_backbone\.res(?P<n>\d)\.layers\.(?P<rest>.+)": ("backbone.body.layer{n}.{rest}", lambda n: n - 1),
    r"fpn\.fpn_p(?P<n>\d)_1x1\.(?P<rest>.+)": ("backbone.fpn.inner_blocks.{n}.0.{rest}", lambda n: n - 2),
    r"fpn\.fpn_p(?P<n>\d)\.(?P<rest>.+)": ("backbone.fpn.layer_blocks.{n}.0.{rest}", lambda n: n - 2),
    r"fpn\.fpn_gap\.(?P<rest>.+)": ("backbone.fpn.inner_blocks.3.1.{rest}", None),
    r"rpn\.conv_proposal\.0\.(?P<rest>.+)": ("instance_head.rpn.head.conv.0.0.{rest}", None),
    r"rpn\.cls_score\.(?P<rest>.+)": ("instance_head.rpn.head.cls_logits.{rest}", None),
    r"rpn\.bbox_pred\.(?P<rest>.+)": ("instance_head.rpn.head.bbox_pred.{rest}", None),
    r"rcnn\.fc(?P<n>[67])\.0\.(?P<rest>.+)": (HEADS + ".box_head.fc{n}.{rest}", lambda n: n),
    r"rcnn\.(?P<rest>(cls_score|bbox_pred)\..+)": (HEADS + ".box_predictor.{rest}", None),
    r"mask_branch\.mask_conv(?P<n>\d)\.0\.(?P<rest>.+)": (HEADS + ".mask_head.{n}.0.{rest}", lambda n: n - 1),
    r"mask_branch\.mask_deconv1\.0\.(?P<rest>.+)": (HEADS + ".mask_predictor.conv5_mask.{rest}", None),
    r"mask_branch\.mask_score\.(?P<rest>.+)": (HEADS + ".mask_predictor.mask_fcn_logits.{rest}", None),
    r"fcn_head\.fcn_subnet\.conv\.(?P<n>\d)\.0\.(?P<rest>.+)": ("semantic_head.subnet.{n}.{rest}", lambda n: 2 * n),
    r"fcn_head\.score\.(?P<rest>.+)": ("semantic_head.score.{rest}", None),
}


def released_name(name: str, file: str | Path = "the file") -> str:
    """The name here of an entry of a released checkpoint; UserError for one that the release does not have."""
    for pattern, (new, count) in RELEASED.items():
        if found := re.fullmatch(pattern, name):
            rest = found["rest"].replace("conv2_offset.", "conv2.offset.")
            rest = rest.replace("conv_offset.", "offset.").removeprefix("conv.")  # of a deformable layer
            return new.format(n=count(int(found["n"])) if count else "", rest=rest)
    raise UserError(f"{file} is not a checkpoint that UPSNet's authors released: entry {name!r} is unknown")


def released_config(state: State, file: str | Path = "the file") -> tuple[Categories, dict]:
    """What the shapes of a released checkpoint say of its network: classes and fields of Config."""
    names = {133: COCO, 19: CITYSCAPES}
    score = state.get("fcn_head.score.weight")
    if score is None or not score.dim() or len(score) not in names:
        raise UserError(f"{file} is not a checkpoint that UPSNet's authors released for COCO or Cityscapes")
    layers = len({n.split(".")[3] for n in state if n.startswith("fcn_head.fcn_subnet.")})
    stage = lambda n: f"resnet_backbone.res{n}.layers"  # noqa: E731
    fields = dict(
        backbone="resnet101" if f"{stage(4)}.22.conv1.weight" in state else "resnet50",
        deform_stages=tuple(n for n in (3, 4, 5) if f"{stage(n)}.0.conv2_offset.weight" in state),
        stride_in_1x1=True,
        fpn_gap="fpn.fpn_gap.weight" in state,
        semantic_widths=(256,) * (layers - 2) + (128, 128),
        anchors_centred=True,
        mask_agnostic=False,
        bgr=True,  # 0 ... 255 minus the mean, not scaled: in [0, 1] that is mean / 255 and std 1 / 255
        image_mean=tuple(v / 255 for v in (102.9801, 115.9465, 122.7717)),
        image_std=(1 / 255,) * 3,
    )
    if len(score) == 19:
        weights = LossWeights(loss_semantic=1.0, loss_roi_semantic=0.0, loss_panoptic=0.5)
        fields |= dict(min_size=1024, max_size=2048, stuff_area=2048, weights=weights)
    return names[len(score)], fields


def from_upsnet_release(path: str | Path, **overrides) -> UPSNet:
    """A checkpoint that UPSNet's authors released: ResNet-50 or -101-DCN for COCO, ResNet-50 for Cityscapes.

    | release                                      | UPSNet                                                    |
    |----------------------------------------------|-----------------------------------------------------------|
    | resnet_backbone.conv1.*                      | backbone.body.*                                           |
    | resnet_backbone.resN.layers.*                | backbone.body.layer(N-1).*                                |
    | ….conv2_offset.*                             | ….conv2.offset.*                                          |
    | fpn.fpn_pN_1x1.*, fpn.fpn_pN.*               | backbone.fpn.inner_blocks.(N-2).0.*, .layer_blocks.…      |
    | fpn.fpn_gap.*                                | backbone.fpn.inner_blocks.3.1.*                           |
    | rpn.conv_proposal.0.*                        | instance_head.rpn.head.conv.0.0.*                         |
    | rpn.cls_score.*, rpn.bbox_pred.*             | instance_head.rpn.head.cls_logits.*, .bbox_pred.*         |
    | rcnn.fc6.0.*, rcnn.fc7.0.*                   | instance_head.roi_heads.box_head.fc6.*, .fc7.*            |
    | rcnn.cls_score.*, rcnn.bbox_pred.*           | instance_head.roi_heads.box_predictor.*                   |
    | mask_branch.mask_convN.0.*                   | instance_head.roi_heads.mask_head.(N-1).0.*               |
    | mask_branch.mask_deconv1.0.*                 | instance_head.roi_heads.mask_predictor.conv5_mask.*       |
    | mask_branch.mask_score.*, but row 0          | ….mask_predictor.mask_fcn_logits.*; 0 is the background   |
    | fcn_head.fcn_subnet.conv.N.0.conv_offset.*   | semantic_head.subnet.(2N).offset.*                        |
    | fcn_head.fcn_subnet.conv.N.0.conv.*          | semantic_head.subnet.(2N).*                               |
    | fcn_head.score.*                             | semantic_head.score.*                                     |
    | ….num_batches_tracked                        | not needed: the norms are frozen                          |

    The same by configuration: BGR input, strides in the first 1 x 1, centred anchors, a mask per class, class order
    (stuff, then things, by ascending id), box deltas (weights 10, 10, 5, 5 in both), RPN (one sigmoid per anchor).
    Different: RoIAlign there reads boxes that end on their last pixel, so its RoIs are 1 px of the image smaller;
    the fusion there runs at the resized image and is brought back by nearest neighbour, here X is resized instead;
    there a box covers pixels by truncation and rounding, here by DESIGN's floor and ceil. These move borders, not
    classes. The checkpoints themselves were not at hand: names and shapes are tested, the published PQ is not.
    Their licence (the authors') is for non-commercial use.
    Raises UserError where the file is not such a checkpoint, naming the first entry that does not fit.
    """
    state = read_state(path)
    renamed = {released_name(n, path): t for n, t in state.items() if not n.endswith("num_batches_tracked")}
    categories, fields = released_config(state, path)
    config = preset("resnet50", categories.num_stuff, categories.num_thing, **fields | overrides)
    model = UPSNet(config, categories).to(memory_format=torch.channels_last)
    masks = f"{HEADS}.mask_predictor.mask_fcn_logits."
    return fill(model, {n: t[1:] if n.startswith(masks) else t for n, t in renamed.items()}, str(path)).eval()
