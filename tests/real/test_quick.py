"""`check` as a gate on the real stack: what a quick look sees, what is kept, what /healthz shows; nothing stays."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mmdoctor.apply.clone import clone
from tests.real.conftest import Doctor
from tests.test_quick import gone


@pytest.fixture
def gate(tmp_path: Path) -> Doctor:
    """mmdoctor with a cache and a folder of temporary files of its own."""
    (tmp_path / "tmp").mkdir()
    return Doctor({"MMDOCTOR_CACHE": str(tmp_path / "cache"), "TMPDIR": str(tmp_path / "tmp")})


@pytest.fixture(scope="module")
def copy(demo: Path, scratch: Path) -> Iterator[Path]:
    """A clone by hard links of the demo environment; what a test breaks there, it mends."""
    path = scratch / "gate"
    clone(demo, path)
    yield path
    shutil.rmtree(path)


def healthz(gate: Doctor, *arguments: str, status: int) -> Any:
    """The payload; the exit status must be `status`."""
    done = gate("check", *arguments, "--format", "healthz")
    assert done.returncode == status, done.stdout + done.stderr
    return json.loads(done.stdout)


def site(env: Path) -> Path:
    return next(env.glob("lib/python3*/site-packages"))


BREAKAGES: dict[str, tuple[str, str]] = {
    # what is moved away in site-packages → the check that says so
    "a file of RECORD is gone": ("mmpose/apis/inference.py", "ENV002"),
    "the compiled ops are gone": ("mmcv/_ext.*.so", "MCV002"),
    "a distribution is gone": ("mmdet-*.dist-info", "MML002"),
}


@pytest.mark.real
@pytest.mark.parametrize("what", BREAKAGES)
def test_a_quick_look_sees_it_and_the_kept_verdict_does_not_hide_it(gate: Doctor, copy: Path, what: str) -> None:
    pattern, expected = BREAKAGES[what]
    ask = ("check", "--quick", "--env", str(copy), "--cached", "1h")
    time.sleep(0.1)
    assert gate(*ask).returncode == 0
    [there] = site(copy).glob(pattern)
    away = there.with_name(there.name + ".away")
    there.rename(away)
    try:
        # Deep inside a package only the age bounds what is kept; a look of now sees it.
        report = gate.json("check", "--quick", "--env", str(copy), status=1)
        assert expected in {f["id"] for f in report["findings"] if f["status"] == "fail"}
        if pattern != "mmpose/apis/inference.py":
            assert gate(*ask).returncode == 1
    finally:
        away.rename(there)


@pytest.mark.real
def test_healthz_of_the_real_stack_and_of_a_broken_one(gate: Doctor, copy: Path) -> None:
    well = healthz(gate, "--deep", "--env", str(copy), status=0)
    assert (well["status"], well["http_status"], well["model_loaded"]) == ("ok", 200, True)
    assert well["inference_ms"] > 0
    assert well["cuda_available"] in (True, False)
    assert well["mmpose_version"]
    assert well["mmcv_version"]
    numpy = site(copy) / "numpy"
    numpy.rename(numpy.with_name("away"))
    try:
        broken = healthz(gate, "--env", str(copy), status=1)
    finally:
        numpy.with_name("away").rename(numpy)
    assert (broken["status"], broken["http_status"], broken["cuda_available"]) == ("broken", 503, False)
    assert broken["model_loaded"] is None
    assert "--deep" in broken["unknown"]["model_loaded"]
    assert broken["mmcv_cuda"] is None
    assert "mmcv.ops was not imported" in broken["unknown"]["mmcv_cuda"]


@pytest.mark.real
def test_wait_ends_when_somebody_mends_it(gate: Doctor, copy: Path) -> None:
    numpy = site(copy) / "numpy"
    away = numpy.rename(numpy.with_name("away"))
    healer = threading.Timer(4, away.rename, (numpy,))
    healer.start()
    start = time.monotonic()
    done = gate("check", "--quick", "--env", str(copy), "--wait", "60")
    healer.join()
    assert done.returncode == 0, done.stdout + done.stderr
    said = [line for line in done.stderr.splitlines() if line.startswith("mmdoctor: ")]
    assert "not healthy" in said[0]
    assert said[-1].endswith(" healthy")
    assert time.monotonic() - start < 40


@pytest.mark.real
def test_a_deadline_of_the_whole_leaves_nobody_behind(gate: Doctor, copy: Path) -> None:
    report: Any = gate("check", "--env", str(copy), "--deadline", "2", "--format", "json")
    assert report.returncode == 3
    found = {finding["id"]: finding for finding in json.loads(report.stdout)["findings"]}
    assert "the deadline of 2 s ended the look while " in found["RUN001"]["detail"]
    assert gone(copy)


@pytest.mark.parametrize(
    "runs", [pytest.param(50, marks=pytest.mark.real), pytest.param(1000, marks=pytest.mark.evidence)]
)
def test_many_runs_leave_no_process_and_no_file(gate: Doctor, copy: Path, tmp_path: Path, runs: int) -> None:
    quick = ("check", "--quick", "--env", str(copy))
    for _ in range(3):  # what is kept, and the bytecode of what runs
        assert gate(*quick, "--cached", "1h").returncode == 0
    before = files(tmp_path), files(site(copy)), descriptors()
    for run in range(runs):
        done = gate(*quick, *(("--cached", "1h") if run % 2 else ()))
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stderr == ""
    assert gone(copy)
    assert (files(tmp_path), files(site(copy)), descriptors()) == before


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def files(folder: Path) -> set[str]:
    return {str(path) for path in folder.rglob("*")}


@pytest.mark.evidence
def test_a_gate_costs_less_than_pip_check(demo: Path) -> None:
    """Show 3; wants a quiet machine."""
    benchmark = Path(__file__).parents[2] / "benchmarks" / "gates.py"
    done = subprocess.run(
        [sys.executable, str(benchmark), "--env", str(demo), "--runs", "15", "--assert"],
        capture_output=True,
        text=True,
        check=False,
    )
    print(done.stdout)  # noqa: T201
    assert done.returncode == 0, done.stdout
