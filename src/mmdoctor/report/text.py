"""Text for people, readable without colour: reports, explanations, benchmarks and facts; plans are in `text_plan`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Optional, Union

from mmdoctor.errors import UsageError
from mmdoctor.lang import Language, translated
from mmdoctor.marks import ago
from mmdoctor.model import (
    Accepted,
    Bench,
    Explanation,
    Facts,
    Finding,
    Gpu,
    Kept,
    Plan,
    Refresh,
    Report,
    Summary,
    Text,
    Tool,
    Unknown,
    Value,
    Why,
)
from mmdoctor.report.page import Page, quote, size
from mmdoctor.report.text_annotations import answers, described
from mmdoctor.report.text_explanation import FIXES, SEE, write_explanation
from mmdoctor.report.text_matrix import write_refresh
from mmdoctor.report.text_plan import write_plan
from mmdoctor.report.text_why import write_why

WIDTH = 100
STYLES = {"ok": "green", "warn": "yellow", "fail": "bold red", "crash": "bold red", "skip": "cyan"}
ORDER = ("crash", "fail", "skip", "warn")
WHAT_NEXT = "next: {command}    shows the repair and changes nothing"
UNSEEN, PASSED, CAUSED, UNCOUNTED = "Not looked at", "Passed", "caused by {ids}", "Accepted: these do not count"
HEALTHY, SICK, EXCUSED = "healthy", "not healthy", "healthy but for what is accepted"
CRASHED, FAILED, WARNING, WARNINGS = "{count} crashed", "{count} failed", "{count} warning", "{count} warnings"
SKIPPED, ACCEPTED, WELL = "{count} skipped", "{count} accepted", "{count} passed"
COUNTS = (CRASHED, FAILED, WARNING, WARNINGS, SKIPPED, ACCEPTED, WELL)
LABELS = (WHAT_NEXT, UNSEEN, PASSED, CAUSED, UNCOUNTED, HEALTHY, SICK, EXCUSED, *COUNTS)
MMLAB = ("mmcv", "mmcv-full", "mmcv-lite", "onedl-mmcv", "mmengine", "onedl-mmengine", "mmdet", "onedl-mmdetection")
PACKAGES = ("torch", "torchvision", *MMLAB, "mmpose", "mmpretrain")
BINARIES = ("numpy", "xtcocotools", "pycocotools", "opencv-python", "opencv-python-headless", "setuptools")


def render(value: Value, colour: bool = False, width: int = WIDTH) -> str:
    """The text of any value that a command answers with, ending in a newline. `width` is in columns."""
    page = Page(colour, width)
    if isinstance(value, Report):
        _report(page, value)
    elif isinstance(value, Plan):
        write_plan(page, value)
    elif isinstance(value, Explanation):
        write_explanation(page, value)
    elif isinstance(value, Bench):
        for bench in (value, *(value.also or ())):
            _bench(page, bench)
    elif isinstance(value, Facts):
        _facts(page, value)
    elif isinstance(value, Kept):
        _kept(page, value)
    elif isinstance(value, Refresh):
        write_refresh(page, value)
    elif isinstance(value, Why):
        write_why(page, value)
    else:
        raise UsageError(f"there is no text form of a {type(value).__name__.lower()}", "use --format json")
    return page.text()


# --------------------------------------------------------------------------------------------------------- report


def outline(findings: Sequence[Finding]) -> tuple[tuple[int, Finding], ...]:
    """The findings that want attention with their depth: crashes, failures, what had to be looked at and was not,
    warnings, each above what it explains.

    A finding with several causes stands under the first of them. Accepted ones are left out.
    """
    wanted = (f for f in findings if f.accepted is None and f.severity != "info")
    shown = sorted(wanted, key=lambda finding: ORDER.index(finding.status))
    ids = {finding.id for finding in shown}
    below: dict[str, list[Finding]] = {}
    roots: list[Finding] = []
    for finding in shown:
        cause = next((cause for cause in finding.caused_by if cause in ids), None)
        (roots if cause is None else below.setdefault(cause, [])).append(finding)
    placed: list[tuple[int, Finding]] = []

    def place(finding: Finding, depth: int) -> None:
        placed.append((depth, finding))
        for child in below.pop(finding.id, []):
            place(child, depth + 1)

    for root in roots:
        place(root, 0)
    while below:  # a ring of causes has no root: any of them will do, and none may be lost
        place(below[next(iter(below))].pop(0), 0)
        below = {cause: children for cause, children in below.items() if children}
    return tuple(placed)


def plain(finding: Finding) -> list[str]:
    """A finding's text in lines: detail, evidence, causes, fix, documentation."""
    lines = [finding.detail, *finding.evidence]
    if finding.caused_by:
        lines.append(f"caused by {', '.join(finding.caused_by)}")
    if finding.fix.summary:
        lines.append(f"fix: {finding.fix.summary}")
    return [*lines, finding.docs]


def state_of(report: Report) -> str:
    """The verdict in words, in the report's language."""
    word = SICK if not report.ok else EXCUSED if report.summary.accepted else HEALTHY
    return translated(word, report.lang)


def why_accepted(accepted: Accepted) -> str:
    """`waived until 2026-12-31: the reason`, or that it is known."""
    return (
        f"waived until {accepted.until}: {accepted.reason}" if accepted.by == "waiver" else f"known: {accepted.reason}"
    )


def beside(report: Report) -> list[str]:
    """What is said of baseline and waivers beside the findings, a line each."""
    lines = []
    if report.baseline:
        gone = ", ".join(f"{one.id} ({one.cause})" if one.cause else one.id for one in report.baseline.gone)
        lines.append(
            f"baseline: {report.baseline.known} known, {len(report.baseline.gone)} gone" + (gone and f": {gone}")
        )
    return [*lines, *(f"this waiver is of no use: {text}" for text in report.unused_waivers)]


def tally(summary: Summary, lang: Language = "en") -> str:
    """`2 failed, 1 warning, 40 passed`; what is zero is not said, except passed."""
    counts = (
        (summary.crash, CRASHED),
        (summary.fail, FAILED),
        (summary.warn, WARNING if summary.warn == 1 else WARNINGS),
        (summary.skip, SKIPPED),
        (summary.accepted, ACCEPTED),
    )
    said = [(count, label) for count, label in counts if count]
    return ", ".join(translated(label, lang).format(count=count) for count, label in (*said, (summary.ok, WELL)))


def _report(page: Page, report: Report) -> None:
    page.line(("mmdoctor check", "bold"), f"  {report.target.prefix}  ({answers(report)})")
    page.pretended(report.facts.pretended)
    for text in described(report.annotations) if report.annotations else ():
        page.prose(text, 2)
    attention, lang = outline(report.findings), report.lang
    for depth, finding in attention:
        _finding(page, finding, depth, lang)
    for status, label in (("skip", UNSEEN), ("ok", PASSED)):
        some = [finding for finding in report.findings if finding.status == status and finding.severity == "info"]
        if some:
            page.heading(translated(label, lang))
            for finding in some:
                page.line((f"{status:<5}", STYLES[status]), f" {finding.id}  {finding.title}: {finding.detail}")
    accepted = [(finding, finding.accepted) for finding in report.findings if finding.accepted]
    if accepted:
        page.heading(translated(UNCOUNTED, lang))
    for finding, why in accepted:
        page.line((f"{finding.status:<5}", STYLES[finding.status]), f" {finding.id}  {finding.title}: {finding.detail}")
        page.prose(why_accepted(why), 6)
    page.line()
    for line in beside(report):
        page.prose(line)
    counted = f": {tally(report.summary, lang)} in {report.duration_ms / 1000:.1f} s"
    page.line((state_of(report), "bold green" if report.ok else "bold red"), counted)
    if report.cached:
        page.line(f"found {ago(report.cached.age_seconds)} ago: nothing that decides it has changed since (--cached)")
    if any(finding.fix.kind in ("auto", "confirm") for _, finding in attention):
        command = f"mmdoctor fix --env {quote(report.target.prefix)}"
        page.line(translated(WHAT_NEXT, lang).format(command=command))


def _finding(page: Page, finding: Finding, depth: int, lang: Language) -> None:
    indent = 4 * depth
    if not depth:
        page.line()
    arrow = "↳ " if depth else ""
    page.line(
        arrow,
        (f"{finding.status.upper():<5}", STYLES[finding.status]),
        f" {finding.id}  {finding.title}",
        indent=indent,
    )
    inner = indent + 6 + len(arrow)
    if finding.caused_by:
        caused = translated(CAUSED, lang).format(ids=", ".join(finding.caused_by))
        page.line((f"↳ {caused}", "bold"), indent=inner)
    page.prose(finding.detail, inner)
    for text in finding.evidence:
        page.verbatim(text, inner)
    if finding.fix.summary:
        page.prose(finding.fix.summary, inner, first=translated(FIXES[finding.fix.kind], lang), style="green")
    if not depth:
        page.line((translated(SEE, lang).format(docs=finding.docs), "dim"), indent=inner)


# ---------------------------------------------------------------------------------------------------------- bench


def _bench(page: Page, bench: Bench) -> None:
    verdict = ("ok", "bold green") if bench.ok else ("FAIL", "bold red")
    page.line(("mmdoctor bench", "bold"), f"  {bench.model} on {bench.device}: ", verdict)
    if bench.reason:
        page.prose(bench.reason, 2)
    points, latency, memory = bench.keypoints, bench.latency_ms, bench.memory
    off = "no reference" if points.max_abs_error is None else f"off by {points.max_abs_error:.3g} px"
    finite = "all finite" if points.finite else "NOT FINITE"
    rows = [
        ("weights", bench.weights.kind + (f"  {bench.weights.file}" if bench.weights.file else "")),
        ("keypoints", f"{points.count}, {finite}, {off} (tolerance {points.tolerance:g})"),
        ("latency", f"p50 {latency.p50:.1f} ms, p95 {latency.p95:.1f} ms over {bench.runs} runs"),
        ("preprocess", f"{latency.preprocess:.1f} ms"),
        ("forward", f"{latency.forward:.1f} ms"),
        ("postprocess", f"{latency.postprocess:.1f} ms"),
        ("start", f"model {latency.init:.0f} ms, first inference {latency.first:.0f} ms"),
        ("throughput", f"{bench.throughput_per_s:.1f} per second"),
        ("memory", f"peak {size(memory.rss_peak_bytes)}" + _gpu_memory(memory.gpu_peak_bytes)),
    ]
    page.table(rows)
    for op in bench.ops:
        said = "ok" if op.ok else f"FAIL {op.message or ''}".rstrip()
        error = "" if op.max_abs_error is None else f", off by {op.max_abs_error:.2g} (tolerance {op.tolerance:g})"
        page.line(f"op {op.op}: {said}{error}", indent=2)
    if bench.versions:
        page.prose(", ".join(f"{name} {version}" for name, version in bench.versions.items()), 2)


def _gpu_memory(count: Optional[int]) -> str:
    return "" if count is None else f", GPU {size(count)}"


# ---------------------------------------------------------------------------------------------------------- facts


def _facts(page: Page, facts: Facts) -> None:
    host, target, tools = facts.host, facts.target, facts.toolchain
    page.line(("mmdoctor facts", "bold"), f"  {target.prefix or target.requested}")
    page.pretended(facts.pretended)
    inside = "".join(f", in {place}" for place in (host.container, "WSL" if host.wsl else None) if place)
    disk = host.disk_free_bytes
    torch = target.torch
    installed = [f"{name} {v}" for name in (*PACKAGES, *BINARIES) for v in (target.version(name),) if v]
    rows = [
        ("system", f"{host.os_name} ({host.machine}), glibc {_said(host.glibc)}{inside}"),
        ("machine", f"{host.cpu_count} cores, {size(host.memory_total_bytes)} memory"),
        ("disk", f"{size(disk)} free" if isinstance(disk, int) else _said(disk)),
        ("GPU", _gpu(facts.gpu)),
        ("nvcc", _tool(tools.nvcc) + (f", CUDA_HOME {tools.cuda_home}" if tools.cuda_home else "")),
        ("compiler", _tool(tools.gcc)),
        ("ninja", _tool(tools.ninja)),
        ("Python", target.problem or f"{target.python} ({target.kind}) {target.executable}"),
        ("torch", "not installed" if torch is None else f"{torch.version}, built for CUDA {torch.cuda or 'none'}"),
        ("packages", f"{len(target.distributions)}: {', '.join(installed)}" if installed else "none of the stack"),
    ]
    rows += [(f"{index.name}", f"{index.url}  {_reachable(index.reachable, index.reason)}") for index in facts.indexes]
    rows += [("import", f"{r.module}: {r.status}  {r.message or ''}") for r in facts.imports if r.status != "ok"]
    page.table(rows)
    page.line()
    page.line("the whole of it: --format json")


def _said(fact: Text) -> str:
    if isinstance(fact, Unknown):
        return f"unknown ({fact.unknown})"
    return "none" if fact is None else fact


def _tool(tool: Optional[Tool]) -> str:
    return "none" if tool is None else f"{_said(tool.version)}  {tool.path}"


def _gpu(gpu: Gpu) -> str:
    if not gpu.devices:
        return f"none: {gpu.reason}"
    names = ", ".join(f"{d.name} ({d.compute_capability}, {size(d.memory_bytes)})" for d in gpu.devices)
    return f"{names}; driver {_said(gpu.driver)}, CUDA up to {gpu.cuda_ceiling or 'unknown'}"


def _reachable(reachable: Union[bool, Unknown], reason: Optional[str]) -> str:
    if isinstance(reachable, Unknown):
        return f"not asked ({reachable.unknown})"
    return "answers" if reachable else f"does not answer: {reason}"


# ----------------------------------------------------------------------------------------------------------- rollback


def _kept(page: Page, kept: Kept) -> None:
    page.line((f"earlier environments of {kept.target}", "bold"))
    if not kept.earlier:
        page.line("none is kept", indent=2)
    for earlier in kept.earlier:
        page.line((earlier.name, "bold"), f"  {size(earlier.bytes)} of its own", indent=2)
        page.prose(", ".join(earlier.changes) or "what was changed then is not known any more", 4)
    if kept.earlier:
        page.line(f"next: mmdoctor rollback --env {quote(kept.target)} --to NAME    each stood there before that run")
