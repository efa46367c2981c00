"""Facts in, findings out: `diagnose` runs the table of checks and ties each failure to its root. Pure."""

from __future__ import annotations

import traceback
from collections import Counter
from typing import Optional

from mmdoctor.checks import checkpoint, config, files, gpu, machine, stack
from mmdoctor.checks.base import NOTHING, Check, Verdict
from mmdoctor.checks.signatures import ASKS_FOR
from mmdoctor.matrix_model import Matrix
from mmdoctor.model import Facts, Finding, ImportResult, Summary

CHECKS: tuple[Check, ...] = (
    *machine.CHECKS,
    *files.CHECKS,
    *gpu.CHECKS,
    *stack.CHECKS,
    *config.CHECKS,
    *checkpoint.CHECKS,
)
SEVERITY = {"ok": "info", "warn": "warning", "fail": "error", "crash": "error", "skip": "info"}


def diagnose(facts: Facts, matrix: Matrix) -> tuple[Finding, ...]:
    """Every check's finding, roots before what they cause.

    A check that raises is a *crash* finding, the rest still run. Where the interpreter does not answer, only that is
    said: nothing else could be looked at.
    """
    checks = CHECKS if facts.target.state == "present" else CHECKS[:2]
    verdicts: dict[str, Verdict] = {}
    for check in checks:
        verdict = _judge(check, facts, matrix)
        if verdict is not None:
            verdicts[check.id] = verdict
    findings = [
        _finding(check, verdicts[check.id], _roots(check.id, verdicts)) for check in checks if check.id in verdicts
    ]
    return tuple(sorted(findings, key=lambda finding: bool(finding.caused_by)))


def _judge(check: Check, facts: Facts, matrix: Matrix) -> Optional[Verdict]:
    try:
        return check.judge(facts, matrix)
    except Exception as error:  # noqa: BLE001  one broken check must not hide the others; it becomes a finding
        last = traceback.extract_tb(error.__traceback__)[-1]
        said = f"{type(error).__name__}: {error} ({last.name}, line {last.lineno})"
        return Verdict(
            status="crash", detail="the check itself failed, please report it", evidence=(said,), fix=NOTHING
        )


def _roots(check_id: str, verdicts: dict[str, Verdict]) -> tuple[str, ...]:
    """The ids of the failing checks that explain this one, followed to those that nothing explains."""
    others = {key: value for key, value in verdicts.items() if key != check_id}
    found: dict[str, None] = {}
    for direct in _explained_by(verdicts[check_id], others):
        found.update(dict.fromkeys(_roots(direct, others) or (direct,)))
    return tuple(found)


def _explained_by(verdict: Verdict, others: dict[str, Verdict]) -> tuple[str, ...]:
    failing = {key: value for key, value in others.items() if value.status == "fail"}
    if verdict.status != "ok":
        for key in verdict.rests_on:
            if key in others and others[key].status in ("fail", "warn"):
                return (key,)
    if verdict.concerns:
        each = [_who_explains(packages, failing, None) for packages in verdict.concerns]
        return () if None in each else tuple(dict.fromkeys(key for key in each if key is not None))
    if verdict.failed is None:
        return ()
    one = _who_explains(_suspects(verdict.failed), failing, verdict.failed)
    return () if one is None else (one,)


def _who_explains(
    packages: tuple[str, ...], failing: dict[str, Verdict], failed: Optional[ImportResult]
) -> Optional[str]:
    """The first failing check about the first of these packages, another import than `failed` being its subject."""
    for package in packages:
        for key, verdict in failing.items():
            if package in verdict.about and not (failed is not None and _same_import(verdict, failed)):
                return key
    return None


def _same_import(verdict: Verdict, failed: ImportResult) -> bool:
    return verdict.failed is not None and verdict.failed.module == failed.module


def _suspects(failed: ImportResult) -> tuple[str, ...]:
    """The packages that may be to blame, best first: the one that it says to install, the module it could not find,
    then those its traceback went through from the innermost out, then the package itself."""
    asked_for = ASKS_FOR.findall(failed.message or "")
    missing = failed.data.get("missing", "").split(".")[0]
    own = failed.module.split(".")[0]
    waited_for = ("torch",) if failed.status == "skipped" else ()
    names = (*waited_for, *asked_for, missing, *reversed(failed.packages), own)
    return tuple(dict.fromkeys(name for name in names if name))


def _finding(check: Check, verdict: Verdict, roots: tuple[str, ...]) -> Finding:
    severity = "error" if verdict.status == "skip" and verdict.needed else SEVERITY[verdict.status]
    return Finding(
        id=check.id,
        status=verdict.status,
        severity=severity,  # type: ignore[arg-type]
        title=check.title,
        detail=verdict.detail,
        evidence=verdict.evidence,
        cause=verdict.cause,
        caused_by=roots,
        fix=verdict.fix,
        docs=f"docs/checks/{check.id}.md",
        duration_ms=verdict.failed.duration_ms if verdict.failed else 0.0,
    )


def summarise(findings: tuple[Finding, ...]) -> Summary:
    """How many findings there are of each status, the accepted ones apart."""
    counted = Counter(finding.status if finding.accepted is None else "accepted" for finding in findings)
    return Summary(**{field: counted[field] for field in Summary.__struct_fields__})
