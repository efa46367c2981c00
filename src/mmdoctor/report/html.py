"""The report as one HTML page that needs nothing else: no script, no font, no address."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from html import escape

from mmdoctor.model import Finding, Report
from mmdoctor.report.text import beside, outline, state_of, tally, why_accepted
from mmdoctor.report.text_annotations import answers, described
from mmdoctor.report.text_explanation import FIXES

STYLE = """\
:root { color-scheme: light dark }
body { font: 15px/1.45 system-ui, sans-serif; margin: 2em auto; max-width: 60em; padding: 0 1em }
table { border-collapse: collapse; margin: 1em 0; width: 100% }
th, td { border: 1px solid #8886; padding: .3em .6em; text-align: left; vertical-align: top }
pre { white-space: pre-wrap; background: #8882; padding: .6em; margin: .5em 0 }
article { border-left: 5px solid #888; margin: 1em 0; padding: .1em 1em }
h3 { margin: .4em 0 }
.fail, .crash { border-left-color: #c62828 } .warn { border-left-color: #f9a825 } .skip { border-left-color: #1e88e5 }
.ok { border-left-color: #2e7d32 }
"""


def document(title: str, body: Iterable[str], style: str = STYLE) -> str:
    """A whole page; `title` is text, `body` lines of HTML."""
    top = f'<!DOCTYPE html>\n<html lang="en">\n<head><meta charset="utf-8"><title>{escape(title)}</title>'
    view = '<meta name="viewport" content="width=device-width, initial-scale=1">'
    return "\n".join([top, view, f"<style>\n{style}</style></head>", "<body>", *body, "</body>", "</html>\n"])


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """A table of texts."""
    yield "<table><tr>" + "".join(f"<th>{escape(cell)}</th>" for cell in head) + "</tr>"
    for row in rows:
        yield "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>"
    yield "</table>"


def render(report: Report) -> str:
    """The verdict, what wants attention with what it causes inside it, then what is accepted, skipped and passed."""
    return document(f"mmdoctor check: {state_of(report)}, {report.target.prefix}", _body(report))


def _body(report: Report) -> Iterator[str]:
    target = f"<code>{escape(report.target.prefix)}</code>, {escape(answers(report))}"
    yield f'<article class="{"ok" if report.ok else "fail"}"><h1>mmdoctor check: {state_of(report)}</h1>'
    yield f"<p>{escape(tally(report.summary))}. {target}.</p>"
    if report.facts.pretended:
        yield f"<p><b>Pretended</b> (not what this machine has): {escape(', '.join(report.facts.pretended))}.</p>"
    for line in (*(described(report.annotations) if report.annotations else ()), *beside(report)):
        yield f"<p>{escape(line)}</p>"
    level = 1  # of articles that are open
    for depth, finding in outline(report.findings):
        yield from ["</article>"] * (level - depth)
        yield from _article(finding)
        level = depth + 1
    yield from ["</article>"] * level
    accepted = [(f.id, f.title, f.detail, why_accepted(f.accepted)) for f in report.findings if f.accepted]
    if accepted:
        yield "<h2>Accepted: these do not count</h2>"
        yield from table(("check", "what it asks", "what is so", "why"), accepted)
    for status, label in (("skip", "Not looked at"), ("ok", "Passed")):
        some = [(f.id, f.title, f.detail) for f in report.findings if f.status == status and f.severity == "info"]
        if some:
            yield f"<details><summary>{label}: {len(some)}</summary>"
            yield from table(("check", "what it asks", "what is so"), some)
            yield "</details>"
    yield f"<p><small>mmdoctor {escape(report.facts.mmdoctor)}, {report.duration_ms / 1000:.1f} s</small></p>"


def _article(finding: Finding) -> Iterator[str]:
    """A finding; the page's caller closes it behind what it causes."""
    yield f'<article class="{finding.status}" id="{escape(finding.id)}">'
    yield f"<h3>{finding.status.upper()} {escape(finding.id)} {escape(finding.title)}</h3>"
    if finding.caused_by:
        yield f"<p>caused by {escape(', '.join(finding.caused_by))}</p>"
    yield f"<p>{escape(finding.detail)}</p>"
    if finding.evidence:
        yield "<pre>" + escape("\n".join(finding.evidence)) + "</pre>"
    if finding.fix.summary:
        yield f"<p>{FIXES[finding.fix.kind]}{escape(finding.fix.summary)}</p>"
    yield f"<p><small>see {escape(finding.docs)}</small></p>"
