"""Looking: check, facts, bench."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Optional

import click
from msgspec.structs import replace

from mmdoctor.cli.common import (
    BELOW,
    FINDINGS,
    OK,
    REPORT_FORMATS,
    UNDETERMINED,
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
from mmdoctor.lang import LANGUAGES, language, spoken
from mmdoctor.matrix_model import Matrix
from mmdoctor.model import AnnotationFile, Bench, Facts, Finding, Report, ReportTarget


@click.command()
@target_options
@facts_options
@output_options(*REPORT_FORMATS)
@click.option("--quick", is_flag=True, help="No import in the target: metadata, files and driver only.")
@click.option("--deep", is_flag=True, help="Also mmcv's ops and a short RTMPose inference.")
@click.option("--fail-on", type=click.Choice(("fail", "warn")), default="fail", show_default=True)
@click.option("--deadline", type=click.FloatRange(min=1), metavar="SECONDS", help="For each import (default 60).")
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
    fail_on: str,
    deadline: Optional[float],
    config: Optional[str],
    checkpoint: Optional[str],
    annotations: Optional[str],
    write_fixed: Optional[str],
    lang: Optional[str],
) -> int:
    """Say whether the stack works, and name the roots where it does not.

    With --config and --checkpoint, whether a model would: types, parts, weights. A config is Python; it runs in a child
    of the target, which is ended after three minutes.

    With --annotations, whether a COCO keypoint file is what MMPose needs; that asks no target.

    Exit status: 0 healthy, 1 findings, 2 usage, 3 could not determine.
    """
    from mmdoctor.annotations import examine
    from mmdoctor.matrix import load_matrix
    from mmdoctor.system import Background

    if quick and deep:
        raise UsageError("--quick and --deep exclude each other")
    if (config or checkpoint) and (quick or facts_file):
        other = "--quick" if quick else "--facts"
        raise UsageError(f"--config and --checkpoint are looked at in the target, which {other} keeps from being asked")
    if write_fixed and not annotations:
        raise UsageError("--write-fixed writes the file of --annotations, which is not given")
    started = time.perf_counter()
    examined = examine(Path(annotations), Path(write_fixed) if write_fixed else None) if annotations else None
    if examined and write_fixed and not examined[0].written:
        click.echo(f"mmdoctor: nothing was written to {write_fixed}: {annotations} is no JSON", err=True)
    if examined and not any((env, python, facts_file, pretend, config, checkpoint)):
        report = annotated(nothing_looked_at(examined[0].path), *examined, started)
        emit(worded(report, lang, kind), kind, output)
        return verdict(report.findings, fail_on)
    matrix = Background(load_matrix)
    facts = looked(env, python, facts_file, pretend, quick=quick, deadline=deadline)
    if deep and not facts_file and facts.target.state == "present":
        from mmdoctor.probes.collect import with_smoke
        from mmdoctor.smoke.bench import run_bench

        if facts.target.version("mmpose"):
            facts = with_smoke(facts, run_bench(facts.target.executable, runs=3, together=True))
    if (config or checkpoint) and facts.target.state == "present":
        from mmdoctor.probes.config import Asked, with_config

        facts = with_config(facts, Asked(config=config, checkpoint=checkpoint))
    report = reported(facts, matrix.result(), (time.perf_counter() - started) * 1000)
    if examined:
        report = annotated(report, *examined, started)
    emit(worded(report, lang, kind), kind, output)
    return verdict(report.findings, fail_on)


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


def worded(report: Report, asked: Optional[str], kind: str) -> Report:
    """The report in the language asked for. Unasked, the locale decides of text alone: programs read the rest."""
    lang = language(asked, os.environ if kind == "text" else {})
    return replace(report, lang=lang, findings=tuple(spoken(finding, lang) for finding in report.findings))


def verdict(findings: tuple[Finding, ...], fail_on: str) -> int:
    """The exit status of `check`."""
    bad = {"fail", "warn"} if fail_on == "warn" else {"fail"}
    if any(finding.status in bad for finding in findings):
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
