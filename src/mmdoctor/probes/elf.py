"""Reads an ELF file without loading it: what it needs, what it leaves undefined, whether it exports a name.

The layout is that of elf(5), and for .gnu.hash the one that GNU's linkers write and read. pyelftools reads the tables
of symbol versions, which a proof alone asks for: importing it takes 0.1 s, an entry of a symbol table 20 µs (measured),
and libtorch_cpu has 90,000.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, NamedTuple, Optional

HEADER = struct.Struct("<4sBB10xHHIQQQIHHHHHH")
SECTION = struct.Struct("<IIQQQQIIQQ")
SYMBOL = struct.Struct("<IBBHQQ")
DYNAMIC = struct.Struct("<qQ")
HASH = struct.Struct("<4I")
MAGIC, BITS_64, LITTLE_ENDIAN = b"\x7fELF", 2, 1
MACHINES = {3: "EM_386", 21: "EM_PPC64", 40: "EM_ARM", 62: "EM_X86_64", 183: "EM_AARCH64", 243: "EM_RISCV"}
NO_BITS = 8
NEEDED, RPATH, RUNPATH = 1, 15, 29
GLOBAL, WEAK, UNIQUE = 1, 2, 10
HIDDEN = (1, 2)  # STV_INTERNAL, STV_HIDDEN
WEAK_VERSION = 2  # VER_FLG_WEAK
# nvcc puts the device code of an extension here.
CUDA_SECTION = ".nv_fatbin"


class ElfProblem(Exception):  # noqa: N818  what is wrong with a file is its reader's finding, not an error of ours
    """The file is *cut-off* (ELF keeps its table of sections at the end), or *foreign*: no ELF file of 64 bits."""

    def __init__(self, kind: Literal["cut-off", "foreign"], machine: str = "") -> None:
        """Say what is wrong, and the machine where the file still tells it."""
        super().__init__(kind)
        self.kind: Literal["cut-off", "foreign"] = kind
        self.machine = machine


class _Place(NamedTuple):
    offset: int
    size: int


class Elf:
    """An ELF file, held open while it is looked into. `machine` is ELF's own name (`EM_X86_64`)."""

    def __init__(self, path: Path) -> None:
        """Open it; OSError where it cannot be read, ElfProblem where there is nothing to read."""
        self.path = path
        self._stream = path.open("rb")
        try:
            if not path.stat().st_size:
                raise ElfProblem("cut-off")
            self._bytes = mmap.mmap(self._stream.fileno(), 0, access=mmap.ACCESS_READ)
            self.machine, self._sections = self._headers()
        except BaseException:
            self._stream.close()
            raise

    def _headers(self) -> tuple[str, dict[str, _Place]]:
        """The machine, and where each section is."""
        if len(self._bytes) < HEADER.size or self._bytes[:4] != MAGIC:
            raise ElfProblem("foreign")
        header = HEADER.unpack_from(self._bytes)
        machine = MACHINES.get(header[4], f"EM_{header[4]}")
        if header[1:3] != (BITS_64, LITTLE_ENDIAN):
            raise ElfProblem("foreign", machine)
        first, (size, count, names) = header[8], header[-3:]
        if first + size * count > len(self._bytes):
            raise ElfProblem("cut-off", machine)
        try:
            found = [SECTION.unpack_from(self._bytes, first + size * number) for number in range(count)]
            texts = found[names][4] if found else 0
        except (struct.error, IndexError):
            raise ElfProblem("foreign", machine) from None
        return machine, {
            self._text(texts + name): _Place(offset, 0 if kind == NO_BITS else length)
            for name, kind, _, _, offset, length, *_ in found
        }

    def _text(self, at: int) -> str:
        return self._bytes[at : self._bytes.find(b"\0", at)].decode("utf-8", "replace")

    def __enter__(self) -> Elf:
        return self

    def __exit__(
        self, kind: Optional[type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        self._bytes.close()
        self._stream.close()

    def __contains__(self, section: str) -> bool:
        return section in self._sections

    def section(self, name: str) -> bytes:
        """The bytes of a section; empty where there is none."""
        place = self._place(name)
        return self._bytes[place.offset : place.offset + place.size]

    def _place(self, name: str) -> _Place:
        return self._sections.get(name, _Place(0, 0))

    def _dynamic(self, *tags: int) -> tuple[str, ...]:
        """The texts of these tags of .dynamic."""
        texts = self._place(".dynstr").offset
        entries = self._entries(DYNAMIC, ".dynamic")
        return tuple(self._text(texts + value) for tag, value in entries if tag in tags)

    def _entries(self, kind: struct.Struct, section: str) -> Iterator[tuple[Any, ...]]:
        table = self.section(section)
        return kind.iter_unpack(table[: len(table) // kind.size * kind.size])

    @cached_property
    def needed(self) -> tuple[str, ...]:
        """The names of the libraries that it asks the linker for."""
        return self._dynamic(NEEDED)

    @property
    def search(self) -> tuple[Path, ...]:
        """The folders that it tells the linker to look in, `$ORIGIN` being its own."""
        origin = str(self.path.resolve().parent)
        folders = (folder for text in self._dynamic(RPATH, RUNPATH) for folder in text.split(":"))
        return tuple(
            Path(folder.replace("${ORIGIN}", origin).replace("$ORIGIN", origin)) for folder in folders if folder
        )

    def _versions(self, section: str) -> Iterator[tuple[Any, Any]]:
        from elftools.elf.elffile import ELFFile

        table: Any = ELFFile(self._stream).get_section_by_name(section)
        return iter(()) if table is None else table.iter_versions()

    def versions_needed(self) -> dict[str, tuple[str, ...]]:
        """By library, the symbol versions that it wants of it (`GLIBCXX_3.4.32`), weak wishes aside."""
        return {
            str(library.name): tuple(str(one.name) for one in wanted if not one.entry["vna_flags"] & WEAK_VERSION)
            for library, wanted in self._versions(".gnu.version_r")
        }

    def versions_defined(self) -> frozenset[str]:
        """The symbol versions that it brings; empty where it knows none."""
        return frozenset(str(name.name) for _, names in self._versions(".gnu.version_d") for name in names)

    def _symbols(self) -> Iterator[tuple[str, int, int, int]]:
        """(name, binding, visibility, section) of each entry of .dynsym."""
        texts = self.section(".dynstr")
        for name, info, other, section, _, _ in self._entries(SYMBOL, ".dynsym"):
            end = texts.find(b"\0", name)
            yield texts[name:end].decode("utf-8", "replace"), info >> 4, other & 3, section

    def undefined(self) -> tuple[str, ...]:
        """The names that some library has to export for it to load: the weak ones aside, which may stay open."""
        return tuple(name for name, binding, _, section in self._symbols() if not section and binding == GLOBAL)

    @cached_property
    def exported(self) -> frozenset[str]:
        """All names that it exports."""
        return frozenset(
            name
            for name, binding, visibility, section in self._symbols()
            if section and binding in (GLOBAL, WEAK, UNIQUE) and visibility not in HIDDEN
        )

    def exports(self, name: str) -> bool:
        """Whether it exports a name, by its hash table, as the dynamic linker asks."""
        table = self._hash_table
        return name in self.exported if table is None else table.holds(name.encode())

    @cached_property
    def _hash_table(self) -> Optional[_GnuHash]:
        table, symbols, texts = (self._place(section) for section in (".gnu.hash", ".dynsym", ".dynstr"))
        if table.size < HASH.size or table.offset + table.size > len(self._bytes):
            return None
        return _GnuHash(self._bytes, table, symbols, texts)


class _GnuHash:
    """The hash table of a file's exports: a Bloom filter, buckets, and chains, the last hash of each being odd."""

    def __init__(self, data: mmap.mmap, table: _Place, symbols: _Place, texts: _Place) -> None:
        self._data, self._symbols, self._texts = data, symbols.offset, texts.offset
        self._end = min(symbols.size, len(data) - symbols.offset) // SYMBOL.size
        self._buckets, self._first, self._words, self._shift = HASH.unpack_from(data, table.offset)
        self._bloom_at = table.offset + HASH.size
        self._buckets_at = self._bloom_at + 8 * self._words
        self._chains_at = self._buckets_at + 4 * self._buckets

    def _number(self, at: int) -> int:
        return int.from_bytes(self._data[at : at + 4], "little")

    def holds(self, name: bytes) -> bool:
        if not self._words or not self._buckets:
            return False
        hashed = gnu_hash(name)
        at = self._bloom_at + 8 * ((hashed >> 6) % self._words)
        word = int.from_bytes(self._data[at : at + 8], "little")
        if not (word >> (hashed & 63)) & (word >> ((hashed >> self._shift) & 63)) & 1:
            return False
        index = self._number(self._buckets_at + 4 * (hashed % self._buckets))
        while self._first <= index < self._end:
            known = self._number(self._chains_at + 4 * (index - self._first))
            if known | 1 == hashed | 1 and self._is(index, name):
                return True
            if known & 1:
                return False
            index += 1
        return False

    def _is(self, index: int, name: bytes) -> bool:
        text, _, other, section, _, _ = SYMBOL.unpack_from(self._data, self._symbols + SYMBOL.size * index)
        start = self._texts + text
        found = self._data[start : start + len(name) + 1] == name + b"\0"
        return found and section != 0 and other & 3 not in HIDDEN


def gnu_hash(name: bytes) -> int:
    """The hash of a symbol's name in .gnu.hash: Bernstein's, times 33 from 5381, in 32 bits."""
    value = 5381
    for byte in name:
        value = (value * 33 + byte) & 0xFFFFFFFF
    return value
