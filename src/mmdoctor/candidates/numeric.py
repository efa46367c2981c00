"""Every NumPy that a torch takes, with an xtcocotools that loads beside it and one OpenCV."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from packaging.specifiers import SpecifierSet

from mmdoctor import rules
from mmdoctor.candidates.situation import FLAVOURS, OLDEST_XTCOCOTOOLS, TYPICAL_MB, Situation
from mmdoctor.matrix_model import BinaryRow, TorchRow
from mmdoctor.model import Artefact, OpencvChoice


class NumericCandidate(NamedTuple):
    """NumPy with what is bound to it."""

    numpy: str
    xtcocotools: str
    artefact: Artefact
    opencv: OpencvChoice
    minutes: float
    download_mb: int


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
    if not world.alone(flavour, rules.OPENCV_NAMES):
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
    if world.no_compiler():
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
