"""Small named questions to the matrix, asked by checks, resolver and plan alike. Pure; each says what it rests on."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache, lru_cache, wraps
from typing import Any, Callable, NamedTuple, Optional, TypeVar, Union

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from mmdoctor.matrix_model import (
    ArchRow,
    BinaryRow,
    FixupRow,
    GpuRow,
    Matrix,
    MmcvRow,
    MmcvWheelRow,
    OpenmmlabRow,
    StackRow,
    StandardRow,
    ToolRow,
    TorchRow,
)
from mmdoctor.model import Distribution, Extension, Facts, GpuDevice, Host, PipWheel, Stack, Target, Tool
from mmdoctor.stack import STACK_MODULES

Rule = TypeVar("Rule", bound=Callable[..., Any])
MMCV_NAMES = ("mmcv", "mmcv-full", "mmcv-lite", "onedl-mmcv")
ARM = ("aarch64", "arm64")
X86 = ("x86_64", "AMD64")
# What nvcc adds for one arch: a full CUDA build took 19.5 minutes on two cores where the CPU ops took 6.5 (notes of
# 2026-11-20). Precompiled headers, which g++ alone has, have made the 6.5 less since, and these 13 not.
NVCC_MINUTES_2_CORES = 13.0
# What compilers take of the memory (measured: mmcv 2.1.0 without debug symbols, torch 2.1.2, gcc 12; nvcc 13.0, torch
# 2.14.1): an op 0.7 GB, through nvcc 1.4 GB, pybind.cpp, which names every op, 1.9 GB, or 1.45 GB by a thrifty gcc.
BYTES_PER_JOB = 1_500_000_000
BYTES_OF_LARGEST = 1_900_000_000
BYTES_PER_OP, BYTES_PER_NVCC_OP = 700_000_000, 1_400_000_000
FIRST_MINOR_COMPATIBLE = "11.0"  # NVIDIA CUDA Compatibility: before CUDA 11 each minor needs its own driver
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


def remembered(rule: Rule) -> Rule:
    """A question to the matrix that is answered once per matrix: `rule(matrix, *arguments)`, all of them hashable and
    of few values (versions of the matrix, platforms), so that what is kept stays small."""

    @wraps(rule)
    def ask(matrix: Matrix, *arguments: Any) -> Any:
        answers, key = matrix.answers, (rule, arguments)
        try:
            return answers[key]
        except KeyError:
            return answers.setdefault(key, rule(matrix, *arguments))

    return ask  # type: ignore[return-value]


@cache
def within(version: str, specifier: Optional[str]) -> bool:
    """Whether a version satisfies a PEP 440 range; pre-releases count, None allows everything.

    `==2.1.0` accepts `2.1.0+cu118`, not the reverse. A text that is no version is in no range.
    """
    try:
        return specifier is None or SpecifierSet(specifier).contains(Version(version), prereleases=True)
    except InvalidVersion:
        return False


@cache
def public(version: str) -> str:
    """The version without its local label: `2.1.2+cu121` → `2.1.2`."""
    return version.split("+", 1)[0]


@cache
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
    return MODULE_OF.get(distribution) or distribution.replace("-", "_")


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


def movable(distribution: Distribution) -> bool:
    """Whether another release of it can come from an index: not of what was installed from a folder or an address."""
    return distribution.record != "editable" and not distribution.direct


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


def not_for_this_torch(extension: Optional[Extension], target: Target) -> Optional[str]:
    """Why a binary does not load beside the installed torch (it *was* …); None where that exports all that it wants."""
    if extension is None or target.torch is None or not extension.missing_count:
        return None
    whose = f"torch {extension.built_for}" if extension.built_for else "another torch"
    if wants_cuda(extension, target):
        return f"was compiled for a CUDA build of torch: torch {target.torch.version} is one for the CPU"
    more = f" and of {extension.missing_count - 1} more" if extension.missing_count > 1 else ""
    said = f"torch {target.torch.version} does not export its form of {cxx_name(extension.missing[0])}{more}"
    return f"was compiled for {whose}: {said}"


def cxx_name(symbol: str) -> str:
    """What a mangled symbol is called in C++, without its arguments: `at::_ops::zeros::call`; the symbol itself where
    its name is of another kind (Itanium C++ ABI, 5.1: a row of lengths and names)."""
    start = found.end() if (found := re.match(r"_ZN?K?", symbol)) else 0
    at, names = start, []
    while start and (length := re.compile(r"\d+").match(symbol, at)):
        at = length.end() + int(length[0])
        names.append(symbol[length.end() : at])
    return "::".join(names) or symbol


def wants_cuda(extension: Extension, target: Target) -> bool:
    """Whether a binary is linked with the CUDA part of torch, and the installed torch has none."""
    return target.torch is not None and target.torch.cuda is None and "libc10_cuda.so" in extension.needed


def wheel_fault(wheel: PipWheel, facts: Facts) -> Optional[str]:
    """Why a wheel of pip's own cache must not be installed here, in words; None when nothing speaks against it."""
    target, numpy = facts.target, facts.target.version("numpy")
    if wheel.name in MMCV_NAMES and wheel.extension is None:
        return "holds no compiled ops: no torch was in sight when it was built"
    said = extension_fault(wheel.extension, facts.host) if wheel.extension else None
    if said:
        return f"is of no use: {said}"
    unfit = not_for_this_torch(wheel.extension, target)
    if unfit:
        return unfit
    if wheel.numpy == "1" and numpy is not None and numpy_generation(numpy) == "2":
        return f"was compiled for NumPy 1; numpy {numpy} is installed"
    return None


def prebuilt(distribution: Distribution, row: Optional[BinaryRow], facts: Facts) -> bool:
    """Whether an installed binary came from a wheel of the index, not from a build here (`linux_x86_64` in its tag).

    Of a pretended distribution there is no tag: it is the wheel where one exists.
    """
    if distribution.tag is not None:
        return "-linux_" not in distribution.tag
    pretended = row is not None and not distribution.folder
    return pretended and minor(facts.target.python) in wheel_pythons(row, facts.host)  # type: ignore[arg-type]


@remembered
def driver_floor(matrix: Matrix, variant: str, os_name: str) -> Optional[str]:
    """The oldest driver that runs a variant: from CUDA 11 on the floor of its major (minor-version compatibility),
    before that the driver of its own toolkit; None for CPU or unknown."""
    cuda = cuda_of(variant)
    if cuda is None:
        return None
    if order(cuda) < order(FIRST_MINOR_COMPATIBLE):
        return toolkit_driver(matrix, variant, os_name)
    row = next((row for row in matrix.drivers if row.cuda_major == cuda.split(".")[0]), None)
    return None if row is None else row.windows if os_name == "windows" else row.linux


@remembered
def toolkit_driver(matrix: Matrix, variant: str, os_name: str) -> Optional[str]:
    """The driver that came with the toolkit of a variant's CUDA: the oldest that compiles its PTX (an older one runs
    machine code alone: error 222); None for CPU or unknown."""
    row = next((row for row in matrix.toolkits if row.cuda == cuda_of(variant)), None)
    return None if row is None else row.windows if os_name == "windows" else row.linux


@remembered
def driver_source(matrix: Matrix, cuda: str) -> tuple[str, ...]:
    """The sources of what is known of drivers for a CUDA version."""
    rows = [row for row in matrix.drivers if row.cuda_major == cuda.split(".", maxsplit=1)[0]]
    toolkits = [row for row in matrix.toolkits if row.cuda == cuda]
    return tuple(sorted({key for row in (*rows, *toolkits) for key in row.source}))


def driver_takes(facts: Facts, variant: str, floor: Optional[str]) -> bool:
    """Whether the driver may run a variant whose floor is this; an unknown driver may. What CUDA the driver states
    counts too: with a cuda-compat package before it (forward compatibility) that is more than its own."""
    driver, ceiling, cuda = facts.gpu.driver, facts.gpu.cuda_ceiling, cuda_of(variant)
    if floor is None or not isinstance(driver, str) or driver_runs(driver, floor):
        return True
    return ceiling is not None and cuda is not None and order(ceiling) >= order(cuda)


def is_data_center(matrix: Matrix, device: GpuDevice) -> bool:
    """Whether a GPU is one that NVIDIA's cuda-compat packages are for, by its name (`NVIDIA A100-SXM4-40GB`)."""
    row = gpu_row(matrix, device.compute_capability)
    words = set(re.split(r"[\s-]+", device.name))
    return row is not None and not words.isdisjoint(row.data_center)


@cache
def driver_runs(driver: str, floor: str) -> bool:
    """Whether a driver is at least `floor`; compared number by number, `550.144.03` ≥ `525.60.13`."""
    return _numbers(driver) >= _numbers(floor)


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".") if part.isdigit())


class Code(NamedTuple):
    """What a binary holds for a GPU: machine code that runs there, PTX that the driver can compile for it."""

    machine: bool
    ptx: bool


def code_for(matrix: Matrix, release: str, variant: str, host: Host, capability: str) -> Optional[Code]:
    """What torch's binary holds for a GPU: its own machine code or one of the same major that runs there, and PTX of a
    lower capability. None when the matrix has no row for that binary or GPU."""
    machine = "aarch64" if host.machine in ARM else host.machine
    return _code_for(matrix, public(release), variant, host.os, machine, capability)


@remembered
def _code_for(
    matrix: Matrix, release: str, variant: str, os_name: str, machine: str, capability: str
) -> Optional[Code]:
    rows = arch_rows(matrix).get((release, variant), ())
    row = next((row for row in rows if row.platform in (f"{os_name}_{machine}", os_name)), None)
    gpu = gpu_row(matrix, capability)
    if row is None or gpu is None:
        return None
    wanted = _numbers(capability)
    return Code(
        machine=bool({capability, *gpu.runs_on_sass_of} & set(row.sass)),
        ptx=any(_numbers(ptx) <= wanted for ptx in row.ptx),
    )


@remembered
def arch_rows(matrix: Matrix) -> dict[tuple[str, str], tuple[ArchRow, ...]]:
    """The rows of torch's binaries by release and variant."""
    found: dict[tuple[str, str], tuple[ArchRow, ...]] = {}
    for row in matrix.archs:
        found[row.torch, row.variant] = (*found.get((row.torch, row.variant), ()), row)
    return found


def holds_code_for(matrix: Matrix, release: str, variant: str, host: Host, capability: str) -> Optional[bool]:
    """Whether torch's binary holds any code that runs on a GPU, whatever the driver. None when the matrix does not
    know."""
    code = code_for(matrix, release, variant, host, capability)
    return None if code is None else code.machine or code.ptx


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


@remembered
def gcc_limit(matrix: Matrix, nvcc: str) -> Optional[str]:
    """The first gcc that an nvcc refuses; None when the matrix does not know it."""
    return next((row.gcc_below for row in matrix.compilers if minor(nvcc) in row.cuda), None)


@remembered
def gcc_floor(matrix: Matrix, cxx_std: int) -> Optional[StandardRow]:
    """The oldest gcc that compiles this C++ standard as torch's headers use it, with its source; None when the matrix
    does not know."""
    return next((row for row in matrix.standards if row.cxx_std == cxx_std), None)


@remembered
def nvcc_floor(matrix: Matrix, capability: str) -> Optional[str]:
    """The oldest CUDA with which a torch was built for this GPU or one whose code it runs; None when none is known."""
    gpu = gpu_row(matrix, capability)
    usable = {capability, *(gpu.runs_on_sass_of if gpu else ())}
    builds = (cuda_of(row.variant) for row in matrix.archs if usable & set(row.sass))
    return min((cuda for cuda in builds if cuda), key=order, default=None)


def seen_version(tool: Optional[Tool]) -> Optional[str]:
    """The version of a tool as far as somebody saw it; None without the tool too."""
    return tool.version if tool is not None and isinstance(tool.version, str) else None


@remembered
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


@remembered
def build_tools(matrix: Matrix, torch: str) -> Optional[ToolRow]:
    """The setuptools that torch's cpp_extension and mmcv's setup.py both live with."""
    return next((row for row in matrix.tools if within(public(torch), row.torch)), None)


def declared(text: str, facts: Facts) -> Optional[Requirement]:
    """A declared requirement, its name normalised, as far as it applies to the target; None for that of an extra, of
    another platform or Python, or for a text that pip itself ignores."""
    if "extra ==" in text:  # the most of them, and parsing takes its time
        return None
    requirement = _parsed(text)
    marker = requirement.marker if requirement else None
    return requirement if marker is None or marker.evaluate(_markers(facts)) else None


@lru_cache(maxsize=8192)
def _parsed(text: str) -> Optional[Requirement]:
    try:
        requirement = Requirement(text)
    except InvalidRequirement:
        return None
    if requirement.marker is not None and "extra" in str(requirement.marker):
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
    those of the GPUs present; empty where CPU ops are enough, as without a GPU, unless FORCE_CUDA=1 wants others."""
    if variant == "cpu" or not (facts.gpu.devices or facts.environment.get("FORCE_CUDA") == "1"):
        return ""
    listed = facts.environment.get("TORCH_CUDA_ARCH_LIST", "").replace(" ", ";")
    return listed or ";".join(sorted({device.compute_capability for device in facts.gpu.devices}, key=order))


def capabilities(archs: str) -> tuple[str, ...]:
    """The compute capabilities of a list of archs (`9.0;12.0+PTX`)."""
    return tuple(arch.partition("+")[0] for arch in archs.split(";") if arch)


def build_jobs(cores: int, memory_bytes: int, *, cuda: bool = False) -> int:
    """How many compiles run side by side: as many as there are cores and memory for, at least one."""
    beside_largest = (memory_bytes - BYTES_OF_LARGEST) // (BYTES_PER_NVCC_OP if cuda else BYTES_PER_OP)
    return max(1, min(cores, 1 + beside_largest))


def build_minutes(row: Optional[MmcvRow], host: Host, archs: str) -> float:
    """How many minutes mmcv compiles on this machine's cores, as far as its memory feeds them."""
    jobs = build_jobs(host.cpu_count, host.memory_total_bytes, cuda=bool(archs))
    minutes = row.build_minutes_2_cores if row else 7.0
    nvcc = NVCC_MINUTES_2_CORES * len(archs.split(";")) if archs else 0.0
    return round((minutes + nvcc) * 2 / jobs, 1)


@cache
def numpy_generation(version: str) -> str:
    """`1` or `2`: the generation of NumPy's C API."""
    return public(version).split(".", 1)[0]


def newest(versions: Iterable[str]) -> Optional[str]:
    """The newest of some versions, None of none."""
    return max(versions, key=order, default=None)


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


def brought(facts: Facts, module: str) -> Optional[Distribution]:
    """The installed distribution that brings a module of the stack; None without one."""
    installed = facts.target.installed
    return next((installed[name] for name in OWNERS.get(module, (module,)) if name in installed), None)


def doubled(facts: Facts) -> dict[str, tuple[Distribution, ...]]:
    """The modules of OpenMMLab that several installed distributions bring, with those distributions."""
    found = {module: [d for d in facts.target.own if d.name in OWNERS[module]] for module in OWNERS if module != "cv2"}
    return {module: tuple(owners) for module, owners in found.items() if len({d.name for d in owners}) > 1}


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


def without_cuda_ops(facts: Facts, extension: Extension, variant: str) -> bool:
    """Whether mmcv's binary was compiled for the CPU alone, beside a CUDA build of torch and a GPU: it imports, and an
    op on the GPU ends in `nms_impl: implementation for device cuda:0 not found` (facts: nms_impl_cuda_not_found)."""
    here = facts.gpu.devices and cuda_of(variant) is not None
    return bool(here) and extension.problem is None and not extension.has_cuda_code
