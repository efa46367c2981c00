"""The reports of a fleet as text and as Markdown: hosts and findings, each finding, and what differs between hosts."""

from __future__ import annotations

import time
from collections.abc import Sequence

from mmdoctor.model import Drift, DriftVersion, Fleet, FleetFinding, FleetHost, FleetVerdict
from mmdoctor.report.markdown import cell as markdown_cell
from mmdoctor.report.page import Page
from mmdoctor.report.text import STYLES, WIDTH, tally

STATES = {
    "healthy": "healthy",
    "findings": "not healthy",
    "undetermined": "undetermined",
    "no-report": "no report",
}
SEVERITY = ("crash", "fail", "warn", "skip", "ok")
NAMED = 8  # hosts that are named where many have the same


def text(fleet: Fleet, colour: bool = False) -> str:
    """The fleet for people, ending in a newline."""
    page = Page(colour, WIDTH)
    page.line(("mmdoctor report", "bold"), f"  {headline(fleet)}")
    page.line()
    page.table(table(fleet))
    for host, note in notes(fleet):
        page.prose(note, 2, first=f"{host}: ")
    for finding in fleet.findings:
        status = worst(finding)
        page.line()
        page.line((f"{status.upper():<5}", STYLES[status]), f" {finding.id}  {finding.title}")
        for detail, hosts in details(finding):
            page.prose(detail, 6, first=f"{some(hosts)}: ")
        for fix in finding.fixes:
            page.prose(fix, 6, first="fix: ", style="green")
    shown = [drift for drift in fleet.drift if drift.kind != "other"]
    if fleet.drift:
        page.heading("Drift")
        width = max((len(drift.name) for drift in shown), default=0)
        for drift in shown:
            said = "; ".join(f"{version_of(drift, one)} on {some(one.hosts)}" for one in drift.versions)
            page.prose(said, 2, first=f"{drift.name.ljust(width)}  ")
        if others(fleet):
            page.prose(", ".join(others(fleet)), 2, first="other packages: ")
    return page.text()


def markdown(fleet: Fleet) -> str:
    """The fleet for an issue, a pull request's comment or a job's summary."""
    head, *rows = table(fleet)
    lines = [f"### mmdoctor report: {headline(fleet)}", "", *_grid(head, rows)]
    lines += [f"\n{markdown_cell(host)}: {markdown_cell(note)}" for host, note in notes(fleet)]
    if fleet.findings:
        lines += ["", "#### Findings", ""]
        found = [
            (worst(finding), finding.id, some(hosts), detail, "; ".join(finding.fixes))
            for finding in fleet.findings
            for detail, hosts in details(finding)
        ]
        lines += _grid(("", "check", "hosts", "what", "fix"), found)
    if fleet.drift:
        drifts = [
            (drift.name, "; ".join(f"{version_of(drift, one)} on {some(one.hosts)}" for one in drift.versions))
            for drift in fleet.drift
        ]
        lines += ["", "#### Drift", "", *_grid(("", "which hosts have which"), drifts)]
    return "\n".join(lines) + "\n"


def _grid(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    cells = [[markdown_cell(cell) for cell in row] for row in rows]
    ruled = [head, ["---"] * len(head), *cells]
    return ["| " + " | ".join(row) + " |" for row in ruled]


# ------------------------------------------------------------------------------------- what all three formats show


def headline(fleet: Fleet) -> str:
    """`3 hosts: 1 healthy, 2 not healthy`."""
    counts = [(sum(host.state == state for host in fleet.hosts), word) for state, word in STATES.items()]
    hosts = "1 host" if len(fleet.hosts) == 1 else f"{len(fleet.hosts)} hosts"
    return f"{hosts}: {', '.join(f'{count} {word}' for count, word in counts if count)}"


def notes(fleet: Fleet) -> list[tuple[str, str]]:
    """What is to be said of a host beside its verdicts: why there is none, and which facts are not its own."""
    said = [(host.name, host.said) for host in fleet.hosts if host.said]
    pretending = [(host.name, ", ".join(host.pretended)) for host in fleet.hosts if host.pretended]
    return said + [(name, f"PRETENDED {keys}: not what this machine has") for name, keys in pretending]


def columns(fleet: Fleet) -> list[FleetFinding]:
    """The findings that are a root on some host: a column each. What others cause stands in the list alone."""
    return [one for one in fleet.findings if any(_bad(v) and not v.caused_by for v in one.verdicts)]


def table(fleet: Fleet) -> list[tuple[str, ...]]:
    """Hosts and findings: a head, then a row for each host."""
    shown = columns(fleet)
    head = ("host", "verdict", "looked at (UTC)", "Python", *(finding.id for finding in shown), "checks")
    return [head, *((*_host_cells(host), *(cell(f, host.name) for f in shown), _sum(host)) for host in fleet.hosts)]


def _host_cells(host: FleetHost) -> tuple[str, str, str, str]:
    at = "–" if host.at is None else time.strftime("%Y-%m-%d %H:%M", time.gmtime(host.at))
    quick = " (quick)" if host.quick else ""
    return (host.name, STATES[host.state] + quick, at, host.python or "–")


def _sum(host: FleetHost) -> str:
    return tally(host.summary) if host.summary else ""


def cell(finding: FleetFinding, host: str) -> str:
    """A verdict in its column: FAIL, (fail) for what another finding causes there, a dash where nobody looked."""
    verdict = next((verdict for verdict in finding.verdicts if verdict.host == host), None)
    if verdict is None:
        return "–"
    if verdict.accepted:
        return "accepted"
    if not _bad(verdict):
        return verdict.status
    return f"({verdict.status})" if verdict.caused_by else verdict.status.upper()


def _bad(verdict: FleetVerdict) -> bool:
    return verdict.status in ("crash", "fail", "warn") and not verdict.accepted


def worst(finding: FleetFinding) -> str:
    """The worst of its verdicts that count."""
    return min((verdict.status for verdict in finding.verdicts if not verdict.accepted), key=SEVERITY.index)


def details(finding: FleetFinding) -> list[tuple[str, tuple[str, ...]]]:
    """What is wrong, and the hosts where it is just that, in the order of the first of them."""
    found: dict[str, list[str]] = {}
    for verdict in finding.verdicts:
        if _bad(verdict) or (verdict.status == worst(finding) == "skip"):
            caused = f" (caused by {', '.join(verdict.caused_by)})" if verdict.caused_by else ""
            found.setdefault(verdict.detail + caused, []).append(verdict.host)
    return [(detail, tuple(hosts)) for detail, hosts in found.items()]


def version_of(drift: Drift, one: DriftVersion) -> str:
    """A version, or that there is none."""
    return one.version or ("none" if drift.kind == "machine" else "not installed")


def others(fleet: Fleet) -> list[str]:
    """The packages outside the stack that differ."""
    return [drift.name for drift in fleet.drift if drift.kind == "other"]


def some(hosts: Sequence[str]) -> str:
    """The hosts by name; of many the first, and how many more."""
    more = len(hosts) - NAMED
    return ", ".join(hosts[:NAMED]) + (f" and {more} more" if more > 0 else "")
