"""Plain tables: the matrix and the wheel cache."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mmdoctor.model import Bench, LeftOut, MatrixList, StackLine, TorchLine
from mmdoctor.wheels.cache import Proof

if TYPE_CHECKING:
    from rich.table import Table


def columns(rows: Iterable[Sequence[str]]) -> str:
    """Rows aligned in columns, two spaces between."""
    listed = [tuple(row) for row in rows]
    widths = [max(len(row[column]) for row in listed) for column in range(len(listed[0]))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in listed)


def matrix_list_text(listed: MatrixList, width: int, colour: bool) -> str:
    """Measured stacks, torch releases, and what was left out by which fact; columns are folded to fit `width`."""
    from rich.console import Console

    out = io.StringIO()
    console = Console(file=out, width=width, force_terminal=colour, no_color=not colour, highlight=False, markup=False)
    pretended = "  (pretended)" if listed.pretended else ""
    console.print(f"{listed.machine}{pretended}; the matrix of {listed.read_on}", soft_wrap=True)
    if listed.stacks:
        rows = [_stack_cells(stack) for stack in listed.stacks]
        console.print(f"\nMeasured stacks ({len(rows)})", style="bold")
        stacks = ("id", "torch", "Python", "mmcv", "mmdet", "mmpose", "NumPy", "xtcocotools", "outcome", "measured")
        console.print(_table(stacks, rows))
    if listed.torch:
        console.print(f"\ntorch releases ({len(listed.torch)}); * is the build on PyPI", style="bold")
        releases = ("torch", "torchvision", "Python", "builds", "NumPy", "prebuilt wheels", "evidence")
        console.print(_table(releases, [_torch_cells(line) for line in listed.torch]))
    if listed.left_out:
        console.print("\nLeft out", style="bold")
        console.print(_table(("", "by", "the newest", "why", "what lets some in"), map(_left_cells, listed.left_out)))
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()) + "\n"


def _table(names: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    """A table without lines: the columns that hold lists are folded, the others kept whole as long as there is room."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for name in names:
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*row)
    return table


def _stack_cells(stack: StackLine) -> tuple[str, ...]:
    mmcv = f"{stack.mmcv} ({stack.mmcv_artefact})"
    xtcocotools = f"{stack.xtcocotools} ({stack.xtcocotools_artefact})"
    parts = (stack.mmdet or "–", stack.mmpose, stack.numpy, xtcocotools)
    return (stack.id, stack.torch, stack.python, mmcv, *parts, stack.outcome, stack.date)


def _torch_cells(line: TorchLine) -> tuple[str, ...]:
    builds = " ".join(f"{build}*" if build == line.pypi else build for build in line.builds)
    wheels = "; ".join(f"{name} {_span(versions)}" for name, versions in line.mmcv_wheels.items())
    counts = [f"{count} {word}" for count, word in ((line.works, "works"), (line.broken, "broken")) if count]
    evidence = f"measured: {', '.join(counts)}" if counts else line.evidence
    said = f"{evidence}; {line.withdrawn}" if line.withdrawn else evidence
    return (line.release, ", ".join(line.torchvision), _span(line.python), builds, line.numpy, wheels or "none", said)


def _span(versions: Sequence[str]) -> str:
    return versions[0] if len(versions) == 1 else f"{versions[0]}–{versions[-1]}"


def _left_cells(left: LeftOut) -> tuple[str, ...]:
    return (f"{left.count} {left.of}", left.fact, left.newest, left.why, " or ".join(left.unlock))


def bench_table(results: Sequence[Bench]) -> str:
    """The models side by side: what came out, how far from the reference, how fast."""
    rows = [("model", "device", "keypoints", "off by", "p50", "p95", "forward", "memory", "verdict")]
    for bench in results:
        error, latency = bench.keypoints.max_abs_error, bench.latency_ms
        rows.append(
            (
                bench.model,
                bench.device,
                str(bench.keypoints.count),
                "no reference" if error is None else f"{error:g} px",
                f"{latency.p50:.0f} ms",
                f"{latency.p95:.0f} ms",
                f"{latency.forward:.0f} ms",
                f"{bench.memory.rss_peak_bytes / 1e6:.0f} MB",
                "ok" if bench.ok else "failed",
            )
        )
    return columns(rows)


def wheels_table(proofs: Sequence[tuple[Path, Proof]]) -> str:
    """The cached wheels with what each was built for."""
    if not proofs:
        return "the wheel cache is empty"
    rows = [("wheel", "built for", "Python", "compiler", "minutes", "MB", "shown")]
    for path, proof in proofs:
        key = proof.key
        beside = f"torch {key.torch}" if key.torch else f"numpy {key.numpy}"
        size = f"{path.stat().st_size / 1e6:.1f}"
        shown = ", ".join(proof.shown).replace("import ", "")
        name = f"{key.package} {key.version}"
        rows.append((name, beside, key.python_tag, f"gcc {key.compiler}", f"{proof.minutes:g}", size, shown))
    return columns(rows)
