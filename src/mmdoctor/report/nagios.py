"""A monitoring plugin's answer (Monitoring Plugins Development Guidelines): one line with performance data, the rest
below it. Read by Nagios, Icinga, Naemon, Checkmk and Sensu."""

from __future__ import annotations

from mmdoctor.model import Report
from mmdoctor.report.text import beside, outline, tally

OK, WARNING, CRITICAL, UNKNOWN = range(4)
WORDS = ("OK", "WARNING", "CRITICAL", "UNKNOWN")


def state(report: Report) -> int:
    """What a plugin exits with: 1 (findings at or above --fail-on) is CRITICAL, 3 (could not determine) UNKNOWN; what
    is healthy with warnings is WARNING."""
    if report.exit_code == 0:
        return WARNING if report.summary.warn else OK
    return CRITICAL if report.exit_code == 1 else UNKNOWN


def render(report: Report) -> str:
    """The status, the counts, the roots; then each root with its fix, a line each. Without semicolons of ours, which
    Nagios makes colons of."""
    roots = [finding for depth, finding in outline(report.findings) if not depth]
    named = ", ".join(f"{finding.id} {finding.title}" for finding in roots)
    first = f"{WORDS[state(report)]} - {tally(report.summary)}{f', not so: {named}' if named else ''}"
    lines = [f"{f.id} {f.detail}{f', fix: {f.fix.summary}' if f.fix.summary else ''}" for f in roots]
    return "\n".join([line(first) + " | " + _performance(report), *map(clean, (*lines, *beside(report)))]) + "\n"


def line(text: str) -> str:
    """A status line: `text` begins with the state's word."""
    return f"MMDOCTOR {clean(text)}"


def clean(text: str) -> str:
    """One line without the bar, behind which performance data stand."""
    return " ".join(text.replace("|", "/").split())


def _performance(report: Report) -> str:
    """`label=value[unit];warn;crit;min`: any failure is critical, any warning a warning."""
    count = report.summary
    figures = (
        f"failed={count.fail};;0;0",
        f"warnings={count.warn};0;;0",
        f"crashed={count.crash};;;0",
        f"skipped={count.skip};;;0",
        f"accepted={count.accepted};;;0",
        f"time={report.duration_ms / 1000:.3f}s;;;0",
    )
    return " ".join(figures)
