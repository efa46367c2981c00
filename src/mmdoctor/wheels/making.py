"""Makes one wheel: fetched by hash, mended, compiled, proven, and put into the cache; or taken from there.

The target is only read. What a build needs besides it (setuptools in the right range, ninja, for CUDA 13 also nvcc) is
installed beside the source, in the folder of the build, which stays until the wheel is proven: a killed build goes on
where it stopped.
"""

from __future__ import annotations

import os
import shlex
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Callable, NamedTuple, Optional, Union

from mmdoctor import rules, system
from mmdoctor.apply.processes import end_groups, started
from mmdoctor.builds import BOUND_TO_TORCH, CudaTools, Fault, compiler_fault, cuda_tools, missing_tools
from mmdoctor.errors import ApplyError, RefusedError
from mmdoctor.locks import locked
from mmdoctor.matrix_model import Matrix
from mmdoctor.model import Build, Facts, Target
from mmdoctor.probes.host import probe_host
from mmdoctor.wheels.build import build_key, unpack
from mmdoctor.wheels.cache import ELSEWHERE, admit, sha256_of, take, unwritable
from mmdoctor.wheels.compiling import THRIFTY, compile_wheel, jobs
from mmdoctor.wheels.fetch import fetch_sdist
from mmdoctor.wheels.proof import prove
from mmdoctor.wheels.toolchain import cuda_home, install

if TYPE_CHECKING:
    from mmdoctor.apply.stages import Listener, Settings

SCRIPT = Path(__file__).with_name("inside_compiler.py")
# What of the user's environment would put another torch, NumPy or setuptools before the target's, or CUDA ops into a
# build that is none for CUDA.
NOT_PASSED_ON = ("FORCE_CUDA", "PYTHONHOME", "PYTHONPATH", "TORCH_CUDA_ARCH_LIST")


class Made(NamedTuple):
    """A wheel of the cache, and whether it was compiled just now."""

    wheel: Path
    compiled: bool


def make_wheel(
    build: Build,
    target: Target,
    facts: Facts,
    matrix: Matrix,
    settings: Settings,
    say: Listener,
    *,
    environment: Mapping[str, str],
    why: str = "",
    log: Optional[Path] = None,
    on_start: Callable[[int], None] = lambda _: None,
) -> Made:
    """The wheel of this build for this target, from the cache or compiled and proven. `environment` is that of its
    programs, `why` is told when it is compiled, `log` is where its output goes (by default beside the build's folder).
    `on_start` is told of each process group that works there.

    Raises RefusedError (a tool is missing: what to install), TryAgainError (network; the same is being built by
    another process), ApplyError (the compile or the proof failed).
    """
    sha256 = build.sdist_sha256 or sha256_of(_sdist(build, settings))
    tools = tools_for(build, target, facts, matrix)
    nvcc = tools.nvcc if isinstance(tools, CudaTools) else None
    key = build_key(build, target, facts.host, rules.seen_version(facts.toolchain.gcc), sha256, nvcc)
    kept = take(settings.wheels, key)
    if kept is not None:
        return Made(kept, False)
    if isinstance(tools, Fault):
        what = f"{build.package} {build.version} cannot be compiled here: {tools.why}"
        raise RefusedError(f"{what} (wanted: {tools.wanted}; here: {tools.observed})", hint=tools.do)
    closed = unwritable(settings.wheels)
    if closed is not None:
        raise RefusedError(closed, hint=ELSEWHERE)
    folder = settings.cache / "build" / f"{build.package}-{build.version}-{key.digest}"
    sdist = _sdist(build, settings)
    with alone(folder, f"the build of {build.package} {build.version}") as child:
        kept = take(settings.wheels, key)  # of a process that had the lock before
        if kept is not None:
            return Made(kept, False)
        say.step(f"compile {build.package} {build.version} for {target.prefix}", why)
        start = time.monotonic()
        source = unpack(sdist, build, folder)
        variables = prepared(build, target, facts, matrix, settings, folder, tools, environment)
        count, thrifty = _jobs(folder, environment, say, cuda=tools is not None)
        variables.update({THRIFTY: "1"} if thrifty else {})

        def on_child(pid: int) -> None:
            child(pid)
            on_start(pid)

        out, told = folder / "wheel", log or beside(folder, "log")
        wheel = compile_wheel(build, source, out, target.executable, variables, count, told, say, on_child)
        minutes = round((time.monotonic() - start) / 60, 2)
        try:
            kept = admit(settings.wheels, wheel, key, minutes, proven=prove(wheel, key, target))
        except ApplyError:
            shutil.rmtree(folder)  # the same objects would give the same wheel
            raise
        shutil.rmtree(folder, ignore_errors=True)
        beside(folder, "log").unlink(missing_ok=True)
        return Made(kept, True)


def _jobs(folder: Path, environment: Mapping[str, str], say: Listener, *, cuda: bool) -> tuple[int, bool]:
    host = probe_host(folder)  # the memory that is free now, not when the plan was made
    count, thrifty = jobs(host, environment, cuda=cuda)
    free = f"{host.memory_available_bytes / 1e9:.1f} GB of free memory"
    say.info(f"{count} compiler{'s' * (count > 1)} at a time, for {host.cpu_count} cores and {free}")
    return count, thrifty


def beside(folder: Path, what: str) -> Path:
    """A file that belongs to the folder of a build and outlives it."""
    return folder.with_name(f"{folder.name}.{what}")


@contextmanager
def alone(folder: Path, subject: str) -> Iterator[Callable[[int], None]]:
    """The folder of a build for one process at a time; what is yielded is told of each process group that works there.

    Those that a killed run left are ended first. TryAgainError names who has the folder.
    """
    children = beside(folder, "children")
    with locked(beside(folder, "lock"), subject, "another mmdoctor"):
        end_groups(_groups(children))

        def told(pid: int) -> None:
            with children.open("a", encoding="utf-8") as stream:
                stream.write(f"{pid} {started(pid)}\n")

        try:
            yield told
        finally:
            children.unlink(missing_ok=True)


def _groups(children: Path) -> Iterator[tuple[int, float]]:
    for line in (system.read(children) or "").splitlines():
        pid, _, since = line.partition(" ")
        yield int(pid), float(since)


def _sdist(build: Build, settings: Settings) -> Path:
    return fetch_sdist(
        settings.config,
        build.package,
        build.version,
        build.sdist_sha256,
        settings.cache / "sdists",
        offline=settings.offline,
    )


def tools_for(build: Build, target: Target, facts: Facts, matrix: Matrix) -> Union[CudaTools, Fault, None]:
    """What compiles the CUDA ops of this build, None for a build without; or why this machine does not compile it."""
    fault = compiler_fault(matrix, facts.host, facts.toolchain, build.package, target)
    if fault is not None or build.env.get("FORCE_CUDA") != "1":
        return fault
    cuda = target.torch.cuda if target.torch else None
    if cuda is None:
        do = "install a CUDA build of torch, or ask for CPU ops"
        return Fault("torch", "a CUDA build of torch", "a CPU build", "CUDA ops need torch's own CUDA", do)
    capabilities = rules.capabilities(build.env["TORCH_CUDA_ARCH_LIST"])
    return cuda_tools(matrix, facts.host, facts.toolchain, cuda, capabilities)


def quick_compiler(folder: Path, python: str, compiler: str) -> Path:
    """A program that stands for gcc's `compiler` (which may have options) and reads torch's headers once for all
    sources: an object of mmcv then takes 2.6 s of CPU instead of 13.6, and is the same (measured: nms.cpp, gcc 12).

    torch accepts it as a g++ by its name. What it made stays for a build that goes on, since objects are older.
    """
    folder.mkdir(exist_ok=True)
    header, program = folder / "torch.h", folder / "g++"
    if not header.exists():
        header.write_text("#include <torch/types.h>\n", encoding="utf-8")
    words = (python, "-SI", str(SCRIPT), str(header), *shlex.split(compiler), "--")
    program.write_text(f'#!/bin/sh\nexec {shlex.join(words)} "$@"\n', encoding="utf-8")
    program.chmod(0o755)
    return program


def prepared(
    build: Build,
    target: Target,
    facts: Facts,
    matrix: Matrix,
    settings: Settings,
    folder: Path,
    cuda: Optional[CudaTools],
    environment: Mapping[str, str],
) -> dict[str, str]:
    """Install beside the source what the target does not hold; the variables of the build."""
    uv = (settings.uv, "pip", "install", *(("--no-index",) if settings.config.no_index else ()))
    tools = folder / "tools"
    shutil.rmtree(tools, ignore_errors=True)
    missing = missing_tools(matrix, build.package, target)
    if missing:
        install(missing, tools, target.executable, uv, environment)
    home = {}
    if cuda is not None and cuda.wheels is not None:
        home["CUDA_HOME"] = str(cuda_home(cuda, folder / "cuda", target, uv, environment))
    elif cuda is not None and facts.toolchain.cuda_home is not None:
        home["CUDA_HOME"] = facts.toolchain.cuda_home
    compiler = {}
    if build.package in BOUND_TO_TORCH and rules.seen_version(facts.toolchain.gcc) and " " not in str(folder):
        compiler = {"CXX": str(quick_compiler(folder / "compiler", target.executable, environment.get("CXX") or "c++"))}
    programs = (str(tools / "bin"), str(Path(target.executable).parent), environment.get("PATH", ""))
    return {
        **{name: value for name, value in environment.items() if name not in NOT_PASSED_ON},
        **build.env,
        **home,
        **compiler,
        "PATH": os.pathsep.join(programs),
        "PYTHONPATH": str(tools),
        "PYTHONNOUSERSITE": "1",
        "PYTHONUNBUFFERED": "1",
    }
