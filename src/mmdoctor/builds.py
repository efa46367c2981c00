"""How a wheel is compiled for a machine: fix-ups, variables, tools, and the CUDA toolkit. Pure; shared by the resolver,
the plan and `wheels build`."""

from __future__ import annotations

from typing import NamedTuple, Optional, Union

from mmdoctor import rules
from mmdoctor.matrix_model import CudaWheelsRow, Matrix, TorchRow
from mmdoctor.model import Build, Facts, Fixup, Host, Target, Tool, Toolchain, Unknown

# What setup.py of mmcv, xtcocotools and pycocotools, and torch's cpp_extension, import or run besides setuptools.
BUILD_TOOLS = ("wheel", "ninja", "psutil", "packaging", "cython")
# chumpy's imports pip (facts: chumpy_isolated_build).
TOOLS_OF = {"chumpy": (*BUILD_TOOLS, "pip")}
# Ops wanted, no debug symbols (measured, mmcv 2.1.0 on two cores: 4.9 instead of 6.5 minutes).
MMCV_ENV = {"MMCV_WITH_OPS": "1", "CFLAGS": "-g0", "CXXFLAGS": "-g0"}
GET_GCC = (
    "install one: `apt-get install g++` (Debian, Ubuntu), `dnf install gcc-c++` (Fedora, RHEL) or `conda install -c "
    "conda-forge gxx_linux-64`; or name it with CC and CXX"
)
BUILDABLE = ("mmcv", "mmcv-full", "onedl-mmcv", "xtcocotools", "pycocotools", "chumpy")
BOUND_TO_TORCH = ("mmcv", "mmcv-full", "onedl-mmcv")


def build_for(
    matrix: Matrix, host: Host, package: str, version: str, *, python: str, torch: Optional[str], archs: str = ""
) -> Build:
    """The build of a release for this machine, Python and torch. `archs` (`7.5;8.6`) are the compute capabilities to
    compile CUDA ops for, empty for CPU ops."""
    env, sha256, minutes = {}, None, 1.0
    if package in BOUND_TO_TORCH:
        row = rules.mmcv_row(matrix, package, version)
        # CUDA ops also where the build sees no GPU (a container, a login node).
        env = {**MMCV_ENV, **({"FORCE_CUDA": "1", "TORCH_CUDA_ARCH_LIST": archs} if archs else {})}
        sha256, minutes = row.sdist_sha256 if row else None, rules.build_minutes(row, host, archs)
    else:
        binary = rules.binary_row(matrix, package, version)
        sha256, minutes = (binary.sdist_sha256, binary.build_minutes or minutes) if binary else (None, minutes)
    fixups = tuple(
        Fixup(id=row.id, file=row.file, replace=row.replace, reason=row.reason)
        for row in rules.fixups_for(matrix, package, version, torch, python)
        if row.file is not None
    )
    return Build(package=package, version=version, sdist_sha256=sha256, minutes=minutes, fixups=fixups, env=env)


def missing_tools(matrix: Matrix, package: str, target: Target) -> tuple[str, ...]:
    """The requirements of a build that the target does not hold: the setuptools that its torch lives with, and the rest
    of the tools."""
    torch = target.torch.version if target.torch else matrix.torch[-1].release
    row = rules.build_tools(matrix, torch)
    have = target.version("setuptools")
    held = row is None or (have is not None and rules.within(have, row.setuptools))
    setuptools = () if held or row is None else (f"setuptools=={row.setuptools_pin}",)
    return (*setuptools, *(tool for tool in TOOLS_OF.get(package, BUILD_TOOLS) if target.version(tool) is None))


def compiler_fault(matrix: Matrix, host: Host, toolchain: Toolchain, package: str, target: Target) -> Optional[Fault]:
    """Why the machine's C++ compiler does not serve; None where it does, or where nobody saw its version."""
    if package == "chumpy" or not toolchain.looked or host.os != "linux":
        return None
    if toolchain.gcc is None:
        return Fault("compiler", "a C++ compiler", "none", "no C++ compiler is there", GET_GCC)
    torch = rules.torch_row(matrix, target.torch.version) if target.torch and package in BOUND_TO_TORCH else None
    floor = rules.gcc_floor(matrix, torch.cxx_std) if torch else None
    seen = rules.seen_version(toolchain.gcc)
    if torch is not None and floor is not None and seen is not None and rules.order(seen) < rules.order(floor.gcc):
        why, do = (
            f"torch's headers are C++{torch.cxx_std}",
            f"install gcc {floor.gcc} or newer, and name it: CC=… CXX=…",
        )
        return Fault("gcc", f"gcc ≥{floor.gcc}", seen, why, do)
    return None


class CudaTools(NamedTuple):
    """What compiles CUDA ops: the machine's own toolkit with this nvcc (None where nobody saw its version). With
    `wheels` it is put together: nvcc, from them or from the toolkit at `own`, and what torch's own wheels hold."""

    nvcc: Optional[str]
    wheels: Optional[CudaWheelsRow] = None
    own: Optional[str] = None


def nvcc_wheels(row: CudaWheelsRow) -> tuple[str, ...]:
    """The requirements that bring nvcc."""
    return tuple(f"{name}{range_}" for name, range_ in row.wheels.items())


class Fault(NamedTuple):
    """Why this machine does not compile it: the fact that is in the way, what it would have to be, what it is, the
    reason, and what to do."""

    fact: str
    wanted: str
    observed: str
    why: str
    do: str


def cuda_tools(
    matrix: Matrix, host: Host, toolchain: Toolchain, cuda: str, capabilities: tuple[str, ...]
) -> Union[CudaTools, Fault]:
    """What compiles CUDA ops beside a torch of this CUDA (`13.0`) for these compute capabilities.

    The machine's nvcc where it is of torch's CUDA major, knows the GPUs and takes the gcc, with torch's headers of
    CUDA's libraries where it lacks them; one whose version nobody saw is taken to fit. Else nvcc as wheels, where the
    matrix has them. Else why the machine's own does not serve.
    """
    if not toolchain.looked or (toolchain.nvcc is not None and isinstance(toolchain.nvcc.version, Unknown)):
        return CudaTools(None)
    own = rules.seen_version(toolchain.nvcc)
    here = _refused(matrix, toolchain.gcc, own, cuda, capabilities)
    if here is None and toolchain.cuda_headers:
        return CudaTools(own)
    platform = (cuda, host.os, host.machine)
    row = next((row for row in matrix.cuda_wheels if (row.cuda, row.os, row.machine) == platform), None)
    if row is None:
        why, lacking = "torch's headers include those of CUDA's libraries", f"cusparse.h in {toolchain.cuda_home}"
        return here or Fault("toolkit", lacking, "nvcc without them", why, _install(matrix, cuda))
    if here is None:
        return CudaTools(own, row, toolchain.cuda_home)
    return _refused(matrix, toolchain.gcc, row.cuda, cuda, capabilities) or CudaTools(row.cuda, row)


class Needed(NamedTuple):
    """A tool of a compile: as it is here or is brought along (`sure`), or, where nobody saw its version, as it has to
    be."""

    text: str
    sure: bool
    tool: Optional[Tool]


def toolchain_for(matrix: Matrix, facts: Facts, torch: TorchRow, variant: str) -> tuple[Needed, ...]:
    """The tools that compile mmcv beside this torch: `nvcc 13.0.88` and `gcc 12.2.0`, `nvcc 13.x` and `gcc ≥11.3 <16`,
    `nvcc 13.0 from wheels`."""
    chain, host = facts.toolchain, facts.host
    gcc = rules.seen_version(chain.gcc)
    capabilities = rules.capabilities(rules.cuda_archs(facts, variant))
    cuda = rules.cuda_of(variant) if capabilities else None
    needed, limit = [], None
    if cuda is not None:
        tools = cuda_tools(matrix, host, chain, cuda, capabilities)
        nvcc = tools.nvcc if isinstance(tools, CudaTools) else None
        brought = isinstance(tools, CudaTools) and tools.wheels is not None and tools.own is None
        text = f"nvcc {nvcc}{' from wheels' if brought else ''}" if nvcc else _nvcc_for(matrix, cuda, capabilities)
        needed.append(Needed(text, nvcc is not None, chain.nvcc))
        limit = rules.gcc_limit(matrix, nvcc or cuda)
    floor = rules.gcc_floor(matrix, torch.cxx_std)
    bounds = " ".join((*([f"≥{floor.gcc}"] if floor else ()), *([f"<{limit}"] if limit else ())))
    compiler = f"gcc {gcc or bounds}".strip() if host.os == "linux" else "a C++ compiler"
    return (*needed, Needed(compiler, gcc is not None, chain.gcc))


def _nvcc_for(matrix: Matrix, cuda: str, capabilities: tuple[str, ...]) -> str:
    """The nvcc that CUDA ops beside a torch of this CUDA and for these GPUs take: `nvcc 13.x`, `nvcc 12.x, 12.8 or
    newer`."""
    floors = (rules.nvcc_floor(matrix, capability) for capability in capabilities)
    floor, major = rules.newest(filter(None, floors)), cuda.partition(".")[0]
    same = floor is not None and floor.partition(".")[0] == major and not floor.endswith(".0")
    return f"nvcc {major}.x, {floor} or newer" if same else f"nvcc {major}.x"


def _install(matrix: Matrix, cuda: str) -> str:
    limit = rules.gcc_limit(matrix, cuda)
    return (
        f"install the CUDA toolkit {cuda}: `apt-get` or `dnf install cuda-toolkit-{cuda.replace('.', '-')}` from "
        f"NVIDIA's repository, or `conda install nvidia/label/cuda-{cuda}.0::cuda-toolkit`"
    ) + (f"; its nvcc takes gcc older than {limit}" if limit else "")


def _refused(
    matrix: Matrix, gcc: Optional[Tool], nvcc: Optional[str], cuda: str, capabilities: tuple[str, ...]
) -> Optional[Fault]:
    """Why this nvcc does not serve; None where it does."""
    major = cuda.partition(".")[0]
    if nvcc is None or nvcc.partition(".")[0] != major:
        why = "CUDA ops need nvcc of torch's CUDA major"
        return Fault("nvcc", _nvcc_for(matrix, cuda, capabilities), nvcc or "none", why, _install(matrix, cuda))
    floors = {capability: rules.nvcc_floor(matrix, capability) for capability in capabilities}
    for capability, floor in floors.items():
        if floor is not None and rules.order(nvcc) < rules.order(floor):
            why, newer = "an older nvcc does not know this GPU", f"install a CUDA toolkit {major}.x, {floor} or newer"
            return Fault("nvcc", f"nvcc ≥{floor} for {capability}", nvcc, why, newer)
    seen, limit = rules.seen_version(gcc), rules.gcc_limit(matrix, nvcc)
    if limit is not None and seen is not None and rules.order(seen) >= rules.order(limit):
        older = int(limit.partition(".")[0]) - 1
        do = f"install gcc {older} and set CC=gcc-{older} CXX=g++-{older}"
        return Fault("gcc", f"gcc <{limit}", seen, f"nvcc {nvcc} refuses a newer gcc", do)
    return None
