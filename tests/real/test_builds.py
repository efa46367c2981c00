"""Real compiles: a killed build goes on, a build in little memory ends well, nvcc out of wheels compiles an op."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from mmdoctor.apply.runner import Proof, apply
from mmdoctor.apply.stages import Settings
from mmdoctor.builds import CudaTools
from mmdoctor.matrix import load_matrix
from mmdoctor.model import Stage, Step
from mmdoctor.probes.elf import CUDA_SECTION, Elf
from mmdoctor.probes.fatbin import device_code
from mmdoctor.probes.indexes import user_config
from mmdoctor.report.progress import Log
from mmdoctor.system import uv_program
from mmdoctor.wheels.asking import build_asked, facts_for
from mmdoctor.wheels.build import unpack
from mmdoctor.wheels.compiling import compile_wheel
from mmdoctor.wheels.fetch import fetch_sdist
from mmdoctor.wheels.making import prepared, tools_for
from tests.real.conftest import run, uv, versions
from tests.real.kills.small import plan_for

MMCV = "mmcv==2.1.0"
FILES, HALF = 77, 39
COMPILE_SECONDS = 3600.0
GROUPS = Path("/sys/fs/cgroup/memory")
TWO_GB = 2_000_000_000
# nms on the GPU and nothing else of mmcv, so that one file goes through nvcc and the module loads.
SETUP = """
import os
from setuptools import setup
from torch.utils.cpp_extension import BuildExtension, CUDAExtension
csrc = os.path.abspath("mmcv/ops/csrc")
setup(
    name="mmcv", version="2.1.0", cmdclass={"build_ext": BuildExtension},
    ext_modules=[CUDAExtension(
        "one_op", ["mmcv/ops/csrc/pytorch/cuda/nms_cuda.cu", "one_op.cpp"], define_macros=[("MMCV_WITH_CUDA", None)],
        include_dirs=[f"{csrc}/pytorch", f"{csrc}/common", f"{csrc}/common/cuda"],
        extra_compile_args={"cxx": ["-std=c++20"], "nvcc": ["-std=c++20"]})],
)
"""
ONE_OP = """
#include <torch/extension.h>
at::Tensor NMSCUDAKernelLauncher(at::Tensor boxes, at::Tensor scores, float iou_threshold, int offset);
PYBIND11_MODULE(one_op, m) { m.def("nms", &NMSCUDAKernelLauncher); }
"""


def doctor(env: Path, cache: Path, *prefix: str) -> subprocess.Popen[str]:
    """`mmdoctor wheels build` with a cache of its own; `prefix` is a command that starts it."""
    argv = [*prefix, sys.executable, "-m", "mmdoctor", "wheels", "build", MMCV, "--env", str(env)]
    environment = {**os.environ, "MMDOCTOR_CACHE": str(cache)}
    return subprocess.Popen(argv, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def objects(cache: Path) -> int:
    return len(list(cache.glob("build/*/mmcv-*/build/temp*/**/*.o")))


@pytest.mark.real
def test_a_build_killed_half_way_goes_on_where_it_stopped(
    demo: Path, scratch: Path, record_property: Callable[[str, object], None]
) -> None:
    cache = scratch / "killed"
    start = time.monotonic()
    with doctor(demo, cache) as killed:
        while objects(cache) < HALF and killed.poll() is None:
            time.sleep(0.5)
        assert killed.poll() is None, killed.communicate()[0]
        killed.send_signal(signal.SIGKILL)
    half = time.monotonic() - start
    start = time.monotonic()
    with doctor(demo, cache) as again:
        said = again.communicate(timeout=COMPILE_SECONDS)[0]
    rest = time.monotonic() - start
    record_property("killed after, went on for (seconds)", (half, rest))
    assert again.returncode == 0, said
    compiled = re.search(r"compiled (\d+) files", said)
    assert compiled, said
    assert int(compiled[1]) <= FILES - HALF + 2  # what both compilers were at when they were killed
    assert list(cache.glob("wheels/mmcv-2.1.0/*/mmcv-2.1.0-*.whl"))


@pytest.mark.real
def test_a_repair_compiles_beside_the_clone_and_installs_what_is_proven(tmp_path: Path) -> None:
    env, cache = tmp_path / "env", tmp_path / "cache"
    uv("venv", "--quiet", "--python", sys.executable, str(env))
    numpy = "numpy==1.26.4" if sys.version_info < (3, 12) else "numpy"
    uv("pip", "install", "--quiet", "--python", str(env / "bin" / "python"), numpy, "matplotlib")
    matrix, facts = load_matrix(), facts_for(env, True)
    build = build_asked(matrix, facts, "xtcocotools", "1.14.3", None)
    install = Step(argv=("uv", "pip", "install", "--python", "{python}", "{wheel}"), why="the test", build=build)
    stages = (Stage(id="numpy-bound", title="xtcocotools", steps=(install,)),)
    plan = replace(plan_for(env), stages=stages, changes=(), constraints=())
    settings = Settings(cache=cache, wheels=cache / "wheels", uv=uv_program(), config=user_config(os.environ, env))

    def imports(where: Path, *_: object) -> Proof:
        assert "ok" in run(str(where / "bin" / "python"), "-c", "import xtcocotools.mask; print('ok')")
        return Proof(facts=facts, findings=())

    apply(plan, facts, matrix, settings, Log(sys.stderr), prove=imports)
    assert set(versions(env)) >= {"numpy", "xtcocotools"}
    assert not {"ninja", "psutil", "wheel"} & set(versions(env))  # xtcocotools itself requires the rest
    assert not [path for path in (cache / "build").iterdir() if path.is_dir()]


@pytest.fixture
def two_gb() -> Iterator[Path]:
    """A control group (v1) with two gigabytes of memory."""
    group = GROUPS / f"mmdoctor-{uuid.uuid4().hex[:8]}"
    try:
        group.mkdir()
        (group / "memory.limit_in_bytes").write_text(str(TWO_GB))
    except OSError as error:
        pytest.skip(f"no control group of our own: {error}")
    yield group
    group.rmdir()


@pytest.mark.evidence
def test_a_build_in_two_gigabytes_ends_well(demo: Path, scratch: Path, two_gb: Path) -> None:
    inside = ("sh", "-c", f'echo $$ > {two_gb}/tasks; exec "$@"', "sh")
    with doctor(demo, scratch / "small", *inside) as build:
        said = build.communicate(timeout=2 * COMPILE_SECONDS)[0]
    assert build.returncode == 0, said
    assert "1 compiler at a time" in said


@pytest.mark.real
def test_nvcc_out_of_wheels_compiles_an_op(scratch: Path) -> None:
    """No GPU, no toolkit, no root: torch's own CUDA 13 and four wheels; the module loads and holds sm_90."""
    matrix, env, cache = load_matrix(), scratch / "cu130", scratch / "cuda"
    uv("venv", "--quiet", "--python", sys.executable, str(env))
    uv("pip", "install", "--quiet", "--python", str(env / "bin" / "python"), "torch===2.14.1", "numpy")
    facts = facts_for(env, True)
    facts = replace(facts, toolchain=replace(facts.toolchain, nvcc=None))  # whatever this machine has
    build = build_asked(matrix, facts, "mmcv", "2.1.0", "9.0")
    settings = Settings(cache=cache, wheels=cache / "wheels", uv=uv_program(), config=user_config(os.environ, cache))
    tools = tools_for(build, facts.target, facts, matrix)
    assert tools == CudaTools("13.0", matrix.cuda_wheels[0])
    sdist = fetch_sdist(settings.config, "mmcv", "2.1.0", build.sdist_sha256, cache / "sdists", offline=False)
    source = unpack(sdist, build, cache / "build")
    (source / "setup.py").write_text(SETUP)
    (source / "one_op.cpp").write_text(ONE_OP)
    environment = prepared(build, facts.target, facts, matrix, settings, cache / "build", tools, os.environ)
    python, log = facts.target.executable, cache / "build.log"
    wheel = compile_wheel(build, source, cache / "out", python, environment, 2, log, Log(sys.stderr), lambda _: None)
    shutil.unpack_archive(wheel, cache / "unpacked", "zip")
    [module] = (cache / "unpacked").glob("one_op*.so")
    with Elf(module) as elf:
        assert device_code(elf.section(CUDA_SECTION)).archs == ("9.0",)
    loading = "import torch, one_op; print(one_op.nms.__doc__)"
    said = subprocess.run([python, "-c", loading], cwd=cache / "unpacked", capture_output=True, text=True, check=False)
    assert "Tensor" in said.stdout, said.stderr
