"""GitHub Actions: findings as annotations, through workflow commands on standard output."""

from __future__ import annotations

from mmdoctor.model import Report
from mmdoctor.report.text import outline, plain, tally

# GitHub shows ten annotations of a kind per step and drops the others without a word.
MOST = 10
LEVELS = {"fail": "error", "crash": "error", "warn": "warning"}


def render(report: Report) -> str:
    """At most ten `::error` and `::warning` lines, roots first, then one `::notice`: the sum, and what is left out."""
    shown = [finding for _, finding in outline(report.findings) if finding.status in LEVELS]
    lines = [
        _command(LEVELS[finding.status], f"mmdoctor {finding.id}: {finding.title}", "\n".join(plain(finding)))
        for finding in shown[:MOST]
    ]
    rest = [finding.id for finding in shown[MOST:]]
    summary = tally(report.summary) + (f"; also {', '.join(rest)}" if rest else "")
    lines.append(_command("notice", f"mmdoctor check {report.target.prefix}", summary))
    return "\n".join(lines) + "\n"


def _command(level: str, title: str, message: str) -> str:
    # The runner's own escapes; a property ends at a comma or a colon.
    escaped = message.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
    prop = title.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A").replace(":", "%3A").replace(",", "%2C")
    return f"::{level} title={prop}::{escaped}"
