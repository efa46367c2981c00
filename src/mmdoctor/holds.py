"""Everything that constrains the choice besides the matrix, each constraint as a `Hold` that can be let go. Pure.

A fact is let go by not knowing it, a wish by not having it: the rules take both as "anything will do". So the question
without a hold is asked of the same code as the question itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Callable, NamedTuple, Optional

from msgspec.structs import replace

from mmdoctor import rules
from mmdoctor.candidates.situation import Situation, whose
from mmdoctor.matrix_model import Matrix
from mmdoctor.model import Constraint, Facts, Rejection, Request, Target, Tool, Unknown

ANY = Unknown(unknown="let go")
PLENTY = 1 << 40
ANY_PYTHON = ">=3.7"  # of a recipe that does not say
# How hard it is to let go, from words to hardware.
WORD, PROJECT, NETWORK, TOOL, ENVIRONMENT, DRIVER, SYSTEM, HARDWARE = range(8)
# The parts of the choice that a hold bears on: mmpose, mmdet and mmengine around an mmcv; NumPy and what is bound to
# it; torch; mmcv by itself; its artefact beside a torch, with the tools that go with it.
LABS, NUMBERS, TORCHES, MMCVS, ARTEFACTS = PARTS = ("labs", "numbers", "torches", "mmcvs", "artefacts")
BEARS_ON: dict[str, tuple[str, ...]] = {
    **dict.fromkeys((*rules.OWNERS["mmdet"], *rules.OWNERS["mmengine"]), (LABS, MMCVS)),
    **dict.fromkeys(("numpy", "xtcocotools", *rules.OPENCV_NAMES), (NUMBERS,)),
    **dict.fromkeys(("torch", "torchvision"), (TORCHES,)),
    **dict.fromkeys(rules.MMCV_NAMES, (MMCVS,)),
    "mmpose": (LABS,),
    "setuptools": (ARTEFACTS,),
}


class Question(NamedTuple):
    """What is asked, and of which matrix."""

    facts: Facts
    request: Request
    matrix: Matrix

    def world(self, *, silent: bool = True) -> Situation:
        """The situation of the question."""
        return Situation(self.facts, self.matrix, self.request, silent=silent)


class Hold(NamedTuple):
    """One constraint: who set it and what it says, what it takes to let it go (`how`, `{python}` stands for the other
    Python), how hard that is, the parts of the choice that it bears on, the question without it (for the Python
    several), and the rejections that it speaks through."""

    who: str
    says: str
    how: str
    effort: int
    bears_on: tuple[str, ...]
    loosen: Callable[[Question], Sequence[Question]]
    speaks: Callable[[Rejection], bool]

    @property
    def package(self) -> tuple[str, str]:
        """The package that it is about and the range; both empty for another kind."""
        match = re.match(r"([a-z0-9-]+?)([=<>~!].*)", self.says)
        return (match[1], match[2]) if match else ("", "")

    @property
    def constraint(self) -> Constraint:
        return Constraint(who=self.who, says=self.says)

    @property
    def said(self) -> str:
        """`your pin mmcv==2.2.0`, `recipe padel-service's numpy==1.21.6`, `Python 3.11.7`."""
        if self.who == "you":
            return self.says if self.says.startswith("--") else f"your pin {self.says}"
        return self.says if self.who.startswith("this ") else f"{whose(self.who)} {self.says}"


def loosened(asked: Question, let_go: Iterable[Hold]) -> Iterator[Question]:
    """The question without some holds: every combination of what each of them leaves open."""
    questions = [asked]
    for hold in let_go:
        questions = [freer for question in questions for freer in hold.loosen(question)]
    return iter(questions)


def holds(asked: Question) -> Iterator[Hold]:
    """Everything that constrains the choice besides the matrix."""
    yield from _words(asked.request)
    yield from _project(asked.request)
    yield from _tools(asked.facts)
    yield from _machine(asked.facts)


def _names(name: str, text: str) -> Callable[[Rejection], bool]:
    """Whether a rejection is about this very version of a package, not about its being asked for."""
    version = rules.public(text[2:]) if text.startswith("==") else ""
    words = (f"{name} {version}", f"with {name} {version}", f"{name} {version}+")

    def speaks(rejection: Rejection) -> bool:
        candidate = rejection.candidate
        exact = candidate == words[0] or candidate.endswith(words[1])
        return bool(version) and (
            exact or candidate.startswith((f"{words[0]} ", words[2])) or rejection.wanted == f"{name}{text}"
        )

    return speaks


def _of_fact(*facts: str) -> Callable[[Rejection], bool]:
    return lambda rejection: rejection.fact in facts


def _request(change: Callable[[Request], Request]) -> Callable[[Question], Sequence[Question]]:
    return lambda asked: (asked._replace(request=change(asked.request)),)


def _facts(change: Callable[[Facts], Facts]) -> Callable[[Question], Sequence[Question]]:
    return lambda asked: (asked._replace(facts=change(asked.facts)),)


def _without(names: dict[str, str], name: str) -> dict[str, str]:
    return {key: value for key, value in names.items() if key != name}


def _words(request: Request) -> Iterator[Hold]:
    """What the user said on the command line."""
    for name, version in request.pins.items():

        def unpinned(request: Request, name: str = name) -> Request:
            return replace(request, pins=_without(request.pins, name))

        text = f"{name}=={version}"
        yield Hold(
            "you",
            text,
            f"without your pin {text}",
            WORD,
            BEARS_ON.get(name, ()),
            _request(unpinned),
            _names(name, f"=={version}"),
        )
    if request.torch_variants:
        asked = f"--torch-variant {' or '.join(request.torch_variants)}"
        free = _request(lambda request: replace(request, torch_variants=()))
        yield Hold("you", asked, f"without {asked}", WORD, (TORCHES,), free, _of_fact("variant"))
    if not request.allow_build:
        free = _request(lambda request: replace(request, allow_build=True))
        yield Hold("you", "--no-build", "without --no-build", WORD, (NUMBERS, ARTEFACTS), free, _of_fact("no-build"))


def _project(request: Request) -> Iterator[Hold]:
    """What the recipe says."""
    who = f"recipe {request.recipe.name}"
    for name, text in request.recipe.packages.items():

        def freer(request: Request, name: str = name) -> Request:
            packages = _without(request.recipe.packages, name)
            return replace(request, recipe=replace(request.recipe, packages=packages))

        how = f"without {whose(who)} {name}{text}"
        yield Hold(who, f"{name}{text}", how, PROJECT, BEARS_ON.get(name, ()), _request(freer), _names(name, text))
    for field, free, fact, part in (
        ("python", ANY_PYTHON, "python", TORCHES),
        ("torch_variant", None, "variant", TORCHES),
        ("opencv", None, "constraint", NUMBERS),
        ("driver", None, "driver", TORCHES),
    ):
        value = getattr(request.recipe, field)
        if value is not None and value != free:

            def open_to_all(request: Request, field: str = field, free: Optional[str] = free) -> Request:
                return replace(request, recipe=replace(request.recipe, **{field: free}))

            says = f"{field.replace('_', ' ')} {value}"
            how = f"without {whose(who)} {says}"
            yield Hold(who, says, how, PROJECT, (part,), _request(open_to_all), _of_fact(fact))


def _tools(facts: Facts) -> Iterator[Hold]:
    """What answers, and what compiles."""
    here = "this machine"
    for index in facts.indexes:
        if index.reachable is False:

            def answering(facts: Facts, name: str = index.name) -> Facts:
                freed = tuple(replace(i, reachable=ANY) if i.name == name else i for i in facts.indexes)
                return replace(facts, indexes=freed)

            says = f"{index.url} does not answer ({index.reason})"
            yield Hold(
                here,
                says,
                f"when {index.url} answers",
                NETWORK,
                (TORCHES, ARTEFACTS),
                _facts(answering),
                _of_fact(f"index:{index.name}"),
            )

    def tool(name: str, version: object = ANY) -> Callable[[Question], Sequence[Question]]:
        any_version = Tool(path=name, version=version)  # type: ignore[arg-type]
        return _facts(lambda facts: replace(facts, toolchain=replace(facts.toolchain, **{name: any_version})))

    chain = facts.toolchain
    if chain.looked and chain.gcc is None:
        how, parts = "with a C++ compiler", (NUMBERS, ARTEFACTS)
        yield Hold(here, "no C++ compiler", how, TOOL, parts, tool("gcc"), _of_fact("compiler"))
    elif rules.seen_version(chain.gcc):
        how = "with another gcc"
        yield Hold(here, f"gcc {rules.seen_version(chain.gcc)}", how, TOOL, (ARTEFACTS,), tool("gcc"), _of_fact("gcc"))
    if facts.gpu.devices and (chain.looked or chain.nvcc):
        says = f"nvcc {rules.seen_version(chain.nvcc)}" if rules.seen_version(chain.nvcc) else "no nvcc"
        yield Hold(
            here, says, "with the nvcc of torch's CUDA", TOOL, (ARTEFACTS,), tool("nvcc"), _of_fact("nvcc", "toolkit")
        )


def _machine(facts: Facts) -> Iterator[Hold]:
    """Environment, driver, system and hardware."""
    here, host, gpu, target = "this machine", facts.host, facts.gpu, facts.target
    if target.distributions:
        says = "what is installed"
        how = "in a new environment"
        free = _facts(lambda facts: in_new_environment(facts, facts.target.python))
        yield Hold("this environment", says, how, ENVIRONMENT, PARTS, free, _of_fact("installed"))
    yield Hold(
        here, f"Python {target.python}", "with Python {python}", ENVIRONMENT, PARTS, other_pythons, _of_fact("python")
    )
    if isinstance(gpu.driver, str) and gpu.devices:
        newer = _facts(lambda facts: replace(facts, gpu=replace(facts.gpu, driver=ANY)))
        yield Hold(here, f"driver {gpu.driver}", "with a newer driver", DRIVER, (TORCHES,), newer, _of_fact("driver"))
    if host.os == "linux" and not isinstance(host.glibc, Unknown):
        says, how = f"glibc {host.glibc}", "on a system with a newer glibc"
        if host.glibc is None:
            says, how = "a C library other than glibc", "on a system with glibc"
        yield Hold(here, says, how, SYSTEM, (NUMBERS, TORCHES, ARTEFACTS), _on(glibc=ANY), _of_fact("glibc"))
    if host.memory_total_bytes < rules.BYTES_PER_JOB:
        says = f"{host.memory_total_bytes / 1e9:.1f} GB of memory"
        yield Hold(
            here, says, "with more memory", HARDWARE, (ARTEFACTS,), _on(memory_total_bytes=PLENTY), _of_fact("memory")
        )
    if gpu.devices:
        kinds = one_kind_of_gpu(facts)
        says = f"a GPU of compute capability {' and '.join(sorted({d.compute_capability for d in gpu.devices}))}"
        how = "with {gpus} alone (CUDA_VISIBLE_DEVICES)" if kinds else "with another GPU, or none"
        yield Hold(here, says, how, HARDWARE, (TORCHES, ARTEFACTS), _fewer_gpus, _of_fact("gpu-arch"))
    if (host.os, host.machine) != ("linux", "x86_64"):
        elsewhere = _on(os="linux", machine="x86_64", glibc=ANY)
        says = f"{host.os} on {host.machine}"
        yield Hold(
            here,
            says,
            "on Linux x86_64",
            HARDWARE,
            PARTS,
            elsewhere,
            lambda rejection: "none on this platform" in rejection.wanted,
        )


def one_kind_of_gpu(facts: Facts) -> tuple[Facts, ...]:
    """The machine as a program sees it that is shown the GPUs of one compute capability alone, the newest first; empty
    where there is one kind."""
    devices = facts.gpu.devices
    kinds = sorted({device.compute_capability for device in devices}, key=rules.order, reverse=True)
    shown = (tuple(device for device in devices if device.compute_capability == kind) for kind in kinds)
    return tuple(replace(facts, gpu=replace(facts.gpu, devices=some)) for some in shown) if len(kinds) > 1 else ()


def gpus(facts: Facts) -> str:
    """`the GPU of 12.0`, `no GPU`."""
    kinds = sorted({device.compute_capability for device in facts.gpu.devices}, key=rules.order)
    return f"the GPU of {' and '.join(kinds)}" if kinds else "no GPU"


def _fewer_gpus(asked: Question) -> tuple[Question, ...]:
    facts = asked.facts
    idle = replace(facts, gpu=replace(facts.gpu, devices=()))
    return tuple(asked._replace(facts=fewer) for fewer in (*one_kind_of_gpu(facts), idle))


def _on(**fields: object) -> Callable[[Question], Sequence[Question]]:
    return _facts(lambda facts: replace(facts, host=replace(facts.host, **fields)))


def other_pythons(asked: Question) -> tuple[Question, ...]:
    """A new environment on each other Python that any torch has a wheel for, the nearest first, the older before the
    newer."""
    here = int(rules.minor(asked.facts.target.python).partition(".")[2] or 0)
    known = (int(python.partition(".")[2]) for python in rules.torch_pythons(asked.matrix))
    minors = sorted(known, key=lambda minor: (abs(minor - here), minor))
    pythons = (f"3.{minor}.0" for minor in minors if minor != here)
    return tuple(asked._replace(facts=in_new_environment(asked.facts, python)) for python in pythons)


def in_new_environment(facts: Facts, python: str) -> Facts:
    """The same machine with nothing installed, on this Python."""
    target = Target(requested=facts.target.requested, state="absent", python=python)
    wheels = facts.wheels if rules.minor(python) == rules.minor(facts.target.python) else ()
    return replace(facts, target=target, imports=(), retries=(), extension=None, wheels=wheels)
