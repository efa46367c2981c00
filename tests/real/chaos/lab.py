"""The chaos lab: a named fault is put into a throw-away clone of a proven environment, for mmdoctor to find and heal.

`packages.py` and `machine.py` hold the faults as data, `test_chaos.py` runs them.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Literal, Optional

from mmdoctor.apply.clone import clone
from mmdoctor.system import uv_program

MINUTES = 60.0
Outcome = Literal["healed", "manual", "refused"]


@dataclass(frozen=True)
class Around:
    """How mmdoctor runs where the fault is around the environment and not in it: variables on top of ours, a working
    directory, words before the command (`unshare -m sh -c … --`), another path of the environment, and what to call
    when all is over (unmount, free a lock)."""

    environment: Mapping[str, str] = field(default_factory=dict)
    cwd: Optional[Path] = None
    wrapper: tuple[str, ...] = ()
    env: Optional[Path] = None
    end: Callable[[], None] = lambda: None


@dataclass(frozen=True)
class Fault:
    """One fault. `inject` puts it into the clone at the path it gets; it replaces files and never writes into one: they
    are hard links to the proven environment's.

    `check` and `cause`: the one root that `mmdoctor check` has to find; None where the environment itself is healthy
    and only applying meets the fault. `outcome`: *healed* by `fix --apply --yes`; *manual*: the finding says what to do
    and the plan leaves it alone; *refused*: applying ends with `exit`. In the last two the environment stays as it is,
    and what was printed holds `says`. `fix`: further options of `fix`. `changes`: the packages that the plan may
    change, where that is worth holding. `small`: it belongs to the few minutes that `make test-real` spends here.
    """

    name: str
    inject: Callable[[Lab, Path], Optional[Around]]
    check: Optional[str]
    cause: Optional[str]
    outcome: Outcome = "healed"
    exit: int = 0
    says: str = ""
    fix: tuple[str, ...] = ()
    changes: Optional[tuple[str, ...]] = None
    small: bool = False


@dataclass(frozen=True)
class Row:
    """What came of one fault, for the table."""

    fault: str
    roots: tuple[str, ...]
    outcome: str
    found_seconds: float
    fixed_seconds: float


class Lab:
    """Makes patients out of the proven environment and runs mmdoctor on them."""

    def __init__(self, proven: Path, folder: Path) -> None:
        self.proven = proven
        self.folder = folder

    def patient(self, name: str) -> Path:
        """A fresh clone, by hard links."""
        env = self.folder / name
        shutil.rmtree(env, ignore_errors=True)
        clone(self.proven, env)
        return env

    def run(self, *argv: str, environment: Optional[Mapping[str, str]] = None, cwd: Optional[Path] = None) -> str:
        """A command that must succeed, for injections; returns its output."""
        full = {**_clean(), **(environment or {})}
        done = subprocess.run(
            argv, capture_output=True, text=True, env=full, cwd=cwd, timeout=20 * MINUTES, check=False
        )
        assert done.returncode == 0, f"{argv} ended with {done.returncode}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
        return done.stdout

    def uv(self, env: Path, *words: str) -> str:
        """`uv pip …` in the patient; uv replaces files, so the proven environment stays whole."""
        command, *rest = words
        return self.run(uv_program(), "pip", command, "--python", str(env / "bin" / "python"), *rest)

    def mmdoctor(self, around: Around, *words: str) -> subprocess.CompletedProcess[str]:
        """mmdoctor as a process of its own, in the fault's surroundings."""
        argv = [*around.wrapper, sys.executable, "-m", "mmdoctor", *words]
        full = {**_clean(), **around.environment}
        return subprocess.run(
            argv, capture_output=True, text=True, env=full, cwd=around.cwd, timeout=20 * MINUTES, check=False
        )

    def treat(self, fault: Fault, *, apply: bool = True) -> Row:
        """Inject, find, heal; AssertionError where mmdoctor does not do what the fault says it must."""
        env = self.patient(re.sub(r"[^\w.]+", "-", fault.name))
        around = fault.inject(self, env) or Around()
        env = around.env or env
        try:
            roots, found = self._find(fault, around, env)
            fixed = self._heal(fault, around, env) if apply else 0.0
            return Row(fault.name, roots, fault.outcome, found, fixed)
        finally:
            around.end()
            shutil.rmtree(env, ignore_errors=True)
            shutil.rmtree(env.with_name(f".{env.name}.mmdoctor"), ignore_errors=True)

    def _find(self, fault: Fault, around: Around, env: Path) -> tuple[tuple[str, ...], float]:
        start = time.monotonic()
        report = self._json(around, "check", "--env", str(env))
        seconds = time.monotonic() - start
        roots = roots_of(report)
        wanted = ((fault.check, fault.cause),) if fault.check else ()
        said = json.dumps([f for f in report["findings"] if f["status"] != "ok"], indent=1)
        assert tuple((f["id"], f["cause"]) for f in roots) == wanted, said
        if fault.outcome == "manual":
            assert {f["fix"]["kind"] for f in roots} <= {"manual", "confirm"}, said
        return tuple(f"{f['id']} {f['cause']}" for f in roots), seconds

    def _heal(self, fault: Fault, around: Around, env: Path) -> float:
        before = state_of(env)
        planned = self._json(around, "fix", "--env", str(env), *fault.fix) if fault.changes is not None else None
        if planned is not None:
            assert {change["name"] for change in planned["changes"]} == set(fault.changes or ()), planned["changes"]
        start = time.monotonic()
        done = self.mmdoctor(around, "fix", "--env", str(env), "--apply", "--yes", *fault.fix)
        seconds = time.monotonic() - start
        said = done.stdout[-4000:] + done.stderr[-4000:]
        assert done.returncode == fault.exit, said
        assert fault.says in done.stdout + done.stderr, said
        if fault.outcome == "healed":
            assert roots_of(self._json(around, "check", "--env", str(env))) == []
        else:
            assert state_of(env) == before, said
        return seconds

    def _json(self, around: Around, *words: str) -> Any:
        done = self.mmdoctor(around, *words, "--format", "json")
        assert done.stdout.startswith("{"), done.stdout[-2000:] + done.stderr[-2000:]
        return json.loads(done.stdout)


def roots_of(report: Any) -> list[Any]:
    """The findings that say what is wrong and that no other finding explains."""
    return [f for f in report["findings"] if f["status"] in ("fail", "warn", "crash") and not f["caused_by"]]


def state_of(env: Path) -> dict[str, tuple[int, int, int]]:
    """Every path below an environment with its inode, size and time of change; another content is another state."""
    seen = {}
    for folder, names, files in os.walk(env):
        for name in (*names, *files):
            path = os.path.join(folder, name)  # noqa: PTH118  40,000 of them
            found = os.lstat(path)
            if not name.endswith(".pyc") and name != "__pycache__":
                seen[path] = (found.st_ino, found.st_size, found.st_mtime_ns if name not in names else 0)
    return seen


def table(rows: list[Row]) -> str:
    """The rows as docs/chaos.md."""
    lines = [
        "# Chaos",
        "",
        "Written by `tests/real/chaos` (`make evidence`): each fault is put into a clone of a proven environment",
        "(torch 2.1.2, mmcv 2.1.0, mmpose 1.3.2, Python 3.11). *Found* is the only root that `mmdoctor check` names;",
        "what follows from it is said as such. *healed*: by `mmdoctor fix --apply --yes`, and then nothing is found.",
        "*manual*: the finding says what to do, and the environment is left alone. *refused*: applying ends with its",
        "documented exit code and leaves the environment as it was.",
        "",
        "| # | fault | found root | outcome | check, s | fix, s |",
        "|---|---|---|---|---|---|",
    ]
    for number, row in enumerate(rows, start=1):
        roots = ", ".join(f"`{root}`" for root in row.roots) or "(none: the environment is healthy)"
        cells = (row.fault, roots, row.outcome, f"{row.found_seconds:.0f}", f"{row.fixed_seconds:.0f}")
        lines.append(f"| {number} | " + " | ".join(cells) + " |")
    counts = {outcome: sum(row.outcome == outcome for row in rows) for outcome in ("healed", "manual", "refused")}
    said = ", ".join(f"{count} {outcome}" for outcome, count in counts.items())
    return "\n".join([*lines, "", f"{len(rows)} faults: {said}.", ""])


def _clean() -> dict[str, str]:
    """Our environment without what names another target."""
    return {name: value for name, value in os.environ.items() if name not in ("VIRTUAL_ENV", "CONDA_PREFIX")}
