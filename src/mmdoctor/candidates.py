"""What could be chosen for each part of the stack, and what speaks against the rest. Pure.

Each function yields the candidates that hold under every rule that concerns its part alone, and hands each rejected
one to `reject` with the fact that rejected it. `resolve.py` couples the parts and picks by cost.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import NamedTuple, Optional

from mmdoctor import rules
from mmdoctor.matrix_model import BinaryRow, Matrix, MmcvRow, OpenmmlabRow, TorchRow
from mmdoctor.model import Artefact, Facts, Index, OpencvChoice, Recipe, Rejection, Request, TorchChoice

IMPORT_OF = {"torch": "torch", "numpy": "numpy", "xtcocotools": "xtcocotools._mask", "opencv": "cv2"}
MEGABYTE = 1_000_000
# The wheels are of one release each; these are the sizes of a typical one on the index, where the matrix has none.
TYPICAL_MB = {"cpu": 200, "cuda": 2500, "torchvision": 8, "numpy": 18, "opencv": 60, "mmcv": 95, "xtcocotools": 1}


class Wanted(NamedTuple):
    """One constraint on one package, and who set it."""

    name: str
    specifier: str
    who: str


class TorchCandidate(NamedTuple):
    row: TorchRow
    choice: TorchChoice
    torchvision: str
    keep_torch: bool
    keep_torchvision: bool
    download_mb: int


class MmcvCandidate(NamedTuple):
    row: MmcvRow
    artefact: Artefact
    minutes: float
    download_mb: int


class NumericCandidate(NamedTuple):
    """NumPy with what is bound to it."""

    numpy: str
    xtcocotools: str
    artefact: Artefact
    opencv: OpencvChoice
    minutes: float
    download_mb: int


class Situation:
    """Facts, matrix and request together, with what is asked of them again and again."""

    def __init__(self, facts: Facts, matrix: Matrix, request: Request) -> None:
        self.facts = facts
        self.matrix = matrix
        self.request = request
        self.rejected: dict[tuple[str, str], Rejection] = {}

    @property
    def recipe(self) -> Recipe:
        return self.request.recipe

    @cached_property
    def python(self) -> str:
        return self.facts.target.python

    @cached_property
    def installed(self) -> dict[str, str]:
        return {d.name: d.version for d in self.facts.target.distributions}

    @cached_property
    def wanted(self) -> tuple[Wanted, ...]:
        recipe = self.recipe
        own = [Wanted(name, f"=={version}", "you") for name, version in self.request.pins.items()]
        theirs = [Wanted(name, text, f"recipe {recipe.name}") for name, text in recipe.packages.items()]
        pinned = {want.name for want in own}
        return (*own, *(want for want in theirs if want.name not in pinned))

    @cached_property
    def has_gpu(self) -> bool:
        return bool(self.facts.gpu.devices)

    def reject(self, candidate: str, fact: str, wanted: str, observed: str, why: str) -> None:
        """Keep why a candidate is out; the first fact stands."""
        self.rejected.setdefault(
            (candidate, fact), Rejection(candidate=candidate, fact=fact, wanted=wanted, observed=observed, why=why)
        )

    def allows(self, name: str, version: str) -> bool:
        """Whether every constraint on `name` holds for `version`; if not, it is rejected by who set it."""
        for want in self.wanted:
            if want.name == name and not rules.within(version, want.specifier):
                self.reject(
                    f"{name} {version}", "constraint", f"{name}{want.specifier}", version, f"{want.who} asked for it"
                )
                return False
        return True

    def asks_for(self, name: str) -> bool:
        """Whether the recipe or the user names this package."""
        return any(want.name == name for want in self.wanted)

    def sound(self, name: str, module: Optional[str] = None) -> bool:
        """Whether an installed distribution has all its files and its import ended well where it was tried."""
        distribution = next((d for d in self.facts.target.distributions if d.name == name), None)
        if distribution is None or distribution.record == "missing" or distribution.missing_files:
            return False
        result = self.facts.imported(module) if module else None
        return result is None or result.status == "ok"

    def index(self, name: str) -> Optional[Index]:
        """What was seen of an index; None when nothing was looked at."""
        return next((index for index in self.facts.indexes if index.name == name), None)

    def answers(self, name: str, candidate: str) -> bool:
        """Whether an index may be counted on: it answered, or nobody could look (an assumption then)."""
        index = self.index(name)
        if index is None or index.reachable is not False:
            return True
        self.reject(candidate, f"index:{name}", f"{index.url} answers", "no answer", index.reason or "no answer")
        return False


# ---------------------------------------------------------------------------------------------------------- torch


def torch_candidates(world: Situation) -> Iterator[TorchCandidate]:
    """Every torch release, variant and source with its torchvision, newest first."""
    for row in sorted(world.matrix.torch, key=lambda row: rules.order(row.release), reverse=True):
        if not world.allows("torch", row.release) or not _fits_machine(world, row):
            continue
        for choice in _torch_choices(world, row):
            if _variant_fits(world, row, choice):
                yield from _with_torchvision(world, row, choice)


def _fits_machine(world: Situation, row: TorchRow) -> bool:
    name = f"torch {row.release}"
    host = world.facts.host
    pythons = rules.wheel_pythons(row, host)
    if rules.minor(world.python) not in pythons:
        listed = ", ".join(pythons) or "none on this platform"
        world.reject(name, "python", f"Python {listed}", world.python, "there is no wheel for this Python")
        return False
    if host.os == "linux" and isinstance(host.glibc, str) and rules.order(host.glibc) < rules.order(row.glibc):
        world.reject(name, "glibc", f"glibc {row.glibc}", host.glibc, "its wheels need a newer C library")
        return False
    return True


def _torch_choices(world: Situation, row: TorchRow) -> Iterator[TorchChoice]:
    installed = world.facts.target.torch
    if installed is not None and rules.public(installed.version) == row.release:
        variant = rules.variant_of(installed.version, installed.cuda)
        yield TorchChoice(version=row.release, variant=variant, index="installed")
    pypi = rules.pypi_variant(row, world.facts.host)
    yield TorchChoice(version=row.release, variant=pypi, index="pypi")
    for variant in row.variants:
        if variant != pypi and world.answers("torch", f"torch {row.release}+{variant}"):
            yield TorchChoice(version=row.release, variant=variant, index=world.matrix.torch_index.format(variant=variant))


def _variant_fits(world: Situation, row: TorchRow, choice: TorchChoice) -> bool:
    name, gpu = f"torch {row.release}+{choice.variant}", world.facts.gpu
    asked = world.request.torch_variants or ((world.recipe.torch_variant,) if world.recipe.torch_variant else ())
    if asked and choice.variant not in asked:
        who = "you" if world.request.torch_variants else f"recipe {world.recipe.name}"
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
        label = build.partition("+")[2]
        pair = rules.public(build) == version and (label == choice.variant or (not label and choice.variant != "cpu"))
        if pair and _torchvision_sound(world, keep_torch):
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


# ----------------------------------------------------------------------------------------------------------- mmcv


def mmcv_candidates(world: Situation, torch: TorchCandidate) -> Iterator[MmcvCandidate]:
    """Every mmcv release beside this torch, with the cheapest artefact that there is for it."""
    package = "mmcv-full" if world.recipe.family == "mmpose-0" else "mmcv"
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
    for cached in world.facts.wheels:
        fits = (cached.name, cached.version, cached.python_tag) == (row.package, row.version, tag)
        if fits and cached.torch == f"{choice.version}+{choice.variant}":
            reason = f"built and proven here against torch {cached.torch}"
            return MmcvCandidate(row, Artefact(kind="cached", source=cached.path, reason=reason), 0.0, 0)
    why_not = "the wheel index does not answer" if wheel is not None else f"no wheel exists for it beside {beside}"
    if not _can_build(world, row, torch, name, why_not):
        return None
    cores = max(world.facts.host.cpu_count, 1)
    minutes = round(row.build_minutes_2_cores * 2 / cores, 1)
    artefact = Artefact(kind="build", source=f"sdist {row.package}-{row.version}", reason=why_not)
    return MmcvCandidate(row, artefact, minutes, 1)


def _mmcv_works(world: Situation, package: str) -> bool:
    others = [name for name in rules.MMCV_NAMES if name != package and name in world.installed]
    return not others and all(world.sound(package, step) for step in ("mmcv", "mmcv._ext", "mmcv.ops"))


def _can_build(world: Situation, row: MmcvRow, torch: TorchCandidate, name: str, why_not: str) -> bool:
    facts = world.facts
    if not world.request.allow_build:
        world.reject(
            name, "no-build", "no compile", "only the sdist", f"{why_not}, and --no-build forbids to compile it"
        )
        return False
    if not rules.within(torch.row.release, row.torch):
        why = "its source does not compile against this torch, nor is a fix-up known"
        world.reject(name, "source", f"torch {row.torch}", torch.row.release, why)
        return False
    if facts.toolchain.gcc is None and facts.host.os == "linux":
        world.reject(name, "compiler", "a C++ compiler", "none", f"{why_not}, and there is no gcc to compile it")
        return False
    cuda = rules.cuda_of(torch.choice.variant)
    if not world.has_gpu or cuda is None:
        return True
    nvcc = facts.toolchain.nvcc
    version = nvcc.version if nvcc is not None and isinstance(nvcc.version, str) else None
    if version is None or version.split(".")[0] != cuda.split(".")[0]:
        why = f"{why_not}; its CUDA ops need nvcc of torch's CUDA major"
        world.reject(name, "nvcc", f"nvcc {cuda.split('.')[0]}.x", version or "none", why)
        return False
    return True


# ------------------------------------------------------------------------------------------- mmengine, mmdet, mmpose


class OpenmmlabCandidate(NamedTuple):
    mmpose: OpenmmlabRow
    mmdet: Optional[OpenmmlabRow]
    mmengine: Optional[OpenmmlabRow]
    soft: int


def openmmlab_candidates(world: Situation, mmcv: MmcvRow) -> Iterator[OpenmmlabCandidate]:
    """Every mmpose with an mmdet and mmengine that accept this mmcv and each other. `soft` counts declared ranges
    (`[mim]`) that do not hold; nothing asserts those."""
    major = "0" if world.recipe.family == "mmpose-0" else "1"
    for mmpose in rules.mmlab_rows(world.matrix, "mmpose"):
        if not mmpose.version.startswith(major) or not world.allows("mmpose", mmpose.version):
            continue
        if not _accepts(world, mmpose, mmcv):
            continue
        for mmdet in _mmdets(world, mmpose, mmcv):
            for mmengine in _mmengines(world, mmpose, mmdet):
                soft = _soft(mmpose, mmdet, mmengine, mmcv)
                yield OpenmmlabCandidate(mmpose, mmdet, mmengine, soft)
                break  # the rest are only older


def _accepts(world: Situation, row: OpenmmlabRow, mmcv: MmcvRow) -> bool:
    name = f"{row.project} {row.version} with {mmcv.package} {mmcv.version}"
    if row.mmcv_package not in (None, mmcv.package):
        world.reject(name, "generation", f"{row.mmcv_package} {row.mmcv}", mmcv.package, "of the other generation")
        return False
    if not rules.within(mmcv.version, row.mmcv):
        why = f"{row.project} asserts it at import"
        world.reject(name, "mmcv-range", f"{mmcv.package} {row.mmcv}", mmcv.version, why)
        return False
    return True


def _mmdets(world: Situation, mmpose: OpenmmlabRow, mmcv: MmcvRow) -> Iterator[Optional[OpenmmlabRow]]:
    if not mmpose.needs_mmdet and not world.asks_for("mmdet"):
        yield None
        return
    for mmdet in rules.mmlab_rows(world.matrix, "mmdet"):
        if world.allows("mmdet", mmdet.version) and _accepts(world, mmdet, mmcv):
            yield mmdet


def _mmengines(
    world: Situation, mmpose: OpenmmlabRow, mmdet: Optional[OpenmmlabRow]
) -> Iterator[Optional[OpenmmlabRow]]:
    if mmpose.mmengine is None and not world.asks_for("mmengine"):
        yield None
        return
    rows = rules.mmlab_rows(world.matrix, "mmengine")
    kept = world.installed.get("mmengine") if world.sound("mmengine") else None
    for row in sorted(rows, key=lambda row: row.version != kept):
        ranges = (mmpose.mmengine, mmdet.mmengine if mmdet else None)
        if world.allows("mmengine", row.version) and all(rules.within(row.version, text) for text in ranges):
            yield row


def _soft(mmpose: OpenmmlabRow, mmdet: Optional[OpenmmlabRow], mmengine: Optional[OpenmmlabRow], mmcv: MmcvRow) -> int:
    chosen = {"mmdet": mmdet, "mmengine": mmengine}
    versions = {name: row.version for name, row in chosen.items() if row is not None}
    versions[mmcv.package] = mmcv.version
    declared = [*mmpose.mim.items(), *(mmdet.mim.items() if mmdet else ())]
    return sum(name in versions and not rules.within(versions[name], text) for name, text in declared)


# ------------------------------------------------------------------------------------ NumPy and what is bound to it


def numeric_candidates(world: Situation, torch: TorchRow) -> Iterator[NumericCandidate]:
    """Every NumPy that this torch takes, with an xtcocotools that loads beside it and one OpenCV."""
    for numpy in _numpys(world, torch):
        for opencv, opencv_mb in _opencvs(world, numpy):
            for version, artefact, minutes, xtc_mb in _xtcocotools(world, numpy):
                kept = world.installed.get("numpy") == numpy and world.sound("numpy", "numpy")
                download = (0 if kept else TYPICAL_MB["numpy"]) + opencv_mb + xtc_mb
                yield NumericCandidate(numpy, version, artefact, opencv, minutes, download)


def _numpys(world: Situation, torch: TorchRow) -> Iterator[str]:
    rows = {row.last: row for row in world.matrix.numpy}
    versions = list(rows)
    versions += [
        want.specifier[2:] for want in world.wanted if want.name == "numpy" and want.specifier.startswith("==")
    ]
    if "numpy" in world.installed:
        versions.append(world.installed["numpy"])
    for version in sorted(set(versions), key=rules.order, reverse=True):
        name = f"numpy {version}"
        if not world.allows("numpy", version):
            continue
        row = next((row for row in world.matrix.numpy if row.series == rules.minor(version)), None)
        if row is not None and rules.minor(world.python) not in row.python:
            wanted = f"Python {', '.join(row.python)}"
            world.reject(name, "python", wanted, world.python, "there is no wheel for this Python")
            continue
        if rules.numpy_generation(version) > torch.numpy:
            why = f"torch {torch.release} was built for NumPy {torch.numpy} and cannot take arrays of NumPy 2"
            world.reject(f"{name} with torch {torch.release}", "numpy-generation", "numpy <2", version, why)
            continue
        yield version


def _opencvs(world: Situation, numpy: str) -> Iterator[tuple[OpencvChoice, int]]:
    flavour = opencv_flavour(world)
    rows = [row for row in world.matrix.binaries if row.package == flavour]
    kept = world.installed.get(flavour) if world.sound(flavour, "cv2") else None
    others = any(name in world.installed for name in rules.OPENCV_NAMES if name != flavour)
    fitting = [
        row
        for row in sorted(rows, key=lambda row: rules.order(row.version), reverse=True)
        if world.allows(flavour, row.version) and _numpy_fits(world, row, numpy)
    ]
    known = {row.version for row in rows}
    for row in fitting:
        if row.version == kept and not others:
            yield OpencvChoice(name=flavour, version=row.version), 0  # type: ignore[arg-type]
            return
    if kept and not others and kept not in known and world.allows(flavour, kept):
        yield OpencvChoice(name=flavour, version=kept), 0  # type: ignore[arg-type]
        return
    for row in fitting[:1]:
        yield OpencvChoice(name=flavour, version=row.version), TYPICAL_MB["opencv"]  # type: ignore[arg-type]


def opencv_flavour(world: Situation) -> str:
    """The one flavour of the stack: the recipe's; else headless where the GUI build would miss libGL; else the one
    that is installed; else the GUI build that mmpose names."""
    asked = world.recipe.opencv
    if asked:
        return asked
    installed = [name for name in ("opencv-python-headless", "opencv-python") if name in world.installed]
    if world.facts.host.libgl is not True:
        return "opencv-python-headless"
    return installed[0] if installed else "opencv-python"


def _numpy_fits(world: Situation, row: BinaryRow, numpy: str) -> bool:
    name = f"{row.package} {row.version} with numpy {numpy}"
    if not rules.within(numpy, row.numpy):
        world.reject(name, "numpy-range", f"numpy{row.numpy}", numpy, "it declares that range")
        return False
    if rules.numpy_generation(numpy) == "2" and row.built_on == "1":
        world.reject(name, "numpy-generation", "numpy <2", numpy, "its wheel was built for NumPy 1")
        return False
    return True


def _xtcocotools(world: Situation, numpy: str) -> Iterator[tuple[str, Artefact, float, int]]:
    rows = [row for row in world.matrix.binaries if row.package == "xtcocotools"]
    installed = world.installed.get("xtcocotools")
    works = world.sound("xtcocotools", "xtcocotools._mask") and world.installed.get("numpy") == numpy
    if installed and works and world.allows("xtcocotools", installed):
        yield installed, Artefact(kind="installed", source="", reason=f"it loads with numpy {numpy}"), 0.0, 0
        return
    for row in sorted(rows, key=lambda row: rules.order(row.version), reverse=True):
        if not rules.within(row.version, ">=1.12") or not world.allows("xtcocotools", row.version):
            continue
        yield from _xtcocotools_artefacts(world, row, numpy)
        return


def _xtcocotools_artefacts(world: Situation, row: BinaryRow, numpy: str) -> Iterator[tuple[str, Artefact, float, int]]:
    name = f"xtcocotools {row.version} with numpy {numpy}"
    has_wheel = rules.minor(world.python) in rules.wheel_pythons(row, world.facts.host)
    if has_wheel and rules.numpy_generation(numpy) == "1":
        if world.installed.get("xtcocotools") == row.version and world.sound("xtcocotools") and _from_wheel(world):
            yield row.version, Artefact(kind="installed", source="", reason="its wheel was built for NumPy 1"), 0.0, 0
        else:
            reason = "its wheel was built for NumPy 1"
            yield row.version, Artefact(kind="wheel", source="pypi", reason=reason), 0.0, TYPICAL_MB["xtcocotools"]
        return
    reason = "its wheels were built for NumPy 1" if has_wheel else f"it has no wheel for Python {world.python} here"
    tag = "cp" + rules.minor(world.python).replace(".", "")
    for cached in world.facts.wheels:
        same = (cached.name, cached.version, cached.python_tag, cached.numpy) == (
            "xtcocotools",
            row.version,
            tag,
            numpy,
        )
        if same:
            yield (
                row.version,
                Artefact(kind="cached", source=cached.path, reason=f"built here for numpy {numpy}"),
                0.0,
                0,
            )
            return
    if not world.request.allow_build:
        world.reject(
            name, "no-build", "no compile", "only the sdist", f"{reason}, and --no-build forbids to compile it"
        )
        return
    if world.facts.toolchain.gcc is None and world.facts.host.os == "linux":
        world.reject(name, "compiler", "a C compiler", "none", f"{reason}, and there is no gcc to compile it")
        return
    artefact = Artefact(kind="build", source=f"sdist xtcocotools-{row.version}", reason=reason)
    yield row.version, artefact, row.build_minutes or 1.0, 1


def _from_wheel(world: Situation) -> bool:
    """Whether the installed xtcocotools came from a wheel of the index, not from a build against some NumPy."""
    distribution = next(d for d in world.facts.target.distributions if d.name == "xtcocotools")
    return distribution.tag is not None and "-linux_" not in distribution.tag
