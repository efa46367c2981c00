"""Chooses the stack: couples the candidates of each part and takes the cheapest whole. Pure and exact.

The parts meet in few places (mmcv beside torch; mmdet and mmpose around mmcv; NumPy under torch). Torch candidates are
taken in the order of what they cost at least, and the search ends with the first that costs more than the best whole:
whatever could have been cheaper was looked at, so it is the answer or it is among the rejections.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import NamedTuple, Optional, TypeVar

from mmdoctor import rules
from mmdoctor.candidates.mmcv import MmcvCandidate, mmcv_candidates, mmcv_rows
from mmdoctor.candidates.numeric import NumericCandidate, numeric_candidates
from mmdoctor.candidates.openmmlab import OpenmmlabCandidate, openmmlab_candidates
from mmdoctor.candidates.situation import MEGABYTE, TYPICAL_MB, Situation
from mmdoctor.candidates.torch import TorchCandidate, optimistic, torch_candidates
from mmdoctor.matrix_model import Matrix, MmcvRow
from mmdoctor.model import BinaryChoice, Change, Cost, Facts, MmcvChoice, Rejection, Request, Resolution, Stack
from mmdoctor.weigh import (
    EVIDENCE,
    Share,
    Weight,
    age,
    best_evidence,
    evidence,
    in_order,
    lab_changes,
    mended,
    mmcv_changes,
    moved,
    numeric_changes,
    others,
    tool_changes,
    torch_changes,
    total,
)

T = TypeVar("T")
SETUPTOOLS_WITH_PKG_RESOURCES = "<82"
DOCUMENTED = EVIDENCE.index("documented")
WORDS = ("constraint", "variant")  # facts that are somebody's word


# The fields of a Weight, with torch's part of the age alone: it compares with a Weight.
Bound = tuple[object, ...]


class Solution(NamedTuple):
    """The chosen stack, what it weighs and what it changes."""

    weight: Weight
    stack: Stack
    changes: tuple[Change, ...]
    torch: TorchCandidate
    download_mb: int

    @property
    def cost(self) -> Cost:
        """What is fetched and how long is compiled."""
        return Cost(download_bytes=self.download_mb * MEGABYTE, build_minutes=self.weight.build_minutes)


def resolve(facts: Facts, matrix: Matrix, request: Request) -> Resolution:
    """The cheapest stack that holds under every rule, with the rejections; without one, what excludes what.

    An existing environment keeps what works: fewest changes first, then the cheapest. A new one gets the best measured.
    The rejections hold every torch that the machine or the request rules out, whatever could have been cheaper than the
    answer, and what speaks against each mmcv beside the newest torch that the machine takes; `tightest_first`.
    """
    world = Situation(facts, matrix, request)
    search = Search(world)
    best = search.cheapest()
    if best is None:
        from mmdoctor.conflict import unsatisfiable

        return unsatisfiable(world, search.tightest_first())
    from mmdoctor.assumptions import assumptions

    search.newest()
    return Resolution(
        stack=best.stack,
        changes=best.changes,
        rejected=search.tightest_first(),
        assumptions=assumptions(world, best),
        cost=best.cost,
    )


def cheapest(world: Situation, *, idle: bool = True) -> Optional[Solution]:
    """The solution of the least weight; None when nothing satisfies, nor, unless `idle`, without leaving a GPU idle.
    Fills `world.rejected`."""
    return Search(world).cheapest(idle=idle)


class Labs(NamedTuple):
    """Every mmpose, mmdet and mmengine around one mmcv that adds the least among those that want this range of
    xtcocotools: their share, and who they are. The others weigh more whatever stands beside them."""

    xtcocotools: str
    share: Share
    members: tuple[OpenmmlabCandidate, ...]


class Numbers(NamedTuple):
    """Every NumPy under one torch, with what is bound to it, that adds the least; by NumPy generation."""

    share: Share
    least_mb: int
    members: dict[str, tuple[NumericCandidate, ...]]


class Tools(NamedTuple):
    """The setuptools that adds the least."""

    share: Share
    setuptools: str


class Pair(NamedTuple):
    """A torch and an mmcv that stand together, and the best of what can stand around them."""

    torch: TorchCandidate
    mmcv: MmcvCandidate
    tools: Tools
    labs: Labs
    numbers: Numbers


class Whole(NamedTuple):
    """One choice for every part. Of two that weigh the same, the one that comes first in its `place` is taken."""

    weight: Weight
    place: int
    pair: Pair
    lab: OpenmmlabCandidate
    number: NumericCandidate


class Search:
    """One search in one situation; what belongs to a part alone is worked out once."""

    def __init__(self, world: Situation) -> None:
        self.world = world
        self._labs: dict[tuple[str, str], tuple[Labs, ...]] = {}
        self._numbers: dict[tuple[str, str], Optional[Numbers]] = {}
        self._around: dict[str, tuple[Share, int]] = {}
        self._least: dict[tuple[object, ...], tuple[Share, int]] = {}
        self._best_evidence: dict[str, int] = {}
        self._tools: dict[tuple[str, bool], Optional[Tools]] = {}
        self._mmcvs: dict[tuple[str, str, bool], tuple[MmcvCandidate, ...]] = {}
        self._torch_shares: dict[tuple[object, ...], Share] = {}
        self._best_lab: dict[tuple[object, ...], tuple[int, OpenmmlabCandidate]] = {}
        self._looked_at: set[int] = set()
        # Only an mmcv around which something can stand is worth a question about its wheels.
        self._rows = tuple(row for row in mmcv_rows(world) if self._labs_around(row))
        self._least_labs: dict[str, Share] = {}
        for labs in (labs for row in self._rows for labs in self._labs_around(row)):
            least = self._least_labs.get(labs.xtcocotools, labs.share)
            self._least_labs[labs.xtcocotools] = min(least, labs.share)

    def cheapest(self, *, idle: bool = True) -> Optional[Solution]:
        """The whole of the least weight, which may leave a GPU idle where `idle`; None when nothing satisfies."""
        best: Optional[Whole] = None
        for bound, place, torch in self._torches:
            if (best is not None and bound > best.weight) or (not idle and self._torch_share(torch).gpu_left_idle):
                break
            self._looked_at.add(place)
            for pair in self._pairs(torch):
                for whole in self._wholes(pair, place, best):
                    if best is None or whole[:2] < best[:2]:
                        best = whole
        return None if best is None else self._solution(best)

    def newest(self) -> None:
        """Look also at what stands beside the newest torch that the machine takes, for the sake of the rejections."""
        newest = max((torch.row.release for _, _, torch in self._torches), key=rules.order)
        self._look(next(ranked for ranked in self._torches if ranked[2].row.release == newest))

    def first(self) -> None:
        """Look only at what stands beside the torch of the least bound, for the sake of the tightest rejections."""
        if self._torches:
            self._look(self._torches[0])

    def _look(self, ranked: tuple[Bound, int, TorchCandidate]) -> None:
        _, place, torch = ranked
        if place not in self._looked_at:
            for _ in self._pairs(torch):
                pass

    @cached_property
    def _torches(self) -> list[tuple[Bound, int, TorchCandidate]]:
        """The torches in the order of their bounds, each with its place among the candidates."""
        candidates = enumerate(torch_candidates(self.world))
        return sorted((self._bound(torch), place, torch) for place, torch in candidates)

    def tightest_first(self) -> tuple[Rejection, ...]:
        """The rejections, the tightest first: in the order of the least that a whole with the torch could weigh, beside
        which (or of which) the candidate was rejected. So the first of them kept the cheapest stack away. What the user
        or the recipe excluded by a constraint of their own comes after all facts."""
        world = self.world
        bounds = {(t.row.release, t.choice.variant): bound for bound, _, t in reversed(self._torches)}
        nowhere: Bound = ()
        met = dict(world.met_beside)  # a bound looks at NumPy, which may meet rejections of its own
        for beside in {*met.values()} - bounds.keys():
            if beside is not None:
                bounds[beside] = self._bound(optimistic(world, *beside))
        places = {bound: place for place, bound in enumerate(sorted({nowhere, *bounds.values()}))}
        at: dict[Optional[tuple[str, str]], int] = {beside: places[bound] for beside, bound in bounds.items()}
        ranked = [(world.rejected[key], at.get(beside, places[nowhere])) for key, beside in met.items()]
        ranked.sort(key=lambda one: (one[0].fact in WORDS, one[1]))
        return tuple(rejection for rejection, _ in ranked)

    # ------------------------------------------------------------------------------------------ the parts and their sum

    def _bound(self, torch: TorchCandidate) -> Bound:
        """A lower bound of the weight of every whole with this torch."""
        row = torch.row
        key = (row.numpy, *self._alike(torch))
        if key not in self._least:
            around, megabytes = self._least_around(torch)
            self._least[key] = total(self._torch_share(torch), around), megabytes
        share, megabytes = self._least[key]
        if row.release not in self._best_evidence:
            self._best_evidence[row.release] = best_evidence(self.world, row.release)
        rank = self._best_evidence[row.release]
        fetched = torch.download_mb + megabytes
        if rank == DOCUMENTED:  # by a published wheel of mmcv, which is fetched
            fetched += TYPICAL_MB["mmcv"]
        return (*share, rank, fetched.bit_length(), 0.0, _torch_age(torch))

    def _alike(self, torch: TorchCandidate) -> tuple[object, ...]:
        """What of a torch its share hangs on."""
        versions = (torch.row.release, torch.torchvision) if self.world.foreign else ()
        cpu = torch.choice.variant == "cpu"
        return cpu, torch.keep_torch, torch.keep_torchvision, bool(torch.torchvision), versions

    def _least_around(self, torch: TorchCandidate) -> tuple[Share, int]:
        """The least that mmpose with its neighbours and NumPy with what is bound to it add, and fetch in megabytes."""
        key = torch.row.numpy
        if key not in self._around:
            under = ((least, self._numbers_under(torch, wanted)) for wanted, least in self._least_labs.items())
            some = [(total(least, numbers.share), numbers.least_mb) for least, numbers in under if numbers is not None]
            shares, megabytes = zip(*some) if some else ((Share(),), (0,))
            self._around[key] = min(shares), min(megabytes)
        return self._around[key]

    def _pairs(self, torch: TorchCandidate) -> Iterator[Pair]:
        """Every mmcv beside this torch, with each group of what can stand around it."""
        self.world.beside = (torch.row.release, torch.choice.variant)
        for mmcv in self._mmcvs_beside(torch):
            tools = self._tools_for(torch, mmcv)
            for labs in self._labs_around(mmcv.row) if tools else ():
                numbers = self._numbers_under(torch, labs.xtcocotools)
                if tools is not None and numbers is not None:
                    yield Pair(torch, mmcv, tools, labs, numbers)

    def _mmcvs_beside(self, torch: TorchCandidate) -> tuple[MmcvCandidate, ...]:
        key = (torch.row.release, torch.choice.variant, torch.keep_torch)
        if key not in self._mmcvs:
            self._mmcvs[key] = tuple(mmcv_candidates(self.world, torch, self._rows))
        return self._mmcvs[key]

    def _wholes(self, pair: Pair, place: int, best: Optional[Whole]) -> Iterator[Whole]:
        """The best whole of each NumPy generation: lab and number meet in the evidence alone, which knows of the number
        only its generation."""
        torch, mmcv, tools, labs, numbers = pair
        share = total(self._torch_share(torch), self._mmcv_share(mmcv), tools.share, labs.share, numbers.share)
        if best is not None and share > best.weight:
            return
        for generation, members in numbers.members.items():
            rank, lab = self._lab_for(pair, generation)

            def rest(number: NumericCandidate, mmcv: MmcvCandidate = mmcv) -> tuple[object, ...]:
                megabytes = torch.download_mb + mmcv.download_mb + number.download_mb
                return megabytes.bit_length(), round(mmcv.minutes + number.minutes, 1), _number_age(number)

            number = min(members, key=rest)
            downloaded, minutes, number_age = rest(number)
            ages = (*_torch_age(torch), *_lab_age(lab), *age(mmcv.row.version), *number_age)  # type: ignore[misc]
            weight = Weight(*share, rank, downloaded, minutes, ages)  # type: ignore[arg-type]
            yield Whole(weight, place, pair, lab, number)

    def _lab_for(self, pair: Pair, generation: str) -> tuple[int, OpenmmlabCandidate]:
        """The evidence of the best lab in this pair beside a NumPy of this generation, and the lab."""
        torch, mmcv = pair.torch, pair.mmcv
        package, version = mmcv.row.package, mmcv.row.version
        key = (rules.minor(torch.row.release), package, version, mmcv.artefact.kind, pair.labs.xtcocotools, generation)
        if key not in self._best_lab:
            ranked = ((evidence(self.world, torch, mmcv, lab, generation), lab) for lab in pair.labs.members)
            self._best_lab[key] = min(ranked, key=lambda one: (one[0], _lab_age(one[1])))
        return self._best_lab[key]

    def _torch_share(self, torch: TorchCandidate) -> Share:
        world, cpu, key = self.world, torch.choice.variant == "cpu", self._alike(torch)
        if key not in self._torch_shares:
            changes = (*torch_changes(world, torch), *mended(world))
            idle, misfit = int(world.has_gpu and cpu), int(not world.has_gpu and not cpu)
            own = Share(gpu_left_idle=idle, changes=moved(changes), variant_misfit=misfit)
            theirs = others(world, "torch", torch.row.release), others(world, "torchvision", torch.torchvision)
            self._torch_shares[key] = total(own, *theirs)
        return self._torch_shares[key]

    def _mmcv_share(self, mmcv: MmcvCandidate) -> Share:
        changes = tuple(mmcv_changes(self.world, mmcv))
        return Share(changes=moved(changes), builds=int(mmcv.artefact.kind == "build"))

    def _labs_around(self, mmcv: MmcvRow) -> tuple[Labs, ...]:
        release = mmcv.package, mmcv.version
        if release not in self._labs:
            key = (_grouped, self.world.about_labs, *release)
            self._labs[release] = self.world.shared(key, lambda alone: _grouped(alone, mmcv))
        return self._labs[release]

    def _numbers_under(self, torch: TorchCandidate, xtcocotools: str) -> Optional[Numbers]:
        key, world = (torch.row.numpy, xtcocotools), self.world
        if key not in self._numbers:
            shares = []
            for number in numeric_candidates(world, torch.row, xtcocotools):
                changes, opencv = tuple(numeric_changes(world, number)), number.opencv
                own = Share(changes=moved(changes), builds=int(number.artefact.kind == "build"))
                theirs = others(world, "numpy", number.numpy), others(world, opencv.name, opencv.version)
                shares.append((total(own, *theirs), number))
            self._numbers[key] = Numbers(*_by_generation(*_least(shares))) if shares else None
        return self._numbers[key]

    def _tools_for(self, torch: TorchCandidate, mmcv: MmcvCandidate) -> Optional[Tools]:
        key, world = (torch.row.release, mmcv.artefact.kind == "build"), self.world
        if key not in self._tools:
            shares = []
            for version in setuptools_for(world, torch, builds=key[1]):
                changes = tuple(tool_changes(world, version))
                shares.append((total(Share(changes=moved(changes)), others(world, "setuptools", version)), version))
            self._tools[key] = Tools(*min(shares, key=lambda one: one[0])) if shares else None
        return self._tools[key]

    def _solution(self, whole: Whole) -> Solution:
        world, (torch, mmcv, tools, _, _), lab, number = self.world, whole.pair, whole.lab, whole.number
        stack = Stack(
            python=world.python,
            torch=torch.choice,
            torchvision=torch.torchvision,
            mmcv=MmcvChoice(name=mmcv.row.package, version=mmcv.row.version, artefact=mmcv.artefact),
            mmengine=lab.mmengine.version if lab.mmengine else None,
            mmdet=lab.mmdet.version if lab.mmdet else None,
            mmpose=lab.mmpose.version,
            numpy=number.numpy,
            xtcocotools=BinaryChoice(version=number.xtcocotools, artefact=number.artefact),
            opencv=number.opencv,
            setuptools=tools.setuptools,
            evidence=EVIDENCE[whole.weight.evidence],  # type: ignore[arg-type]
        )
        changes = (
            *torch_changes(world, torch),
            *numeric_changes(world, number),
            *mmcv_changes(world, mmcv),
            *lab_changes(world, mmcv.row.package, lab),
            *tool_changes(world, tools.setuptools),
            *mended(world),
        )
        megabytes = torch.download_mb + mmcv.download_mb + number.download_mb
        return Solution(whole.weight, stack, in_order(changes), torch, megabytes)


def _torch_age(torch: TorchCandidate) -> tuple[float, ...]:
    return age(torch.row.release, torch.torchvision)


def _lab_age(lab: OpenmmlabCandidate) -> tuple[float, ...]:
    return age(lab.mmpose.version, lab.mmdet.version if lab.mmdet else None)


def _number_age(number: NumericCandidate) -> tuple[float, ...]:
    return age(number.numpy, number.opencv.version)


def _grouped(world: Situation, mmcv: MmcvRow) -> tuple[Labs, ...]:
    """What can stand around an mmcv, by the range of xtcocotools that it wants."""
    groups: dict[str, list[tuple[Share, OpenmmlabCandidate]]] = {}
    for lab in openmmlab_candidates(world, mmcv):
        changes = tuple(lab_changes(world, mmcv.package, lab))
        wanted = rules.xtcocotools_of(world.matrix, lab.mmpose.version)
        groups.setdefault(wanted, []).append((Share(changes=moved(changes), soft_ranges=lab.soft), lab))
    return tuple(Labs(wanted, *_least(some)) for wanted, some in groups.items())


def _least(shares: list[tuple[Share, T]]) -> tuple[Share, tuple[T, ...]]:
    """The least share, and those that have it."""
    least = min(share for share, _ in shares)
    return least, tuple(one for share, one in shares if share == least)


def _by_generation(
    share: Share, numbers: tuple[NumericCandidate, ...]
) -> tuple[Share, int, dict[str, tuple[NumericCandidate, ...]]]:
    """The fields of `Numbers`."""
    members: dict[str, tuple[NumericCandidate, ...]] = {}
    for number in numbers:
        generation = rules.numpy_generation(number.numpy)
        members[generation] = (*members.get(generation, ()), number)
    return share, min(number.download_mb for number in numbers), members


def setuptools_for(world: Situation, torch: TorchCandidate, *, builds: bool) -> tuple[str, ...]:
    """The setuptools that the stack may have: it keeps pkg_resources for mmengine, and builds what is built. Of the one
    that is there, the one that the build tools are pinned to, and the one that was asked for, those that do."""
    tools = rules.build_tools(world.matrix, torch.row.release)
    ranges = [SETUPTOOLS_WITH_PKG_RESOURCES, torch.row.setuptools]
    if builds and tools is not None:
        ranges.append(tools.setuptools)
    named = (
        world.installed.get("setuptools"),
        tools.setuptools_pin if tools else None,
        world.request.pins.get("setuptools"),
    )
    fits = []
    for version in dict.fromkeys(named):
        if version is None or not world.allows("setuptools", version):
            continue
        broken = [text for text in ranges if not rules.within(version, text)]
        if not broken:
            fits.append(version)
            continue
        why = "mmengine needs its pkg_resources, torch and the builds their range"
        source = tools.source if tools else torch.row.source
        world.reject(f"setuptools {version}", "setuptools", f"setuptools {broken[0]}", version, why, source)
    return tuple(fits)
