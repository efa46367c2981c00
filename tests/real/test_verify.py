"""`matrix verify` for real: the demo's own combination works, and one that mmdet refuses is broken for just that."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mmdoctor.matrix import load_matrix
from mmdoctor.matrix_lint import lint_matrix
from mmdoctor.rules import public
from tests.real.conftest import Doctor, run, versions

pytestmark = pytest.mark.real
PARTS = ("torch", "torchvision", "mmcv", "mmengine", "mmpose", "numpy", "xtcocotools")


def verify(doctor: Doctor, demo: Path, *words: str, status: int) -> Any:
    """A row of the demo's own versions, so that mmcv comes from the wheel cache, on the demo's interpreter."""
    have = versions(demo)
    base = run(str(demo / "bin" / "python"), "-c", "import sys; print(sys._base_executable)").strip()
    row = [f"{name}=={public(have[name])}" for name in PARTS]
    return doctor.json("matrix", "verify", "--python", base, *row, *words, status=status)


def test_the_demos_combination_works_and_its_evidence_is_whole(doctor: Doctor, demo: Path) -> None:
    mmdet = versions(demo)["mmdet"]
    row = verify(doctor, demo, f"mmdet=={mmdet}", "--no-write", status=0)
    assert row["outcome"] == "works"
    assert "17 keypoints" in row["notes"]
    assert {"fetch", "torch", "mmcv", "openmmlab", "proof"} <= row["times"].keys()
    files = " ".join(row["artefacts"])
    assert all(f"{name}-" in files for name in (*PARTS, "mmdet"))


def test_what_mmdet_refuses_is_broken_and_the_matrix_says_so(doctor: Doctor, demo: Path, tmp_path: Path) -> None:
    """No release of mmdet before 3.2 takes mmcv 2.1."""
    if not versions(demo)["mmcv"].startswith("2.1"):
        pytest.skip("the demo has another mmcv than 2.1")
    file = tmp_path / "matrix.yaml"
    file.write_bytes((Path(__file__).parents[2] / "compat_matrix.yaml").read_bytes())
    row = verify(doctor, demo, "mmdet==3.1.0", "--matrix", str(file), status=1)
    assert row["step"] == "import mmdet"
    assert "MMCV==2.1.0 is used but incompatible" in row["error"]
    assert any("mmcv-version-range" in root for root in row["roots"])
    loaded = load_matrix(file)
    assert lint_matrix(loaded, file.read_text(encoding="utf-8")) == ()
    assert any(stack.step == "import mmdet" and stack.mmdet == "3.1.0" for stack in loaded.stacks)
