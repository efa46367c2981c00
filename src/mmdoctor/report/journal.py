"""For the journal of a systemd unit, whose end `systemctl status` shows: what is wrong and what to do, in few lines,
each with its priority in front (sd-daemon(3)), so that `journalctl --priority=err` finds it."""

from __future__ import annotations

from mmdoctor.model import Finding, Report
from mmdoctor.report.page import quote
from mmdoctor.report.text import outline, tally
from mmdoctor.report.text_explanation import FIXES

ERROR, WARNING, INFO = "<3>", "<4>", "<6>"
LONGEST_LINE = 600
MOST_ROOTS = 4


def render(report: Report) -> str:
    """The roots, each with its fix, a line each, four at most; then the verdict. What warns is said only where nothing
    fails."""
    roots = [finding for depth, finding in outline(report.findings) if not depth]
    failed = [finding for finding in roots if finding.status != "warn"]
    unseen = [f for f in report.findings if f.status == "skip" and f.severity == "error" and not f.accepted]
    wrong = [*failed, *(unseen if not failed else ())]
    shown = [(ERROR, finding) for finding in wrong] or [(WARNING, finding) for finding in roots]
    lines = [said(priority, finding) for priority, finding in shown[:MOST_ROOTS]]
    if len(shown) > MOST_ROOTS:
        lines.append(f"{shown[0][0]}and {len(shown) - MOST_ROOTS} more: mmdoctor check shows them")
    words = {0: "healthy", 3: "could not determine"}.get(report.exit_code or 0, "not healthy")
    last = f"{words}: {tally(report.summary)} in {report.duration_ms / 1000:.1f} s"
    if wrong and any(finding.fix.kind in ("auto", "confirm") for finding in wrong):
        last += f"; mmdoctor fix --env {quote(report.target.prefix)} shows the repair, with --apply it is done"
    return "\n".join([*lines, (ERROR if report.exit_code else INFO) + last]) + "\n"


def said(priority: str, finding: Finding) -> str:
    """A finding on one line."""
    fix = f"; {FIXES[finding.fix.kind]}{finding.fix.summary}" if finding.fix.summary else ""
    text = f"{finding.status.upper()} {finding.id} {finding.title}: {finding.detail}{fix}"
    return priority + " ".join(text.split())[:LONGEST_LINE]
