"""Little shared objects, compiled for a test: gcc makes them in some 30 ms each."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Optional

import pytest

from mmdoctor.model import Distribution, Target, TorchBuild

needs_gcc = pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc makes the samples")
# What the torch of these tests exports, by library; `_ext` of the tests wants some of it.
ERROR = "_ZN3c105Error7messageEv"
ZEROS = "_ZN2at4_ops5zeros4callEv"
WRAP = "_Z16THPVariable_WrapN2at6TensorE"
TORCH = {"libc10.so": (ERROR,), "libtorch_cpu.so": (ZEROS,), "libtorch_python.so": (WRAP,)}


def shared(
    path: Path, brings: Sequence[str] = (), wants: Sequence[str] = (), libraries: Sequence[Path] = (), *options: str
) -> Path:
    """A shared object that exports the functions `brings`, calls those of `wants`, and is linked with `libraries`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    source = "".join(f"void {name}(void);\n" for name in wants)
    calls = "".join(f"{name}();" for name in wants)
    source += "".join(f"void {name}(void) {{{calls}}}\n" for name in (*brings, f"of_{path.name.split('.')[0]}"))
    path.write_bytes(_linked(source, tuple(map(str, libraries)), options))
    return path


@cache
def _linked(source: str, libraries: tuple[str, ...], options: tuple[str, ...]) -> bytes:
    """What gcc makes of it; many tests want the same."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "made.so"
        argv = ["gcc", "-shared", "-fPIC", "-nostdlib", "-x", "c", "-", "-o", str(path), *options]
        argv += ["-x", "none", "-Wl,--no-as-needed", *libraries]
        subprocess.run(argv, input=source, text=True, check=True, capture_output=True)
        return path.read_bytes()


def torch(site: Path, exports: Optional[dict[str, tuple[str, ...]]] = None) -> Path:
    """The libraries of a torch in a site-packages; returns their folder."""
    folder = site / "torch" / "lib"
    for name, symbols in (exports or TORCH).items():
        shared(folder / name, symbols, (), (), f"-Wl,-soname,{name}")
    return folder


def target(site: Path, python: str = "3.11.7", numpy: str = "1.26.4") -> Target:
    """A target with these site-packages, a torch 2.1.2 and a NumPy."""
    found = {"torch": "2.1.2", "numpy": numpy}
    return Target(
        requested=str(site),
        state="present",
        site_packages=str(site),
        python=python,
        distributions=tuple(Distribution(name=name, version=v, folder=str(site)) for name, v in found.items()),
        torch=TorchBuild(version="2.1.2+cpu", cuda=None),
    )
