"""Chooses the stack: couples the candidates of each part and takes the cheapest whole. Pure and exact.

The parts meet in few places (mmcv beside torch; mmdet and mmpose around mmcv; NumPy under torch), so each coupling is
enumerated in full and nothing is pruned by guess.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, Optional

import msgspec
from packaging.requirements import InvalidRequirement, Requirement

from mmdoctor import rules
from mmdoctor.candidates import (
    MEGABYTE,
    MmcvCandidate,
    NumericCandidate,
    OpenmmlabCandidate,
    Situation,
    TorchCandidate,
    mmcv_candidates,
    numeric_candidates,
    openmmlab_candidates,
    torch_candidates,
)
from mmdoctor.matrix_model import Matrix
from mmdoctor.model import (
    BinaryChoice,
    Change,
    Cost,
    Facts,
    MmcvChoice,
    Request,
    Resolution,
    Stack,
)

EVIDENCE = ("tested", "documented", "derived")
SETUPTOOLS_WITH_PKG_RESOURCES = "<82"
OTHER_PYTHONS = ("3.11", "3.10", "3.9", "3.12", "3.8", "3.13", "3.7")


class Weight(NamedTuple):
    """What a stack costs, compared from the first field on; see docs/design.md for the order."""

    gpu_left_idle: int
    others_broken: int
    changes: int
    soft_ranges: int
    builds: int
    variant_misfit: int
    evidence: int
    download_mb: int
    build_minutes: float
    age: tuple[float, ...]


class Solution(NamedTuple):
    weight: Weight
    stack: Stack
    changes: tuple[Change, ...]
    torch: TorchCandidate


def resolve(facts: Facts, matrix: Matrix, request: Request) -> Resolution:
    """The cheapest stack that holds under every rule, with every rejection; without one, what excludes what.

    An existing environment keeps what works: fewest changes first, then the cheapest. A new one gets the best measured.
    """
    world = Situation(facts, matrix, request)
    best = min(_solutions(world), key=lambda solution: solution.weight, default=None)
    rejected = tuple(world.rejected.values())
    if best is None:
        conflict = _conflict(facts, matrix, request)
        nothing = Cost(download_bytes=0, build_minutes=0.0)
        return Resolution(stack=None, changes=(), rejected=rejected, assumptions=(), cost=nothing, conflict=conflict)
    cost = Cost(
        download_bytes=best.weight.download_mb * MEGABYTE,
        build_minutes=best.weight.build_minutes,
    )
    return Resolution(
        stack=best.stack,
        changes=best.changes,
        rejected=rejected,
        assumptions=_assumptions(world, best),
        cost=cost,
    )


def _solutions(world: Situation) -> Iterator[Solution]:
    numeric = dict.fromkeys(("1", "2"), ())  # type: dict[str, tuple[NumericCandidate, ...]]
    around: dict[str, tuple[OpenmmlabCandidate, ...]] = {}
    for torch in torch_candidates(world):
        for mmcv in mmcv_candidates(world, torch):
            if mmcv.row.version not in around:
                around[mmcv.row.version] = tuple(openmmlab_candidates(world, mmcv.row))
            if not around[mmcv.row.version]:
                continue
            if not numeric[torch.row.numpy]:
                numeric[torch.row.numpy] = tuple(numeric_candidates(world, torch.row))
            for lab in around[mmcv.row.version]:
                for number in numeric[torch.row.numpy]:
                    yield _solution(world, torch, mmcv, lab, number)


def _solution(
    world: Situation, torch: TorchCandidate, mmcv: MmcvCandidate, lab: OpenmmlabCandidate, number: NumericCandidate
) -> Solution:
    stack = Stack(
        python=world.python,
        torch=torch.choice,
        torchvision=torch.torchvision,
        mmcv=MmcvChoice(name=mmcv.row.package, version=mmcv.row.version, artefact=mmcv.artefact),
        mmengine=lab.mmengine.version if lab.mmengine else None,
        mmdet=lab.mmdet.version if lab.mmdet else None,
        mmpose=lab.mmpose.version,
        numpy=number.numpy,
        xtcocotools=BinaryChoice(version=number.xtcocotools, artefact=number.artefact),
        opencv=number.opencv,
        setuptools=_setuptools(world, torch, mmcv),
        evidence=_evidence(world, torch, mmcv, lab, number),  # type: ignore[arg-type]
    )
    changes = _changes(world, stack, torch)
    cpu = torch.choice.variant == "cpu"
    weight = Weight(
        gpu_left_idle=int(world.has_gpu and cpu),
        others_broken=_others_broken(world, stack),
        changes=len(changes),
        soft_ranges=lab.soft,
        builds=(mmcv.artefact.kind == "build") + (number.artefact.kind == "build"),
        variant_misfit=int(not world.has_gpu and not cpu),
        evidence=EVIDENCE.index(stack.evidence),
        download_mb=torch.download_mb + mmcv.download_mb + number.download_mb,
        build_minutes=round(mmcv.minutes + number.minutes, 1),
        age=_age(stack),
    )
    return Solution(weight, stack, changes, torch)


def _setuptools(world: Situation, torch: TorchCandidate, mmcv: MmcvCandidate) -> str:
    """The setuptools that stays in the environment: it must build what is built, and keep pkg_resources for mmengine."""
    tools = rules.build_tools(world.matrix, torch.row.release)
    installed = world.installed.get("setuptools")
    pin = tools.setuptools_pin if tools else "69.5.1"
    if installed is None or not rules.within(installed, SETUPTOOLS_WITH_PKG_RESOURCES):
        return pin
    if mmcv.artefact.kind == "build" and tools is not None and not rules.within(installed, tools.setuptools):
        return pin
    return installed if rules.within(installed, torch.row.setuptools) else pin


def _evidence(
    world: Situation, torch: TorchCandidate, mmcv: MmcvCandidate, lab: OpenmmlabCandidate, number: NumericCandidate
) -> str:
    """`tested` if this torch minor with this mmcv, mmdet, mmpose and NumPy generation was really brought up on this
    Python; `documented` if the mmcv wheel for it is published; else `derived` from rules."""
    for row in world.matrix.stacks:
        same = (
            row.outcome == "works"
            and rules.minor(row.python) == rules.minor(world.python)
            and rules.minor(row.torch) == rules.minor(torch.row.release)
            and row.mmcv == mmcv.row.version
            and row.mmpose == lab.mmpose.version
            and row.mmdet == (lab.mmdet.version if lab.mmdet else None)
            and rules.numpy_generation(row.numpy) == rules.numpy_generation(number.numpy)
        )
        if same:
            return "tested"
    return "documented" if mmcv.artefact.kind == "wheel" else "derived"


def _age(stack: Stack) -> tuple[float, ...]:
    """Negated versions, so that newer is cheaper; torch first, then the rest by how much they matter."""
    texts = (
        stack.torch.version,
        stack.mmpose,
        stack.mmdet or "0",
        stack.mmcv.version,
        stack.numpy,
        stack.opencv.version,
    )
    return tuple(-float(number) for text in texts for number in (*rules.order(text).release, 0, 0, 0, 0)[:4])


def _changes(world: Situation, stack: Stack, torch: TorchCandidate) -> tuple[Change, ...]:
    """What differs from what is installed, the stack's parts in their order, then what has to go."""
    installed, target = world.installed, world.facts.target
    changes: list[Change] = []
    if not torch.keep_torch:
        old = target.torch.version if target.torch else installed.get("torch")
        changes.append(Change(name="torch", old=old, new=f"{stack.torch.version}+{stack.torch.variant}"))
    if not torch.keep_torchvision and stack.torchvision:
        old = target.torchvision_build or installed.get("torchvision")
        why = "compiled for the torch it stands beside"
        changes.append(Change(name="torchvision", old=old, new=f"{stack.torchvision}+{stack.torch.variant}", why=why))
    built = {"build": "compiled", "cached": "compiled earlier", "wheel": "prebuilt"}
    mmcv, xtcocotools = stack.mmcv.artefact, stack.xtcocotools.artefact
    parts = (
        ("numpy", stack.numpy, world.sound("numpy", "numpy"), ""),
        (stack.opencv.name, stack.opencv.version, world.sound(stack.opencv.name, "cv2"), ""),
        (stack.mmcv.name, stack.mmcv.version, mmcv.kind == "installed", f"{built.get(mmcv.kind)}: {mmcv.reason}"),
        (
            "xtcocotools",
            stack.xtcocotools.version,
            xtcocotools.kind == "installed",
            f"{built.get(xtcocotools.kind)} for numpy {stack.numpy}: {xtcocotools.reason}",
        ),
        ("mmengine", stack.mmengine, world.sound("mmengine"), ""),
        ("mmdet", stack.mmdet, world.sound("mmdet"), ""),
        ("mmpose", stack.mmpose, world.sound("mmpose"), ""),
        ("setuptools", stack.setuptools, True, "it still brings pkg_resources"),
    )
    for name, new, sound, why in parts:
        if new is not None and not (installed.get(name) == new and sound):
            changes.append(Change(name=name, old=installed.get(name), new=new, why=why))
    doubles = (*(name for name in rules.MMCV_NAMES if name != stack.mmcv.name), *rules.OPENCV_NAMES)
    for name in doubles:
        if name in installed and name != stack.opencv.name:
            changes.append(Change(name=name, old=installed[name], new=None, why="it owns the same folder"))
    return tuple(changes)


def _others_broken(world: Situation, stack: Stack) -> int:
    """How many requirements of packages outside the stack hold now and would not hold any more."""
    new = {
        "torch": stack.torch.version,
        "torchvision": stack.torchvision,
        "numpy": stack.numpy,
        "setuptools": stack.setuptools,
        stack.opencv.name: stack.opencv.version,
    }
    broken = 0
    for name, specifier in _foreign_requirements(world):
        have, get = world.installed.get(name), new.get(name)
        if get and have and rules.within(have, specifier) and not rules.within(get, specifier):
            broken += 1
    return broken


def _foreign_requirements(world: Situation) -> tuple[tuple[str, str], ...]:
    cached: Optional[tuple[tuple[str, str], ...]] = world.__dict__.get("foreign_requirements")
    if cached is not None:
        return cached
    coupled = {"torch", "torchvision", "numpy", "setuptools", *rules.OPENCV_NAMES}
    ours = {
        "torch",
        "torchvision",
        "xtcocotools",
        "mmengine",
        "mmdet",
        "mmpose",
        *rules.MMCV_NAMES,
        *rules.OPENCV_NAMES,
    }
    found = []
    for distribution in world.facts.target.distributions:
        for text in distribution.requires if distribution.name not in ours else ():
            try:
                requirement = Requirement(text)
            except InvalidRequirement:
                continue  # old metadata that pip itself ignores
            if requirement.name in coupled and str(requirement.specifier) and "extra" not in str(requirement.marker):
                found.append((requirement.name, str(requirement.specifier)))
    world.__dict__["foreign_requirements"] = tuple(found)
    return tuple(found)


def _assumptions(world: Situation, best: Solution) -> tuple[str, ...]:
    said = [f"pretended: {key}" for key in world.facts.pretended]
    stack = best.stack
    used = {"pypi"}
    if stack.mmcv.artefact.kind == "wheel":
        used.add("openmmlab")
    if stack.torch.index.startswith("http"):
        used.add("torch")
    for index in world.facts.indexes:
        if index.name in used and index.reachable is not True and index.reachable is not False:
            said.append(f"{index.url} answers (not looked at: {index.reachable.unknown})")
    if not world.has_gpu and stack.torch.variant != "cpu" and not best.torch.keep_torch:
        size = best.torch.download_mb / 1000
        asked = world.index("torch")
        silent = asked is not None and asked.reachable is False
        why = f" because {asked.url} does not answer ({asked.reason})" if asked and silent else ""
        runs = f"torch's {stack.torch.variant} build runs on the CPU too and is taken{why}"
        said.append(f"there is no GPU here; {runs}: {size:.1f} GB")
    if best.weight.soft_ranges:
        said.append("a range that a [mim] extra only declares does not hold; nothing asserts it at import")
    if best.weight.others_broken:
        said.append(f"{best.weight.others_broken} requirements of your other packages will not hold any more")
    return tuple(said)


# ------------------------------------------------------------------------------------------------- when nothing fits


def _conflict(facts: Facts, matrix: Matrix, request: Request) -> str:
    """Which single constraint, or which Python, stands in the way, and what would be chosen without it."""
    recipe = request.recipe
    said = []
    for name in request.pins:
        pins = {key: value for key, value in request.pins.items() if key != name}
        loose = _try(facts, matrix, msgspec.structs.replace(request, pins=pins))
        said += (
            [f"your pin {name}=={request.pins[name]} excludes every stack; without it {_short(loose)}"] if loose else []
        )
    for name, text in recipe.packages.items():
        rest = {key: value for key, value in recipe.packages.items() if key != name}
        loose = _try(
            facts, matrix, msgspec.structs.replace(request, recipe=msgspec.structs.replace(recipe, packages=rest))
        )
        said += (
            [f"{recipe.name} wants {name}{text}, which no stack here has; without it {_short(loose)}"] if loose else []
        )
    if request.torch_variants or recipe.torch_variant:
        free = msgspec.structs.replace(recipe, torch_variant=None)
        loose = _try(facts, matrix, msgspec.structs.replace(request, torch_variants=(), recipe=free))
        asked = ", ".join(request.torch_variants) or recipe.torch_variant
        said += [f"the torch variant {asked} excludes every stack; without it {_short(loose)}"] if loose else []
    if not request.allow_build:
        loose = _try(facts, matrix, msgspec.structs.replace(request, allow_build=True))
        if loose:
            said.append(
                f"--no-build excludes every stack; with a compile of {loose.cost.build_minutes:g} minutes {_short(loose)}"
            )
    for python in OTHER_PYTHONS:
        if python != rules.minor(facts.target.python):
            target = msgspec.structs.replace(facts.target, python=f"{python}.0", distributions=(), torch=None)
            loose = _try(msgspec.structs.replace(facts, target=target, wheels=()), matrix, request)
            if loose:
                said.append(f"with Python {python} {_short(loose)}")
                break
    return "; ".join(said) or "no single constraint explains it: see the rejections"


def _try(facts: Facts, matrix: Matrix, request: Request) -> Optional[Resolution]:
    world = Situation(facts, matrix, request)
    best = min(_solutions(world), key=lambda solution: solution.weight, default=None)
    if best is None:
        return None
    cost = Cost(download_bytes=0, build_minutes=best.weight.build_minutes)
    return Resolution(stack=best.stack, changes=best.changes, rejected=(), assumptions=(), cost=cost)


def _short(resolution: Optional[Resolution]) -> str:
    stack = resolution.stack if resolution else None
    if stack is None:
        return "nothing fits either"
    return (
        f"torch {stack.torch.version}+{stack.torch.variant}, {stack.mmcv.name} {stack.mmcv.version}, "
        f"mmpose {stack.mmpose}, numpy {stack.numpy} would do"
    )
