"""Facts, matrix and request together, and the rejections that pile up."""

from __future__ import annotations

from functools import cached_property
from typing import Callable, NamedTuple, Optional, TypeVar

from mmdoctor import rules
from mmdoctor.matrix_model import Matrix
from mmdoctor.model import Distribution, Facts, ImportResult, Index, OfferedWheel, Recipe, Rejection, Request
from mmdoctor.unlock import unlock

T = TypeVar("T")
MEGABYTE = 1_000_000
# Their wheels name the variant in the local label, which is a choice of its own here.
LABELLED = ("torch", "torchvision")
NUMBERS = frozenset(("numpy", "xtcocotools", *rules.OPENCV_NAMES))
LABS = frozenset(("mmpose", *rules.OWNERS["mmdet"], *rules.OWNERS["mmengine"]))
FLAVOURS = ("opencv-python-headless", "opencv-python")
# The parts of the stack that other packages of the user may have requirements of.
COUPLED = frozenset({"torch", "torchvision", "numpy", "setuptools", *rules.OPENCV_NAMES})
# The wheels are of one release each; these are the sizes of a typical one on the index, where the matrix has none.
TYPICAL_MB = {"cpu": 200, "cuda": 2500, "torchvision": 8, "numpy": 18, "opencv": 60, "mmcv": 95, "xtcocotools": 1}


class Wanted(NamedTuple):
    """One constraint on one package, and who set it."""

    name: str
    specifier: str
    who: str


class Foreign(NamedTuple):
    """A requirement that a package outside the stack has of a part of it. `needed`: the stack needs that package;
    `held`: it holds now; `moves`: uv can look for another release of it."""

    specifier: str
    needed: bool
    held: bool
    moves: bool


def whose(who: str) -> str:
    """Who set something, before its name: `your`, `recipe padel-service's`."""
    return "your" if who == "you" else f"{who}'s"


def rejection(
    candidate: str,
    fact: str,
    wanted: str,
    observed: str,
    why: str,
    source: tuple[str, ...] = (),
    unlocked: Optional[str] = None,
) -> Rejection:
    """Why a candidate is out. `source`: that of the matrix's row. `unlocked`: what would let it in, where the fact
    alone does not say it."""
    unlocks = unlocked or unlock(fact, wanted, observed)
    return Rejection(
        candidate=candidate, fact=fact, wanted=wanted, observed=observed, why=why, unlock=unlocks, source=source
    )


class Situation:
    """Facts, matrix and request together, with what is asked of them again and again. A `silent` one keeps no
    rejections."""

    def __init__(
        self,
        facts: Facts,
        matrix: Matrix,
        request: Request,
        *,
        silent: bool = False,
    ) -> None:
        self.silent = silent
        self.facts = facts
        self.matrix = matrix
        self.request = request
        self.rejected: dict[tuple[str, str], Rejection] = {}
        # The torch (release, variant) that is looked at, and the one beside which each rejection was first met.
        self.beside: Optional[tuple[str, str]] = None
        self.met_beside: dict[tuple[str, str], Optional[tuple[str, str]]] = {}

    @property
    def recipe(self) -> Recipe:
        return self.request.recipe

    @cached_property
    def python(self) -> str:
        return self.facts.target.python

    @cached_property
    def tag(self) -> str:
        """The Python tag of a compiled wheel for the target: `cp311`."""
        return "cp" + rules.minor(self.python).replace(".", "")

    @cached_property
    def offers(self) -> tuple[tuple[Index, OfferedWheel], ...]:
        """The wheels of the user's places, with the place."""
        return tuple((place, wheel) for place in self.facts.indexes for wheel in place.wheels)

    @cached_property
    def compiled(self) -> frozenset[tuple[str, str]]:
        """What somebody has compiled, installed, in the cache or at the user's places: name and public version."""
        cached = ((wheel.name, wheel.version) for wheel in self.facts.wheels)
        offered = ((wheel.name, wheel.version) for _, wheel in self.offers)
        there = (*self.installed.items(), *cached, *offered)
        return frozenset((name, rules.public(version)) for name, version in there)

    @cached_property
    def installed(self) -> dict[str, str]:
        return {name: d.version for name, d in self.facts.target.installed.items()}

    @cached_property
    def measured_here(self) -> bool:
        """Whether the measured stacks are of this platform; all of them are of Linux x86_64."""
        return (self.facts.host.os, self.facts.host.machine) == ("linux", "x86_64")

    @cached_property
    def numpy_1_wheels(self) -> tuple[Distribution, ...]:
        """What the stack needs, is no part of it, and came as a wheel built for NumPy 1 that does not declare so."""
        found, installed = [], self.facts.target.installed
        for name in self.below - rules.PARTS:
            d = installed.get(name)
            row = rules.binary_row(self.matrix, name, d.version) if d else None
            if d and row and row.built_on == "1" and row.numpy is None and rules.prebuilt(d, row, self.facts):
                found.append(d)
        return tuple(sorted(found, key=lambda d: d.name))

    @cached_property
    def foreign(self) -> dict[str, tuple[Foreign, ...]]:
        """What the packages outside the stack require of it, by the part's name."""
        found: dict[str, tuple[Foreign, ...]] = {}
        for distribution in self.facts.target.distributions:
            for text in distribution.requires if distribution.name not in rules.PARTS else ():
                requirement = rules.declared(text, self.facts) if any(name in text for name in COUPLED) else None
                if requirement is None or requirement.name not in COUPLED or not str(requirement.specifier):
                    continue
                have, wanted = self.installed.get(requirement.name), str(requirement.specifier)
                held = have is not None and rules.within(have, wanted)
                one = Foreign(wanted, distribution.name in self.below, held, rules.movable(distribution))
                found[requirement.name] = (*found.get(requirement.name, ()), one)
        return found

    @cached_property
    def wanted(self) -> tuple[Wanted, ...]:
        recipe = self.recipe
        pins = {n: rules.public(v) if n in LABELLED else v for n, v in self.request.pins.items()}
        own = [Wanted(name, f"=={version}", "you") for name, version in pins.items()]
        theirs = [Wanted(name, text, f"recipe {recipe.name}") for name, text in recipe.packages.items()]
        return (*own, *theirs)

    @cached_property
    def about_labs(self) -> tuple[object, ...]:
        """What the choice of mmpose, mmdet and mmengine around an mmcv hangs on besides the matrix, and what each would
        change: the family, the words about them, and those that are there, in which state."""
        words = tuple(want for want in self.wanted if want.name in LABS)
        there = ((name, version, self.sound(name), self.doubled(name)) for name, version in self.installed.items())
        return self.recipe.family, words, tuple(sorted(one for one in there if one[0] in LABS))

    @cached_property
    def about_numbers(self) -> Optional[tuple[object, ...]]:
        """What the choice of NumPy and what is bound to it hangs on in a new environment, besides the matrix; None in
        one where something is."""
        facts, host = self.facts, self.facts.host
        if facts.target.distributions or facts.imports:
            return None
        words = tuple(want for want in self.wanted if want.name in NUMBERS)
        cached = tuple(wheel for wheel in facts.wheels if wheel.name == "xtcocotools")
        tools = self.request.allow_build, self.no_compiler()
        return host.os, host.machine, host.glibc, host.libgl, self.python, self.recipe.opencv, words, cached, tools

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
    def below(self) -> frozenset[str]:
        """The installed distributions of the stack and what they require, directly or through others."""
        return rules.stack_and_below(self.facts)

    @cached_property
    def has_gpu(self) -> bool:
        return bool(self.facts.gpu.devices)

    @cached_property
    def torch_variant(self) -> Optional[str]:
        """The variant of the installed torch; None without torch."""
        return rules.torch_variant(self.matrix, self.facts)

    @cached_property
    def refused_by_gpu(self) -> dict[tuple[str, str], Optional[Rejection]]:
        """What speaks against each torch build (release, variant) on these GPUs with this driver, as far as it was
        asked; the same for every question about them."""
        gpu, host = self.facts.gpu, self.facts.host
        devices = tuple((device.name, device.compute_capability) for device in gpu.devices)
        key = ("refused by GPU", host.os, host.machine, gpu.driver, gpu.cuda_ceiling, devices)
        return self.matrix.answers.setdefault(key, {})  # type: ignore[no-any-return]

    def reject(
        self,
        candidate: str,
        fact: str,
        wanted: str,
        observed: str,
        why: str,
        source: tuple[str, ...] = (),
        unlocked: Optional[str] = None,
    ) -> None:
        """Keep why a candidate is out (see `rejection`); the first fact stands."""
        if not self.silent and (candidate, fact) not in self.rejected:
            self.keep(rejection(candidate, fact, wanted, observed, why, source, unlocked))

    def shared(self, key: tuple[object, ...], ask: Callable[[Situation], T]) -> T:
        """What `ask` finds in this situation, with its rejections; worked out once per matrix for a key, which has to
        hold all that it hangs on."""
        answers = self.matrix.answers
        if key not in answers:
            alone = Situation(self.facts, self.matrix, self.request)
            answers[key] = ask(alone), tuple(alone.rejected.values())
        found, rejected = answers[key]
        for one in rejected if not self.silent else ():
            self.keep(one)
        return found  # type: ignore[no-any-return]

    def keep(self, rejection: Rejection) -> None:
        """Keep a rejection; of a candidate and a fact the first stands."""
        key = (rejection.candidate, rejection.fact)
        if not self.silent and key not in self.rejected:
            self.met_beside[key] = self.beside
            self.rejected[key] = rejection

    @cached_property
    def _wanted_of(self) -> dict[str, tuple[Wanted, ...]]:
        names = {want.name for want in self.wanted}
        return {name: tuple(want for want in self.wanted if want.name == name) for name in names}

    def allows(self, name: str, version: str, withdrawn: Optional[str] = None) -> bool:
        """Whether every constraint on `name` holds for `version`; if not, it is rejected by who set it. A release that
        PyPI withdrew (why: `withdrawn`) is taken where it is there already or somebody asked for just that."""
        for want in self._wanted_of.get(name, ()):
            if not rules.within(version, want.specifier):
                asked, why = f"{name}{want.specifier}", f"{want.who} asked for it"
                unlocked = f"dropping {whose(want.who)} {asked}"
                self.reject(f"{name} {version}", "constraint", asked, version, why, unlocked=unlocked)
                return False
        if withdrawn is None or self.installed.get(name) == version or self._asks_for_just(name, version):
            return True
        pin = f"your pin {name}=={version}"
        self.reject(f"{name} {version}", "withdrawn", "a release that PyPI hands out", withdrawn, "withdrawn", (), pin)
        return False

    def _asks_for_just(self, name: str, version: str) -> bool:
        return any(want.specifier == f"=={version}" for want in self._wanted_of.get(name, ()))

    def asks_for(self, name: str) -> bool:
        """Whether the recipe or the user names this package."""
        return name in self._wanted_of

    @cached_property
    def faults(self) -> dict[str, str]:
        """What is wrong with installed distributions' files or metadata, in words."""
        said = {d.name: text for d in self.facts.target.distributions if (text := rules.damage(d))}
        twins = rules.twins(self.facts)
        return {**said, **{name: f"listed twice: {' and '.join(d.version for d in twins[name])}" for name in twins}}

    def fault(self, name: str) -> Optional[str]:
        """What is wrong with an installed distribution's files or metadata; None when nothing is."""
        return self.faults.get(name)

    @cached_property
    def _doubled(self) -> frozenset[str]:
        return frozenset(rules.doubled(self.facts))

    def doubled(self, name: str) -> bool:
        """Whether several installed distributions bring the module of this one."""
        return rules.module_of(name) in self._doubled

    @cached_property
    def mended(self) -> dict[str, str]:
        """What the stack needs, is no part of the choice, and has wrong files: its version, to be installed again. What
        came from an address or a folder is not on an index and stays."""
        below = self.below - rules.PARTS
        found: dict[str, str] = {}
        for d in self.facts.target.distributions:
            if d.name in below and d.name in self.faults and not d.direct and d.record != "editable":
                found[d.name] = max(d.version, found.get(d.name, d.version), key=rules.order)
        return found

    def excused(self, result: ImportResult) -> bool:
        """Whether a failed import says nothing of its package: what is mended besides explains it, or bytecode that is
        thrown away, or surroundings without which it works."""
        through = {result.data.get("missing", "").split(".")[0], *result.packages}
        besides = {rules.module_of(name) for name in self.mended}
        if any(name.startswith("nvidia-") for name in self.mended):
            besides.add("torch")  # torch links to the libraries of those wheels
        healed = {module for retry in self.facts.retries for module in retry.healed}
        return bool(through & besides) or "bytecode" in result.data or result.module in healed

    def sound(self, name: str, module: Optional[str] = None) -> bool:
        """Whether an installed distribution has all its files and nothing was seen that speaks against its import."""
        if name not in self.installed or self.fault(name):
            return False
        result = self.facts.imported(module) if module else None
        return result is None or result.status == "ok" or self.excused(result)

    def index(self, name: str) -> Optional[Index]:
        """What was seen of an index; None when nothing was looked at."""
        return self._indexes.get(name)

    @cached_property
    def _indexes(self) -> dict[str, Index]:
        return {index.name: index for index in reversed(self.facts.indexes)}

    def answers(self, name: str, candidate: str) -> bool:
        """Whether an index may be counted on: it answered, or nobody could look (an assumption then)."""
        index = self._indexes.get(name)
        if index is None or index.reachable is not False:
            return True
        self.reject(candidate, f"index:{name}", f"{index.url} answers", "no answer", index.reason or "no answer")
        return False

    def alone(self, name: str, owners: tuple[str, ...]) -> bool:
        """Whether nobody asks for another distribution that owns the same folder."""
        for want in self.wanted:
            if want.name in owners and want.name != name:
                why = f"{want.who} asked for it, and both own one folder"
                self.reject(name, "constraint", f"{want.name}{want.specifier}", name, why)
                return False
        return True

    def no_compiler(self) -> bool:
        """Whether one was looked for and is not there; only gcc is looked for, which is Linux's."""
        toolchain = self.facts.toolchain
        return toolchain.looked and toolchain.gcc is None and self.facts.host.os == "linux"

    def compiles(self, name: str, what: str, because: str, cxx_std: Optional[int] = None) -> bool:
        """Whether this machine may compile and has `what` compiles; with `cxx_std` also torch's headers, which take
        memory and a compiler of that standard. `because` says why nothing prebuilt will do. A compiler whose version
        nobody saw is taken to fit."""
        if not self.request.allow_build:
            why = f"{because}, and --no-build forbids to compile it"
            self.reject(name, "no-build", "a compile", "only the sdist", why)
            return False
        if self.no_compiler():
            self.reject(name, "compiler", what, "none", f"{because}, and there is no gcc to compile it")
            return False
        return cxx_std is None or self._takes_torchs_headers(name, because, cxx_std)

    def _takes_torchs_headers(self, name: str, because: str, cxx_std: int) -> bool:
        memory, gcc = self.facts.host.memory_total_bytes, rules.seen_version(self.facts.toolchain.gcc)
        if memory < rules.BYTES_PER_JOB:
            needed = f"{rules.BYTES_PER_JOB / 1e9:g} GB of memory"
            self.reject(name, "memory", needed, f"{memory / 1e9:.1f} GB", f"{because}; one compiler takes that much")
            return False
        floor = rules.gcc_floor(self.matrix, cxx_std)
        if floor is not None and gcc is not None and rules.order(gcc) < rules.order(floor.gcc):
            why = f"{because}; torch's headers are C++{cxx_std}"
            self.reject(name, "gcc", f"gcc ≥{floor.gcc}", gcc, why, floor.source)
            return False
        return True
