"""What can be chosen about the network. Presets: `tiny` for a laptop, `resnet50` and `resnet101_dcn` as published.

A field's comment is its reason; a figure without one is the release's (UPSNet, section 4, and its experiment files).
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, fields, replace

BACKBONES = ("narrow", "resnet50", "resnet101")
NORMS = ("frozen", "batch", "group")


@dataclass(frozen=True)
class LossWeights:
    """One weight for each of the eight losses. Default: COCO's."""

    loss_objectness: float = 1.0
    loss_rpn_box_reg: float = 1.0
    loss_classifier: float = 1.0
    loss_box_reg: float = 1.0
    loss_mask: float = 1.0
    loss_semantic: float = 0.2
    loss_roi_semantic: float = 0.04  # 0.2 x 0.2: the release scales the RoI loss inside the semantic one
    loss_panoptic: float = 0.1


@dataclass(frozen=True)
class Config:
    num_stuff: int
    num_thing: int

    # image
    min_size: int = 800  # shorter side after resizing, px
    max_size: int = 1333  # longer side at most, px; wins over min_size
    image_mean: tuple[float, ...] = (0.485, 0.456, 0.406)  # ImageNet's, RGB in [0, 1], as torchvision's weights expect
    image_std: tuple[float, ...] = (0.229, 0.224, 0.225)
    bgr: bool = False  # the released checkpoints want blue first; mean and std then count blue first too

    # backbone
    backbone: str = "resnet50"  # "resnet50", "resnet101" or "narrow" (BasicBlocks of the widths below)
    widths: tuple[int, ...] = (64, 128, 256, 512)  # of "narrow"; torchvision's ResNets know theirs
    norm: str = "frozen"  # "frozen": batch statistics of a few images would be worse than ImageNet's; "batch"; "group"
    frozen_stages: int = 2  # stem and res2 stay as pre-trained: generic edges, and half of the activation memory
    stride_in_1x1: bool = False  # a bottleneck halves in its first 1 x 1, as caffe's (the release), not in the 3 x 3
    deform_stages: tuple[int, ...] = ()  # residual stages (3, 4, 5) whose 3 x 3 convolutions are deformable
    fpn_channels: int = 256
    fpn_gap: bool = False  # COCO release: a linear layer on the pooled res5 is added to P5

    # semantic head
    semantic_widths: tuple[int, ...] = (256, 128, 128)  # outputs of the deformable layers; the last: one level's share
    semantic_norm: bool = False  # GroupNorm after each layer: from scratch it does not train without

    # region proposals
    anchor_sizes: tuple[int, ...] = (32, 64, 128, 256, 512)  # 8 strides per level, P2 ... P6
    anchor_ratios: tuple[float, ...] = (0.5, 1.0, 2.0)
    anchors_centred: bool = False  # the release's lie around the centre of their cell, torchvision's around its corner
    rpn_batch: int = 256  # anchors per image that enter the RPN losses, half of them positive
    rpn_fg_iou: float = 0.7
    rpn_bg_iou: float = 0.3
    rpn_nms: float = 0.7
    proposals_train: int = 2000  # per image, before and after NMS
    proposals_test: int = 1000

    # box and mask heads
    rois_per_image: int = 512
    roi_canonical: float = 224.0  # side of an RoI that is read from P4, px; half of it from P3
    roi_fg_share: float = 0.25
    roi_fg_iou: float = 0.5
    box_hidden: int = 1024
    mask_widths: tuple[int, ...] = (256, 256, 256, 256)
    mask_upsampled: int = 256  # width of the 2 x 2 deconvolution
    masks_per_image: int = 512  # RoIs that enter the mask loss; fewer are cheaper
    mask_agnostic: bool = True  # one mask per RoI (paper); False: one per class, that of C_i gathered (release)
    score_threshold: float = 0.05
    box_nms: float = 0.5
    detections: int = 100

    # panoptic head and segments
    unknown: bool = True
    outside: float = 0.0  # value of an instance's channel outside its box; float("-inf") forbids winning there
    keep_share: float = 0.7  # a random 30 % of the instances is left out in training, so that unknown has targets
    panoptic_score: float = 0.6
    panoptic_nms: float = 0.5  # class-agnostic
    mask_overlap: float = 0.3
    stuff_area: int = 4096  # px of the image; smaller stuff segments become void
    majority: bool = True  # an instance whose pixels X mostly calls one stuff class becomes that stuff

    weights: LossWeights = field(default_factory=LossWeights)

    def __post_init__(self) -> None:
        if self.num_stuff < 0 or self.num_thing < 1:
            raise ValueError(
                f"a network needs at least one thing class, got {self.num_thing} things and {self.num_stuff} stuff"
            )
        if self.backbone not in BACKBONES or self.norm not in NORMS:
            raise ValueError(
                f"backbone {self.backbone!r} with norm {self.norm!r}: choose of {', '.join(BACKBONES)} "
                f"and of {', '.join(NORMS)}"
            )
        for name, wanted, fits in self.rules():
            if not fits:
                raise ValueError(f"{name}={getattr(self, name)!r}: needs {wanted}")

    def rules(self) -> Iterator[tuple[str, str, bool]]:
        """(field, what it needs, whether it does): what has the right type and still cannot be a network."""
        for name, length, of in (
            ("widths", 4, "res2 … res5"),
            ("anchor_sizes", 5, "P2 … P6"),
            ("image_mean", 3, "three channels"),
            ("image_std", 3, "three channels"),
        ):
            yield name, f"one number for each of {of}", len(getattr(self, name)) == length
        for name in ("widths", "anchor_sizes", "anchor_ratios", "semantic_widths", "mask_widths", "image_std"):
            yield name, "numbers above 0", bool(values := getattr(self, name)) and all(v > 0 for v in values)
        for name in (
            "min_size",
            "max_size",
            "fpn_channels",
            "rpn_batch",
            "rois_per_image",
            "roi_canonical",
            "box_hidden",
            "mask_upsampled",
            "masks_per_image",
            "detections",
            "proposals_train",
            "proposals_test",
        ):
            yield name, "more than 0", getattr(self, name) > 0
        yield "deform_stages", "stages of 3, 4, 5", set(self.deform_stages) <= {3, 4, 5}
        yield "frozen_stages", "0 … 5", 0 <= self.frozen_stages <= 5
        for name in ("rpn_nms", "roi_fg_share", "roi_fg_iou", "box_nms", "keep_share", "panoptic_nms", "mask_overlap"):
            yield name, "a share, 0 … 1", 0 <= getattr(self, name) <= 1
        yield "rpn_fg_iou", "a share, 0 … 1, at least rpn_bg_iou", 0 <= self.rpn_bg_iou <= self.rpn_fg_iou <= 1
        yield "stuff_area", "0 or more", self.stuff_area >= 0


TINY = dict(
    min_size=128,  # shapes are 128 px; photographs are shrunk to it
    max_size=192,
    backbone="narrow",
    widths=(32, 64, 128, 256),
    norm="batch",  # from scratch, statistics must be learned
    frozen_stages=0,
    fpn_channels=64,
    semantic_widths=(64, 64),
    semantic_norm=True,
    anchor_sizes=(16, 24, 40, 64, 96),  # objects of 8 to 100 px
    rpn_batch=64,
    proposals_train=100,  # per level: NMS of many costs more than it finds here
    proposals_test=100,
    rois_per_image=48,
    roi_canonical=64.0,
    roi_fg_share=0.5,  # a quarter, as in the paper, and the classes are learned half as fast from scratch
    box_hidden=128,
    mask_widths=(32, 32),
    mask_upsampled=32,
    masks_per_image=12,
    detections=50,
    stuff_area=64,  # 4 096 px of a COCO photograph, scaled to 128 px, would be 218; these scenes have smaller stuff
    weights=LossWeights(  # from scratch X must grow too, and the classes of things are what is learned last
        loss_classifier=2.0, loss_semantic=1.0, loss_roi_semantic=0.2, loss_panoptic=0.5
    ),
)

PRESETS: dict[str, dict] = {
    "tiny": TINY,
    "resnet50": dict(fpn_gap=True),
    "resnet101_dcn": dict(backbone="resnet101", deform_stages=(3, 4, 5), fpn_gap=True),
}


def preset(name: str, num_stuff: int, num_thing: int, **overrides) -> Config:
    """The named preset with single fields replaced.

    Raises ValueError for an unknown preset, TypeError for an unknown field or a value of another type, each saying
    what would fit.
    """
    if name not in PRESETS:
        raise ValueError(f"unknown preset {name!r}; choose one of {', '.join(PRESETS)}")
    config = Config(num_stuff, num_thing)
    known = {f.name for f in fields(Config)}
    overrides = {key: tuple(value) if isinstance(value, list) else value for key, value in overrides.items()}
    for key, value in overrides.items():
        if key not in known:
            raise TypeError(f"unknown option {key!r} for preset {name!r}; known are {', '.join(sorted(known))}")
        example = getattr(config, key)
        if type(value) is not type(example) and not (type(example) is float and type(value) is int):
            raise TypeError(f"{key}={value!r} is a {type(value).__name__}; {example!r} would be possible")
    return replace(config, **{**PRESETS[name], **overrides})
