"""Every mmcv beside a torch, with the cheapest artefact that there is for it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, Optional

from mmdoctor import rules
from mmdoctor.candidates.situation import TYPICAL_MB, Situation
from mmdoctor.candidates.torch import TorchCandidate
from mmdoctor.matrix_model import MmcvRow
from mmdoctor.model import Artefact, ImportResult


class MmcvCandidate(NamedTuple):
    row: MmcvRow
    artefact: Artefact
    minutes: float
    download_mb: int


def mmcv_candidates(world: Situation, torch: TorchCandidate) -> Iterator[MmcvCandidate]:
    """Every mmcv release beside this torch, with the cheapest artefact that there is for it."""
    package = "mmcv-full" if world.recipe.family == "mmpose-0" else "mmcv"
    if not world.alone(package, rules.MMCV_NAMES):
        return
    rows = [row for row in world.matrix.mmcv if row.package == package]
    for row in sorted(rows, key=lambda row: rules.order(row.version), reverse=True):
        if world.allows(package, row.version):
            found = _mmcv_artefact(world, row, torch)
            if found is not None:
                yield found


def _mmcv_artefact(world: Situation, row: MmcvRow, torch: TorchCandidate) -> Optional[MmcvCandidate]:
    choice = torch.choice
    beside = f"torch {choice.version}+{choice.variant}"
    name = f"{row.package} {row.version} beside {beside}"
    if torch.keep_torch and world.installed.get(row.package) == row.version and _mmcv_works(world, row.package):
        return MmcvCandidate(row, Artefact(kind="installed", source="", reason="it loads beside this torch"), 0.0, 0)
    wheel = rules.mmcv_wheel(
        world.matrix, row.package, row.version, world.facts.host, choice.variant, choice.version, world.python
    )
    if wheel is not None and world.answers("openmmlab", f"wheel of {name}"):
        source = world.matrix.openmmlab_index.format(variant=wheel.variant, torch=f"{wheel.torch}.0")
        reason = f"prebuilt for torch {wheel.torch} {wheel.variant}"
        return MmcvCandidate(row, Artefact(kind="wheel", source=source, reason=reason), 0.0, TYPICAL_MB["mmcv"])
    tag = "cp" + rules.minor(world.python).replace(".", "")
    archs = rules.cuda_archs(world.facts, choice.variant)
    for cached in world.facts.wheels:
        fits = (cached.name, cached.version, cached.python_tag) == (row.package, row.version, tag)
        if fits and cached.torch == f"{choice.version}+{choice.variant}" and cached.archs == archs:
            reason = f"built and proven here against torch {cached.torch}"
            return MmcvCandidate(row, Artefact(kind="cached", source=cached.path, reason=reason), 0.0, 0)
    why_not = "the wheel index does not answer" if wheel is not None else f"no wheel exists for it beside {beside}"
    if not _can_build(world, row, torch, name, why_not):
        return None
    minutes = rules.build_minutes(row, world.facts.host, archs)
    artefact = Artefact(kind="build", source=f"sdist {row.package}-{row.version}", reason=why_not)
    return MmcvCandidate(row, artefact, minutes, 1)


def _mmcv_works(world: Situation, package: str) -> bool:
    if any(name in world.installed for name in rules.MMCV_NAMES if name != package) or not world.sound(package):
        return False
    results = [result for step in ("mmcv", "mmcv._ext", "mmcv.ops") if (result := world.facts.imported(step))]
    pretended = not next(d for d in world.facts.target.distributions if d.name == package).folder
    extension = world.facts.extension
    if extension is not None and rules.extension_fault(extension, world.facts.host):
        return False
    if not results:
        return pretended or extension is not None
    return all(r.status == "ok" or world.excused(r) or _fault_of_another(r) for r in results)


def _fault_of_another(result: ImportResult) -> bool:
    """Whether an import of mmcv failed in a package that mmcv's binary does not stand on (OpenCV without libGL)."""
    missing = result.data.get("missing", "").split(".")[0]
    blamed = missing or (result.packages[-1] if result.packages else "")
    return result.status == "error" and blamed not in ("", "mmcv", "torch")


def _can_build(world: Situation, row: MmcvRow, torch: TorchCandidate, name: str, why_not: str) -> bool:
    if not world.request.allow_build:
        world.reject(
            name, "no-build", "no compile", "only the sdist", f"{why_not}, and --no-build forbids to compile it"
        )
        return False
    if not rules.within(torch.row.release, row.torch):
        why = "its source does not compile against this torch, nor is a fix-up known"
        world.reject(name, "source", f"torch {row.torch}", torch.row.release, why)
        return False
    if world.no_compiler():
        world.reject(name, "compiler", "a C++ compiler", "none", f"{why_not}, and there is no gcc to compile it")
        return False
    cuda = rules.cuda_of(torch.choice.variant)
    return not world.has_gpu or cuda is None or _can_build_cuda(world, name, cuda, why_not)


def _can_build_cuda(world: Situation, name: str, cuda: str, why_not: str) -> bool:
    toolchain = world.facts.toolchain
    nvcc = toolchain.nvcc.version if toolchain.nvcc is not None else None
    major = cuda.partition(".")[0]
    if not isinstance(nvcc, str) or nvcc.partition(".")[0] != major:
        observed = nvcc if isinstance(nvcc, str) else "none" if nvcc is None else f"unknown: {nvcc.unknown}"
        why = f"{why_not}; its CUDA ops need nvcc of torch's CUDA major"
        world.reject(name, "nvcc", f"nvcc {major}.x", observed, why)
        return False
    for device in world.facts.gpu.devices:
        floor = rules.nvcc_floor(world.matrix, device.compute_capability)
        if floor is not None and rules.order(nvcc) < rules.order(floor):
            why = f"{why_not}; an older nvcc does not know this GPU"
            world.reject(name, "nvcc", f"nvcc {floor} for {device.compute_capability}", nvcc, why)
            return False
    gcc = toolchain.gcc.version if toolchain.gcc is not None else None
    limit = rules.gcc_limit(world.matrix, nvcc)
    if limit is not None and isinstance(gcc, str) and rules.order(gcc) >= rules.order(limit):
        world.reject(name, "gcc", f"gcc <{limit}", gcc, f"{why_not}; nvcc {nvcc} refuses a newer gcc")
        return False
    return True
