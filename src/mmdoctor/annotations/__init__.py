"""Is a COCO keypoint file what MMPose needs? Rules as data, read from the file in bounded memory; no torch, no mmpose.

`reading` gives the file's values one by one, `judging` holds them against `rules`, `fixing` writes what can be derived.
"""

from __future__ import annotations

from pathlib import Path
from typing import Optional

from mmdoctor.annotations import rules
from mmdoctor.annotations.counting import EXAMPLES
from mmdoctor.annotations.fixing import refuse_existing, write_fixed
from mmdoctor.annotations.foreign import HEAD, recognised
from mmdoctor.annotations.judging import LISTS, Judge
from mmdoctor.annotations.reading import BOM, Fault, places
from mmdoctor.annotations.rules import RULES, Rule
from mmdoctor.errors import UsageError
from mmdoctor.model import AnnotationChange, AnnotationFile, Finding, Fix

# Where the second rule is broken, the first follows from it.
EXPLAINS = {
    rules.CATEGORY_KNOWN.id: (rules.SHAPE.id, rules.CATEGORY_IDS.id),
    rules.IMAGE_KNOWN.id: (rules.SHAPE.id, rules.IMAGE_FIELDS.id),
    rules.BOX_OUTSIDE.id: (rules.BOX_CORNERS.id, rules.IMAGE_SWAPPED.id, rules.IMAGE_UNIQUE.id),
    rules.BOX_INSIDE.id: (rules.BOX_CORNERS.id, rules.IMAGE_SWAPPED.id, rules.IMAGE_UNIQUE.id),
    rules.KEYPOINTS_INSIDE.id: (rules.IMAGE_SWAPPED.id, rules.IMAGE_UNIQUE.id),
    rules.BOX_FORM.id: (rules.FINITE.id,),
}
SUCH = {
    "file": "a file of four instances that breaks it",
    "images": "three images, one like this, and four instances",
    "categories": "such a category and four instances",
    "annotations": "four instances, one like this",
}


def examine(path: Path, out: Optional[Path] = None) -> tuple[AnnotationFile, tuple[Finding, ...]]:
    """What a file holds, and one finding for each rule. With `out`, what can be derived is written there first, and the
    findings are those of that file.

    Raises UsageError where the file cannot be read, or `out` is there or cannot be written.
    """
    if out is not None:
        refuse_existing(out)
    judge = judged(path)
    if out is None or judge.fault:
        return _described(path, judge), findings(judge)
    changes = write_fixed(path, out, judge)
    fixed = judged(out)
    return _described(path, fixed, str(out), changes), findings(fixed)


def judged(path: Path) -> Judge:
    """The file held against the rules. Raises UsageError where it cannot be read."""
    judge = Judge()
    if path.exists() and not path.is_file():
        raise UsageError(f"cannot read {path}: it is no regular file", hint="it is read more than once; save it first")
    try:
        _walk(path, judge)
    except Fault as fault:
        judge.fault = True
        judge.broken.add(rules.JSON, _place_of(path, fault.at), _foreign(path, json=False) or fault.what)
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}", hint="--annotations takes a file of JSON") from error
    judge.close()
    return judge


def _walk(path: Path, judge: Judge) -> None:
    with path.open("rb") as file:
        if file.read(len(BOM)) == BOM:
            judge.broken.add(rules.JSON, "the file begins with a byte order mark (UTF-8 BOM)")
    met: list[str] = []
    waiting = False
    for place in places(path):
        if place.key not in LISTS:
            continue
        if place.number is None:
            judge.broken.add(rules.SHAPE, place.key, "not a list")
        elif place.number == -1:
            if place.key in met:
                judge.broken.add(rules.SHAPE, place.key, "stands twice; json keeps the last")
            met.append(place.key)
        elif place.key == "annotations" and "images" not in met:
            waiting = True  # judged once their images are known
        else:
            judge.take(place)
    if waiting:
        for place in places(path):
            if place.key == "annotations" and place.number not in (None, -1):
                judge.take(place)
    if not met:
        judge.broken.add(rules.SHAPE, "the file holds none of them", _foreign(path, json=True) or "")
        return
    for key in LISTS:
        if not judge.counts[key]:
            judge.broken.add(rules.SHAPE, key, "empty" if key in met else "missing")


def _foreign(path: Path, *, json: bool) -> Optional[str]:
    with path.open("rb") as file:
        known = recognised(file.read(HEAD), json=json)
    return f"this is {known}" if known else None


def _place_of(path: Path, at: int) -> str:
    """`line 3, byte 120 (…what stands there…)`."""
    line, done = 1, 0
    with path.open("rb") as file:
        while done < at:
            part = file.read(min(at - done, 1 << 20))
            line += part.count(b"\n")
            done += len(part)
        file.seek(max(0, at - 20))
        around = file.read(40).decode("utf-8", "replace")
    return f"line {line}, byte {at} ({around!r})"


def findings(judge: Judge) -> tuple[Finding, ...]:
    """One finding for each rule that there was something to hold against; roots before what they explain. Of a file
    that is no JSON there is one."""
    counts = judge.broken.counts
    looked_at = {"file": 1, **judge.counts}
    said = [RULES[0]] if judge.fault else [rule for rule in RULES if looked_at[rule.about] or rule.id in counts]
    found = [_finding(rule, judge, looked_at[rule.about]) for rule in said]
    return tuple(sorted(found, key=lambda finding: bool(finding.caused_by)))


def _finding(rule: Rule, judge: Judge, total: int) -> Finding:
    count = judge.broken.counts.get(rule.id, 0)
    docs = f"docs/checks/{rule.id}.md"
    if not count:
        detail = "so it is" if rule.about == "file" else f"{total} {rule.about}"
        fix = Fix(kind="none", summary="")
        return Finding(id=rule.id, status="ok", severity="info", title=rule.title, detail=detail, fix=fix, docs=docs)
    examples = judge.broken.examples[rule.id]
    more = (f"and {count - len(examples)} more",) if len(examples) == EXAMPLES < count else ()
    seen = () if judge.fault else (f"MMPose 1.3.2, given {SUCH[rule.about]}: {rule.seen}",)
    derived = f"; or let --write-fixed do it: {rule.derived}" if rule.derived and not judge.fault else ""
    return Finding(
        id=rule.id,
        status=rule.status,
        severity="error" if rule.status == "fail" else "warning",
        title=rule.title,
        detail=rule.why if rule.about == "file" else f"Not so: {count} of {total} {rule.about}. {rule.why}",
        evidence=(*examples, *more, *seen),
        cause=f"annotations-{rule.id.lower()}",
        caused_by=tuple(root for root in EXPLAINS.get(rule.id, ()) if root in judge.broken.counts),
        fix=Fix(kind="manual", summary=rule.fix + derived),
        docs=docs,
    )


def _described(
    path: Path, judge: Judge, written: Optional[str] = None, changes: tuple[AnnotationChange, ...] = ()
) -> AnnotationFile:
    return AnnotationFile(
        path=str(path),
        bytes=path.stat().st_size,
        images=judge.counts["images"],
        unused=judge.images.unused(),
        annotations=judge.counts["annotations"],
        categories=judge.counts["categories"],
        keypoints=judge.keypoints(),
        written=written,
        changes=changes,
    )
