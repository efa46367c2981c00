"""The proof of wheels with little shared objects, loaded by a real interpreter; mmcv's own is in tests/real."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Optional

import pytest
from msgspec.structs import replace

from mmdoctor.errors import ApplyError
from mmdoctor.model import Target
from mmdoctor.smoke.bench import reference
from mmdoctor.wheels.proof import MASKS, Answer, _judged, asked_of_binaries, prove, wanted_archs
from tests.binaries import ERROR, WRAP, ZEROS, needs_gcc, shared, target, torch
from tests.conftest import BUILD_KEY, DATA

if sys.platform != "linux":
    pytest.skip("ELF files are Linux's", allow_module_level=True)

KEY = replace(BUILD_KEY, package="thing", version="1.0", torch="2.1.2+cpu")
FATBIN = DATA / "fatbin" / "sm75-sm90-ptx120.fatbin"


@pytest.fixture
def there(tmp_path: Path) -> Target:
    """A target with a torch, whose interpreter is the one of the tests."""
    torch(tmp_path / "site")
    return replace(target(tmp_path / "site"), executable=sys.executable)


def wheel(folder: Path, library: Optional[Path], code: str = "", name: str = "thing") -> Path:
    path = folder / f"{name}-1.0-cp311-cp311-linux_x86_64.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{name}/__init__.py", code)
        if library is not None:
            archive.write(library, f"{name}/{library.name}")
    return path


def needing(tmp_path: Path, *wants: str) -> Path:
    """A shared object that is linked with the three libraries of torch, and wants these symbols."""
    libraries = sorted((tmp_path / "site" / "torch" / "lib").glob("*.so"))
    return shared(tmp_path / "part.so", (), wants, libraries)


# --------------------------------------------------------------------------------------------------- by its symbols


@needs_gcc
def test_a_sound_wheel_says_what_was_seen(tmp_path: Path, there: Target) -> None:
    part = needing(tmp_path, ERROR, ZEROS, WRAP, "PyDict_New", "PyDict_SetItem")
    proven = prove(wheel(tmp_path, part, "print('noise')"), KEY, there)
    [module] = proven.modules
    assert (module.file, module.symbols, module.archs) == ("thing/part.so", 5, ())
    assert module.needed == ("libc10.so", "libtorch_cpu.so", "libtorch_python.so")
    assert (proven.imports, proven.ops, proven.beside) == (("thing",), (), {"python": "3.11.7"})


@needs_gcc
def test_a_symbol_that_nobody_exports_is_named(tmp_path: Path, there: Target) -> None:
    part = needing(tmp_path, ERROR, "_ZN2at4_ops4ones4callEv", "PyNever_Was")
    said = r"thing 1\.0: thing/part\.so wants symbols that none of its libraries exports: "
    with pytest.raises(ApplyError, match=said) as caught:
        prove(wheel(tmp_path, part), KEY, there)
    assert {"_ZN2at4_ops4ones4callEv", "PyNever_Was"} <= set(caught.value.what.replace(",", "").split())


@needs_gcc
def test_a_symbol_of_a_library_that_is_not_needed_counts_for_nothing(tmp_path: Path, there: Target) -> None:
    part = shared(tmp_path / "part.so", (), (ZEROS,))
    with pytest.raises(ApplyError, match=ZEROS):
        prove(wheel(tmp_path, part), KEY, there)


@needs_gcc
def test_a_symbol_of_a_library_behind_a_needed_one_counts(tmp_path: Path, there: Target) -> None:
    inner = shared(tmp_path / "own" / "libinner.so", ("inner",), (), (), "-Wl,-soname,libinner.so")
    outer = shared(tmp_path / "own" / "libouter.so", (), (), (inner,), "-Wl,-soname,libouter.so", "-Wl,-rpath,$ORIGIN")
    part = shared(tmp_path / "part.so", (), ("inner",), (outer,), f"-Wl,-rpath,{tmp_path / 'own'}", "-Wl,-rpath-link,.")
    assert prove(wheel(tmp_path, part), KEY, there).modules[0].symbols == 1


@needs_gcc
def test_a_library_that_the_wheel_brings_is_found(tmp_path: Path, there: Target) -> None:
    brought = shared(tmp_path / "libown.so", ("own",), (), (), "-Wl,-soname,libown.so")
    part = shared(tmp_path / "part.so", (), ("own",), (brought,))
    path = wheel(tmp_path, part)
    with zipfile.ZipFile(path, "a") as archive:
        archive.write(brought, "thing.libs/libown.so")
    assert len(prove(path, KEY, there).modules) == 2


@needs_gcc
def test_a_library_that_is_nowhere_is_named(tmp_path: Path, there: Target) -> None:
    lost = shared(tmp_path / "gone" / "libcudart.so", (), (), (), "-Wl,-soname,libcudart.so.99")
    part = shared(tmp_path / "part.so", (), (), (lost,))
    with pytest.raises(ApplyError, match=r"part\.so needs libcudart\.so\.99, which is not in this environment"):
        prove(wheel(tmp_path, part), KEY, there)


@needs_gcc
def test_a_version_that_a_library_lacks_is_named(tmp_path: Path, there: Target) -> None:
    scripts = {"new": "OWN_1 { x1; }; OWN_2 { x2; } OWN_1;", "old": "OWN_1 { x1; x2; };"}
    for name, script in scripts.items():
        (tmp_path / f"{name}.map").write_text(script)
        option = f"-Wl,--version-script={tmp_path / f'{name}.map'}"
        shared(tmp_path / name / "libown.so", ("x1", "x2"), (), (), "-Wl,-soname,libown.so", option)
    part = shared(tmp_path / "part.so", (), ("x2",), (tmp_path / "new" / "libown.so",))
    path = wheel(tmp_path, part)
    with zipfile.ZipFile(path, "a") as archive:
        archive.write(tmp_path / "old" / "libown.so", "thing.libs/libown.so")
    with pytest.raises(ApplyError, match=r"part\.so needs OWN_2 of libown\.so, and \S+ has no such version"):
        prove(path, KEY, there)


@needs_gcc
@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda data: data[:18] + b"\xf3" + data[19:], "for another machine: EM_RISCV, not EM_"),
        (lambda data: data[: len(data) // 2], "is cut-off"),
        (lambda data: b"MZ" + data[2:], "is foreign"),
    ],
    ids=["machine", "cut-off", "foreign"],
)
def test_a_file_that_no_linker_takes(tmp_path: Path, there: Target, change: object, said: str) -> None:
    part = shared(tmp_path / "part.so")
    part.write_bytes(change(part.read_bytes()))  # type: ignore[operator]
    with pytest.raises(ApplyError, match=said):
        prove(wheel(tmp_path, part), KEY, there)


@pytest.mark.parametrize("package", ["mmcv", "mmcv-full", "onedl-mmcv", "xtcocotools", "pycocotools"])
def test_ops_that_were_left_out_are_missed(tmp_path: Path, there: Target, package: str) -> None:
    with pytest.raises(ApplyError, match=r"holds no compiled module: .* was built without its ops"):
        prove(wheel(tmp_path, None), replace(KEY, package=package), there)


def test_what_is_no_wheel(tmp_path: Path, there: Target) -> None:
    path = tmp_path / "thing-1.0-py3-none-any.whl"
    path.write_bytes(b"PK no more")
    with pytest.raises(ApplyError, match="is no whole wheel"):
        prove(path, KEY, there)


# ------------------------------------------------------------------------------------------------------ device code


@needs_gcc
@pytest.mark.parametrize(
    ("archs", "said"),
    [
        ("", None),
        ("7.5", None),
        ("7.5;9.0", None),
        ("9.0,7.5", None),
        ("8.6;9.0", r"holds no device code for 8\.6; it holds 7\.5 9\.0 12\.0\+PTX"),
        ("9.0+PTX", r"no device code for 9\.0\+PTX"),
        ("12.0+PTX", r"no device code for 12\.0; it holds"),
    ],
)
def test_the_architectures_of_the_key_are_inside(
    tmp_path: Path, there: Target, archs: str, said: Optional[str]
) -> None:
    part = shared(tmp_path / "part.so")
    subprocess.run(["objcopy", "--add-section", f".nv_fatbin={FATBIN}", str(part)], check=True)
    key = replace(KEY, cuda="13.0", archs=archs)
    if said is None:
        [module] = prove(wheel(tmp_path, part), key, there).modules
        assert (module.archs, module.ptx) == (("7.5", "9.0"), ("12.0",))
    else:
        with pytest.raises(ApplyError, match=said):
            prove(wheel(tmp_path, part), key, there)


@needs_gcc
def test_a_cuda_build_without_device_code(tmp_path: Path, there: Target) -> None:
    part = shared(tmp_path / "part.so")
    with pytest.raises(ApplyError, match=r"built for CUDA 13\.0 and holds no device code"):
        prove(wheel(tmp_path, part), replace(KEY, cuda="13.0"), there)


@pytest.mark.parametrize(
    ("told", "archs", "ptx"),
    [
        ("", [], []),
        ("9.0", ["9.0"], []),
        ("7.5;8.6+PTX", ["7.5", "8.6"], ["8.6"]),
        ("7.5,8.6 9.0a", ["7.5", "8.6", "9.0a"], []),
        ("Ampere;12.0", ["12.0"], []),
    ],
)
def test_what_an_arch_list_asks_for(told: str, archs: list[str], ptx: list[str]) -> None:
    assert wanted_archs(told) == (frozenset(archs), frozenset(ptx))


# --------------------------------------------------------------------------------------------------- by running it


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("raise ImportError('no such thing')", r"thing 1\.0 does not work: ImportError: no such thing"),
        ("import os; os.kill(os.getpid(), 11)", r"loading it killed the interpreter with signal 11"),
        ("import os; os._exit(3)", r"loading it ended with status 3"),
        ("import time; time.sleep(60)", r"loading it did not end within 2 s"),
    ],
    ids=["raises", "crashes", "ends", "hangs"],
)
def test_a_wheel_that_does_not_load(tmp_path: Path, there: Target, code: str, said: str) -> None:
    with pytest.raises(ApplyError, match=said):
        prove(wheel(tmp_path, None, code), KEY, there, deadline=2.0)


def test_what_mmcv_asks_of_its_binaries(tmp_path: Path) -> None:
    (tmp_path / "ops").mkdir()
    (tmp_path / "ops" / "nms.py").write_text("ext_module = ext_loader.load_ext(\n    '_ext', ['nms', 'softnms'])\n")
    (tmp_path / "ops" / "roi.py").write_text("from ..utils import load_ext\nload_ext('_other', ['roi'])\n")
    (tmp_path / "utils.py").write_text("def load_ext(name, funcs):\n    return load_ext(name, list(funcs))\n")
    assert asked_of_binaries(tmp_path) == {"_ext": ["nms", "softnms"], "_other": ["roi"]}


def test_numbers_that_are_wrong_are_refused() -> None:
    golden = reference().ops
    right = {"nms": golden["nms"].values}
    [check] = _judged(Answer(ops={"cpu": right}), golden, "mmcv 2.1.0")  # type: ignore[arg-type]
    assert (check.op, check.ok, check.max_abs_error, check.message) == ("nms", True, 0.0, "on the cpu")
    with pytest.raises(ApplyError, match=r"mmcv 2\.1\.0: nms on the cuda gave values off by up to 1"):
        _judged(Answer(ops={"cuda": {"nms": (*right["nms"][:-1], 1.0)}}), golden, "mmcv 2.1.0")
    with pytest.raises(ApplyError, match="values that cannot be compared"):
        _judged(Answer(ops={"cpu": {"rle": (1.0, None, 4.0, 1.0)}}), MASKS, "xtcocotools 1.14.3")
