"""Which families of distributions a request may take, and what it says about their versions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Optional

from msgspec.structs import replace

from mmdoctor import rules
from mmdoctor.candidates.situation import Situation, whose
from mmdoctor.model import Request


def families(world: Situation) -> Iterator[rules.Family]:
    """The families for the recipe: OpenMMLab's own, and a fork only where the user names it or has it installed."""
    for family in rules.FAMILIES:
        if family.recipe != world.recipe.family:
            continue
        if family.by_name and not any(n in world.installed or world.asks_for(n) for n in family.distributions):
            continue
        if all(world.alone(name, _rivals(family, name)) for name in family.distributions):
            yield family


def forks(request: Request) -> Iterator[tuple[rules.Family, Request]]:
    """The forks that would do for the recipe and that nobody named, each with the request that names it."""
    recipe = request.recipe
    named = {*request.pins, *recipe.packages}
    for family in rules.FAMILIES:
        if family.by_name and family.recipe == recipe.family and named.isdisjoint(family.distributions):
            packages = {**recipe.packages, family.mmcv: ""}
            yield family, replace(request, recipe=replace(recipe, packages=packages))


def _rivals(family: rules.Family, name: str) -> tuple[str, ...]:
    """The distributions that exclude this one where they are asked for. Of a fork not the project's own: `mmcv>=2` is a
    word about the module, which the fork brings too."""
    module = rules.module_of(name)
    owners = rules.OWNERS[module]
    return tuple(owner for owner in owners if owner != module) if family.by_name else owners


def allowed(world: Situation, name: str, version: str, withdrawn: Optional[str]) -> bool:
    """Whether every constraint on a distribution holds, and on the module that it brings; if not, it is rejected, as
    what is withdrawn (see `Situation.allows`)."""
    module = rules.module_of(name)
    for want in world.wanted if module != name else ():
        if want.name == module and not rules.within(version, want.specifier):
            asked, why = f"{module}{want.specifier}", f"{want.who} asked for it"
            without = f"without {whose(want.who)} {asked}"
            world.reject(f"{name} {version}", "constraint", asked, version, why, unlocked=without)
            return False
    return world.allows(name, version, withdrawn)
