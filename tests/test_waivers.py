"""Waivers and baselines: what does not count, what counts all the same, and what is said of them."""

from __future__ import annotations

import json
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any, Optional

import jsonschema
import msgspec
import pytest
from msgspec.structs import replace

import mmdoctor
from mmdoctor.__main__ import _run
from mmdoctor.checks import summarise
from mmdoctor.cli.looking import verdict
from mmdoctor.errors import DataError
from mmdoctor.matrix import load_waivers
from mmdoctor.model import AnnotationFile, Finding, Report, Waiver, Waivers
from mmdoctor.waivers import EXPIRED, problems, weighed
from tests.test_report import REPORT, finding

MACHINES = Path(__file__).parent / "data" / "machines"
NATURAL, HEALTHY = str(MACHINES / "natural-breakage.json"), str(MACHINES / "healthy-cpu.json")
SCHEMAS = Path(mmdoctor.__file__).parent / "schemas"
TODAY = date(2026, 11, 21)
FAIL = finding("MCV004", "fail", "in range", "mmcv 2.2.0", cause="mmcv-version-range")
WARN = finding("PKG001", "warn", "no leftovers", "~umpy", cause="leftovers")
PASS = finding("ENV001", "ok", "answers", "3.10")
OPEN = replace(finding("MML003", "skip", "imports", "not tried"), severity="error")


def report(*findings: Finding, prefix: str = "/opt/venv") -> Report:
    target = replace(REPORT.target, prefix=prefix)
    return replace(REPORT, findings=findings, summary=summarise(findings), target=target, baseline=None)


def waiver(
    id: str = "MCV004",  # noqa: A002
    expires: date = TODAY,
    cause: Optional[str] = None,
    target: Optional[str] = None,
) -> Waiver:
    return Waiver(id=id, reason="issue 12", expires=expires, cause=cause, target=target)


def test_a_waived_finding_is_as_it_is_and_does_not_count() -> None:
    seen = weighed(report(PASS, FAIL, WARN), [waiver()], None, TODAY)
    one = next(finding for finding in seen.findings if finding.id == "MCV004")
    assert (one.status, one.accepted and one.accepted.reason, one.accepted and one.accepted.until) == (
        "fail",
        "issue 12",
        "2026-11-21",
    )
    assert (seen.summary.fail, seen.summary.warn, seen.summary.accepted) == (0, 1, 1)
    assert (verdict(seen.findings, "fail"), verdict(seen.findings, "warn")) == (0, 1)
    assert seen.findings[-1].id == EXPIRED
    assert seen.findings[-1].status == "ok"
    assert seen.unused_waivers == ()


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (waiver(cause="mmcv-torch-abi-mismatch"), "the cause is mmcv-version-range"),
        (waiver(target="/srv/*"), "the target is /opt/venv"),
        (waiver(id="NPY001"), "there is no such finding"),
        (waiver(id="ENV001"), "there is no such finding"),
        (waiver(id="MML003"), "could not be looked at"),
    ],
)
def test_a_waiver_that_accepts_nothing_says_why(given: Waiver, why: str) -> None:
    """And what could not be looked at is not excused: the verdict stays open (3), or failed."""
    seen = weighed(report(PASS, FAIL, OPEN), [given], None, TODAY)
    assert verdict(seen.findings, "fail") == 1
    (said,) = seen.unused_waivers
    assert said.startswith(given.id)
    assert why in said
    assert verdict(weighed(report(OPEN), [waiver(id="MML003")], None, TODAY).findings, "fail") == 3


@pytest.mark.parametrize("limits", [{"cause": "mmcv-version-range"}, {"target": "/opt/*"}, {"target": "/opt/venv"}])
def test_a_waivers_limits(limits: dict[str, str]) -> None:
    assert verdict(weighed(report(FAIL), [waiver(**limits)], None, TODAY).findings, "warn") == 0  # type: ignore[arg-type]


def test_a_waiver_is_not_for_what_a_finding_causes() -> None:
    effect = finding("MML002", "fail", "mmdet imports", "fails", caused_by=("MCV004",))
    assert verdict(weighed(report(FAIL, effect), [waiver()], None, TODAY).findings, "fail") == 1


@pytest.mark.parametrize(("there", "status"), [(FAIL, "fail"), (replace(WARN, id="MCV004"), "warn"), (PASS, "warn")])
def test_an_expired_waiver_is_a_finding(there: Finding, status: str) -> None:
    """It fails where what it waived fails, and else warns."""
    yesterday = date(2026, 11, 20)
    seen = weighed(report(there), [waiver(expires=yesterday), waiver("PKG001")], report(there), TODAY)
    over = seen.findings[-1]
    assert (over.id, over.status, over.cause) == (EXPIRED, status, "waiver-expired")
    assert over.evidence == ("MCV004 expired 2026-11-20: issue 12",)
    renewed = weighed(report(there), [waiver(expires=yesterday), waiver()], None, TODAY)
    assert renewed.findings[-1].status == "warn"
    assert verdict(renewed.findings, "fail") == 0
    again = weighed(report(there), [waiver(expires=yesterday)], seen, TODAY)
    assert again.findings[-1].accepted is None, "no baseline knows an expired waiver"
    assert verdict(again.findings, "warn") == 1


def test_a_baseline_knows_what_was_there() -> None:
    before = report(FAIL, WARN, PASS, prefix="/home/ann/other")
    other_words = replace(FAIL, detail="mmcv 2.2.1 is outside", evidence=("/elsewhere",))
    new = finding("XTC001", "fail", "loads", "numpy 2", cause="numpy2-abi")
    seen = weighed(report(other_words, new, finding("PKG001", "ok", "no leftovers", "none")), [], before, TODAY)
    assert [one.id for one in seen.findings if one.accepted] == ["MCV004"]
    assert verdict(seen.findings, "fail") == 1
    assert seen.baseline
    assert seen.baseline.known == 1
    assert [(one.id, one.cause) for one in seen.baseline.gone] == [("PKG001", "leftovers")]
    assert verdict(weighed(report(other_words), [], before, TODAY).findings, "warn") == 0


@pytest.mark.parametrize(
    "now",
    [
        replace(FAIL, cause="mmcv-cpu-build"),
        replace(WARN, status="fail", severity="error"),
        OPEN,
        finding("EXT001", "crash", "extension", "a bug"),
    ],
    ids=["another cause", "worse than it was", "not looked at", "a crash"],
)
def test_what_a_baseline_does_not_excuse(now: Finding) -> None:
    before = report(FAIL, WARN, OPEN, finding("EXT001", "crash", "extension", "a bug"))
    assert verdict(weighed(report(now), [], before, TODAY).findings, "fail") in (1, 3)


def test_gone_is_what_was_looked_for_again() -> None:
    """A quicker look, or a look at another file, does not say that something is mended."""
    file = AnnotationFile(path="a/train.json", bytes=1, images=1, unused=0, annotations=1, categories=1, keypoints=17)
    bad = finding("ANN010", "fail", "ids are unique", "twice", cause="annotations-ann010")
    before = replace(report(FAIL, bad), annotations=file)
    good = finding("ANN010", "ok", "ids are unique", "4 annotations")
    other, same = replace(file, path="val.json"), replace(file, path="/data/train.json")
    assert gone(replace(report(replace(FAIL, status="skip"), good), annotations=other), before) == []
    assert gone(replace(report(PASS, good), annotations=same), before) == ["ANN010"]
    assert verdict(weighed(replace(report(bad), annotations=other), [], before, TODAY).findings, "fail") == 1
    assert verdict(weighed(replace(report(bad), annotations=same), [], before, TODAY).findings, "fail") == 0


def gone(now: Report, before: Report) -> list[str]:
    baseline = weighed(now, [], before, TODAY).baseline
    return [one.id for one in baseline.gone] if baseline else []


def test_a_baseline_made_under_a_baseline_knows_the_same_and_no_waiver() -> None:
    first = weighed(report(FAIL, WARN), [waiver("PKG001")], report(FAIL), TODAY)
    second = weighed(report(FAIL, WARN), [], first, TODAY)
    assert [one.id for one in second.findings if one.accepted] == ["MCV004"]


# --------------------------------------------------------------------------------------------------------- the file

GOOD = """\
waivers:
- id: MCV004          # a comment
  reason: mmdet is not used here
  expires: 2026-12-31
- {id: ANN001, cause: x, target: "/opt/*", reason: "it's so", expires: "2027-01-01"}
"""
BAD = [
    ("", r":1: expected a mapping with the keys waivers"),
    ("waivers: {}\n", r":1: \$.waivers: expected a list"),
    ("waivers:\n- id: MVC004\n  reason: a\n  expires: 2026-12-31\n", r":2: .*no check 'MVC004'; did you mean MCV004"),
    ('waivers:\n- id: MCV004\n  reason: " "\n  expires: 2026-12-31\n', r":3: .*reason: a waiver says why"),
    ("waivers:\n- id: MCV004\n  reason: a\n  expires: soon\n", r":4: .*expires: expected a date such as 2026-12-31"),
    ("waivers:\n- id: MCV004\n  reason: a\n  expires: 2026-02-31\n", r":4: .*expires: expected a date"),
    ("waivers:\n- id: MCV004\n  reason: a\n", r":2: .*the key 'expires' is missing"),
    ('{"waivers": [\n {"id": "MCV004", "reason": "a", "until": 1, "expires": "2026-02-01"}\n]}', r":2: .*no such key"),
    ("waivers:\n\t- id: MCV004\n", r":2: not YAML"),
]


@pytest.mark.parametrize(("content", "said"), BAD)
def test_a_bad_file_is_named_with_its_line(content: str, said: str, tmp_path: Path) -> None:
    file = tmp_path / "w.yaml"
    file.write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=f"w.yaml{said}"):
        load_waivers(file, partial(problems, known={"MCV004", "MCV003"}))


def test_yaml_and_json_are_the_same_and_fit_the_schema(tmp_path: Path) -> None:
    file = tmp_path / "waivers"
    file.write_text(GOOD, encoding="utf-8")
    from_yaml = load_waivers(file, partial(problems, known={"MCV004", "ANN001"}))
    assert [one.expires for one in from_yaml] == [date(2026, 12, 31), date(2027, 1, 1)]
    document = json.loads(msgspec.json.encode(Waivers(waivers=from_yaml)))
    file.write_text(json.dumps(document), encoding="utf-8")
    assert load_waivers(file, partial(problems, known={"MCV004", "ANN001"})) == from_yaml
    jsonschema.validate(document, json.loads((SCHEMAS / "waivers.json").read_text(encoding="utf-8")))


# ------------------------------------------------------------------------------------------------- the command line


def checked(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, Any]:
    code = _run(["check", *arguments, "--format", "json"])
    document = json.loads(capsys.readouterr().out)
    if "error" not in document:
        jsonschema.validate(document, json.loads((SCHEMAS / "report.json").read_text(encoding="utf-8")))
    return code, document


def test_the_gate_fails_on_what_is_new_only(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    broken, healthy = tmp_path / "broken.json", tmp_path / "healthy.json"
    assert _run(["check", "--facts", NATURAL, "--format", "json", "--output", str(broken)]) == 1
    assert _run(["check", "--facts", HEALTHY, "--format", "json", "--output", str(healthy)]) == 0
    code, known = checked(capsys, "--facts", NATURAL, "--baseline", str(broken))
    assert (code, known["ok"], known["exit_code"], known["baseline"]) == (0, True, 0, {"known": 6, "gone": []})
    assert checked(capsys, "--facts", NATURAL, "--baseline", str(healthy))[0] == 1
    code, mended = checked(capsys, "--facts", HEALTHY, "--baseline", str(broken))
    assert code == 0
    assert len(mended["baseline"]["gone"]) == 6


def test_waivers_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, seen = checked(capsys, "--facts", NATURAL)
    failing = [one["id"] for one in seen["findings"] if one["status"] == "fail"]
    file = tmp_path / "waivers.yaml"
    rows = [f"- {{id: {id}, reason: ours, expires: 9999-12-31}}\n" for id in failing]  # noqa: A001
    file.write_text("waivers:\n" + "".join(rows), encoding="utf-8")
    code, waived = checked(capsys, "--facts", NATURAL, "--waivers", str(file))
    assert (code, waived["summary"]["accepted"]) == (0, len(failing))
    file.write_text("waivers:\n" + "".join(rows).replace("9999", "2020"), encoding="utf-8")
    code, over = checked(capsys, "--facts", NATURAL, "--waivers", str(file))
    assert code == 1
    assert over["findings"][-1]["id"] == EXPIRED
    file.write_text("waivers:\n- {id: MVC004, reason: a, expires: 2030-01-01}\n", encoding="utf-8")
    code, wrong = checked(capsys, "--facts", NATURAL, "--waivers", str(file))
    assert (code, "did you mean MCV004" in wrong["error"]["what"]) == (2, True)


@pytest.mark.parametrize("content", ["", "{}", '{"schema_version": "1", "error": {}}'])
def test_a_baseline_that_is_none(content: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "b.json").write_text(content, encoding="utf-8")
    assert _run(["check", "--facts", NATURAL, "--baseline", str(tmp_path / "b.json")]) == 2
    assert "does not hold a report of `mmdoctor check --format json`" in capsys.readouterr().err
