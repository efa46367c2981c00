"""What a compiled module's file says, on real ones that gcc makes; device code on what nvcc 13.0 wrote."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import tarfile
import time
import zipfile
from pathlib import Path

import msgspec
import pytest

from mmdoctor import rules
from mmdoctor.matrix_model import Matrix
from mmdoctor.model import PipWheel, Unknown
from mmdoctor.probes.elf import Elf, gnu_hash
from mmdoctor.probes.extension import TorchSymbols, absent, built_for, numpy_generation, read_extension, torch_symbols
from mmdoctor.probes.fatbin import device_code
from mmdoctor.probes.indexes import IndexConfig
from mmdoctor.probes.pip_cache import pip_cache_folder, probe_pip_cache
from tests.binaries import ERROR, TORCH, WRAP, ZEROS, needs_gcc, shared, target, torch
from tests.conftest import DATA

if sys.platform != "linux":
    pytest.skip("ELF files are Linux's", allow_module_level=True)

OTHER = "_ZN2at4_ops4ones4callEv"
TABLE = TorchSymbols(
    releases=("1.13.1", "2.0.1", "2.1.0", "2.1.2", "2.2.0"),
    symbols={
        "1.13.1": ("_ZN2at3oldEv",),
        "2.0.1-2.2.0": (ZEROS,),
        "2.1.0-2.1.2": (OTHER,),
        "1.13.1-2.1.0": (ERROR,),
        "1.13.1,2.1.2-2.2.0": (WRAP,),
    },
)


# ------------------------------------------------------------------------------------------------------------- ELF


@needs_gcc
@pytest.mark.parametrize("style", ["gnu", "sysv"])
def test_the_linkers_own_table_is_read(tmp_path: Path, style: str) -> None:
    names = [f"_ZN2at4_ops{len(str(n)) + 2}op{n}4callEv" for n in range(300)]
    path = shared(tmp_path / "libmany.so", names, (), (), f"-Wl,--hash-style={style}")
    with Elf(path) as elf:
        assert all(elf.exports(name) for name in names)
        assert set(names) < elf.exported
        assert not [name for name in names if elf.exports(name[:-1]) or elf.exports(name + "v")]
        assert elf.undefined() == ()


@needs_gcc
def test_what_is_hidden_weak_or_only_wanted_is_told_apart(tmp_path: Path) -> None:
    source = tmp_path / "x.c"
    source.write_text("""
        void wanted(void);
        __attribute__((weak)) void maybe(void);
        __attribute__((visibility("hidden"))) void own(void) {}
        static void inner(void) {}
        __attribute__((weak)) void open(void) { own(); inner(); wanted(); if (maybe) maybe(); }
    """)
    path = shared(tmp_path / "lib.so", ("plain",), (), (), "-x", "c", str(source))
    with Elf(path) as elf:
        assert elf.undefined() == ("wanted",)
        exported = {name for name in ("plain", "open", "own", "inner", "wanted", "maybe") if elf.exports(name)}
        assert exported == {"plain", "open"} == elf.exported - {"of_lib"}


@needs_gcc
def test_no_damage_makes_the_reader_fall(tmp_path: Path) -> None:
    """Bytes of the headers and tables of a real file changed at random, 400 times; the seed is fixed."""
    chance = random.Random(5)
    whole = shared(tmp_path / "whole.so", ("a", "b"), (ZEROS,)).read_bytes()
    path = tmp_path / "damaged.so"
    for _ in range(400):
        data = bytearray(whole)
        for _ in range(chance.randint(1, 4)):
            data[chance.choice((chance.randrange(64), chance.randrange(len(data))))] = chance.randrange(256)
        path.write_bytes(data)
        assert read_extension(path).problem in (None, "cut-off", "foreign")
        if read_extension(path).problem is None:
            with Elf(path) as elf:
                assert isinstance(elf.exports("a"), bool)


def test_the_hash_of_a_symbol() -> None:
    """The published values of "", "printf" and "exit" (flapenguin.me, "ELF: better symbol lookup via DT_GNU_HASH")."""
    assert [gnu_hash(name) for name in (b"", b"printf", b"exit")] == [0x1505, 0x156B2BB8, 0x7C967E3F]


@needs_gcc
def test_libraries_and_folders(tmp_path: Path) -> None:
    first = shared(tmp_path / "liba.so", ("a",), (), (), "-Wl,-soname,liba.so.1")
    path = shared(tmp_path / "b" / "libb.so", ("b",), ("a",), (first,), "-Wl,-rpath,$ORIGIN/../lib:/opt/x")
    with Elf(path) as elf:
        assert elf.needed == ("liba.so.1",)
        assert elf.search == (tmp_path / "b" / ".." / "lib", Path("/opt/x"))
        assert elf.undefined() == ("a",)


# ----------------------------------------------------------------------------------------------------- device code


def test_device_code_is_read_from_the_headers() -> None:
    """Compiled by nvcc 13.0 with the architectures of the file's name, the second with -compress-all."""
    plain, packed = (path.read_bytes() for path in sorted((DATA / "fatbin").glob("*.fatbin")))
    assert device_code(plain) == (("7.5", "9.0"), ("12.0",))
    assert device_code(packed) == (("9.0a", "10.0f", "12.0a"), ("12.0a",))
    assert device_code(b"") == ((), ())


def test_code_is_inside_only_where_every_object_has_it() -> None:
    first, second = (path.read_bytes() for path in sorted((DATA / "fatbin").glob("*.fatbin")))
    assert device_code(first + bytes(24) + first).archs == ("7.5", "9.0")
    assert device_code(first + second) == ((), ())


# ------------------------------------------------------------------------------------------------- whose torch it is


@needs_gcc
def test_an_extension_of_this_torch_misses_nothing(tmp_path: Path) -> None:
    lib = torch(tmp_path)
    ext = shared(tmp_path / "_ext.so", ("PyInit__ext",), (ERROR, ZEROS, WRAP, "PyDict_New"))
    found = read_extension(ext, lib)
    assert (found.missing, found.missing_count, found.built_for) == ((), 0, None)


@needs_gcc
def test_an_extension_of_another_torch_names_what_it_misses(tmp_path: Path) -> None:
    lib = torch(tmp_path)
    ext = shared(tmp_path / "_ext.so", ("PyInit__ext",), (ZEROS, OTHER, "PyDict_New"))
    found = read_extension(ext, lib)
    assert (found.missing, found.missing_count) == ((OTHER,), 1)
    assert read_extension(ext).missing == ()


@needs_gcc
def test_a_torch_without_all_of_its_libraries_tells_nothing(tmp_path: Path) -> None:
    lib = torch(tmp_path)
    (lib / "libtorch_cpu.so").unlink()
    assert read_extension(shared(tmp_path / "_ext.so", (), (OTHER,)), lib).missing == ()


@needs_gcc
def test_what_another_library_of_torch_exports_is_there(tmp_path: Path) -> None:
    lib = torch(tmp_path, {**TORCH, "libtorch_cuda.so": (OTHER,)})
    assert read_extension(shared(tmp_path / "_ext.so", (), (OTHER,)), lib).missing == ()


@needs_gcc
def test_a_library_that_an_extension_needs_is_sought_where_the_linker_and_torch_would_find_it(tmp_path: Path) -> None:
    site = tmp_path / "lib" / "python3.11" / "site-packages"
    torch(site)
    beside, runtime = site / "mmcv.libs" / "libops.so.1", tmp_path / "libcudart.so.99"
    made = [shared(path, (path.name[:5],), (), (), f"-Wl,-soname,{path.name}") for path in (beside, runtime)]
    rpath = "-Wl,-rpath,$ORIGIN/../mmcv.libs"
    ext = shared(site / "mmcv" / "_ext.so", ("PyInit__ext",), ("libop", "libcu"), tuple(made), rpath)
    found = read_extension(ext)
    assert {"libops.so.1", "libcudart.so.99"} <= set(found.needed)
    assert absent(found, target(site)) == ("libcudart.so.99",)
    (site / "nvidia" / "cuda_runtime" / "lib").mkdir(parents=True)
    runtime.rename(site / "nvidia" / "cuda_runtime" / "lib" / runtime.name)
    assert absent(found, target(site)) == ()
    beside.unlink()
    assert absent(found, target(site)) == ("libops.so.1",)


@pytest.mark.parametrize(
    ("symbols", "said"),
    [
        ((OTHER,), "2.1"),
        ((ZEROS,), "2.0 or newer"),
        ((ERROR,), "2.1 or older"),
        ((ZEROS, ERROR), "2.0 to 2.1"),
        ((ZEROS, WRAP), "2.1 or newer"),
        (("_ZN2at3oldEv",), "1.13 or older"),
        (("_ZN2at3oldEv", OTHER), None),
        (("_ZN2at5neverEv", "PyDict_New"), None),
        ((), None),
    ],
    ids=str,
)
def test_symbols_tell_a_range_and_never_a_guess(symbols: tuple[str, ...], said: str) -> None:
    assert built_for(symbols, TABLE) == said


def test_a_symbol_of_two_abis_tells_nothing() -> None:
    name = "_ZN3c105ErrorC1ENS_14SourceLocationESs"
    table = msgspec.structs.replace(TABLE, symbols={"2.1.0-2.1.2": (name,)})
    assert built_for((name,), table) is None


def test_the_shipped_table_is_sound(matrix: Matrix) -> None:
    table = torch_symbols()
    assert list(table.releases) == sorted(table.releases, key=rules.order)
    assert set(table.releases) <= {row.release for row in matrix.torch}
    assert len(table.releases) >= 40
    known = [symbol for symbols in table.symbols.values() for symbol in symbols]
    assert len(known) == len(set(known))
    assert {end for spans in table.symbols for span in spans.split(",") for end in span.split("-")} <= {*table.releases}
    minors = [*dict.fromkeys(release.rpartition(".")[0] for release in table.releases)]
    told = {(older, newer): _told_apart(table, older, newer) for older, newer in zip(minors, minors[1:])}
    assert sum(told.values()) > len(told) * 0.8, [pair for pair, apart in told.items() if not apart]


def _told_apart(table: TorchSymbols, older: str, newer: str) -> bool:
    """Whether some symbol is in all releases of the one series and in none of the other."""
    place = {release: number for number, release in enumerate(table.releases)}
    series = [[r for r in table.releases if r.rpartition(".")[0] == minor] for minor in (older, newer)]
    for spans in table.symbols:
        ends = [span.partition("-")[::2] for span in spans.split(",")]
        inside = {r for r in place for a, b in ends if place[a] <= place[r] <= place[b or a]}
        if {inside >= set(releases) for releases in series} == {True, False} and any(
            inside.isdisjoint(releases) for releases in series
        ):
            return True
    return False


def test_the_generation_of_numpy() -> None:
    assert numpy_generation(b"..numpy.core._multiarray_umath..") == "1"
    assert numpy_generation(b"numpy.core._multiarray_umath numpy._core._multiarray_umath") == "2"
    assert numpy_generation(b"") is None


# ------------------------------------------------------------------------------------------------------ pip's cache


def kept(home: Path, name: str, members: dict[str, bytes]) -> Path:
    """A wheel where pip keeps it: below `wheels`, in four folders named after a digest."""
    path = home / ".cache" / "pip" / "wheels" / "ab" / "cd" / "ef" / "0123456789" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for member, content in members.items():
            archive.writestr(member, content)
    return path


@needs_gcc
def test_pips_wheels_are_told_apart(tmp_path: Path) -> None:
    site = tmp_path / "site"
    torch(site)
    good = shared(tmp_path / "good.so", (), (ZEROS,)).read_bytes()
    bad = shared(tmp_path / "bad.so", (), (OTHER,)).read_bytes()
    ext = "mmcv/_ext.cpython-311-x86_64-linux-gnu.so"
    fits = kept(tmp_path, "mmcv-2.1.0-cp311-cp311-linux_x86_64.whl", {ext: good})
    kept(tmp_path, "mmcv-2.0.1-cp311-cp311-linux_x86_64.whl", {ext: bad})
    kept(tmp_path, "mmcv_full-1.7.2-py2.py3-none-any.whl", {"mmcv/__init__.py": b""})
    kept(tmp_path, "xtcocotools-1.14.3-cp311-cp311-linux_x86_64.whl", {"xtcocotools/_mask.so": good})
    kept(tmp_path, "mmcv-2.2.0-cp310-cp310-linux_x86_64.whl", {ext: bad})  # of another Python
    kept(tmp_path, "mmcv-1.7.2-py2.py3-none-any.whl", {})  # never had ops
    kept(tmp_path, "thing-1.0-py3-none-any.whl", {})
    found = probe_pip_cache(target(site), {}, tmp_path)
    assert not isinstance(found, Unknown)
    by_name = {f"{wheel.name} {wheel.version}": wheel for wheel in found}
    assert set(by_name) == {"mmcv 2.1.0", "mmcv 2.0.1", "mmcv-full 1.7.2", "xtcocotools 1.14.3"}
    one = by_name["mmcv 2.1.0"]
    assert one.extension is not None
    assert (one.path, one.extension.path, one.extension.missing) == (str(fits), ext, ())
    assert _extension(by_name["mmcv 2.0.1"]) == (OTHER,)
    assert by_name["mmcv-full 1.7.2"].extension is None


def _extension(wheel: PipWheel) -> tuple[str, ...]:
    assert wheel.extension is not None
    return wheel.extension.missing


def test_a_wheel_without_its_end_is_no_use(tmp_path: Path) -> None:
    path = kept(tmp_path, "mmcv-2.1.0-cp311-cp311-linux_x86_64.whl", {"mmcv/_ext.so": os.urandom(9000)})
    path.write_bytes(path.read_bytes()[:5000])
    [wheel] = probe_pip_cache(target(tmp_path), {}, tmp_path)  # type: ignore[misc]
    assert wheel.extension.problem == "cut-off"


def test_where_pip_keeps_its_wheels(tmp_path: Path) -> None:
    home = Path("/home/ann")
    assert pip_cache_folder(IndexConfig(), {}, home) == home / ".cache" / "pip"
    assert pip_cache_folder(IndexConfig(), {"XDG_CACHE_HOME": "/big"}, home) == Path("/big/pip")
    assert pip_cache_folder(IndexConfig(cache_dir="/big/pip"), {"XDG_CACHE_HOME": "/x"}, home) == Path("/big/pip")
    assert pip_cache_folder(IndexConfig(cache_dir="/big/pip", no_cache=True), {}, home) is None


@pytest.mark.parametrize(
    ("environ", "kept_here"),
    [({}, 1), ({"PIP_CACHE_DIR": "{tmp}/other"}, 0), ({"PIP_NO_CACHE_DIR": "off"}, 0)],
    ids=str,
)
def test_pip_is_believed_where_its_cache_is(tmp_path: Path, environ: dict[str, str], kept_here: int) -> None:
    kept(tmp_path, "mmcv-2.1.0-py2.py3-none-any.whl", {})
    environ = {name: value.format(tmp=tmp_path) for name, value in environ.items()}
    found = probe_pip_cache(target(tmp_path), environ, tmp_path)
    assert not isinstance(found, Unknown)
    assert len(found) == kept_here


def test_pips_configuration_that_does_not_read_is_a_reason(tmp_path: Path) -> None:
    (tmp_path / "pip.conf").write_text("[global\n")
    found = probe_pip_cache(target(tmp_path), {"PIP_CONFIG_FILE": str(tmp_path / "pip.conf")}, tmp_path)
    assert isinstance(found, Unknown)
    assert "pip's configuration cannot be read" in found.unknown


def test_what_pip_really_keeps_is_found(tmp_path: Path) -> None:
    """Real pip builds an mmcv without ops from an sdist with a build backend of its own, offline, and keeps it."""
    source = tmp_path / "mmcv-2.1.0"
    source.mkdir()
    (source / "pyproject.toml").write_text('[build-system]\nrequires=[]\nbuild-backend="made"\nbackend-path=["."]\n')
    (source / "PKG-INFO").write_text("Metadata-Version: 2.1\nName: mmcv\nVersion: 2.1.0\n")
    (source / "made.py").write_text(BACKEND)
    with tarfile.open(tmp_path / "mmcv-2.1.0.tar.gz", "w:gz") as archive:
        archive.add(source, arcname="mmcv-2.1.0")
    environ = {**os.environ, "PIP_CACHE_DIR": str(tmp_path / "cache"), "PIP_CONFIG_FILE": os.devnull}
    argv = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-index", "--find-links", str(tmp_path)]
    subprocess.run([*argv, "-w", str(tmp_path / "out"), "mmcv"], env=environ, check=True, capture_output=True)
    start = time.perf_counter()
    found = probe_pip_cache(target(tmp_path), environ, tmp_path)
    assert time.perf_counter() - start < 1
    assert not isinstance(found, Unknown)
    [wheel] = found
    assert (wheel.name, wheel.version, wheel.extension) == ("mmcv", "2.1.0", None)


BACKEND = """
import zipfile

NAME = "mmcv-2.1.0-py3-none-any.whl"


def build_wheel(folder, settings=None, metadata=None):
    with zipfile.ZipFile(folder + "/" + NAME, "w") as archive:
        archive.writestr("mmcv/__init__.py", "")
        info = "mmcv-2.1.0.dist-info/"
        archive.writestr(info + "METADATA", "Metadata-Version: 2.1\\nName: mmcv\\nVersion: 2.1.0\\n")
        archive.writestr(info + "WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        archive.writestr(info + "RECORD", "")
    return NAME
"""
