"""Markdown for an issue, a pull request's comment or a job's summary."""

from __future__ import annotations

import re

from mmdoctor.model import Report
from mmdoctor.report.text import beside, outline, state_of, tally, why_accepted
from mmdoctor.report.text_annotations import answers, described
from mmdoctor.report.text_explanation import FIXES


def render(report: Report) -> str:
    """A heading, a table of what wants attention, the evidence of each in a fold."""
    lines = [
        f"### mmdoctor check: {state_of(report)}",
        "",
        f"{tally(report.summary)}. {_code(report.target.prefix)}, {answers(report)}.",
    ]
    if report.annotations:
        lines += ["", *(f"- {cell(line)}" for line in described(report.annotations))]
    if report.facts.pretended:
        lines += ["", f"**Pretended** (not what this machine has): {', '.join(map(_code, report.facts.pretended))}."]
    if beside(report):
        lines += ["", *(f"- {cell(line)}" for line in beside(report))]
    attention = outline(report.findings)
    if attention:
        lines += ["", "| | check | what | fix |", "| --- | --- | --- | --- |"]
    for depth, finding in attention:
        what = f"{'↳ ' * depth}{finding.title}: {finding.detail}"
        if finding.caused_by:
            what += f" (caused by {', '.join(finding.caused_by)})"
        fix = FIXES[finding.fix.kind] + finding.fix.summary if finding.fix.summary else ""
        check = f"[{finding.id}]({finding.docs})" if "://" in finding.docs else finding.id
        lines.append(f"| {finding.status} | {check} | {cell(what)} | {cell(fix)} |")
    accepted = [(finding, finding.accepted) for finding in report.findings if finding.accepted]
    if accepted:
        lines += ["", "Accepted, and not counted:", "", "| | check | what | why |", "| --- | --- | --- | --- |"]
    for finding, why in accepted:
        what = f"{finding.title}: {finding.detail}"
        lines.append(f"| {finding.status} | {finding.id} | {cell(what)} | {cell(why_accepted(why))} |")
    for _, finding in attention:
        if finding.evidence:
            fence = _fence("\n".join(finding.evidence))
            lines += ["", f"<details><summary>{finding.id}</summary>", "", f"{fence}text", *finding.evidence, fence]
            lines += ["", "</details>"]
    return "\n".join(lines) + "\n"


def cell(text: str) -> str:
    """A text as one cell of a table, whatever it holds."""
    escaped = re.sub(r"([\\`*_|<>\[\]])", r"\\\1", text)
    return " ".join(escaped.split())


def _code(text: str) -> str:
    return f"`{text}`" if "`" not in text else cell(text)


def _fence(text: str) -> str:
    # Longer than any run of backticks inside, as CommonMark asks.
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    return "`" * max(3, longest + 1)
