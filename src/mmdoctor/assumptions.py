"""What a resolution takes for granted, in sentences: what nobody looked at, and what the choice means. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from mmdoctor import rules
from mmdoctor.builds import Needed, toolchain_for
from mmdoctor.candidates.families import forks
from mmdoctor.candidates.situation import Situation
from mmdoctor.holds import gpus, one_kind_of_gpu
from mmdoctor.model import Unknown

if TYPE_CHECKING:
    from mmdoctor.resolve import Solution

# Whose loader does not turn torch's `weights_only` off (open-mmlab/mmengine issue #1655, pull #1650).
STRICT_LOADERS = "<=0.10.7"


def assumptions(world: Situation, best: Solution) -> tuple[str, ...]:
    """What the resolution takes for granted, in sentences."""
    said = [f"pretended: {key}" for key in world.facts.pretended]
    said += _about_indexes(world, best)
    said += _about_gpu(world, best) if world.has_gpu else _about_no_gpu(world, best)
    said += _about_builds(world, best)
    said += _about_packages(world, best)
    return tuple(said)


def _about_indexes(world: Situation, best: Solution) -> Iterator[str]:
    used = {"pypi"} if best.changes else set()
    published, artefact = rules.wheel_index(world.matrix, best.stack.mmcv.name), best.stack.mmcv.artefact
    if artefact.kind == "wheel":
        used.add(published.name if "://" in artefact.source else artefact.source)
        if published.name in used and published.name != "openmmlab":
            caveat = f"; {published.caveat}" if published.caveat else ""
            yield f"{artefact.source} answers (mmdoctor does not ask a fork's index{caveat})"
    if best.stack.torch.index.startswith("http"):
        used.add("torch")
    for index in world.facts.indexes:
        if index.name in used and index.reachable is False:
            yield f"{index.url} does not answer ({index.reason}); what it has must be in the installer's cache"
        elif index.name in used and isinstance(index.reachable, Unknown):
            yield f"{index.url} answers (not looked at: {index.reachable.unknown})"


def _about_no_gpu(world: Situation, best: Solution) -> Iterator[str]:
    """What FORCE_CUDA=1 does not do here, and why a CUDA build is fetched all the same."""
    variant, mmcv = best.stack.torch.variant, best.stack.mmcv.artefact.kind
    forced = world.facts.environment.get("FORCE_CUDA") == "1" and mmcv in ("build", "cached")
    if forced and not rules.cuda_archs(world.facts, variant):
        name = "--torch-variant cu…" if variant == "cpu" else "TORCH_CUDA_ARCH_LIST, such as 8.6"
        yield f"FORCE_CUDA=1 and no GPU is here: mmcv's ops are for the CPU alone unless {name} says for what"
    if variant == "cpu" or best.torch.keep_torch:
        return
    asked = world.index("torch")
    silent = asked is not None and asked.reachable is False
    why = f" because {asked.url} does not answer ({asked.reason})" if asked and silent else ""
    runs = f"torch's {best.stack.torch.variant} build runs on the CPU too and is taken{why}"
    yield f"there is no GPU here; {runs}: {best.torch.download_mb / 1000:.1f} GB"


def _about_gpu(world: Situation, best: Solution) -> Iterator[str]:
    """What is taken for granted of the GPU, or why it stays idle."""
    torch, gpu = best.stack.torch, world.facts.gpu
    if torch.variant == "cpu":
        in_the_way = ("variant", "driver", "gpu-arch", "nvcc", "gcc", "compiler", "no-build", "index:openmmlab")
        facts = dict.fromkeys(r.fact for r in world.rejected.values() if r.fact in in_the_way)
        yield f"the GPU stays idle: every CUDA build of torch is out; see the rejections: {', '.join(facts)}"
        yield from _ways_of_one_kind(world)
        yield from _ways_of_forks(world)
        return
    floor = rules.driver_floor(world.matrix, torch.variant, world.facts.host.os)
    if not isinstance(gpu.driver, str) and floor is not None:
        yield f"the driver is {floor} or newer (which one was not seen)"
    elif isinstance(gpu.driver, str) and floor is not None and not rules.driver_runs(gpu.driver, floor):
        runs = f"driver {gpu.driver} runs CUDA {gpu.cuda_ceiling} by a cuda-compat package"
        yield f"{runs}, also for the programs that will use this environment (LD_LIBRARY_PATH)"
    for device in gpu.devices:
        capability = device.compute_capability
        holds = rules.holds_code_for(world.matrix, torch.version, torch.variant, world.facts.host, capability)
        if holds is None:
            yield f"torch {torch.version}+{torch.variant} holds code for {capability} (the matrix does not know)"


def _ways_of_one_kind(world: Situation) -> Iterator[str]:
    """Of several kinds of GPU those that would work, each for a program that sees no other."""
    from mmdoctor.resolve import cheapest

    for facts in one_kind_of_gpu(world.facts):
        best = cheapest(Situation(facts, world.matrix, world.request, silent=True), idle=False)
        if best is not None:
            torch = f"torch {best.stack.torch.version}+{best.stack.torch.variant}"
            yield f"with {gpus(facts)} alone (CUDA_VISIBLE_DEVICES) it would work: {torch}"


def _ways_of_forks(world: Situation) -> Iterator[str]:
    """The forks with which the GPU would work; none is taken unless it is named."""
    from mmdoctor.resolve import cheapest

    for family, request in forks(world.request):
        best = cheapest(Situation(world.facts, world.matrix, request, silent=True), idle=False)
        if best is not None:
            torch, mmcv = best.stack.torch, best.stack.mmcv
            with_it = f"torch {torch.version}+{torch.variant} and {mmcv.name} {mmcv.version} ({mmcv.artefact.kind})"
            yield f"with the fork {family.name} it would work: {with_it}, by --pin {mmcv.name}=={mmcv.version}"


def _about_builds(world: Situation, best: Solution) -> Iterator[str]:
    """The tools of a compile that nobody saw."""
    chain, stack = world.facts.toolchain, best.stack
    row = rules.torch_row(world.matrix, stack.torch.version)
    if not best.weight.builds or row is None:
        return
    needed: tuple[Needed, ...] = (Needed("a C compiler", rules.seen_version(chain.gcc) is not None, chain.gcc),)
    if stack.mmcv.artefact.kind == "build":
        needed = toolchain_for(world.matrix, world.facts, row, stack.torch.variant)
    for text, sure, tool in needed:
        if not sure:
            why = tool.version.unknown if tool and isinstance(tool.version, Unknown) else "not looked for"
            yield f"there is {text} ({why})"


def _about_packages(world: Situation, best: Solution) -> Iterator[str]:
    stack, changed = best.stack, {change.name: change for change in best.changes}
    if stack.opencv.name == "opencv-python" and world.facts.host.os == "linux" and world.facts.host.libgl is not True:
        yield "the system has libGL.so.1, which OpenCV's GUI build needs (not seen here)"
    if best.weight.soft_ranges:
        yield "a range that a [mim] extra only declares does not hold; nothing asserts it at import"
    if best.weight.others_broken:
        yield f"{best.weight.others_broken} requirements of your other packages will not hold"
    row = rules.torch_row(world.matrix, stack.torch.version)
    was = rules.torch_row(world.matrix, changed["torch"].old or "") if "torch" in changed else row
    newly = row is not None and row.weights_only and not (was is not None and was.weights_only)
    if newly and (stack.mmengine is None or rules.within(stack.mmengine, STRICT_LOADERS)):
        loads = f"torch {stack.torch.version} loads nothing but tensors unless told otherwise"
        trust = "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD=1 for those that you trust"
        yield f"your checkpoints hold weights alone: {loads}, and training checkpoints of MMEngine hold more ({trust})"
