"""Facts, matrix and request together, and the rejections that pile up."""

from __future__ import annotations

from functools import cached_property
from typing import NamedTuple, Optional

from mmdoctor import rules
from mmdoctor.matrix_model import Matrix
from mmdoctor.model import Facts, ImportResult, Index, Recipe, Rejection, Request

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
        return {name: d.version for name, d in self.facts.target.installed.items()}

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
    def mended(self) -> dict[str, str]:
        """What the stack needs, is no part of the choice, and has wrong files: its version, to be installed again. What
        came from an address or a folder is not on an index and stays."""
        below = rules.stack_and_below(self.facts) - rules.PARTS
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
        return next((index for index in self.facts.indexes if index.name == name), None)

    def answers(self, name: str, candidate: str) -> bool:
        """Whether an index may be counted on: it answered, or nobody could look (an assumption then)."""
        index = self.index(name)
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
