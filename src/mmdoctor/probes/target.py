"""Asks the target interpreter about itself, with one stdlib-only script that runs there (`inside_target.py`)."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any, Optional

import msgspec

from mmdoctor import system
from mmdoctor.errors import UsageError
from mmdoctor.model import Target, TorchBuild
from mmdoctor.probes import broken, question
from mmdoctor.probes.question import interpreter_of

DEADLINE_SECONDS = 20.0
# By how many of the stack's wheels there are for them: mmcv's stop at 3.11 beside torch 2.1, xtcocotools' too.
PREFERRED_PYTHONS = ("3.11", "3.10", "3.9", "3.12", "3.8", "3.13")


def probe_target(requested: Path, *, is_env: bool, quick: bool = False, deadline: float = DEADLINE_SECONDS) -> Target:
    """What the interpreter at `requested` (an environment's folder when `is_env`, else an executable) is and holds.

    Never raises for a bad target: one that is not there is *absent*, one that does not answer within `deadline`
    seconds, or not in JSON, is *broken* with the reason.
    """
    python = interpreter_of(requested) if is_env else requested
    name = str(requested)
    if not os.path.lexists(python):
        empty = is_env and (not requested.exists() or (requested.is_dir() and not any(requested.iterdir())))
        if empty:
            return Target(requested=name, state="absent", problem="there is nothing at this path yet")
        problem, breakage = broken.lost(python, requested)
        return Target(requested=name, state="broken", problem=problem, breakage=breakage)
    argv, script = question.asked(python, quick=quick)
    done = system.run(argv, deadline=deadline, text=script)
    answer = _last_json(done.stdout) if done.ok else None
    if answer is None:
        prefix = requested if is_env else python.parent.parent
        problem, breakage = broken.diagnose(python, prefix, done, deadline)
        return Target(requested=name, state="broken", executable=str(python), problem=problem, breakage=breakage)
    return _target(name, answer, done.stderr)


def on_base_interpreter(target: Target, wanted: str, base: Optional[str]) -> Target:
    """An absent environment on the interpreter it would be built on: `base` when named, else the first of
    PREFERRED_PYTHONS that is on this machine and within the recipe's range.

    Raises UsageError when there is none, or when `base` does not answer.
    """
    if base is not None:
        found = probe_target(Path(base).absolute(), is_env=False, quick=True)
        if found.state != "present":
            raise UsageError(f"--python {base}: {found.problem}", hint="name an interpreter that runs")
        return msgspec.structs.replace(target, python=found.python, base_prefix=found.executable)
    from packaging.specifiers import SpecifierSet

    specifier = SpecifierSet(wanted)
    for version in PREFERRED_PYTHONS:
        if not specifier.contains(f"{version}.0"):
            continue
        argv = (system.uv_program(), "python", "find", "--no-python-downloads", "--no-project", "--system", version)
        path = system.run(argv, deadline=DEADLINE_SECONDS).stdout.strip()
        if not path:
            continue
        found = probe_target(Path(path), is_env=False, quick=True)
        if found.state == "present":
            return msgspec.structs.replace(target, python=found.python, base_prefix=found.executable)
    what = f"no Python {wanted} was found to build the environment on"
    raise UsageError(what, hint="install one, or name it with --python EXE")


def _last_json(text: str) -> Optional[dict[str, Any]]:
    for line in reversed(text.splitlines()):
        if line.startswith("{"):
            try:
                answer = json.loads(line)
            except ValueError:
                return None
            return answer if isinstance(answer, dict) else None
    return None


def _target(requested: str, answer: dict[str, Any], stderr: str) -> Target:
    vision = answer.pop("torchvision_version")
    torch = answer["torch"]
    problem, breakage = broken.moved(Path(answer["prefix"]), answer)
    for file in answer["startup"]:
        file["problem"] = startup_problem(stderr, file["kind"], file["path"])
    if torch is not None:
        answer["torch"] = TorchBuild(version=torch["version"], cuda=torch["cuda"])
    return msgspec.convert(
        {
            **msgspec.to_builtins(answer),
            "requested": requested,
            "state": "broken" if breakage else "present",
            "problem": problem,
            "breakage": msgspec.to_builtins(breakage),
            "torchvision_build": vision,
        },
        Target,
    )


# What `site` prints when a start-up file raises; it goes on without the rest of that file (Lib/site.py, 3.7 to 3.13).
PTH_FAILED = r"Error processing line (\d+) of {path}:\n(.*?)\nRemainder of file ignored"
MODULE_FAILED = r"Error in {kind}; set PYTHONVERBOSE for traceback:\n(.*)"


def startup_problem(stderr: str, kind: str, path: str) -> Optional[str]:
    """What a start-up file raised, from what the interpreter printed when it started; None when it said nothing."""
    if kind == "pth":
        found = re.search(PTH_FAILED.format(path=re.escape(path)), stderr, re.DOTALL)
        return f"line {found[1]} raises {found[2].strip().splitlines()[-1].strip()}" if found else None
    found = re.search(MODULE_FAILED.format(kind=kind), stderr)
    return f"raises {found[1]}" if found else None
