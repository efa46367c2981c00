"""What device code a binary holds, from the headers of its .nv_fatbin section; the code itself may be compressed.

The section is a row of containers. A container's header (fatbinary_section.h of the CUDA toolkit) is a magic number,
a version, its own size, and the size of what follows. That is a row of entries, one for each architecture: kind (1
PTX, 2 machine code), version, sizes of header and code, and at byte 28 the architecture, at byte 40 flags. NVIDIA does
not publish the entries: measured on what nvcc 12.1 and 13.0 write for sm_50 to sm_120a, compressed and not.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

CONTAINER = struct.Struct("<IHHQ")
MAGIC = 0xBA55ED50
ENTRY = struct.Struct("<HHIQ12xI8xQ")
PTX, MACHINE_CODE = 1, 2
# sm_90a runs on that GPU alone, sm_100f on its family.
SPECIFIC, FAMILY = 0x100000, 0x200000


class DeviceCode(NamedTuple):
    """Compute capabilities (`9.0`, `9.0a`) that there is machine code (`archs`) and PTX for, in ascending order."""

    archs: tuple[str, ...]
    ptx: tuple[str, ...]


def device_code(section: bytes) -> DeviceCode:
    """What every container of the section holds: each object file brings one, and a kernel of an object that was
    compiled for something else does not run."""
    seen = [set(_entries(section, start, end)) for start, end in _containers(section)]

    def everywhere(kind: int) -> tuple[str, ...]:
        sets = [{arch for arch in found if arch[0] == kind} for found in seen]
        common = set.intersection(*(one for one in sets if one)) if any(sets) else set()
        return tuple(f"{arch // 10}.{arch % 10}{suffix}" for _, arch, suffix in sorted(common))

    return DeviceCode(everywhere(MACHINE_CODE), everywhere(PTX))


def _containers(section: bytes) -> Iterator[tuple[int, int]]:
    """Where the entries of each container begin and end; between containers there is padding to 8 bytes."""
    at = 0
    while at + CONTAINER.size <= len(section):
        magic, _, header, size = CONTAINER.unpack_from(section, at)
        if magic != MAGIC:
            at += 8
            continue
        yield at + header, min(at + header + size, len(section))
        at += header + size


def _entries(section: bytes, at: int, end: int) -> Iterator[tuple[int, int, str]]:
    """(kind, architecture, suffix) of each entry of a container."""
    while at + ENTRY.size <= end:
        kind, _, header, size, arch, flags = ENTRY.unpack_from(section, at)
        if not header:
            return
        if kind in (PTX, MACHINE_CODE):
            yield kind, arch, "a" if flags & SPECIFIC else "f" if flags & FAMILY else ""
        at += header + size
