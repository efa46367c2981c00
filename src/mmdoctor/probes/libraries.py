"""Where the dynamic linker finds a library for the target's interpreter, and which symbols nobody exports."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Optional

from mmdoctor import system
from mmdoctor.model import Target
from mmdoctor.probes.elf import Elf, ElfProblem
from mmdoctor.probes.host import LDCONFIG_ARCH, LDCONFIG_SECONDS, LINKER_FOLDERS, MULTIARCH

# Where torch, and the wheels of NVIDIA that it brings, keep their libraries: `import torch` loads them from there.
BROUGHT = ("torch/lib", "nvidia/*/lib")


class Libraries:
    """The libraries that a compiled module meets in a target: `unpacked` is the folder that its wheel was unpacked to,
    and stands for the target's site-packages."""

    def __init__(self, target: Target, unpacked: Path) -> None:
        """Look at nothing yet: each place is looked at when a library is asked for."""
        self._target, self._unpacked = target, unpacked.resolve()
        self._site = Path(target.site_packages)
        self._found: dict[str, Optional[Path]] = {}

    @cached_property
    def machine(self) -> Optional[str]:
        """ELF's name of what the target's interpreter runs on; None where its file does not say."""
        try:
            with Elf(self._interpreter) as elf:
                return elf.machine
        except (OSError, ElfProblem):
            return None

    @cached_property
    def _interpreter(self) -> Path:
        return Path(self._target.executable).resolve()

    def find(self, name: str, wanted_by: Elf) -> Optional[Path]:
        """The file of a library, in the linker's order (ld.so(8)): what the variable says, what the module that wants
        it says, what torch has loaded, what is beside the interpreter, the system's. None where there is none."""
        told = [Path(folder) for folder in os.environ.get("LD_LIBRARY_PATH", "").split(":") if folder]
        for folder in (*told, *self._said_by(wanted_by)):
            if (folder / name).is_file():
                return folder / name
        if name not in self._found:
            places = (folder / name for folder in self._folders)
            self._found[name] = next((path for path in places if path.is_file()), self._system.get(name))
        return self._found[name]

    def _said_by(self, elf: Elf) -> Iterator[Path]:
        for folder in elf.search:
            yield folder
            place = Path(os.path.normpath(folder))
            if place.is_relative_to(self._unpacked):
                yield self._site / place.relative_to(self._unpacked)

    @cached_property
    def _folders(self) -> tuple[Path, ...]:
        own = {path.parent for path in self._unpacked.rglob("*.so*")}
        brought = (folder for pattern in BROUGHT for folder in sorted(self._site.glob(pattern)))
        prefixes = (Path(self._target.prefix) / "lib", Path(self._target.base_prefix) / "lib")
        multiarch = MULTIARCH.get(platform.machine())
        default = [Path("/", folder) for folder in LINKER_FOLDERS]
        default += [folder / multiarch for folder in default] if multiarch else []
        try:
            with Elf(self._interpreter) as elf:
                beside = elf.search
        except (OSError, ElfProblem):
            beside = ()
        return (*sorted(own), *brought, *beside, *prefixes, *default)

    @cached_property
    def _system(self) -> dict[str, Path]:
        """What the linker's cache knows for this machine, the first of a name first."""
        program = system.which("ldconfig", os.pathsep.join((os.environ.get("PATH", ""), "/sbin", "/usr/sbin")))
        said = system.run([program, "-p"], deadline=LDCONFIG_SECONDS).stdout if program else ""
        arch = LDCONFIG_ARCH.get(platform.machine(), "")
        lines = re.findall(r"^\s*(\S+) \(([^)]*)\) => (.+)$", said, re.MULTILINE)
        return {name: Path(path) for name, flags, path in reversed(lines) if arch in flags}

    def unresolved(self, module: Elf, symbols: Sequence[str]) -> tuple[str, ...]:
        """Those of the module's undefined `symbols` that neither the interpreter nor a library that it needs exports,
        itself or by another one that it needs."""
        left = list(symbols)
        queue = [self._interpreter, *filter(None, (self.find(name, module) for name in module.needed))]
        seen = set()
        for path in queue:  # it grows while it is gone through
            if not left:
                break
            if path.resolve() in seen:
                continue
            seen.add(path.resolve())
            try:
                with Elf(path) as library:
                    left = [symbol for symbol in left if not library.exports(symbol)]
                    queue += filter(None, (self.find(name, library) for name in library.needed))
            except (OSError, ElfProblem):
                continue  # the linker will say so; what it should have exported stays open
        return tuple(left)


def versions_of(path: Path) -> frozenset[str]:
    """The symbol versions that a library brings; empty where it knows none, or is none."""
    try:
        with Elf(path) as library:
            return library.versions_defined()
    except (OSError, ElfProblem):
        return frozenset()
