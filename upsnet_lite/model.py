"""UPSNet: the stages in the order of the data.                                          Xiong et al., CVPR 2019

    images -> P2 … P6 -> X and (B, C, Y) -> Z -> segments           eval: predictions
                            └──────┴─────────┴─> eight losses       train

`forward` follows torchvision's detection models; `trace` hands out every tensor on the way, under its symbol.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torchvision.models.detection.image_list import ImageList

from . import losses as L
from . import segments, targets
from .backbone import Backbone
from .categories import Categories
from .config import Config, preset
from .deform_conv import roi_align
from .instance_head import Detections, InstanceHead, Proposals, batch_rois
from .panoptic_head import PanopticHead
from .preprocess import batch_images, check_images, check_targets, rescale_boxes, resize_target, upsample_to_image
from .semantic_head import SemanticHead

X_STRIDE = 4


@dataclass
class Trace:
    """Every tensor of one image on its way through the network; all in the image's own pixels unless said otherwise.

    image (3, H, W)     P2 … P6 (fpn_channels, h, w), of the resized, padded image     proposals: of the RPN, same image
    X (N_stuff + N_thing, H, W), x_stuff and x_thing its two parts; x_stride4 as the semantic head gives it
    B (N_inst, 4), C (N_inst,), scores (N_inst,), Y (N_inst, 28, 28): the instances that enter Z, best first
    x_mask, y_mask (N_inst, H, W)    z_unknown (H, W) or None    z (N_stuff + N_inst + 1, H, W)
    winner (H, W) channel of z    panoptic (H, W) segment ids    segments_info    detections: before mask pruning
    With a target: B and C are the ground truth's, scores 1, and losses holds the eight, unweighted.
    """

    image: Tensor
    P2: Tensor
    P3: Tensor
    P4: Tensor
    P5: Tensor
    P6: Tensor
    proposals: Proposals
    detections: Detections
    x_stride4: Tensor
    X: Tensor
    x_stuff: Tensor
    x_thing: Tensor
    B: Tensor
    C: Tensor
    scores: Tensor
    Y: Tensor
    x_mask: Tensor
    y_mask: Tensor
    z_unknown: Tensor | None
    z: Tensor
    winner: Tensor
    panoptic: Tensor
    segments_info: list[dict]
    losses: dict[str, Tensor] | None = None

    @property
    def Z(self) -> Tensor:
        return self.z


class UPSNet(nn.Module):
    """A panoptic segmentation network.

    `model(images)` in eval mode -> one dict per image; `model(images, targets)` -> the eight weighted losses, whose
    sum is the total. images: list of (3, H, W) float RGB in [0, 1], of any sizes. targets: one dict per image with
    boxes (N, 4) xyxy, labels (N,) = thing class + 1, masks (N, H, W) bool, semantic (H, W) class index or IGNORE.
    """

    def __init__(self, config: Config, categories: Categories | None = None) -> None:
        super().__init__()
        self.config = config
        if categories is None:
            categories = Categories.numbered(config.num_stuff, config.num_thing)
        self.categories = categories
        if (self.categories.num_stuff, self.categories.num_thing) != (config.num_stuff, config.num_thing):
            raise ValueError(
                f"the categories hold {self.categories.num_stuff} stuff and {self.categories.num_thing} thing classes, "
                f"the configuration {config.num_stuff} and {config.num_thing}"
            )
        self.backbone = Backbone(config)
        self.semantic_head = SemanticHead(config)
        self.instance_head = InstanceHead(config)
        self.panoptic_head = PanopticHead(config.num_stuff, config.unknown, config.outside)

    @classmethod
    def from_preset(
        cls, name: str, num_stuff: int, num_thing: int, categories: Categories | None = None, **overrides
    ) -> "UPSNet":
        """A fresh network: `tiny`, `resnet50` or `resnet101_dcn`; `overrides` replace fields of `Config`.

        Raises ValueError for an unknown preset, TypeError for an unknown field.
        """
        return cls(preset(name, num_stuff, num_thing, **overrides), categories).to(memory_format=torch.channels_last)

    def forward(self, images: list[Tensor], targets: list[dict] | None = None) -> dict[str, Tensor] | list[dict]:
        """Losses where targets are given, predictions otherwise. Raises ValueError for malformed input.

        Prediction: boxes (N, 4) xyxy, labels (N,) from 1, scores (N,), mask_logits (N, 28, 28), semantic (H, W) class
        index, panoptic (H, W) int64 segment ids (0 = unknown or void), segments_info (id, category_id, isthing,
        score, area).
        """
        check_images(images)
        if targets is not None:
            return L.weighted(self.losses(images, targets), self.config.weights)
        if self.training:
            raise ValueError("in training mode the model needs targets; call model.eval() for predictions")
        return self.predictions(images)

    def batch(self, images: list[Tensor]) -> ImageList:
        """The images as the backbone takes them, in the precision of its weights."""
        dtype = next(self.parameters()).dtype
        return batch_images([image.to(dtype) for image in images], self.config)

    # ------------------------------------------------------------------------------------------------- inference

    def predictions(self, images: list[Tensor]) -> list[dict]:
        batch = self.batch(images)
        pyramid = self.backbone(batch.tensors)
        x = self.semantic_head(pyramid).float()
        proposals = self.instance_head.propose(pyramid, batch)
        detections = self.instance_head.detect(pyramid, proposals, batch.image_sizes)
        return [
            self.fuse(upsample_to_image(x[n], X_STRIDE, size, original), to_image(found, size, original))
            for n, (found, size, original) in enumerate(
                zip(detections, batch.image_sizes, (tuple(i.shape[1:]) for i in images), strict=True)
            )
        ]

    def fuse(self, x: Float[Tensor, "channels H W"], found: Detections) -> dict:
        """One image's X and detections -> its prediction."""
        chosen = self.prune(found, tuple(x.shape[1:]))
        winner = self.panoptic_head.predict(x, chosen.boxes, chosen.classes, chosen.mask_logits)
        panoptic, infos = self.to_segments(winner, x, chosen)
        return {
            "boxes": found.boxes,
            "labels": found.classes + 1,
            "scores": found.scores,
            "mask_logits": found.mask_logits,
            "semantic": x.argmax(0),
            "panoptic": panoptic,
            "segments_info": infos,
        }

    def prune(self, found: Detections, size: tuple[int, int]) -> Detections:
        """The detections that enter Z, best first."""
        c = self.config
        boxes, classes, scores, y = found.boxes, found.classes, found.scores, found.mask_logits
        kept = segments.prune_masks(boxes, scores, classes, y, size, c.mask_overlap, c.panoptic_score, c.panoptic_nms)
        return Detections(boxes[kept], classes[kept], scores[kept], y[kept])

    @torch.no_grad()
    def to_segments(self, winner: Tensor, x: Tensor, chosen: Detections) -> tuple[Tensor, list[dict]]:
        return segments.panoptic_map(
            winner, x, chosen.classes, chosen.scores, self.categories, self.config.stuff_area, self.config.majority
        )

    # -------------------------------------------------------------------------------------------------- training

    def losses(self, images: list[Tensor], image_targets: list[dict]) -> dict[str, Tensor]:
        """The eight losses, unweighted."""
        check_targets(images, image_targets, self.config)
        batch = self.batch(images)
        pyramid = self.backbone(batch.tensors)
        x = self.semantic_head(pyramid).float()
        return self.losses_of(pyramid, x, self.instance_head.propose(pyramid, batch), batch, image_targets)

    def losses_of(
        self, pyramid: dict[str, Tensor], x: Tensor, proposals: Proposals, batch: ImageList, image_targets: list[dict]
    ) -> dict[str, Tensor]:
        """The same from what the stages gave, in the order of the weights."""
        image_targets = [resize_target(t, s) for t, s in zip(image_targets, batch.image_sizes, strict=True)]
        found = self.semantic_losses(x, image_targets, batch) | self.rpn_losses(proposals, image_targets)
        found |= self.box_and_mask_losses(pyramid, proposals, image_targets)
        found |= self.panoptic_loss(pyramid, x, image_targets)
        return {name: found[name] for name in self.config.weights.__dataclass_fields__}

    def semantic_losses(self, x: Tensor, image_targets: list[dict], batch: ImageList) -> dict[str, Tensor]:
        semantic = targets.pad_stack([t["semantic"] for t in image_targets], tuple(batch.tensors.shape[2:]))
        rois = batch_rois([t["boxes"] for t in image_targets])
        full = nn.functional.interpolate(x, scale_factor=X_STRIDE, mode="bilinear", align_corners=False)
        x_roi = roi_align(x, rois, 28, 1 / X_STRIDE, sampling_ratio=1, aligned=True)
        return {
            "loss_semantic": L.loss_semantic(full, semantic),
            "loss_roi_semantic": L.loss_roi_semantic(x_roi, targets.roi_semantic_target(semantic, rois)),
        }

    def rpn_losses(self, proposals: Proposals, image_targets: list[dict]) -> dict[str, Tensor]:
        rpn = self.instance_head.rpn
        with torch.no_grad():
            labels, matched = rpn.assign_targets_to_anchors(proposals.anchors, image_targets)
            deltas = torch.cat(rpn.box_coder.encode(matched, proposals.anchors))
            positive, negative = (torch.where(torch.cat(s))[0] for s in rpn.fg_bg_sampler(labels))
            sampled = torch.cat((positive, negative))
            labels = torch.cat(labels)
        return {
            "loss_objectness": L.loss_objectness(proposals.objectness.flatten()[sampled], labels[sampled]),
            "loss_rpn_box_reg": L.loss_rpn_box_reg(
                proposals.deltas.flatten(0, 1)[positive], deltas[positive], len(sampled)
            ),
        }

    def box_and_mask_losses(
        self, pyramid: dict[str, Tensor], proposals: Proposals, image_targets: list[dict]
    ) -> dict[str, Tensor]:
        head = self.instance_head
        with torch.no_grad():
            sampled = head.roi_heads.select_training_samples(list(proposals.boxes), image_targets)
            boxes, matched, labels, deltas = sampled
        logits, regression = head.box_logits(pyramid, boxes)
        chosen = [some(torch.where(one > 0)[0], head.masks_per_image) for one in labels]
        mask_boxes = [b[c] for b, c in zip(boxes, chosen, strict=True)]
        mask_classes = torch.cat([one[c] - 1 for one, c in zip(labels, chosen, strict=True)])
        mask_targets = torch.cat(
            [
                targets.mask_target(t["masks"], b, m[c])
                for t, b, m, c in zip(image_targets, mask_boxes, matched, chosen, strict=True)
            ]
        )
        labels, deltas = torch.cat(labels), torch.cat(deltas)
        return {
            "loss_classifier": L.loss_classifier(logits, labels),
            "loss_box_reg": L.loss_box_reg(regression, deltas, labels),
            "loss_mask": L.loss_mask(head.mask_logits(pyramid, mask_boxes, mask_classes), mask_targets),
        }

    def panoptic_loss(self, pyramid: dict[str, Tensor], x: Tensor, image_targets: list[dict]) -> dict[str, Tensor]:
        """Ground-truth boxes and classes, masks from the mask head, at stride 4; some instances left out on purpose."""
        keep = [targets.kept_instances(len(t["boxes"]), self.config.keep_share) for t in image_targets]
        keep = [k.to(x.device) for k in keep] if self.config.unknown else [None] * len(keep)
        chosen = [slice(None) if k is None else k for k in keep]
        boxes = [t["boxes"][k] for t, k in zip(image_targets, chosen, strict=True)]
        classes = [t["labels"][k] - 1 for t, k in zip(image_targets, chosen, strict=True)]
        y = self.instance_head.mask_logits(pyramid, boxes, torch.cat(classes)).split([len(b) for b in boxes])
        z, channel = [], []
        for n, target in enumerate(image_targets):
            semantic = targets.downsample(target["semantic"], X_STRIDE)
            height, width = semantic.shape
            z.append(self.panoptic_head(x[n, :, :height, :width], boxes[n] / X_STRIDE, classes[n], y[n]).z)
            masks = targets.downsample(target["masks"], X_STRIDE)
            channel.append(targets.panoptic_target(semantic, masks, keep[n], self.config.num_stuff))
        return {"loss_panoptic": L.loss_panoptic(z, channel)}

    # ----------------------------------------------------------------------------------------------------- trace

    def trace(self, image: Float[Tensor, "3 H W"], target: dict | None = None) -> Trace:
        """Every intermediate tensor of one image, still attached to the graph.

        With a target, its boxes and classes enter the fusion (as in training, none left out) and `losses` is filled.
        """
        check_images([image])
        if target is not None:
            check_targets([image], [target], self.config)
        batch = self.batch([image])
        size, original = batch.image_sizes[0], tuple(image.shape[1:])
        levels = {level: maps[0] for level, maps in self.backbone(batch.tensors).items()}
        pyramid = {level: maps[None] for level, maps in levels.items()}  # so that the levels handed out lie on the way
        x_stride4 = self.semantic_head(pyramid).float()[0]
        proposals = self.instance_head.propose(pyramid, batch)
        detections = to_image(self.instance_head.detect(pyramid, proposals, [size])[0], size, original)
        if target is None:
            chosen = self.prune(detections, original)
        else:
            boxes, classes = rescale_boxes(target["boxes"], original, size), target["labels"] - 1
            y = self.instance_head.mask_logits(pyramid, [boxes], classes)
            chosen = Detections(target["boxes"].float(), classes, torch.ones(len(classes), device=boxes.device), y)
        x = upsample_to_image(x_stride4, X_STRIDE, size, original)
        fused = self.panoptic_head(x, chosen.boxes, chosen.classes, chosen.mask_logits)
        winner = fused.z.argmax(0)
        panoptic, infos = self.to_segments(winner, x, chosen)
        return Trace(
            image=image,
            **levels,
            proposals=proposals,
            detections=detections,
            x_stride4=x_stride4,
            X=x,
            x_stuff=x[: self.config.num_stuff],
            x_thing=x[self.config.num_stuff :],
            B=chosen.boxes,
            C=chosen.classes,
            scores=chosen.scores,
            Y=chosen.mask_logits,
            x_mask=fused.x_mask,
            y_mask=fused.y_mask,
            z_unknown=fused.z_unknown,
            z=fused.z,
            winner=winner,
            panoptic=panoptic,
            segments_info=infos,
            losses=None if target is None else self.losses_of(pyramid, x_stride4[None], proposals, batch, [target]),
        )


def some(indices: Int[Tensor, " n"], most: int) -> Int[Tensor, " m"]:
    """At most `most` of the indices, chosen at random: the first ones are the easiest, ground truth stands last."""
    return indices if len(indices) <= most else indices[torch.randperm(len(indices))[:most].to(indices.device)]


def to_image(found: Detections, size: tuple[int, int], original: tuple[int, int]) -> Detections:
    """Detections in pixels of the resized image -> in pixels of the original."""
    return Detections(rescale_boxes(found.boxes, size, original), found.classes, found.scores, found.mask_logits)
