"""The rows of `compat_matrix.yaml`, as values. Loaded and checked by `matrix.py`; read by checks, resolve and plan.

Every row carries `source`: keys of the file's `sources` table. Version lists and ranges are PEP 440 text.
"""

from __future__ import annotations

from functools import cached_property
from hashlib import sha256
from typing import Any, Literal, Optional

from msgspec import field

from mmdoctor.model import Value

MmcvName = Literal["mmcv", "mmcv-full", "onedl-mmcv"]


class Row(Value, frozen=True, kw_only=True):
    source: tuple[str, ...]


class TorchRow(Row, frozen=True, kw_only=True):
    """One torch release. Python lists are the CPython minors that have a wheel; `pypi_cuda` is the build CUDA of the
    Linux x86_64 wheel on PyPI, None for a CPU build; `numpy` is the C API generation the binary was built for.
    `withdrawn`, here and in other tables: why PyPI no longer hands the release out (yanked, or gone)."""

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
    withdrawn: Optional[str] = None


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


class ToolkitRow(Row, frozen=True, kw_only=True):
    """The driver that came with the first release of one CUDA toolkit."""

    cuda: str
    linux: str
    windows: Optional[str]


class GpuRow(Row, frozen=True, kw_only=True):
    """`runs_on_sass_of`: compute capabilities whose machine code also runs on this one. `data_center`: the words that
    name the data-centre GPUs of this capability, which cuda-compat packages are for."""

    compute_capability: str
    arch: str
    architecture: str
    runs_on_sass_of: tuple[str, ...]
    data_center: tuple[str, ...] = ()


class WheelSourceRow(Row, frozen=True, kw_only=True):
    """An index of prebuilt mmcv wheels. `page` is its address for `--find-links`, with `{variant}`, `{torch}` (`2.1.0`)
    and `{digits}` (`210`); `packages` are the distributions that it is the publisher's own index of, or that a
    `community` builds, which counts only where the user names it to pip or uv (`probes/offers.py`). `glibc` is the
    floor that its wheels' tags state, None where they state none that holds. `caveat`: what is to be known of it."""

    name: str
    page: str
    packages: tuple[MmcvName, ...]
    community: bool = False
    glibc: Optional[str] = None
    caveat: Optional[str] = None


class MmcvWheelRow(Row, frozen=True, kw_only=True):
    """Prebuilt wheels of their publisher's index for one torch minor and variant. `python` None means not recorded per
    wheel, then `wheel_python` of the mmcv release applies. `archs` are the compute capabilities that the CUDA ops of
    all of them hold machine code for, empty where nobody looked."""

    package: MmcvName
    os: Literal["linux", "windows", "macos"]
    variant: str
    torch: str
    versions: tuple[str, ...]
    python: dict[str, tuple[str, ...]] = field(default_factory=dict)
    archs: tuple[str, ...] = ()


class MmcvRow(Row, frozen=True, kw_only=True):
    """One mmcv release as a source build. `torch`: range that compiles (with fix-ups), measured or documented.
    `python`: what it declares (Requires-Python), None where that excludes none of the stack's."""

    package: MmcvName
    version: str
    sdist_sha256: Optional[str]
    torch: str
    build_minutes_2_cores: float
    wheel_python: tuple[str, ...]
    python: Optional[str] = None
    withdrawn: Optional[str] = None


class OpenmmlabRow(Row, frozen=True, kw_only=True):
    """One release of mmengine, mmdet, mmpose or mmpretrain, or of a fork under their import names. `mmcv` and
    `mmengine` are hard ranges (asserted at import); `mim` are the soft ranges of the `[mim]` extra. `needs_mmdet`:
    imports fail without mmdet."""

    project: Literal["mmengine", "mmdet", "mmpose", "mmpretrain", "onedl-mmengine", "onedl-mmdetection"]
    version: str
    mmcv_package: Optional[MmcvName]
    mmcv: Optional[str]
    mmengine: Optional[str]
    mim: dict[str, str] = field(default_factory=dict)
    requires: tuple[str, ...] = ()
    needs_mmdet: bool = False
    needs_ops: bool = False
    pkg_resources: bool = False
    withdrawn: Optional[str] = None


class NumpyRow(Row, frozen=True, kw_only=True):
    """One NumPy series; `python` are the CPython minors that have a wheel of `last`, `glibc` what its Linux wheels need
    where that is more than manylinux2014's 2.17."""

    series: str
    last: str
    abi: Literal["1", "2"]
    python: tuple[str, ...]
    glibc: Optional[str] = None


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
    withdrawn: Optional[str] = None


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


class DocumentRow(Row, frozen=True, kw_only=True):
    """What a document says goes together, and no package itself: `package` in `versions` with each of `needs`.
    `says` is the verb of the sentence. Nothing follows from it; docs/matrix.md holds it against what was measured."""

    package: str
    versions: str
    says: str
    needs: dict[str, str]


class StackRow(Row, frozen=True, kw_only=True):
    """A stack that was brought up, or was not: evidence. `numpy` is the exact version, `notes` what was seen.

    What `matrix verify` writes has a `machine` (what the evidence holds for; no name of it), `times` of each step
    (seconds of wall clock and CPU), `load` (the highest load average meanwhile) and `artefacts` (file name → sha256).
    A broken one has the `step` that failed, its first `error`, and the `roots` that the checks tie it to. `unmet` are
    declared requirements that do not hold. The rows without a machine were measured by hand.
    """

    torch: str
    build: str
    python: str
    torchvision: str
    mmcv_package: Literal["mmcv", "mmcv-full", "onedl-mmcv"] = "mmcv"
    mmcv: str
    mmcv_artefact: Literal["wheel", "build"]
    mmengine: Optional[str]
    mmdet: Optional[str]
    mmpose: str
    numpy: str
    xtcocotools: str
    xtcocotools_artefact: Literal["wheel", "build"]
    opencv: str
    outcome: Literal["works", "broken"]
    step: Optional[str] = None
    error: Optional[str] = None
    roots: tuple[str, ...] = ()
    unmet: tuple[str, ...] = ()
    date: str
    notes: str
    machine: dict[str, str] = field(default_factory=dict)
    times: dict[str, tuple[float, ...]] = field(default_factory=dict)
    load: Optional[float] = None
    artefacts: dict[str, str] = field(default_factory=dict)

    @property
    def combination(self) -> tuple[Optional[str], ...]:
        """What was combined, wherever and with whatever outcome."""
        return (
            self.torch,
            self.build,
            self.python,
            self.torchvision,
            self.mmcv_package,
            self.mmcv,
            self.mmcv_artefact,
            self.mmengine,
            self.mmdet,
            self.mmpose,
            self.numpy,
            self.xtcocotools,
            self.xtcocotools_artefact,
            self.opencv,
        )

    @property
    def id(self) -> str:
        """Eight hexadecimal digits that name the combination."""
        return sha256(repr(self.combination).encode()).hexdigest()[:8]


class CompilerRow(Row, frozen=True, kw_only=True):
    """The first gcc that nvcc of these CUDA versions refuses."""

    cuda: tuple[str, ...]
    gcc_below: str


class CudaWheelsRow(Row, frozen=True, kw_only=True):
    """nvcc as wheels, for a torch of this CUDA on a machine without such a toolkit: the distributions with their
    versions. Their folder `home`, together with that of torch's own wheels and with `links` (name → what it stands
    for), serves as CUDA_HOME."""

    cuda: str
    os: Literal["linux", "windows"]
    machine: str
    wheels: dict[str, str]
    home: str
    links: dict[str, str]


class StandardRow(Row, frozen=True, kw_only=True):
    """The oldest gcc that compiles this C++ standard as torch's headers use it."""

    cxx_std: int
    gcc: str


class Matrix(Value, frozen=True, kw_only=True, dict=True):
    """`compat_matrix.yaml`, whole."""

    schema_version: str
    read_on: str
    sources: dict[str, str]
    torch_index: str
    openmmlab_index: str
    torch: tuple[TorchRow, ...]
    archs: tuple[ArchRow, ...]
    drivers: tuple[DriverRow, ...]
    toolkits: tuple[ToolkitRow, ...]
    gpus: tuple[GpuRow, ...]
    compilers: tuple[CompilerRow, ...]
    cuda_wheels: tuple[CudaWheelsRow, ...] = ()
    standards: tuple[StandardRow, ...]
    mmcv: tuple[MmcvRow, ...]
    wheel_sources: tuple[WheelSourceRow, ...]
    mmcv_wheels: tuple[MmcvWheelRow, ...]
    openmmlab: tuple[OpenmmlabRow, ...]
    numpy: tuple[NumpyRow, ...]
    binaries: tuple[BinaryRow, ...]
    tools: tuple[ToolRow, ...]
    fixups: tuple[FixupRow, ...]
    documents: tuple[DocumentRow, ...] = ()
    stacks: tuple[StackRow, ...]

    @cached_property
    def answers(self) -> dict[Any, Any]:
        """What `rules` remembers of this matrix; no part of its value."""
        return {}
