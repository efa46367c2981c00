"""JUnit XML, as continuous integration reads it: one test case per finding."""

from __future__ import annotations

import re
from collections import Counter
from typing import Optional
from xml.etree import ElementTree as ET

from mmdoctor.model import Finding, Report
from mmdoctor.report.text import beside, plain, why_accepted

# What XML 1.0 cannot hold, not even escaped (section 2.2): colour codes in a program's output, for one.
FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def render(report: Report) -> str:
    """A `testsuites` document: *fail* is a failure, *crash* and a *skip* that leaves the verdict open are errors, any
    other *skip* and what is accepted are skipped; a *warn* passes with its text."""
    tags = Counter(map(_tag, report.findings))
    figures = {
        "tests": str(len(report.findings)),
        "failures": str(tags["failure"]),
        "errors": str(tags["error"]),
        "skipped": str(tags["skipped"]),
        "time": _seconds(report.duration_ms),
    }
    suites = ET.Element("testsuites", {"name": "mmdoctor", **figures})
    suite = ET.SubElement(suites, "testsuite", {"name": "mmdoctor check", **figures})
    properties = ET.SubElement(suite, "properties")
    facts = {"target": report.target.prefix, "python": report.target.python or "", "mmdoctor": report.facts.mmdoctor}
    if report.facts.pretended:
        facts["pretended"] = ", ".join(report.facts.pretended)
    for name, value in facts.items():
        ET.SubElement(properties, "property", {"name": name, "value": _clean(value)})
    for finding in report.findings:
        _case(suite, finding)
    if beside(report):
        ET.SubElement(suite, "system-out").text = _clean("\n".join(beside(report)))
    ET.indent(suites)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(suites, encoding="unicode") + "\n"


def _tag(finding: Finding) -> Optional[str]:
    if finding.accepted:
        return "skipped"
    opened = "error" if finding.severity == "error" else "skipped"
    return {"fail": "failure", "crash": "error", "skip": opened}.get(finding.status)


def _case(suite: ET.Element, finding: Finding) -> None:
    family = finding.id.rstrip("0123456789")
    case = ET.SubElement(
        suite,
        "testcase",
        {
            "classname": f"mmdoctor.{family}",
            "name": _clean(f"{finding.id} {finding.title}"),
            "time": _seconds(finding.duration_ms),
        },
    )
    body, tag = _clean("\n".join(plain(finding))), _tag(finding)
    if tag:
        message = why_accepted(finding.accepted) if finding.accepted else finding.detail
        verdict = ET.SubElement(case, tag, {"message": _clean(message)})
        if tag != "skipped":
            verdict.set("type", finding.cause or finding.id)
        verdict.text = body
    elif finding.status == "warn":
        ET.SubElement(case, "system-out").text = body


def _seconds(milliseconds: float) -> str:
    return f"{milliseconds / 1000:.3f}"


def _clean(text: str) -> str:
    return FORBIDDEN.sub("\ufffd", text)
