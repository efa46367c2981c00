"""Turns a resolution into stages of commands. Pure: what is printed is what `apply` runs and `emit` writes.

The order is the lesson of every broken install: tools, then torch with its torchvision and NumPy, then what is
compiled against torch, then what is compiled against NumPy, then the pure-Python packages under constraints that no
longer let anything move.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Optional

import msgspec

from mmdoctor import rules
from mmdoctor.builds import BUILD_TOOLS, CudaTools, build_for, cuda_tools, nvcc_wheels
from mmdoctor.matrix_model import Matrix
from mmdoctor.model import (
    Artefact,
    Bound,
    Build,
    Change,
    Facts,
    Nvcc,
    Plan,
    Request,
    Resolution,
    Rest,
    Stack,
    Stage,
    Step,
)
from mmdoctor.plan_mend import UV, again, in_the_way, mending, removals
from mmdoctor.plan_pip import for_pip

UNDER_CONSTRAINTS = ("--constraint", "{constraints}", "--override", "{overrides}")
NEVER = "python_version < '0'"


def plan(facts: Facts, matrix: Matrix, request: Request, resolution: Resolution, rest: Optional[Rest] = None) -> Plan:
    """The stages that bring the target to the resolution; `nothing-to-do` where it is there already.

    `rest` is what was settled about the user's other packages, from the plan without it (`rest.settle`).
    """
    target = facts.target
    rest = rest or Rest()
    moving = {change.name for change in rest.moves}
    changes = tuple(change for change in resolution.changes if change.name not in moving)  # damaged, and moves anyway
    base = Plan(
        status="unsatisfiable",
        recipe=request.recipe.name,
        target=target.requested,
        bound=bound_to(facts),
        new_environment=target.state != "present",
        stack=resolution.stack,
        changes=(*changes, *rest.moves),
        stages=(),
        rejected=resolution.rejected,
        assumptions=(*resolution.assumptions, *rest.assumptions),
        cost=resolution.cost,
        conflict=resolution.conflict,
        core=resolution.core,
        nearest=resolution.nearest,
        forbidden=rest.forbidden,
        pretended=facts.pretended,
    )
    stack = resolution.stack
    if stack is None:
        return base
    held = msgspec.structs.replace(
        base, constraints=_constraints(stack, request, rest), overrides=_overrides(stack, request)
    )
    wanted = bool(resolution.changes or _missing_extras(facts, request, stack) or target.state != "present")
    if not wanted and not in_the_way(facts, ()):
        return msgspec.structs.replace(held, status="nothing-to-do")
    return msgspec.structs.replace(
        held,
        status="plan",
        stages=_stages(facts, matrix, request, stack, changes, rest),
        reasons=_reasons(stack),
    )


def bound_to(facts: Facts) -> Bound:
    """What a plan for these facts holds for."""
    target = facts.target
    return Bound(
        host=facts.host.identity,
        python=target.python,
        state=target.state,
        distributions={f"{d.name} {d.version}": d.digest or "" for d in target.distributions},
    )


def stale(plan: Plan, facts: Facts) -> tuple[str, ...]:
    """What has changed since the plan was made, in words; empty while it still holds."""
    then, now = plan.bound, bound_to(facts)
    said = []
    if then.host != now.host:
        said.append("it was made for another machine")
    if (then.state, then.python) != (now.state, now.python):
        said.append(f"the environment was {then.state} with Python {then.python}, now {now.state} with {now.python}")
    said += [f"{name} is gone" for name in sorted(then.distributions.keys() - now.distributions.keys())]
    said += [f"{name} is new" for name in sorted(now.distributions.keys() - then.distributions.keys())]
    both = then.distributions.keys() & now.distributions.keys()
    said += [
        f"{name} was installed again" for name in sorted(both) if then.distributions[name] != now.distributions[name]
    ]
    return tuple(said)


def _extras(request: Request, stack: Stack) -> tuple[str, ...]:
    """What is asked for besides the stack: the recipe's extra requirements and the pins of other packages."""
    pins = (f"{name}=={version}" for name, version in request.pins.items() if name not in _parts(stack))
    return (*request.recipe.extra, *pins)


def _missing_extras(facts: Facts, request: Request, stack: Stack) -> tuple[str, ...]:
    missing = []
    for text in _extras(request, stack):
        requirement = rules.declared(text, facts)
        have = facts.target.version(requirement.name) if requirement else None
        if requirement and (have is None or not rules.within(have, str(requirement.specifier))):
            missing.append(text)
    return tuple(missing)


def _parts(stack: Stack) -> dict[str, Optional[str]]:
    family = rules.family_of(stack.mmcv.name)
    return {
        "torch": stack.torch.version,
        "torchvision": stack.torchvision,
        "numpy": stack.numpy,
        stack.opencv.name: stack.opencv.version,
        stack.mmcv.name: stack.mmcv.version,
        "xtcocotools": stack.xtcocotools.version,
        family.mmengine: stack.mmengine,
        family.mmdet: stack.mmdet,
        "mmpose": stack.mmpose,
        "setuptools": stack.setuptools,
    }


def _constraints(stack: Stack, request: Request, rest: Rest) -> tuple[str, ...]:
    """Every part of the stack, and what moves for it, as an exact version: no later stage moves an earlier pin."""
    parts = _parts(stack)
    ours = [f"{name}=={version}" for name, version in parts.items() if version is not None]
    theirs = [f"{name}=={version}" for name, version in request.pins.items() if name not in parts]
    return (*ours, *theirs, *_moved(rest))


def _moved(rest: Rest) -> Iterator[str]:
    return (f"{change.name}=={change.new}" for change in rest.moves)


def _overrides(stack: Stack, request: Request) -> tuple[str, ...]:
    """Requirements that are declared and must not be followed: chumpy is never imported by mmpose (facts:
    chumpy_unused), and a second OpenCV would write over the first one's files."""
    out = [name for name in rules.OPENCV_NAMES if name != stack.opencv.name]
    if not _wants_chumpy(request):
        out.append("chumpy")
    return tuple(f"{name} ; {NEVER}" for name in out)


def _wants_chumpy(request: Request) -> bool:
    return request.recipe.with_chumpy or "chumpy" in request.pins


def _stages(
    facts: Facts, matrix: Matrix, request: Request, stack: Stack, changes: tuple[Change, ...], rest: Rest
) -> tuple[Stage, ...]:
    changed = {change.name for change in changes}
    missing = facts.target.state != "present" or bool(_missing_extras(facts, request, stack))
    stages = (
        _environment(facts),
        removals(facts, changes),
        mending(changes),
        _tools(stack, changes),
        _torch(stack, changes),
        _mmcv(facts, matrix, stack, changed),
        _numpy_bound(facts, matrix, stack, changed),
        _openmmlab(request, stack, changes, rest) if missing or changed & {*rules.PARTS} else None,
        _proof(stack),
    )
    chosen = tuple(stage for stage in stages if stage is not None)
    return for_pip(chosen, matrix, stack) if request.installer == "pip" else chosen


def _environment(facts: Facts) -> Optional[Stage]:
    if facts.target.state == "present":
        return None
    base = facts.target.base_prefix or rules.minor(facts.target.python)
    step = Step(
        argv=("uv", "venv", "--python", base, "--seed", "{env}"),
        why=f"a new environment on Python {facts.target.python}",
    )
    return Stage(id="environment", title="create the environment", steps=(step,), verify=("ENV001",))


def _tools(stack: Stack, changes: tuple[Change, ...]) -> Optional[Stage]:
    builds = "build" in (stack.mmcv.artefact.kind, stack.xtcocotools.artefact.kind)
    if not builds and all(change.name != "setuptools" for change in changes):
        return None
    why = f"setuptools {stack.setuptools} still brings pkg_resources, which mmengine 0.10 imports"
    if builds:
        why += " and mmcv's setup.py needs"
    tools = BUILD_TOOLS if builds else ()
    argv = (*UV, *again(changes, ["setuptools"]), f"setuptools=={stack.setuptools}", *tools)
    step = Step(argv=argv, why=why)
    return Stage(id="tools", title="build tools", steps=(step,), verify=())


def _torch(stack: Stack, changes: tuple[Change, ...]) -> Optional[Stage]:
    changed = {change.name for change in changes}
    if not changed & {"torch", "torchvision", "numpy", stack.opencv.name}:
        return None
    where, exact = rules.torch_source(stack)
    names = []
    if "torch" in changed:
        names.append(f"torch{exact(stack.torch.version)}")
    if "torchvision" in changed:
        names.append(f"torchvision{exact(str(stack.torchvision))}")
    names += [f"numpy=={stack.numpy}", f"{stack.opencv.name}=={stack.opencv.version}"]
    reinstall = again(changes, ["torch", "torchvision", "numpy", stack.opencv.name])
    why = (
        f"torch {stack.torch.version}+{stack.torch.variant} with its torchvision, and NumPy before anything bound to it"
    )
    step = Step(argv=(*UV, *where, *names, *reinstall), why=why)
    rests_on = (
        ("TRC001", {"torch"}),
        ("NPY001", {"torch", "numpy"}),
        ("TVN001", {"torch", "torchvision"}),
        ("OCV001", {"numpy", stack.opencv.name}),
    )
    verify = tuple(check for check, names in rests_on if names & changed)
    return Stage(id="torch", title="torch, torchvision, NumPy, OpenCV", steps=(step,), verify=verify)


def _mmcv(facts: Facts, matrix: Matrix, stack: Stack, changed: set[str]) -> Optional[Stage]:
    mmcv = stack.mmcv
    if mmcv.name not in changed:
        return None
    verify = ("MCV001", "MCV002", "MCV003")
    artefact = mmcv.artefact
    if artefact.kind == "wheel":
        # What is no address lies in a place of the user's own, where the installer looks anyway.
        where = ("--find-links", artefact.source) if "://" in artefact.source else ()
        how = ("--only-binary", mmcv.name, "--reinstall-package", mmcv.name)
        argv = (*UV, *where, *how, *UNDER_CONSTRAINTS, f"{mmcv.name}=={mmcv.version}")
        step = Step(argv=argv, why=artefact.reason)
        return Stage(id="mmcv", title=f"{mmcv.name} {mmcv.version}, prebuilt wheel", steps=(step,), verify=verify)
    archs = rules.cuda_archs(facts, stack.torch.variant)
    build = build_for(
        matrix, facts.host, mmcv.name, mmcv.version, python=stack.python, torch=stack.torch.version, archs=archs
    )
    build = msgspec.structs.replace(build, nvcc=_nvcc(facts, matrix, stack, archs))
    title = f"{mmcv.name} {mmcv.version}, " + ("from the wheel cache" if artefact.kind == "cached" else "compiled here")
    step = _built_step(build, artefact)
    return Stage(id="mmcv", title=title, steps=(step,), verify=verify)


def _nvcc(facts: Facts, matrix: Matrix, stack: Stack, archs: str) -> Optional[Nvcc]:
    """nvcc as wheels, where CUDA ops are compiled with them."""
    cuda = rules.cuda_of(stack.torch.variant)
    if not archs or cuda is None:
        return None
    found = cuda_tools(matrix, facts.host, facts.toolchain, cuda, rules.capabilities(archs))
    if not isinstance(found, CudaTools) or found.wheels is None or found.own is not None:
        return None
    row = found.wheels
    return Nvcc(wheels=nvcc_wheels(row), home=row.home, links=row.links)


def _built_step(build: Build, artefact: Artefact) -> Step:
    argv = (*UV, *UNDER_CONSTRAINTS, "--reinstall-package", build.package, "{wheel}")
    if artefact.kind == "cached":
        return Step(argv=argv, why=artefact.reason, build=build)
    fixups = "".join(f"; fix-up {fixup.id}: {fixup.reason}" for fixup in build.fixups)
    return Step(argv=argv, why=f"about {build.minutes:g} minutes, {artefact.reason}{fixups}", build=build)


def _numpy_bound(facts: Facts, matrix: Matrix, stack: Stack, changed: set[str]) -> Optional[Stage]:
    if "xtcocotools" not in changed:
        return None
    choice = stack.xtcocotools
    verify = ("XTC001",)
    if choice.artefact.kind == "wheel":
        argv = (*UV, *UNDER_CONSTRAINTS, "--only-binary", "xtcocotools", f"xtcocotools=={choice.version}")
        step = Step(argv=(*argv, "--reinstall-package", "xtcocotools"), why=choice.artefact.reason)
        return Stage(id="numpy-bound", title="xtcocotools, prebuilt wheel", steps=(step,), verify=verify)
    torch = stack.torch.version
    build = build_for(matrix, facts.host, "xtcocotools", choice.version, python=stack.python, torch=torch)
    title = f"xtcocotools, compiled against numpy {stack.numpy}"
    return Stage(id="numpy-bound", title=title, steps=(_built_step(build, choice.artefact),), verify=verify)


def _openmmlab(request: Request, stack: Stack, changes: tuple[Change, ...], rest: Rest) -> Stage:
    family = rules.family_of(stack.mmcv.name)
    parts = {
        stack.opencv.name: stack.opencv.version,
        family.mmengine: stack.mmengine,
        family.mmdet: stack.mmdet,
        "mmpose": stack.mmpose,
        "xtcocotools": stack.xtcocotools.version,
        stack.mmcv.name: stack.mmcv.version,
    }
    names = [f"{name}=={version}" for name, version in parts.items() if version is not None]
    why = "under constraints that hold every earlier stage; one OpenCV; without chumpy, which mmpose never imports"
    # uv leaves bytecode to the first import: ten seconds more, and each time again where it cannot be written.
    # chumpy's setup.py imports pip, which an isolated build does not have (facts: chumpy_isolated_build).
    chumpy = ("--no-build-isolation-package", "chumpy") if _wants_chumpy(request) else ()
    reinstall = again(changes, [family.mmengine, family.mmdet, "mmpose"])
    options = ("--compile-bytecode", *chumpy, *reinstall, *UNDER_CONSTRAINTS)
    step = Step(argv=(*UV, *options, *names, *_extras(request, stack), *_moved(rest)), why=why)
    return Stage(
        id="openmmlab", title="mmengine, mmdet, mmpose", steps=(step,), verify=("MML001", "MML002", "MML003", "MML004")
    )


def _proof(stack: Stack) -> Stage:
    check = Step(argv=("mmdoctor", "check", "--deep", "--env", "{env}"), why="every check on the result")
    steps: tuple[Step, ...] = (check,)
    if not stack.mmpose.startswith("0."):
        steps = (check, Step(argv=("mmdoctor", "bench", "--env", "{env}"), why="a real RTMPose inference"))
    return Stage(id="proof", title="proof", steps=steps, verify=("SMK001",))


def _reasons(stack: Stack) -> tuple[str, ...]:
    """What the plan says about its choice before the commands."""
    said = [f"evidence for this stack: {stack.evidence}"]
    for name, version, artefact in (
        (stack.mmcv.name, stack.mmcv.version, stack.mmcv.artefact),
        ("xtcocotools", stack.xtcocotools.version, stack.xtcocotools.artefact),
    ):
        if artefact.kind == "build":
            said.append(f"compiles {name} {version}: {artefact.reason}")
    return tuple(said)
