"""Data on disk in COCO's panoptic layout: drawn (shapes), read (coco_panoptic), checked, augmented."""
