"""What could be chosen for each part of the stack, and what speaks against the rest. Pure.

Each function yields the candidates that hold under every rule that concerns its part alone, and hands each rejected
one to `reject` with the fact that rejected it. `resolve.py` couples the parts and picks by cost.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import NamedTuple, Optional

from packaging.specifiers import SpecifierSet

from mmdoctor import rules
from mmdoctor.matrix_model import BinaryRow, Matrix, MmcvRow, OpenmmlabRow, TorchRow
from mmdoctor.model import Artefact, Facts, ImportResult, Index, OpencvChoice, Recipe, Rejection, Request, TorchChoice

MEGABYTE = 1_000_000
# Their wheels name the variant in the local label, which is a choice of its own here.
LABELLED = ("torch", "torchvision")
OLDEST_XTCOCOTOOLS = ">=1.12"  # mmpose's requirements/runtime.txt
FLAVOURS = ("opencv-python-headless", "opencv-python")
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
        pins = {n: rules.public(v) if n in LABELLED else v for n, v in self.request.pins.items()}
        own = [Wanted(name, f"=={version}", "you") for name, version in pins.items()]
        theirs = [Wanted(name, text, f"recipe {recipe.name}") for name, text in recipe.packages.items()]
        return (*own, *theirs)

    @cached_property
    def variants(self) -> tuple[tuple[str, tuple[str, ...]], ...]:
        """The sets of torch variants of which each has to hold the choice, with who set it."""
        labels = [self.request.pins.get(name, "").partition("+")[2] for name in LABELLED]
        asked: list[tuple[str, tuple[str, ...]]] = [("you", (label,)) for label in labels if label]
        if self.request.torch_variants:
            asked.append(("you", self.request.torch_variants))
        if self.recipe.torch_variant:
            asked.append((f"recipe {self.recipe.name}", (self.recipe.torch_variant,)))
        return tuple(asked)

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


# ----------------------------------------------------------------------------------------------------------- mmcv


def mmcv_candidates(world: Situation, torch: TorchCandidate) -> Iterator[MmcvCandidate]:
    """Every mmcv release beside this torch, with the cheapest artefact that there is for it."""
    package = "mmcv-full" if world.recipe.family == "mmpose-0" else "mmcv"
    if not _alone(world, package, rules.MMCV_NAMES):
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


def _alone(world: Situation, name: str, owners: tuple[str, ...]) -> bool:
    """Whether nobody asks for another distribution that owns the same folder."""
    for want in world.wanted:
        if want.name in owners and want.name != name:
            why = f"{want.who} asked for it, and both own one folder"
            world.reject(name, "constraint", f"{want.name}{want.specifier}", name, why)
            return False
    return True


def _mmcv_works(world: Situation, package: str) -> bool:
    if any(name in world.installed for name in rules.MMCV_NAMES if name != package) or not world.sound(package):
        return False
    results = [result for step in ("mmcv", "mmcv._ext", "mmcv.ops") if (result := world.facts.imported(step))]
    pretended = not next(d for d in world.facts.target.distributions if d.name == package).folder
    if not results:
        return pretended or world.facts.extension is not None
    return all(result.status == "ok" or _fault_of_another(result) for result in results)


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
    if _no_compiler(world):
        world.reject(name, "compiler", "a C++ compiler", "none", f"{why_not}, and there is no gcc to compile it")
        return False
    cuda = rules.cuda_of(torch.choice.variant)
    return not world.has_gpu or cuda is None or _can_build_cuda(world, name, cuda, why_not)


def _no_compiler(world: Situation) -> bool:
    """Whether one was looked for and is not there; only gcc is looked for, which is Linux's."""
    toolchain = world.facts.toolchain
    return toolchain.looked and toolchain.gcc is None and world.facts.host.os == "linux"


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
    if not mmpose.needs_mmdet and not world.asks_for("mmdet") and "mmdet" not in world.installed:
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
    for want in world.wanted:
        exact = (s.version for s in SpecifierSet(want.specifier) if want.name == "numpy" and s.operator == "==")
        versions += [version for version in exact if not version.endswith(".*")]
    if "numpy" in world.installed:
        versions.append(world.installed["numpy"])
    for version in sorted(set(versions), key=rules.order, reverse=True):
        name = f"numpy {version}"
        if not world.allows("numpy", version):
            continue
        row = next((row for row in world.matrix.numpy if row.series == rules.minor(version)), None)
        if row is None and world.installed.get("numpy") != version:
            world.reject(name, "numpy", "a known series", version, f"not on PyPI on {world.matrix.read_on}")
            continue
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
    if not _alone(world, flavour, rules.OPENCV_NAMES):
        return
    rows = [row for row in world.matrix.binaries if row.package == flavour]
    installed = world.installed.get(flavour, "")
    stays = opencv_stays(world, flavour, numpy)
    if stays and installed not in {row.version for row in rows} and world.allows(flavour, installed):
        yield OpencvChoice(name=flavour, version=installed), 0  # type: ignore[arg-type]
        return
    rows.sort(key=lambda row: (row.version == installed, rules.order(row.version)), reverse=True)
    for row in rows:
        if world.allows(flavour, row.version) and _numpy_fits(world, row, numpy):
            kept = stays and row.version == installed
            yield (
                OpencvChoice(name=flavour, version=row.version),  # type: ignore[arg-type]
                0 if kept else TYPICAL_MB["opencv"],
            )
            return


def opencv_stays(world: Situation, flavour: str, numpy: str) -> bool:
    """Whether the installed OpenCV of this flavour can stay as it is beside this NumPy. Removing another flavour takes
    its files along, and an import that failed beside a NumPy that goes says nothing."""
    others = any(name in world.installed for name in rules.OPENCV_NAMES if name != flavour)
    return not others and world.sound(flavour, "cv2" if world.installed.get("numpy") == numpy else None)


def opencv_flavour(world: Situation) -> str:
    """The one flavour of the stack: the one that is asked for; else headless where the GUI build would miss libGL;
    else the one that is installed; else the GUI build that mmpose names."""
    if world.recipe.opencv:
        return world.recipe.opencv
    asked = [name for name in FLAVOURS if world.asks_for(name)]
    if asked:
        return asked[0]
    installed = [name for name in FLAVOURS if name in world.installed]
    host, imported = world.facts.host, world.facts.imported("cv2")
    if host.os != "linux" or host.libgl is True:
        return installed[0] if installed else "opencv-python"
    loads = imported.status == "ok" if imported else host.libgl is not False
    return "opencv-python" if installed == ["opencv-python"] and loads else "opencv-python-headless"


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
    if world.facts.imported("xtcocotools._mask") is None:
        works = works and not (_from_wheel(world) and rules.numpy_generation(numpy) == "2")
    if installed and works and world.allows("xtcocotools", installed):
        yield installed, Artefact(kind="installed", source="", reason=f"it loads with numpy {numpy}"), 0.0, 0
        return
    for row in sorted(rows, key=lambda row: rules.order(row.version), reverse=True):
        if not world.allows("xtcocotools", row.version):
            continue
        if not rules.within(row.version, OLDEST_XTCOCOTOOLS):
            name = f"xtcocotools {row.version}"
            world.reject(name, "mmpose", f"xtcocotools {OLDEST_XTCOCOTOOLS}", row.version, "mmpose asks for it")
            return
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
    if _no_compiler(world):
        world.reject(name, "compiler", "a C compiler", "none", f"{reason}, and there is no gcc to compile it")
        return
    artefact = Artefact(kind="build", source=f"sdist xtcocotools-{row.version}", reason=reason)
    yield row.version, artefact, row.build_minutes or 1.0, 1


def _from_wheel(world: Situation) -> bool:
    """Whether the installed xtcocotools came from a wheel of the index, not from a build against some NumPy."""
    distribution = next((d for d in world.facts.target.distributions if d.name == "xtcocotools"), None)
    if distribution is None:
        return False
    row = rules.binary_row(world.matrix, "xtcocotools", distribution.version)
    return rules.prebuilt(distribution, row, world.facts)
