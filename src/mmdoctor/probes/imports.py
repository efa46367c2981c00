"""Deep imports in killable children of the target interpreter.

The steps build on each other, and torch is loaded once. No failure colours the next verdict: the first one ends the
process, and the rest is taken in another, each step in a fork, so that a failed one is thrown away and torch stays.
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Optional

import msgspec

from mmdoctor.model import ImportResult, Retry, Target, Value
from mmdoctor.rules import OWNERS
from mmdoctor.system import Child
from mmdoctor.work import Background, doing

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
OPENMMLAB = ("mmengine", "mmcv", "mmdet", "mmpose", "registry")
DISTRIBUTION_OF = {"registry": "mmpose"}
DEADLINE_SECONDS = 60.0
FORKS = sys.platform == "linux"  # macOS' frameworks do not survive one, Windows has none
OUTPUT_TAIL = 5
# What Python's faulthandler prints of a crash, the innermost frame first.
CRASH_FRAME = re.compile(r'^  File "(.+)", line \d+ in ')
CRASH_HEADS = ("Fatal Python error: ", "Current thread 0x", "Stack (most recent", "Extension modules: ")


def steps_for(target: Target) -> tuple[str, ...]:
    """The steps that make sense for what is installed: nothing is imported that no distribution could provide."""
    names = {d.name for d in target.distributions}

    def installed(step: str) -> bool:
        package = step.split(".", 1)[0]
        if package == "cv2":
            return any(name.startswith("opencv-") for name in names)
        if step == "torch.numpy" and "numpy" not in names:
            return False
        return not names.isdisjoint(OWNERS.get(package, (DISTRIBUTION_OF.get(package, package),)))

    return tuple(step for step in STEPS if installed(step))


def probe_imports(
    python: str, steps: Sequence[str], deadline: float = DEADLINE_SECONDS, *, likely_broken: bool = False
) -> tuple[ImportResult, ...]:
    """Try each step in the target, each within `deadline` seconds; one result per step, in order.

    The first process takes the steps straight, so that a healthy environment costs nothing extra. One that is
    `likely_broken` is looked at in forks from the beginning, and in two lanes that load torch side by side: OpenMMLab's
    packages in one, the rest in the other. When torch hangs or crashes the interpreter, the steps that would import it
    again are *skipped*, named as such.
    """
    second = [step for step in steps if step.split(".")[0] in OPENMMLAB]
    first = [step for step in steps if step not in second]
    if not (likely_broken and FORKS and "torch" in first and second):
        results = _take(python, steps, deadline)
    else:
        behind = Background(_take, python, ["torch", *second], deadline, forking=True)
        results = _take(python, first, deadline, forking=True) + behind.result()[1:]
    order = {step: position for position, step in enumerate(steps)}
    return tuple(sorted(results, key=lambda result: order[result.module]))


def _take(python: str, steps: Sequence[str], deadline: float, *, forking: bool = False) -> list[ImportResult]:
    """One result for each step, those that torch keeps from being tried last.

    From the first failure on the steps are taken in forks of a process that has torch loaded. A crash or a hang in a
    fork is only believed when the step alone does the same without one.
    """
    results: list[ImportResult] = []
    rest = list(steps)
    while rest:
        lead = [r.module for r in results if forking and r.module == "torch" and r.status == "ok"]
        batch = _run(python, [*lead, *rest], deadline, forking=forking)[len(lead) :]
        batch = batch or _run(python, rest, deadline, forking=forking)  # torch went well only once
        last = batch[-1]
        if forking and last.status in ("timeout", "crash"):
            last = batch[-1] = _run(python, [last.module], deadline)[0]
        results.extend(batch)
        rest = rest[len(batch) :]
        if last.module == "torch" and last.status in ("timeout", "crash"):
            why = f"import torch ended in a {last.status}, and this imports torch"
            skipped = [step for step in rest if step in NEEDS_TORCH]
            results.extend(ImportResult(module=step, status="skipped", message=why) for step in skipped)
            rest = [step for step in rest if step not in NEEDS_TORCH]
        forking = FORKS
    return results


class Surroundings(Value, frozen=True, kw_only=True):
    """Something around an import that can be taken away: a variable unset (`unset`) or set, by an option of the
    interpreter that leaves out site-packages (`path`, to be put back), by another working directory."""

    name: str
    unset: Optional[str] = None
    option: Optional[str] = None
    path: Optional[str] = None
    environment: dict[str, str] = msgspec.field(default_factory=dict)
    cwd: Optional[str] = None


def surroundings(target: Target, environ: Mapping[str, str]) -> tuple[Surroundings, ...]:
    """What is around the target's imports here and could be what breaks them."""
    variables = ("LD_LIBRARY_PATH", "LD_PRELOAD", "PYTHONPATH")
    found = [Surroundings(name=name, unset=name) for name in variables if environ.get(name)]
    if target.user_site:
        found.append(Surroundings(name="the user site", environment={"PYTHONNOUSERSITE": "1"}))
    if any(file.problem or file.stack for file in target.startup):
        found.append(Surroundings(name="the start-up files", option="-S", path=target.site_packages))
    if target.shadowed or target.shadowed_stdlib:
        found.append(Surroundings(name="the working directory", cwd=target.prefix))
    return tuple(found)


def probe_retries(
    python: str, results: Sequence[ImportResult], around: Sequence[Surroundings], deadline: float = DEADLINE_SECONDS
) -> tuple[Retry, ...]:
    """Try what failed once more without its surroundings: what then works names the culprit, and proves it.

    First without all of them, so that failures of the environment's own cost one process; then without each alone.
    Only up to the first import that still fails. A hang is not tried again: it would cost its deadline each time.
    """
    failed = [result.module for result in results if result.status in ("error", "crash", "skipped")]
    if not failed or not around or any(result.status == "timeout" for result in results):
        return ()
    together = Retry(without=" and ".join(one.name for one in around), healed=_healed(python, failed, around, deadline))
    if len(around) == 1 or not together.healed:
        return (together,) if together.healed else ()
    alone = [Retry(without=one.name, healed=_healed(python, failed, (one,), deadline)) for one in around]
    return tuple(retry for retry in alone if retry.healed) or (together,)


def _healed(python: str, steps: Sequence[str], away: Sequence[Surroundings], deadline: float) -> tuple[str, ...]:
    unset = {one.unset for one in away}
    environment = {name: value for name, value in os.environ.items() if name not in unset}
    for one in away:
        environment.update(one.environment)
    folders = [environment.get("PYTHONPATH"), *(one.path for one in away)]
    environment["PYTHONPATH"] = os.pathsep.join(folder for folder in folders if folder)
    options = [one.option for one in away if one.option]
    cwd = next((Path(one.cwd) for one in away if one.cwd), None)
    results = _run(python, steps, deadline, options=options, environ=environment, cwd=cwd)
    return tuple(result.module for result in results if result.status == "ok")


def _run(
    python: str,
    steps: Sequence[str],
    deadline: float,
    *,
    forking: bool = False,
    options: Sequence[str] = (),
    environ: Optional[Mapping[str, str]] = None,
    cwd: Optional[Path] = None,
) -> list[ImportResult]:
    """Run steps in one process until the first that does not end well, or, `forking`, that crashes or hangs; at least
    one result."""
    mark = os.urandom(8).hex()
    results: list[ImportResult] = []
    tail: list[str] = []
    frames: list[str] = []
    current, start = steps[0], time.perf_counter()
    environment = {**(os.environ if environ is None else environ), "PYTHONUNBUFFERED": "1"}
    script = SCRIPT.read_text(encoding="utf-8")
    argv = [python, *options, "-", mark, "forking" if forking else "straight", *steps]
    with Child(argv, env=environment, cwd=cwd, text=script) as child, doing(f"importing {current}") as now:
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
            frame = CRASH_FRAME.match(line)
            if frame:
                frames.insert(0, frame[1])
            elif document is None and line.strip() and not line.startswith(CRASH_HEADS):
                tail = [*tail[-OUTPUT_TAIL:], line]
            elif document is None:
                continue
            elif "start" in document:
                current, start = document["start"], time.perf_counter()
                now(f"importing {current}")
            else:
                results.append(
                    msgspec.convert({**document, "packages": _packages(document.get("files", ()))}, ImportResult)
                )
        returncode = child.wait()
    if len(results) < len(steps) and (forking or not results or results[-1].status == "ok"):
        elapsed = (time.perf_counter() - start) * 1000
        died = _died(current, returncode, tail, elapsed)
        results.append(msgspec.structs.replace(died, packages=_packages(frames)))
    return results


def _document(line: str, mark: str) -> Optional[dict[str, Any]]:
    if not line.startswith(mark):
        return None
    document = json.loads(line[len(mark) :])
    return document if isinstance(document, dict) else None


def _packages(files: Sequence[str]) -> tuple[str, ...]:
    """The top-level packages of the files that a traceback went through, outermost first, innermost last."""
    names: list[str] = []
    for file in files:
        path = file.replace(os.sep, "/")
        for marker in ("site-packages/", "dist-packages/"):
            path = path.rsplit(marker, 1)[-1]
        name, _, rest = path.partition("/")
        if rest and name and not name.startswith("<") and names[-1:] != [name]:
            names.append(name)
    return tuple(names)


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
