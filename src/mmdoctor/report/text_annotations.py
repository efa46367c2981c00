"""What is said of a file of annotations beside its findings: what it holds, and what was put in."""

from __future__ import annotations

from mmdoctor.model import AnnotationFile, Report


def answers(report: Report) -> str:
    """What stands behind the target in a headline: its Python, or that there is none to ask."""
    if report.target.python:
        return f"Python {report.target.python}"
    alone = report.annotations is not None and report.annotations.path == report.target.prefix
    return "COCO keypoints, no environment" if alone else "no Python answers"


def described(file: AnnotationFile) -> list[str]:
    """One line on what the file holds, one for each kind of change that was written."""
    unused = f" ({file.unused} without an annotation)" if file.unused else ""
    points = f", {file.keypoints} keypoints each" if file.keypoints else ""
    categories = f"{file.categories} {'category' if file.categories == 1 else 'categories'}"
    held = f"{file.images} images{unused}, {file.annotations} annotations{points}, {categories}"
    if file.written is None:
        return [f"{file.path}: {held}"]
    added = [
        f"{change.count} x {change.field}: {change.how}; {_first(change.first, change.count)}"
        for change in file.changes
    ]
    return [f"{file.written}: {held}", *(f"put in: {line}" for line in added or ["nothing, a copy"])]


def _first(first: tuple[str, ...], count: int) -> str:
    return ", ".join(first) + (f", and {count - len(first)} more" if count > len(first) else "")
