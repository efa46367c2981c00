"""The rows of `compat_matrix.yaml`, as values. Loaded and checked by `matrix.py`; read by checks, resolve and plan.

Every row carries `source`: keys of the file's `sources` table. Version lists and ranges are PEP 440 text.
"""

from __future__ import annotations

from typing import Literal, Optional

from msgspec import field

from mmdoctor.model import Value


class Row(Value, frozen=True, kw_only=True):
    source: tuple[str, ...]


class TorchRow(Row, frozen=True, kw_only=True):
    """One torch release. Python lists are the CPython minors that have a wheel; `pypi_cuda` is the build CUDA of the
    Linux x86_64 wheel on PyPI, None for a CPU build; `numpy` is the C API generation the binary was built for."""

    release: str
    torchvision: tuple[str, ...]
    python: tuple[str, ...]
    python_aarch64: tuple[str, ...]
    python_windows: tuple[str, ...]
    python_macos_arm64: tuple[str, ...]
    python_macos_x86_64: tuple[str, ...]
    pypi_cuda: Optional[str]
    pypi_cuda_aarch64: Optional[str]
    variants: tuple[str, ...]
    glibc: str
    numpy: Literal["1", "2"]
    cxx_std: int
    cxx11_abi: bool
    weights_only: bool
    setuptools: Optional[str]
    download_mb: Optional[int]


class ArchRow(Row, frozen=True, kw_only=True):
    """What the binaries of one torch release and variant hold: `sass` runs as it is, `ptx` is compiled at load."""

    torch: str
    variant: str
    platform: str
    sass: tuple[str, ...]
    ptx: tuple[str, ...]


class DriverRow(Row, frozen=True, kw_only=True):
    """The oldest driver that runs any CUDA of this major (minor-version compatibility)."""

    cuda_major: str
    linux: str
    windows: Optional[str]


class GpuRow(Row, frozen=True, kw_only=True):
    """`runs_on_sass_of`: compute capabilities whose machine code also runs on this one."""

    compute_capability: str
    arch: str
    architecture: str
    runs_on_sass_of: tuple[str, ...]


class MmcvWheelRow(Row, frozen=True, kw_only=True):
    """Prebuilt wheels of the openmmlab index for one torch minor and variant. `python` None means not recorded per
    wheel, then `wheel_python` of the mmcv release applies."""

    package: Literal["mmcv", "mmcv-full"]
    os: Literal["linux", "windows", "macos"]
    variant: str
    torch: str
    versions: tuple[str, ...]
    python: dict[str, tuple[str, ...]] = field(default_factory=dict)


class MmcvRow(Row, frozen=True, kw_only=True):
    """One mmcv release as a source build. `torch`: range that compiles (with fix-ups), measured or documented."""

    package: Literal["mmcv", "mmcv-full"]
    version: str
    sdist_sha256: Optional[str]
    torch: str
    build_minutes_2_cores: float
    wheel_python: tuple[str, ...]


class OpenmmlabRow(Row, frozen=True, kw_only=True):
    """One release of mmengine, mmdet, mmpose or mmpretrain. `mmcv` and `mmengine` are hard ranges (asserted at
    import); `mim` are the soft ranges of the `[mim]` extra. `needs_mmdet`: imports fail without mmdet."""

    project: Literal["mmengine", "mmdet", "mmpose", "mmpretrain"]
    version: str
    mmcv_package: Optional[Literal["mmcv", "mmcv-full"]]
    mmcv: Optional[str]
    mmengine: Optional[str]
    mim: dict[str, str] = field(default_factory=dict)
    requires: tuple[str, ...] = ()
    needs_mmdet: bool = False
    needs_ops: bool = False
    pkg_resources: bool = False


class NumpyRow(Row, frozen=True, kw_only=True):
    """One NumPy series; `python` are the CPython minors that have a wheel of `last`."""

    series: str
    last: str
    abi: Literal["1", "2"]
    python: tuple[str, ...]


class BinaryRow(Row, frozen=True, kw_only=True):
    """One release of a package with a NumPy-bound binary. `built_on`: C API generation of its wheels. `numpy` is the
    declared range. `python`: CPython minors with a Linux x86_64 wheel."""

    package: str
    version: str
    python: tuple[str, ...]
    python_aarch64: tuple[str, ...]
    python_windows: tuple[str, ...]
    python_macos_arm64: tuple[str, ...]
    python_macos_x86_64: tuple[str, ...]
    built_on: Optional[Literal["1", "2"]]
    numpy: Optional[str]
    sdist_sha256: Optional[str] = None
    build_minutes: Optional[float] = None


class FixupRow(Row, frozen=True, kw_only=True):
    """A change that a source build needs. `replace` is applied to `file` of the unpacked sdist, plain text."""

    id: str
    package: str
    versions: str
    torch: Optional[str] = None
    python: Optional[str] = None
    file: Optional[str] = None
    replace: dict[str, str] = field(default_factory=dict)
    reason: str


class ToolRow(Row, frozen=True, kw_only=True):
    """Build tools for a range of torch: the setuptools that its cpp_extension and mmcv's setup.py both live with."""

    torch: str
    setuptools: str
    setuptools_pin: str


class StackRow(Row, frozen=True, kw_only=True):
    """A stack that was really brought up. `numpy` is the exact version, `notes` what it took."""

    torch: str
    build: str
    python: str
    torchvision: str
    mmcv: str
    mmcv_artefact: Literal["wheel", "build"]
    mmengine: str
    mmdet: Optional[str]
    mmpose: str
    numpy: str
    xtcocotools: str
    xtcocotools_artefact: Literal["wheel", "build"]
    opencv: str
    outcome: Literal["works", "broken"]
    date: str
    notes: str


class CompilerRow(Row, frozen=True, kw_only=True):
    """The first gcc that nvcc of these CUDA versions refuses."""

    cuda: tuple[str, ...]
    gcc_below: str


class Matrix(Value, frozen=True, kw_only=True):
    """`compat_matrix.yaml`, whole."""

    schema_version: str
    read_on: str
    sources: dict[str, str]
    torch_index: str
    openmmlab_index: str
    torch: tuple[TorchRow, ...]
    archs: tuple[ArchRow, ...]
    drivers: tuple[DriverRow, ...]
    gpus: tuple[GpuRow, ...]
    compilers: tuple[CompilerRow, ...]
    mmcv: tuple[MmcvRow, ...]
    mmcv_wheels: tuple[MmcvWheelRow, ...]
    openmmlab: tuple[OpenmmlabRow, ...]
    numpy: tuple[NumpyRow, ...]
    binaries: tuple[BinaryRow, ...]
    tools: tuple[ToolRow, ...]
    fixups: tuple[FixupRow, ...]
    stacks: tuple[StackRow, ...]
