"""Every torch release, variant and source with its torchvision."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, Optional

from mmdoctor import rules
from mmdoctor.candidates.situation import TYPICAL_MB, Situation
from mmdoctor.matrix_model import TorchRow
from mmdoctor.model import TorchChoice


class TorchCandidate(NamedTuple):
    row: TorchRow
    choice: TorchChoice
    torchvision: str
    keep_torch: bool
    keep_torchvision: bool
    download_mb: int


def torch_candidates(world: Situation) -> Iterator[TorchCandidate]:
    """Every torch release, variant and source with its torchvision, newest first."""
    if not _machine_fits(world):
        return
    for row in sorted(world.matrix.torch, key=lambda row: rules.order(row.release), reverse=True):
        if not world.allows("torch", row.release) or not _fits_machine(world, row):
            continue
        for choice in _torch_choices(world, row):
            if _variant_fits(world, row, choice):
                yield from _with_torchvision(world, row, choice)


def _machine_fits(world: Situation) -> bool:
    """Whether Python and driver are those that the recipe is for."""
    recipe, driver = world.recipe, world.facts.gpu.driver
    who = f"recipe {recipe.name} is for it"
    if not rules.within(world.python, recipe.python):
        observed = world.python or "unknown"
        world.reject(f"Python {observed}", "python", f"Python {recipe.python}", observed, who)
        return False
    if world.has_gpu and isinstance(driver, str) and not rules.within(driver, recipe.driver):
        world.reject(f"driver {driver}", "driver", f"driver {recipe.driver}", driver, who)
        return False
    return True


def _fits_machine(world: Situation, row: TorchRow) -> bool:
    name = f"torch {row.release}"
    host = world.facts.host
    pythons = rules.wheel_pythons(row, host)
    if rules.minor(world.python) not in pythons:
        listed = ", ".join(pythons) or "none on this platform"
        world.reject(name, "python", f"Python {listed}", world.python, "there is no wheel for this Python")
        return False
    if host.os == "linux" and host.glibc is None:
        world.reject(name, "glibc", f"glibc {row.glibc}", "another C library", "its wheels are for glibc")
        return False
    if host.os == "linux" and isinstance(host.glibc, str) and rules.order(host.glibc) < rules.order(row.glibc):
        world.reject(name, "glibc", f"glibc {row.glibc}", host.glibc, "its wheels need a newer C library")
        return False
    return True


def _torch_choices(world: Situation, row: TorchRow) -> Iterator[TorchChoice]:
    installed, there = world.facts.target.torch, rules.torch_variant(world.matrix, world.facts)
    if installed is not None and there is not None and rules.public(installed.version) == row.release:
        yield TorchChoice(version=row.release, variant=there, index="installed")
    pypi = rules.pypi_variant(row, world.facts.host)
    yield TorchChoice(version=row.release, variant=pypi, index="pypi")
    for variant in row.variants:
        if variant == pypi or not _on_torch_index(world, row, variant):
            continue
        if world.answers("torch", f"torch {row.release}+{variant}"):
            index = world.matrix.torch_index.format(variant=variant)
            yield TorchChoice(version=row.release, variant=variant, index=index)


def _on_torch_index(world: Situation, row: TorchRow, variant: str) -> bool:
    """The variants are those of Linux x86_64 and Windows; of Linux aarch64 those whose binary was read, and CPU."""
    host = world.facts.host
    if host.os == "macos":
        return False
    known = (
        a.torch == row.release and a.variant == variant for a in world.matrix.archs if a.platform == "linux_aarch64"
    )
    return host.machine not in rules.ARM or variant == "cpu" or any(known)


def _variant_fits(world: Situation, row: TorchRow, choice: TorchChoice) -> bool:
    name, gpu = f"torch {row.release}+{choice.variant}", world.facts.gpu
    for who, asked in world.variants:
        if choice.variant not in asked:
            world.reject(name, "variant", " or ".join(asked), choice.variant, f"{who} asked for it")
            return False
    floor = rules.driver_floor(world.matrix, choice.variant, world.facts.host.os)
    if world.has_gpu and floor and isinstance(gpu.driver, str) and not rules.driver_runs(gpu.driver, floor):
        why = f"a driver runs CUDA {rules.cuda_of(choice.variant)} from {floor} on; a newer driver would unlock it"
        world.reject(name, "driver", f"driver {floor}", gpu.driver, why)
        return False
    for device in gpu.devices if choice.variant != "cpu" else ():
        capability = device.compute_capability
        if rules.holds_code_for(world.matrix, row.release, choice.variant, world.facts.host, capability) is False:
            why = "the binary holds neither machine code nor PTX that runs on this GPU"
            world.reject(name, "gpu-arch", f"code for {capability}", choice.variant, why)
            return False
    return True


def _with_torchvision(world: Situation, row: TorchRow, choice: TorchChoice) -> Iterator[TorchCandidate]:
    target = world.facts.target
    name = f"torch {row.release}+{choice.variant}"
    keep_torch = choice.index == "installed" and world.sound("torch", "torch")
    if choice.index == "installed" and not keep_torch:
        return
    torch_mb = 0 if keep_torch else row.download_mb or TYPICAL_MB["cuda" if choice.variant != "cpu" else "cpu"]
    if choice.variant == "cpu" and not keep_torch:
        torch_mb = TYPICAL_MB["cpu"]
    for version in row.torchvision:
        if not world.allows("torchvision", version):
            continue
        build = target.torchvision_build or world.installed.get("torchvision", "")
        label = build.partition("+")[2].partition(".")[0]
        works = keep_torch and not label and world.facts.imported("torchvision") is not None
        fits = works or (label or rules.pypi_variant(row, world.facts.host)) == choice.variant
        if rules.public(build) == version and fits and _torchvision_sound(world, keep_torch):
            yield TorchCandidate(row, choice, version, keep_torch, True, torch_mb)
            continue
        source = choice
        if choice.index == "installed":
            found = _torchvision_source(world, row, choice, name)
            if found is None:
                continue
            source = TorchChoice(version=choice.version, variant=choice.variant, index=found)
        vision_mb = TYPICAL_MB["torchvision"]
        yield TorchCandidate(row, source, version, keep_torch, False, torch_mb + vision_mb)


def _torchvision_sound(world: Situation, keep_torch: bool) -> bool:
    """An import that failed beside the torch that stays is final; beside one that goes it says nothing."""
    return world.sound("torchvision", "torchvision" if keep_torch else None)


def _torchvision_source(world: Situation, row: TorchRow, choice: TorchChoice, name: str) -> Optional[str]:
    """Where torchvision of the installed torch's own variant comes from; None when nowhere (then torch must move)."""
    pypi = rules.pypi_variant(row, world.facts.host)
    if choice.variant == pypi:
        return "pypi"
    if choice.variant in row.variants and world.answers("torch", f"{name} with its torchvision"):
        return world.matrix.torch_index.format(variant=choice.variant)
    return None
