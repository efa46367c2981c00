"""The independent oracle: what the cheapest stack weighs, by plain enumeration of the legal parts.

`every` is the whole product of the parts that `oracle_parts.py` lists, each weighed by the order of costs in
docs/design.md; `cheapest` is its least member, found without walking what cannot differ from another member but for the
worse; `judge` weighs a stack of the resolver. Nothing of the code under test is imported.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any, NamedTuple, Optional

from mmdoctor.model import Stack
from tests.oracle_parts import (
    EVIDENCE,
    LabPart,
    MmcvPart,
    NumericPart,
    Parts,
    ToolsPart,
    TorchPart,
    generation,
    series,
)


class Weight(NamedTuple):
    """The fields of docs/design.md, in its order."""

    idle: int
    broken: int
    changes: int
    soft: int
    builds: int
    misfit: int
    evidence: int
    download: int
    minutes: float
    age: tuple[tuple[int, ...], ...]


class IllegalError(Exception):
    """A stack holds a part that no rule allows."""


class Whole(NamedTuple):
    """One part of each, with what it weighs; `megabytes` is what the doublings of `weight.download` come from."""

    weight: Weight
    megabytes: int
    torch: TorchPart
    mmcv: MmcvPart
    lab: LabPart
    numeric: NumericPart
    tools: ToolsPart


class Least(NamedTuple):
    """The least whole, how many were compared for it, and how many the product of the parts has."""

    whole: Optional[Whole]
    compared: int
    stacks: int


def weigh(
    parts: Parts, torch: TorchPart, mmcv: MmcvPart, lab: LabPart, numeric: NumericPart, tools: ToolsPart, evidence: int
) -> Whole:
    """The cost of a whole, as docs/design.md has it."""
    bills = (parts.bill_of_all, torch.bill, mmcv.bill, lab.bill, numeric.bill, tools.bill)
    megabytes = sum(bill.megabytes for bill in bills)
    weight = Weight(
        idle=int(bool(parts.gpus) and torch.variant == "cpu"),
        broken=sum(bill.broken for bill in bills),
        changes=sum(bill.changes for bill in bills),
        soft=sum(bill.soft for bill in bills),
        builds=sum(bill.builds for bill in bills),
        misfit=int(not parts.gpus and torch.variant != "cpu"),
        evidence=evidence,
        download=megabytes.bit_length(),
        minutes=round(sum(bill.minutes for bill in bills), 1),
        age=torch.bill.age + lab.bill.age + mmcv.bill.age + numeric.bill.age,
    )
    return Whole(weight, megabytes, torch, mmcv, lab, numeric, tools)


def every(parts: Parts) -> Iterator[Whole]:
    """The whole product, plainly."""
    for torch in parts.torches():
        for mmcv in parts.mmcvs(torch):
            for lab in parts.labs(*mmcv[:2]):
                for numeric in parts.numerics(torch.row.numpy, lab.xtcocotools):
                    for tools in parts.tools(torch, mmcv):
                        yield weigh(
                            parts, torch, mmcv, lab, numeric, tools, parts.evidence(torch, mmcv, lab, numeric.numpy)
                        )


def at_least_as_good(options: list[Any], coupled: Any) -> list[Any]:
    """Without those that another one, coupled to the rest in the same way, equals or beats in every field of its bill:
    each field of the weight grows with the bills, so no whole with such an option is less than the one without it."""
    best: dict[Any, Any] = {}
    for option in options:
        key = (coupled(option), option.bill[:-1])
        if key not in best or option.bill.age < best[key].bill.age:
            best[key] = option

    def beaten(one: Any) -> bool:
        others = (other for other in kept if other is not one and coupled(other) == coupled(one))
        return any(all(a <= b for a, b in zip(other.bill, one.bill)) for other in others)

    kept = list(best.values())
    return [option for option in kept if not beaten(option)]


def cheapest(parts: Parts) -> Least:
    """The least member of the product. `every` has the same, and takes hours on the shipped matrix."""
    lists: dict[Any, tuple[list[Any], list[Any]]] = {}
    sizes: dict[Any, int] = {}
    known: dict[Any, int] = {}

    def listed(key: Any, make: Any, coupled: Any) -> tuple[list[Any], list[Any]]:
        """All parts that there are beside what the key says, and the few of them that may be in the least whole."""
        if key not in lists:
            options = make()
            lists[key] = options, at_least_as_good(options, coupled)
        return lists[key]

    measured = {(row.mmpose, row.mmdet) for row in parts.matrix.stacks}

    def couples(lab: LabPart) -> Any:
        """What else depends on it: the evidence, where it was measured at all, and xtcocotools."""
        return (lab[:2] if lab[:2] in measured else None, lab.xtcocotools)

    def numerics_of(torch: TorchPart, lab: LabPart) -> tuple[list[NumericPart], list[NumericPart]]:
        around = torch.row.numpy, lab.xtcocotools
        return listed(around, lambda: parts.numerics(*around), lambda part: generation(part.numpy))

    least: Optional[Whole] = None
    compared = stacks = 0
    for torch in parts.torches():
        for mmcv in parts.mmcvs(torch):
            key = torch.row.release, mmcv.kind == "build"
            all_tools, few_tools = listed(key, lambda: parts.tools(torch, mmcv), lambda part: None)  # noqa: B023
            all_labs, few_labs = listed(mmcv[:2], lambda: parts.labs(*mmcv[:2]), couples)  # noqa: B023
            size = torch.row.numpy, mmcv[:2]
            if size not in sizes:
                sizes[size] = sum(len(numerics_of(torch, lab)[0]) for lab in all_labs)
            stacks += sizes[size] * len(all_tools)
            for lab in few_labs:
                for numeric, tools in product(numerics_of(torch, lab)[1], few_tools):
                    row = (series(torch.row.release), mmcv[:3], lab[:2], generation(numeric.numpy))
                    if row not in known:
                        known[row] = parts.evidence(torch, mmcv, lab, numeric.numpy)
                    whole = weigh(parts, torch, mmcv, lab, numeric, tools, known[row])
                    compared += 1
                    if least is None or whole.weight < least.weight:
                        least = whole
    return Least(least, compared, stacks)


def judge(parts: Parts, stack: Stack) -> Whole:
    """What a stack of the resolver weighs; IllegalError names the part that no rule allows."""
    found = [whole for torch in _torches(parts, stack) for whole in _wholes(parts, stack, torch)]
    if stack.opencv.name != parts.flavour:
        raise IllegalError(f"{stack.opencv.name}, not {parts.flavour}")
    if not found:
        what = f"{stack.mmcv.name} {stack.mmcv.version} ({stack.mmcv.artefact.kind})"
        raise IllegalError(f"{what} is not legal beside torch {stack.torch.version}+{stack.torch.variant}")
    best = min(found, key=lambda whole: whole.weight)
    if stack.evidence != EVIDENCE[best.weight.evidence]:
        raise IllegalError(f"evidence {stack.evidence}, not {EVIDENCE[best.weight.evidence]}")
    return best


def _torches(parts: Parts, stack: Stack) -> list[TorchPart]:
    """The torch of the stack, with what can stay of it: the stack does not say whether it is fetched again."""
    key = (stack.torch.version, stack.torch.variant, stack.torch.index, stack.torchvision)
    return _same(f"torch {key}", parts.torches(), lambda t: (t.row.release, t.variant, t.index, t.torchvision) == key)


def _wholes(parts: Parts, stack: Stack, torch: TorchPart) -> Iterator[Whole]:
    kind = (stack.mmcv.name, stack.mmcv.version, stack.mmcv.artefact.kind)
    lab_key = (stack.mmpose, stack.mmdet, stack.mmengine)
    number_key = (stack.numpy, stack.opencv.version, stack.xtcocotools.version, stack.xtcocotools.artefact.kind)
    for mmcv in (part for part in parts.mmcvs(torch) if (part.family.mmcv, part.version, part.kind) == kind):
        lab = _same(f"OpenMMLab {lab_key}", parts.labs(*mmcv[:2]), lambda part: part[:3] == lab_key)[0]
        numerics = parts.numerics(torch.row.numpy, lab.xtcocotools)
        numeric = _same(f"NumPy {number_key}", numerics, lambda part: part[:4] == number_key)[0]
        said = f"setuptools {stack.setuptools}"
        tools = _same(said, parts.tools(torch, mmcv), lambda part: part.setuptools == stack.setuptools)[0]
        yield weigh(parts, torch, mmcv, lab, numeric, tools, parts.evidence(torch, mmcv, lab, stack.numpy))


def _same(said: str, options: list[Any], same: Any) -> list[Any]:
    matching = [option for option in options if same(option)]
    if not matching:
        raise IllegalError(f"{said} is not among the {len(options)} legal ones")
    return matching
