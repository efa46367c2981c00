"""Looking: check, facts, bench."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Optional

import click
from msgspec.structs import replace

from mmdoctor.cli.common import (
    BELOW,
    FINDINGS,
    OK,
    REPORT_FORMATS,
    UNDETERMINED,
    age,
    chosen_target,
    emit,
    facts_options,
    looked,
    machine_alone,
    output_options,
    put,
    recovered,
    taken_out,
    target_options,
)
from mmdoctor.errors import UsageError
from mmdoctor.lang import LANGUAGES
from mmdoctor.model import AnnotationFile, Bench, Facts, Finding, Report, ReportTarget

if TYPE_CHECKING:
    from mmdoctor.matrix_model import Matrix


@click.command()
@target_options
@facts_options
@output_options(*REPORT_FORMATS)
@click.option("--quick", is_flag=True, help="No import in the target: metadata, files and driver only.")
@click.option("--deep", is_flag=True, help="Also mmcv's ops and a short RTMPose inference.")
@click.option("--also", multiple=True, metavar="KIND=FILE", help="Write it in this format too (repeatable).")
@click.option("--fail-on", type=click.Choice(("fail", "warn")), default="fail", show_default=True)
@click.option("--baseline", metavar="FILE", help="A former --format json: what it has does not count.")
@click.option("--waivers", metavar="FILE", help="YAML or JSON: findings that do not count, why, and until when.")
@click.option("--cached", callback=age, metavar="MAX_AGE", help="The last verdict where it holds: 30s, 10m, 12h, 1d.")
@click.option("--deadline", type=click.FloatRange(min=1), metavar="SECONDS", help="For the whole look.")
@click.option("--wait", type=click.FloatRange(min=0), metavar="SECONDS", help="Look again until it is healthy.")
@click.option("--ready", metavar="FILE", help="Deleted first; written, whole, when the check passes.")
@click.option("--notify", is_flag=True, help="Tell systemd the verdict (STATUS=), where the unit lets it.")
@click.option("--config", metavar="FILE", help="Also this config: a path, or a name inside mmpose. Its code is run.")
@click.option("--checkpoint", metavar="FILE", help="Also this checkpoint, and whether it fits. Nothing of it is run.")
@click.option("--annotations", metavar="FILE", help="Also this COCO keypoint file; alone where no target is named.")
@click.option("--write-fixed", metavar="OUT", help="Write it there with what can be derived (area, boxes, counts).")
@click.option("--lang", type=click.Choice(LANGUAGES), help="English or Chinese (text: as the locale says).")
def check(
    env: Optional[str],
    python: Optional[str],
    facts_file: Optional[str],
    pretend: tuple[str, ...],
    offline: bool,  # noqa: ARG001  common to all commands; check asks no network anyway
    kind: str,
    output: Optional[str],
    quick: bool,
    deep: bool,
    also: tuple[str, ...],
    fail_on: str,
    baseline: Optional[str],
    waivers: Optional[str],
    cached: Optional[float],
    deadline: Optional[float],
    wait: Optional[float],
    ready: Optional[str],
    notify: bool,
    config: Optional[str],
    checkpoint: Optional[str],
    annotations: Optional[str],
    write_fixed: Optional[str],
    lang: Optional[str],
) -> int:
    """Say whether the stack works, and name the roots where it does not.

    With --config and --checkpoint, whether a model would: types, parts, weights. A config is Python; it runs in a child
    of the target, which is ended after three minutes.

    --deadline ends the look with all that it started, names what it was at, and leaves the verdict open (3); without
    it each import has 60 seconds. --wait begins no other look after SECONDS. --cached answers with the last verdict of
    at least this depth while the machine, the driver, the environment and mmdoctor are as they were.

    With --annotations, whether a COCO keypoint file is what MMPose needs; that asks no target.

    Exit status: 0 healthy, 1 findings, 2 usage, 3 could not determine. --format nagios has a plugin's: 0 OK, 1 WARNING,
    2 CRITICAL, 3 UNKNOWN.
    """
    from mmdoctor.cli.gates import Asked, report_of
    from mmdoctor.cli.weighing import forms, say, weigher

    if quick and deep:
        raise UsageError("--quick and --deep exclude each other")
    if (config or checkpoint) and (quick or facts_file):
        other = "--quick" if quick else "--facts"
        raise UsageError(f"--config and --checkpoint are looked at in the target, which {other} keeps from being asked")
    if write_fixed and not annotations:
        raise UsageError("--write-fixed writes the file of --annotations, which is not given")
    if ready:
        from mmdoctor.hooks.readiness import cleared

        cleared(Path(ready))
    weigh, written = weigher(baseline, waivers, fail_on), forms(also)
    started = time.perf_counter()
    examined = None
    if annotations:
        from mmdoctor.annotations import examine

        examined = examine(Path(annotations), Path(write_fixed) if write_fixed else None)
    if examined and write_fixed and not examined[0].written:
        click.echo(f"mmdoctor: nothing was written to {write_fixed}: {annotations} is no JSON", err=True)
    if examined and not any((env, python, facts_file, pretend, config, checkpoint)):
        report = annotated(nothing_looked_at(examined[0].path), *examined, started)
        return say(weigh(report), kind, output, written, lang)
    asked = Asked(
        env=env,
        python=python,
        facts_file=facts_file,
        pretend=pretend,
        depth="quick" if quick else "deep" if deep else "full",
        config=config,
        checkpoint=checkpoint,
        max_age=cached,
        deadline=deadline,
        wait=wait,
        form=None if lang or output or also or baseline or waivers or ready or notify or annotations else kind,
        fail_on=fail_on,
    )
    report = report_of(asked, weigh)
    if examined:
        report = annotated(report, *examined, started)
    report = weigh(report)
    left_behind(report, ready, notify=notify)
    return say(report, kind, output, written, lang)


def left_behind(report: Report, ready: Optional[str], *, notify: bool) -> None:
    """The readiness file, of a report that passed, and the verdict for systemd."""
    if ready and report.exit_code == OK:
        emit(report, "json", ready)
    if notify:
        from mmdoctor.hooks.readiness import tell_systemd
        from mmdoctor.report import render

        first = render(report, "journal", *taken_out()).splitlines()[0]
        try:
            tell_systemd(f"mmdoctor: {first.partition('>')[2]}")
        except OSError as error:
            click.echo(f"mmdoctor: systemd was not told: {error.strerror}", err=True)


def reported(facts: Facts, matrix: Matrix, duration_ms: float) -> Report:
    """Facts judged: the value that `check` prints."""
    from mmdoctor.checks import diagnose, summarise

    findings = diagnose(facts, matrix)
    target = facts.target
    return Report(
        ok=verdict(findings, "fail") == OK,
        target=ReportTarget(python=target.python or None, prefix=target.prefix or target.requested),
        summary=summarise(findings),
        findings=findings,
        facts=facts,
        duration_ms=round(duration_ms, 1),
    )


def nothing_looked_at(path: str) -> Report:
    """The report of a check that asks no target: this machine's facts, no findings yet."""
    from mmdoctor.checks import summarise

    facts = machine_alone((), path, quick=True)
    target = ReportTarget(python=None, prefix=path)
    return Report(ok=True, target=target, summary=summarise(()), findings=(), facts=facts, duration_ms=0.0)


def annotated(report: Report, file: AnnotationFile, found: tuple[Finding, ...], started: float) -> Report:
    """The report with what was found in a file of annotations; `started` is when the check did (perf_counter)."""
    from mmdoctor.checks import summarise

    findings = (*report.findings, *found)
    return replace(
        report,
        ok=verdict(findings, "fail") == OK,
        summary=summarise(findings),
        findings=findings,
        annotations=file,
        duration_ms=round((time.perf_counter() - started) * 1000, 1),
    )


def verdict(findings: tuple[Finding, ...], fail_on: str) -> int:
    """The exit status of `check`; what is accepted does not count."""
    bad = {"fail", "warn"} if fail_on == "warn" else {"fail"}
    if any(finding.status in bad and finding.accepted is None for finding in findings):
        return FINDINGS
    undetermined = any(f.status == "crash" or (f.status == "skip" and f.severity == "error") for f in findings)
    return UNDETERMINED if undetermined else OK


@click.command()
@target_options
@facts_options
@output_options("text", "json")
@click.option("--json", "as_json", is_flag=True, help="Short for --format json.")
def facts(
    env: Optional[str],
    python: Optional[str],
    facts_file: Optional[str],
    pretend: tuple[str, ...],
    offline: bool,
    kind: str,
    output: Optional[str],
    as_json: bool,
) -> None:
    """Print everything that was seen; `check --facts` and `fix --facts` replay it on another machine."""
    from mmdoctor.matrix import load_matrix
    from mmdoctor.probes.collect import with_indexes

    seen = looked(env, python, facts_file, pretend)
    shown = seen if facts_file else with_indexes(seen, load_matrix(), offline=offline)
    emit(shown, "json" if as_json else kind, output)


@click.command()
@target_options
@output_options("text", "json")
@click.option("--config", metavar="FILE", help="Your model's config (default: RTMPose-m on COCO and AP-10K).")
@click.option("--checkpoint", metavar="FILE", help="Its weights; the sha256 in the file's name is verified.")
@click.option("--image", metavar="FILE", help="Your image.")
@click.option("--device", type=click.Choice(("auto", "cpu", "cuda")), default="auto", show_default=True)
@click.option("--runs", type=click.IntRange(1, 1000), default=10, show_default=True)
@click.option("--picture", metavar="FILE", help="Write the image with skeleton and scores.")
def bench(
    env: Optional[str],
    python: Optional[str],
    kind: str,
    output: Optional[str],
    config: Optional[str],
    checkpoint: Optional[str],
    image: Optional[str],
    device: str,
    runs: int,
    picture: Optional[str],
) -> int:
    """Run RTMPose for real, compare its keypoints with the reference, and measure it.

    Exit status: 0, 1 wrong numbers or failed, 2 usage, 3 the target does not answer.
    """
    from mmdoctor.errors import UndeterminedError
    from mmdoctor.probes.target import probe_target
    from mmdoctor.smoke.bench import run_bench

    recovered(env, python)
    path, is_env = chosen_target(env, python)
    target = probe_target(path.absolute(), is_env=is_env, quick=True)
    if target.state != "present":
        raise UndeterminedError(f"{target.requested}: {target.problem}", hint="mmdoctor check says more")
    results = run_bench(
        target.executable,
        config=config,
        checkpoint=checkpoint,
        image=image,
        device=device,
        runs=runs,
        picture=picture,
    )
    if kind == "json":
        first = results[0]
        emit(replace(first, also=results[1:]) if len(results) > 1 else first, kind, output)
    else:
        emit_benches(results, output)
    return OK if all(result.ok for result in results) else BELOW


def emit_benches(results: tuple[Bench, ...], output: Optional[str]) -> None:
    """The benches as text: each in full, then side by side."""
    from mmdoctor.report import render
    from mmdoctor.report.tables import bench_table

    parts = [render(result, "text", *taken_out()).rstrip("\n") for result in results]
    put("\n\n".join([*parts, bench_table(results)]) if results else "", output)
