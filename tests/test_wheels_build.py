"""Builds: what compiles them, with how many at a time, how far they are, what went wrong, and going on after a kill."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Optional

import msgspec
import pytest
from msgspec.structs import replace

from mmdoctor import rules
from mmdoctor.apply.fetch import asked_of
from mmdoctor.apply.processes import started
from mmdoctor.builds import CudaTools, Fault, build_for, compiler_fault, cuda_tools, missing_tools
from mmdoctor.errors import ApplyError, RefusedError, TryAgainError, UsageError
from mmdoctor.matrix_model import Matrix
from mmdoctor.model import Build, Gpu, GpuDevice, Host, Nvcc, Plan, Stage, Step, Tool, Toolchain, TorchBuild, Unknown
from mmdoctor.report.progress import Log
from mmdoctor.wheels import inside_compiler
from mmdoctor.wheels.asking import archs_of, build_asked
from mmdoctor.wheels.build import build_key
from mmdoctor.wheels.compiling import compile_wheel, jobs
from mmdoctor.wheels.log import failed, first_error, starved
from mmdoctor.wheels.making import alone, beside, quick_compiler
from mmdoctor.wheels.pace import NVCC_WEIGHT, Pace
from mmdoctor.wheels.toolchain import cuda_home, join
from tests.conftest import DATA, Machine, packages

BUILD = Build(package="mmcv", version="2.1.0", sdist_sha256=None, minutes=1, fixups=(), env={})
H200 = GpuDevice(name="NVIDIA H200", compute_capability="9.0", memory_bytes=1)
GXX = shutil.which("g++")


def toolchain(nvcc: Optional[str] = None, gcc: Optional[str] = "12.2.0") -> Toolchain:
    def tool(name: str, version: Optional[str]) -> Optional[Tool]:
        return Tool(path=f"/usr/bin/{name}", version=version) if version else None

    return Toolchain(nvcc=tool("nvcc", nvcc), gcc=tool("c++", gcc), ninja=None, cuda_home=None)


@pytest.fixture
def host(machine: Machine) -> Host:
    return replace(machine("healthy-cpu").host, os="linux", machine="x86_64")


# ------------------------------------------------------------------------------------------------- what compiles it


@pytest.mark.parametrize(
    ("cuda", "nvcc", "gcc", "capabilities", "expected"),
    [
        ("13.0", None, "12.2.0", ("9.0",), "wheels 13.0"),
        ("13.0", "13.0.88", "12.2.0", ("9.0",), "system 13.0.88"),
        ("13.0", "12.1.105", "12.2.0", ("9.0",), "wheels 13.0"),
        ("12.1", "12.4.131", "12.2.0", ("9.0",), "system 12.4.131"),
        ("12.1", None, "12.2.0", ("9.0",), "nvcc 12.x"),
        ("12.1", "11.8.89", "12.2.0", ("9.0",), "nvcc 12.x"),
        ("12.8", "12.4.131", "12.2.0", ("12.0",), "nvcc ≥12.8 for 12.0"),
        ("12.1", "12.1.105", "13.1.0", ("9.0",), "gcc <13"),
        ("13.0", None, "16.1.0", ("9.0",), "gcc <16"),
    ],
)
def test_what_compiles_cuda_ops(
    matrix: Matrix, host: Host, cuda: str, nvcc: Optional[str], gcc: str, capabilities: tuple[str, ...], expected: str
) -> None:
    found = cuda_tools(matrix, host, toolchain(nvcc, gcc), cuda, capabilities)
    if isinstance(found, Fault):
        assert found.wanted == expected
    else:
        assert f"{'wheels' if found.wheels else 'system'} {found.nvcc}" == expected


def test_a_cuda_without_wheels_says_exactly_what_to_install(matrix: Matrix, host: Host) -> None:
    fault = cuda_tools(matrix, host, toolchain(), "12.1", ("8.6",))
    assert isinstance(fault, Fault)
    assert "install cuda-toolkit-12-1" in fault.do
    assert "nvidia/label/cuda-12.1.0::cuda-toolkit" in fault.do
    assert "gcc older than 13" in fault.do
    newer = cuda_tools(matrix, host, toolchain("12.1.105", "13.2.0"), "12.1", ("8.6",))
    assert isinstance(newer, Fault)
    assert newer.do == "install gcc 12 and set CC=gcc-12 CXX=g++-12"


def test_an_nvcc_without_headers_is_no_toolkit(matrix: Matrix, host: Host) -> None:
    bare = replace(toolchain("13.0.88"), cuda_home="/usr/local", cuda_headers=False)
    found = cuda_tools(matrix, host, bare, "13.0", ("9.0",))
    assert found == CudaTools("13.0.88", matrix.cuda_wheels[0], "/usr/local")
    fault = cuda_tools(matrix, host, replace(bare, nvcc=Tool(path="nvcc", version="12.1.105")), "12.1", ("9.0",))
    assert isinstance(fault, Fault)
    assert fault.wanted == "cusparse.h in /usr/local"


def test_wheels_of_nvcc_are_for_the_machines_that_they_are_for(matrix: Matrix, host: Host) -> None:
    arm = replace(host, machine="aarch64")
    assert isinstance(cuda_tools(matrix, arm, toolchain(), "13.0", ("9.0",)), Fault)


def test_a_tool_that_nobody_saw_is_taken_to_fit(matrix: Matrix, host: Host) -> None:
    unseen = Toolchain(looked=False, nvcc=None, gcc=None, ninja=None, cuda_home=None)
    assert cuda_tools(matrix, host, unseen, "12.1", ("9.0",)) == CudaTools(None)
    strange = replace(toolchain(), nvcc=Tool(path="nvcc", version=Unknown(unknown="no answer")))
    assert cuda_tools(matrix, host, strange, "12.1", ("9.0",)) == CudaTools(None)


def test_a_missing_or_old_compiler_says_what_to_install(matrix: Matrix, machine: Machine, host: Host) -> None:
    target = replace(machine("healthy-cpu").target, torch=TorchBuild(version="2.14.1+cpu", cuda=None))
    none = compiler_fault(matrix, host, toolchain(gcc=None), "mmcv", target)
    assert none is not None
    assert "apt-get install g++" in none.do
    old = compiler_fault(matrix, host, toolchain(gcc="10.2.1"), "mmcv", target)
    assert old is not None
    assert (old.wanted, old.why) == ("gcc ≥11.3", "torch's headers are C++20")
    assert compiler_fault(matrix, host, toolchain(gcc="10.2.1"), "xtcocotools", target) is None
    assert compiler_fault(matrix, host, toolchain(gcc=None), "chumpy", target) is None


def test_only_what_the_target_lacks_is_installed_beside_it(matrix: Matrix, machine: Machine) -> None:
    facts = packages(
        machine("healthy-cpu"),
        {"setuptools": "69.5.1", "wheel": "0.45", "ninja": "1.11", "psutil": "6.0", "cython": None},
    )
    assert missing_tools(matrix, "mmcv", facts.target) == ("cython",)
    new = packages(facts, {"setuptools": "82.0.0", "cython": "3.0", "packaging": "24.0", "pip": None})
    pin = rules.build_tools(matrix, "2.1.2")
    assert pin is not None
    assert missing_tools(matrix, "mmcv", new.target) == (f"setuptools=={pin.setuptools_pin}",)
    assert "pip" in missing_tools(matrix, "chumpy", new.target)


def test_the_key_knows_nvcc_and_not_the_users_environment(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    facts = machine("healthy-cpu")
    cpu = build_key(BUILD, facts.target, facts.host, "12.2.0", "0" * 64)
    monkeypatch.setenv("FORCE_CUDA", "1")
    assert build_key(BUILD, facts.target, facts.host, "12.2.0", "0" * 64) == cpu
    assert build_key(BUILD, facts.target, facts.host, "12.2.0", "0" * 64, "13.0").compiler == "12.2.0 nvcc 13.0"


# -------------------------------------------------------------------------------------------------- what is asked for


def test_a_build_as_asked(matrix: Matrix, machine: Machine) -> None:
    facts = machine("healthy-cpu")
    build = build_asked(matrix, facts, "mmcv", "2.1.0", "9.0,12.0+PTX")
    assert (build.env["FORCE_CUDA"], build.env["TORCH_CUDA_ARCH_LIST"]) == ("1", "9.0;12.0+PTX")
    assert build.sdist_sha256 is not None
    assert "FORCE_CUDA" not in build_asked(matrix, facts, "mmcv", "2.1.0", None).env
    with pytest.raises(UsageError, match="is not among what is compiled: mmcv"):
        build_asked(matrix, facts, "torch", "2.1.2", None)
    with pytest.raises(UsageError, match=r"does not know mmcv 9\.0"):
        build_asked(matrix, facts, "mmcv", "9.0", None)
    with pytest.raises(UsageError, match="'9' is no compute capability"):
        build_asked(matrix, facts, "mmcv", "2.1.0", "9")
    with pytest.raises(UsageError, match="has no CUDA ops"):
        build_asked(matrix, facts, "xtcocotools", "1.14.3", "9.0")
    bare = packages(facts, {"numpy": None})
    with pytest.raises(RefusedError, match="compiled against the NumPy that will run"):
        build_asked(matrix, bare, "xtcocotools", "1.14.3", None)
    without = replace(facts, target=replace(facts.target, torch=None))
    with pytest.raises(RefusedError, match="compiled against the torch that will run"):
        build_asked(matrix, without, "mmcv", "2.1.0", None)
    newer = replace(facts, target=replace(facts.target, torch=TorchBuild(version="2.6.0+cpu", cuda=None)))
    with pytest.raises(RefusedError, match=r"compiles against torch >=1\.8,<2\.2"):
        build_asked(matrix, newer, "mmcv", "2.0.1", None)


def test_archs_come_from_the_gpus_the_list_or_force(matrix: Matrix, machine: Machine) -> None:
    facts = machine("healthy-cpu")
    facts = replace(
        facts, target=replace(facts.target, torch=TorchBuild(version="2.6.0+cu124", cuda="12.4")), environment={}
    )

    def told(**environment: str) -> str:
        return archs_of(matrix, replace(facts, environment=environment), None)

    assert told() == told(TORCH_CUDA_ARCH_LIST="8.6") == ""
    assert told(FORCE_CUDA="1", TORCH_CUDA_ARCH_LIST="8.0 8.6+PTX") == "8.0;8.6+PTX"
    with pytest.raises(UsageError, match="no GPU is here"):
        told(FORCE_CUDA="1")
    gpu = Gpu(driver="570.1", source="nvml", cuda_ceiling="12.8", devices=(H200,), reason=None)
    assert archs_of(matrix, replace(facts, gpu=gpu), None) == "9.0"
    assert archs_of(matrix, replace(facts, gpu=gpu), "7.5, 8.6") == "7.5;8.6"


def test_a_build_for_this_machine(matrix: Matrix, host: Host) -> None:
    cpu = build_for(matrix, host, "mmcv", "2.1.0", python="3.11.7", torch="2.14.1+cu130")
    assert [fixup.id for fixup in cpu.fixups] == ["cxx20"]
    cuda = build_for(matrix, host, "mmcv", "2.1.0", python="3.11.7", torch="2.14.1+cu130", archs="9.0")
    assert cuda.minutes > cpu.minutes
    assert build_for(matrix, host, "chumpy", "0.70", python="3.11.7", torch=None).sdist_sha256 is not None


# ---------------------------------------------------------------------------------------------------- CUDA from wheels


def test_two_trees_are_shown_as_one(tmp_path: Path) -> None:
    home, other = tmp_path / "home", tmp_path / "other"
    for path, text in {"home/include/a.h": "ours", "other/include/a.h": "theirs", "other/include/b.h": "b"}.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    (other / "lib").mkdir()
    (other / "lib" / "libcudart.so.13").write_text("")
    join(home, other)
    assert (home / "include" / "a.h").read_text() == "ours"
    assert (home / "include" / "b.h").resolve() == other / "include" / "b.h"
    assert (home / "lib" / "libcudart.so.13").exists()


def test_a_torch_without_cudas_wheels_is_refused(matrix: Matrix, machine: Machine, tmp_path: Path) -> None:
    target = replace(machine("healthy-cpu").target, site_packages=str(tmp_path))
    with pytest.raises(RefusedError, match="does not bring CUDA's headers"):
        cuda_home(CudaTools("13.0", matrix.cuda_wheels[0]), tmp_path / "cuda", target, ("uv",), {})


def test_a_toolkit_without_headers_gets_those_of_torch(matrix: Matrix, machine: Machine, tmp_path: Path) -> None:
    for path in (
        "own/bin/nvcc",
        "own/include/cuda_runtime.h",
        "own/lib/libcudart.so",
        "site/nvidia/cu13/include/cuda_runtime.h",
        "site/nvidia/cu13/include/cusparse.h",
        "site/nvidia/cu13/lib/libcudart.so.13",
    ):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(path)
    (tmp_path / "own" / "lib64").symlink_to("lib")
    target = replace(machine("healthy-cpu").target, site_packages=str(tmp_path / "site"))
    tools = CudaTools("13.0.88", matrix.cuda_wheels[0], str(tmp_path / "own"))
    home = cuda_home(tools, tmp_path / "cuda", target, ("uv",), {})
    seen = {name: (home / name).read_text() for name in ("bin/nvcc", "include/cuda_runtime.h", "include/cusparse.h")}
    assert seen["bin/nvcc"] == "own/bin/nvcc"
    assert seen["include/cuda_runtime.h"] == "own/include/cuda_runtime.h"
    assert seen["include/cusparse.h"] == "site/nvidia/cu13/include/cusparse.h"
    assert (home / "lib64" / "libcudart.so").read_text() == "site/nvidia/cu13/lib/libcudart.so.13"


# -------------------------------------------------------------------------------------------------- how far, how many


@pytest.mark.parametrize(
    ("cores", "memory", "environment", "cuda", "expected"),
    [
        (8, 64e9, {}, False, (8, False)),
        (8, 5e9, {}, False, (4, False)),
        (8, 5e9, {}, True, (2, False)),
        (8, 2e9, {}, False, (1, True)),
        (8, 1e8, {}, False, (1, True)),
        (8, 2e9, {"MAX_JOBS": "4"}, False, (4, True)),
        (2, 64e9, {"MAX_JOBS": "many"}, False, (2, False)),
        (2, 64e9, {"MAX_JOBS": "0"}, False, (2, False)),
    ],
)
def test_as_many_at_a_time_as_memory_feeds(
    host: Host, cores: int, memory: float, environment: Mapping[str, str], cuda: bool, expected: tuple[int, bool]
) -> None:
    small = replace(host, cpu_count=cores, memory_available_bytes=int(memory))
    assert jobs(small, environment, cuda=cuda) == expected


def test_the_time_left_counts_what_is_left_of_each_kind(tmp_path: Path) -> None:
    ninja = tmp_path / "build" / "temp.linux" / "build.ninja"
    ninja.parent.mkdir(parents=True)
    ninja.write_text("build a.o: compile a.cpp\nbuild b.o: compile b.cpp\nbuild c.o: cuda_compile c.cu\n")
    ninja.with_name(".ninja_log").write_text("# ninja log v5\n0\t5\t9\ta.o\tdeadbeef\n")
    pace = Pace(tmp_path)
    assert pace.step("building 'mmcv._ext'") is None
    assert pace.step("[1/1] Cythonizing _mask.pyx") is None
    pace.began = time.monotonic() - 10
    step = pace.step("[1/2] c++ -c b.cpp")
    assert step is not None
    assert step[:2] == (1, 2)
    assert step[2] == pytest.approx(10 * NVCC_WEIGHT, rel=0.05)  # a.o is done, c.o takes its weight
    last = pace.step("[2/2] /usr/bin/nvcc -c c.cu")
    assert last == (2, 2, 0.0)


def test_without_a_terminal_a_long_step_is_named_and_then_says_that_it_lives() -> None:
    stream = io.StringIO()
    with Log(stream, named=0.05, alive=0.1) as log:
        log.stage(1, 1, "mmcv")
        log.step("compile mmcv", "")
        log.progress(3, 77, 400.0)
        time.sleep(0.4)
        log.done(0.4)
        said = stream.getvalue()
        time.sleep(0.2)
    assert "… compile mmcv, 0 s: compiled 3 of 77 files, 7 min left" in said
    assert said.count("…") >= 2
    assert stream.getvalue() == said


# --------------------------------------------------------------------------------------------------------- what failed


def test_what_a_build_log_says() -> None:
    log = "gcc -Werror=format x.c\n  x.cpp:3:10: fatal error: Python.h: No such file or directory\nninja: build stopped"
    assert first_error(log) == "x.cpp:3:10: fatal error: Python.h: No such file or directory"
    assert first_error("one\ntwo\n") == "two"
    assert first_error("") == "no output"


def test_the_cause_of_a_failed_build_is_told(tmp_path: Path) -> None:
    log = "running build_ext\nTraceback\nModuleNotFoundError: No module named 'pkg_resources'\n"
    error = failed(BUILD, log, tmp_path / "build.log")
    assert error.what == "compiling mmcv 2.1.0 failed: ModuleNotFoundError: No module named 'pkg_resources'"
    assert error.hint is not None
    assert "setuptools" in error.hint
    assert str(tmp_path / "build.log") in error.hint


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ("c++: fatal error: Killed signal terminated program cc1plus\ncompilation terminated.", True),
        ("nvcc error   : 'cicc' died due to signal 9 (Kill signal)", True),
        ("cc1plus: out of memory allocating 65536 bytes after a total of 1", True),
        ("x.cpp:3:10: fatal error: Python.h: No such file or directory", False),
    ],
)
def test_a_compiler_that_starved(output: str, expected: bool) -> None:
    assert starved(output) is expected


# --------------------------------------------------------------------------------------------------------- the compile

BACKEND = """
import os
from pathlib import Path


class __legacy__:
    @staticmethod
    def build_wheel(out):
        jobs, mood = int(os.environ["MAX_JOBS"]), Path("mood").read_text()
        with open("seen", "a") as seen:
            seen.write(f"{jobs} ")
        with open("thrifty", "a") as seen:
            seen.write("yes " if "MMDOCTOR_THRIFTY" in os.environ else "no ")
        print("[1/2] c++ -c a.cpp")
        if mood == "broken":
            raise SystemExit("a.cpp:1:1: error: expected unqualified-id")
        if jobs > int(mood):
            raise SystemExit("c++: fatal error: Killed signal terminated program cc1plus")
        print("[2/2] c++ -c b.cpp")
        Path(out, "mmcv-2.1.0-cp311-cp311-linux_x86_64.whl").write_bytes(b"")
        return "mmcv-2.1.0-cp311-cp311-linux_x86_64.whl"
"""


def compiled(folder: Path, mood: str, count: int) -> tuple[Path, str]:
    """Run the compile with a build backend of this mood: the jobs that memory feeds, or `broken`."""
    tools = folder / "tools" / "setuptools"
    tools.mkdir(parents=True)
    (tools / "__init__.py").write_text("")
    (tools / "build_meta.py").write_text(BACKEND)
    (folder / "mood").write_text(mood)
    stream = io.StringIO()
    environment = {**os.environ, "PYTHONPATH": str(folder / "tools")}
    log = folder / "build.log"
    wheel = compile_wheel(
        BUILD, folder, folder / "wheel", sys.executable, environment, count, log, Log(stream), lambda _: None
    )
    return wheel, stream.getvalue()


def test_a_starved_build_goes_on_with_half_as_many(tmp_path: Path) -> None:
    wheel, said = compiled(tmp_path, "1", 5)
    assert wheel.name.startswith("mmcv-2.1.0")
    assert (tmp_path / "seen").read_text().split() == ["5", "2", "1"]
    assert "going on with 2 at a time" in said
    assert (tmp_path / "thrifty").read_text().split() == ["no", "no", "yes"]
    assert "compiled 2 files" in said


def test_one_compiler_that_starves_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ApplyError, match="Killed signal terminated") as caught:
        compiled(tmp_path, "0", 2)
    assert caught.value.hint is not None
    assert "memory" in caught.value.hint
    assert (tmp_path / "seen").read_text().split() == ["2", "1"]


def test_a_broken_build_is_not_repeated(tmp_path: Path) -> None:
    with pytest.raises(ApplyError, match="expected unqualified-id"):
        compiled(tmp_path, "broken", 4)
    assert (tmp_path / "seen").read_text().split() == ["4"]
    assert "[1/2] c++" in (tmp_path / "build.log").read_text()


def test_one_process_at_a_time_in_a_build_folder(tmp_path: Path) -> None:
    folder = tmp_path / "mmcv-2.1.0-abc"
    second = alone(folder, "the build of mmcv 2.1.0")
    busy = pytest.raises(TryAgainError, match=f"mmcv 2.1.0 is being changed by .*process {os.getpid()}")
    with alone(folder, "the build of mmcv 2.1.0"), busy, second:
        pytest.fail("both are in")
    with alone(folder, "the build of mmcv 2.1.0"):
        pass


@pytest.mark.skipif(os.name != "posix", reason="process groups")
def test_what_a_killed_build_left_running_is_ended_first(tmp_path: Path) -> None:
    folder = tmp_path / "mmcv-2.1.0-abc"
    orphan = subprocess.Popen(["sleep", "60"], start_new_session=True)
    try:
        beside(folder, "children").write_text(f"{orphan.pid} {started(orphan.pid)}\n")
        with alone(folder, "the build of mmcv 2.1.0") as child:
            assert orphan.wait(5) < 0
            child(os.getpid())
            assert str(os.getpid()) in beside(folder, "children").read_text()
        assert not beside(folder, "children").exists()
    finally:
        orphan.kill()


# ------------------------------------------------------------------------------------------- headers that are read once


def test_the_flags_of_the_header_are_those_of_the_source() -> None:
    command = ["-MMD", "-MF", "a.o.d", "-O3", "-I", "include", "-DX=_ext", "-c", "a.cpp", "-o", "a.o", "-std=c++17"]
    assert inside_compiler.flags_of(command) == ["-O3", "-I", "include", "-DX=_ext", "-std=c++17"]


@pytest.mark.skipif(GXX is None, reason="no g++ here")
def test_an_object_is_the_same_whether_its_header_was_read_before_or_not(tmp_path: Path) -> None:
    assert GXX is not None
    include = tmp_path / "include" / "torch"
    include.mkdir(parents=True)
    (include / "types.h").write_text("#pragma once\n#include <vector>\ninline int two() { return 2; }\n")
    source = tmp_path / "a.cpp"
    source.write_text("#include <torch/types.h>\nint three() { return two() + 1; }\n")
    flags = ["-O2", "-g0", f"-I{tmp_path / 'include'}", "-c", str(source)]
    program = quick_compiler(tmp_path / "compiler", sys.executable, f"{GXX} -Wall")
    subprocess.run([program, *flags, "-o", tmp_path / "quick.o"], check=True)
    subprocess.run([GXX, "-Wall", *flags, "-o", tmp_path / "plain.o"], check=True)
    assert (tmp_path / "quick.o").read_bytes() == (tmp_path / "plain.o").read_bytes()
    made = tmp_path / "compiler" / "torch.h.gch"
    before = made.stat().st_mtime_ns
    quick_compiler(tmp_path / "compiler", sys.executable, GXX)
    subprocess.run([program, *flags, "-o", tmp_path / "again.o"], check=True)
    assert made.stat().st_mtime_ns == before


@pytest.mark.skipif(GXX is None, reason="no g++ here")
def test_a_header_that_does_not_compile_alone_is_left_out(tmp_path: Path) -> None:
    source = tmp_path / "a.cpp"
    source.write_text("int three() { return 3; }\n")
    program = quick_compiler(tmp_path / "compiler", sys.executable, str(GXX))
    for _ in range(2):
        subprocess.run([program, "-c", source, "-o", tmp_path / "a.o"], check=True)
    assert (tmp_path / "a.o").exists()
    assert not (tmp_path / "compiler" / "torch.h.gch").exists()


# ------------------------------------------------------------------------------------------------------ inside a plan


def test_what_a_build_needs_beside_its_source_is_fetched_with_the_rest() -> None:
    plan = msgspec.json.decode((DATA / "plans" / "new-python313.json").read_bytes(), type=Plan)
    [build, *_] = (step.build for stage in plan.stages for step in stage.steps if step.build)
    nvcc = Nvcc(wheels=("nvidia-nvvm==13.0.*",), home="nvidia/cu13", links={})
    step = Step(argv=("uv", "pip", "install", "{wheel}"), why="", build=replace(build, nvcc=nvcc))
    asked = asked_of(replace(plan, stages=(Stage(id="mmcv", title="mmcv", steps=(step,)),)))
    assert asked.requirements == ("nvidia-nvvm==13.0.*",)
    assert [one.package for one in asked.builds] == [build.package]
