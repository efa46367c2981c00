"""Every mmcv beside a torch, with the first artefact that there is for it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from msgspec.structs import replace

from mmdoctor import rules
from mmdoctor.builds import Fault, cuda_tools, toolchain_for
from mmdoctor.candidates.families import allowed, families
from mmdoctor.candidates.situation import TYPICAL_MB, Situation
from mmdoctor.candidates.sources import SOURCES, Asked, Found, Miss, cached, published
from mmdoctor.candidates.torch import TorchCandidate
from mmdoctor.matrix_model import MmcvRow
from mmdoctor.model import Artefact


class MmcvCandidate(NamedTuple):
    """`row` has the version with the local label that the artefact has."""

    row: MmcvRow
    artefact: Artefact
    minutes: float
    download_mb: int


def mmcv_rows(world: Situation) -> tuple[MmcvRow, ...]:
    """Every mmcv release of every family that the request may take, newest first."""
    rows = (row for family in families(world) for row in rules.mmcv_rows(world.matrix, family.mmcv))
    taken = (row for row in rows if allowed(world, row.package, row.version, row.withdrawn))
    return tuple(row for row in taken if _for_this_python(world, row))


def mmcv_candidates(world: Situation, torch: TorchCandidate, rows: Iterable[MmcvRow]) -> Iterator[MmcvCandidate]:
    """Those of these mmcv releases for which there is an artefact beside this torch; with two artefacts twice."""
    for row in _worth_asking(world, torch, rows) if world.silent else rows:
        yield from _from_any_source(world, Asked.of(world, row, torch))


def obtainable(world: Situation, torch: TorchCandidate, releases: frozenset[tuple[str, str]]) -> Iterator[bool]:
    """The ways to have any of these mmcv releases (package, version) beside this torch: True for a compile, False for
    what some source has. For a silent situation."""
    compilable = rules.compilable_mmcvs(world.matrix, torch.row.release)
    if not compilable.isdisjoint(releases) and _compiler_fits(world, torch, "mmcv", ""):
        yield True
    rows = (rules.mmcv_row(world.matrix, *release) for release in sorted(_compiled(world, torch) & releases))
    asked = [Asked.of(world, row, torch) for row in rows if row is not None]
    if any(isinstance(source(world, one), Found) for one in asked for source in SOURCES):
        yield False


def _compiled(world: Situation, torch: TorchCandidate) -> frozenset[tuple[str, str]]:
    """The mmcv releases (package, version) of which somebody has a wheel, for whatever Python: those about which it is
    worth asking the sources."""
    host, variant = world.facts.host, torch.choice.variant
    return rules.published_mmcvs(world.matrix, host.os, variant, rules.minor(torch.row.release)) | world.compiled


def _worth_asking(world: Situation, torch: TorchCandidate, rows: Iterable[MmcvRow]) -> Iterator[MmcvRow]:
    """Those for which there may be an artefact: somebody has a wheel, or a compile is possible."""
    worth = _compiled(world, torch)
    if _compiler_fits(world, torch, "mmcv", ""):
        worth |= rules.compilable_mmcvs(world.matrix, torch.row.release)
    return (row for row in rows if (row.package, row.version) in worth)


def _for_this_python(world: Situation, row: MmcvRow) -> bool:
    if rules.within(world.python, row.python):
        return True
    name, wanted = f"{row.package} {row.version}", f"Python {row.python}"
    world.reject(name, "python", wanted, world.python, "it declares that", row.source)
    return False


def _from_any_source(world: Situation, asked: Asked) -> Iterator[MmcvCandidate]:
    """The artefact of the first source that has one, else a build; its reason says why none of the earlier ones. Before
    a published wheel one that is proven here: it costs less, where it is not less documented. Where there is nothing, a
    rejection for each source."""
    misses: list[Miss] = []
    for source in SOURCES:
        answer = source(world, asked)
        if isinstance(answer, Miss):
            misses.append(answer)
        elif answer is not None:
            proven = cached(world, asked) if source is published else None
            if isinstance(proven, Found):
                yield _taken(asked, proven, misses)
            yield _taken(asked, answer, misses)
            return
    because = "; ".join(miss.said for miss in misses)
    if _can_build(world, asked, because):
        tools = toolchain_for(world.matrix, world.facts, asked.torch.row, asked.torch.choice.variant)
        what = f"CUDA ops for {asked.archs}" if asked.archs else "CPU ops"
        reason = f"{because}; compiled here: {what} with {' and '.join(tool.text for tool in tools)}"
        artefact = Artefact(kind="build", source=f"sdist {asked.row.package}-{asked.row.version}", reason=reason)
        yield MmcvCandidate(asked.row, artefact, rules.build_minutes(asked.row, world.facts.host, asked.archs), 1)
        return
    for miss in misses:
        fact = f"wheel:{miss.source}"
        world.reject(asked.name, fact, miss.wanted, miss.observed, miss.said, unlocked=miss.unlocked)


def _taken(asked: Asked, found: Found, misses: Iterable[Miss]) -> MmcvCandidate:
    """What a source has, as a candidate; `misses` are those of the sources before it."""
    reason = "; ".join((found.artefact.reason, *(miss.said for miss in misses)))
    row = asked.row if found.version == asked.row.version else replace(asked.row, version=found.version)
    download = TYPICAL_MB["mmcv"] if found.artefact.kind == "wheel" else 0
    return MmcvCandidate(row, replace(found.artefact, reason=reason), 0.0, download)


def _can_build(world: Situation, asked: Asked, because: str) -> bool:
    torch = asked.torch
    if not rules.within(torch.row.release, asked.row.torch):
        why = "its source does not compile against this torch, nor is a fix-up known"
        world.reject(asked.name, "source", f"torch {asked.row.torch}", torch.row.release, why, asked.row.source)
        return False
    return _compiler_fits(world, torch, asked.name, because)


def _compiler_fits(world: Situation, torch: TorchCandidate, name: str, because: str) -> bool:
    """Whether this machine compiles what stands beside this torch, with the CUDA ops that are wanted."""
    if not world.compiles(name, "a C++ compiler", because, torch.row.cxx_std):
        return False
    variant = torch.choice.variant
    capabilities, cuda = rules.capabilities(rules.cuda_archs(world.facts, variant)), rules.cuda_of(variant)
    return not capabilities or cuda is None or _can_build_cuda(world, name, cuda, capabilities, because)


def _can_build_cuda(world: Situation, name: str, cuda: str, capabilities: tuple[str, ...], because: str) -> bool:
    """Whether there is what compiles CUDA ops for these GPUs: the machine's toolkit, or nvcc from wheels."""
    facts = world.facts
    tools = cuda_tools(world.matrix, facts.host, facts.toolchain, cuda, capabilities)
    if isinstance(tools, Fault):
        world.reject(name, tools.fact, tools.wanted, tools.observed, f"{because}; {tools.why}")
        return False
    return True
