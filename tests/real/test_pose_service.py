"""The recipe `pose-service` in an environment where somebody's own package lives already."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.real.conftest import Doctor, run, uv, versions

pytestmark = pytest.mark.essential
PINS = {
    "torch": "2.1.2",
    "torchvision": "0.16.2",
    "mmcv": "2.1.0",
    "opencv-python-headless": "4.10.0.84",
    "fastapi": "0.111.0",
}


def test_exactly_its_pins_and_the_foreign_package_stays(doctor: Doctor, scratch: Path) -> None:
    env = scratch / "pose"
    uv("venv", "--python", "3.11", "--seed", str(env))
    uv("pip", "install", "--python", str(env / "bin/python"), "colorama==0.4.6", "opencv-python==4.9.0.80")
    before = versions(env)
    done = doctor("fix", "--env", str(env), "--recipe", "pose-service", "--apply", "--yes")
    assert done.returncode == 0, done.stdout + done.stderr
    after = versions(env)
    for name, version in PINS.items():
        assert after[name] == version
    assert after["colorama"] == "0.4.6"
    assert "opencv-python" not in after
    assert "chumpy" not in after
    assert after["mmdet"].startswith("3.")
    assert after["numpy"].startswith("1.")
    assert doctor("check", "--env", str(env)).returncode == 0
    script = env / "bin" / "f2py"  # written by numpy's install in the clone, moved with it
    assert script.read_text().splitlines()[0] == f"#!{env / 'bin' / 'python'}"
    run(str(script), "-v")

    back = doctor("rollback", "--env", str(env))
    assert back.returncode == 0, back.stderr
    assert versions(env) == before
    assert doctor("rollback", "--env", str(env)).returncode == 0
    assert versions(env) == after


def test_a_failing_apply_leaves_the_environment_as_it_was(doctor: Doctor, scratch: Path) -> None:
    env = scratch / "kept"
    uv("venv", "--python", "3.11", "--seed", str(env))
    uv("pip", "install", "--python", str(env / "bin/python"), "colorama==0.4.6")
    before = {path: path.lstat().st_mtime_ns for path in sorted(env.rglob("*"))}
    # A proxy that is not there: the first download fails.
    broken = Doctor({"ALL_PROXY": "http://127.0.0.1:9", "HTTPS_PROXY": "http://127.0.0.1:9", "UV_HTTP_RETRIES": "0"})
    broken.environment["UV_CACHE_DIR"] = str(scratch / "empty-uv-cache")
    done = broken("fix", "--env", str(env), "--apply", "--yes")
    assert done.returncode == 75, done.stdout + done.stderr
    assert "network" in done.stderr.rpartition("hint: ")[2]
    assert {path: path.lstat().st_mtime_ns for path in sorted(env.rglob("*"))} == before
    assert "Traceback" not in done.stderr
