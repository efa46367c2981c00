"""What an import's error message says about its mechanism. Each row: text, cause, and why that text proves it."""

from __future__ import annotations

import re
from typing import Optional

from mmdoctor.checks.base import Verdict, failed_import
from mmdoctor.model import Facts, ImportResult

SIZE_CHANGED = re.compile(r"numpy\.(dtype|ndarray) size changed.*Expected (\d+) from C header, got (\d+)")
# mmdet and mmpose assert the range of mmcv and mmengine with these words.
ASKS_FOR = re.compile(r"Please install (mmcv|mmengine)\b")
# Of a package's own binary only: torch's libraries miss symbols too.
OF_PACKAGE = {
    "mmcv-torch-abi-mismatch": "mmcv",
    "mmcv-cuda-runtime-mismatch": "mmcv",
}
SIGNATURES: tuple[tuple[str, str], ...] = (
    # The dynamic linker names what it does not find.
    (r"cannot open shared object file: Permission denied|PermissionError|Errno 13", "permission-or-lock"),
    (r"libGL\.so\.1|libgthread-2\.0|libglib-2\.0", "libgl-missing"),
    (r"GLIBC_[\d.]+' not found|GLIBCXX_[\d.]+' not found|CXXABI_[\d.]+' not found", "glibc-libstdcxx-too-old"),
    (r"libcudart\.so|libcublas\.so|libcudnn\.so|libnvrtc", "mmcv-cuda-runtime-mismatch"),
    (r"libtorch_cuda_cu\.so|libtorch_cuda_cpp\.so|libtorch\w*\.so", "mmcv-torch-abi-mismatch"),
    # The binary asks torch's libraries for a function under a mangled name (`_ZN2at…`) that this torch does not have.
    (r"torchvision/\S+: undefined symbol", "torchvision-mismatch"),
    (r"undefined symbol: \S*(2at|3c10|5torch|6caffe2)", "mmcv-torch-abi-mismatch"),
    (r"DLL load failed while importing _ext", "mmcv-torch-abi-mismatch"),
    (r"No module named 'mmcv\._ext'|No module named 'mmcv\.ops'", "mmcv-ext-missing"),
    # torchvision registers its operators in a library that did not load beside this torch.
    (r"operator torchvision::nms does not exist|Couldn't load custom C\+\+ ops", "torchvision-mismatch"),
    (r"_ARRAY_API not found|Numpy is not available|compiled using NumPy 1\.x cannot be run", "numpy2-abi"),
    (r"compiled against ABI version 0x1\w* but this version of numpy is 0x2", "numpy2-abi"),
    (r"compiled against ABI version 0x1\d{6} but this version of numpy is 0x2", "numpy2-abi"),
    (r"compiled against (ABI|API) version", "numpy-dtype-size"),
    (r"is used but incompatible\. Please install (mmcv|mmengine)", "mmcv-version-range"),
    (r"No module named 'pkg_resources'", "pkg-resources-gone"),
    # marshal reads the bytecode that importlib hands it; a file that ends early or holds zeros is no bytecode.
    (r"marshal data too short|bad marshal data", "bytecode-damaged"),
    (r"module 'inspect' has no attribute 'getargspec'", "chumpy-py311-getargspec"),
    (r"module 'numpy' has no attribute '(bool|int|float|object|complex|str)'", "numpy-alias-removed"),
    (r"undefined symbol|cannot open shared object file", "torch-install-broken"),
)


def cause_of(result: ImportResult) -> Optional[str]:
    """The cause slug that a failed import's message proves, or None.

    `numpy.dtype` is 96 bytes in NumPy 1 and 88 in NumPy 2 (measured: 1.21.6, 1.26.4, 2.4.6): expected 96, got 88 is a
    NumPy 1 binary under NumPy 2. `numpy.ndarray` only grew (80, 88, 96), so there an older NumPy is loaded than the
    binary was built for.
    """
    message = result.message or ""
    sizes = SIZE_CHANGED.search(message)
    if sizes:
        kind, expected, got = sizes[1], int(sizes[2]), int(sizes[3])
        return "numpy2-abi" if kind == "dtype" and expected > got else "numpy-dtype-size"
    return cause_told(message, " ".join((result.module, *result.packages, message)))


def cause_told(message: str, concerned: str) -> Optional[str]:
    """The cause slug that a message about the packages in `concerned` proves, or None."""
    for pattern, cause in SIGNATURES:
        if re.search(pattern, message) and OF_PACKAGE.get(cause, "") in concerned:
            return cause
    return None


def imported(facts: Facts, step: str, cause: str, *about: str) -> Optional[Verdict]:
    """The verdict on an import that did not end well; None when it did, or was not tried."""
    result = facts.imported(step)
    if result is None or result.status == "ok":
        return None
    return failed_import(result, cause_of(result) or cause, about)
