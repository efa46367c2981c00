"""The legal parts of a stack and what each costs, said again for the oracle, slowly and plainly.

Where two parts meet, the list of the one depends on the other: mmcv on torch, mmpose on mmcv, NumPy on torch,
xtcocotools on NumPy and mmpose, setuptools on what is built. Nothing that decides in mmdoctor is imported (see
`oracle_machine.py`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple, Optional

from packaging.specifiers import SpecifierSet

from mmdoctor.model import ImportResult
from tests.oracle_machine import (
    ARM,
    CHOSEN,
    DETS,
    ENGINES,
    EVIDENCE,
    JOB_BYTES,
    LARGEST_BYTES,
    MMCVS,
    NVCC,
    OP_BYTES,
    OPENCVS,
    PKG_RESOURCES,
    SIZES,
    Bill,
    Family,
    Question,
    age,
    bare,
    cuda,
    generation,
    inside,
    numbers,
    series,
    sort_key,
    variant,
    wanted_of,
)


class TorchPart(NamedTuple):
    row: Any
    variant: str
    index: str
    torchvision: str
    stays: bool
    bill: Bill


class MmcvPart(NamedTuple):
    family: Family
    version: str
    kind: str
    bill: Bill


class LabPart(NamedTuple):
    """`xtcocotools`: the range that this mmpose requires."""

    mmpose: str
    mmdet: Optional[str]
    mmengine: Optional[str]
    xtcocotools: Optional[str]
    bill: Bill


class NumericPart(NamedTuple):
    numpy: str
    opencv: str
    xtcocotools: str
    kind: str
    bill: Bill


class ToolsPart(NamedTuple):
    setuptools: str
    bill: Bill


class Parts(Question):
    """The legal parts of one question."""

    # --------------------------------------------------------------------------------------------------------- torch

    def torches(self) -> list[TorchPart]:
        driver = self.facts.gpu.driver
        if not inside(self.python, self.recipe.python):
            return []
        if self.gpus and isinstance(driver, str) and not inside(driver, self.recipe.driver):
            return []
        return [part for row in self.matrix.torch if self._torch_runs(row) for part in self._torch_parts(row)]

    def _torch_runs(self, row: Any) -> bool:
        old = self.host.os == "linux" and (self.host.glibc is None or self.older_glibc(row.glibc))
        return self.allowed("torch", row.release) and self.minor in self.pythons(row) and not old

    def _torch_parts(self, row: Any) -> Iterator[TorchPart]:
        build, pypi = self.facts.target.torch, self.on_pypi(row)
        places = [(pypi, "pypi", False)]
        for name in row.variants if "torch" not in self.silent else ():
            read_on_arm = any(
                (a.torch, a.variant, a.platform) == (row.release, name, "linux_aarch64") for a in self.matrix.archs
            )
            exists = self.host.os != "macos" and (self.host.machine not in ARM or name == "cpu" or read_on_arm)
            if name != pypi and exists:
                places.append((name, self.matrix.torch_index.format(variant=name), False))
        if build is not None and bare(build.version) == row.release and self.whole("torch", "torch"):
            places.append((self._installed_variant(row), "installed", True))
        for name, index, stays in places:
            if self._variant_runs(row, name):
                for torchvision in row.torchvision:
                    if self.allowed("torchvision", torchvision):
                        yield from self._with_torchvision(row, name, index, torchvision, stays=stays)

    def _installed_variant(self, row: Any) -> str:
        """Its label, else its build CUDA; a pretended version without a label is PyPI's wheel."""
        build = self.facts.target.torch
        assert build is not None
        label = build.version.partition("+")[2].partition(".")[0]
        if label == "cpu" or label.startswith("cu"):
            return label
        pretended = any(key.startswith("installed=") for key in self.facts.pretended) and "+" not in build.version
        return self.on_pypi(row) if pretended else variant(build.cuda)

    def _torch_size(self, row: Any, name: str) -> int:
        """The matrix has it for the build of PyPI's Linux x86_64 wheel alone (source S1)."""
        read = (self.host.os, self.host.machine) == ("linux", "x86_64") and name == self.on_pypi(row)
        return SIZES["cpu"] if name == "cpu" else (row.download_mb if read else None) or SIZES["cuda"]

    def _with_torchvision(
        self, row: Any, name: str, index: str, torchvision: str, *, stays: bool
    ) -> Iterator[TorchPart]:
        """Torchvision stays when it is compiled for this torch build, else it comes from where that build is from."""
        there = self.facts.target.torchvision_build or self.installed.get("torchvision")
        megabytes = 0 if stays else self._torch_size(row, name)
        had_torch = self.facts.target.torch is not None or "torch" in self.installed
        one, two = self.others("torch", row.release), self.others("torchvision", torchvision)
        cost = Bill(
            broken=one.broken + two.broken,
            changes=int(not stays and had_torch) + one.changes + two.changes,
            megabytes=megabytes,
            age=(age(row.release), age(torchvision)),
        )
        label = (there or "").partition("+")[2].partition(".")[0]
        loaded = stays and not label and self.facts.imported("torchvision") is not None
        fits = loaded or (label or self.on_pypi(row)) == name
        if bare(there or "") == torchvision and fits and self.whole("torchvision", "torchvision" if stays else None):
            yield TorchPart(row, name, index, torchvision, stays, cost)
        if index == "installed":
            if name == self.on_pypi(row):
                index = "pypi"
            elif name in row.variants and "torch" not in self.silent:
                index = self.matrix.torch_index.format(variant=name)
            else:
                return
        moved = cost.changes + int(there is not None)
        cost = cost._replace(changes=moved, megabytes=megabytes + SIZES["torchvision"])
        yield TorchPart(row, name, index, torchvision, stays, cost)

    # ---------------------------------------------------------------------------------------------------------- mmcv

    def mmcvs(self, torch: TorchPart) -> list[MmcvPart]:
        """One artefact for each release: of the first place that has it, in the order of candidates/sources.py."""
        found = []
        for family in self.families:
            for row in (row for row in self.matrix.mmcv if row.package == family.mmcv):
                if self.fork_allowed(family.mmcv, "mmcv", row.version) and inside(self.python, row.python):
                    first = next(self._artefacts(torch, family, row), None)
                    found += [first] if first else []
        return found

    def _artefacts(self, torch: TorchPart, family: Family, row: Any) -> Iterator[MmcvPart]:
        name, version = row.package, row.version
        gone = self.gone(name, MMCVS)
        cost = Bill(changes=gone + int(name in self.installed), age=(age(version),))
        if torch.stays and self.installed.get(name) == version and self._mmcv_loads(name, torch.variant):
            yield MmcvPart(family, version, "installed", cost._replace(changes=gone))
        if self._has_wheel(torch, row):
            yield MmcvPart(family, version, "wheel", cost._replace(megabytes=SIZES["mmcv"]))
        archs = self._archs(torch.variant)
        for wheel in self.facts.wheels:
            against = (wheel.name, wheel.version, wheel.python_tag, wheel.torch, wheel.archs)
            tag = "cp" + self.minor.replace(".", "")
            if against == (name, version, tag, f"{torch.row.release}+{torch.variant}", archs):
                yield MmcvPart(family, version, "cached", cost)
        if self._compiles(torch, row):
            others = (self.host.memory_total_bytes - LARGEST_BYTES) // OP_BYTES[bool(archs)]
            jobs = max(1, min(self.host.cpu_count, 1 + others))
            minutes = (row.build_minutes_2_cores + (NVCC * len(archs.split(";")) if archs else 0.0)) * 2 / jobs
            built = cost._replace(builds=1, megabytes=SIZES["sdist"], minutes=round(minutes, 1))
            yield MmcvPart(family, version, "build", built)

    def _mmcv_loads(self, name: str, torch_variant: str) -> bool:
        """The binary stands on torch alone: it stays unless it is damaged, foreign, without the ops that the GPU needs,
        or seen to fail by itself."""
        if self.gone(name, MMCVS) or not self.whole(name):
            return False
        binary = self.facts.extension
        if binary is not None and self.host.os == "linux":
            machine = {"x86_64": "EM_X86_64", "aarch64": "EM_AARCH64", "arm64": "EM_AARCH64"}.get(self.host.machine)
            if binary.problem is not None or binary.machine != machine:
                return False
        if (
            binary is not None
            and binary.problem is None
            and not binary.has_cuda_code
            and self.gpus
            and torch_variant != "cpu"
        ):
            return False
        looked = [r for step in ("mmcv", "mmcv._ext", "mmcv.ops") if (r := self.facts.imported(step))]
        if not looked:
            return binary is not None or all(not d.folder for d in self.facts.target.distributions if d.name == name)
        return all(r.status == "ok" or self.excused(r) or self._of_another(r) for r in looked)

    @staticmethod
    def _of_another(result: ImportResult) -> bool:
        blamed = result.data.get("missing", "").split(".")[0] or (result.packages[-1] if result.packages else "")
        return result.status == "error" and blamed not in ("", "mmcv", "torch")

    def _has_wheel(self, torch: TorchPart, row: Any) -> bool:
        """Whether its publisher's index has a wheel that runs here, and answers."""
        wheel = self.wheels.get((row.package, self.host.os, torch.variant, series(torch.row.release)))
        if self.host.machine != "x86_64" or wheel is None or row.version not in wheel.versions:
            return False
        index = next((one for one in self.publishers if row.package in one.packages), None)
        if index is None and "openmmlab" in self.silent:
            return False
        if index is not None and self.older_glibc(index.glibc):
            return False
        here = [self.runs_on(gpu) & set(wheel.archs) for gpu in self.gpus] if wheel.archs else []
        return all(here) and self.minor in wheel.python.get(row.version, row.wheel_python)

    def _archs(self, name: str) -> str:
        told = self.facts.environment
        if name == "cpu" or (not self.gpus and told.get("FORCE_CUDA") != "1"):
            return ""
        return told.get("TORCH_CUDA_ARCH_LIST") or ";".join(sorted(set(self.gpus), key=numbers))

    def _compiles(self, torch: TorchPart, row: Any) -> bool:
        gcc, nvcc = self.tool("gcc"), self.tool("nvcc")
        if (
            not self.can_compile()
            or not inside(torch.row.release, row.torch)
            or self.host.memory_total_bytes < JOB_BYTES
        ):
            return False
        oldest = next((one.gcc for one in self.matrix.standards if one.cxx_std == torch.row.cxx_std), None)
        if gcc and oldest and sort_key(gcc) < sort_key(oldest):
            return False
        wants = [arch.split("+")[0] for arch in self._archs(torch.variant).split(";") if arch]
        if not wants:
            return True
        chain, wanted = self.facts.toolchain, str(cuda(torch.variant))
        if nvcc is None and (chain.nvcc is not None or not chain.looked):  # nobody looked at it
            return True
        place = (wanted, self.host.os, self.host.machine)
        brought = [row.cuda for row in self.matrix.cuda_wheels if (row.cuda, row.os, row.machine) == place]
        own = [nvcc] if nvcc is not None and (chain.cuda_headers or brought) else []
        return any(self._nvcc_serves(one, wanted, gcc, wants) for one in (*own, *brought))

    def _nvcc_serves(self, nvcc: str, wanted: str, gcc: Optional[str], wants: list[str]) -> bool:
        if numbers(nvcc)[0] != numbers(wanted)[0]:
            return False
        if any((knows := self._oldest_cuda(gpu)) is not None and numbers(nvcc) < knows for gpu in wants):
            return False
        refused = next((c.gcc_below for c in self.matrix.compilers if series(nvcc) in c.cuda), None)
        return not (refused and gcc and sort_key(gcc) >= sort_key(refused))

    # -------------------------------------------------------------------------------------------------- the OpenMMLab

    def labs(self, family: Family, mmcv: str) -> list[LabPart]:
        rows = {
            name: [r for r in self.matrix.openmmlab if r.project == name and self.fork_allowed(name, module, r.version)]
            for name, module in ((family.mmengine, "mmengine"), (family.mmdet, "mmdet"), ("mmpose", "mmpose"))
        }
        first = "0." if self.recipe.family == "mmpose-0" else "1."
        some_mmdet = any(self.asked(name) or name in self.installed for name in DETS)
        found = []
        for mmpose in rows["mmpose"]:
            if not mmpose.version.startswith(first) or not self._takes(mmpose, family, mmcv):
                continue
            for mmdet in rows[family.mmdet] if mmpose.needs_mmdet or some_mmdet else [None]:
                if mmdet is not None and not self._takes(mmdet, family, mmcv):
                    continue
                no_engine = mmpose.mmengine is None and not self.asked(family.mmengine)
                for engine in [None] if no_engine else rows[family.mmengine]:
                    asserts = (mmpose.mmengine, mmdet.mmengine if mmdet else None)
                    if engine is None or all(inside(engine.version, text) for text in asserts):
                        found.append(self._lab(family, mmpose, mmdet, engine, mmcv))
        return found

    @staticmethod
    def _takes(row: Any, family: Family, mmcv: str) -> bool:
        return row.mmcv_package in (None, family.stands_for) and inside(mmcv, row.mmcv)

    def _lab(self, family: Family, mmpose: Any, mmdet: Any, engine: Any, mmcv: str) -> LabPart:
        versions = {family.stands_for: mmcv, "mmpose": mmpose.version}
        versions |= {name: row.version for name, row in (("mmdet", mmdet), ("mmengine", engine)) if row is not None}
        declared = [*mmpose.mim.items(), *(mmdet.mim.items() if mmdet else ())]
        soft = sum(name in versions and not inside(versions[name], text) for name, text in declared)
        moved = self.moved("mmpose", mmpose.version, stays=self.whole("mmpose"))
        for name, owners, row in ((family.mmengine, ENGINES, engine), (family.mmdet, DETS, mmdet)):
            gone = self.gone(name, owners)
            moved += gone + self.moved(name, row.version if row else None, stays=self.whole(name) and not gone)
        bill = Bill(changes=moved, soft=soft, age=(age(mmpose.version), age(versions.get("mmdet"))))
        wanted = wanted_of(mmpose.requires, "xtcocotools")
        return LabPart(mmpose.version, versions.get("mmdet"), versions.get("mmengine"), wanted, bill)

    # ------------------------------------------------------------------------------------ NumPy and what is bound to it

    def numerics(self, newest_generation: str, wanted: Optional[str]) -> list[NumericPart]:
        """Those that a torch built for this generation of NumPy's C API takes, xtcocotools in the wanted range."""
        known = {row.series: row for row in self.matrix.numpy}
        exact = [
            s.version for name, text in self.wants if name == "numpy" for s in SpecifierSet(text) if s.operator == "=="
        ]
        versions = {row.last for row in self.matrix.numpy} | {v for v in exact if "*" not in v}
        versions |= {self.installed["numpy"]} if "numpy" in self.installed else set()
        found = []
        for numpy in versions:
            row, stays = known.get(series(numpy)), self.installed.get("numpy") == numpy and self.whole("numpy", "numpy")
            there = stays or (row is not None and self.minor in row.python and not self.older_glibc(row.glibc))
            if there and self.allowed("numpy", numpy) and generation(numpy) <= newest_generation:
                for opencv, opencv_bill in self._opencvs(numpy):
                    for version, kind, bill in self._xtcocotools(numpy, wanted):
                        found.append(self._numeric(numpy, opencv, opencv_bill, version, kind, bill))
        return found

    def _numeric(self, numpy: str, opencv: str, one: Bill, version: str, kind: str, other: Bill) -> NumericPart:
        kept = self.installed.get("numpy") == numpy and self.whole("numpy", "numpy")
        theirs = self.others("numpy", numpy)
        moved = self.moved("numpy", numpy, stays=kept) + self._rebound(numpy)
        bill = Bill(
            broken=theirs.broken + one.broken,
            changes=moved + theirs.changes + one.changes + other.changes,
            builds=other.builds,
            megabytes=(0 if kept else SIZES["numpy"]) + one.megabytes + other.megabytes,
            minutes=other.minutes,
            age=(age(numpy), age(opencv)),
        )
        return NumericPart(numpy, opencv, version, kind, bill)

    def _opencvs(self, numpy: str) -> Iterator[tuple[str, Bill]]:
        name = self.flavour
        if not self.only_owner(name, OPENCVS):
            return
        rows = {row.version: row for row in self.matrix.binaries if row.package == name}
        beside = any(other in self.installed for other in OPENCVS if other != name)
        stays = not beside and self.whole(name, "cv2" if self.installed.get("numpy") == numpy else None)
        for version in {*rows, *([self.installed[name]] if stays else [])}:
            row, kept = rows.get(version), stays and self.installed[name] == version
            bound = row is not None and (not inside(numpy, row.numpy) or row.built_on < generation(numpy))
            if self.allowed(name, version) and not bound and (kept or self.minor in self.pythons(row)):
                theirs, moved = self.others(name, version), self.moved(name, version, stays=kept)
                megabytes = 0 if kept else SIZES["opencv"]
                yield version, Bill(theirs.broken, theirs.changes + moved, megabytes=megabytes)

    def _rebound(self, numpy: str) -> int:
        """Under NumPy 2: what the stack needs besides, whose installed wheel was built for NumPy 1 without saying so,
        and of which there is a release for NumPy 2."""
        found = 0
        for name in self.needed - CHOSEN - {"setuptools"} if generation(numpy) != "1" else ():
            entry = self.facts.target.installed.get(name)
            rows = [row for row in self.matrix.binaries if row.package == name]
            row = next((row for row in rows if entry and row.version == entry.version), None)
            if (
                entry is None
                or row is None
                or row.built_on != "1"
                or row.numpy is not None
                or not self.prebuilt(entry, row)
            ):
                continue
            found += any(r.built_on == "2" and self.minor in self.pythons(r) and inside(numpy, r.numpy) for r in rows)
        return found

    def _xtcocotools(self, numpy: str, wanted: Optional[str]) -> Iterator[tuple[str, str, Bill]]:
        for row in (row for row in self.matrix.binaries if row.package == "xtcocotools"):
            if not self.allowed("xtcocotools", row.version) or not inside(row.version, wanted):
                continue
            moved = Bill(changes=int("xtcocotools" in self.installed))
            if self._xtcocotools_stays(row, numpy):
                yield row.version, "installed", Bill()
            if self.minor in self.pythons(row) and row.built_on >= generation(numpy):
                yield row.version, "wheel", moved._replace(megabytes=SIZES["xtcocotools"])
            tag = "cp" + self.minor.replace(".", "")
            key = ("xtcocotools", row.version, tag, numpy)
            if any((w.name, w.version, w.python_tag, w.numpy) == key for w in self.facts.wheels):
                yield row.version, "cached", moved
            if self.can_compile():
                built = moved._replace(builds=1, megabytes=SIZES["sdist"], minutes=row.build_minutes or 1.0)
                yield row.version, "build", built

    def _xtcocotools_stays(self, row: Any, numpy: str) -> bool:
        """Beside the same NumPy if it loads there (or, where nobody looked, could); beside another one only the wheel,
        which runs on every NumPy of the generation that it was built for."""
        if self.installed.get("xtcocotools") != row.version:
            return False
        entry = next(d for d in self.facts.target.distributions if d.name == "xtcocotools")
        prebuilt = self.prebuilt(entry, row)
        runs = row.built_on >= generation(numpy)
        if self.installed.get("numpy") != numpy:
            return prebuilt and runs and self.whole("xtcocotools")
        looked = self.facts.imported("xtcocotools._mask") is not None
        return self.whole("xtcocotools", "xtcocotools._mask") and (looked or runs or not prebuilt)

    # ---------------------------------------------------------------------------------------------------- setuptools

    def tools(self, torch: TorchPart, mmcv: MmcvPart) -> list[ToolsPart]:
        """Of the installed, the one for the builds and the pinned one those that keep pkg_resources and build."""
        row = next((row for row in self.matrix.tools if inside(torch.row.release, row.torch)), None)
        ranges = [PKG_RESOURCES, torch.row.setuptools, row.setuptools if row and mmcv.kind == "build" else None]
        versions = {
            self.installed.get("setuptools"),
            row.setuptools_pin if row else "69.5.1",
            self.request.pins.get("setuptools"),
        }
        found = []
        for version in sorted(v for v in versions if v):
            if self.allowed("setuptools", version) and all(inside(version, text) for text in ranges):
                theirs, moved = (
                    self.others("setuptools", version),
                    self.moved("setuptools", version, stays=self.whole("setuptools")),
                )
                found.append(ToolsPart(version, Bill(theirs.broken, theirs.changes + moved)))
        return found

    # ------------------------------------------------------------------------------------------------------- the whole

    def evidence(self, torch: TorchPart, mmcv: MmcvPart, lab: LabPart, numpy: str) -> int:
        key = (series(torch.row.release), mmcv.family.mmcv, mmcv.version, lab.mmpose, lab.mmdet, generation(numpy))
        pythons = {
            series(s.python)
            for s in self.matrix.stacks
            if (series(s.torch), s.mmcv_package, s.mmcv, s.mmpose, s.mmdet, generation(s.numpy)) == key
            and s.outcome == "works"
        }
        if pythons and (self.host.os, self.host.machine) == ("linux", "x86_64"):
            return EVIDENCE.index("tested" if self.minor in pythons else "tested-elsewhere")
        return EVIDENCE.index("documented" if mmcv.kind == "wheel" else "derived")
