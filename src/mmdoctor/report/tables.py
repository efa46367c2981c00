"""Plain tables: the matrix and the wheel cache."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from mmdoctor.model import (
    Bench,
    Built,
    Exported,
    Imported,
    KeptWheel,
    LeftOut,
    MatrixList,
    Pruned,
    StackLine,
    TorchLine,
    WheelList,
)

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table


def columns(rows: Iterable[Sequence[str]]) -> str:
    """Rows aligned in columns, two spaces between."""
    listed = [tuple(row) for row in rows]
    widths = [max(len(row[column]) for row in listed) for column in range(len(listed[0]))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in listed)


def matrix_list_text(listed: MatrixList, width: int, colour: bool) -> str:
    """Measured stacks, torch releases, and what was left out by which fact; columns are folded to fit `width`."""
    out, console = _console(width, colour)
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
    return _lines(out)


def _console(width: int, colour: bool) -> tuple[io.StringIO, Console]:
    from rich.console import Console

    out = io.StringIO()
    made = Console(file=out, width=width, force_terminal=colour, no_color=not colour, highlight=False, markup=False)
    return out, made


def _lines(out: io.StringIO) -> str:
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


def wheels_text(listed: WheelList, width: int, colour: bool) -> str:
    """The cached wheels: what each is for, what it cost and shows; then those that are not handed out."""
    if not listed.wheels and not listed.strays:
        return f"the wheel cache {listed.folder} is empty"
    out, console = _console(width, colour)
    size = sum(wheel.bytes for wheel in listed.wheels)
    console.print(f"{listed.folder}: {_wheels(len(listed.wheels))}, {size / 1e6:.1f} MB", soft_wrap=True)
    if listed.wheels:
        names = ("wheel", "beside", "ops", "Python", "glibc", "MB", "minutes", "built", "used", "shown")
        console.print()
        console.print(_table(names, map(_wheel_cells, listed.wheels)))
    for wheel in listed.wheels:
        if wheel.origin:
            console.print(
                f"{wheel.name} {wheel.version} {wheel.python_tag}: imported from {wheel.origin}", soft_wrap=True
            )
    damaged = [f"{wheel.path}: it is not the file that was proven" for wheel in listed.wheels if not wheel.sound]
    damaged += [f"{path}: its proof does not read, or was changed" for path in listed.strays]
    if damaged:
        console.print("\nDamaged, and not handed out (mmdoctor wheels prune takes them away)", style="bold red")
        for line in damaged:
            console.print(line, soft_wrap=True)
    return _lines(out)


def _wheels(count: int) -> str:
    return "1 wheel" if count == 1 else f"{count} wheels"


def _wheel_cells(wheel: KeptWheel) -> tuple[str, ...]:
    beside = [f"torch {wheel.torch}"] if wheel.torch else []
    beside += [f"numpy {wheel.numpy}"] if wheel.numpy else []
    cuda = f"CUDA {wheel.cuda}: {wheel.archs}" if wheel.cuda else "CPU" if wheel.torch else "–"
    return (
        f"{wheel.name} {wheel.version}" + ("" if wheel.sound else " (damaged)"),
        ", ".join(beside) or "anything",
        cuda,
        wheel.python_tag,
        f"≥{wheel.glibc}" if wheel.glibc else "–",
        f"{wheel.bytes / 1e6:.1f}",
        f"{wheel.minutes:g}",
        wheel.built[:10],
        wheel.used[:10] if wheel.used else "–",
        ", ".join(wheel.shown) or "–",
    )


def pruned_text(pruned: Pruned) -> str:
    """What goes, or went, from the cache, why, and how much that is."""
    lines = []
    if pruned.removals:
        rows = [(one.kind, one.name, f"{one.bytes / 1e6:.1f} MB", one.why) for one in pruned.removals]
        lines += [columns(rows), ""]
    lines += [f"{name} may be in use, so it stays" for name in pruned.in_use]
    size = sum(one.bytes for one in pruned.removals)
    went = ("removed" if pruned.done else "would go") if pruned.removals else "nothing to remove"
    said = f"{went}: {len(pruned.removals)}, {size / 1e6:.1f} MB" if pruned.removals else went
    lines.append(f"{said}; what stays: {_wheels(pruned.kept)}, {pruned.kept_bytes / 1e6:.1f} MB")
    return "\n".join(lines)


def exported_text(exported: Exported) -> str:
    """What lies in the exported folder now, and under which address each use finds it."""
    there = f", {len(exported.there)} there already" if exported.there else ""
    lines = [f"{exported.folder}: {_wheels(len(exported.added))} added{there}"]
    lines += [f"left out, damaged: {entry}" for entry in exported.damaged]
    for index in exported.indexes:
        lines += ["", f"for {index.beside}: {', '.join(file for files in index.wheels.values() for file in files)}"]
        lines.append(f"  --extra-index-url ADDRESS/{index.path}/")
        lines += [f"  --find-links ADDRESS/{index.path}/{name}/index.html" for name in index.wheels]
    lines += ["", "ADDRESS is where a web server shows the folder; without one it is file:// and the folder's path."]
    lines.append(f"`mmdoctor fix --wheels {exported.folder}` takes them from the folder itself;")
    lines.append("`mmdoctor wheels import ADDRESS` checks them and takes them into a cache.")
    return "\n".join(lines)


def built_text(built: Built) -> str:
    """Where the wheel lies, what it is for, what was seen of it."""
    wheel = built.wheel
    beside = f"torch {wheel.torch}" if wheel.torch else f"numpy {wheel.numpy}" if wheel.numpy else "any torch and NumPy"
    archs = f" with CUDA ops for {wheel.archs}" if wheel.archs else ""
    how = f"compiled in {wheel.minutes:g} minutes and proven" if built.compiled else "in the cache already"
    lines = [f"{wheel.name} {wheel.version} for {beside}{archs}: {how}", f"shown: {'; '.join(wheel.shown)}"]
    return "\n".join([*lines, f"{wheel.path} ({wheel.bytes / 1e6:.1f} MB)"])


def imported_text(imported: Imported) -> str:
    """What came into the cache, and what was refused and why."""
    how = dict.fromkeys(imported.proven, ", proven anew here")
    word = "imported" if imported.done else "would import"
    lines = [f"{word} {entry}{how.get(entry, '')}" for entry in imported.added]
    lines += [f"there already {entry}" for entry in imported.there]
    lines += [f"refused {one.entry}: {one.why}" for one in imported.refused]
    counts = f"{len(imported.added)} imported, {len(imported.there)} there already, {len(imported.refused)} refused"
    return "\n".join([*lines, f"{counts if imported.done else f'{counts} (nothing is written)'}; {imported.folder}"])
