"""Compiles a wheel in the target: sdist by hash, fix-ups from data, no isolation, never from pip's own cache."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import sys
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Callable, Optional

import msgspec

from mmdoctor import rules, system
from mmdoctor.errors import ApplyError
from mmdoctor.model import Build, Host, Target, Text
from mmdoctor.wheels.cache import BuildKey

NINJA_STEP = re.compile(r"^\[(\d+)/(\d+)\]")
DEADLINE_SECONDS = 6 * 3600.0
# One cc1plus over torch's headers takes about 1.2 GB (measured: mmcv 2.1.0, torch 2.1.2, gcc 12).
BYTES_PER_JOB = 1_500_000_000
ERROR_LINE = re.compile(r"(error:|Error:|ModuleNotFoundError|No module named|Killed|No space left|fatal error)")
Progress = Callable[[int, int], None]


def build_key(build: Build, target: Target, host: Host, compiler: Text, sdist_sha256: str) -> BuildKey:
    """What the wheel of this build will depend on, in this target. xtcocotools knows NumPy and no torch; mmcv the
    reverse (its use of pybind11's NumPy header binds at run time; facts: mmcv_side)."""
    environment = {**os.environ, **build.env}
    torch = target.torch.version if target.torch and rules.module_of(build.package) == "mmcv" else ""
    cuda = (target.torch.cuda or "") if target.torch and torch and environment.get("FORCE_CUDA") == "1" else ""
    fixups = hashlib.sha256(msgspec.json.encode(build.fixups)).hexdigest()[:16] if build.fixups else ""
    return BuildKey(
        package=build.package,
        version=build.version,
        sdist_sha256=sdist_sha256,
        fixups=fixups,
        torch=torch,
        numpy=(target.version("numpy") or "") if not torch else "",
        cuda=cuda,
        archs=environment.get("TORCH_CUDA_ARCH_LIST", "") if cuda else "",
        python_tag="cp" + "".join(target.python.split(".")[:2]),
        glibc=host.glibc if isinstance(host.glibc, str) else "",
        compiler=compiler if isinstance(compiler, str) else "",
        flags=" ".join(f"{key}={value}" for key, value in sorted(build.env.items())),
    )


def unpack(sdist: Path, build: Build, folder: Path) -> Path:
    """Unpack an sdist into `folder` and apply the fix-ups; returns the source's folder.

    A folder that an earlier, killed build left is taken up again. ApplyError when a fix-up no longer fits the source.
    """
    source = folder / sdist.name[: -len(".tar.gz")]
    done = folder / "unpacked"
    if done.exists():
        return source
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    with tarfile.open(sdist) as archive:
        if hasattr(tarfile, "data_filter"):
            archive.extractall(folder, filter="data")
        else:
            archive.extractall(folder)  # the archive's sha256 is the one that the matrix names
    for fixup in build.fixups:
        path = source / fixup.file
        text = path.read_text(encoding="utf-8")
        for old, new in fixup.replace.items():
            if old not in text:
                what = f"fix-up {fixup.id} no longer fits {build.package} {build.version}: {fixup.file} has no {old!r}"
                raise ApplyError(what, hint="report it: the matrix's row is out of date")
            text = text.replace(old, new)
        path.write_text(text, encoding="utf-8")
    done.write_text(build.version, encoding="utf-8")
    return source


def pip_of(target: Target, python: str) -> tuple[str, ...]:
    """pip for the target: its own where it has one, else mmdoctor's, which then runs in the target's interpreter."""
    if target.version("pip"):
        return (python, "-m", "pip")
    return (sys.executable, "-m", "pip", "--python", python)


def jobs(host: Host) -> int:
    """Parallel compiles: as many as there are cores and memory for; `MAX_JOBS` wins."""
    asked = os.environ.get("MAX_JOBS", "")
    if asked.isdigit() and int(asked) > 0:
        return int(asked)
    return max(1, min(host.cpu_count, host.memory_available_bytes // BYTES_PER_JOB))


def compile_wheel(
    build: Build,
    source: Path,
    target: Target,
    host: Host,
    out: Path,
    environment: Mapping[str, str],
    log: Path,
    progress: Optional[Progress] = None,
    on_start: Optional[Callable[[int], None]] = None,
) -> Path:
    """Compile the unpacked `source` in the target's interpreter; returns the wheel in `out`.

    The log gets every line. ApplyError with the first real error when it fails, or when what came out holds no
    compiled module (an mmcv built without torch in sight is such a wheel).
    """
    python = target.executable
    argv = (*pip_of(target, python), "wheel", "--no-build-isolation", "--no-deps", "--no-cache-dir", "-v")
    environment = {
        **environment,
        **build.env,
        "MAX_JOBS": str(jobs(host)),
        "PATH": os.pathsep.join([str(Path(python).parent), environment.get("PATH", "")]),
        "PYTHONUNBUFFERED": "1",
    }
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a", encoding="utf-8") as stream:

        def on_line(line: str) -> None:
            stream.write(line + "\n")
            step = NINJA_STEP.match(line.strip())
            if step and progress is not None:
                progress(int(step[1]), int(step[2]))

        done = system.run(
            [*argv, "-w", str(out), str(source)],
            deadline=DEADLINE_SECONDS,
            env=environment,
            on_line=on_line,
            on_start=on_start,
        )
    wheels = sorted(out.glob(f"{build.package.replace('-', '_')}-*.whl"))
    if not done.ok or not wheels:
        raise ApplyError(
            f"compiling {build.package} {build.version} failed: {first_error(done.stdout)}", hint=f"the log: {log}"
        )
    with zipfile.ZipFile(wheels[-1]) as archive:
        compiled = [name for name in archive.namelist() if name.endswith((".so", ".pyd"))]
    if not compiled:
        what = f"compiling {build.package} {build.version} gave a wheel without a compiled module"
        raise ApplyError(what, hint=f"the log: {log}")
    return wheels[-1]


def first_error(output: str) -> str:
    """The first line of a build log that names an error, shortened; else its last line."""
    lines = [line.strip(" |│×╰─>") for line in output.splitlines() if line.strip()]
    named = [line for line in lines if ERROR_LINE.search(line) and "-Werror" not in line]
    return (named or lines[-1:] or ["no output"])[0][:300]
