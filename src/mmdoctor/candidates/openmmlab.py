"""Every mmpose with an mmdet and mmengine that accept an mmcv and each other."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, Optional

from mmdoctor import rules
from mmdoctor.candidates.families import allowed
from mmdoctor.candidates.situation import Situation
from mmdoctor.matrix_model import MmcvRow, OpenmmlabRow


class OpenmmlabCandidate(NamedTuple):
    mmpose: OpenmmlabRow
    mmdet: Optional[OpenmmlabRow]
    mmengine: Optional[OpenmmlabRow]
    soft: int


def openmmlab_candidates(world: Situation, mmcv: MmcvRow) -> tuple[OpenmmlabCandidate, ...]:
    """Every mmpose with an mmdet and mmengine that accept this mmcv and each other. `soft` counts declared ranges
    (`[mim]`) that do not hold; nothing asserts those. Worked out once per matrix for what bears on it."""
    key = (openmmlab_candidates, world.about_labs, mmcv.package, mmcv.version)
    return world.shared(key, lambda alone: tuple(_candidates(alone, mmcv)))


def ranges_around(world: Situation) -> dict[tuple[str, str], frozenset[str]]:
    """Each mmcv (package, version) around which something can stand, with the ranges of xtcocotools that this wants.
    Worked out once per matrix, as the candidates are."""
    return world.shared((ranges_around, world.about_labs), _ranges_around)


def _ranges_around(world: Situation) -> dict[tuple[str, str], frozenset[str]]:
    found: dict[tuple[str, str], frozenset[str]] = {}
    for family in rules.FAMILIES:
        for row in rules.mmcv_rows(world.matrix, family.mmcv) if family.recipe == world.recipe.family else ():
            poses = {lab.mmpose.version for lab in openmmlab_candidates(world, row)}
            if poses:
                texts = frozenset(rules.xtcocotools_of(world.matrix, version) for version in poses)
                found[row.package, row.version] = texts
    return found


def _candidates(world: Situation, mmcv: MmcvRow) -> Iterator[OpenmmlabCandidate]:
    major = "0" if world.recipe.family == "mmpose-0" else "1"
    for mmpose in rules.mmlab_rows(world.matrix, "mmpose"):
        if not mmpose.version.startswith(major) or not world.allows("mmpose", mmpose.version, mmpose.withdrawn):
            continue
        if not _accepts(world, mmpose, mmcv):
            continue
        for mmdet in _mmdets(world, mmpose, mmcv):
            for mmengine in _mmengines(world, mmpose, mmdet, rules.family_of(mmcv.package).mmengine):
                soft = _soft(mmpose, mmdet, mmengine, mmcv)
                yield OpenmmlabCandidate(mmpose, mmdet, mmengine, soft)
                if soft == _soft(mmpose, mmdet, None, mmcv):
                    break  # the rest are only older


def _accepts(world: Situation, row: OpenmmlabRow, mmcv: MmcvRow) -> bool:
    if row.mmcv_package not in (None, rules.family_of(mmcv.package).stands_for):
        name, wanted = (
            f"{row.project} {row.version} with {mmcv.package} {mmcv.version}",
            f"{row.mmcv_package} {row.mmcv}",
        )
        world.reject(name, "generation", wanted, mmcv.package, "of the other generation", row.source)
        return False
    if not rules.within(mmcv.version, row.mmcv):
        name = f"{row.project} {row.version} with {mmcv.package} {mmcv.version}"
        why = f"{row.project} asserts it at import"
        world.reject(name, "mmcv-range", f"{row.mmcv_package} {row.mmcv}", mmcv.version, why, row.source)
        return False
    return True


def _mmdets(world: Situation, mmpose: OpenmmlabRow, mmcv: MmcvRow) -> Iterator[Optional[OpenmmlabRow]]:
    named = any(world.asks_for(name) or name in world.installed for name in rules.OWNERS["mmdet"])
    if not mmpose.needs_mmdet and not named:
        yield None
        return
    for mmdet in rules.mmlab_rows(world.matrix, rules.family_of(mmcv.package).mmdet):
        if allowed(world, mmdet.project, mmdet.version, mmdet.withdrawn) and _accepts(world, mmdet, mmcv):
            yield mmdet


def _mmengines(
    world: Situation, mmpose: OpenmmlabRow, mmdet: Optional[OpenmmlabRow], name: str
) -> Iterator[Optional[OpenmmlabRow]]:
    if mmpose.mmengine is None and not world.asks_for(name):
        yield None
        return
    rows = rules.mmlab_rows(world.matrix, name)
    kept = world.installed.get(name) if world.sound(name) else None
    for row in sorted(rows, key=lambda row: row.version != kept):
        ranges = (mmpose.mmengine, mmdet.mmengine if mmdet else None)
        fits = all(rules.within(row.version, text) for text in ranges)
        if allowed(world, name, row.version, row.withdrawn) and fits:
            yield row


def _soft(mmpose: OpenmmlabRow, mmdet: Optional[OpenmmlabRow], mmengine: Optional[OpenmmlabRow], mmcv: MmcvRow) -> int:
    versions: dict[str, str] = {row.project: row.version for row in (mmdet, mmengine) if row is not None}
    versions[mmcv.package] = mmcv.version
    if rules.family_of(mmcv.package).by_name:  # what mmpose declares of mmdet holds for the fork's mmdet, too
        versions |= {rules.module_of(name): version for name, version in versions.items()}
    declared = [*mmpose.mim.items(), *(mmdet.mim.items() if mmdet else ())]
    return sum(name in versions and not rules.within(versions[name], text) for name, text in declared)
