"""What a check is: a row with a stable code, and a pure function from facts and matrix to a verdict."""

from __future__ import annotations

from typing import Callable, Optional

from mmdoctor.matrix_model import Matrix
from mmdoctor.model import Facts, Fix, ImportResult, Status, Value

AUTO = Fix(kind="auto", summary="mmdoctor fix --apply")
NOTHING = Fix(kind="none", summary="")


def manual(summary: str) -> Fix:
    """A fix that mmdoctor cannot do itself; says what to do."""
    return Fix(kind="manual", summary=summary)


class Verdict(Value, frozen=True, kw_only=True):
    """What a check says. `about`: the top-level packages whose failed imports this verdict explains. `failed`: the
    import that it reports, so that a deeper root can be found in its traceback. `rests_on`: the checks that explain
    this verdict where they fail, the likeliest first. `concerns`: one tuple of packages for each thing it says; where
    another check explains a package of each of them, those checks explain this verdict."""

    status: Status
    detail: str
    evidence: tuple[str, ...] = ()
    cause: Optional[str] = None
    about: tuple[str, ...] = ()
    failed: Optional[ImportResult] = None
    rests_on: tuple[str, ...] = ()
    concerns: tuple[tuple[str, ...], ...] = ()
    needed: bool = True
    fix: Fix = AUTO


class Check(Value, frozen=True, kw_only=True):
    """`why` says what goes wrong when the check fails, for the docs. `judge` returns None where it does not apply."""

    id: str
    title: str
    why: str
    judge: Callable[[Facts, Matrix], Optional[Verdict]]


def ok(detail: str, *evidence: str) -> Verdict:
    """Looked, and it is fine."""
    return Verdict(status="ok", detail=detail, evidence=evidence, fix=NOTHING)


def fail(
    detail: str,
    cause: str,
    *evidence: str,
    about: tuple[str, ...] = (),
    rests_on: tuple[str, ...] = (),
    fix: Fix = AUTO,
) -> Verdict:
    """Looked, and it is broken."""
    return Verdict(
        status="fail", detail=detail, cause=cause, evidence=evidence, about=about, rests_on=rests_on, fix=fix
    )


def warn(
    detail: str,
    cause: Optional[str],
    *evidence: str,
    rests_on: tuple[str, ...] = (),
    concerns: tuple[tuple[str, ...], ...] = (),
    fix: Fix = AUTO,
) -> Verdict:
    """Works, but will not for long, or not well."""
    return Verdict(
        status="warn", detail=detail, cause=cause, evidence=evidence, rests_on=rests_on, concerns=concerns, fix=fix
    )


def skip(detail: str, *, needed: bool = True) -> Verdict:
    """Could not look (`needed`: then the environment is not healthy, only undetermined), or does not apply."""
    return Verdict(status="skip", detail=detail, needed=needed, fix=NOTHING)


def not_imported(detail: str) -> Verdict:
    """Installed, but nobody tried to import it (`--quick`, or pretended): not asked for, and not passed either."""
    return skip(f"{detail}, not imported", needed=False)


# What the steps do that are no plain imports.
DEEDS = {
    "mmcv.ops": "running nms",
    "registry": "looking up RTMPose's parts",
    "torch.numpy": "handing a NumPy array to torch",
}


def deed(result: ImportResult) -> str:
    """What was tried: `import mmdet`, or in words."""
    return DEEDS.get(result.module, f"import {result.module}")


def import_evidence(result: ImportResult) -> tuple[str, ...]:
    """The lines that show a failed import."""
    said = f"{result.error}: {result.message}" if result.error else result.message or result.status
    through = (f"raised in: {' → '.join(result.packages)}",) if result.packages else ()
    return (f"{deed(result)}: {said}".splitlines()[0], *through)


def failed_import(result: ImportResult, cause: str, about: tuple[str, ...]) -> Verdict:
    """The verdict on an import that did not end well; the cause may be narrowed by the caller."""
    how = {"timeout": "hangs", "crash": "crashes the interpreter"}.get(result.status, "fails")
    return Verdict(
        status="skip" if result.status == "skipped" else "fail",
        detail=f"{deed(result)} {how}" if result.status != "skipped" else str(result.message),
        evidence=import_evidence(result),
        cause=None if result.status == "skipped" else cause,
        about=about,
        failed=result,
        fix=NOTHING if result.status == "skipped" else AUTO,
    )
