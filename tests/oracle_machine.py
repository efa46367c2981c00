"""What can be said of one machine and one request, said again for the oracle: versions, files, wants, GPUs, drivers.

They rest on the matrix as data, on PEP 440 and PEP 508, and on nothing that decides in mmdoctor: no rule, no candidate,
no search is imported.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any, NamedTuple, Optional

from msgspec.structs import replace
from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from mmdoctor.matrix_model import Matrix
from mmdoctor.model import Distribution, Facts, ImportResult, Request

MMCVS = ("mmcv", "mmcv-full", "mmcv-lite", "onedl-mmcv")  # all own the folder mmcv
ENGINES, DETS = ("mmengine", "onedl-mmengine"), ("mmdet", "onedl-mmdetection")
OPENCVS = ("opencv-python", "opencv-python-headless", "opencv-contrib-python", "opencv-contrib-python-headless")
CHOSEN = {"torch", "torchvision", "numpy", "xtcocotools", "mmpose", *MMCVS, *ENGINES, *DETS, *OPENCVS}
ARM = ("aarch64", "arm64")
EVIDENCE = ("tested", "tested-elsewhere", "documented", "derived")
# Megabytes to fetch where the matrix has none: what such a file of the index typically is.
SIZES = {
    "cpu": 200,
    "cuda": 2500,
    "torchvision": 8,
    "numpy": 18,
    "opencv": 60,
    "mmcv": 95,
    "xtcocotools": 1,
    "sdist": 1,
}
PKG_RESOURCES = "<82"  # setuptools 82 has none, and mmengine imports it (matrix source S2)
NVCC = 13.0  # minutes of two cores for each arch, besides the CPU ops (measured: 19.5 less 6.5)
JOB_BYTES = 1_500_000_000  # what one compiler takes of the memory at the least
LARGEST_BYTES = 1_900_000_000  # what the file that names every op takes
OP_BYTES = {False: 700_000_000, True: 1_400_000_000}  # what any other takes, without and with CUDA
FORWARD = (11,)  # from this CUDA on any driver of the major will do (matrix source C2)


class Family(NamedTuple):
    """Distributions that are never mixed; a fork (`by_name`) only where it is named or installed."""

    mmcv: str
    mmengine: str
    mmdet: str
    recipe: str
    stands_for: str
    by_name: bool


FAMILIES = (
    Family("mmcv", "mmengine", "mmdet", "mmpose-1", "mmcv", by_name=False),
    Family("mmcv-full", "mmengine", "mmdet", "mmpose-0", "mmcv-full", by_name=False),
    Family("onedl-mmcv", "onedl-mmengine", "onedl-mmdetection", "mmpose-1", "mmcv", by_name=True),
)


class Bill(NamedTuple):
    """What one part adds to the cost of the stack; `age` are its versions, negated: newer is less."""

    broken: int = 0
    changes: int = 0
    soft: int = 0
    builds: int = 0
    megabytes: int = 0
    minutes: float = 0.0
    age: tuple[tuple[int, ...], ...] = ()


# ---------------------------------------------------------------------------------------------------------- versions


@cache
def inside(version: str, text: Optional[str]) -> bool:
    try:
        return text is None or SpecifierSet(text).contains(Version(version), prereleases=True)
    except InvalidVersion:
        return False


@cache
def sort_key(version: str) -> Version:
    try:
        return Version(version)
    except InvalidVersion:
        return Version("0")


@cache
def age(version: Optional[str]) -> tuple[int, ...]:
    return tuple(-number for number in (*sort_key(version or "0").release, 0, 0, 0, 0)[:4])


def bare(version: str) -> str:
    return version.partition("+")[0]


@cache
def series(version: str) -> str:
    return ".".join(bare(version).split(".")[:2])


def generation(numpy: str) -> str:
    return bare(numpy).split(".")[0]


@cache
def numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".") if part.isdigit())


def cuda(variant: str) -> Optional[str]:
    return None if variant == "cpu" else f"{variant[2:-1]}.{variant[-1]}"


def variant(cuda_version: Optional[str]) -> str:
    return "cu" + cuda_version.replace(".", "") if cuda_version else "cpu"


@cache
def wanted_of(requires: tuple[str, ...], name: str) -> Optional[str]:
    """The range in which declared requirements want a package; None for all."""
    return next((str(r.specifier) for r in map(Requirement, requires) if r.name == name), None)


# ----------------------------------------------------------------------------------------- what is legal on one machine


class Question:
    """Facts, matrix and request, and what can be said of them."""

    def __init__(self, facts: Facts, matrix: Matrix, request: Request) -> None:
        self.facts, self.request, self.recipe = facts, request, request.recipe
        self.host, self.python = facts.host, facts.target.python
        self.minor = series(self.python)
        self.gpus = [device.compute_capability for device in facts.gpu.devices]
        self.installed = {name: d.version for name, d in facts.target.installed.items()}
        self.silent = {index.name for index in facts.indexes if index.reachable is False}
        self.wants = [
            (name, f"=={bare(v) if name in ('torch', 'torchvision') else v}") for name, v in request.pins.items()
        ]
        self.wants += list(self.recipe.packages.items())
        self.matrix = self._handed_out(matrix)
        labels = [{v.partition("+")[2]} for n, v in request.pins.items() if n in ("torch", "torchvision") and "+" in v]
        self.variants = [
            *labels,
            *(set(some) for some in (request.torch_variants, (self.recipe.torch_variant,)) if any(some)),
        ]
        self.publishers = [row for row in matrix.wheel_sources if not row.community]
        self.known_gpus = {row.compute_capability for row in matrix.gpus}
        self.wheels = {(row.package, row.os, row.variant, row.torch): row for row in matrix.mmcv_wheels}
        self.faulty = self._faulty()
        self.needed = self._needed()
        self.mended = self._mended()
        self.demands = self._demands()
        self.flavour = self._flavour()
        self.families = [family for family in FAMILIES if self._family_may(family)]
        self.bill_of_all = Bill(changes=len(self.mended) + self.gone(self.flavour, OPENCVS))

    def _handed_out(self, matrix: Matrix) -> Matrix:
        """The matrix without what PyPI withdrew, unless it is there or asked for by its very version."""

        def some(rows: Any, name: str, version: str) -> Any:
            said = ((row, getattr(row, name, name), getattr(row, version)) for row in rows)
            return tuple(
                row
                for row, package, release in said
                if not row.withdrawn
                or self.installed.get(package) == release
                or (package, f"=={release}") in self.wants
            )

        return replace(
            matrix,
            torch=some(matrix.torch, "torch", "release"),
            mmcv=some(matrix.mmcv, "package", "version"),
            openmmlab=some(matrix.openmmlab, "project", "version"),
            binaries=some(matrix.binaries, "package", "version"),
        )

    # --------------------------------------------------------------------------------------------- small questions

    def allowed(self, name: str, version: str) -> bool:
        return all(inside(version, text) for wanted, text in self.wants if wanted == name)

    def asked(self, name: str) -> bool:
        return any(wanted == name for wanted, _ in self.wants)

    def gone(self, stays: str, owners: tuple[str, ...]) -> int:
        """How many installed distributions own the folder of the one that stays."""
        return sum(name in self.installed for name in owners if name != stays)

    def _family_may(self, family: Family) -> bool:
        names = tuple(zip(family[:3], (MMCVS, ENGINES, DETS)))
        named = any(self.asked(name) or name in self.installed for name in family[:3])
        if family.recipe != self.recipe.family or (family.by_name and not named):
            return False
        # A word about `mmcv` is one about the module, which a fork brings too; a word about a fork is about the fork.
        return all(self.only_owner(name, owners[1:] if family.by_name else owners) for name, owners in names)

    def fork_allowed(self, name: str, module: str, version: str) -> bool:
        return self.allowed(name, version) and (name == module or self.allowed(module, version))

    def only_owner(self, name: str, owners: tuple[str, ...]) -> bool:
        return not any(self.asked(other) for other in owners if other != name)

    def pythons(self, row: Any) -> tuple[str, ...]:
        arm = self.host.machine in ARM
        if self.host.os == "macos":
            return tuple(row.python_macos_arm64 if arm else row.python_macos_x86_64)
        if self.host.os == "windows":
            return () if arm else tuple(row.python_windows)
        return tuple(row.python_aarch64 if arm else row.python if self.host.machine == "x86_64" else ())

    def older_glibc(self, floor: Optional[str]) -> bool:
        """Whether this Linux has an older glibc; one that nobody saw is taken to do."""
        seen = self.host.glibc if self.host.os == "linux" and isinstance(self.host.glibc, str) else None
        return bool(floor and seen) and numbers(str(seen)) < numbers(str(floor))

    def on_pypi(self, row: Any) -> str:
        if self.host.os != "linux":
            return "cpu"
        return variant(row.pypi_cuda_aarch64 if self.host.machine in ARM else row.pypi_cuda)

    def _faulty(self) -> set[str]:
        """Files missing or cut off, no RECORD, or two entries in one folder."""
        listed = self.facts.target.distributions
        places = [(d.name, d.folder) for d in listed if d.folder]
        damaged = {d.name for d in listed if d.record == "missing" or d.missing_files or d.damaged_files}
        return damaged | {name for name, folder in places if places.count((name, folder)) > 1}

    def requirements(self, distribution: Distribution) -> Iterator[Requirement]:
        """What a distribution requires on this target, names normalised; extras aside."""
        place = {"windows": ("win32", "Windows", "nt"), "macos": ("darwin", "Darwin", "posix")}
        sys_platform, system, os_name = place.get(self.host.os, ("linux", "Linux", "posix"))
        here = {
            "extra": "", "os_name": os_name, "sys_platform": sys_platform, "platform_system": system,
            "python_version": self.minor, "python_full_version": self.python, "implementation_name": "cpython",
            "platform_machine": "AMD64" if (os_name, self.host.machine) == ("nt", "x86_64") else self.host.machine,
        }  # fmt: skip
        for text in distribution.requires:
            try:
                found = Requirement(text)
            except InvalidRequirement:
                continue
            if "extra" not in str(found.marker) and (found.marker is None or found.marker.evaluate(here)):
                found.name = canonicalize_name(found.name)
                yield found

    def _needed(self) -> set[str]:
        """The installed distributions of the stack and all that they require, to the end."""
        wanted = {d.name: [r.name for r in self.requirements(d)] for d in self.facts.target.distributions}
        found = {name for name in wanted if name in CHOSEN | {"pycocotools"}}
        while True:
            more = {name for one in found for name in wanted[one] if name in wanted} - found
            if not more:
                return found
            found |= more

    def _mended(self) -> set[str]:
        """What the stack needs, is no part of it, has wrong files, and is on an index."""
        listed = self.facts.target.distributions
        own = {d.name for d in listed if not d.direct and d.record != "editable"}
        return ((self.faulty & self.needed) - CHOSEN - {"setuptools"}) & own

    def _demands(self) -> list[tuple[str, str, str]]:
        """What the packages outside the stack want of it: (part, range, what it means when it does not hold). One that
        holds now and whose package can move is a change, for it moves; else it stays broken, of a package that the
        stack needs always, of the user's own where it holds now."""
        counted = []
        for d in self.facts.target.distributions:
            for r in self.requirements(d) if d.name not in CHOSEN | {"setuptools"} else ():
                if r.name in ("torch", "torchvision", "numpy", "setuptools", *OPENCVS) and str(r.specifier):
                    have = self.installed.get(r.name)
                    holds = have is not None and inside(have, str(r.specifier))
                    movable = d.record != "editable" and not d.direct
                    if holds or d.name in self.needed:
                        counted.append((r.name, str(r.specifier), "moves" if holds and movable else "broken"))
        return counted

    def others(self, name: str, version: Optional[str]) -> Bill:
        """What a version means for the packages outside the stack."""
        upset = [what for part, text, what in self.demands if part == name and version and not inside(version, text)]
        return Bill(broken=upset.count("broken"), changes=upset.count("moves"))

    def excused(self, result: ImportResult) -> bool:
        """A failure that says nothing of the package: a mended package, old bytecode or the surroundings explain it."""
        mended = {name.replace("-", "_") for name in self.mended}
        if any(name.startswith("nvidia-") for name in self.mended):
            mended.add("torch")
        through = {*result.packages, result.data.get("missing", "").split(".")[0]}
        healed = any(result.module in retry.healed for retry in self.facts.retries)
        return bool(through & mended) or "bytecode" in result.data or healed

    def whole(self, name: str, imported: Optional[str] = None) -> bool:
        """Installed, its files as they should be, and its import not seen to fail."""
        result = self.facts.imported(imported) if imported else None
        fine = result is None or result.status == "ok" or self.excused(result)
        return name in self.installed and name not in self.faulty and fine

    def moved(self, name: str, version: Optional[str], *, stays: bool) -> int:
        """1 where something installed moves; what is added costs nothing."""
        return int(version is not None and name in self.installed and not (stays and self.installed[name] == version))

    def can_compile(self) -> bool:
        tools = self.facts.toolchain
        return self.request.allow_build and not (self.host.os == "linux" and tools.looked and tools.gcc is None)

    def tool(self, name: str) -> Optional[str]:
        """The version of a tool; None where it is not there, or nobody saw its version."""
        found = getattr(self.facts.toolchain, name)
        return found.version if found is not None and isinstance(found.version, str) else None

    # --------------------------------------------------------------------------------------------- GPUs and drivers

    def _variant_runs(self, row: Any, name: str) -> bool:
        if any(name not in some for some in self.variants):
            return False
        if name == "cpu" or not self.gpus:
            return True
        return self._driver_takes(name, self._floor(name)) and all(
            self._holds_code(row, name, gpu) for gpu in self.gpus
        )

    def _floor(self, name: str) -> Optional[str]:
        """The oldest driver for a CUDA: any of its major, before CUDA 11 that of the very toolkit."""
        major = str(cuda(name)).split(".", maxsplit=1)[0]
        if numbers(str(cuda(name))) < FORWARD:
            return self._toolkits_own(name)
        row = next((d for d in self.matrix.drivers if d.cuda_major == major), None)
        return None if row is None else row.windows if self.host.os == "windows" else row.linux

    def _toolkits_own(self, name: str) -> Optional[str]:
        row = next((t for t in self.matrix.toolkits if t.cuda == cuda(name)), None)
        return None if row is None else row.windows if self.host.os == "windows" else row.linux

    def _driver_takes(self, name: str, floor: Optional[str]) -> bool:
        """Unknown drivers and floors are taken to fit; what CUDA the driver itself states counts too (cuda-compat)."""
        driver, ceiling = self.facts.gpu.driver, self.facts.gpu.cuda_ceiling
        if floor is None or not isinstance(driver, str) or numbers(driver) >= numbers(floor):
            return True
        return ceiling is not None and numbers(ceiling) >= numbers(str(cuda(name)))

    def _holds_code(self, row: Any, name: str, gpu: str) -> bool:
        """Machine code of the GPU or one that runs on it; or PTX not above it, which needs the toolkit's own driver.
        What is not known is allowed, but for a CUDA older than the GPU."""
        platform = f"{self.host.os}_{'aarch64' if self.host.machine in ARM else self.host.machine}"
        same = [a for a in self.matrix.archs if (a.torch, a.variant) == (row.release, name)]
        code = next((a for a in same if a.platform in (platform, self.host.os)), None)
        if code is None or gpu not in self.known_gpus:
            knows = self._oldest_cuda(gpu)
            return knows is None or numbers(str(cuda(name))) >= knows
        if self.runs_on(gpu) & set(code.sass):
            return True
        compiled_at_load = any(numbers(ptx) <= numbers(gpu) for ptx in code.ptx)
        return compiled_at_load and self._driver_takes(name, self._toolkits_own(name))

    def _oldest_cuda(self, gpu: str) -> Optional[tuple[int, ...]]:
        """The oldest CUDA of any torch that holds machine code for a GPU: an older one does not know it."""
        builds = (a for a in self.matrix.archs if a.variant != "cpu" and self.runs_on(gpu) & set(a.sass))
        return min((numbers(str(cuda(a.variant))) for a in builds), default=None)

    def runs_on(self, gpu: str) -> set[str]:
        """The compute capabilities whose machine code runs on a GPU."""
        known = next((g for g in self.matrix.gpus if g.compute_capability == gpu), None)
        return {gpu, *(known.runs_on_sass_of if known else ())}

    # -------------------------------------------------------------------------------------------------- installed

    def prebuilt(self, entry: Distribution, row: Any) -> bool:
        """Whether it came from an index's wheel; one that is pretended did where there is such a wheel."""
        return (
            "-linux_" not in entry.tag
            if entry.tag is not None
            else not entry.folder and self.minor in self.pythons(row)
        )

    def _flavour(self) -> str:
        """The one that is asked for; else no GUI build where libGL is missing; else the installed; else mmpose's."""
        asked = [name for name in ("opencv-python-headless", "opencv-python") if self.asked(name)]
        if self.recipe.opencv or asked:
            return self.recipe.opencv or asked[0]
        there = [name for name in ("opencv-python-headless", "opencv-python") if name in self.installed]
        if self.host.os != "linux" or self.host.libgl is True:
            return there[0] if there else "opencv-python"
        imported = self.facts.imported("cv2")
        loads = imported.status == "ok" if imported else self.host.libgl is not False
        return "opencv-python" if there == ["opencv-python"] and loads else "opencv-python-headless"
