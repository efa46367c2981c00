"""Writes `torch_symbols.json`: which releases of torch export what mmcv's ops are linked to.

    python tools/torch_symbols.py --kept FOLDER [--extension RELEASE=FILE ...]

Reads from the user's index, of each release of torch in the matrix, what four libraries of its Linux wheel export, and
what the torchvision of that release wants of them (parts of files: some 150 MB for a release, 6 GB for all). FOLDER
keeps what was read. An --extension is another compiled module whose torch is known, an `_ext` of mmcv. The table holds
each function of torch that one of these modules wants, in all its forms. At the end it is put to the test: the release
that a module was compiled for has to be among those that the table tells. Exit status 1 where it is not.
"""

from __future__ import annotations

import argparse
import operator
import os
import re
import struct
import sys
import zipfile
import zlib
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Callable, Optional

import msgspec

from mmdoctor import rules
from mmdoctor.matrix import load_matrix
from mmdoctor.probes.elf import Elf
from mmdoctor.probes.extension import LIBRARIES, STRINGS, TorchSymbols, built_for, torchs
from mmdoctor.probes.indexes import IndexConfig, open_url, user_config
from mmdoctor.refresh.pages import File, read_page
from mmdoctor.refresh.remote import _opened as opened

TABLE = Path(__file__).parents[1] / "src" / "mmdoctor" / "probes" / "torch_symbols.json"
# Wheels of one release differ by Python only in libtorch_python.so, and there not in what extensions want.
PYTHONS = ("cp310-cp310", "cp39-cp39", "cp311-cp311", "cp312-cp312")
PART_BYTES = 16 << 20
LOCAL_HEADER = 30
SECONDS = 120.0
MODULE = re.compile(r"torchvision/_C[\w.-]*\.so")
# libtorch_cuda.so is too large to be read (500 MB), and is where some functions of these namespaces are.
UNREAD = ("N2at4cuda", "N2at6native")


def member(url: str, info: zipfile.ZipInfo, config: IndexConfig) -> bytes:
    """A file of a wheel of the index, read in a few large parts at once."""

    def part(start: int, count: int) -> bytes:
        span = {"Range": f"bytes={start}-{start + count - 1}"}
        with open_url(url, config, span, SECONDS) as answer:
            return answer.read()

    name, extra = struct.unpack_from("<HH", part(info.header_offset, LOCAL_HEADER), 26)
    start = info.header_offset + LOCAL_HEADER + name + extra
    starts = range(0, info.compress_size, PART_BYTES)
    with ThreadPoolExecutor(6) as pool:
        parts = pool.map(lambda at: part(start + at, min(PART_BYTES, info.compress_size - at)), starts)
        packed = b"".join(parts)
    return zlib.decompress(packed, -zlib.MAX_WBITS) if info.compress_type == zipfile.ZIP_DEFLATED else packed


def read(file: File, wanted: Callable[[str], bool], look: Callable[[Elf], list[str]], config: IndexConfig) -> list[str]:
    """What `look` sees in the wanted files of a wheel, put together."""
    with opened(file, config) as archive:
        infos = [info for info in archive.infolist() if wanted(info.filename)]
    found: list[str] = []
    for info in infos:
        with NamedTemporaryFile() as copy:
            copy.write(member(file.url, info, config))
            copy.flush()
            with Elf(Path(copy.name)) as elf:
                found += look(elf)
    return sorted(set(found))


def wheel(files: tuple[File, ...], project: str, release: str) -> Optional[File]:
    named = [f for f in files if f.name.startswith(f"{project}-{release}-cp") and "x86_64" in f.name]
    named = [f for f in named if "linux" in f.name]
    return next((f for python in PYTHONS for f in named if python in f.name), None)


def gather(folder: Path) -> tuple[dict[str, frozenset[str]], dict[str, list[frozenset[str]]]]:
    """(what each release of torch exports, what modules that were compiled for it want), ascending."""
    config = user_config(os.environ, Path.home())
    pages = {name: read_page(f"{config.pypi.rstrip('/')}/{name}/", config).files for name in ("torch", "torchvision")}
    exports: dict[str, frozenset[str]] = {}
    wants: dict[str, list[frozenset[str]]] = {}
    folder.mkdir(parents=True, exist_ok=True)
    for row in load_matrix().torch:
        kept, beside = folder / f"{row.release}.exports", folder / f"{row.release}.wants"
        if not kept.exists():
            file = wheel(pages["torch"], "torch", row.release)
            if file is None:
                print(f"torch {row.release}: no wheel for Linux on the index", file=sys.stderr)
                continue
            libraries = {f"torch/lib/{name}" for name in LIBRARIES}
            kept.write_text("\n".join(read(file, libraries.__contains__, lambda elf: [*torchs(elf.exported)], config)))
        file = next((f for v in row.torchvision if (f := wheel(pages["torchvision"], "torchvision", v))), None)
        if not beside.exists() and file is not None:
            found = read(
                file, lambda name: bool(MODULE.fullmatch(name)), lambda elf: [*torchs(elf.undefined())], config
            )
            beside.write_text("\n".join(found))
        exports[row.release] = frozenset(kept.read_text().split())
        wants[row.release] = [frozenset(beside.read_text().split())] if beside.exists() else []
        print(f"torch {row.release}: {len(exports[row.release])} symbols", file=sys.stderr)
    return exports, wants


def spans(releases: list[str], having: frozenset[str]) -> str:
    """The releases as spans of neighbours: `1.8.0-2.0.1,2.2.0-2.3.1`."""
    runs = [list(run) for has, run in groupby(releases, having.__contains__) if has]
    return ",".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else run[0] for run in runs)


def table(exports: dict[str, frozenset[str]], wants: list[frozenset[str]]) -> TorchSymbols:
    functions = {rules.cxx_name(symbol) for module in wants for symbol in module}
    releases = list(exports)
    symbols: dict[str, list[str]] = {}
    for symbol in sorted(frozenset().union(*exports.values())):
        having = frozenset(release for release in releases if symbol in exports[release])
        told = len(having) < len(releases) and not any(part in symbol for part in (*STRINGS, *UNREAD))
        if told and rules.cxx_name(symbol) in functions:
            symbols.setdefault(spans(releases, having), []).append(symbol)
    return TorchSymbols(releases=tuple(releases), symbols={span: tuple(symbols[span]) for span in sorted(symbols)})


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kept", type=Path, required=True)
    parser.add_argument("--extension", action="append", default=[], metavar="RELEASE=FILE")
    told = parser.parse_args()
    exports, wants = gather(told.kept)
    for release, _, file in (one.partition("=") for one in told.extension):
        with Elf(Path(file)) as elf:
            wants[release].append(frozenset(torchs(elf.undefined())))
    made = table(exports, [module for modules in wants.values() for module in modules])
    TABLE.write_bytes(msgspec.json.format(msgspec.json.encode(made), indent=1) + b"\n")
    wrong = 0
    for release, modules in wants.items():
        for module in modules:
            said = built_for(module, made)
            right = said is None or within(release, said)
            wrong += not right
            print(f"{'ok   ' if right else 'WRONG'} {release}: {said}, by {len(module)} symbols")
    return 1 if wrong else 0


def within(release: str, said: str) -> bool:
    """Whether a release is among those that `built_for` says."""
    first, _, last = said.partition(" to ")
    minor = rules.order(release.rpartition(".")[0])
    for word, fits in ((" or newer", operator.ge), (" or older", operator.le)):
        if said.endswith(word):
            return bool(fits(minor, rules.order(said[: -len(word)])))
    return rules.order(first) <= minor <= rules.order(last or first)


if __name__ == "__main__":
    sys.exit(main())
