"""One measured row as text."""

from __future__ import annotations

from collections.abc import Iterator

from mmdoctor.matrix_model import StackRow


def evidence_text(row: StackRow) -> str:
    """What was combined, what came of it, and how long each step took."""
    return "\n".join(_lines(row))


def _lines(row: StackRow) -> Iterator[str]:
    yield f"{row.id}  {row.outcome}  {row.date}"
    built = {"wheel": "wheel", "build": "compiled"}
    parts = (
        ("Python", row.machine.get("python", row.python)),
        ("torch", f"{row.torch}+{row.build}"),
        ("torchvision", row.torchvision),
        (row.mmcv_package, f"{row.mmcv} ({built[row.mmcv_artefact]})"),
        ("mmengine", row.mmengine),
        ("mmdet", row.mmdet),
        ("mmpose", row.mmpose),
        ("numpy", row.numpy),
        ("xtcocotools", f"{row.xtcocotools} ({built[row.xtcocotools_artefact]})"),
        tuple(row.opencv.split("==")),
    )
    yield "  " + ", ".join(f"{name} {version or 'none'}" for name, version in parts)
    if row.step is not None:
        yield f"  failed at {row.step}: {row.error}"
    if row.roots:
        yield f"  the checks say: {'; '.join(row.roots)}"
    for text in (*row.unmet, row.notes):
        if text:
            yield f"  {text}"
    times = ", ".join(f"{name} {wall:g} s ({cpu:g} s CPU)" for name, (wall, cpu) in row.times.items())
    yield f"  {times}; load up to {row.load}"
    yield f"  on {', '.join(f'{name} {text}' for name, text in row.machine.items())}"
    yield f"  {len(row.artefacts)} artefacts with their sha256"
