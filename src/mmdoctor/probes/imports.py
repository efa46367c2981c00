"""Deep imports in killable children of the target interpreter.

A healthy environment costs one process: the steps build on each other, and torch is loaded once. A step that fails,
hangs or crashes ends its process, and the rest goes on in a fresh one, so that no failure colours the next verdict.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Optional

import msgspec

from mmdoctor.model import ImportResult, Target
from mmdoctor.system import Child

SCRIPT = Path(__file__).with_name("inside_imports.py")
STEPS = (
    "numpy",
    "torch",
    "torch.numpy",
    "torchvision",
    "cv2",
    "xtcocotools._mask",
    "mmengine",
    "mmcv",
    "mmcv._ext",
    "mmcv.ops",
    "mmdet",
    "mmpose",
    "mmpose.apis",
    "registry",
)
NEEDS_TORCH = frozenset(STEPS) - {"numpy", "torch", "cv2", "xtcocotools._mask"}
DISTRIBUTION_OF = {"registry": "mmpose"}
DEADLINE_SECONDS = 60.0
OUTPUT_TAIL = 5


def steps_for(target: Target) -> tuple[str, ...]:
    """The steps that make sense for what is installed: nothing is imported that no distribution could provide."""
    names = {d.name for d in target.distributions}

    def installed(step: str) -> bool:
        package = step.split(".", 1)[0]
        if package == "cv2":
            return any(name.startswith("opencv-") for name in names)
        if package == "mmcv":
            return bool(names & {"mmcv", "mmcv-full", "mmcv-lite", "onedl-mmcv"})
        if step == "torch.numpy" and "numpy" not in names:
            return False
        return DISTRIBUTION_OF.get(package, package) in names

    return tuple(step for step in STEPS if installed(step))


def probe_imports(python: str, steps: Sequence[str], deadline: float = DEADLINE_SECONDS) -> tuple[ImportResult, ...]:
    """Try each step in the target, each within `deadline` seconds; one result per step, in order.

    When torch hangs or crashes the interpreter, the steps that would import it again are *skipped*, named as such.
    """
    results: list[ImportResult] = []
    rest = list(steps)
    while rest:
        batch = _run(python, rest, deadline)
        results.extend(batch)
        rest = rest[len(batch) :]
        last = batch[-1]
        if last.module == "torch" and last.status in ("timeout", "crash"):
            why = f"import torch ended in a {last.status}, and this imports torch"
            skipped = [step for step in rest if step in NEEDS_TORCH]
            results.extend(ImportResult(module=step, status="skipped", message=why) for step in skipped)
            rest = [step for step in rest if step not in NEEDS_TORCH]
    order = {step: position for position, step in enumerate(steps)}
    return tuple(sorted(results, key=lambda result: order[result.module]))


def _run(python: str, steps: Sequence[str], deadline: float) -> list[ImportResult]:
    """Run steps in one process until the first that does not end well; at least one result."""
    mark = os.urandom(8).hex()
    results: list[ImportResult] = []
    tail: list[str] = []
    current, start = steps[0], time.perf_counter()
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with Child([python, "-", mark, *steps], env=environment, text=SCRIPT.read_text(encoding="utf-8")) as child:
        while True:
            try:
                line = child.readline(deadline - (time.perf_counter() - start))
            except TimeoutError:
                child.kill()
                results.append(_timeout(current, deadline))
                return results
            if line is None:
                break
            document = _document(line, mark)
            if document is None:
                tail = [*tail[-OUTPUT_TAIL:], line] if line.strip() else tail
            elif "start" in document:
                current, start = document["start"], time.perf_counter()
            else:
                results.append(msgspec.convert(document, ImportResult))
        returncode = child.wait()
    if len(results) < len(steps) and (not results or results[-1].status == "ok"):
        elapsed = (time.perf_counter() - start) * 1000
        results.append(_died(current, returncode, tail, elapsed))
    return results


def _document(line: str, mark: str) -> Optional[dict[str, Any]]:
    if not line.startswith(mark):
        return None
    document = json.loads(line[len(mark) :])
    return document if isinstance(document, dict) else None


def _timeout(step: str, deadline: float) -> ImportResult:
    return ImportResult(
        module=step,
        status="timeout",
        message=f"did not finish within {deadline:g} s",
        duration_ms=deadline * 1000,
    )


def _died(step: str, returncode: int, tail: Sequence[str], elapsed: float) -> ImportResult:
    sign = -returncode if returncode < 0 else None
    how = f"the interpreter died of signal {sign}" if sign else f"the interpreter ended with status {returncode}"
    said = f"; its last words: {' | '.join(tail)}" if tail else ""
    return ImportResult(module=step, status="crash", signal=sign, message=how + said, duration_ms=elapsed)
