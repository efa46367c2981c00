"""Files that are handed over as COCO and are something else, recognised by how they begin."""

from __future__ import annotations

import re
from typing import Optional

HEAD = 1 << 16  # bytes that are looked at

# What is no JSON, by the signature of the format.
OTHERS: tuple[tuple[bytes, str], ...] = (
    (rb"\A\x1f\x8b", "compressed with gzip, which neither json nor MMPose unpacks"),
    (rb"\A(PK\x03\x04|BZh|\xfd7zXZ|\x28\xb5\x2f\xfd|7z\xbc\xaf)", "a compressed archive"),
    (rb"\Aversion https://git-lfs", "a pointer of Git LFS: the content was never downloaded (git lfs pull)"),
    (rb"\A\x89HDF", "HDF5, as DeepLabCut writes it"),
    (rb"\AMATLAB 5", "a .mat file, as MPII is published"),
    (rb"\A\s*(<!DOCTYPE html|<html)", "a page of HTML: the download failed"),
    (rb"\A\s*<", "XML, as CVAT and Pascal VOC write it"),
    (rb"\A\s*\d+( +-?[\d.]+){4,}\s", "labels of YOLO: a class and parts of the image's size on each line"),
    (rb"\Ascorer,", "CSV of DeepLabCut"),
)
# What is JSON, by the keys that the tools write.
JSON: tuple[tuple[bytes, str], ...] = (
    (rb'"_via_', "a project of the VGG Image Annotator (VIA)"),
    (rb'"shape_attributes"', "annotations of the VGG Image Annotator (VIA)"),
    (rb'"shapes"\s*:.*"(imagePath|imageData|shape_type)"', "LabelMe, one file per image"),
    (rb'"joints_vis"', "MPII as MMPose's MpiiDataset reads it: a list of joints"),
    (rb'"pose_keypoints_2d"', "the output of OpenPose"),
    (rb'"classTitle"', "an export of Supervisely"),
    (rb'"completed_by"|"from_name"', "an export of Label Studio in its own format; it exports COCO too"),
    (rb'\A\s*\[\s*\{[^{}]*"score"', "COCO *results* (predictions), not annotations"),
    (rb'"(bbox|keypoints)".*"image_id"|"image_id".*"(bbox|keypoints)"', "a bare list of COCO's annotations"),
)


def recognised(head: bytes, *, json: bool) -> Optional[str]:
    """What a file that begins like this is, `json` saying whether it is that; None where it is not known."""
    known = JSON if json else OTHERS
    return next((name for pattern, name in known if re.search(pattern, head, re.DOTALL)), None)
