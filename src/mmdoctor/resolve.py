"""Chooses the stack: couples the candidates of each part and takes the cheapest whole. Pure and exact.

The parts meet in few places (mmcv beside torch; mmdet and mmpose around mmcv; NumPy under torch), so each coupling is
enumerated in full and nothing is pruned by guess.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Callable, NamedTuple, Optional

from msgspec.structs import replace

from mmdoctor import rules
from mmdoctor.candidates.mmcv import MmcvCandidate, mmcv_candidates
from mmdoctor.candidates.numeric import NumericCandidate, numeric_candidates, opencv_stays
from mmdoctor.candidates.openmmlab import OpenmmlabCandidate, openmmlab_candidates
from mmdoctor.candidates.situation import MEGABYTE, Situation
from mmdoctor.candidates.torch import TorchCandidate, torch_candidates
from mmdoctor.matrix_model import Matrix
from mmdoctor.model import (
    BinaryChoice,
    Change,
    Cost,
    Facts,
    MmcvChoice,
    Rejection,
    Request,
    Resolution,
    Stack,
    Tool,
    Unknown,
)

EVIDENCE = ("tested", "tested-elsewhere", "documented", "derived")
SETUPTOOLS_WITH_PKG_RESOURCES = "<82"
OTHER_PYTHONS = ("3.11", "3.10", "3.9", "3.12", "3.8", "3.13", "3.7")


class Weight(NamedTuple):
    """What a stack costs, compared from the first field on; see docs/design.md for the order. `changes` counts what
    is installed and moves or goes, not what is added: a new environment is to get the best, not the least. `download`
    counts doublings: 2.4 GB and 2.8 GB are the same trouble, and then the newer stack is the better one."""

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


class Solution(NamedTuple):
    weight: Weight
    stack: Stack
    changes: tuple[Change, ...]
    torch: TorchCandidate
    download_mb: int


def resolve(facts: Facts, matrix: Matrix, request: Request) -> Resolution:
    """The cheapest stack that holds under every rule, with every rejection; without one, what excludes what.

    An existing environment keeps what works: fewest changes first, then the cheapest. A new one gets the best measured.
    """
    world = Situation(facts, matrix, request)
    best = cheapest(world)
    rejected = tuple(world.rejected.values())
    if best is None:
        conflict = _conflict(world)
        nothing = Cost(download_bytes=0, build_minutes=0.0)
        return Resolution(stack=None, changes=(), rejected=rejected, assumptions=(), cost=nothing, conflict=conflict)
    cost = Cost(
        download_bytes=best.download_mb * MEGABYTE,
        build_minutes=best.weight.build_minutes,
    )
    return Resolution(
        stack=best.stack,
        changes=best.changes,
        rejected=rejected,
        assumptions=_assumptions(world, best),
        cost=cost,
    )


def cheapest(world: Situation) -> Optional[Solution]:
    """The solution of the least weight; None when nothing satisfies. Fills `world.rejected`."""
    return min(_solutions(world), key=lambda solution: solution.weight, default=None)


def _solutions(world: Situation) -> Iterator[Solution]:
    numeric = dict.fromkeys(("1", "2"), ())  # type: dict[str, tuple[NumericCandidate, ...]]
    around: dict[str, tuple[OpenmmlabCandidate, ...]] = {}
    for torch in torch_candidates(world):
        for mmcv in mmcv_candidates(world, torch):
            if mmcv.row.version not in around:
                around[mmcv.row.version] = tuple(openmmlab_candidates(world, mmcv.row))
            setuptools = _setuptools(world, torch, mmcv)
            if not around[mmcv.row.version] or setuptools is None:
                continue
            if not numeric[torch.row.numpy]:
                numeric[torch.row.numpy] = tuple(numeric_candidates(world, torch.row))
            for lab in around[mmcv.row.version]:
                for number in numeric[torch.row.numpy]:
                    yield _solution(world, torch, mmcv, lab, number, setuptools)


def _solution(
    world: Situation,
    torch: TorchCandidate,
    mmcv: MmcvCandidate,
    lab: OpenmmlabCandidate,
    number: NumericCandidate,
    setuptools: str,
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
        setuptools=setuptools,
        evidence=_evidence(world, torch, mmcv, lab, number),  # type: ignore[arg-type]
    )
    changes = _changes(world, stack, torch)
    cpu = torch.choice.variant == "cpu"
    download_mb = torch.download_mb + mmcv.download_mb + number.download_mb
    weight = Weight(
        gpu_left_idle=int(world.has_gpu and cpu),
        others_broken=_others_broken(world, stack),
        changes=sum(change.old is not None for change in changes),
        soft_ranges=lab.soft,
        builds=(mmcv.artefact.kind == "build") + (number.artefact.kind == "build"),
        variant_misfit=int(not world.has_gpu and not cpu),
        evidence=EVIDENCE.index(stack.evidence),
        download=download_mb.bit_length(),
        build_minutes=round(mmcv.minutes + number.minutes, 1),
        age=_age(stack),
    )
    return Solution(weight, stack, changes, torch, download_mb)


def _setuptools(world: Situation, torch: TorchCandidate, mmcv: MmcvCandidate) -> Optional[str]:
    """The setuptools of the stack: it keeps pkg_resources for mmengine, and builds what is built. None when the one
    that was asked for does not."""
    tools = rules.build_tools(world.matrix, torch.row.release)
    ranges = [SETUPTOOLS_WITH_PKG_RESOURCES, torch.row.setuptools]
    if mmcv.artefact.kind == "build" and tools is not None:
        ranges.append(tools.setuptools)
    pin = world.request.pins.get("setuptools")
    for version in (world.installed.get("setuptools"), tools.setuptools_pin if tools else "69.5.1", pin):
        if version is None or not world.allows("setuptools", version):
            continue
        broken = [text for text in ranges if not rules.within(version, text)]
        if not broken:
            return version
        why = "mmengine needs its pkg_resources, torch and the builds their range"
        world.reject(f"setuptools {version}", "setuptools", f"setuptools {broken[0]}", version, why)
    return None


def _evidence(
    world: Situation, torch: TorchCandidate, mmcv: MmcvCandidate, lab: OpenmmlabCandidate, number: NumericCandidate
) -> str:
    """`tested` if this torch minor with this mmcv, mmdet, mmpose and NumPy generation was really brought up on this
    Python, `tested-elsewhere` if on another one (all of them on Linux x86_64); `documented` if the mmcv wheel for it
    is published; else `derived`."""
    here = (world.facts.host.os, world.facts.host.machine) == ("linux", "x86_64")
    pythons = {
        rules.minor(row.python)
        for row in (world.matrix.stacks if here else ())
        if row.outcome == "works"
        and rules.minor(row.torch) == rules.minor(torch.row.release)
        and row.mmcv == mmcv.row.version
        and row.mmpose == lab.mmpose.version
        and row.mmdet == (lab.mmdet.version if lab.mmdet else None)
        and rules.numpy_generation(row.numpy) == rules.numpy_generation(number.numpy)
    }
    if pythons:
        return "tested" if rules.minor(world.python) in pythons else "tested-elsewhere"
    return "documented" if mmcv.artefact.kind == "wheel" else "derived"


def _age(stack: Stack) -> tuple[float, ...]:
    """Negated versions, so that newer is cheaper; torch first, then the rest by how much they matter."""
    texts = (
        stack.torch.version,
        stack.torchvision or "0",
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
        build = f"{stack.torch.version}+{stack.torch.variant}"
        changes.append(Change(name="torch", old=old, new=build, why=world.fault("torch") or ""))
    if not torch.keep_torchvision and stack.torchvision:
        old = target.torchvision_build or installed.get("torchvision")
        said = world.fault("torchvision") or "compiled for the torch it stands beside"
        changes.append(Change(name="torchvision", old=old, new=f"{stack.torchvision}+{stack.torch.variant}", why=said))
    built = {"build": "compiled", "cached": "compiled earlier", "wheel": "prebuilt"}
    mmcv, xtcocotools = stack.mmcv.artefact, stack.xtcocotools.artefact
    parts = (
        ("numpy", stack.numpy, world.sound("numpy", "numpy"), ""),
        (stack.opencv.name, stack.opencv.version, opencv_stays(world, stack.opencv.name, stack.numpy), ""),
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
        ("setuptools", stack.setuptools, world.sound("setuptools"), "it still brings pkg_resources"),
    )
    for name, new, sound, why in parts:
        if new is not None and not (installed.get(name) == new and sound):
            changes.append(Change(name=name, old=installed.get(name), new=new, why=world.fault(name) or why))
    for name, version in world.mended.items():
        changes.append(Change(name=name, old=version, new=version, why=world.fault(name) or ""))
    doubles = (*(name for name in rules.MMCV_NAMES if name != stack.mmcv.name), *rules.OPENCV_NAMES)
    for name in doubles:
        if name in installed and name != stack.opencv.name:
            changes.append(Change(name=name, old=installed[name], new=None, why="it owns the same folder"))
    return tuple(changes)


def _others_broken(world: Situation, stack: Stack) -> int:
    """How many requirements of packages outside the stack would not hold: of those that the stack itself needs, any; of
    the user's own, those that hold now."""
    new = {
        "torch": stack.torch.version,
        "torchvision": stack.torchvision,
        "numpy": stack.numpy,
        "setuptools": stack.setuptools,
        stack.opencv.name: stack.opencv.version,
    }
    broken = 0
    for name, specifier, needed in _foreign_requirements(world):
        have, get = world.installed.get(name), new.get(name)
        held = have is not None and rules.within(have, specifier)
        if get and (needed or held) and not rules.within(get, specifier):
            broken += 1
    return broken


def _foreign_requirements(world: Situation) -> tuple[tuple[str, str, bool], ...]:
    """What packages outside the stack require of it: name, range, and whether the stack needs that package."""
    cached: Optional[tuple[tuple[str, str, bool], ...]] = world.__dict__.get("foreign_requirements")
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
    below = rules.stack_and_below(world.facts)
    for distribution in world.facts.target.distributions:
        for text in distribution.requires if distribution.name not in ours else ():
            requirement = rules.declared(text, world.facts)
            if requirement is not None and requirement.name in coupled and str(requirement.specifier):
                found.append((requirement.name, str(requirement.specifier), distribution.name in below))
    world.__dict__["foreign_requirements"] = tuple(found)
    return tuple(found)


def _assumptions(world: Situation, best: Solution) -> tuple[str, ...]:
    said = [f"pretended: {key}" for key in world.facts.pretended]
    stack = best.stack
    used = {"pypi"} if best.changes else set()
    if stack.mmcv.artefact.kind == "wheel":
        used.add("openmmlab")
    if stack.torch.index.startswith("http"):
        used.add("torch")
    for index in world.facts.indexes:
        if index.name in used and index.reachable is False:
            said.append(f"{index.url} does not answer ({index.reason}); what it has must be in the installer's cache")
        elif index.name in used and isinstance(index.reachable, Unknown):
            said.append(f"{index.url} answers (not looked at: {index.reachable.unknown})")
    said += _about_gpu(world, best) if world.has_gpu else []
    if not world.has_gpu and stack.torch.variant != "cpu" and not best.torch.keep_torch:
        size = best.torch.download_mb / 1000
        asked = world.index("torch")
        silent = asked is not None and asked.reachable is False
        why = f" because {asked.url} does not answer ({asked.reason})" if asked and silent else ""
        runs = f"torch's {stack.torch.variant} build runs on the CPU too and is taken{why}"
        said.append(f"there is no GPU here; {runs}: {size:.1f} GB")
    if stack.opencv.name == "opencv-python" and world.facts.host.os == "linux" and world.facts.host.libgl is not True:
        said.append("the system has libGL.so.1, which OpenCV's GUI build needs (not seen here)")
    if best.weight.builds and world.facts.toolchain.gcc is None:
        said.append("there is a C++ compiler (not looked for)")
    if best.weight.soft_ranges:
        said.append("a range that a [mim] extra only declares does not hold; nothing asserts it at import")
    if best.weight.others_broken:
        said.append(f"{best.weight.others_broken} requirements of your other packages will not hold")
    return tuple(said)


def _about_gpu(world: Situation, best: Solution) -> Iterator[str]:
    """What is taken for granted of the GPU, or why it stays idle."""
    torch, gpu = best.stack.torch, world.facts.gpu
    if torch.variant == "cpu":
        in_the_way = ("variant", "driver", "gpu-arch", "nvcc", "gcc", "compiler", "no-build", "index:openmmlab")
        facts = dict.fromkeys(r.fact for r in world.rejected.values() if r.fact in in_the_way)
        yield f"the GPU stays idle: every CUDA build of torch is out; see the rejections: {', '.join(facts)}"
        return
    floor = rules.driver_floor(world.matrix, torch.variant, world.facts.host.os)
    if not isinstance(gpu.driver, str) and floor is not None:
        yield f"the driver is {floor} or newer (which one was not seen)"
    for device in gpu.devices:
        capability = device.compute_capability
        holds = rules.holds_code_for(world.matrix, torch.version, torch.variant, world.facts.host, capability)
        if holds is None:
            yield f"torch {torch.version}+{torch.variant} holds code for {capability} (the matrix does not know)"


# ------------------------------------------------------------------------------------------------- when nothing fits


def _conflict(world: Situation) -> str:
    """What excludes every stack: each constraint whose removal alone would help, with the fact behind it and what
    would be chosen then; and the Python that would do."""
    python = world.python
    if not python:
        return "the target's interpreter does not answer, so its Python is not known"
    said = []
    for text, facts, request in _loosened(world):
        loose = _try(facts, world.matrix, request)
        if loose is not None:
            said.append(f"{text} {_short(loose)}")
    pins = ", ".join(f"{name}=={version}" for name, version in world.request.pins.items())
    loose = _try(world.facts, world.matrix, replace(world.request, pins={})) if pins and not said else None
    if loose is not None:
        said.append(f"your pins {pins} exclude every stack together; without them {_short(loose)}")
    for other in OTHER_PYTHONS:
        target = replace(world.facts.target, python=f"{other}.0", distributions=(), torch=None, torchvision_build=None)
        facts = replace(world.facts, target=target, imports=(), wheels=())
        loose = _try(facts, world.matrix, world.request) if other != rules.minor(python) else None
        if loose is not None:
            said.append(f"with Python {other} in place of {python}, {_short(loose)}")
            break
    if said:
        return "; ".join(said)
    facts_against = [r for r in world.rejected.values() if r.fact != "constraint"] or list(world.rejected.values())
    shown = "; ".join(f"{r.candidate}{_because(r)}" for r in facts_against[:3])
    return f"no stack satisfies, and no single constraint explains it: {shown or 'see the rejections'}"


def _loosened(world: Situation) -> Iterator[tuple[str, Facts, Request]]:
    """The question with one constraint or one fact less, and the beginning of the sentence that says which."""
    facts, request, recipe = world.facts, world.request, world.recipe
    for name, version in request.pins.items():
        pins = {key: value for key, value in request.pins.items() if key != name}
        why = _why(world, name, version)
        yield f"your pin {name}=={version} excludes every stack{why}; without it", facts, replace(request, pins=pins)
    for name, text in recipe.packages.items():
        packages = {key: value for key, value in recipe.packages.items() if key != name}
        why = _why(world, name, text[2:]) if text.startswith("==") else ""
        freer = replace(request, recipe=replace(recipe, packages=packages))
        yield f"recipe {recipe.name} wants {name}{text}, which excludes every stack{why}; without it", facts, freer
    if request.torch_variants:
        asked = " or ".join(request.torch_variants)
        yield f"--torch-variant {asked} excludes every stack; without it", facts, replace(request, torch_variants=())
    for field, free in (("python", ">=2"), ("torch_variant", None), ("opencv", None), ("driver", None)):
        asked_for = getattr(recipe, field)
        if asked_for is not None:
            freer = replace(request, recipe=replace(recipe, **{field: free}))
            what = f"{field.replace('_', ' ')} {asked_for}"
            yield f"recipe {recipe.name} is for {what}, which excludes every stack; without it", facts, freer
    if not request.allow_build:
        yield "--no-build excludes every stack; without it", facts, replace(request, allow_build=True)
    if facts.toolchain.gcc is None:
        compiler = Tool(path="gcc", version=None)
        text = "no stack comes without compiling, and there is no C++ compiler; with one"
        yield text, replace(facts, toolchain=replace(facts.toolchain, gcc=compiler)), request
    silent = [index for index in facts.indexes if index.reachable is False]
    for index in silent:
        rest = tuple(other for other in facts.indexes if other != index)
        yield f"{index.url} does not answer ({index.reason}); if it did,", replace(facts, indexes=rest), request
    if isinstance(facts.gpu.driver, str):
        newer = replace(facts, gpu=replace(facts.gpu, driver=None))
        yield f"driver {facts.gpu.driver} is too old; with a newer one", newer, request
    if facts.host.os == "linux":
        glibc = facts.host.glibc
        text = f"glibc {glibc} is too old; with a newer one" if glibc else "the C library is not glibc; with glibc"
        yield text, replace(facts, host=replace(facts.host, glibc="99")), request


def _why(world: Situation, name: str, version: str) -> str:
    """The fact that rejected this very version: its own, else that of a partner, else that of what it stands beside."""
    text = f"{name} {rules.public(version)}"
    rejections = [r for r in world.rejected.values() if r.fact != "constraint" or r.candidate.count(" ") == 0]
    tests: tuple[Callable[[Rejection], bool], ...] = (
        lambda r: r.candidate == text or r.wanted == f"{name}=={version}",
        lambda r: r.candidate.endswith(f" with {text}"),
        lambda r: r.candidate.startswith((f"{text} ", f"{text}+")),
    )
    found = next((rejection for test in tests for rejection in rejections if test(rejection)), None)
    return f" ({found.candidate}{_because(found)})" if found else ""


def _because(rejection: Rejection) -> str:
    return f": {rejection.why}, wanted {rejection.wanted}, seen {rejection.observed}"


def _try(facts: Facts, matrix: Matrix, request: Request) -> Optional[Resolution]:
    best = cheapest(Situation(facts, matrix, request))
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
