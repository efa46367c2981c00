"""SARIF 2.1.0 (OASIS), as code scanning reads it: one result for each finding that wants attention."""

from __future__ import annotations

import hashlib
import json
from datetime import datetime, timezone
from typing import Any
from urllib.parse import quote

from mmdoctor.annotations.rules import RULES
from mmdoctor.checks import CHECKS
from mmdoctor.model import Finding, Report
from mmdoctor.report.text import plain, why_accepted
from mmdoctor.waivers import identity, subject

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
LEVELS = {"error": "error", "warning": "warning", "info": "note"}
ENDED = {0: "healthy", 1: "findings at or above --fail-on", 3: "could not determine"}
ENVIRONMENT = "ENVIRONMENT"


def render(report: Report) -> str:
    """One run. What could not be looked at is a result too: were it left out, code scanning would close the alert that
    an earlier run raised as fixed."""
    rules = list({finding.id: _rule(finding) for finding in report.findings}.values())
    index = {rule["id"]: number for number, rule in enumerate(rules)}
    attention = [finding for finding in report.findings if finding.severity != "info"]
    run: dict[str, Any] = {
        "tool": {"driver": {"name": "mmdoctor", "version": report.facts.mmdoctor, "rules": rules}},
        "invocations": [_invocation(report)],
        "originalUriBaseIds": {
            ENVIRONMENT: {"description": {"text": f"the environment that was checked, {report.target.prefix}"}}
        },
        "columnKind": "unicodeCodePoints",
        "results": [_result(report, finding, index[finding.id]) for finding in attention],
    }
    if report.facts.pretended:
        run["properties"] = {"pretended": list(report.facts.pretended)}
    return json.dumps({"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}, indent=1, ensure_ascii=False) + "\n"


def _rule(finding: Finding) -> dict[str, Any]:
    whys = {check.id: check.why for check in CHECKS} | {rule.id: rule.why for rule in RULES}
    why = whys.get(finding.id, finding.title)
    rule = {
        "id": finding.id,
        "shortDescription": {"text": finding.title},
        "fullDescription": {"text": why},
        "help": {"text": f"{why}\n\nSee {finding.docs}", "markdown": f"{why}\n\nSee `{finding.docs}`."},
        "properties": {"tags": ["mmdoctor", finding.id.rstrip("0123456789")]},
    }
    if "://" in finding.docs:
        rule["helpUri"] = finding.docs
    return rule


def _result(report: Report, finding: Finding, rule: int) -> dict[str, Any]:
    name = hashlib.sha256("\0".join(part or "" for part in identity(report, finding)).encode()).hexdigest()
    result: dict[str, Any] = {
        "ruleId": finding.id,
        "ruleIndex": rule,
        "level": LEVELS[finding.severity],
        "message": {"text": "\n".join(plain(finding))},
        "locations": [{"physicalLocation": {"artifactLocation": _artifact(report, finding)}}],
        # GitHub tells alerts apart by primaryLocationLineHash alone (`hash:occurrence`).
        "partialFingerprints": {"mmdoctor/v1": name, "primaryLocationLineHash": f"{name[:16]}:1"},
        "properties": {"status": finding.status, "cause": finding.cause, "causedBy": list(finding.caused_by)},
    }
    if report.baseline:
        known = finding.accepted is not None and finding.accepted.by == "baseline"
        result["baselineState"] = "unchanged" if known else "new"
    if finding.accepted:
        why = why_accepted(finding.accepted)
        result["suppressions"] = [{"kind": "external", "status": "accepted", "justification": why}]
    return result


def _artifact(report: Report, finding: Finding) -> dict[str, str]:
    """The file that the finding is about, where it is about one as it was named; else the environment's interpreter,
    which every environment has."""
    file = subject(report, finding).replace("\\", "/")
    if file:
        return {"uri": f"file://{quote(file)}" if file.startswith("/") else quote(file, safe="/~")}
    target = report.facts.target
    inside = target.prefix and target.executable.startswith(target.prefix)
    interpreter = target.executable[len(target.prefix) :].replace("\\", "/").strip("/") if inside else "bin/python"
    return {"uri": quote(interpreter), "uriBaseId": ENVIRONMENT}


def _invocation(report: Report) -> dict[str, Any]:
    invocation: dict[str, Any] = {"executionSuccessful": report.exit_code != 3}
    if report.exit_code is not None:
        invocation |= {"exitCode": report.exit_code, "exitCodeDescription": ENDED[report.exit_code]}
    if report.facts.host.now is not None:
        looked = datetime.fromtimestamp(report.facts.host.now, timezone.utc)
        invocation["startTimeUtc"] = looked.strftime("%Y-%m-%dT%H:%M:%SZ")
    return invocation
