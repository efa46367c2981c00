"""The newest of everything by plain pip: broken four ways while `pip check` passes. Found, planned, healed.

And the trap beside it: pip's own cache holds an mmcv without ops, and one that was compiled against another torch.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mmdoctor.system import which
from tests.real.conftest import MINUTES, Doctor, run

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def pip_cache(scratch: Path) -> Path:
    return scratch / "pip-cache"


@pytest.fixture(scope="module")
def poisoned(scratch: Path, pip_cache: Path) -> Path:
    """pip builds mmcv 2.1.0 where there is no torch, so without its ops, and caches it by the sdist's address."""
    env = scratch / "bare"
    settings = {"PIP_CACHE_DIR": str(pip_cache)}
    run(which("python3.11") or which("python3") or "python3", "-m", "venv", str(env))
    pip = (str(env / "bin" / "python"), "-m", "pip")
    run(*pip, "install", "-q", "--upgrade", "pip", "setuptools<81", "wheel", environment=settings)
    build = ("wheel", "-q", "--no-build-isolation", "--no-deps", "-w", str(scratch / "trap"))
    run(*pip, *build, "mmcv==2.1.0", environment=settings)
    return pip_cache


@pytest.fixture(scope="module")
def natural(scratch: Path, pip_cache: Path) -> Path:
    """torch 2.13.0 as pip finds it, mmcv 2.2.0, and the newest of the rest."""
    env = scratch / "natural"
    base = which("python3.11") or which("python3") or "python3"
    run(base, "-m", "venv", str(env))
    pip = (str(env / "bin" / "python"), "-m", "pip", "install", "-q")
    settings = {"PIP_CACHE_DIR": str(pip_cache), "CFLAGS": "-g0 -O0", "PATH": f"{env / 'bin'}:{os.environ['PATH']}"}
    run(*pip, "--upgrade", "pip", "setuptools<81", "wheel", "ninja", "psutil", environment=settings)
    run(*pip, "torch==2.13.0", environment=settings)
    run(*pip, "--no-build-isolation", "mmcv==2.2.0", environment={**settings, "MMCV_WITH_OPS": "1"})
    newest = ("mmengine", "xtcocotools", "torchvision", "mmdet", "mmpose")
    run(*pip, "--no-build-isolation", "torch==2.13.0", *newest, environment=settings)
    return env


def test_pip_check_calls_it_healthy(natural: Path) -> None:
    assert "No broken requirements found" in run(str(natural / "bin" / "python"), "-m", "pip", "check")


def test_check_names_the_independent_roots(natural: Path, doctor: Doctor) -> None:
    report = doctor.json("check", "--env", str(natural), status=1)
    failed = {finding["id"]: finding for finding in report["findings"] if finding["status"] == "fail"}
    roots = {finding["cause"] for finding in failed.values() if not finding["caused_by"]}
    expected = {"numpy2-abi", "mmcv-version-range"}
    if "+cpu" in report["facts"]["target"]["torch"]["version"]:
        expected.add("torchvision-mismatch")  # elsewhere PyPI gives a CUDA build of both, and they fit
    assert roots == expected
    assert failed["MML003"]["caused_by"] == ["XTC001"]
    assert failed["MML002"]["caused_by"] == ["MCV004"]


def test_fix_changes_little_heals_and_never_takes_pips_wheel(
    natural: Path, poisoned: Path, doctor: Doctor, scratch: Path
) -> None:
    patient = Doctor({"PIP_CACHE_DIR": str(poisoned), "MMDOCTOR_CACHE": str(scratch / "fresh-cache")})
    plan = patient.json("fix", "--env", str(natural), status=1)
    changed = {change["name"]: change for change in plan["changes"]}
    assert set(changed) <= {"torch", "torchvision", "mmcv", "xtcocotools"}
    assert changed["mmcv"]["new"] == "2.1.0"
    assert plan["stack"]["mmcv"]["artefact"]["kind"] == "build"
    assert plan["stack"]["xtcocotools"]["artefact"]["kind"] == "build"

    # The trap is set: pip itself would hand out the wheel without ops that it built where there was no torch.
    cache = {"PIP_CACHE_DIR": str(poisoned)}
    listed = run(str(natural / "bin/python"), "-m", "pip", "cache", "list", environment=cache)
    assert "mmcv-2.1.0" in listed

    done = patient("fix", "--env", str(natural), "--apply", "--yes", deadline=25 * MINUTES)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    report = patient.json("check", "--env", str(natural))
    operations = next(entry for entry in report["facts"]["imports"] if entry["module"] == "mmcv.ops")
    assert operations["data"]["nms"] == "ok"
    assert patient("bench", "--env", str(natural), "--runs", "3").returncode == 0


def test_the_trap_is_one(demo: Path, natural: Path, poisoned: Path, scratch: Path, doctor: Doctor) -> None:
    """What would have happened: pip installs its cached wheel in a moment, and `check` names what it did.

    The demo's own torch serves as the other one: mmcv 2.2.0 in pip's cache was compiled against torch 2.13.
    """
    from mmdoctor.apply.clone import clone

    env = scratch / "trapped"
    clone(demo, env)
    install = ("-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation", "--force-reinstall", "mmcv==2.2.0")
    run(str(env / "bin" / "python"), *install, environment={"PIP_CACHE_DIR": str(poisoned)}, deadline=60)
    report = doctor.json("check", "--env", str(env), status=1)
    roots = {f["cause"] for f in report["findings"] if f["status"] == "fail" and not f["caused_by"]}
    assert "mmcv-torch-abi-mismatch" in roots
