"""Every mmpose with an mmdet and mmengine that accept an mmcv and each other."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, Optional

from mmdoctor import rules
from mmdoctor.candidates.situation import Situation
from mmdoctor.matrix_model import MmcvRow, OpenmmlabRow


class OpenmmlabCandidate(NamedTuple):
    mmpose: OpenmmlabRow
    mmdet: Optional[OpenmmlabRow]
    mmengine: Optional[OpenmmlabRow]
    soft: int


def openmmlab_candidates(world: Situation, mmcv: MmcvRow) -> Iterator[OpenmmlabCandidate]:
    """Every mmpose with an mmdet and mmengine that accept this mmcv and each other. `soft` counts declared ranges
    (`[mim]`) that do not hold; nothing asserts those."""
    major = "0" if world.recipe.family == "mmpose-0" else "1"
    for mmpose in rules.mmlab_rows(world.matrix, "mmpose"):
        if not mmpose.version.startswith(major) or not world.allows("mmpose", mmpose.version):
            continue
        if not _accepts(world, mmpose, mmcv):
            continue
        for mmdet in _mmdets(world, mmpose, mmcv):
            for mmengine in _mmengines(world, mmpose, mmdet):
                soft = _soft(mmpose, mmdet, mmengine, mmcv)
                yield OpenmmlabCandidate(mmpose, mmdet, mmengine, soft)
                break  # the rest are only older


def _accepts(world: Situation, row: OpenmmlabRow, mmcv: MmcvRow) -> bool:
    name = f"{row.project} {row.version} with {mmcv.package} {mmcv.version}"
    if row.mmcv_package not in (None, mmcv.package):
        world.reject(name, "generation", f"{row.mmcv_package} {row.mmcv}", mmcv.package, "of the other generation")
        return False
    if not rules.within(mmcv.version, row.mmcv):
        why = f"{row.project} asserts it at import"
        world.reject(name, "mmcv-range", f"{mmcv.package} {row.mmcv}", mmcv.version, why)
        return False
    return True


def _mmdets(world: Situation, mmpose: OpenmmlabRow, mmcv: MmcvRow) -> Iterator[Optional[OpenmmlabRow]]:
    if not mmpose.needs_mmdet and not world.asks_for("mmdet") and "mmdet" not in world.installed:
        yield None
        return
    for mmdet in rules.mmlab_rows(world.matrix, "mmdet"):
        if world.allows("mmdet", mmdet.version) and _accepts(world, mmdet, mmcv):
            yield mmdet


def _mmengines(
    world: Situation, mmpose: OpenmmlabRow, mmdet: Optional[OpenmmlabRow]
) -> Iterator[Optional[OpenmmlabRow]]:
    if mmpose.mmengine is None and not world.asks_for("mmengine"):
        yield None
        return
    rows = rules.mmlab_rows(world.matrix, "mmengine")
    kept = world.installed.get("mmengine") if world.sound("mmengine") else None
    for row in sorted(rows, key=lambda row: row.version != kept):
        ranges = (mmpose.mmengine, mmdet.mmengine if mmdet else None)
        if world.allows("mmengine", row.version) and all(rules.within(row.version, text) for text in ranges):
            yield row


def _soft(mmpose: OpenmmlabRow, mmdet: Optional[OpenmmlabRow], mmengine: Optional[OpenmmlabRow], mmcv: MmcvRow) -> int:
    chosen = {"mmdet": mmdet, "mmengine": mmengine}
    versions = {name: row.version for name, row in chosen.items() if row is not None}
    versions[mmcv.package] = mmcv.version
    declared = [*mmpose.mim.items(), *(mmdet.mim.items() if mmdet else ())]
    return sum(name in versions and not rules.within(versions[name], text) for name, text in declared)
