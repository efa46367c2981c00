"""Every NumPy that a torch takes, with an xtcocotools that loads beside it and one OpenCV."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple, Optional

from packaging.specifiers import SpecifierSet

from mmdoctor import rules
from mmdoctor.candidates.situation import FLAVOURS, TYPICAL_MB, Situation
from mmdoctor.matrix_model import BinaryRow, NumpyRow, TorchRow
from mmdoctor.model import Artefact, OpencvChoice


class NumericCandidate(NamedTuple):
    """NumPy with what is bound to it."""

    numpy: str
    xtcocotools: str
    artefact: Artefact
    opencv: OpencvChoice
    minutes: float
    download_mb: int


def numeric_candidates(world: Situation, torch: TorchRow, xtcocotools: str) -> Iterable[NumericCandidate]:
    """Every NumPy that this torch takes, with an xtcocotools of this range that loads beside it and one OpenCV. For a
    new environment worked out once per matrix for what bears on it."""
    if world.about_numbers is None:
        return _candidates(world, torch, xtcocotools)
    key = (numeric_candidates, world.about_numbers, torch.release, xtcocotools)
    return world.shared(key, lambda alone: tuple(_candidates(alone, torch, xtcocotools)))


def _candidates(world: Situation, torch: TorchRow, xtcocotools: str) -> Iterator[NumericCandidate]:
    for numpy in _numpys(world, torch):
        for opencv, opencv_mb in _opencvs(world, numpy):
            for version, artefact, minutes, xtc_mb in _xtcocotools(world, numpy, xtcocotools):
                kept = world.installed.get("numpy") == numpy and world.sound("numpy", "numpy")
                download = (0 if kept else TYPICAL_MB["numpy"]) + opencv_mb + xtc_mb
                yield NumericCandidate(numpy, version, artefact, opencv, minutes, download)


def _numpys(world: Situation, torch: TorchRow) -> Iterator[str]:
    versions = [row.last for row in world.matrix.numpy]
    for want in world.wanted:
        exact = (s.version for s in SpecifierSet(want.specifier) if s.operator == "==") if want.name == "numpy" else ()
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
        stays = world.installed.get("numpy") == version and world.sound("numpy", "numpy")
        if row is not None and not stays and not _numpy_wheel(world, row, name):
            continue
        if rules.numpy_generation(version) > torch.numpy:
            why = f"torch {torch.release} was built for NumPy {torch.numpy} and cannot take arrays of NumPy 2"
            beside = f"{name} with torch {torch.release}"
            world.reject(beside, "numpy-generation", "numpy <2", version, why, torch.source)
            continue
        yield version


def _numpy_wheel(world: Situation, row: NumpyRow, name: str) -> bool:
    """Whether there is a wheel of it for this Python and C library."""
    if rules.minor(world.python) not in row.python:
        wanted = f"Python {', '.join(row.python)}"
        world.reject(name, "python", wanted, world.python, "there is no wheel for this Python", row.source)
        return False
    glibc = world.facts.host.glibc if world.facts.host.os == "linux" else None
    if row.glibc and isinstance(glibc, str) and rules.order(glibc) < rules.order(row.glibc):
        world.reject(name, "glibc", f"glibc {row.glibc}", glibc, "its wheels need a newer C library", row.source)
        return False
    return True


def _opencvs(world: Situation, numpy: str) -> Iterator[tuple[OpencvChoice, int]]:
    flavour = opencv_flavour(world)
    if not world.alone(flavour, rules.OPENCV_NAMES):
        return
    rows = list(rules.binary_rows(world.matrix, flavour))
    installed = world.installed.get(flavour, "")
    stays = opencv_stays(world, flavour, numpy)
    if stays and installed not in {row.version for row in rows} and world.allows(flavour, installed):
        yield OpencvChoice(name=flavour, version=installed), 0  # type: ignore[arg-type]
        return
    rows.sort(key=lambda row: not (stays and row.version == installed))
    for row in rows:
        kept = stays and row.version == installed
        allowed = world.allows(flavour, row.version, row.withdrawn)
        if allowed and (kept or _has_wheel(world, row)) and _numpy_fits(world, row, numpy):
            choice = OpencvChoice(name=flavour, version=row.version)  # type: ignore[arg-type]
            yield choice, 0 if kept else TYPICAL_MB["opencv"]
            if flavour not in world.foreign:
                return  # the rest are only older


def _has_wheel(world: Situation, row: BinaryRow) -> bool:
    pythons = rules.wheel_pythons(row, world.facts.host)
    if rules.minor(world.python) in pythons:
        return True
    wanted, why = f"Python {', '.join(pythons) or 'none on this platform'}", "there is no wheel for this Python"
    world.reject(f"{row.package} {row.version}", "python", wanted, world.python, why, row.source)
    return False


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
        world.reject(name, "numpy-range", f"numpy{row.numpy}", numpy, "it declares that range", row.source)
        return False
    if rules.numpy_generation(numpy) == "2" and row.built_on == "1":
        world.reject(name, "numpy-generation", "numpy <2", numpy, "its wheel was built for NumPy 1", row.source)
        return False
    return True


def _xtcocotools(world: Situation, numpy: str, wanted: str) -> Iterator[tuple[str, Artefact, float, int]]:
    """Of each kind of artefact the newest release; that of the least minutes among those to compile."""
    installed = world.installed.get("xtcocotools")
    works = world.sound("xtcocotools", "xtcocotools._mask") and world.installed.get("numpy") == numpy
    if world.facts.imported("xtcocotools._mask") is None:
        works = works and not (_from_wheel(world) and rules.numpy_generation(numpy) == "2")
    if installed and works and _xtcocotools_fits(world, installed, wanted):
        yield installed, Artefact(kind="installed", source="", reason=f"it loads with numpy {numpy}"), 0.0, 0
        return
    best: dict[str, tuple[str, Artefact, float, int]] = {}
    for row in rules.binary_rows(world.matrix, "xtcocotools"):
        if not _xtcocotools_fits(world, row.version, wanted, row.withdrawn):
            continue
        for found in _xtcocotools_artefacts(world, row, numpy):
            kind, minutes = found[1].kind, found[2]
            if kind not in best or minutes < best[kind][2]:
                best[kind] = found
    yield from best.values()


def _xtcocotools_fits(world: Situation, version: str, wanted: str, withdrawn: Optional[str] = None) -> bool:
    if not world.allows("xtcocotools", version, withdrawn):
        return False
    if not rules.within(version, wanted):
        world.reject(f"xtcocotools {version}", "mmpose", f"xtcocotools {wanted}", version, "mmpose asks for it")
        return False
    return True


def _xtcocotools_artefacts(world: Situation, row: BinaryRow, numpy: str) -> Iterator[tuple[str, Artefact, float, int]]:
    name = f"xtcocotools {row.version} with numpy {numpy}"
    has_wheel = rules.minor(world.python) in rules.wheel_pythons(row, world.facts.host)
    if has_wheel and rules.numpy_generation(numpy) == "1":
        # An import that failed beside a NumPy that goes says nothing; beside one that stays it is final.
        tried = "xtcocotools._mask" if world.installed.get("numpy") == numpy else None
        there = world.installed.get("xtcocotools") == row.version
        if there and world.sound("xtcocotools", tried) and _from_wheel(world):
            yield row.version, Artefact(kind="installed", source="", reason="its wheel was built for NumPy 1"), 0.0, 0
        else:
            reason = "its wheel was built for NumPy 1"
            yield row.version, Artefact(kind="wheel", source="pypi", reason=reason), 0.0, TYPICAL_MB["xtcocotools"]
        return
    reason = "its wheels were built for NumPy 1" if has_wheel else f"it has no wheel for Python {world.python} here"
    for cached in world.facts.wheels:
        same = (cached.name, cached.version, cached.python_tag, cached.numpy) == (
            "xtcocotools",
            row.version,
            world.tag,
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
    if not world.compiles(name, "a C compiler", reason):
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
