"""Where an mmcv can come from without a compile, in the order in which the sources are asked: what is installed, its
publisher's index, mmdoctor's cache, the user's own places. A source that has it not says why."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Callable, NamedTuple, Optional, Union

from mmdoctor import rules
from mmdoctor.candidates.situation import Situation
from mmdoctor.candidates.torch import TorchCandidate
from mmdoctor.matrix_model import Matrix, MmcvRow, MmcvWheelRow
from mmdoctor.model import Artefact, Host, ImportResult, Index, OfferedWheel


class Found(NamedTuple):
    """An artefact, and the version that it has there, with local label."""

    artefact: Artefact
    version: str


class Miss(NamedTuple):
    """Why a source does not give a wheel: the rejection's words. `unlocked` as in `Situation.reject`."""

    source: str
    wanted: str
    observed: str
    why: str
    unlocked: Optional[str] = None

    @property
    def said(self) -> str:
        """`openmmlab: no wheel for torch 2.6`."""
        return f"{self.source}: {self.why}"


class Asked(NamedTuple):
    """An mmcv beside a torch. `tag` is the wheel's Python tag, `archs` what CUDA ops are for."""

    row: MmcvRow
    torch: TorchCandidate
    tag: str
    archs: str

    @classmethod
    def of(cls, world: Situation, row: MmcvRow, torch: TorchCandidate) -> Asked:
        """This mmcv beside this torch in a situation."""
        return cls(row, torch, world.tag, rules.cuda_archs(world.facts, torch.choice.variant))

    @property
    def name(self) -> str:
        """The candidate's name in rejections."""
        return f"{self.row.package} {self.row.version} beside torch {self.build}"

    @property
    def build(self) -> str:
        """The torch with its variant as a local label."""
        return f"{self.torch.choice.version}+{self.torch.choice.variant}"


Answer = Union[Found, Miss, None]
PLACES = ("find-links", "extra-index")


def installed(world: Situation, asked: Asked) -> Answer:
    """What is installed, where it loads beside this torch."""
    package = asked.row.package
    version = world.installed.get(package, "")
    if rules.public(version) != asked.row.version:
        return None
    if asked.torch.keep_torch and _works(world, package, asked.torch.choice.variant):
        return Found(Artefact(kind="installed", source="", reason="it loads beside this torch"), version)
    torch, extension = world.facts.target.torch, world.facts.extension
    why = "it does not load" if asked.torch.keep_torch or not torch else f"it stands beside torch {torch.version}"
    if extension is not None and rules.without_cuda_ops(world.facts, extension, asked.torch.choice.variant):
        why = "it was compiled for the CPU alone"
    return Miss("installed", f"an mmcv that loads beside torch {asked.build}", version, why)


def published(world: Situation, asked: Asked) -> Answer:
    """The wheel of its publisher's index: OpenMMLab's, or a fork's, which is asked only where the fork is named."""
    row, choice, host = asked.row, asked.torch.choice, world.facts.host
    index = rules.wheel_index(world.matrix, row.package)
    wheel = rules.mmcv_wheel(world.matrix, row.package, row.version, host, choice.variant, choice.version, world.python)
    if wheel is None:
        torch, python = rules.minor(choice.version), rules.minor(world.python)
        mmcv = (row.package, row.version)
        why = _not_published(world.matrix, mmcv, host.os, host.machine, choice.variant, torch, python)
        return Miss(index.name, f"a wheel for torch {torch} {choice.variant}, Python {python}", "none", why)
    glibc = host.glibc if host.os == "linux" and isinstance(host.glibc, str) else None
    if index.glibc and glibc and rules.order(glibc) < rules.order(index.glibc):
        floor = f"glibc {index.glibc}"
        return Miss(index.name, floor, glibc, f"its wheel wants {floor}", f"glibc ≥{index.glibc}")
    for capability in _without_code(world, wheel):
        held = ", ".join(wheel.archs)
        why = f"its wheel holds code for {held}, not for {capability}"
        return Miss(index.name, f"code for {capability}", held, why)
    place = next((place for place, other in _offers(world, asked) if not _serves(other, asked)), None)
    if place is not None:
        why = f"an installer may take the {row.version} of {place.url} instead, which is for another torch or unknown"
        return Miss(index.name, "one wheel of this version", "two", why, f"pip and uv without {place.url}")
    address = index.address(wheel.variant, wheel.torch)
    if index.name == "openmmlab" and not world.answers("openmmlab", f"wheel of {asked.name}"):
        return Miss(index.name, f"{address} answers", "no answer", "it does not answer", f"{address} answers")
    reason = f"prebuilt for torch {wheel.torch} {wheel.variant}"
    return Found(Artefact(kind="wheel", source=address, reason=reason), row.version)


def cached(world: Situation, asked: Asked) -> Answer:
    """The wheel that was compiled here, or by the team, and proven."""
    miss = None
    for wheel in world.facts.wheels:
        if (wheel.name, wheel.version) != (asked.row.package, asked.row.version):
            continue
        if wheel.python_tag != asked.tag:
            miss = miss or Miss("cache", asked.tag, wheel.python_tag, f"built for {wheel.python_tag}")
        elif wheel.torch != asked.build:
            miss = Miss("cache", f"torch {asked.build}", wheel.torch, f"built against {wheel.torch}")
        elif wheel.archs != asked.archs:
            held = wheel.archs or "the CPU alone"
            miss = Miss("cache", asked.archs or "CPU ops", held, f"built for {held}")
        else:
            reason = f"built and proven here against torch {wheel.torch}"
            return Found(Artefact(kind="cached", source=wheel.path, reason=reason), wheel.version)
    return miss


def offered(world: Situation, asked: Asked) -> Answer:
    """A wheel of the user's own places (find-links, a further index), where something says what it was compiled for.

    A file name says nothing of torch: beside another one the wheel installs, and dies with an undefined symbol at its
    import. So only a wheel is taken that a label, an address or a proof names torch and CUDA of. Its source is the kind
    of the place: the address is in the user's own settings, which an installer reads itself.
    """
    here = list(_offers(world, asked))
    fits = [(place, wheel) for place, wheel in here if _serves(wheel, asked)]
    for place, wheel in fits:
        if all(_serves(other, asked) for _, other in here if rules.within(other.version, f"=={wheel.version}")):
            reason = f"{wheel.says} at {place.url} says that it was compiled for torch {wheel.torch}"
            return Found(Artefact(kind="wheel", source=place.name, reason=reason), wheel.version)
    if fits:
        why = f"an installer may take another {asked.row.version} of your places, which is for another torch or unknown"
        return Miss(fits[0][0].name, "one wheel of this version", "several", why)
    if here:
        return _unserved(*here[0], asked)
    for place, wheel in _wheels(world, asked):
        wanted = f"{asked.tag} on {world.facts.host.os} {world.facts.host.machine}"
        other = "is for another Python" if wheel.python_tag != asked.tag else "is for another platform"
        why = f"{wheel.file} {'holds no compiled ops' if wheel.platforms == ('any',) else other}"
        return Miss(place.name, wanted, wheel.file, why)
    for place in world.facts.indexes:
        if place.name in PLACES and place.reachable is False:
            why = f"{place.url} does not answer ({place.reason})"
            return Miss(place.name, f"{place.url} answers", "no answer", why, f"{place.url} answers")
    return None


SOURCES: tuple[Callable[[Situation, Asked], Answer], ...] = (installed, published, cached, offered)


def _wheels(world: Situation, asked: Asked) -> Iterator[tuple[Index, OfferedWheel]]:
    """The wheels of this release in the user's places, for whatever Python and platform."""
    for place, wheel in world.offers:
        if wheel.name == asked.row.package and rules.public(wheel.version) == asked.row.version:
            yield place, wheel


def _offers(world: Situation, asked: Asked) -> Iterator[tuple[Index, OfferedWheel]]:
    """Those of them that an installer would take here."""
    for place, wheel in _wheels(world, asked):
        if wheel.python_tag == asked.tag and any(_runs(tag, world.facts.host) for tag in wheel.platforms):
            yield place, wheel


def _runs(platform: str, host: Host) -> bool:
    """Whether a platform tag (PEP 425, PEP 600) is one of this machine's."""
    machine = {"AMD64": "x86_64", "arm64": "aarch64"}.get(host.machine, host.machine)
    if host.os == "windows":
        return platform == ("win_arm64" if machine == "aarch64" else "win_amd64")
    if host.os == "macos":
        mine = "arm64" if machine == "aarch64" else machine
        return platform.startswith("macosx_") and platform.endswith((mine, "universal2"))
    kind, _, rest = platform.partition("_")
    if not platform.endswith(machine) or not kind.startswith(("manylinux", "linux")):
        return False
    floor = ".".join(rest.split("_")[:2]) if kind == "manylinux" else "0"
    return not isinstance(host.glibc, str) or rules.order(floor) <= rules.order(host.glibc)


def _serves(wheel: OfferedWheel, asked: Asked) -> bool:
    """Whether something says that it was compiled for this torch minor and variant, and not for other GPUs."""
    choice = asked.torch.choice
    if wheel.torch is None or rules.minor(wheel.torch) != rules.minor(choice.version):
        return False
    same_archs = wheel.says != "its proof" or wheel.archs == asked.archs
    return wheel.torch.partition("+")[2] == choice.variant and same_archs


def _unserved(place: Index, wheel: OfferedWheel, asked: Asked) -> Miss:
    if wheel.torch is None:
        label = f"{asked.row.version}+torch{asked.torch.choice.version}.{asked.torch.choice.variant}"
        why = f"nothing says which torch {wheel.file} was compiled for (a version {label} would, or mmdoctor's proof)"
        unlocked = "that wheel installed beside its torch: mmdoctor keeps an mmcv that loads"
        return Miss(place.name, f"a wheel for torch {asked.build}", "unknown", why, unlocked)
    held = f"torch {wheel.torch}" + (f" and {wheel.archs or 'the CPU'}" if wheel.says == "its proof" else "")
    why = f"{wheel.says} says that {wheel.file} is for {held}"
    return Miss(place.name, f"a wheel for torch {asked.build}", held, why)


@rules.remembered
def _not_published(
    matrix: Matrix, mmcv: tuple[str, str], os: str, machine: str, variant: str, torch: str, python: str
) -> str:
    """Why the publisher's index has no wheel of this release here: the nearest thing that it has."""
    package, version = mmcv
    same = [wheel for wheel in matrix.mmcv_wheels if wheel.package == package and wheel.os == os]
    if machine not in rules.X86 or not same:
        return f"no wheel for {os} {machine}"
    torches = [wheel for wheel in same if wheel.torch == torch]
    if not torches:
        return f"no wheel for torch {torch}"
    beside = next((wheel for wheel in torches if wheel.variant == variant), None)
    if beside is None:
        return f"no wheel for torch {torch} {variant}, only for {', '.join(wheel.variant for wheel in torches)}"
    if version not in beside.versions:
        return f"no wheel of {version} for torch {torch} {variant}, only of {', '.join(beside.versions)}"
    row = rules.mmcv_row(matrix, package, version)
    pythons = beside.python.get(version, row.wheel_python if row else ())
    return f"no wheel for Python {python}, only for {', '.join(pythons)}"


def _without_code(world: Situation, wheel: MmcvWheelRow) -> Iterator[str]:
    """The compute capabilities here that a wheel holds no machine code for, where somebody looked."""
    for device in world.facts.gpu.devices if wheel.archs else ():
        gpu = rules.gpu_row(world.matrix, device.compute_capability)
        if not {device.compute_capability, *(gpu.runs_on_sass_of if gpu else ())} & set(wheel.archs):
            yield device.compute_capability


def _works(world: Situation, package: str, variant: str) -> bool:
    """Whether nothing speaks against the installed mmcv beside the installed torch, a build of this variant."""
    if any(name in world.installed for name in rules.MMCV_NAMES if name != package) or not world.sound(package):
        return False
    results = [result for step in ("mmcv", "mmcv._ext", "mmcv.ops") if (result := world.facts.imported(step))]
    pretended = not next(d for d in world.facts.target.distributions if d.name == package).folder
    extension = world.facts.extension
    if extension is not None and rules.extension_fault(extension, world.facts.host):
        return False
    if extension is not None and rules.without_cuda_ops(world.facts, extension, variant):
        return False
    if not results:
        return pretended or (extension is not None and not extension.missing_count)
    return all(r.status == "ok" or world.excused(r) or _fault_of_another(r) for r in results)


def _fault_of_another(result: ImportResult) -> bool:
    """Whether an import of mmcv failed in a package that mmcv's binary does not stand on (OpenCV without libGL)."""
    missing = result.data.get("missing", "").split(".")[0]
    blamed = missing or (result.packages[-1] if result.packages else "")
    return result.status == "error" and blamed not in ("", "mmcv", "torch")
