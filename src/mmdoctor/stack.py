"""The import names of the stack."""

STACK_MODULES = (
    "torch",
    "torchvision",
    "numpy",
    "cv2",
    "mmcv",
    "mmengine",
    "mmdet",
    "mmpose",
    "xtcocotools",
    "pycocotools",
)
