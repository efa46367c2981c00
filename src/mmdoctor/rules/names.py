"""Which distributions bring which module, and the families that belong together."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

from mmdoctor.stack import STACK_MODULES

MMCV_NAMES = ("mmcv", "mmcv-full", "mmcv-lite", "onedl-mmcv")
OPENCV_NAMES = ("opencv-python", "opencv-python-headless", "opencv-contrib-python", "opencv-contrib-python-headless")
# Distributions that bring one module of the stack, the project's own first: each writes over the others' files.
OWNERS = {
    "cv2": OPENCV_NAMES,
    "mmcv": MMCV_NAMES,
    "mmengine": ("mmengine", "onedl-mmengine"),
    "mmdet": ("mmdet", "onedl-mmdetection"),
    "mmpretrain": ("mmpretrain", "onedl-mmpretrain"),
}
MODULE_OF = {name: module for module, names in OWNERS.items() for name in names}
STACK_DISTRIBUTIONS = frozenset(STACK_MODULES) | (MODULE_OF.keys() - set(OWNERS["mmpretrain"]))
# What the resolver chooses; of the rest that the stack needs, what is damaged is mended at its version.
PARTS = (STACK_DISTRIBUTIONS - {"cv2", "pycocotools"}) | {"setuptools"}


def module_of(distribution: str) -> str:
    """The import name of a distribution: its own with underscores, but for those that bring another."""
    return MODULE_OF.get(distribution) or distribution.replace("-", "_")


class Family(NamedTuple):
    """Distributions that belong together under the names mmcv, mmengine and mmdet. `recipe` is the family that a recipe
    asks for; `stands_for` the mmcv whose ranges mmdet and mmpose assert. One with `by_name` is taken only where the
    user names a distribution of it or has it installed."""

    name: str
    mmcv: str
    mmengine: str
    mmdet: str
    recipe: str
    stands_for: str
    by_name: bool = False

    @property
    def distributions(self) -> tuple[str, str, str]:
        """Those that the families do not share; mmpose is the same in all."""
        return self.mmcv, self.mmengine, self.mmdet


FAMILIES = (
    Family("OpenMMLab 2", "mmcv", "mmengine", "mmdet", "mmpose-1", "mmcv"),
    Family("OpenMMLab 1", "mmcv-full", "mmengine", "mmdet", "mmpose-0", "mmcv-full"),
    Family("OneDL", "onedl-mmcv", "onedl-mmengine", "onedl-mmdetection", "mmpose-1", "mmcv", by_name=True),
)
FAMILY_DISTRIBUTIONS = {name for family in FAMILIES for name in family.distributions}


@cache
def family_of(mmcv: str) -> Family:
    """The family that a distribution of mmcv belongs to; OpenMMLab 2 for one that no family takes (mmcv-lite)."""
    return next((family for family in FAMILIES if family.mmcv == mmcv), FAMILIES[0])
