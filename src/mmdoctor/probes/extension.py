"""Reads a compiled extension without loading it (pyelftools): what it needs, and whether it holds CUDA code."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

from mmdoctor.model import Extension

# nvcc puts the device code of an extension here.
CUDA_SECTION = ".nv_fatbin"


def read_extension(path: Path) -> Optional[Extension]:
    """The needed libraries, the machine, and whether device code is inside; None when it is not a whole ELF file."""
    from elftools.common.exceptions import ELFError
    from elftools.elf.dynamic import DynamicSection
    from elftools.elf.elffile import ELFFile

    try:
        with path.open("rb") as stream:
            elf = ELFFile(stream)
            dynamic = elf.get_section_by_name(".dynamic")
            needed: tuple[str, ...] = ()
            if isinstance(dynamic, DynamicSection):
                needed = tuple(str(getattr(tag, "needed", "")) for tag in dynamic.iter_tags("DT_NEEDED"))
            return Extension(
                path=str(path),
                needed=needed,
                has_cuda_code=elf.get_section_by_name(CUDA_SECTION) is not None,
                machine=str(elf["e_machine"]),
            )
    except (OSError, ELFError):
        return None
