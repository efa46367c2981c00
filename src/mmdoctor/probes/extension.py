"""Reads a compiled extension without loading it (pyelftools): whether it is whole, what it needs, and CUDA code."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from mmdoctor.model import Extension

# nvcc puts the device code of an extension here.
CUDA_SECTION = ".nv_fatbin"


def read_extension(path: Path) -> Extension:
    """The needed libraries, the machine, and whether device code is inside; `problem` where no linker would take it.

    ELF keeps its table of sections at the end, so a file that ends before that table was cut off.
    """
    from elftools.common.exceptions import ELFError
    from elftools.elf.dynamic import DynamicSection
    from elftools.elf.elffile import ELFFile

    try:
        size = path.stat().st_size
        with path.open("rb") as stream:
            elf = ELFFile(stream)
            machine = str(elf["e_machine"])
            if elf["e_shoff"] + elf["e_shentsize"] * elf["e_shnum"] > size:
                return _unusable(path, "cut-off", machine)
            dynamic = elf.get_section_by_name(".dynamic")
            needed: tuple[str, ...] = ()
            if isinstance(dynamic, DynamicSection):
                needed = tuple(str(getattr(tag, "needed", "")) for tag in dynamic.iter_tags("DT_NEEDED"))
            return Extension(
                path=str(path),
                needed=needed,
                has_cuda_code=elf.get_section_by_name(CUDA_SECTION) is not None,
                machine=machine,
            )
    except OSError:
        return _unusable(path, "unreadable")
    except ELFError:
        return _unusable(path, "foreign" if size else "cut-off")


def _unusable(path: Path, problem: Literal["unreadable", "cut-off", "foreign"], machine: str = "") -> Extension:
    return Extension(path=str(path), needed=(), has_cuda_code=False, machine=machine, problem=problem)
