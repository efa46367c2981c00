"""The environment that `make demo` provisioned: healthy, proven, and left alone by a second fix."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest

import mmdoctor
from tests.real.conftest import Doctor

pytestmark = pytest.mark.essential
SCHEMAS = Path(mmdoctor.__file__).parent / "schemas"


def test_check_says_healthy_and_its_json_validates(doctor: Doctor, demo: Path) -> None:
    report = doctor.json("check", "--env", str(demo))
    jsonschema.validate(report, json.loads((SCHEMAS / "report.json").read_text()))
    assert report["ok"]
    assert report["summary"]["fail"] == report["summary"]["crash"] == 0
    imported = {entry["module"]: entry["status"] for entry in report["facts"]["imports"]}
    assert imported["mmcv.ops"] == imported["mmpose.apis"] == imported["registry"] == "ok"


def test_quick_check_imports_nothing_and_agrees(doctor: Doctor, demo: Path) -> None:
    report = doctor.json("check", "--quick", "--env", str(demo))
    assert report["ok"]
    assert report["facts"]["imports"] == []


def test_bench_gives_the_reference_keypoints(doctor: Doctor, demo: Path) -> None:
    bench = doctor.json("bench", "--env", str(demo), "--runs", "3")
    jsonschema.validate(bench, json.loads((SCHEMAS / "bench.json").read_text()))
    for model in (bench, *bench["also"]):
        assert model["ok"], model["reason"]
        assert model["keypoints"]["count"] == 17
        assert model["keypoints"]["max_abs_error"] <= model["keypoints"]["tolerance"]
        assert model["weights"]["kind"] == "seeded"
        assert model["latency_ms"]["p50"] > 0
    assert {op["op"] for op in bench["ops"] if op["ok"]} >= {"nms", "roi_align", "deform_conv2d"}


def test_a_second_fix_has_nothing_to_do(doctor: Doctor, demo: Path) -> None:
    plan = doctor.json("fix", "--env", str(demo))
    jsonschema.validate(plan, json.loads((SCHEMAS / "plan.json").read_text()))
    assert plan["status"] == "nothing-to-do"
    assert plan["changes"] == []


def test_the_compiled_mmcv_lies_in_the_cache_with_its_proof(doctor: Doctor) -> None:
    listed = doctor("wheels", "list")
    assert listed.returncode == 0
    assert "mmcv 2.1.0" in listed.stdout
    assert "import mmcv._ext" in listed.stdout
