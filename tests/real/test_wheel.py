"""mmdoctor's own wheel: its data comes along, and it works from an environment of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.real.conftest import run, uv

pytestmark = pytest.mark.essential
PROJECT = Path(__file__).parents[2]


def test_the_installed_wheel_has_its_data(tmp_path: Path) -> None:
    uv("build", "--quiet", "--wheel", "--out-dir", str(tmp_path), str(PROJECT))
    [wheel] = tmp_path.glob("*.whl")
    env = tmp_path / "env"
    uv("venv", "--quiet", str(env))
    uv("pip", "install", "--quiet", "--python", str(env / "bin" / "python"), str(wheel))
    program = str(env / "bin" / "mmdoctor")
    assert "no problems" in run(program, "matrix", "lint")
    assert "padel-service" in run(program, "recipe", "list")
    assert "mmdoctor" in run(program, "--version")
