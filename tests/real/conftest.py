"""Real environments: a provisioned one (`make demo`), and throw-away ones beside it on the same disk."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Optional

import pytest

from mmdoctor.system import uv_program

MINUTES = 60.0


class Doctor:
    """Runs `mmdoctor` as a user would, as a process of its own."""

    def __init__(self, environment: Optional[dict[str, str]] = None) -> None:
        self.environment = {**os.environ, **(environment or {})}
        for name in ("VIRTUAL_ENV", "CONDA_PREFIX"):
            self.environment.pop(name, None)

    def __call__(self, *arguments: str, deadline: float = 15 * MINUTES) -> subprocess.CompletedProcess[str]:
        argv = [sys.executable, "-m", "mmdoctor", *arguments]
        return subprocess.run(argv, capture_output=True, text=True, timeout=deadline, env=self.environment, check=False)

    def json(self, *arguments: str, status: int = 0) -> Any:
        """The one JSON document on stdout; the exit status must be `status`."""
        done = self(*arguments, "--format", "json")
        assert done.returncode == status, done.stdout[-3000:] + done.stderr[-3000:]
        return json.loads(done.stdout)


@pytest.fixture(scope="session")
def doctor() -> Doctor:
    return Doctor()


@pytest.fixture(scope="session")
def demo() -> Path:
    """The environment that `make demo` provisioned."""
    path = Path(os.environ.get("MMDOCTOR_TEST_ENV", ""))
    if not (path / "bin" / "python").exists():
        pytest.skip("MMDOCTOR_TEST_ENV names no environment: run through `make test`, which provisions it")
    return path


@pytest.fixture(scope="session")
def scratch(demo: Path) -> Iterator[Path]:
    """A folder on the disk of the demo environment, so that links and caches work as they do for a user."""
    folder = demo.parent / f"scratch-{os.getpid()}"
    folder.mkdir()
    yield folder
    shutil.rmtree(folder)


def run(*argv: str, environment: Optional[dict[str, str]] = None, deadline: float = 20 * MINUTES) -> str:
    """A command that must succeed; returns its output."""
    done = subprocess.run(
        argv, capture_output=True, text=True, timeout=deadline, env={**os.environ, **(environment or {})}, check=False
    )
    assert done.returncode == 0, f"{argv} ended with {done.returncode}: {done.stdout[-3000:]}{done.stderr[-3000:]}"
    return done.stdout


def uv(*arguments: str) -> str:
    """uv as mmdoctor brings it."""
    return run(uv_program(), *arguments)


def versions(env: Path) -> dict[str, str]:
    """What uv lists in an environment."""
    listed = json.loads(uv("pip", "list", "--python", str(env / "bin" / "python"), "--format", "json"))
    return {entry["name"]: entry["version"] for entry in listed}
