"""What the log of a compile says: how far it is, the first real error, its known cause."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Optional

from mmdoctor.apply.failure import TOLD
from mmdoctor.errors import ApplyError
from mmdoctor.explain import explain
from mmdoctor.model import Build

NINJA_STEP = re.compile(r"^\[(\d+)/(\d+)\] ")
ERROR_LINE = re.compile(
    r"(error:|Error:|ModuleNotFoundError|No module named|Killed|No space left|fatal error|died due to)"
)
# What gcc's and nvcc's drivers say of a compiler that the kernel ended, and what one says that gets no more memory.
STARVED = re.compile(
    r"Killed signal terminated program|died due to signal 9|virtual memory exhausted|out of memory allocating"
    r"|std::bad_alloc|Cannot allocate memory"
)
# The error in its surroundings: what names the cause stands a few lines before (ninja's FAILED) or after it.
BEFORE, AFTER = 10, 200
LONGEST = 300


def starved(output: str) -> bool:
    """Whether a compiler was ended, or gave up, for want of memory."""
    return STARVED.search(output) is not None


def first_error(output: str) -> str:
    """The first line of a build log that names an error, shortened; else its last line."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    return (lines[at] if (at := _first(lines)) is not None else (lines or ["no output"])[-1])[:LONGEST]


def failed(build: Build, output: str, log: Path) -> ApplyError:
    """The error of a compile: its first real error, the known cause with what to do, and where the log lies."""
    lines = output.splitlines()
    at = _first(lines) or 0
    known = [c for c in explain("\n".join(lines[max(0, at - BEFORE) : at + AFTER])).causes if c.confidence >= TOLD]
    do = f"{known[0].title}. {known[0].fix.summary} " if known else ""
    what = f"compiling {build.package} {build.version} failed: {first_error(output)}"
    return ApplyError(what, hint=f"{do}The log: {log}")


def _first(lines: list[str]) -> Optional[int]:
    # A command line names -Werror=…, and ninja prints it whole after FAILED.
    named = (at for at, line in enumerate(lines) if ERROR_LINE.search(line) and "-Werror" not in line)
    return next(named, None)
