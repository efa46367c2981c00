"""What of a check's report counts, and the forms in which it is said."""

from __future__ import annotations

import os
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Callable, Optional

import click
from msgspec.structs import replace

from mmdoctor.cli.common import OK, REPORT_FORMATS, UNDETERMINED, emit, load, taken_out
from mmdoctor.cli.looking import verdict
from mmdoctor.errors import UsageError
from mmdoctor.lang import language, spoken
from mmdoctor.model import Report, Waiver


def weigher(baseline: Optional[str], waivers: Optional[str], fail_on: str) -> Callable[[Report], Report]:
    """A function that gives a report its verdict, with what baseline and waivers accept left out.

    Raises UsageError for a file that cannot be read, DataError for one that does not hold what it should: before
    anything is looked at.
    """
    earlier = load(baseline, Report, "a report of `mmdoctor check --format json`") if baseline else None
    excused = _waivers(waivers) if waivers else ()
    today = datetime.now().astimezone().date()

    def weigh(report: Report) -> Report:
        if earlier or excused:
            from mmdoctor.waivers import weighed

            report = weighed(report, excused, earlier, today)
        code = verdict(report.findings, fail_on)
        return replace(report, ok=verdict(report.findings, "fail") == OK, exit_code=code)

    return weigh


def _waivers(file: str) -> tuple[Waiver, ...]:
    from mmdoctor.annotations.rules import RULES
    from mmdoctor.checks import CHECKS
    from mmdoctor.matrix import load_waivers
    from mmdoctor.waivers import problems

    known = {*(check.id for check in CHECKS), *(rule.id for rule in RULES)}
    return load_waivers(Path(file), partial(problems, known=known))


def forms(also: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    """`--also KIND=FILE`, each as its kind and its file. Raises UsageError for another form."""
    pairs = []
    for text in also:
        kind, _, file = text.partition("=")
        if kind not in REPORT_FORMATS or not file:
            known = ", ".join(REPORT_FORMATS)
            raise UsageError(f"--also {text}: expected KIND=FILE, KIND one of {known}", "--also sarif=mmdoctor.sarif")
        pairs.append((kind, file))
    return tuple(pairs)


def say(
    report: Report, kind: str, output: Optional[str], also: tuple[tuple[str, str], ...], lang: Optional[str]
) -> int:
    """Write the report in all forms that are asked for, to standard output last; the exit status of `check`."""
    for form, file in (*also, (kind, output)):
        emit(worded(report, lang, form), form, file)
    if kind == "github" and os.environ.get("GITHUB_STEP_SUMMARY"):
        _summarise(report, Path(os.environ["GITHUB_STEP_SUMMARY"]))
    if kind == "nagios":
        from mmdoctor.report.nagios import state

        return state(report)
    return UNDETERMINED if report.exit_code is None else report.exit_code


def worded(report: Report, asked: Optional[str], kind: str) -> Report:
    """The report in the language asked for. Unasked, the locale decides of text alone: programs read the rest."""
    lang = language(asked, os.environ if kind == "text" else {})
    return replace(report, lang=lang, findings=tuple(spoken(finding, lang) for finding in report.findings))


def _summarise(report: Report, file: Path) -> None:
    """Append the report to the summary of a step of GitHub Actions, which holds what the annotations leave out."""
    from mmdoctor.report import render

    try:
        with file.open("a", encoding="utf-8") as summary:
            summary.write(render(report, "markdown", *taken_out()))
    except OSError as error:
        click.echo(f"mmdoctor: no summary of this step: {file}: {error.strerror}", err=True)
