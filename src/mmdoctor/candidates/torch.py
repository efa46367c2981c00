"""Every torch release, variant and source with its torchvision."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, Optional

from mmdoctor import rules
from mmdoctor.candidates.situation import TYPICAL_MB, Situation, whose
from mmdoctor.matrix_model import Matrix, TorchRow
from mmdoctor.model import GpuDevice, Host, TorchChoice


class TorchCandidate(NamedTuple):
    row: TorchRow
    choice: TorchChoice
    torchvision: str
    keep_torch: bool
    keep_torchvision: bool
    download_mb: int


def torch_candidates(world: Situation) -> Iterator[TorchCandidate]:
    """Every torch release, variant and source with each of its torchvisions, newest first. Leaves `world.beside` at the
    release and variant that it is about."""
    for row, choice in _builds(world):
        yield from _with_torchvision(world, row, choice)


def torch_builds(world: Situation) -> Iterator[TorchCandidate]:
    """As `torch_candidates`, each build with one torchvision."""
    found = (next(_with_torchvision(world, row, choice), None) for row, choice in _builds(world))
    return filter(None, found)


def _builds(world: Situation) -> Iterator[tuple[TorchRow, TorchChoice]]:
    if not _machine_fits(world):
        return
    for row in newest_torches(world.matrix):
        world.beside = (row.release, rules.pypi_variant(row, world.facts.host))
        if not world.allows("torch", row.release, row.withdrawn) or not _fits_machine(world, row):
            continue
        for choice in _torch_choices(world, row):
            world.beside = (row.release, choice.variant)
            if _variant_fits(world, row, choice):
                yield row, choice


def optimistic(world: Situation, release: str, variant: str) -> TorchCandidate:
    """The torch of this release and variant as it would be if nothing spoke against it."""
    row = rules.torch_row(world.matrix, release)
    if row is None:
        raise LookupError(f"torch {release} is not in the matrix")
    there = world.facts.target.torch
    kept = (
        there is not None
        and rules.public(there.version) == release
        and rules.torch_variant(world.matrix, world.facts) == variant
    )
    choice = TorchChoice(version=release, variant=variant, index="installed" if kept else "pypi")
    return TorchCandidate(
        row,
        choice,
        next(iter(row.torchvision), ""),
        kept,
        kept,
        0 if kept else _torch_mb(row, variant, world.facts.host),
    )


def _torch_mb(row: TorchRow, variant: str, host: Host) -> int:
    """What a torch weighs: as read, of PyPI's build for Linux x86_64; else that of a typical one."""
    if variant == "cpu":
        return TYPICAL_MB["cpu"]
    read = (host.os, host.machine) == ("linux", "x86_64") and variant == rules.pypi_variant(row, host)
    return (row.download_mb if read else None) or TYPICAL_MB["cuda"]


@rules.remembered
def newest_torches(matrix: Matrix) -> tuple[TorchRow, ...]:
    """The rows of torch, newest first."""
    return tuple(sorted(matrix.torch, key=lambda row: rules.order(row.release), reverse=True))


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
        why = "there is no wheel for this Python"
        world.reject(name, "python", f"Python {listed}", world.python, why, row.source)
        return False
    if host.os == "linux" and host.glibc is None:
        why = "its wheels are for glibc"
        world.reject(name, "glibc", f"glibc {row.glibc}", "another C library", why, row.source)
        return False
    if host.os == "linux" and isinstance(host.glibc, str) and rules.order(host.glibc) < rules.order(row.glibc):
        why = "its wheels need a newer C library"
        world.reject(name, "glibc", f"glibc {row.glibc}", host.glibc, why, row.source)
        return False
    return True


def _torch_choices(world: Situation, row: TorchRow) -> Iterator[TorchChoice]:
    installed, there = world.facts.target.torch, rules.torch_variant(world.matrix, world.facts)
    if installed is not None and there is not None and rules.public(installed.version) == row.release:
        yield TorchChoice(version=row.release, variant=there, index="installed")
    host = world.facts.host
    for choice in _published(world.matrix, row.release, rules.pypi_variant(row, host), host.os, host.machine):
        world.beside = (row.release, choice.variant)
        if choice.index == "pypi" or world.answers("torch", f"torch {row.release}+{choice.variant}"):
            yield choice


@rules.remembered
def _published(matrix: Matrix, release: str, pypi: str, os: str, machine: str) -> tuple[TorchChoice, ...]:
    """The builds of a release for a platform: PyPI's, which is of the variant `pypi`, then the others of torch's index.
    A row's variants are those of Linux x86_64 and Windows; of Linux aarch64 those whose binary was read, and CPU."""
    row = rules.torch_row(matrix, release)
    listed = row.variants if row is not None and os != "macos" else ()
    if machine in rules.ARM:
        rows = rules.arch_rows(matrix)
        read = {key[1] for key in rows if key[0] == release and any(r.platform == "linux_aarch64" for r in rows[key])}
        listed = tuple(variant for variant in listed if variant in read | {"cpu"})
    there = (
        TorchChoice(version=release, variant=variant, index=matrix.torch_index.format(variant=variant))
        for variant in listed
        if variant != pypi
    )
    return (TorchChoice(version=release, variant=pypi, index="pypi"), *there)


def _variant_fits(world: Situation, row: TorchRow, choice: TorchChoice) -> bool:
    name, gpu = f"torch {row.release}+{choice.variant}", world.facts.gpu
    for who, asked in world.variants:
        if choice.variant not in asked:
            wanted = " or ".join(asked)
            unlocked = f"dropping {whose(who)} torch variant {wanted}"
            world.reject(name, "variant", wanted, choice.variant, f"{who} asked for it", unlocked=unlocked)
            return False
    if choice.variant == "cpu" or not gpu.devices:
        return True
    return _driver_fits(world, name, choice) and all(_holds_code(world, name, choice, device) for device in gpu.devices)


def _driver_fits(world: Situation, name: str, choice: TorchChoice) -> bool:
    floor = rules.driver_floor(world.matrix, choice.variant, world.facts.host.os)
    if rules.driver_takes(world.facts, choice.variant, floor):
        return True
    why = f"a driver runs CUDA {rules.cuda_of(choice.variant)} from {floor} on"
    _reject_driver(world, name, choice, str(floor), why)
    return False


def _holds_code(world: Situation, name: str, choice: TorchChoice, device: GpuDevice) -> bool:
    """Whether the binary runs on this GPU: on machine code, or on PTX that the driver is new enough to compile."""
    capability = device.compute_capability
    code = rules.code_for(world.matrix, choice.version, choice.variant, world.facts.host, capability)
    if code is None:
        return _could_hold_code(world, name, choice, capability)
    if code.machine:
        return True
    if not code.ptx:
        why = "the binary holds neither machine code nor PTX that runs on this GPU"
        world.reject(name, "gpu-arch", f"code for {capability}", choice.variant, why, _arch_source(world, choice))
        return False
    floor = rules.toolkit_driver(world.matrix, choice.variant, world.facts.host.os)
    if rules.driver_takes(world.facts, choice.variant, floor):
        return True
    why = f"for {capability} the binary holds PTX alone, which only a driver as new as its CUDA compiles"
    _reject_driver(world, name, choice, str(floor), why)
    return False


def _could_hold_code(world: Situation, name: str, choice: TorchChoice, capability: str) -> bool:
    """Whether a binary that nobody read may run on this GPU: its CUDA has to be one that knows the GPU."""
    cuda, floor = rules.cuda_of(choice.variant) or "", rules.nvcc_floor(world.matrix, capability)
    if floor is None or rules.order(cuda) >= rules.order(floor):
        return True
    why = f"nobody read the binary, and no CUDA before {floor} knows this GPU"
    world.reject(name, "gpu-arch", f"code for {capability}", f"CUDA {cuda}", why)
    return False


def _arch_source(world: Situation, choice: TorchChoice) -> tuple[str, ...]:
    rows = rules.arch_rows(world.matrix).get((choice.version, choice.variant), ())
    return tuple(sorted({key for row in rows for key in row.source}))


def _reject_driver(world: Situation, name: str, choice: TorchChoice, floor: str, why: str) -> None:
    cuda = rules.cuda_of(choice.variant) or ""
    unlocked = f"driver ≥{floor}"
    if all(rules.is_data_center(world.matrix, device) for device in world.facts.gpu.devices):
        unlocked += f", or NVIDIA's cuda-compat-{cuda.replace('.', '-')} before it (this is a data-centre GPU)"
    source = rules.driver_source(world.matrix, cuda)
    world.reject(name, "driver", f"driver {floor}", str(world.facts.gpu.driver), why, source, unlocked)


def _with_torchvision(world: Situation, row: TorchRow, choice: TorchChoice) -> Iterator[TorchCandidate]:
    keep_torch = choice.index == "installed" and world.sound("torch", "torch")
    if choice.index == "installed" and not keep_torch:
        return
    torch_mb = 0 if keep_torch else _torch_mb(row, choice.variant, world.facts.host)
    stays = _torchvision_that_fits(world, row, choice, keep_torch)
    for version in row.torchvision:
        if not world.allows("torchvision", version):
            continue
        if version == stays:
            yield TorchCandidate(row, choice, version, keep_torch, True, torch_mb)
            continue
        source = choice
        if choice.index == "installed":
            found = _torchvision_source(world, row, choice)
            if found is None:
                continue
            source = TorchChoice(version=choice.version, variant=choice.variant, index=found)
        yield TorchCandidate(row, source, version, keep_torch, False, torch_mb + TYPICAL_MB["torchvision"])


def _torchvision_that_fits(world: Situation, row: TorchRow, choice: TorchChoice, keep_torch: bool) -> Optional[str]:
    """The installed torchvision where it is sound and of this torch's build; else None. An import that failed beside
    the torch that stays is final; beside one that goes it says nothing."""
    build = world.facts.target.torchvision_build or world.installed.get("torchvision")
    if build is None or not world.sound("torchvision", "torchvision" if keep_torch else None):
        return None
    label = build.partition("+")[2].partition(".")[0]
    works = keep_torch and not label and world.facts.imported("torchvision") is not None
    fits = works or (label or rules.pypi_variant(row, world.facts.host)) == choice.variant
    return rules.public(build) if fits else None


def _torchvision_source(world: Situation, row: TorchRow, choice: TorchChoice) -> Optional[str]:
    """Where torchvision of the installed torch's own variant comes from; None when nowhere (then torch must move)."""
    pypi = rules.pypi_variant(row, world.facts.host)
    if choice.variant == pypi:
        return "pypi"
    asked = f"torch {row.release}+{choice.variant} with its torchvision"
    if choice.variant in row.variants and world.answers("torch", asked):
        return world.matrix.torch_index.format(variant=choice.variant)
    return None
