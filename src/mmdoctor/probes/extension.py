"""Reads a compiled extension without loading it: whether it is whole, what it needs, CUDA code, which torch it fits.

An extension of torch is bound to the release that it was compiled with by the symbols that it leaves open: those that
the installed torch does not export are why it will not load, and together they tell which releases would.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Literal, Optional

import msgspec

from mmdoctor.model import Extension, Target, Value
from mmdoctor.probes.elf import CUDA_SECTION, Elf, ElfProblem
from mmdoctor.probes.libraries import Libraries

# Namespaces and prefixes of what torch's libraries export (`c10::Error`, `at::Tensor`, `torch::…`, `THPVariable_Wrap`).
TORCHS = ("N3c10", "N2at", "K3c10", "K2at", "N5torch", "N6caffe2", "THPVariable")
# A std::string in a name is of one of two C++ ABIs, and a release of torch exists in both.
STRINGS = ("Ss", "7__cxx11")
# The libraries of torch that an extension is linked with, the smallest first; no torch is without the first three.
LIBRARIES = ("libc10.so", "libtorch_python.so", "libtorch_cpu.so", "libc10_cuda.so")
TORCHS_OWN = ("libc.", "libdl.", "libgcc_s.", "libm.", "libpthread.", "librt.", "libstdc++.", "ld-linux")
KEPT = 3
# The name under which a binary imports NumPy's C API tells the generation it was built for (source N3).
NUMPY_2 = b"numpy._core._multiarray_umath"
NUMPY_1 = b"numpy.core._multiarray_umath"


class TorchSymbols(Value, frozen=True, kw_only=True):
    """`torch_symbols.json`, written by tools/torch_symbols.py: symbols that not every one of the measured `releases`
    exports, by the spans of releases that do (`1.8.0-2.0.1,2.2.0-2.3.1`)."""

    releases: tuple[str, ...]
    symbols: dict[str, tuple[str, ...]]


@cache
def torch_symbols() -> TorchSymbols:
    """The table that ships with mmdoctor."""
    return msgspec.json.decode(Path(__file__).with_name("torch_symbols.json").read_bytes(), type=TorchSymbols)


def read_extension(path: Path, torch_lib: Optional[Path] = None) -> Extension:
    """What the file of an extension says; `problem` where no linker would take it. `torch_lib` is the folder of the
    installed torch's libraries: what the extension wants and they do not export is `missing`."""
    try:
        with Elf(path) as elf:
            wanted = torchs(elf.undefined())
            missing = unexported(wanted, torch_lib) if torch_lib is not None else ()
            return Extension(
                path=str(path),
                needed=elf.needed,
                has_cuda_code=CUDA_SECTION in elf,
                machine=elf.machine,
                missing=missing[:KEPT],
                missing_count=len(missing),
                built_for=built_for(wanted, torch_symbols()) if missing else None,
            )
    except OSError:
        return _unusable(path, "unreadable")
    except ElfProblem as problem:
        return _unusable(path, problem.kind, problem.machine)


def _unusable(path: Path, problem: Literal["unreadable", "cut-off", "foreign"], machine: str = "") -> Extension:
    return Extension(path=str(path), needed=(), has_cuda_code=False, machine=machine, problem=problem)


def torchs(symbols: Iterable[str]) -> tuple[str, ...]:
    """Those symbols that are torch's to export."""
    return tuple(symbol for symbol in symbols if any(part in symbol for part in TORCHS))


def unexported(symbols: Sequence[str], torch_lib: Path) -> tuple[str, ...]:
    """Those of torch's symbols that no library of this torch exports; empty where its libraries are not all there,
    which is another fault than the extension's."""
    left = tuple(symbols)
    named = [torch_lib / name for name in LIBRARIES]
    others = sorted(path for path in torch_lib.glob("lib*torch*.so") if path not in named)
    for path in (*named, *others):
        if not left:
            return ()
        if path.name == LIBRARIES[-1] and not path.exists():
            continue  # a torch for the CPU
        try:
            with Elf(path) as library:
                left = tuple(symbol for symbol in left if not library.exports(symbol))
        except (OSError, ElfProblem):
            return ()
    return left


def absent(extension: Extension, target: Target) -> tuple[str, ...]:
    """The libraries that an installed extension needs and that are nowhere; empty where there is no torch. Left out are
    those that torch itself is linked with."""
    torch_lib = torch_folder(target)
    if torch_lib is None or extension.problem is not None:
        return ()
    asked = [name for name in extension.needed if not name.startswith(TORCHS_OWN) and not (torch_lib / name).exists()]
    if not asked:
        return ()
    path = Path(extension.path)
    libraries = Libraries(target, path.parent.with_suffix(".libs"))  # where auditwheel puts what a wheel brings along
    with Elf(path) as elf:
        return tuple(name for name in asked if libraries.find(name, elf) is None)


def torch_folder(target: Target) -> Optional[Path]:
    """Where the libraries of the installed torch are; None where there is no torch of an ordinary install."""
    torch = target.installed.get("torch")
    folder = Path(torch.folder or target.site_packages) / "torch" / "lib" if torch else None
    return folder if folder and folder.is_dir() else None


def numpy_generation(binary: bytes) -> Optional[Literal["1", "2"]]:
    """The generation of NumPy's C API that a binary was compiled for; None where it does not name it. One of 2 runs
    under 1 as well."""
    return "2" if NUMPY_2 in binary else "1" if NUMPY_1 in binary else None


def built_for(symbols: Iterable[str], table: TorchSymbols) -> Optional[str]:
    """The releases of torch that export all of these symbols, as far as they were measured: `2.1`, `2.1 to 2.3`, `2.14
    or newer`. None where the symbols do not tell: all releases do, or none."""
    wanted = {symbol for symbol in torchs(symbols) if not any(part in symbol for part in STRINGS)}
    places = {release: place for place, release in enumerate(table.releases)}
    fitting = set(places)
    for spans, known in table.symbols.items():
        if not wanted.isdisjoint(known):
            fitting &= {release for span in spans.split(",") for release in _span(span, places)}
    if not fitting or fitting == set(places):
        return None
    inside = sorted(fitting, key=places.__getitem__)
    first, last = (release.rpartition(".")[0] for release in (inside[0], inside[-1]))
    if inside[-1] == table.releases[-1]:
        return f"{first} or newer"
    if inside[0] == table.releases[0]:
        return f"{last} or older"
    return first if first == last else f"{first} to {last}"


def _span(span: str, places: dict[str, int]) -> Iterable[str]:
    first, _, last = span.partition("-")
    inside = range(places[first], places[last or first] + 1)
    return (release for release, place in places.items() if place in inside)
