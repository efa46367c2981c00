"""The first stages of a plan: what is thrown away, and what is installed again at its version. Pure.

Installers remove what a RECORD lists. What has none, is listed twice or belongs to nobody stands in their way or stays
behind under the new files, so the plan names each such path, and only those.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Optional

from mmdoctor import rules
from mmdoctor.model import Change, Facts, Stage, Step

UV = ("uv", "pip", "install", "--python", "{python}")


def in_the_way(facts: Facts, changes: tuple[Change, ...]) -> dict[str, str]:
    """Paths below the environment's prefix that the plan deletes, as `{env}/…`, each with its why."""
    prefix = facts.target.prefix.rstrip("/")
    found = dict(_paths(facts, {change.name for change in changes}))
    inside = {path: why for path, why in found.items() if prefix and path.startswith(f"{prefix}/")}
    return {f"{{env}}{path[len(prefix) :]}": why for path, why in inside.items()}


def _paths(facts: Facts, changed: set[str]) -> Iterator[tuple[str, str]]:
    target = facts.target
    for leftover in target.leftovers:
        yield leftover, "pip renamed it to remove it and was interrupted"
    for result in facts.imports:
        if "bytecode" in result.data:
            yield result.data["bytecode"].rsplit("/", 1)[0], "damaged bytecode; Python writes it anew"
    twins = rules.twins(facts)
    owned = {rules.module_of(d.name) for d in target.distributions}
    for d in target.distributions:
        if d.name not in changed or not d.info or (d.record != "missing" and d.name not in twins):
            continue
        why = "listed twice" if d.name in twins else "without RECORD no installer can remove it"
        yield f"{d.folder}/{d.info}", why
        if rules.module_of(d.name) in target.modules:
            yield f"{target.site_packages}/{rules.module_of(d.name)}", f"its files; {why}"
    for name in sorted(changed):
        module = rules.module_of(name)
        if module in target.modules and module not in owned:
            yield f"{target.site_packages}/{module}", "no distribution owns it, and the package is installed here"


def removals(facts: Facts, changes: tuple[Change, ...]) -> Optional[Stage]:
    """The stage that deletes what is in the way and uninstalls what goes; None where nothing does."""
    paths = in_the_way(facts, changes)
    why = "; ".join(f"{path.rsplit('/', 1)[1]}: {why}" for path, why in paths.items())
    gone = [d.name for d in facts.target.distributions if f"{d.folder}/{d.info}" in _prefixed(facts, paths)]
    names = tuple(change.name for change in changes if change.new is None and change.name not in gone)
    steps = []
    if paths:
        steps.append(Step(argv=("rm", "-rf", *paths), why=why))
    if names:
        argv = ("uv", "pip", "uninstall", "--python", "{python}", *names)
        steps.append(Step(argv=argv, why="they own a folder that another owns"))
    return Stage(id="remove", title="remove what is in the way", steps=tuple(steps)) if steps else None


def _prefixed(facts: Facts, paths: dict[str, str]) -> set[str]:
    return {path.replace("{env}", facts.target.prefix.rstrip("/"), 1) for path in paths}


def mending(changes: tuple[Change, ...]) -> Optional[Stage]:
    """The stage that installs damaged packages besides the stack again, each at its version and nothing else."""
    damaged = [change for change in changes if change.name not in rules.PARTS]
    if not damaged:
        return None
    words = (*again(changes, [change.name for change in damaged]), *(f"{c.name}=={c.new}" for c in damaged))
    why = "; ".join(f"{change.name}: {change.why}" for change in damaged)
    step = Step(argv=(*UV, "--no-deps", *words), why=why)
    return Stage(id="mend", title="install again what is damaged", steps=(step,))


def again(changes: tuple[Change, ...], names: list[str]) -> tuple[str, ...]:
    """uv's options for those of `names` that change and keep their public version: it would leave them as they are."""
    same = [
        change.name
        for change in changes
        if change.name in names and change.old and change.new and rules.public(change.old) == rules.public(change.new)
    ]
    return tuple(part for name in same for part in ("--reinstall-package", name))
