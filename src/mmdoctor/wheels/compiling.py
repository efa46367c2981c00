"""Runs the compile of an unpacked sdist: parallel as memory allows, with fewer compilers when one was ended for it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Callable

from mmdoctor import rules, system
from mmdoctor.errors import ApplyError
from mmdoctor.model import Build, Host
from mmdoctor.wheels.log import failed, starved
from mmdoctor.wheels.pace import Pace
from mmdoctor.work import KILL

if TYPE_CHECKING:
    from mmdoctor.apply.stages import Listener

DEADLINE_SECONDS = 6 * 3600.0
# Told to the program that stands for g++ (`inside_compiler.py`), which then has gcc spare memory.
THRIFTY = "MMDOCTOR_THRIFTY"
# Besides the compilers: setup.py with torch imported, and ninja.
ROOM_BYTES = 500_000_000
# What pip calls (PEP 517), without pip: it would run setup.py twice, and each time imports torch. The backend of a
# project without pyproject.toml serves one with setuptools' own, too: it only puts the source's folder on the path.
BACKEND = "import sys; from setuptools.build_meta import __legacy__ as backend; print(backend.build_wheel(sys.argv[1]))"


def jobs(host: Host, environment: Mapping[str, str], *, cuda: bool) -> tuple[int, bool]:
    """Parallel compilers, as many as there are cores and free memory for (`MAX_JOBS` wins), and whether they have to
    spare memory."""
    free = host.memory_available_bytes - ROOM_BYTES
    asked = environment.get("MAX_JOBS", "")
    told = int(asked) if asked.isdigit() else 0
    return told or rules.build_jobs(host.cpu_count, free, cuda=cuda), free < rules.BYTES_OF_LARGEST


def compile_wheel(
    build: Build,
    source: Path,
    out: Path,
    python: str,
    environment: Mapping[str, str],
    count: int,
    log: Path,
    say: Listener,
    on_start: Callable[[int], None],
) -> Path:
    """Compile `source` with `python` and at first `count` compilers side by side; returns the wheel in `out`.

    The objects that an earlier run finished in `source` are taken as they are (ninja knows them by command and time).
    When a compiler is ended for want of memory, it goes on with half as many, down to one that spares memory. The log
    gets every line. Raises ApplyError with the first real error.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    while True:
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir(parents=True)
        done = _run(source, out, python, {**environment, "MAX_JOBS": str(count)}, log, say, on_start)
        wheels = sorted(out.glob("*.whl"))
        if done.ok and wheels:
            return wheels[0]
        hungry = starved(done.stdout) or done.returncode == -KILL
        if not hungry or THRIFTY in environment:
            break
        count = max(1, count // 2)
        if count == 1:
            environment = {**environment, THRIFTY: "1"}
        say.info(f"a compiler was ended for want of memory: going on with {count} at a time")
    if done.timed_out:
        what = f"compiling {build.package} {build.version} did not end within {DEADLINE_SECONDS / 3600:.0f} hours"
        raise ApplyError(what, hint=f"the same command goes on where it stopped; the log: {log}")
    raise failed(build, done.stdout or done.stderr, log)


def _run(
    source: Path,
    out: Path,
    python: str,
    environment: Mapping[str, str],
    log: Path,
    say: Listener,
    on_start: Callable[[int], None],
) -> system.Completed:
    pace = Pace(source)
    with log.open("a", encoding="utf-8") as stream:

        def on_line(line: str) -> None:
            stream.write(line + os.linesep)
            step = pace.step(line)
            if step is None:
                say.line(line)
            else:
                say.progress(*step)

        return system.run(
            (python, "-c", BACKEND, str(out)),
            deadline=DEADLINE_SECONDS,
            env=environment,
            cwd=source,
            on_line=on_line,
            on_start=on_start,
        )
