"""Plain tables: the matrix and the wheel cache."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Optional

from mmdoctor import rules
from mmdoctor.matrix_model import Matrix
from mmdoctor.model import Bench
from mmdoctor.wheels.cache import Proof


def columns(rows: Iterable[Sequence[str]]) -> str:
    """Rows aligned in columns, two spaces between."""
    listed = [tuple(row) for row in rows]
    widths = [max(len(row[column]) for row in listed) for column in range(len(listed[0]))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in listed)


def matrix_table(matrix: Matrix, python: Optional[str], os_name: str) -> str:
    """The measured stacks, then the torch releases; `python` keeps those that have a wheel for it."""
    stacks = [("torch", "mmcv", "mmdet", "mmpose", "numpy", "xtcocotools", "Python", "outcome", "measured")]
    stacks += [
        (
            f"{row.torch}+{row.build}",
            f"{row.mmcv} ({row.mmcv_artefact})",
            row.mmdet or "–",
            row.mmpose,
            row.numpy,
            f"{row.xtcocotools} ({row.xtcocotools_artefact})",
            row.python,
            row.outcome,
            row.date,
        )
        for row in matrix.stacks
    ]
    wheels: dict[str, set[str]] = {}
    for wheel in matrix.mmcv_wheels:
        if wheel.os == os_name and wheel.package == "mmcv":
            wheels.setdefault(wheel.torch, set()).update(wheel.versions)
    torches = [("torch", "torchvision", "Python", "PyPI build", "NumPy", "mmcv wheels")]
    for row in sorted(matrix.torch, key=lambda row: rules.order(row.release), reverse=True):
        pythons = row.python_windows if os_name == "windows" else row.python
        if python is None or rules.minor(python) in pythons:
            newest = sorted(wheels.get(rules.minor(row.release), ()), key=rules.order)
            span = f"{pythons[0]}–{pythons[-1]}" if pythons else "–"
            pairs = ", ".join(row.torchvision)
            torches.append((row.release, pairs, span, row.pypi_cuda or "cpu", row.numpy, ", ".join(newest) or "none"))
    return f"Measured stacks\n\n{columns(stacks)}\n\nReleases ({os_name})\n\n{columns(torches)}"


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
