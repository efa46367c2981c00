"""SIGKILL at random moments: what stands at the path is the old environment, bit for bit, or the new one, proven."""

from __future__ import annotations

import hashlib
import json
import random
import shutil
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Callable

import pytest

from mmdoctor.apply.clone import clone
from tests.real.conftest import Doctor, uv
from tests.real.kills.small import OLD

SMALL = Path(__file__).with_name("small.py")
RECOVERY_SECONDS = 2.0  # the promise


def digest(env: Path) -> str:
    """Every entry of an environment with its mode, link or content; bytecode aside, which holds times."""
    total = hashlib.sha256()
    for path in sorted(env.rglob("*")):
        if path.suffix == ".pyc" or path.name == "__pycache__":
            continue
        total.update(f"{path.relative_to(env)} {path.lstat().st_mode:o} ".encode())
        if path.is_symlink():
            total.update(str(path.readlink()).encode())
        elif path.is_file():
            total.update(hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()


class Killer:
    """Starts an apply, kills it after a while, and looks at what is left."""

    def __init__(self, template: Path, env: Path, argv: Callable[[Path], list[str]], digest: Callable[[Path], str]):
        self.template, self.env, self.argv, self.digest = template, env, argv, digest
        self.state = env.parent / f".{env.name}.mmdoctor"
        self.old, self.new = "", ""
        self.seconds = 0.0
        self.counts: Counter[str] = Counter()
        self.slowest_recovery = 0.0

    def reset(self) -> None:
        for folder in (self.env, self.state):
            shutil.rmtree(folder, ignore_errors=True)
        clone(self.template, self.env)

    def whole_run(self) -> None:
        """Once without a kill: what the new environment is, and how long it takes."""
        self.reset()
        self.old = self.digest(self.env)
        start = time.monotonic()
        done = subprocess.run(self.argv(self.env), capture_output=True, text=True, check=False)
        self.seconds = time.monotonic() - start
        assert done.returncode == 0, done.stdout + done.stderr
        self.new = self.digest(self.env)
        assert self.new != self.old

    def kill_after(self, seconds: float) -> None:
        self.reset()
        run = subprocess.Popen(self.argv(self.env), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            run.wait(seconds)
        except subprocess.TimeoutExpired:
            run.kill()  # the process alone: what it started goes on, as after a real SIGKILL or the OOM killer
            run.wait()
        at_once = self.digest(self.env)
        assert at_once in (self.old, self.new), f"after {seconds:.3f} s: neither old nor new; {self.last_event()}"
        event = self.last_event()
        start = time.monotonic()
        listed = subprocess.run(
            [sys.executable, "-m", "mmdoctor", "rollback", "--list", "--env", str(self.env), "--format", "json"],
            capture_output=True,
            text=True,
            check=False,
        )
        self.slowest_recovery = max(self.slowest_recovery, time.monotonic() - start)
        assert self.digest(self.env) == at_once, f"recovery changed the environment; {event}"
        if at_once == self.new and listed.returncode == 0:
            assert len(json.loads(listed.stdout)["earlier"]) == 1, "the old environment is lost"
        self.counts[f"{'new' if at_once == self.new else 'old'} after {event}"] += 1

    def last_event(self) -> str:
        journal = self.state / "journal.jsonl"
        lines = journal.read_text().splitlines() if journal.exists() else []
        return str(json.loads(lines[-1])["event"]) if lines else "nothing yet"

    def report(self, title: str) -> str:
        rows = "\n".join(f"  {count:4} {what}" for what, count in sorted(self.counts.items()))
        total = sum(self.counts.values())
        return f"\n{title}: {total} kills, 0 times neither; slowest recovery {self.slowest_recovery:.2f} s\n{rows}"


@pytest.fixture
def small_template(tmp_path: Path) -> Path:
    template = tmp_path / "template" / "env"
    uv("venv", "--quiet", "--python", sys.executable, str(template))
    python = str(template / "bin" / "python")
    pins = [f"{name}=={version}" for name, version in OLD.items()]
    uv("pip", "install", "--quiet", "--compile-bytecode", "--python", python, *pins)
    return template


def kill(killer: Killer, times: int, seed: int, title: str, capsys: pytest.CaptureFixture[str]) -> None:
    killer.whole_run()
    moments = random.Random(seed)
    for _ in range(times):
        killer.kill_after(moments.uniform(0.0, killer.seconds * 1.05))
    with capsys.disabled():
        sys.stdout.write(killer.report(title))
    assert killer.slowest_recovery < RECOVERY_SECONDS


@pytest.mark.parametrize(
    "times",
    [pytest.param(25, marks=pytest.mark.real), pytest.param(300, marks=pytest.mark.evidence)],
)
def test_kills_of_a_small_apply(
    small_template: Path, tmp_path: Path, times: int, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "cache").mkdir()
    killer = Killer(
        small_template,
        tmp_path / "env",
        lambda env: [sys.executable, str(SMALL), str(env), str(tmp_path / "cache")],
        digest,
    )
    kill(killer, times, 3, "small packages", capsys)


@pytest.mark.evidence
def test_kills_of_a_repair_of_the_real_stack(
    demo: Path, scratch: Path, doctor: Doctor, capsys: pytest.CaptureFixture[str]
) -> None:
    """Somebody upgraded NumPy to 2; the repair is killed twenty times."""
    template = scratch / "template"
    clone(demo, template)
    uv("pip", "install", "--quiet", "--python", str(template / "bin" / "python"), "numpy==2.2.6")
    killer = Killer(
        template,
        scratch / "real",
        lambda env: [sys.executable, "-m", "mmdoctor", "fix", "--env", str(env), "--apply", "--yes"],
        digest,
    )
    kill(killer, 20, 4, "the real stack", capsys)
    assert doctor("check", "--env", str(demo)).returncode == 0
