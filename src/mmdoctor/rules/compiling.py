"""What a compile takes: fix-ups, tools, jobs, minutes."""

from __future__ import annotations

from typing import Optional

from mmdoctor.matrix_model import FixupRow, Matrix, MmcvRow, StandardRow, ToolRow
from mmdoctor.model import Host, Tool
from mmdoctor.rules.rows import gpu_row
from mmdoctor.rules.versions import cuda_of, minor, order, public, remembered, within

# What nvcc adds for one arch: a full CUDA build took 19.5 minutes on two cores where the CPU ops took 6.5 (notes of
# 2026-11-20). Precompiled headers, which g++ alone has, have made the 6.5 less since, and these 13 not.
NVCC_MINUTES_2_CORES = 13.0
# What compilers take of the memory (measured: mmcv 2.1.0 without debug symbols, torch 2.1.2, gcc 12; nvcc 13.0, torch
# 2.14.1): an op 0.7 GB, through nvcc 1.4 GB, pybind.cpp, which names every op, 1.9 GB, or 1.45 GB by a thrifty gcc.
BYTES_PER_JOB = 1_500_000_000
BYTES_OF_LARGEST = 1_900_000_000
BYTES_PER_OP, BYTES_PER_NVCC_OP = 700_000_000, 1_400_000_000


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
