"""JUnit XML, as continuous integration reads it: one test case per finding."""

from __future__ import annotations

import re
from xml.etree import ElementTree as ET

from mmdoctor.model import Finding, Report
from mmdoctor.report.text import plain

# What XML 1.0 cannot hold, not even escaped (section 2.2): colour codes in a program's output, for one.
FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
TAGS = {"fail": "failure", "crash": "error", "skip": "skipped"}


def render(report: Report) -> str:
    """A `testsuites` document: *fail* is a failure, *crash* an error, *skip* skipped; a *warn* passes with its text."""
    count = report.summary
    figures = {
        "tests": str(len(report.findings)),
        "failures": str(count.fail),
        "errors": str(count.crash),
        "skipped": str(count.skip),
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
    ET.indent(suites)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(suites, encoding="unicode") + "\n"


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
    body = _clean("\n".join(plain(finding)))
    if finding.status in TAGS:
        verdict = ET.SubElement(case, TAGS[finding.status], {"message": _clean(finding.detail)})
        if finding.status != "skip":
            verdict.set("type", finding.cause or finding.id)
        verdict.text = body
    elif finding.status == "warn":
        ET.SubElement(case, "system-out").text = body


def _seconds(milliseconds: float) -> str:
    return f"{milliseconds / 1000:.3f}"


def _clean(text: str) -> str:
    return FORBIDDEN.sub("\ufffd", text)
