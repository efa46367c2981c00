"""Every torch release, variant and source with its torchvision."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, Optional

from mmdoctor import rules
from mmdoctor.candidates.situation import TYPICAL_MB, Situation, rejection, whose
from mmdoctor.matrix_model import Matrix, TorchRow
from mmdoctor.model import Facts, Host, Rejection, Text, TorchChoice


class TorchCandidate(NamedTuple):
    row: TorchRow
    choice: TorchChoice
    torchvision: str
    keep_torch: bool
    keep_torchvision: bool
    download_mb: int


class Release(NamedTuple):
    """A torch release on a platform: the variant that PyPI's build is there, what of the platform speaks against all
    builds, and those that are published for it."""

    row: TorchRow
    pypi: str
    refused: Optional[Rejection]
    published: tuple[TorchChoice, ...]


def torch_candidates(world: Situation) -> Iterator[TorchCandidate]:
    """Every torch release, variant and source with each of its torchvisions, newest first. Leaves `world.beside` at the
    release and variant that it is about."""
    for release, choice in _builds(world):
        yield from _with_torchvision(world, release, choice)


def torch_builds(world: Situation) -> Iterator[TorchCandidate]:
    """As `torch_candidates`, each build with one torchvision."""
    found = (next(_with_torchvision(world, release, choice), None) for release, choice in _builds(world))
    return filter(None, found)


def _builds(world: Situation) -> Iterator[tuple[Release, TorchChoice]]:
    if not _machine_fits(world):
        return
    host = world.facts.host
    platform = rules.Platform(host.os, host.machine)
    for release in _releases(world.matrix, platform, host.glibc, world.python):
        row, refused = release.row, release.refused
        if refused is not None and world.silent:
            continue
        world.beside = (row.release, release.pypi)
        if not world.allows("torch", row.release, row.withdrawn):
            continue
        if refused is not None:
            world.keep(refused)
            continue
        for choice in _torch_choices(world, release):
            world.beside = (row.release, choice.variant)
            if _variant_fits(world, row, choice):
                yield release, choice


def optimistic(world: Situation, release: str, variant: str) -> TorchCandidate:
    """The torch of this release and variant as it would be if nothing spoke against it."""
    row, host = rules.torch_row(world.matrix, release), world.facts.host
    if row is None:
        raise LookupError(f"torch {release} is not in the matrix")
    there = world.facts.target.torch
    kept = there is not None and rules.public(there.version) == release and world.torch_variant == variant
    choice = TorchChoice(version=release, variant=variant, index="installed" if kept else "pypi")
    megabytes = 0 if kept else _torch_mb(row, variant, rules.pypi_variant(row, host), host)
    return TorchCandidate(row, choice, next(iter(row.torchvision), ""), kept, kept, megabytes)


def _torch_mb(row: TorchRow, variant: str, pypi: str, host: Host) -> int:
    """What a torch weighs: as read, of PyPI's build for Linux x86_64; else that of a typical one."""
    if variant == "cpu":
        return TYPICAL_MB["cpu"]
    read = variant == pypi and (host.os, host.machine) == ("linux", "x86_64")
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


@rules.remembered
def _releases(matrix: Matrix, platform: rules.Platform, glibc: Text, python: str) -> tuple[Release, ...]:
    """Every torch release for a platform, C library and Python, newest first."""
    found = []
    for row in newest_torches(matrix):
        pypi = rules.pypi_variant(row, platform)
        refused = _no_wheel(row, platform, glibc, python)
        found.append(Release(row, pypi, refused, _published(matrix, row, pypi, platform)))
    return tuple(found)


def _no_wheel(row: TorchRow, platform: rules.Platform, glibc: Text, python: str) -> Optional[Rejection]:
    name, linux = f"torch {row.release}", platform.os == "linux"
    pythons = rules.wheel_pythons(row, platform)
    if rules.minor(python) not in pythons:
        listed = ", ".join(pythons) or "none on this platform"
        why = "there is no wheel for this Python"
        return rejection(name, "python", f"Python {listed}", python, why, row.source)
    if linux and glibc is None:
        why = "its wheels are for glibc"
        return rejection(name, "glibc", f"glibc {row.glibc}", "another C library", why, row.source)
    if linux and isinstance(glibc, str) and rules.order(glibc) < rules.order(row.glibc):
        return rejection(name, "glibc", f"glibc {row.glibc}", glibc, "its wheels need a newer C library", row.source)
    return None


def _torch_choices(world: Situation, release: Release) -> Iterator[TorchChoice]:
    row, installed, there = release.row, world.facts.target.torch, world.torch_variant
    if installed is not None and there is not None and rules.public(installed.version) == row.release:
        yield TorchChoice(version=row.release, variant=there, index="installed")
    for choice in release.published:
        world.beside = (row.release, choice.variant)
        if choice.index == "pypi" or world.answers("torch", f"torch {row.release}+{choice.variant}"):
            yield choice


def _published(matrix: Matrix, row: TorchRow, pypi: str, platform: rules.Platform) -> tuple[TorchChoice, ...]:
    """The builds of a release for a platform: PyPI's, which is of the variant `pypi`, then the others of torch's index.
    A row's variants are those of Linux x86_64 and Windows; of Linux aarch64 those whose binary was read, and CPU."""
    listed = row.variants if platform.os != "macos" else ()
    if platform.machine in rules.ARM:
        rows = rules.arch_rows(matrix)
        ours = {key for key in rows if key[0] == row.release}
        read = {
            variant for _, variant in ours if any(r.platform == "linux_aarch64" for r in rows[row.release, variant])
        }
        listed = tuple(variant for variant in listed if variant in read | {"cpu"})
    there = (
        TorchChoice(version=row.release, variant=variant, index=matrix.torch_index.format(variant=variant))
        for variant in listed
        if variant != pypi
    )
    return (TorchChoice(version=row.release, variant=pypi, index="pypi"), *there)


def _variant_fits(world: Situation, row: TorchRow, choice: TorchChoice) -> bool:
    for who, asked in world.variants:
        if choice.variant not in asked:
            name, wanted = f"torch {row.release}+{choice.variant}", " or ".join(asked)
            unlocked = f"dropping {whose(who)} torch variant {wanted}"
            world.reject(name, "variant", wanted, choice.variant, f"{who} asked for it", unlocked=unlocked)
            return False
    if choice.variant == "cpu" or not world.has_gpu:
        return True
    build = choice.version, choice.variant
    if build not in world.refused_by_gpu:
        world.refused_by_gpu[build] = _refused_by_gpu(world.matrix, world.facts, choice)
    refused = world.refused_by_gpu[build]
    if refused is not None:
        world.keep(refused)
    return refused is None


def _refused_by_gpu(matrix: Matrix, facts: Facts, choice: TorchChoice) -> Optional[Rejection]:
    """Why this build does not run on the driver or on one of the GPUs."""
    refused = _no_driver(matrix, facts, choice)
    for device in facts.gpu.devices:
        refused = refused or _no_code(matrix, facts, choice, device.compute_capability)
    return refused


def _no_driver(matrix: Matrix, facts: Facts, choice: TorchChoice) -> Optional[Rejection]:
    floor = rules.driver_floor(matrix, choice.variant, facts.host.os)
    why = f"a driver runs CUDA {rules.cuda_of(choice.variant)} from {floor} on"
    return _driver_below(matrix, facts, choice, floor, why)


def _no_code(matrix: Matrix, facts: Facts, choice: TorchChoice, capability: str) -> Optional[Rejection]:
    """Why the binary does not run on a GPU of this capability: neither on machine code, nor on PTX that the driver is
    new enough to compile."""
    name, wanted, variant = f"torch {choice.version}+{choice.variant}", f"code for {capability}", choice.variant
    code = rules.code_for(matrix, choice.version, variant, facts.host, capability)
    if code is None:  # nobody read the binary: its CUDA has to be one that knows the GPU
        cuda, floor = rules.cuda_of(variant) or "", rules.nvcc_floor(matrix, capability)
        if floor is None or rules.order(cuda) >= rules.order(floor):
            return None
        why = f"nobody read the binary, and no CUDA before {floor} knows this GPU"
        return rejection(name, "gpu-arch", wanted, f"CUDA {cuda}", why)
    if code.machine:
        return None
    if not code.ptx:
        why = "the binary holds neither machine code nor PTX that runs on this GPU"
        return rejection(name, "gpu-arch", wanted, variant, why, _arch_source(matrix, choice))
    why = f"for {capability} the binary holds PTX alone, which only a driver as new as its CUDA compiles"
    return _driver_below(matrix, facts, choice, rules.toolkit_driver(matrix, variant, facts.host.os), why)


def _arch_source(matrix: Matrix, choice: TorchChoice) -> tuple[str, ...]:
    rows = rules.arch_rows(matrix).get((choice.version, choice.variant), ())
    return tuple(sorted({key for row in rows for key in row.source}))


def _driver_below(
    matrix: Matrix, facts: Facts, choice: TorchChoice, floor: Optional[str], why: str
) -> Optional[Rejection]:
    """That the driver is older than this floor; None where it is not."""
    if rules.driver_takes(facts, choice.variant, floor):
        return None
    cuda, unlocked = rules.cuda_of(choice.variant) or "", f"driver ≥{floor}"
    if all(rules.is_data_center(matrix, device) for device in facts.gpu.devices):
        unlocked += f", or NVIDIA's cuda-compat-{cuda.replace('.', '-')} before it (this is a data-centre GPU)"
    name, source = f"torch {choice.version}+{choice.variant}", rules.driver_source(matrix, cuda)
    return rejection(name, "driver", f"driver {floor}", str(facts.gpu.driver), why, source, unlocked)


def _with_torchvision(world: Situation, release: Release, choice: TorchChoice) -> Iterator[TorchCandidate]:
    row = release.row
    keep_torch = choice.index == "installed" and world.sound("torch", "torch")
    if choice.index == "installed" and not keep_torch:
        return
    torch_mb = 0 if keep_torch else _torch_mb(row, choice.variant, release.pypi, world.facts.host)
    stays = _torchvision_that_fits(world, release, choice, keep_torch)
    for version in row.torchvision:
        if not world.allows("torchvision", version):
            continue
        if version == stays:
            yield TorchCandidate(row, choice, version, keep_torch, True, torch_mb)
            continue
        source = choice
        if choice.index == "installed":
            found = _torchvision_source(world, release, choice)
            if found is None:
                continue
            source = TorchChoice(version=choice.version, variant=choice.variant, index=found)
        yield TorchCandidate(row, source, version, keep_torch, False, torch_mb + TYPICAL_MB["torchvision"])


def _torchvision_that_fits(world: Situation, release: Release, choice: TorchChoice, keep_torch: bool) -> Optional[str]:
    """The installed torchvision where it is sound and of this torch's build; else None. An import that failed beside
    the torch that stays is final; beside one that goes it says nothing."""
    build = world.facts.target.torchvision_build or world.installed.get("torchvision")
    if build is None or not world.sound("torchvision", "torchvision" if keep_torch else None):
        return None
    label = build.partition("+")[2].partition(".")[0]
    works = keep_torch and not label and world.facts.imported("torchvision") is not None
    fits = works or (label or release.pypi) == choice.variant
    return rules.public(build) if fits else None


def _torchvision_source(world: Situation, release: Release, choice: TorchChoice) -> Optional[str]:
    """Where torchvision of the installed torch's own variant comes from; None when nowhere (then torch must move)."""
    if choice.variant == release.pypi:
        return "pypi"
    asked = f"torch {release.row.release}+{choice.variant} with its torchvision"
    if choice.variant in release.row.variants and world.answers("torch", asked):
        return world.matrix.torch_index.format(variant=choice.variant)
    return None
