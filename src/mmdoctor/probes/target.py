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
from mmdoctor.model import STACK_MODULES, Target, TorchBuild

SCRIPT = Path(__file__).with_name("inside_target.py")
DEADLINE_SECONDS = 20.0
BARE_DEADLINE_SECONDS = 5.0
# By how many of the stack's wheels there are for them: mmcv's stop at 3.11 beside torch 2.1, xtcocotools' too.
PREFERRED_PYTHONS = ("3.11", "3.10", "3.9", "3.12", "3.8", "3.13")


def interpreter_of(env: Path) -> Path:
    """The path of the interpreter inside a venv or conda prefix; it need not exist."""
    candidates = (env / "bin" / "python", env / "Scripts" / "python.exe", env / "python.exe")
    return next((path for path in candidates if path.exists()), candidates[0] if os.name == "posix" else candidates[1])


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
        return Target(requested=name, state="broken", problem=f"there is no interpreter at {python}")
    request = json.dumps({"quick": quick, "stack": STACK_MODULES})
    script = SCRIPT.read_text(encoding="utf-8")
    done = system.run([str(python), "-", request], deadline=deadline, text=script)
    if done.ok:
        answer = _last_json(done.stdout)
        if answer is not None:
            return _target(name, answer)
    return Target(requested=name, state="broken", executable=str(python), problem=_problem(python, done, deadline))


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


def _target(requested: str, answer: dict[str, Any]) -> Target:
    vision = answer.pop("torchvision_version")
    torch = answer["torch"]
    if torch is not None:
        answer["torch"] = TorchBuild(version=torch["version"], cuda=torch["cuda"])
    return msgspec.convert(
        {
            **msgspec.to_builtins(answer),
            "requested": requested,
            "state": "present",
            "torchvision_build": vision,
        },
        Target,
    )


def _problem(python: Path, done: system.Completed, deadline: float) -> str:
    if done.timed_out:
        bare = system.run([str(python), "-I", "-S", "-c", "print(1)"], deadline=BARE_DEADLINE_SECONDS)
        reason = f"the interpreter did not answer within {deadline:g} s"
        if bare.ok:
            return (
                f"{reason}; without site-packages (-I -S) it does: a sitecustomize, usercustomize or .pth file hangs it"
            )
        return f"{reason}, nor without site-packages (-I -S)"
    if done.returncode == system.NOT_STARTED:
        if python.is_symlink() and not python.exists():
            return f"the interpreter's link points to {python.readlink()}, which is gone"
        return f"the interpreter could not be started: {done.stderr}"
    if done.returncode < 0:
        return f"the interpreter died of signal {-done.returncode} before it could answer"
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    version = re.search(r"Python (\d+\.\d+)", done.stdout + done.stderr)
    old = f" (Python {version[1]})" if version else ""
    return f"the interpreter{old} ended with {done.returncode}: {lines[-1] if lines else 'no output'}"
