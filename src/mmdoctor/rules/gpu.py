"""Drivers, CUDA and what a binary holds for a GPU."""

from __future__ import annotations

import re
from functools import cache
from typing import NamedTuple, Optional

from mmdoctor.matrix_model import Matrix
from mmdoctor.model import Facts, GpuDevice, Host
from mmdoctor.rules.rows import ARM, arch_rows, gpu_row
from mmdoctor.rules.versions import cuda_of, numbers, order, public, remembered

FIRST_MINOR_COMPATIBLE = "11.0"  # NVIDIA CUDA Compatibility: before CUDA 11 each minor needs its own driver


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
    return numbers(driver) >= numbers(floor)


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
    wanted = numbers(capability)
    return Code(
        machine=bool({capability, *gpu.runs_on_sass_of} & set(row.sass)),
        ptx=any(numbers(ptx) <= wanted for ptx in row.ptx),
    )


def holds_code_for(matrix: Matrix, release: str, variant: str, host: Host, capability: str) -> Optional[bool]:
    """Whether torch's binary holds any code that runs on a GPU, whatever the driver. None when the matrix does not
    know."""
    code = code_for(matrix, release, variant, host, capability)
    return None if code is None else code.machine or code.ptx


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
