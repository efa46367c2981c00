"""How `check` comes to its report where no one is looking: within a deadline, from the last verdict, until healthy."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Callable, Literal, Optional

import click
from msgspec.structs import replace

from mmdoctor import answers, verdicts
from mmdoctor.cli.common import OK, UNDETERMINED, chosen_target, looked, taken_out
from mmdoctor.cli.looking import reported, verdict
from mmdoctor.errors import UsageError
from mmdoctor.folders import own_folder
from mmdoctor.model import Cached, Facts, Report, Value
from mmdoctor.work import Background, OverdueError, doing, within

if TYPE_CHECKING:
    from mmdoctor.matrix_model import Matrix

FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 30.0
PAUSE_GROWTH = 1.5


class Asked(Value, frozen=True, kw_only=True):
    """What `check` was asked to look at, and how; times in seconds. `form` is that in which it is said, where that is
    all that is done with it."""

    env: Optional[str]
    python: Optional[str]
    facts_file: Optional[str]
    pretend: tuple[str, ...]
    depth: Literal["quick", "full", "deep"]
    config: Optional[str]
    checkpoint: Optional[str]
    max_age: Optional[float]
    deadline: Optional[float]
    wait: Optional[float]
    form: Optional[str]
    fail_on: str

    @property
    def elsewhere(self) -> bool:
        """Whether it is about a machine that is not here, or not as it is."""
        return bool(self.facts_file or self.pretend)


def report_of(asked: Asked, weigh: Callable[[Report], Report]) -> Report:
    """The report; with `wait` the first healthy one, else the last, each change of the verdict said on stderr. `weigh`
    gives a report its verdict; what comes back is as it was before."""
    if asked.max_age is not None and (asked.elsewhere or asked.config or asked.checkpoint):
        raise UsageError("--cached is about a target as it is, without --facts, --pretend, --config and --checkpoint")
    if asked.wait is not None and asked.elsewhere:
        raise UsageError("--wait looks again at a target, which --facts and --pretend keep from being looked at")
    until = time.monotonic() + (asked.wait or 0.0)
    pause, before = FIRST_PAUSE_SECONDS, ""
    while True:
        report, stored = _bounded(asked)
        weighed = weigh(report)
        status = weighed.exit_code
        left = until - time.monotonic()
        if asked.wait is not None:
            said = _in_short(weighed)
            if said != before:
                going_on = f"; looking again for {left:.0f} s" if status != OK and left > 0 else ""
                click.echo(f"mmdoctor: {time.strftime('%H:%M:%S')} {said}{going_on}", err=True)
            before = said
        if status == OK or left <= 0:
            if stored is not None:
                _remember(asked, stored, weighed)
            return report
        time.sleep(min(pause, left))
        pause = min(pause * PAUSE_GROWTH, LONGEST_PAUSE_SECONDS)


def _in_short(report: Report) -> str:
    if report.exit_code == OK:
        return "healthy"
    open_or_bad = [f for f in report.findings if f.severity != "info" and not f.caused_by and not f.accepted]
    what = "undetermined" if report.exit_code == UNDETERMINED else "not healthy"
    return f"{what}: {', '.join(finding.id for finding in open_or_bad)}"


def _remember(asked: Asked, stored: verdicts.Stored, weighed: Report) -> None:
    """Keep how the verdict is said, for whoever asks the same again."""
    if asked.form not in answers.AGES or asked.max_age is None or asked.wait is not None:
        return
    from mmdoctor.cli.weighing import worded
    from mmdoctor.report import render

    new = replace(worded(weighed, None, asked.form), cached=Cached(at=stored.at, age_seconds=0.0))
    name = f"{_shelf(asked).subject}={answers.question(asked.depth, asked.fail_on, asked.form, os.environ)}"
    marks = {key: getattr(stored, key) for key in ("at", "marks", "interpreter", "watched", "matrix", "modules")}
    answers.remember(name, marks, weighed.exit_code or OK, render(new, asked.form, *taken_out()).rstrip("\n"))


def _shelf(asked: Asked) -> verdicts.Shelf:
    path, is_env = chosen_target(asked.env, asked.python)
    return verdicts.Shelf(own_folder(), path.absolute(), is_env=is_env, environ=os.environ)


def _bounded(asked: Asked) -> tuple[Report, Optional[verdicts.Stored]]:
    """The report within the deadline: from what had been seen, where that ended the look. And what is kept of it."""
    started = time.perf_counter()
    seen: list[Facts] = []
    try:
        return within(asked.deadline, lambda: _report(asked, started, seen.append))
    except OverdueError as error:
        from mmdoctor.matrix import load_matrix
        from mmdoctor.probes.collect import unseen

        at = " and ".join(error.doing) or "looking at the target"
        facts = seen[-1] if seen else unseen(asked.env or asked.python or "the active environment")
        facts = replace(facts, unfinished=f"the deadline of {error.seconds:g} s ended the look while {at}")
        if not asked.elsewhere:
            _shelf(asked).clear(asked.depth)
        return reported(facts, load_matrix(), (time.perf_counter() - started) * 1000), None


def _report(asked: Asked, started: float, seen: Callable[[Facts], None]) -> tuple[Report, Optional[verdicts.Stored]]:
    """The last verdict where that is asked for and holds, else the one of a look, which is kept."""
    if asked.elsewhere or asked.config or asked.checkpoint:
        return _fresh(asked, started, seen), None
    shelf = _shelf(asked)
    if asked.max_age is not None:
        with doing("comparing with the last verdict"):
            last = shelf.last(asked.depth, asked.max_age)
        if isinstance(last, str):
            click.echo(f"mmdoctor: looking now: {last}", err=True)
        elif last[1].ok or asked.wait is None:
            return last[1], last[0]
    since = time.time()
    report = _fresh(asked, started, seen)
    if asked.max_age is None and asked.depth == "quick":
        return report, None
    from mmdoctor.matrix import matrix_file

    shelf.clear(asked.depth)
    if report.facts.target.state != "present" or verdict(report.findings, "fail") == UNDETERMINED:
        return report, None
    with doing("keeping the verdict"):
        kept = shelf.keep(asked.depth, report, since, matrix_file())
    if not isinstance(kept, str):
        return report, kept
    if asked.max_age is not None:
        click.echo(f"mmdoctor: this verdict is not kept: {kept}", err=True)
    return report, None


def _fresh(asked: Asked, started: float, seen: Callable[[Facts], None]) -> Report:
    matrix = Background(_prepared)
    facts = looked(asked.env, asked.python, asked.facts_file, asked.pretend, quick=asked.depth == "quick", seen=seen)
    if asked.depth == "deep" and not asked.facts_file and facts.target.state == "present":
        from mmdoctor.probes.collect import with_smoke
        from mmdoctor.smoke.bench import run_bench

        if facts.target.version("mmpose"):
            with doing("running RTMPose"):
                facts = with_smoke(facts, run_bench(facts.target.executable, runs=3, together=True))
    if (asked.config or asked.checkpoint) and facts.target.state == "present":
        from mmdoctor.probes.config import Asked as AskedConfig
        from mmdoctor.probes.config import with_config

        with doing("looking at the config and the checkpoint"):
            facts = with_config(facts, AskedConfig(config=asked.config, checkpoint=asked.checkpoint))
    return reported(facts, matrix.result(), (time.perf_counter() - started) * 1000)


def _prepared() -> Matrix:
    """The matrix, and what comes after the look imported, while the target answers."""
    import mmdoctor.checks
    import mmdoctor.report.text  # noqa: F401
    from mmdoctor.matrix import load_matrix

    return load_matrix()
