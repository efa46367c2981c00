"""How long a compile will still take, from what it took so far and what is left of it."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Optional

from mmdoctor import system
from mmdoctor.wheels.log import NINJA_STEP

# nvcc's files against the C++ compiler's: 50 s of CPU each, and 3.8 (measured: mmcv 2.1.0, one arch; all 77 of C++).
NVCC_WEIGHT = 13.0
EDGE = re.compile(r"^build (\S+): (compile|cuda_compile) ", re.MULTILINE)


class Pace:
    """The steps of one ninja run in `source`, told line by line."""

    def __init__(self, source: Path) -> None:
        self.source = source
        self.before = set(_logged(source))
        self.began = time.monotonic()
        self.done = 0.0
        self.weight = 0.0

    def step(self, line: str) -> Optional[tuple[int, int, float]]:
        """Steps done, all steps, and the seconds that are left; None for a line that is no step."""
        step = NINJA_STEP.match(line)
        if step is None:
            return None
        done, total = int(step[1]), int(step[2])
        if total == 1:  # Cython counts so, too
            return None
        if not self.weight:
            self.weight = sum(_todo(self.source, self.before)) or float(total)
        self.done += NVCC_WEIGHT if "nvcc" in line else 1.0
        left = max(self.weight - self.done, 0.0) if done < total else 0.0
        return done, total, (time.monotonic() - self.began) / self.done * left


def _logged(source: Path) -> Iterator[str]:
    """The objects that an earlier run finished (ninja's log: start, end, time, output, command)."""
    for log in source.glob("build/temp*/.ninja_log"):
        for line in (system.read(log) or "").splitlines():
            if line.count("\t") == 4:
                yield line.split("\t")[3]


def _todo(source: Path, before: set[str]) -> Iterator[float]:
    for file in source.glob("build/temp*/build.ninja"):
        for output, rule in EDGE.findall(system.read(file) or ""):
            if output not in before:
                yield NVCC_WEIGHT if rule == "cuda_compile" else 1.0
