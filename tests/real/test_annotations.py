"""What the rules of annotations say of MMPose is what MMPose does; what --write-fixed writes it loads and evaluates."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from mmdoctor.annotations import examine
from mmdoctor.annotations.rules import RULES, WHOLE
from tests.annotation_cases import CASES, text_of, write_large
from tests.real.conftest import run

RUNNER = Path(__file__).parent / "mmpose_on_coco.py"
# Reads a file in a process of its own, and says how much memory that took at most, in MB.
READ = """
import json, resource, sys
from pathlib import Path
from mmdoctor.annotations import examine
out = Path(sys.argv[2]) if len(sys.argv) > 2 else None
file, findings = examine(Path(sys.argv[1]), out)
bad = [finding.id for finding in findings if finding.status != "ok"]
print(json.dumps([file.annotations, bad, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000]))
"""


@pytest.mark.real
def test_mmpose_does_what_each_rule_says(demo: Path, tmp_path: Path) -> None:
    for rule in ("", "ANN001", *CASES):
        (tmp_path / f"{rule or 'whole'}.json").write_bytes(text_of(rule))
    names = sorted(path.name for path in tmp_path.iterdir())
    seen = json.loads(run("env", "-C", str(tmp_path), str(demo / "bin" / "python"), "-B", str(RUNNER), *names))
    assert seen.pop("whole.json") == WHOLE
    assert seen == {f"{rule.id}.json": rule.seen for rule in RULES}


@pytest.mark.essential
def test_mmpose_loads_and_evaluates_what_was_fixed(demo: Path, tmp_path: Path) -> None:
    """Of every instance all that is derivable is gone; AP is higher than with the true areas, as the rule says."""
    file = json.loads(text_of(""))
    for one in file["annotations"]:
        for field in ("id", "category_id", "bbox", "area", "iscrowd", "num_keypoints"):
            del one[field]
    broken, fixed = tmp_path / "broken.json", tmp_path / "fixed.json"
    broken.write_text(json.dumps(file))
    _, findings = examine(broken, fixed)
    assert {f.status for f in findings} == {"ok"}
    seen = json.loads(run(str(demo / "bin" / "python"), "-B", str(RUNNER), str(broken), str(fixed)))
    assert seen[str(broken)] == "loading raises KeyError: 'id'"
    before, _, precision = seen[str(fixed)].rpartition(" AP ")
    assert before == "4 instances, boxes 1 times their keypoints' area,"
    assert float(precision) >= float(WHOLE.rpartition(" ")[2])


def peak(path: Path, out: Path, count: int) -> tuple[float, float]:
    """The most memory that reading a file, and writing it fixed, took, in MB; it must be whole."""
    took = []
    for outs in ((), (str(out),)):
        annotations, bad, megabytes = json.loads(run(sys.executable, "-c", READ, str(path), *outs))
        assert (annotations, bad) == (count, [])
        took.append(megabytes)
    assert subprocess.run(["cmp", str(path), str(out)], check=False).returncode == 0
    return took[0], took[1]


@pytest.mark.evidence
@pytest.mark.parametrize(
    ("asked", "least", "megabytes"), [(200_000_000, 180_000_000, 80), (1_050_000_000, 1_000_000_000, 250)]
)
def test_a_large_file_in_bounded_memory(asked: int, least: int, megabytes: int, tmp_path: Path) -> None:
    path = tmp_path / "large.json"
    count = write_large(path, asked)
    assert path.stat().st_size > least
    assert max(peak(path, tmp_path / "out.json", count)) < megabytes
