"""Questions to the rows of the matrix: releases, their wheels and ranges."""

from __future__ import annotations

from typing import Callable, NamedTuple, Optional, Union

from mmdoctor.matrix_model import (
    ArchRow,
    BinaryRow,
    GpuRow,
    Matrix,
    MmcvRow,
    MmcvWheelRow,
    OpenmmlabRow,
    StackRow,
    TorchRow,
)
from mmdoctor.model import Host, Stack
from mmdoctor.rules.names import MMCV_NAMES, family_of
from mmdoctor.rules.versions import minor, order, public, remembered, within

ARM = ("aarch64", "arm64")
X86 = ("x86_64", "AMD64")


@remembered
def torch_row(matrix: Matrix, version: str) -> Optional[TorchRow]:
    """The row of a torch release, local label ignored."""
    return next((row for row in matrix.torch if row.release == public(version)), None)


def torch_source(stack: Stack) -> tuple[tuple[str, ...], Callable[[str], str]]:
    """The index options, and how to say an exact version there: `===` on PyPI, since `==2.13.0` would also take a
    `2.13.0+cpu` that the user's find-links offer; `==…+variant` on the torch index."""
    index = stack.torch.index
    if index.startswith("http"):
        return ("--index", index, "--index-strategy", "unsafe-best-match"), lambda v: f"=={v}+{stack.torch.variant}"
    return (), lambda v: f"==={v}"


@remembered
def mmlab_row(matrix: Matrix, project: str, version: str) -> Optional[OpenmmlabRow]:
    """The row of an OpenMMLab release."""
    return next((row for row in matrix.openmmlab if row.project == project and row.version == version), None)


@remembered
def releases(matrix: Matrix, name: str) -> tuple[str, ...]:
    """The releases of a distribution that the matrix knows; of NumPy the last of each series."""
    if name == "torch":
        return tuple(row.release for row in matrix.torch)
    if name == "torchvision":
        return tuple(version for row in matrix.torch for version in row.torchvision)
    if name == "numpy":
        return tuple(row.last for row in matrix.numpy)
    labs = (row.version for row in matrix.openmmlab if row.project == name)
    return (*labs, *(row.version for row in mmcv_rows(matrix, name)), *(r.version for r in binary_rows(matrix, name)))


@remembered
def mmlab_rows(matrix: Matrix, project: str) -> tuple[OpenmmlabRow, ...]:
    """All releases of an OpenMMLab project, newest first."""
    rows = (row for row in matrix.openmmlab if row.project == project)
    return tuple(sorted(rows, key=lambda row: order(row.version), reverse=True))


@remembered
def xtcocotools_of(matrix: Matrix, mmpose: str) -> str:
    """The range of xtcocotools that a release of mmpose declares; empty where it takes any."""
    row = mmlab_row(matrix, "mmpose", mmpose)
    texts = (text for text in (row.requires if row else ()) if text.startswith("xtcocotools"))
    return next(texts, "").removeprefix("xtcocotools")


@remembered
def xtcocotools_ranges(matrix: Matrix, major: str) -> frozenset[str]:
    """The ranges of xtcocotools that the releases of one generation of mmpose (`0`, `1`) declare."""
    versions = (row.version for row in mmlab_rows(matrix, "mmpose") if row.version[0] == major)
    return frozenset(xtcocotools_of(matrix, version) for version in versions)


@remembered
def mmcv_row(matrix: Matrix, package: str, version: str) -> Optional[MmcvRow]:
    """The row of an mmcv or mmcv-full release."""
    return next((row for row in matrix.mmcv if row.package == package and row.version == version), None)


@remembered
def binary_row(matrix: Matrix, package: str, version: str) -> Optional[BinaryRow]:
    """The row of one release of a NumPy-bound package."""
    return next((row for row in matrix.binaries if row.package == package and row.version == version), None)


@remembered
def binary_rows(matrix: Matrix, package: str) -> tuple[BinaryRow, ...]:
    """All releases of a NumPy-bound package, newest first."""
    rows = (row for row in matrix.binaries if row.package == package)
    return tuple(sorted(rows, key=lambda row: order(row.version), reverse=True))


@remembered
def gpu_row(matrix: Matrix, capability: str) -> Optional[GpuRow]:
    """The row of a compute capability (`8.6`)."""
    return next((row for row in matrix.gpus if row.compute_capability == capability), None)


class Platform(NamedTuple):
    """What of a host the wheels are for."""

    os: str
    machine: str


def wheel_pythons(row: Union[TorchRow, BinaryRow], host: Union[Host, Platform]) -> tuple[str, ...]:
    """The CPython minors for which this release has a wheel on this operating system and machine."""
    if host.os == "macos":
        return row.python_macos_arm64 if host.machine in ARM else row.python_macos_x86_64
    if host.machine in X86:
        return row.python_windows if host.os == "windows" else row.python
    return row.python_aarch64 if host.machine in ARM and host.os == "linux" else ()


@remembered
def torch_pythons(matrix: Matrix) -> frozenset[str]:
    """The CPython minors for which any torch has a wheel on any platform."""
    lists = (
        (r.python, r.python_aarch64, r.python_windows, r.python_macos_arm64, r.python_macos_x86_64)
        for r in matrix.torch
    )
    return frozenset(python for some in lists for pythons in some for python in pythons)


def pypi_variant(row: TorchRow, host: Union[Host, Platform]) -> str:
    """The variant that PyPI's wheel of this release is, on this machine (Windows and macOS wheels are CPU builds)."""
    if host.os != "linux":
        return "cpu"
    cuda = row.pypi_cuda_aarch64 if host.machine in ARM else row.pypi_cuda
    return "cpu" if cuda is None else "cu" + cuda.replace(".", "")


@remembered
def arch_rows(matrix: Matrix) -> dict[tuple[str, str], tuple[ArchRow, ...]]:
    """The rows of torch's binaries by release and variant."""
    found: dict[tuple[str, str], tuple[ArchRow, ...]] = {}
    for row in matrix.archs:
        found[row.torch, row.variant] = (*found.get((row.torch, row.variant), ()), row)
    return found


def mmcv_wheel(
    matrix: Matrix, package: str, version: str, host: Host, variant: str, torch: str, python: str
) -> Optional[MmcvWheelRow]:
    """The row of its publisher's index that holds a wheel of this mmcv for this torch minor, variant and Python.

    Both indexes have x86_64 wheels only (facts: `no wheel … nor for Linux aarch64`; OneDL's for Jetson name no torch).
    """
    if host.machine not in X86:
        return None
    built = mmcv_row(matrix, package, version)
    for row in _wheel_rows(matrix).get((package, host.os, variant, minor(torch)), ()):
        if version in row.versions:
            pythons = row.python.get(version, built.wheel_python if built else ())
            return row if minor(python) in pythons else None
    return None


@remembered
def published_mmcvs(matrix: Matrix, os_name: str, variant: str, torch: str) -> frozenset[tuple[str, str]]:
    """The mmcv releases (package, version) whose publisher has a wheel for this torch minor and variant, for whatever
    Python."""
    keys = ((package, os_name, variant, minor(torch)) for package in MMCV_NAMES)
    rows = (row for key in keys for row in _wheel_rows(matrix).get(key, ()))
    return frozenset((row.package, version) for row in rows for version in row.versions)


@remembered
def compilable_mmcvs(matrix: Matrix, torch: str) -> frozenset[tuple[str, str]]:
    """The mmcv releases (package, version) whose source compiles against this torch release."""
    return frozenset((row.package, row.version) for row in matrix.mmcv if within(torch, row.torch))


@remembered
def _wheel_rows(matrix: Matrix) -> dict[tuple[str, str, str, str], tuple[MmcvWheelRow, ...]]:
    found: dict[tuple[str, str, str, str], tuple[MmcvWheelRow, ...]] = {}
    for row in matrix.mmcv_wheels:
        key = (row.package, row.os, row.variant, row.torch)
        found[key] = (*found.get(key, ()), row)
    return found


def parts_of_row(row: StackRow) -> dict[str, Optional[str]]:
    """The versions of a measured stack by distribution, Python's among them; None for what it is without."""
    family = family_of(row.mmcv_package)
    opencv, _, opencv_version = row.opencv.partition("==")
    return {
        "python": row.python,
        "torch": row.torch,
        "torchvision": row.torchvision,
        row.mmcv_package: row.mmcv,
        family.mmengine: row.mmengine,
        family.mmdet: row.mmdet,
        "mmpose": row.mmpose,
        "numpy": row.numpy,
        "xtcocotools": row.xtcocotools,
        opencv: opencv_version,
    }


class WheelIndex(NamedTuple):
    """The index where the publisher of an mmcv has its wheels. `page`, `glibc` and `caveat` as in WheelSourceRow."""

    name: str
    page: str
    glibc: Optional[str] = None
    caveat: Optional[str] = None

    def address(self, variant: str, torch: str) -> str:
        """The page for a torch minor and variant, to be given as --find-links."""
        return self.page.format(variant=variant, torch=f"{torch}.0", digits=f"{torch}.0".replace(".", ""))


@remembered
def wheel_index(matrix: Matrix, package: str) -> WheelIndex:
    """Where the wheels of an mmcv distribution are: a row of `wheel_sources`, else OpenMMLab's own index."""
    row = next((row for row in matrix.wheel_sources if package in row.packages and not row.community), None)
    if row is None:
        return WheelIndex("openmmlab", matrix.openmmlab_index)
    return WheelIndex(row.name, row.page, row.glibc, row.caveat)


@remembered
def mmcv_rows(matrix: Matrix, package: str) -> tuple[MmcvRow, ...]:
    """All releases of an mmcv distribution, newest first."""
    return tuple(sorted((r for r in matrix.mmcv if r.package == package), key=lambda r: order(r.version), reverse=True))
