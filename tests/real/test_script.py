"""The emitted script, run in a clean folder, brings up an environment that passes `check` and `bench`."""

from __future__ import annotations

from pathlib import Path

import pytest

from mmdoctor.system import uv_program
from tests.real.conftest import MINUTES, Doctor, run

pytestmark = pytest.mark.evidence  # it compiles mmcv once more, and make test-real has to end within the hour


def test_the_script_stands_alone(doctor: Doctor, scratch: Path) -> None:
    env, script = scratch / "clean" / "env", scratch / "install.sh"
    empty = Doctor({"MMDOCTOR_CACHE": str(scratch / "no-cache")})
    done = empty("fix", "--env", str(env), "--emit", "script", "--output", str(script))
    assert done.returncode == 0, done.stderr
    assert not env.exists()
    assert str(scratch) not in script.read_text()
    script.write_text(script.read_text().replace(" CFLAGS=-g0 ", " CFLAGS='-g0 -O0' "))  # half the minutes
    assert "-O0" in script.read_text()
    tools = {"PATH": f"{Path(uv_program()).parent}:/usr/bin:/bin"}
    run("bash", str(script), str(env), environment=tools, deadline=20 * MINUTES)
    assert doctor("check", "--env", str(env)).returncode == 0
    assert doctor("bench", "--env", str(env), "--runs", "3").returncode == 0
