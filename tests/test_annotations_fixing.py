"""--write-fixed: adds what follows from the rest, changes nothing else, never overwrites."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmdoctor.annotations import examine
from mmdoctor.errors import UsageError
from tests.annotation_cases import CASES, text_of, whole
from tests.conftest import command
from tests.test_cli import document

DERIVABLE = ("id", "category_id", "bbox", "area", "iscrowd", "num_keypoints")
# Extra fields, numbers that a float would not give back, and a layout as somebody may have written it.
EXTRAS = st.dictionaries(
    st.sampled_from(["score", "名", 'a "quoted" } one', "track"]),
    st.floats(allow_nan=False, allow_infinity=False) | st.text() | st.integers(),
    max_size=2,
)
LAYOUTS = st.sampled_from([{}, {"indent": 2}, {"separators": (",", ":")}])
GONE = st.dictionaries(st.sampled_from(DERIVABLE), st.sampled_from(["missing", "null"]))


def literally(text: str) -> Any:
    """The document with its numbers as they are written."""
    return json.loads(text, parse_float=lambda number: ("number", number), parse_int=lambda number: ("number", number))


@given(gone=st.lists(GONE, min_size=4, max_size=4), extras=st.lists(EXTRAS, min_size=4, max_size=4), layout=LAYOUTS)
def test_what_is_derivable_is_added_and_nothing_else_changes(
    gone: Any, extras: Any, layout: Any, tmp_path: Path
) -> None:
    file = whole()
    for one, without, extra in zip(file["annotations"], gone, extras):
        one.update(extra)
        for field, how in without.items():
            one.update({field: None}) if how == "null" else one.pop(field)
    path, out = tmp_path / "in.json", tmp_path / "out.json"
    out.unlink(missing_ok=True)
    text = re.sub(r'("width": ?)640', r"\g<1>6.40E2", json.dumps(file, **layout))
    path.write_text(text, encoding="utf-8")
    held, findings = examine(path, out)
    assert {f.id for f in findings if f.status != "ok"} <= {"ANN053"}  # a box of the keypoints alone may be smaller
    before, after = literally(path.read_text("utf-8")), literally(out.read_text("utf-8"))
    for old, new in zip(before["annotations"], after["annotations"]):
        assert list(new)[: len(old)] == list(old)
        assert {key: new[key] for key in old if old[key] is not None} == {k: v for k, v in old.items() if v is not None}
        assert set(new) - set(old) <= set(DERIVABLE)
    before["annotations"] = after["annotations"] = None
    assert after == before
    counts = {field: sum(field in without for without in gone) for field in DERIVABLE}
    assert {change.field: change.count for change in held.changes} == {k: v for k, v in counts.items() if v}


def test_the_derived_values_are_those_that_are_said(tmp_path: Path) -> None:
    file = whole()
    for field in DERIVABLE:
        del file["annotations"][0][field]
    path, out = tmp_path / "in.json", tmp_path / "out.json"
    path.write_text(json.dumps(file))
    examine(path, out)
    new = json.loads(out.read_text())["annotations"][0]
    x, y = new["keypoints"][::3], new["keypoints"][1::3]
    assert new["bbox"] == [min(x), min(y), max(x) - min(x), max(y) - min(y)]
    assert new["area"] == new["bbox"][2] * new["bbox"][3]
    assert (new["id"], new["category_id"], new["iscrowd"], new["num_keypoints"]) == (15, 1, 0, 17)


@pytest.mark.parametrize("rule", ["", *CASES])
def test_a_file_that_nothing_can_be_added_to_is_copied(rule: str, tmp_path: Path) -> None:
    path, out = tmp_path / "in.json", tmp_path / "out.json"
    path.write_bytes(text_of(rule))
    held, _ = examine(path, out)
    assert (path.read_bytes() == out.read_bytes()) == (not held.changes)
    assert bool(held.changes) == (rule in ("ANN030", "ANN040", "ANN045", "ANN047", "ANN055"))


def test_a_byte_order_mark_is_left_out(tmp_path: Path) -> None:
    path, out = tmp_path / "in.json", tmp_path / "out.json"
    path.write_bytes(text_of("ANN001"))
    held, findings = examine(path, out)
    assert out.read_bytes() == text_of("")
    assert [change.field for change in held.changes] == ["byte order mark"]
    assert {f.status for f in findings} == {"ok"}


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "in.json"
    path.write_bytes(text_of("ANN045"))
    other, link, dangling = tmp_path / "other.json", tmp_path / "link.json", tmp_path / "dangling.json"
    other.write_text("mine")
    os.link(path, link)
    dangling.symlink_to(tmp_path / "nowhere")
    for out in (path, other, link, dangling):
        with pytest.raises(UsageError, match="never overwritten"):
            examine(path, out)
    assert path.read_bytes() == text_of("ANN045")
    assert other.read_text() == "mine"
    assert len(list(tmp_path.iterdir())) == 4


def test_what_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "in.json"
    path.write_bytes(text_of("ANN045"))
    with pytest.raises(UsageError, match="cannot write"):
        examine(path, tmp_path / "missing" / "out.json")
    path.write_bytes(text_of("ANN045")[:-9])
    _, findings = examine(path, tmp_path / "out.json")
    assert [f.id for f in findings] == ["ANN001"]
    assert [entry.name for entry in tmp_path.iterdir()] == ["in.json"]


@pytest.mark.parametrize("size", [1e200, 10**400])
def test_what_would_be_infinite_is_not_derived(size: float, tmp_path: Path) -> None:
    file = whole()
    file["annotations"][0].update(bbox=[0, 0, size, 1e200], area=None)
    path, out = tmp_path / "in.json", tmp_path / "out.json"
    path.write_text(json.dumps(file))
    examine(path, out)
    assert out.read_bytes() == path.read_bytes()


def test_a_category_without_an_id_is_given_to_nobody(tmp_path: Path) -> None:
    file = whole()
    del file["categories"][0]["id"], file["annotations"][0]["category_id"]
    path, out = tmp_path / "in.json", tmp_path / "out.json"
    path.write_text(json.dumps(file))
    assert examine(path, out)[0].changes == ()


# ------------------------------------------------------------------------------------------------ the command line


def test_the_command_answers_in_every_format_and_by_its_exit_status(tmp_path: Path) -> None:
    path, out = tmp_path / "in.json", tmp_path / "out.json"
    path.write_bytes(text_of("ANN045"))
    answer = command("check", "--annotations", str(path), "--format", "json")
    assert answer.returncode == 1
    report = document(answer, "report")
    assert report["annotations"]["annotations"] == 4
    assert [f["id"] for f in report["findings"] if f["status"] == "fail"] == ["ANN045"]
    for kind in ("text", "junit", "github", "markdown"):
        answer = command("check", "--annotations", str(path), "--format", kind)
        assert answer.returncode == 1
        assert "ANN045" in answer.stdout
    fixed = command("check", "--annotations", str(path), "--write-fixed", str(out))
    assert fixed.returncode == 0
    assert "put in: 1 x area: w · h" in fixed.stdout
    assert command("check", "--annotations", str(out)).returncode == 0
    assert command("check", "--annotations", str(path), "--write-fixed", str(out)).returncode == 2


def test_warnings_count_when_asked(tmp_path: Path) -> None:
    path = tmp_path / "in.json"
    path.write_bytes(text_of("ANN047"))
    assert command("check", "--annotations", str(path)).returncode == 0
    assert command("check", "--annotations", str(path), "--fail-on", "warn").returncode == 1


def test_mistakes_on_the_command_line(tmp_path: Path) -> None:
    assert command("check", "--write-fixed", str(tmp_path / "o.json")).returncode == 2
    missing = command("check", "--annotations", str(tmp_path / "none.json"))
    assert missing.returncode == 2
    assert "cannot read" in missing.stderr


def test_an_environment_and_its_annotations_are_one_report(tmp_path: Path) -> None:
    path = tmp_path / "in.json"
    path.write_bytes(text_of("ANN045"))
    healthy = Path(__file__).parent / "data" / "machines" / "healthy-cpu.json"
    report = document(
        command("check", "--facts", str(healthy), "--annotations", str(path), "--format", "json"), "report"
    )
    assert {f["id"] for f in report["findings"]} >= {"ANN045", "ENV002"}
    assert not report["ok"]
