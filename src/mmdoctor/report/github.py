"""GitHub Actions: findings as annotations, through workflow commands on standard output."""

from __future__ import annotations

from mmdoctor.model import Finding, Report
from mmdoctor.report.text import beside, outline, plain, tally
from mmdoctor.waivers import subject

# GitHub shows ten annotations of a kind per step and drops the others without a word.
MOST = 10


def render(report: Report) -> str:
    """At most ten `::error` and `::warning` lines, roots first, then plain lines: the sum, and what is left out, which
    the step's summary has."""
    shown = [finding for _, finding in outline(report.findings)]
    rest = [finding.id for finding in shown[MOST:]]
    lines = [_command(report, finding) for finding in shown[:MOST]]
    lines.append(f"mmdoctor check {report.target.prefix}: {tally(report.summary)}")
    if rest:
        lines.append(f"more in the step's summary: {', '.join(rest)}")
    return "\n".join([*lines, *beside(report)]) + "\n"


def _command(report: Report, finding: Finding) -> str:
    """The runner reads a command's properties up to a comma or a colon, and its message to the end of the line."""
    properties = {"title": f"mmdoctor {finding.id}: {finding.title}"}
    file = subject(report, finding)
    if file and not file.startswith(("/", "~")):
        properties["file"] = file
    said = ",".join(f"{name}={_escaped(value, ':,')}" for name, value in properties.items())
    message = "\n".join(plain(finding))
    return f"::{finding.severity} {said}::{_escaped(message)}"


def _escaped(text: str, also: str = "") -> str:
    return "".join(f"%{ord(character):02X}" if character in f"%\r\n{also}" else character for character in text)
