"""Instance head: boxes B, classes C and mask logits Y, in the style of Mask R-CNN.        He et al. 2017; UPSNet, 3.1

    anchors -> objectness, deltas -> proposals         RPN on P2 … P6: decode, clip, NMS
    proposals -> RoIAlign 7 x 7 -> class, deltas       P2 … P5: box head                     -> B, C, scores
    B -> RoIAlign 14 x 14 -> convolutions -> Y         mask head

Built of torchvision's RPN and RoI heads: its names of modules, so that its weights fit, and its matching and sampling.
Labels inside torchvision count from 1 (0 is background); `classes` outside count from 0.

Shapes   proposals, B (R, 4) xyxy in pixels of the resized image    C (R,) in [0, N_thing)    Y (R, 28, 28) logits
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.detection.roi_heads import RoIHeads
from torchvision.models.detection.rpn import RegionProposalNetwork, RPNHead, concat_box_prediction_layers

from .backbone import STRIDES
from .config import Config
from .deform_conv import roi_align
from .semantic_head import SEMANTIC_LEVELS as ROI_LEVELS


@dataclass
class Proposals:
    """What the RPN says. objectness (B, A) logits, deltas (B, A, 4), anchors B x (A, 4); boxes and scores after NMS.

    `per_level` counts the anchors of P2 … P6, in this order along A.
    """

    anchors: list[Tensor]
    objectness: Tensor
    deltas: Tensor
    boxes: list[Tensor]
    scores: list[Tensor]
    per_level: list[int]


@dataclass
class Detections:
    """One image's boxes B (R, 4) xyxy, classes C (R,) from 0, scores (R,), mask_logits Y (R, 28, 28); best first."""

    boxes: Tensor
    classes: Tensor
    scores: Tensor
    mask_logits: Tensor


def batch_rois(boxes: list[Float[Tensor, "_ 4"]]) -> Float[Tensor, "R 5"]:
    """One list of RoIs for a batch: each box behind the index of its image."""
    return torch.cat([torch.cat((b.new_full((len(b), 1), n), b), 1) for n, b in enumerate(boxes)])


def roi_level(boxes: Float[Tensor, "R 4"], canonical: float) -> Int[Tensor, " R"]:
    """The level 2 … 5 an RoI is read from: 4 for a side of `canonical` px, one less per halving.   Lin et al., eq. 1"""
    side = ((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])).clamp(min=0).sqrt()
    return (4 + torch.log2(side / canonical) + 1e-6).floor().clamp(2, 5).long()


def pyramid_roi_align(
    pyramid: dict[str, Float[Tensor, "B _ _ _"]], rois: Float[Tensor, "R 5"], size: int, canonical: float
) -> Float[Tensor, "R C S S"]:
    """RoIAlign of each RoI on the level that fits its size."""
    level = roi_level(rois[:, 1:], canonical)
    order, parts = [], []
    for name in ROI_LEVELS:
        chosen = torch.where(level == int(name[1]))[0]
        order.append(chosen)
        parts.append(roi_align(pyramid[name], rois[chosen], size, 1 / STRIDES[name]))
    return torch.cat(parts).index_select(0, torch.cat(order).argsort())


class CentredAnchors(AnchorGenerator):
    """The release's anchors: around the centre of their cell, whole pixels for a square of one stride, then scaled.

    Its boxes end on their last pixel; these end one past it, which makes encoding, IoU and clipping the same.
    """

    def __init__(self, sizes: tuple[int, ...], ratios: tuple[float, ...]) -> None:
        super().__init__(tuple((s,) for s in sizes), (ratios,) * len(sizes))
        self.cell_anchors = [centred_anchors(*one, ratios) for one in zip(STRIDES.values(), sizes, strict=True)]

    def grid_anchors(self, grid_sizes, strides):  # the true strides: torchvision divides sizes, 61 for P6 of 800 px
        return super().grid_anchors(grid_sizes, [(s, s) for s in STRIDES.values()])


def centred_anchors(stride: int, size: int, ratios: tuple[float, ...]) -> Float[Tensor, "A 4"]:
    """xyxy of the anchors of the cell at 0, 0; ratio = height / width."""
    ratio = torch.tensor(ratios)
    across = (stride**2 / ratio).sqrt().round()
    half = torch.stack((across, (across * ratio).round()), 1) * (size / stride / 2)
    return torch.cat((stride / 2 - half, stride / 2 + half), 1)


class InstanceHead(nn.Module):
    def __init__(self, config: Config) -> None:
        super().__init__()
        self.canonical = config.roi_canonical
        self.masks_per_image = config.masks_per_image
        self.mask_agnostic = config.mask_agnostic
        channels, classes = config.fpn_channels, config.num_thing + 1
        ratios = len(config.anchor_ratios)
        sizes = config.anchor_sizes
        self.rpn = RegionProposalNetwork(
            CentredAnchors(sizes, config.anchor_ratios)
            if config.anchors_centred
            else AnchorGenerator(tuple((s,) for s in sizes), (config.anchor_ratios,) * len(sizes)),
            RPNHead(channels, ratios),
            fg_iou_thresh=config.rpn_fg_iou,
            bg_iou_thresh=config.rpn_bg_iou,
            batch_size_per_image=config.rpn_batch,
            positive_fraction=0.5,
            pre_nms_top_n={"training": config.proposals_train, "testing": config.proposals_test},
            post_nms_top_n={"training": config.proposals_train, "testing": config.proposals_test},
            nms_thresh=config.rpn_nms,
        )
        self.roi_heads = RoIHeads(
            None,  # pooling is ours: `pyramid_roi_align`
            TwoMLPHead(channels * 7**2, config.box_hidden),
            FastRCNNPredictor(config.box_hidden, classes),
            fg_iou_thresh=config.roi_fg_iou,
            bg_iou_thresh=config.roi_fg_iou,
            batch_size_per_image=config.rois_per_image,
            positive_fraction=config.roi_fg_share,
            bbox_reg_weights=None,
            score_thresh=config.score_threshold,
            nms_thresh=config.box_nms,
            detections_per_img=config.detections,
            mask_head=MaskRCNNHeads(channels, config.mask_widths, 1),
            mask_predictor=MaskRCNNPredictor(
                config.mask_widths[-1], config.mask_upsampled, 1 if config.mask_agnostic else config.num_thing
            ),
        )
        nn.init.normal_(self.roi_heads.mask_predictor.mask_fcn_logits.weight, std=0.001)  # Y starts at 0: Mask R-CNN's

    def propose(self, pyramid: dict[str, Float[Tensor, "B _ _ _"]], images: ImageList) -> Proposals:
        """Anchors, their objectness and deltas, and the proposals that survive NMS."""
        maps = list(pyramid.values())
        objectness, deltas = self.rpn.head(maps)
        per_level = [o[0].numel() for o in objectness]
        anchors = self.rpn.anchor_generator(images, maps)
        objectness, deltas = concat_box_prediction_layers(objectness, deltas)
        objectness, deltas = objectness.float(), deltas.float()
        boxes = self.rpn.box_coder.decode(deltas.detach(), anchors).view(len(anchors), -1, 4)
        boxes, scores = self.rpn.filter_proposals(boxes, objectness, images.image_sizes, per_level)
        batch = len(anchors)
        return Proposals(anchors, objectness.view(batch, -1), deltas.view(batch, -1, 4), boxes, scores, per_level)

    def box_logits(
        self, pyramid: dict[str, Float[Tensor, "B _ _ _"]], boxes: list[Float[Tensor, "_ 4"]]
    ) -> tuple[Float[Tensor, "R classes"], Float[Tensor, "R deltas"]]:
        """Class logits (background first) and the box deltas of every class."""
        pooled = pyramid_roi_align(pyramid, batch_rois(boxes), 7, self.canonical)
        logits, deltas = self.roi_heads.box_predictor(self.roi_heads.box_head(pooled))
        return logits.float(), deltas.float()

    def mask_logits(
        self,
        pyramid: dict[str, Float[Tensor, "B _ _ _"]],
        boxes: list[Float[Tensor, "_ 4"]],
        classes: Int[Tensor, " R"],
    ) -> Float[Tensor, "R 28 28"]:
        """Y for the boxes of a batch; where there is a mask per class, that of C_i."""
        pooled = pyramid_roi_align(pyramid, batch_rois(boxes), 14, self.canonical)
        masks = self.roi_heads.mask_predictor(self.roi_heads.mask_head(pooled)).float()
        return masks[:, 0] if self.mask_agnostic else masks[torch.arange(len(masks), device=masks.device), classes]

    def detect(
        self, pyramid: dict[str, Float[Tensor, "B _ _ _"]], proposals: Proposals, sizes: list[tuple[int, int]]
    ) -> list[Detections]:
        """B, C, scores and Y of each image: decode, clip, score threshold, NMS per class, the best `detections`."""
        logits, deltas = self.box_logits(pyramid, proposals.boxes)
        boxes, scores, labels = self.roi_heads.postprocess_detections(logits, deltas, proposals.boxes, sizes)
        classes = [found - 1 for found in labels]
        masks = self.mask_logits(pyramid, boxes, torch.cat(classes)).split([len(b) for b in boxes])
        return [Detections(*one) for one in zip(boxes, classes, scores, masks, strict=True)]
