"""When nothing satisfies: a minimal set of constraints that exclude every stack, and the ways out. Pure.

What stays when no further hold can be let go without a stack appearing is minimal by construction. A way out lets go of
a hold of every such set.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Callable, Generic, Optional, TypeVar

from msgspec.structs import replace

from mmdoctor import rules
from mmdoctor.candidates.families import forks
from mmdoctor.candidates.mmcv import mmcv_rows, obtainable
from mmdoctor.candidates.numeric import numeric_candidates
from mmdoctor.candidates.openmmlab import ranges_around
from mmdoctor.candidates.situation import Situation
from mmdoctor.candidates.torch import TorchCandidate, torch_builds
from mmdoctor.holds import (
    ARTEFACTS,
    LABS,
    MMCVS,
    NUMBERS,
    PARTS,
    TORCHES,
    WORD,
    Hold,
    Question,
    gpus,
    holds,
    loosened,
    other_pythons,
)
from mmdoctor.matrix_model import TorchRow
from mmdoctor.model import Cost, Nearest, Rejection, Resolution
from mmdoctor.resolve import WORDS, Search, Solution, setuptools_for
from mmdoctor.weigh import Weight

T = TypeVar("T")
Rank = tuple[int, list[int], Weight]  # of a way out: holds let go, their efforts, what its stack weighs
WAYS = 2
MOST_REASONS = 2


def unsatisfiable(world: Situation, rejected: tuple[Rejection, ...]) -> Resolution:
    """The resolution without a stack: what excludes what, and the nearest ways out."""
    nothing = Cost(download_bytes=0, build_minutes=0.0)
    none = Resolution(stack=None, changes=(), rejected=rejected, assumptions=(), cost=nothing)
    if not world.python:
        return replace(none, conflict="the target's interpreter does not answer, so its Python is not known")
    stacks = Possible(Question(world.facts, world.request, world.matrix))
    core = minimal(stacks)
    return replace(
        none,
        core=tuple(hold.constraint for hold in core),
        conflict=_sentence(core, _reasons(stacks, core, rejected)),
        nearest=nearest(stacks, core),
    )


# ------------------------------------------------------------------------------------------------------- the search


class Possible:
    """Whether there is a stack without some holds. What a hold does not bear on is the same with it and without, and is
    worked out once for each Python, as far as it is needed."""

    def __init__(self, asked: Question) -> None:
        self.asked = asked
        self.holds = tuple(holds(asked))
        self._known: dict[object, dict[object, Any]] = {}
        self._some: list[frozenset[Hold]] = []
        self._none: list[frozenset[Hold]] = []

    def without(self, let_go: Sequence[Hold]) -> Optional[Question]:
        """The question without these, in the first of the ways to be without them that has a stack; None when no way
        has."""
        return next(
            (question for question in loosened(self.asked, let_go) if self._satisfiable(question, let_go)), None
        )

    def any_without(self, let_go: Sequence[Hold]) -> bool:
        """Whether there is a stack without these. Letting go of more takes none away: an answer serves for others."""
        gone = frozenset(let_go)
        if any(gone <= more for more in self._none):
            return False
        if not any(fewer <= gone for fewer in self._some):
            (self._none if self.without(let_go) is None else self._some).append(gone)
        return gone not in self._none

    def beside(self, held: Sequence[Hold]) -> bool:
        """Whether there is a stack when only these hold."""
        return self.any_without([hold for hold in self.holds if hold not in held])

    def _satisfiable(self, question: Question, let_go: Sequence[Hold]) -> bool:
        world, python = question.world(), question.facts.target.python
        known = {part: self._known.setdefault((python, part, _bearing(let_go, part)), {}) for part in PARTS}

        def answer(part: str, key: object, ask: Callable[..., T], *about: object) -> T:
            """What was found for the same holds of this part and the same key, else what `ask` finds now."""
            answers: dict[object, T] = known[part]
            if key not in answers:
                answers[key] = ask(world, *about)
            return answers[key]

        around = answer(LABS, None, ranges_around)
        mmcvs = answer(MMCVS, None, mmcv_rows) if around else ()
        ranges = frozenset[str]().union(*around.values())
        served: dict[str, frozenset[tuple[str, str]]] = {}
        for torch in answer(TORCHES, None, _torches) if mmcvs else ():
            numpy = torch.row.numpy
            if numpy not in served:
                fed = {text for text in ranges if answer(NUMBERS, (numpy, text), _has_numbers, torch.row, text)}
                releases = ((row.package, row.version) for row in mmcvs)
                served[numpy] = frozenset(one for one in releases if not fed.isdisjoint(around.get(one, ())))
            mmcv = served[numpy]
            if bool(mmcv) and answer(ARTEFACTS, (*_build(torch), mmcv), _goes_with, torch, mmcv):
                return True
        return False


def _bearing(let_go: Sequence[Hold], part: str) -> frozenset[Hold]:
    """Those of some holds that bear on a part."""
    return frozenset(hold for hold in let_go if part in hold.bears_on)


def _build(torch: TorchCandidate) -> tuple[str, str, bool]:
    """What of a torch an mmcv stands beside: its torchvision and index do not matter."""
    return torch.choice.version, torch.choice.variant, torch.keep_torch


class _Looked(Generic[T]):
    """What an iterator gives, as far as somebody asked for it; it can be gone through again."""

    def __init__(self, source: Iterator[T]) -> None:
        self._source, self._seen = source, list[T]()

    def __iter__(self) -> Iterator[T]:
        yield from self._seen
        for one in self._source:
            self._seen.append(one)
            yield one


def _torches(world: Situation) -> _Looked[TorchCandidate]:
    return _Looked(torch_builds(world))


def _has_numbers(world: Situation, torch: TorchRow, xtcocotools: str) -> bool:
    return next(iter(numeric_candidates(world, torch, xtcocotools)), None) is not None


def _goes_with(world: Situation, torch: TorchCandidate, mmcv: frozenset[tuple[str, str]]) -> bool:
    """Whether there is an artefact of one of these mmcv releases beside this torch, and a setuptools for them."""
    return any(setuptools_for(world, torch, builds=builds) for builds in obtainable(world, torch, mmcv))


def minimal(stacks: Possible) -> tuple[Hold, ...]:
    """Holds that no stack satisfies together, while one satisfies all but any one of them; empty where none does
    whatever is let go. To be asked where no stack satisfies.

    Hardware is let go of first, so that what stays is what the user can do something about; Python last, since each
    other one is a question of its own. Whole groups are tried before their members: most holds have nothing to do with
    it.
    """
    let_go: list[Hold] = []

    def needed(some: Sequence[Hold], *, surely: bool = False) -> tuple[Hold, ...]:
        if not surely and not stacks.any_without((*let_go, *some)):
            let_go.extend(some)
            return ()
        if len(some) < 2:
            return tuple(some)
        first = needed(some[: len(some) // 2])
        return (*first, *needed(some[len(some) // 2 :], surely=not first))

    pythons_last = sorted(stacks.holds, key=lambda hold: (hold.loosen is other_pythons, -hold.effort))
    return tuple(sorted(needed(pythons_last), key=lambda hold: hold.effort))


def nearest(stacks: Possible, core: Sequence[Hold]) -> tuple[Nearest, ...]:
    """The nearest ways out, at most `WAYS`: those that let go of the fewest holds, the easiest first, then the
    cheapest.

    Every way out lets go of a hold of the minimal set. Where one alone does not do, there is the way that keeps all
    that is hardest to change; and the one that keeps, besides, the hold of the minimal set that the first gives. A fork
    that nobody named is a way, too.
    """
    ways: list[tuple[Hold, ...]] = [(hold,) for hold in core if stacks.any_without((hold,))]
    kept = [hold for way in ways for hold in way]
    while len(ways) < WAYS and len(kept) < len(core):
        way = correction(stacks, kept)
        kept += [hold for hold in core if hold in way][:1]
        if not way:
            break
        ways.append(way)
    ranked = sorted((*(_way(stacks, way) for way in ways), *_by_forks(stacks.asked)), key=lambda one: one[0])
    return tuple(way for _, way in ranked[:WAYS])


def correction(stacks: Possible, kept: Sequence[Hold]) -> tuple[Hold, ...]:
    """Holds without which there is a stack, while none of them can be kept beside the rest: `kept` come first, then
    what is hardest to change. Empty where `kept` alone exclude every stack."""
    held, gone = list(kept), list[Hold]()

    def hold_on(some: Sequence[Hold]) -> None:
        if stacks.beside((*held, *some)):
            held.extend(some)
        elif len(some) == 1:
            gone.extend(some)
        else:
            hold_on(some[: len(some) // 2])
            hold_on(some[len(some) // 2 :])

    if stacks.beside(held):
        hold_on(sorted((hold for hold in stacks.holds if hold not in held), key=lambda hold: -hold.effort))
    return tuple(gone)


def _way(stacks: Possible, let_go: tuple[Hold, ...]) -> tuple[Rank, Nearest]:
    """The cheapest stack without these holds, with its rank; of several Pythons on the first that has one."""
    question = stacks.without(let_go)
    best = Search(question.world()).cheapest() if question else None
    if question is None or best is None:
        raise LookupError("a way out has a stack")
    facts = question.facts
    how = " and ".join(hold.how for hold in let_go).replace("{python}", rules.minor(facts.target.python))
    how = how.replace("{gpus}", gpus(facts))
    efforts = sorted((hold.effort for hold in let_go), reverse=True)
    return (len(let_go), efforts, best.weight), _nearest(stacks.asked, let_go, how, best)


def _by_forks(asked: Question) -> Iterator[tuple[Rank, Nearest]]:
    """The forks with which there is a stack though everything holds. To name one is a word more, as to let go of one is
    a word less."""
    for family, request in forks(asked.request):
        best = Search(asked._replace(request=request).world()).cheapest()
        if best is not None:
            how = f"with the fork {family.name}, by --pin {family.mmcv}=={best.stack.mmcv.version}"
            yield (1, [WORD], best.weight), _nearest(asked, (), how, best)


def _nearest(asked: Question, let_go: tuple[Hold, ...], how: str, best: Solution) -> Nearest:
    return Nearest(
        gives=tuple(hold.constraint for hold in let_go),
        how=how,
        stack=best.stack,
        changes=best.changes,
        cost=best.cost,
        idle=bool(asked.facts.gpu.devices) and best.stack.torch.variant == "cpu",
    )


# ----------------------------------------------------------------------------------------------------- the sentence


def _sentence(core: Sequence[Hold], reasons: Sequence[str]) -> str:
    """What excludes what, with the facts behind it."""
    if not core:
        return "no stack satisfies, whatever is let go: the matrix knows none for this"
    said = [hold.said for hold in core]
    if len(said) == 1:
        start = f"{said[0]} excludes every stack"
    elif len(said) == 2:
        start = f"{said[0]} and {said[1]} exclude each other"
    else:
        start = f"{', '.join(said[:-1])} and {said[-1]} together exclude every stack"
    return f"{start}: {'; '.join(reasons)}" if reasons else start


def _reasons(stacks: Possible, core: Sequence[Hold], rejected: Sequence[Rejection]) -> list[str]:
    """The tightest rejection through which each hold of the minimal set speaks; where another hold cut it off, the one
    when nothing else is held."""
    found = {hold: _through(stacks, hold, core, rejected) for hold in core}
    if None in found.values():
        question = next(loosened(stacks.asked, [hold for hold in stacks.holds if hold not in core]))
        search = Search(question.world(silent=False))
        for look in (search.first, search.cheapest):
            look()
            alone = search.tightest_first()
            found = {hold: said or _through(stacks, hold, core, alone) for hold, said in found.items()}
            if None not in found.values():
                break
    return list(dict.fromkeys(filter(None, found.values())))[:MOST_REASONS]


def _through(stacks: Possible, hold: Hold, core: Sequence[Hold], rejected: Sequence[Rejection]) -> Optional[str]:
    """The rejection that says best what this hold excludes: one that speaks for others of the set too comes first. A
    word that no release satisfies speaks through no rejection but its own."""
    facts = [r for r in rejected if r.fact not in WORDS or " " not in r.candidate]
    speaking = sorted((r for r in facts if hold.speaks(r)), key=lambda r: -sum(other.speaks(r) for other in core))
    if speaking:
        r = speaking[0]
        return f"{r.candidate}: {r.why}, wanted {r.wanted}, seen {r.observed}"
    name, wanted = hold.package
    known = rules.releases(stacks.asked.matrix, name)
    if name and not any(rules.within(version, wanted) for version in known):
        return f"no {name} that is known is {wanted}"
    return None
