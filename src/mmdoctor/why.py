"""Whether some versions go together on a machine, and why not: the facts, the wheels, the measurements. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from mmdoctor import rules
from mmdoctor.builds import toolchain_for
from mmdoctor.candidates.mmcv import mmcv_candidates, mmcv_rows
from mmdoctor.candidates.situation import Situation
from mmdoctor.candidates.sources import SOURCES, Asked, Found, Miss
from mmdoctor.candidates.torch import TorchCandidate, torch_candidates
from mmdoctor.matrix_model import Matrix, MmcvRow, StackRow
from mmdoctor.model import Evidence, Facts, Recipe, Rejection, Request, Resolution, Source, Why
from mmdoctor.resolve import resolve

ANYTHING = Recipe(name="any", title="whatever goes with it", source="the question itself")


def why(facts: Facts, matrix: Matrix, request: Request) -> Why:
    """Whether the pins of the request go together on this machine, beside anything that its recipe allows. Of what
    speaks against them, the tightest of each fact and package."""
    resolution = resolve(facts, matrix, request)
    kinds = {(r.fact, r.candidate.partition(" ")[0]): r for r in reversed(tuple(_about(request, resolution)))}
    against = tuple(reversed(kinds.values()))
    keys = sorted({key for rejection in against for key in rejection.source})
    return Why(
        asked=request.pins,
        machine=_machine(facts),
        together=resolution.stack is not None,
        stack=resolution.stack,
        cost=resolution.cost,
        conflict=resolution.conflict,
        core=resolution.core,
        nearest=resolution.nearest,
        wheels=tuple(_wheels(Situation(facts, matrix, request), request)),
        against=against,
        measured=tuple(_evidence(row) for row in matrix.stacks if _bears_on(row, request)),
        assumptions=resolution.assumptions,
        sources={key: matrix.sources[key] for key in keys},
        pretended=facts.pretended,
    )


def question(pins: dict[str, str]) -> Request:
    """The request of a question without a recipe: mmpose 0.x where a version of that generation is named."""
    old = "mmcv-full" in pins or pins.get("mmpose", "1").startswith("0.")
    recipe = Recipe(
        name=ANYTHING.name, title=ANYTHING.title, source=ANYTHING.source, family="mmpose-0" if old else "mmpose-1"
    )
    return Request(recipe=recipe, pins=pins)


def _machine(facts: Facts) -> str:
    host, gpu = facts.host, facts.gpu
    parts = [f"Python {facts.target.python}", f"{host.os} {host.machine}"]
    parts += [f"glibc {host.glibc}"] if isinstance(host.glibc, str) else []
    if gpu.devices:
        parts.append(f"GPU {', '.join(sorted({device.compute_capability for device in gpu.devices}))}")
        parts += [f"driver {gpu.driver}"] if isinstance(gpu.driver, str) else []
    else:
        parts.append("no GPU")
    return ", ".join(parts)


def _about(request: Request, resolution: Resolution) -> Iterator[Rejection]:
    """The rejections that are about the versions asked for, the tightest first; not that others were not asked for."""
    named = [f"{name} {rules.public(version)}" for name, version in request.pins.items()]
    for rejection in resolution.rejected:
        about = sum(_names(rejection.candidate, text) or _names(rejection.wanted, text) for text in named)
        if rejection.fact not in ("constraint", "variant") and about:
            yield rejection


def _names(text: str, version: str) -> bool:
    """Whether a text names a version whole: `torch 2.1.0`, not `torch 2.1.0.1`."""
    before, found, after = text.partition(version)
    return bool(found) and before[-1:] in ("", " ") and after[:1] in ("", " ", "+", ":")


def _wheels(world: Situation, request: Request) -> Iterator[Source]:
    """What each source has of the mmcv asked for beside each build of the torch asked for."""
    rows = [row for row in mmcv_rows(world) if request.pins.get(row.package) == row.version]
    if "torch" not in request.pins or not rows:
        return
    seen: set[str] = set()
    for torch in torch_candidates(world):
        build = f"{torch.choice.version}+{torch.choice.variant}"
        for row in rows if build not in seen else ():
            yield from _sources(world, torch, row, build)
        seen.add(build)


def _sources(world: Situation, torch: TorchCandidate, row: MmcvRow, build: str) -> Iterator[Source]:
    asked = Asked.of(world, row, torch)
    for answer in (source(world, asked) for source in SOURCES):
        if isinstance(answer, Miss):
            yield Source(torch=build, source=answer.source, has=False, says=answer.why)
        elif isinstance(answer, Found):
            says = answer.artefact.reason
            yield Source(torch=build, source=answer.artefact.source or "installed", has=True, says=says)
            return
    built = next(mmcv_candidates(world, torch, [row]), None)
    if built is not None:
        tools = toolchain_for(world.matrix, world.facts, torch.row, torch.choice.variant)
        says = f"compiles with {' and '.join(tool.text for tool in tools)}: about {built.minutes:g} minutes"
        yield Source(torch=build, source="sdist", has=True, says=says)
        return
    kept = (r for r in world.rejected.values() if r.candidate == asked.name and not r.fact.startswith("wheel:"))
    for rejection in kept:
        unlocked = f"; unlocked by {rejection.unlock}" if rejection.unlock else ""
        says = f"{rejection.fact}: wanted {rejection.wanted}, found {rejection.observed}{unlocked}"
        yield Source(torch=build, source="sdist", has=False, says=says)


def _bears_on(row: StackRow, request: Request) -> bool:
    """Whether a measured stack has every version that is asked about; of torch the minor is enough."""
    have = rules.parts_of_row(row)
    for name, version in request.pins.items():
        if name == "torch":
            if rules.minor(version) != rules.minor(row.torch):
                return False
        elif rules.public(version) != have.get(name, rules.public(version)):
            return False
    return any(name in have for name in request.pins)


def _evidence(row: StackRow) -> Evidence:
    says = row.notes if row.outcome == "works" else row.error or row.notes
    parts = {**rules.parts_of_row(row), "torch": f"{row.torch}+{row.build}"}
    versions = {name: text for name, text in parts.items() if text}
    return Evidence(outcome=row.outcome, date=row.date, versions=versions, says=says)
