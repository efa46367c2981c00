"""Questions to what is installed: requirements, damage, binaries."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple, Optional

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from mmdoctor.matrix_model import BinaryRow, Matrix
from mmdoctor.model import Distribution, Extension, Facts, Host, PipWheel, Target
from mmdoctor.rules.names import MMCV_NAMES, OPENCV_NAMES, OWNERS, STACK_DISTRIBUTIONS
from mmdoctor.rules.rows import pypi_variant, torch_row, wheel_pythons
from mmdoctor.rules.versions import cuda_of, minor, numpy_generation, variant_of, within


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


def brought(facts: Facts, module: str) -> Optional[Distribution]:
    """The installed distribution that brings a module of the stack; None without one."""
    installed = facts.target.installed
    return next((installed[name] for name in OWNERS.get(module, (module,)) if name in installed), None)


def doubled(facts: Facts) -> dict[str, tuple[Distribution, ...]]:
    """The modules of OpenMMLab that several installed distributions bring, with those distributions."""
    found = {module: [d for d in facts.target.own if d.name in OWNERS[module]] for module in OWNERS if module != "cv2"}
    return {module: tuple(owners) for module, owners in found.items() if len({d.name for d in owners}) > 1}


def without_cuda_ops(facts: Facts, extension: Extension, variant: str) -> bool:
    """Whether mmcv's binary was compiled for the CPU alone, beside a CUDA build of torch and a GPU: it imports, and an
    op on the GPU ends in `nms_impl: implementation for device cuda:0 not found` (facts: nms_impl_cuda_not_found)."""
    here = facts.gpu.devices and cuda_of(variant) is not None
    return bool(here) and extension.problem is None and not extension.has_cuda_code
