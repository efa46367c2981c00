"""Small named questions to the matrix, asked by checks, resolver and plan alike. Pure; each says what it rests on."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Callable, NamedTuple, Optional, Union

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from mmdoctor.matrix_model import (
    BinaryRow,
    FixupRow,
    GpuRow,
    Matrix,
    MmcvRow,
    MmcvWheelRow,
    OpenmmlabRow,
    ToolRow,
    TorchRow,
)
from mmdoctor.model import STACK_MODULES, Distribution, Extension, Facts, Host, Stack

MMCV_NAMES = ("mmcv", "mmcv-full", "mmcv-lite", "onedl-mmcv")
ARM = ("aarch64", "arm64")
CUDA_TIMES = 3
OPENCV_NAMES = ("opencv-python", "opencv-python-headless", "opencv-contrib-python", "opencv-contrib-python-headless")
STACK_DISTRIBUTIONS = frozenset(STACK_MODULES) | {*MMCV_NAMES, *OPENCV_NAMES}
# What the resolver chooses; of the rest that the stack needs, what is damaged is mended at its version.
PARTS = (STACK_DISTRIBUTIONS - {"cv2", "pycocotools"}) | {"setuptools"}


@cache
def within(version: str, specifier: Optional[str]) -> bool:
    """Whether a version satisfies a PEP 440 range; pre-releases count, None allows everything.

    `==2.1.0` accepts `2.1.0+cu118`, not the reverse. A text that is no version is in no range.
    """
    try:
        return specifier is None or SpecifierSet(specifier).contains(Version(version), prereleases=True)
    except InvalidVersion:
        return False


def public(version: str) -> str:
    """The version without its local label: `2.1.2+cu121` → `2.1.2`."""
    return version.split("+", 1)[0]


def minor(version: str) -> str:
    """The first two numbers of a version: `3.11.7` → `3.11`, `2.1.2+cu121` → `2.1`."""
    return ".".join(public(version).split(".")[:2])


@cache
def order(version: str) -> Version:
    """The sort key of a version; a text that is no version sorts first."""
    try:
        return Version(version)
    except InvalidVersion:
        return Version("0")


def variant_of(version: str, cuda: Optional[str]) -> str:
    """The variant of a torch build: its local label, else its build CUDA (`12.1` → `cu121`), else `cpu`."""
    label = version.partition("+")[2].partition(".")[0]  # `cu117.with.pypi.cudnn` is cu117
    if label.startswith("cu") or label == "cpu":
        return label
    return "cpu" if not cuda else "cu" + cuda.replace(".", "")


def cuda_of(variant: str) -> Optional[str]:
    """The build CUDA of a variant: `cu121` → `12.1`, `cu130` → `13.0`, `cpu` → None."""
    digits = variant[2:]
    return f"{digits[:-1]}.{digits[-1]}" if variant.startswith("cu") and digits.isdigit() else None


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


def mmlab_row(matrix: Matrix, project: str, version: str) -> Optional[OpenmmlabRow]:
    """The row of an OpenMMLab release."""
    return next((row for row in matrix.openmmlab if row.project == project and row.version == version), None)


def mmlab_rows(matrix: Matrix, project: str) -> tuple[OpenmmlabRow, ...]:
    """All releases of an OpenMMLab project, newest first."""
    rows = (row for row in matrix.openmmlab if row.project == project)
    return tuple(sorted(rows, key=lambda row: order(row.version), reverse=True))


def mmcv_row(matrix: Matrix, package: str, version: str) -> Optional[MmcvRow]:
    """The row of an mmcv or mmcv-full release."""
    return next((row for row in matrix.mmcv if row.package == package and row.version == version), None)


def binary_row(matrix: Matrix, package: str, version: str) -> Optional[BinaryRow]:
    """The row of one release of a NumPy-bound package."""
    return next((row for row in matrix.binaries if row.package == package and row.version == version), None)


def gpu_row(matrix: Matrix, capability: str) -> Optional[GpuRow]:
    """The row of a compute capability (`8.6`)."""
    return next((row for row in matrix.gpus if row.compute_capability == capability), None)


def wheel_pythons(row: Union[TorchRow, BinaryRow], host: Host) -> tuple[str, ...]:
    """The CPython minors for which this release has a wheel on this operating system and machine."""
    if host.os == "windows":
        return row.python_windows
    if host.os == "macos":
        return row.python_macos_arm64 if host.machine in ARM else row.python_macos_x86_64
    return row.python_aarch64 if host.machine in ARM else row.python


def pypi_variant(row: TorchRow, host: Host) -> str:
    """The variant that PyPI's wheel of this release is, on this machine (Windows and macOS wheels are CPU builds)."""
    if host.os != "linux":
        return "cpu"
    cuda = row.pypi_cuda_aarch64 if host.machine in ARM else row.pypi_cuda
    return "cpu" if cuda is None else "cu" + cuda.replace(".", "")


def torch_variant(matrix: Matrix, facts: Facts) -> Optional[str]:
    """The variant of the installed torch; None without torch.

    A pretended list says `torch==2.1.2` and means PyPI's wheel: a label or a build CUDA is only read from files.
    """
    torch = facts.target.torch
    if torch is None:
        return None
    row = torch_row(matrix, torch.version)
    if row is not None and "+" not in torch.version and any(key.startswith("installed=") for key in facts.pretended):
        return pypi_variant(row, facts.host)
    return variant_of(torch.version, torch.cuda)


class Unmet(NamedTuple):
    """A declared requirement that does not hold; `have` is the installed version, None without one."""

    distribution: Distribution
    requirement: Requirement
    have: Optional[str]

    @property
    def said(self) -> str:
        """The sentence for people."""
        who = f"{self.distribution.name} {self.distribution.version}"
        return f"{who} wants {self.requirement}; {self.have or 'nothing'} is installed"


def unmet(facts: Facts) -> tuple[Unmet, ...]:
    """The declared requirements that do not hold. One OpenCV serves for every flavour: all bring the same cv2."""
    installed = {name: d.version for name, d in facts.target.installed.items()}
    has_opencv = any(name in installed for name in OPENCV_NAMES)
    found = []
    for distribution in facts.target.own:
        for text in distribution.requires:
            requirement = declared(text, facts)
            if requirement is None or (requirement.name in OPENCV_NAMES and has_opencv):
                continue
            have = installed.get(requirement.name)
            if have is None or not within(have, str(requirement.specifier)):
                found.append(Unmet(distribution, requirement, have))
    return tuple(found)


def below(version: str, specifier: str) -> bool:
    """Whether a version is older than a range begins."""
    floors = (clause for clause in SpecifierSet(specifier) if clause.operator in (">=", ">", "~=", "=="))
    return any(order(version) < order(clause.version.removesuffix(".*")) for clause in floors)


def module_of(distribution: str) -> str:
    """The import name of a distribution: its own with underscores, but for those that bring another."""
    if distribution in OPENCV_NAMES:
        return "cv2"
    return "mmcv" if distribution in MMCV_NAMES else distribution.replace("-", "_")


def stack_and_below(facts: Facts) -> frozenset[str]:
    """The installed distributions of the stack, and those that they require, directly or through others."""
    requires = {d.name: d.requires for d in facts.target.distributions}
    ahead = [name for name in requires if name in STACK_DISTRIBUTIONS]
    found = set(ahead)
    while ahead:
        for text in requires[ahead.pop()]:
            requirement = declared(text, facts)
            if requirement is not None and requirement.name in requires and requirement.name not in found:
                found.add(requirement.name)
                ahead.append(requirement.name)
    return frozenset(found)


def twins(facts: Facts) -> dict[str, tuple[Distribution, ...]]:
    """The distributions that one folder lists more than once, by name."""
    groups: dict[tuple[str, str], list[Distribution]] = {}
    for distribution in facts.target.distributions:
        groups.setdefault((distribution.name, distribution.folder), []).append(distribution)
    return {name: tuple(group) for (name, folder), group in groups.items() if folder and len(group) > 1}


def damage(distribution: Distribution) -> Optional[str]:
    """What is wrong with a distribution's files, in words; None when all are there and whole."""
    if distribution.record == "missing":
        return "no RECORD"
    said = [f"missing {', '.join(distribution.missing_files)}"] if distribution.missing_files else []
    said += [f"without its end {', '.join(distribution.damaged_files)}"] if distribution.damaged_files else []
    return "; ".join(said) or None


# ELF's name of the machine (e_machine) that an extension has to be for.
ELF_MACHINES = {"x86_64": "EM_X86_64", "aarch64": "EM_AARCH64", "arm64": "EM_AARCH64"}


def extension_fault(extension: Extension, host: Host) -> Optional[str]:
    """Why no linker takes mmcv's binary here, in words; None when nothing speaks against it, or it is no Linux."""
    if host.os != "linux":
        return None
    said = {
        "unreadable": "this user may not read it",
        "cut-off": "its end is missing",
        "foreign": "it is no ELF file",
    }.get(extension.problem or "")
    wanted = ELF_MACHINES.get(host.machine, extension.machine)
    other = f"it is for another machine: {extension.machine}, not {wanted}" if extension.machine != wanted else None
    return said or other


def prebuilt(distribution: Distribution, row: Optional[BinaryRow], facts: Facts) -> bool:
    """Whether an installed binary came from a wheel of the index, not from a build here (`linux_x86_64` in its tag).

    Of a pretended distribution there is no tag: it is the wheel where one exists.
    """
    if distribution.tag is not None:
        return "-linux_" not in distribution.tag
    pretended = row is not None and not distribution.folder
    return pretended and minor(facts.target.python) in wheel_pythons(row, facts.host)  # type: ignore[arg-type]


def driver_floor(matrix: Matrix, variant: str, os_name: str) -> Optional[str]:
    """The oldest driver that runs a variant, by NVIDIA's minor-version compatibility; None for CPU or unknown."""
    cuda = cuda_of(variant)
    if cuda is None:
        return None
    row = next((row for row in matrix.drivers if row.cuda_major == cuda.split(".")[0]), None)
    return None if row is None else row.windows if os_name == "windows" else row.linux


def driver_runs(driver: str, floor: str) -> bool:
    """Whether a driver is at least `floor`; compared number by number, `550.144.03` ≥ `525.60.13`."""
    return _numbers(driver) >= _numbers(floor)


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".") if part.isdigit())


def holds_code_for(matrix: Matrix, release: str, variant: str, host: Host, capability: str) -> Optional[bool]:
    """Whether torch's binary holds code that runs on a GPU: its own machine code, one of the same major that runs
    there, or PTX of a lower capability. None when the matrix has no row for that binary."""
    platform = f"{host.os}_{'aarch64' if host.machine in ARM else host.machine}"
    rows = (row for row in matrix.archs if row.torch == public(release) and row.variant == variant)
    row = next((row for row in rows if row.platform in (platform, host.os)), None)
    gpu = gpu_row(matrix, capability)
    if row is None or gpu is None:
        return None
    usable = {capability, *gpu.runs_on_sass_of}
    wanted = _numbers(capability)
    return bool(usable & set(row.sass)) or any(_numbers(ptx) <= wanted for ptx in row.ptx)


def mmcv_wheel(
    matrix: Matrix, package: str, version: str, host: Host, variant: str, torch: str, python: str
) -> Optional[MmcvWheelRow]:
    """The row of the openmmlab index that holds a wheel of this mmcv for this torch minor, variant and Python.

    The index has x86_64 wheels only, for Linux, Windows and macOS (facts: `no wheel … nor for Linux aarch64`).
    """
    if host.machine in ARM:
        return None
    built = mmcv_row(matrix, package, version)
    for row in matrix.mmcv_wheels:
        same = row.package == package and row.os == host.os and row.variant == variant and row.torch == minor(torch)
        if same and version in row.versions:
            pythons = row.python.get(version, built.wheel_python if built else ())
            return row if minor(python) in pythons else None
    return None


def gcc_limit(matrix: Matrix, nvcc: str) -> Optional[str]:
    """The first gcc that an nvcc refuses; None when the matrix does not know it."""
    return next((row.gcc_below for row in matrix.compilers if minor(nvcc) in row.cuda), None)


def nvcc_floor(matrix: Matrix, capability: str) -> Optional[str]:
    """The oldest CUDA with which a torch was built for this GPU or one whose code it runs; None when none is known."""
    gpu = gpu_row(matrix, capability)
    usable = {capability, *(gpu.runs_on_sass_of if gpu else ())}
    builds = (cuda_of(row.variant) for row in matrix.archs if usable & set(row.sass))
    return min((cuda for cuda in builds if cuda), key=order, default=None)


def fixups_for(matrix: Matrix, package: str, version: str, torch: Optional[str], python: str) -> tuple[FixupRow, ...]:
    """The changes that a source build of `package` needs beside this torch and Python."""

    def applies(row: FixupRow) -> bool:
        return (
            row.package == package
            and within(version, row.versions)
            and (row.torch is None or (torch is not None and within(public(torch), row.torch)))
            and (row.python is None or within(python, row.python))
        )

    return tuple(row for row in matrix.fixups if applies(row))


def build_tools(matrix: Matrix, torch: str) -> Optional[ToolRow]:
    """The setuptools that torch's cpp_extension and mmcv's setup.py both live with."""
    return next((row for row in matrix.tools if within(public(torch), row.torch)), None)


def declared(text: str, facts: Facts) -> Optional[Requirement]:
    """A declared requirement, its name normalised, as far as it applies to the target; None for that of an extra, of
    another platform or Python, or for a text that pip itself ignores."""
    if "extra ==" in text:  # the most of them, and parsing takes its time
        return None
    try:
        requirement = Requirement(text)
    except InvalidRequirement:
        return None
    marker = requirement.marker
    if marker is not None and ("extra" in str(marker) or not marker.evaluate(_markers(facts))):
        return None
    requirement.name = canonicalize_name(requirement.name)
    return requirement


def _markers(facts: Facts) -> dict[str, str]:
    """PEP 508's environment of the target, not of the interpreter that mmdoctor runs on."""
    host, target = facts.host, facts.target
    sys_platform, system = {"windows": ("win32", "Windows"), "macos": ("darwin", "Darwin")}.get(
        host.os, ("linux", "Linux")
    )
    return {
        "extra": "",
        "implementation_name": target.implementation,
        "implementation_version": target.python,
        "os_name": "nt" if host.os == "windows" else "posix",
        "platform_machine": "AMD64" if host.os == "windows" and host.machine == "x86_64" else host.machine,
        "platform_python_implementation": "CPython" if target.implementation == "cpython" else "PyPy",
        "platform_release": "",
        "platform_system": system,
        "platform_version": "",
        "python_full_version": target.python,
        "python_version": minor(target.python),
        "sys_platform": sys_platform,
    }


def cuda_archs(facts: Facts, variant: str) -> str:
    """The compute capabilities that mmcv's CUDA ops are compiled for beside this torch: TORCH_CUDA_ARCH_LIST, else
    those of the GPUs present; empty where CPU ops are enough."""
    if variant == "cpu" or not facts.gpu.devices:
        return ""
    present = sorted({device.compute_capability for device in facts.gpu.devices}, key=order)
    return facts.environment.get("TORCH_CUDA_ARCH_LIST", ";".join(present))


def build_minutes(row: Optional[MmcvRow], host: Host, archs: str) -> float:
    """How long mmcv compiles on this machine's cores. CUDA ops for one arch took three times the CPU ops (measured:
    19.5 against 6.5 minutes on two cores)."""
    minutes = (row.build_minutes_2_cores if row else 7.0) * 2 / max(host.cpu_count, 1)
    return round(minutes * (CUDA_TIMES * len(archs.split(";")) if archs else 1), 1)


def numpy_generation(version: str) -> str:
    """`1` or `2`: the generation of NumPy's C API."""
    return public(version).split(".", 1)[0]


def newest(versions: Iterable[str]) -> Optional[str]:
    """The newest of some versions, None of none."""
    return max(versions, key=order, default=None)
