"""Versions that a log or a listing shows, from whatever form it shows them in."""

from __future__ import annotations

import re
from functools import cache

FLAGS = re.IGNORECASE | re.MULTILINE
KNOWN = frozenset(
    (
        *("torch", "torchvision", "torchaudio", "triton", "mmcv", "mmcv-full", "mmcv-lite", "mmengine", "mmdet"),
        *("mmpose", "mmpretrain", "mmcls", "mmseg", "mmsegmentation", "mmaction2", "mmdet3d", "mmrotate"),
        *("mmdeploy", "numpy", "xtcocotools", "pycocotools", "mmpycocotools", "chumpy", "cython", "scipy"),
        *("matplotlib", "pillow", "yapf", "transformers", "opencv-python", "opencv-python-headless"),
        *("opencv-contrib-python", "opencv-contrib-python-headless", "onnxruntime", "onnxruntime-gpu"),
        *("setuptools", "pip", "openmim", "openxlab", "ninja", "protobuf"),
    )
)
ALIASES = {"pytorch": "torch", "mmdetection": "mmdet", "opencv": "opencv-python", "pytorch-gpu": "torch"}
_NAME = r"(?P<name>[a-z][\w-]*)"
_VERSION = r"v?(?P<version>\d+(?:\.\d+)+(?:(?:rc|a|b|\.?post|\.?dev)\d+)?(?:\+\w+(?:\.\w+)*)?)"

# Strongest first: what is installed, then what an installer says, then what file names and requests suggest.
# Each with fragments of which one has to occur.
_NAMED: tuple[tuple[tuple[str, ...], str], ...] = (
    ((" ", "=="), rf"^(?:\[(?:pip3?|conda)\] )?{_NAME}(?: ?== ?| ?[│|] ?| ){_VERSION}(?: |$)"),
    (
        (":", ",", "版本"),
        r"(?:^|['\"(])(?P<name>PyTorch|TorchVision|OpenCV|MMCV|MMEngine|MMDetection|MMPose|NumPy|torch|mmcv-full|mmdet)"
        rf"(?: ?(?:version|版本号?))?(?: \([^)\n]*\))?['\"]?(?:[:,] ?|(?<=版本) ?(?:为|是)? ?)['\"]?{_VERSION}",
    ),
    (
        ("but you have", "Uninstalling", "already satisfied"),
        rf"\b(?:but you have|Uninstalling|Requirement already satisfied:) {_NAME}(?: |-){_VERSION}",
    ),
    (("already satisfied",), rf"^Requirement already satisfied: {_NAME}[^\n]*\({_VERSION}\)$"),
    (("==", "-"), rf"(?<![\w.<>=!~/-]){_NAME}(?:==|-){_VERSION}(?![\w.]*\w)"),
    (("==", "-"), rf"(?<![\w.<>=!~-]){_NAME}(?:==|-){_VERSION}"),
    (("/dist/",), rf"/dist/\w+/(?P<name>torch){_VERSION}"),
    (("/torch_stable", "/whl/", ".whl", ".dist-info", ".egg"), rf"(?<=[/ ]){_NAME}-{_VERSION}(?=[-.])"),
)
_SINGLE: tuple[tuple[str, str, str], ...] = (
    ("python", "python", r"\bPython(?: ?(?:version|版本号?))?['\"]?[:,]? ['\"]?(\d\.\d+(?:\.\d+)?)"),
    ("python", "different Python", r"requires a different Python: (\d\.\d+\.\d+)"),
    ("python", "python", r"/(?:lib/)?python(\d\.\d+)/"),
    ("python", "Python", r"/Python(3\d{1,2}|\d\.\d+)/"),
    ("python_tag", "cp", r"\b(?:cpython-|cp)(3\d+)m?-"),
    (
        "cuda",
        "PyTorch",
        r"CUDA used to build PyTorch: (\d+\.\d+)|CUDA Runtime (\d+\.\d+)|used to compile PyTorch \((\d+\.\d+)\)",
    ),
    ("cuda_tag", "cu", r"\btorch(?:==|-| |['\"]?[:,] ?['\"]?)[\d.]+\+cu(\d+)|/dist/cu(\d+)/torch|/whl/cu(\d+)\b"),
    ("mmcv_cuda", "MMCV CUDA", r"MMCV CUDA Compiler['\"]?[:,] ?['\"]?(\d+\.\d+)"),
    ("nvcc", "CUDA", r"Cuda compilation tools, release (\d+\.\d+)|detected CUDA version \((\d+\.\d+)\)"),
    ("driver", "river", r"(?:Driver Version|driver version): (\d{3,}\.[\d.]+)"),
    ("driver_cuda", "NVIDIA-SMI", r"NVIDIA-SMI[^\n]*CUDA (?:UMD )?Version: (\d+\.\d+)"),
)
PRIVATE = ("python_tag", "cuda_tag", "mmcv_cuda")


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, FLAGS)


def versions(text: str) -> dict[str, str]:
    """Versions that the plain text shows: distributions by name, and `python`, `cuda` (what torch was built for),
    `nvcc`, `driver`, `driver_cuda`, `mmcv_cuda`. The strongest evidence wins, then the first."""
    found: dict[str, str] = {}
    lowered = text.lower()
    for fragments, pattern in _NAMED:
        if not any(fragment.lower() in lowered for fragment in fragments):
            continue
        for match in _compiled(pattern).finditer(text):
            name = match["name"].lower().replace("_", "-")
            name = ALIASES.get(name, name)
            if name in KNOWN:
                found.setdefault(name, match["version"])
    for name, fragment, pattern in _SINGLE:
        if fragment.lower() in lowered and (hit := _compiled(pattern).search(text)):
            found.setdefault(name, next(group for group in hit.groups() if group))
    for name, tag in (("python", found.pop("python_tag", None)), ("cuda", found.pop("cuda_tag", None))):
        if tag:
            found.setdefault(name, f"{tag[0]}.{tag[1:]}" if name == "python" else f"{tag[:-1]}.{tag[-1]}")
    if "." not in found.get("python", "."):
        found["python"] = f"{found['python'][0]}.{found['python'][1:]}"  # C:\Python310
    return found
