"""Which findings do not count: those that somebody waived, and those that an earlier report has already. Pure.

A waiver excuses what was found, never what could not be looked at: a check that did not run has not passed.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from datetime import date
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import NamedTuple, Optional, Union

from msgspec.structs import replace

from mmdoctor.checks import summarise
from mmdoctor.model import Accepted, Baseline, Finding, Fix, Gone, Report, Waiver, Waivers

EXPIRED = "WVR001"
FOUND = {"warn": 1, "fail": 2}  # what can be accepted, the graver the higher


class Identity(NamedTuple):
    """What makes two findings the same one, on whatever machine and in whatever words: no version, no folder. `subject`
    is the name of the file that the finding is about, empty where it is about the environment."""

    id: str
    cause: Optional[str]
    subject: str


def identity(report: Report, finding: Finding) -> Identity:
    """A finding's identity, the same in every run and on every machine that has the same trouble."""
    return Identity(finding.id, finding.cause, re.split(r"[/\\]", subject(report, finding))[-1])


def subject(report: Report, finding: Finding) -> str:
    """The config, checkpoint or file of annotations that a finding is about, as it was named; empty for the rest."""
    config, checkpoint, file = report.facts.config, report.facts.checkpoint, report.annotations
    named = {
        "CFG": config.asked if config else "",
        "CKP": checkpoint.path if checkpoint else "",
        "ANN": file.path if file else "",
    }
    return named.get(finding.id.rstrip("0123456789"), "")


def problems(file: Waivers, known: Collection[str]) -> Iterator[tuple[tuple[Union[str, int], ...], str]]:
    """What the types do not say: an id is one of the `known`, a reason says something; each with the steps to it."""
    for i, waiver in enumerate(file.waivers):
        if waiver.id not in known:
            near = get_close_matches(waiver.id.upper(), sorted(known), n=1)
            meant = f"did you mean {near[0]}?" if near else "`mmdoctor check` says them"
            yield ("waivers", i, "id"), f"there is no check {waiver.id!r}; {meant}"
        if not waiver.reason.strip():
            yield ("waivers", i, "reason"), "a waiver says why: expected a reason, got an empty text"


def weighed(report: Report, waivers: Sequence[Waiver], earlier: Optional[Report], today: date) -> Report:
    """The report with what is accepted marked, the summary without it, and what became of waivers and baseline.

    `earlier` is the baseline's report, None where none was named. Expired waivers are a finding of their own; `ok` and
    `exit_code` are the caller's to set.
    """
    known = _known(earlier) if earlier else {}
    findings = tuple(_weighed(finding, report, waivers, known, today) for finding in report.findings)
    if waivers:
        findings = (*findings, _expired(replace(report, findings=findings), waivers, today))
    counted = sum(f.accepted is not None and f.accepted.by == "baseline" for f in findings)
    return replace(
        report,
        findings=findings,
        summary=summarise(findings),
        baseline=Baseline(known=counted, gone=_gone(report, earlier, known)) if earlier else None,
        unused_waivers=tuple(_unused(waiver, report) for waiver in waivers if not _waived_by(waiver, report)),
    )


def _weighed(
    finding: Finding, report: Report, waivers: Sequence[Waiver], known: dict[Identity, int], today: date
) -> Finding:
    if finding.status not in FOUND:
        return finding
    waiver = next((w for w in waivers if w.expires >= today and _fits(w, finding, report)), None)
    if waiver:
        accepted = Accepted(by="waiver", reason=waiver.reason, until=waiver.expires.isoformat())
        return replace(finding, accepted=accepted)
    if FOUND[finding.status] <= known.get(identity(report, finding), 0):
        return replace(finding, accepted=Accepted(by="baseline", reason="the baseline has it too"))
    return finding


def _fits(waiver: Waiver, finding: Finding, report: Report) -> bool:
    places = (report.target.prefix, subject(report, finding))
    return (
        finding.id == waiver.id
        and waiver.cause in (None, finding.cause)
        and (waiver.target is None or any(fnmatchcase(place, waiver.target) for place in places))
    )


def _waived_by(waiver: Waiver, report: Report) -> list[Finding]:
    return [finding for finding in report.findings if finding.status in FOUND and _fits(waiver, finding, report)]


def _expired(report: Report, waivers: Sequence[Waiver], today: date) -> Finding:
    """What is said of the waivers' dates; it fails where what fails was waived once and no other waiver is in force."""
    over = [waiver for waiver in waivers if waiver.expires < today]
    waived = [finding for waiver in over for finding in _waived_by(waiver, report)]
    needed = any(f.status == "fail" and not (f.accepted and f.accepted.by == "waiver") for f in waived)
    count = f"{len(waivers)} {'waiver' if len(waivers) == 1 else 'waivers'}"
    return Finding(
        id=EXPIRED,
        status="fail" if needed else "warn" if over else "ok",
        severity="error" if needed else "warning" if over else "info",
        title="no waiver has expired",
        detail=f"{len(over)} of {count} expired, and what they waived counts again" if over else f"{count} in force",
        evidence=tuple(f"{_named(waiver)} expired {waiver.expires.isoformat()}: {waiver.reason}" for waiver in over),
        cause="waiver-expired" if over else None,
        fix=Fix(kind="manual", summary="mend what was waived, or decide anew: a later date in the file of --waivers")
        if over
        else Fix(kind="none", summary=""),
        docs=f"docs/ci.md#{EXPIRED.lower()}",
    )


def _unused(waiver: Waiver, report: Report) -> str:
    """Why a waiver accepted nothing."""
    finding = next((finding for finding in report.findings if finding.id == waiver.id), None)
    if finding is None or finding.status == "ok":
        why = "there is no such finding (any more)"
    elif finding.status not in FOUND:
        why = "that could not be looked at, which a waiver does not excuse"
    elif waiver.cause not in (None, finding.cause):
        why = f"the cause is {finding.cause}"
    else:
        why = f"the target is {report.target.prefix}"
    return f"{_named(waiver)}: {why}"


def _named(waiver: Waiver) -> str:
    limits = [limit for limit in (waiver.cause, waiver.target) if limit]
    return f"{waiver.id} ({', '.join(limits)})" if limits else waiver.id


def _known(earlier: Report) -> dict[Identity, int]:
    """What the baseline has, and how grave it was there. What was waived there is not known: its waiver decides."""
    return {
        identity(earlier, finding): FOUND[finding.status]
        for finding in earlier.findings
        if finding.status in FOUND
        and finding.id != EXPIRED
        and (finding.accepted is None or finding.accepted.by == "baseline")
    }


def _gone(report: Report, earlier: Optional[Report], known: dict[Identity, int]) -> tuple[Gone, ...]:
    """Findings of the baseline that were looked for again, in the same subject, and not found."""
    now = {finding.id: finding for finding in report.findings if finding.status in ("ok", *FOUND)}
    gone = []
    for finding in earlier.findings if earlier else ():
        key, today = identity(earlier or report, finding), now.get(finding.id)
        if key in known and today is not None:
            seen = identity(report, today)
            if seen.subject == key.subject and (today.status == "ok" or seen != key):
                gone.append(Gone(id=finding.id, cause=finding.cause, title=finding.title))
    return tuple(gone)
