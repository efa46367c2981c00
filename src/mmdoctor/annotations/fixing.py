"""Writes a COCO keypoint file anew with what can be derived. All else stays byte for byte: what is derived is put in
between, so no number, name or order changes."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, Optional

from msgspec import UNSET

from mmdoctor.annotations.counting import EXAMPLES, shown
from mmdoctor.annotations.judging import (
    Annotation,
    Judge,
    are_keypoints,
    decoded,
    is_box,
    is_number,
    is_whole,
    labelled,
)
from mmdoctor.annotations.reading import BOM, VALUE, places
from mmdoctor.errors import UsageError
from mmdoctor.model import AnnotationChange

HOW = {
    "byte order mark": "left out",
    "id": "the next number that is free",
    "category_id": "the only category's",
    "bbox": "the smallest box around the labelled keypoints",
    "area": "w · h of the box; AP comes out higher than with areas of the outline, as COCO has them",
    "iscrowd": "0",
    "num_keypoints": "the number of labelled keypoints",
}


class Patch(NamedTuple):
    """Bytes `start` to `end` of the file become `new`."""

    start: int
    end: int
    new: bytes


def write_fixed(path: Path, out: Path, judge: Judge) -> tuple[AnnotationChange, ...]:
    """Write the file at `path` with what can be derived to `out`, which must not be there yet; says what was added.

    `judge` has seen all of the file. Raises UsageError where `out` is there or cannot be written.
    """
    refuse_existing(out)
    draft = out.with_name(f"{out.name}.{os.getpid()}.part")
    changes: dict[str, AnnotationChange] = {}
    try:
        with path.open("rb") as source, draft.open("xb") as target:
            at = 0
            for patch in _patches(path, judge, changes):
                _copy(source, target, patch.start - at)
                target.write(patch.new)
                at = patch.end
                source.seek(at)
            shutil.copyfileobj(source, target)
        _place(draft, out)
    except OSError as error:
        raise UsageError(
            f"cannot write {out}: {error.strerror}", hint="name another file with --write-fixed"
        ) from error
    finally:
        draft.unlink(missing_ok=True)
    return tuple(changes.values())


def refuse_existing(out: Path) -> None:
    """Raises UsageError where there is something at `out`, the input itself for one."""
    if os.path.lexists(out):
        raise UsageError(f"{out} is there already, and is never overwritten", hint="name a new file with --write-fixed")


def _place(draft: Path, out: Path) -> None:
    """The draft at its name, unless somebody else was faster. A link refuses what a rename would replace."""
    try:
        os.link(draft, out)
    except FileExistsError:
        refuse_existing(out)
    except OSError:  # a file system without links
        refuse_existing(out)
        draft.rename(out)


def _copy(source: BinaryIO, target: BinaryIO, count: int) -> None:
    while count > 0:
        part = source.read(min(count, 1 << 20))
        target.write(part)
        count -= len(part)


def _count(changes: dict[str, AnnotationChange], field: str, where: str) -> None:
    """One more change of a field."""
    known = changes.get(field) or AnnotationChange(field=field, count=0, how=HOW[field], first=())
    first = known.first if len(known.first) == EXAMPLES else (*known.first, shown(where))
    changes[field] = AnnotationChange(field=field, count=known.count + 1, how=known.how, first=first)


def _patches(path: Path, judge: Judge, changes: dict[str, AnnotationChange]) -> Iterator[Patch]:
    """What to put in, in the order of the file; `changes` counts it by field."""
    with path.open("rb") as file:
        if file.read(len(BOM)) == BOM:
            _count(changes, "byte order mark", "the file's first three bytes")
            yield Patch(0, len(BOM), b"")
    free = judge.ids.highest + 1
    for place in places(path):
        if place.key != "annotations" or place.number in (None, -1):
            continue
        element, finite = decoded(place.key, place.raw)
        if not isinstance(element, Annotation) or not finite:
            continue
        try:
            added = derived(element, free, judge.category_ids)
        except OverflowError:  # a whole number of more than 308 digits
            continue
        free += "id" in added
        for field in added:
            _count(changes, field, f"annotations[{place.number}] (id {added.get('id', element.id)})")
        if added:
            yield from _inserted(place.start, place.raw, added)


def derived(one: Annotation, free: int, category_ids: list[Any]) -> dict[str, Any]:
    """The fields that the annotation lacks, or has as null, and that follow from the others; `free` is the next id."""
    added: dict[str, Any] = {}
    keypoints = one.keypoints if are_keypoints(one.keypoints) else None
    if one.id is None:
        added["id"] = free
    if one.category_id is None and len(category_ids) == 1 and is_whole(category_ids[0]):
        added["category_id"] = category_ids[0]
    box = one.bbox
    if box is None and keypoints:
        box = _box_around(keypoints)
        if box:
            added["bbox"] = box
    if one.area is None and is_box(box) and is_number(box[2] * box[3]):
        added["area"] = box[2] * box[3]
    if one.iscrowd in (UNSET, None):
        added["iscrowd"] = 0
    if one.num_keypoints is None and keypoints:
        added["num_keypoints"] = labelled(keypoints)
    return added


def _box_around(keypoints: list[float]) -> Optional[list[float]]:
    """The smallest box around the labelled keypoints, None where it has no extent."""
    points = [(x, y) for x, y, level in zip(keypoints[::3], keypoints[1::3], keypoints[2::3]) if level > 0]
    if not points:
        return None
    xs, ys = zip(*points)
    box = [min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)]
    return box if is_box(box) and all(map(is_number, box)) else None


def _inserted(start: int, raw: bytes, added: dict[str, Any]) -> Iterator[Patch]:
    """The fields put into an object: in the place of its nulls, and at its end."""
    spans = _spans(raw)
    for field, (begin, end) in sorted(spans.items(), key=lambda item: item[1]):
        if field in added:
            yield Patch(start + begin, start + end, json.dumps(added[field]).encode())
    new = [f"{json.dumps(field)}: {json.dumps(value)}" for field, value in added.items() if field not in spans]
    if new:
        end = len(raw[:-1].rstrip(b" \t\r\n"))
        comma = ", " if spans else ""
        yield Patch(start + end, start + end, (comma + ", ".join(new)).encode())


def _spans(raw: bytes) -> dict[str, tuple[int, int]]:
    """Where the value of each field of an object stands; of one that stands twice, the last, which counts."""
    text = raw.decode("utf-8")
    ascii_only = len(text) == len(raw)

    def skipped(at: int) -> int:
        while text[at] in " \t\r\n,:":
            at += 1
        return at

    def byte(at: int) -> int:
        return at if ascii_only else len(text[:at].encode())

    spans: dict[str, tuple[int, int]] = {}
    at = skipped(1)
    while text[at] != "}":
        name, at = VALUE.raw_decode(text, at)
        at = skipped(at)
        _, end = VALUE.raw_decode(text, at)
        spans[name] = (byte(at), byte(end))
        at = skipped(end)
    return spans
