"""What a choice costs: the weight of a stack, what each part adds to it, and the changes that it means. Pure.

The fields of `Weight` up to `variant_misfit` are sums over the parts, so each part has its share of them; evidence is
of the whole, download counts doublings of a sum, and age is the parts' versions one after the other.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from operator import add
from typing import NamedTuple, Optional

from mmdoctor import rules
from mmdoctor.candidates.mmcv import MmcvCandidate
from mmdoctor.candidates.numeric import NumericCandidate, opencv_stays
from mmdoctor.candidates.openmmlab import OpenmmlabCandidate
from mmdoctor.candidates.situation import Situation
from mmdoctor.candidates.torch import TorchCandidate
from mmdoctor.matrix_model import Matrix
from mmdoctor.model import Change, Distribution

EVIDENCE = ("tested", "tested-elsewhere", "documented", "derived")
ORDER = ("torch", "torchvision", "numpy", "cv2", "mmcv", "xtcocotools", "mmengine", "mmdet", "mmpose", "setuptools")


class Weight(NamedTuple):
    """What a stack costs, compared from the first field on; see docs/design.md for the order. `others_broken` counts
    requirements that stay broken, `changes` what is installed and moves or goes, not what is added: a new environment
    is to get the best, not the least. `download` counts doublings: 2.4 GB and 2.8 GB are the same trouble, and then
    the newer stack is the better one."""

    gpu_left_idle: int
    others_broken: int
    changes: int
    soft_ranges: int
    builds: int
    variant_misfit: int
    evidence: int
    download: int
    build_minutes: float
    age: tuple[float, ...]


class Share(NamedTuple):
    """What a part adds to the fields of `Weight` that are sums. Order is kept under addition, so the least of a sum is
    the sum of the least."""

    gpu_left_idle: int = 0
    others_broken: int = 0
    changes: int = 0
    soft_ranges: int = 0
    builds: int = 0
    variant_misfit: int = 0


def total(*shares: Share) -> Share:
    """The sum of some shares."""
    summed = shares[0]
    for share in shares[1:]:
        summed = Share(*map(add, summed, share))
    return summed


@cache
def age(*versions: Optional[str]) -> tuple[float, ...]:
    """Negated versions, four numbers each, so that newer is cheaper; a part that is not there is the oldest."""
    return tuple(-float(n) for text in versions for n in (*rules.order(text or "0").release, 0, 0, 0, 0)[:4])


# -------------------------------------------------------------------------------------------------------- evidence


@rules.remembered
def _brought_up(matrix: Matrix) -> dict[tuple[Optional[str], ...], frozenset[str]]:
    """The Python minors on which a combination came up: torch minor, mmcv, mmpose, mmdet, NumPy generation."""
    found: dict[tuple[Optional[str], ...], frozenset[str]] = {}
    for row in matrix.stacks:
        if row.outcome == "works":
            generation = rules.numpy_generation(row.numpy)
            key = (rules.minor(row.torch), row.mmcv_package, row.mmcv, row.mmpose, row.mmdet, generation)
            found[key] = found.get(key, frozenset()) | {rules.minor(row.python)}
    return found


@rules.remembered
def _torches_brought_up(matrix: Matrix) -> dict[Optional[str], frozenset[str]]:
    found: dict[Optional[str], frozenset[str]] = {}
    for key, pythons in _brought_up(matrix).items():
        found[key[0]] = found.get(key[0], frozenset()) | pythons
    return found


def _rank(world: Situation, pythons: frozenset[str]) -> int:
    here = rules.minor(world.python) in pythons
    return EVIDENCE.index("tested") if here else EVIDENCE.index("tested-elsewhere")


def evidence(world: Situation, torch: TorchCandidate, mmcv: MmcvCandidate, lab: OpenmmlabCandidate, numpy: str) -> int:
    """The index in EVIDENCE: `tested` if this torch minor with this mmcv, mmdet, mmpose and NumPy generation was really
    brought up on this Python, `tested-elsewhere` if on another one (all of them on Linux x86_64); `documented` if the
    mmcv wheel for it is published; else `derived`."""
    mmdet = lab.mmdet.version if lab.mmdet else None
    key = (rules.minor(torch.row.release), mmcv.row.package, mmcv.row.version, lab.mmpose.version, mmdet, numpy)
    pythons = _brought_up(world.matrix).get(key) if world.measured_here else None
    if pythons:
        return _rank(world, pythons)
    return EVIDENCE.index("documented" if mmcv.artefact.kind == "wheel" else "derived")


def best_evidence(world: Situation, release: str) -> int:
    """The best that any stack with this torch can have."""
    pythons = _torches_brought_up(world.matrix).get(rules.minor(release)) if world.measured_here else None
    return _rank(world, pythons) if pythons else EVIDENCE.index("documented")


# -------------------------------------------------------------------------------------- the user's other packages


def others(world: Situation, name: str, version: Optional[str]) -> Share:
    """What this version of a part means for packages outside the stack: one that can move does (`rest.settle`), which
    is a change; what cannot, and what the stack needs and is broken already, stays broken."""
    if version is None:
        return Share()
    broken = [want for want in world.foreign.get(name, ()) if not rules.within(version, want.specifier)]
    moves = sum(want.held and want.moves for want in broken)
    return Share(others_broken=sum((want.held or want.needed) for want in broken) - moves, changes=moves)


# --------------------------------------------------------------------------------------------------------- changes


def torch_changes(world: Situation, torch: TorchCandidate) -> Iterator[Change]:
    """What torch and torchvision mean for what is installed."""
    installed, target, variant = world.installed, world.facts.target, torch.choice.variant
    if not torch.keep_torch:
        old = target.torch.version if target.torch else installed.get("torch")
        new = f"{torch.choice.version}+{variant}"
        yield Change(name="torch", old=old, new=new, why=world.fault("torch") or "")
    if not torch.keep_torchvision and torch.torchvision:
        old = target.torchvision_build or installed.get("torchvision")
        why = world.fault("torchvision") or "compiled for the torch it stands beside"
        yield Change(name="torchvision", old=old, new=f"{torch.torchvision}+{variant}", why=why)


def mmcv_changes(world: Situation, mmcv: MmcvCandidate) -> Iterator[Change]:
    """What mmcv means: itself, and the others that own its folder."""
    built = {"build": "compiled", "cached": "compiled earlier", "wheel": "prebuilt"}
    artefact, package = mmcv.artefact, mmcv.row.package
    why = f"{built.get(artefact.kind)}: {artefact.reason}"
    yield from _change(world, package, mmcv.row.version, artefact.kind == "installed", why)
    yield from _gone(world, package)


def lab_changes(world: Situation, package: str, lab: OpenmmlabCandidate) -> Iterator[Change]:
    """What mmengine, mmdet and mmpose mean, under the names that they have in the family of this mmcv."""
    family = rules.family_of(package)
    for name, row in ((family.mmengine, lab.mmengine), (family.mmdet, lab.mmdet), ("mmpose", lab.mmpose)):
        if row is not None:
            yield from _change(world, name, row.version, world.sound(name) and not world.doubled(name))
        if name != "mmpose":
            yield from _gone(world, name)


def numeric_changes(world: Situation, number: NumericCandidate) -> Iterator[Change]:
    """What NumPy and what is bound to it mean."""
    built = {"build": "compiled", "cached": "compiled earlier", "wheel": "prebuilt"}
    opencv, artefact = number.opencv, number.artefact
    yield from _change(world, "numpy", number.numpy, world.sound("numpy", "numpy"))
    yield from _change(world, opencv.name, opencv.version, opencv_stays(world, opencv.name, number.numpy))
    why = f"{built.get(artefact.kind)} for numpy {number.numpy}: {artefact.reason}"
    yield from _change(world, "xtcocotools", number.xtcocotools, artefact.kind == "installed", why)
    yield from _gone(world, opencv.name)
    yield from _bound(world, number.numpy)


def tool_changes(world: Situation, setuptools: str) -> Iterator[Change]:
    """What setuptools means."""
    return _change(world, "setuptools", setuptools, world.sound("setuptools"), "it still brings pkg_resources")


def mended(world: Situation) -> Iterator[Change]:
    """What is installed again because its files are wrong, whatever is chosen."""
    for name, version in world.mended.items():
        yield Change(name=name, old=version, new=version, why=world.fault(name) or "")


def moved(changes: tuple[Change, ...]) -> int:
    """How many of them concern what is installed."""
    return sum(change.old is not None for change in changes)


def _change(world: Situation, name: str, new: str, stays: bool, why: str = "") -> Iterator[Change]:
    old = world.installed.get(name)
    if old != new or not stays:
        yield Change(name=name, old=old, new=new, why=world.fault(name) or why)


def _gone(world: Situation, stays: str) -> Iterator[Change]:
    """The installed distributions that own the folder of the one that stays."""
    for name in rules.OWNERS[rules.module_of(stays)]:
        if name != stays and name in world.installed:
            yield Change(name=name, old=world.installed[name], new=None, why="it owns the same folder")


def _bound(world: Situation, numpy: str) -> Iterator[Change]:
    """What the stack needs, was built for NumPy 1 and does not say so: its newest release built for NumPy 2."""
    if rules.numpy_generation(numpy) == "1":
        return
    for distribution in world.numpy_1_wheels:
        new = next(_for_numpy_2(world, distribution, numpy), None)
        if new is not None:
            why = f"its wheel {distribution.version} was built for NumPy 1"
            yield Change(name=distribution.name, old=distribution.version, new=new, why=why)


def _for_numpy_2(world: Situation, distribution: Distribution, numpy: str) -> Iterator[str]:
    python = rules.minor(world.python)
    for row in rules.binary_rows(world.matrix, distribution.name):
        here = python in rules.wheel_pythons(row, world.facts.host)
        if row.built_on == "2" and row.withdrawn is None and here and rules.within(numpy, row.numpy):
            yield row.version


def in_order(changes: tuple[Change, ...]) -> tuple[Change, ...]:
    """The stack's parts in the order of their installation, then what is mended, then what goes; each name once."""

    def place(change: Change) -> int:
        module = rules.module_of(change.name)
        return len(ORDER) + 1 if change.new is None else ORDER.index(module) if module in ORDER else len(ORDER)

    once = {change.name: change for change in reversed(changes)}
    return tuple(sorted((change for change in changes if once[change.name] is change), key=place))
