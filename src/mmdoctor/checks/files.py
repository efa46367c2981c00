"""Checks of what installers leave in site-packages: files, their lists, and remains."""

from __future__ import annotations

from typing import Optional

from mmdoctor import rules
from mmdoctor.checks.base import Check, Verdict, fail, manual, ok, warn
from mmdoctor.matrix_model import Matrix
from mmdoctor.model import Distribution, Facts

BY_HAND = manual("install the named packages again, at these versions")


def files_complete(facts: Facts, matrix: Matrix) -> Optional[Verdict]:
    twins = rules.twins(facts)  # of one listed twice the files are those of the other: that is ENV009's to say
    damaged = [d for d in facts.target.distributions if rules.damage(d) and d.name not in twins]
    if not damaged:
        return ok(f"{len(facts.target.distributions)} distributions, each with its RECORD")
    evidence = [f"{d.name} {d.version}: {rules.damage(d)}" for d in damaged]
    needed = [d for d in damaged if d.name in rules.stack_and_below(facts)]
    detail = f"{len(damaged)} distributions with missing or damaged files, or without RECORD"
    if not needed:
        return warn(detail, "distribution-damaged", *evidence, fix=BY_HAND)
    # Where only the compiled part of mmcv is missing or cut off, its own check says more.
    rests_on = ("MCV002",) if all(_only_ext(d) for d in needed) else ()
    about = () if rests_on else _explains(needed)
    return fail(detail, "distribution-damaged", *evidence, about=about, rests_on=rests_on)


def _only_ext(distribution: Distribution) -> bool:
    files = (*distribution.missing_files, *distribution.damaged_files)
    own = distribution.name in rules.MMCV_NAMES and distribution.record == "present"
    return own and all(file.startswith("mmcv/_ext") for file in files)


def _explains(damaged: list[Distribution]) -> tuple[str, ...]:
    """The packages whose failed imports damaged distributions explain; torch links to what the nvidia ones bring."""
    names = [rules.module_of(d.name) for d in damaged]
    names += ["torch" for d in damaged if d.name.startswith("nvidia-")]
    return tuple(dict.fromkeys(names))


def listed_once(facts: Facts, matrix: Matrix) -> Optional[Verdict]:
    twins = rules.twins(facts)
    if not twins:
        return ok("each distribution is listed once")
    evidence = [f"{name}: {' and '.join(d.version for d in group)}" for name, group in twins.items()]
    needed = twins.keys() & rules.stack_and_below(facts)
    detail = "distributions listed twice: one install went over another that was not removed"
    if not needed:
        return warn(detail, "distribution-twice", *evidence, fix=BY_HAND)
    return fail(detail, "distribution-twice", *evidence, about=tuple(sorted(rules.module_of(name) for name in needed)))


def no_leftovers(facts: Facts, matrix: Matrix) -> Optional[Verdict]:
    if not facts.target.leftovers:
        return ok("no remains of interrupted installs")
    return warn("remains of an interrupted pip install", "install-leftovers", *facts.target.leftovers)


CHECKS = (
    Check(
        id="ENV002",
        title="the packages' files are complete",
        why="A deleted folder, a file without its end or a lost RECORD leaves a package that pip lists and Python "
        "cannot import or uninstall.",
        judge=files_complete,
    ),
    Check(
        id="ENV009",
        title="each distribution is listed once",
        why="An install that was interrupted, or copied over another, leaves the metadata of two versions and files "
        "of both; pip removes one of them, and what is imported is anybody's guess.",
        judge=listed_once,
    ),
    Check(
        id="ENV003",
        title="no remains of interrupted installs",
        why="pip renames a package to ~name while it replaces it; a kill leaves that folder behind.",
        judge=no_leftovers,
    ),
)
