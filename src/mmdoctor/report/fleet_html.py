"""The reports of a fleet as one HTML page that needs nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from mmdoctor.model import Fleet
from mmdoctor.report.fleet import SEVERITY, details, headline, notes, table, version_of, worst
from mmdoctor.report.html import document
from mmdoctor.report.html import table as plain_table

STYLE = """\
:root { color-scheme: light dark }
body { font: 15px/1.45 system-ui, sans-serif; margin: 2em auto; max-width: 80em; padding: 0 1em }
table { border-collapse: collapse; margin: 1em 0; display: block; overflow-x: auto }
th, td { border: 1px solid #8886; padding: .3em .6em; text-align: left; vertical-align: top }
.ok, .healthy { background: #2e7d3233 } .warn { background: #f9a82544 }
.fail, .crash, .findings { background: #c6282833 }
.skip, .undetermined, .no-report { background: #1e88e533 }
"""


def render(fleet: Fleet) -> str:
    """Hosts and findings, each finding, and what differs between hosts."""
    return document(f"mmdoctor report: {headline(fleet)}", _body(fleet), STYLE)


def _body(fleet: Fleet) -> Iterator[str]:
    yield f"<h1>mmdoctor report</h1><p>{escape(headline(fleet))}</p>"
    yield from _hosts(fleet)
    yield from (f"<p><b>{escape(host)}</b>: {escape(note)}</p>" for host, note in notes(fleet))
    if fleet.findings:
        yield "<h2>Findings</h2>"
        found = [
            (worst(one), one.id, one.title, ", ".join(hosts), detail, "; ".join(one.fixes))
            for one in fleet.findings
            for detail, hosts in details(one)
        ]
        yield from plain_table(("", "check", "what it asks", "hosts", "what is wrong", "fix"), found)
    if fleet.drift:
        yield "<h2>Drift</h2>"
        drifts = [
            (drift.name, drift.kind, version_of(drift, one), ", ".join(one.hosts))
            for drift in fleet.drift
            for one in drift.versions
        ]
        yield from plain_table(("", "of", "version", "hosts"), drifts)


def _hosts(fleet: Fleet) -> Iterator[str]:
    """The table of hosts and findings, each verdict with its colour."""
    head, *rows = table(fleet)
    states = {host.name: host.state for host in fleet.hosts}
    yield "<table><tr>" + "".join(f"<th>{escape(name)}</th>" for name in head) + "</tr>"
    for row in rows:
        kinds = ["", states[row[0]], *map(_kind, row[2:])]
        yield "<tr>" + "".join(map(_cell, row, kinds)) + "</tr>"
    yield "</table>"


def _kind(verdict: str) -> str:
    status = verdict.strip("()").lower()
    return status if status in SEVERITY else ""


def _cell(text: str, kind: str) -> str:
    return f'<td class="{kind}">{escape(text)}</td>' if kind else f"<td>{escape(text)}</td>"
