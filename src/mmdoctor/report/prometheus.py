"""Prometheus' text format, for the node exporter's textfile collector: `--output FILE.prom` writes it in one rename."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from mmdoctor.model import Report

Sample = tuple[dict[str, str], float]
PACKAGES = ("torch", "mmcv", "mmcv-full", "mmdet", "mmpose", "numpy", "xtcocotools")


def render(report: Report) -> str:
    """Gauges, each with the label `env`, so that the files of several environments stand side by side. The time is when
    the facts were seen: of a verdict from the cache, or of replayed facts, it is theirs."""
    return "\n".join(_lines(report)) + "\n"


def _lines(report: Report) -> Iterator[str]:
    env = {"env": report.target.prefix}
    counts = {name: getattr(report.summary, name) for name in report.summary.__struct_fields__}
    yield from _metric(
        "mmdoctor_healthy", "1 where the last check found the environment healthy, else 0.", [(env, report.ok)]
    )
    if report.exit_code is not None:
        said = "Exit status of the last check: 0 healthy, 1 findings, 3 could not determine."
        yield from _metric("mmdoctor_exit_code", said, [(env, report.exit_code)])
    yield from _metric(
        "mmdoctor_findings",
        "Findings of the last check by status; the accepted ones are not among the others.",
        (({**env, "status": status}, count) for status, count in counts.items()),
    )
    yield from _metric(
        "mmdoctor_check_status",
        "1 for the status that a check has; accepted says by what a finding does not count.",
        (
            (
                {
                    **env,
                    "check": finding.id,
                    "status": finding.status,
                    "cause": finding.cause or "",
                    "accepted": finding.accepted.by if finding.accepted else "",
                },
                1,
            )
            for finding in report.findings
        ),
    )
    installed = {name.replace("-", "_"): report.facts.target.version(name) or "" for name in PACKAGES}
    about = {**env, "version": report.facts.mmdoctor, "python": report.target.python or "", **installed}
    yield from _metric("mmdoctor_target_info", "What was checked, and by which mmdoctor.", [(about, 1)])
    yield from _metric(
        "mmdoctor_check_duration_seconds", "How long the last check took.", [(env, report.duration_ms / 1000)]
    )
    if report.facts.host.now is not None:
        said = "When the environment was last looked at, in seconds since 1970."
        yield from _metric("mmdoctor_last_run_timestamp_seconds", said, [(env, report.facts.host.now)])


def _metric(name: str, said: str, samples: Iterable[Sample]) -> Iterator[str]:
    yield f"# HELP {name} {said}"
    yield f"# TYPE {name} gauge"
    for labels, value in samples:
        inside = ",".join(f'{label}="{_escaped(text)}"' for label, text in labels.items())
        yield f"{name}{{{inside}}} {float(value):.15g}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
