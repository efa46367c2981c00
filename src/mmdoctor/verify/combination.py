"""What `matrix verify ROW` is asked to bring up, and the stack that it means. Pure.

ROW names exact versions. They are taken literally, also where the resolver would refuse them, for that is how a bad
combination or a wrong document is measured. The resolver only fills in what ROW leaves out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import Optional

from msgspec.structs import replace
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from mmdoctor import rules
from mmdoctor.candidates.situation import Situation
from mmdoctor.errors import UsageError
from mmdoctor.matrix_model import Matrix, StackRow
from mmdoctor.model import (
    Artefact,
    BinaryChoice,
    Change,
    Cost,
    Facts,
    MmcvChoice,
    OpencvChoice,
    Recipe,
    Request,
    Resolution,
    Stack,
    TorchChoice,
    Value,
)
from mmdoctor.resolve import cheapest

FLAVOURS = ("opencv-python-headless", "opencv-python")
PARTS = ("torch", "torchvision", "mmcv", "mmcv-full", "mmengine", "mmdet", "mmpose", "numpy", "xtcocotools", *FLAVOURS)
COMPILED = ("mmcv", "mmcv-full", "xtcocotools")
EXAMPLE = "for example: mmdoctor matrix verify torch==2.4.1 mmcv==2.2.0 python==3.11"


class Combination(Value, frozen=True, kw_only=True):
    """Exact versions by name; `python` is a minor (`3.11`), `build` the torch variant. Of `compiled` the sdist is taken
    although there is a wheel; `without` is left out although the stack would have it."""

    versions: dict[str, str]
    python: Optional[str] = None
    build: Optional[str] = None
    compiled: tuple[str, ...] = ()
    without: tuple[str, ...] = ()


class Chosen(Value, frozen=True, kw_only=True):
    """The stack to install. `filled`: the parts that ROW left out; `refused`: those of ROW that the resolver would not
    have taken beside the rest, none where it agrees."""

    stack: Stack
    filled: tuple[str, ...]
    refused: tuple[str, ...]


def read_combination(
    words: Sequence[str], matrix: Matrix, compiled: Sequence[str], without: Sequence[str]
) -> Combination:
    """ROW as requirements (`torch==2.4.1 mmcv==2.2.0 python==3.11`) or as the id of a row of `stacks`.

    Raises UsageError for anything else: no exact version, an unknown part or release, no torch.
    """
    texts = [text for word in words for text in word.replace(",", " ").split()]
    if len(texts) == 1 and "=" not in texts[0]:
        row = next((row for row in matrix.stacks if row.id == texts[0]), None)
        if row is None:
            raise UsageError(f"no measured row has the id {texts[0]!r}", hint=f"docs/matrix.md lists them; {EXAMPLE}")
        return combination_of(row)
    named = [_exact(text) for text in texts]
    versions = dict(named)
    _only_once([name for name, _ in named])
    python = versions.pop("python", None)
    torch, _, label = versions.get("torch", "").partition("+")
    if not torch:
        raise UsageError("which torch? a row is measured for one release of it", hint=EXAMPLE)
    for name in (*compiled, *without):
        if name not in (COMPILED if name in compiled else PARTS):
            known = ", ".join(COMPILED if name in compiled else PARTS)
            raise UsageError(f"{name} is no part that this option is for", hint=f"it takes {known}")
    versions["torch"] = torch
    found = Combination(
        versions=versions,
        python=rules.minor(python) if python else None,
        build=label or None,
        compiled=tuple(compiled),
        without=tuple(without),
    )
    unknown = [f"{name} {version}" for name, version in versions.items() if not _has_row(matrix, name, version)]
    if unknown:
        what = f"the matrix has no row for {', '.join(unknown)}, so it could not keep evidence about it"
        raise UsageError(what, hint="`mmdoctor matrix refresh --write` adds new releases")
    return found


def _exact(text: str) -> tuple[str, str]:
    try:
        requirement = Requirement(text)
    except InvalidRequirement:
        requirement = None
    clauses = list(requirement.specifier) if requirement else []
    if requirement is None or len(clauses) != 1 or clauses[0].operator not in ("==", "===") or "*" in text:
        raise UsageError(f"{text!r} is no exact version; expected NAME==VERSION", hint=EXAMPLE)
    name = canonicalize_name(requirement.name)
    if name not in (*PARTS, "python"):
        raise UsageError(f"{name} is no part of the stack; the parts are {', '.join((*PARTS, 'python'))}", hint=EXAMPLE)
    return name, clauses[0].version


def _only_once(names: Sequence[str]) -> None:
    for group in (*((name,) for name in names), ("mmcv", "mmcv-full"), FLAVOURS):
        if sum(name in group for name in names) > 1:
            others = "" if len(group) == 1 else f", only one of {' and '.join(group)} can be installed"
            raise UsageError(f"{group[0]} is there twice{others}", hint=EXAMPLE)


def _has_row(matrix: Matrix, name: str, version: str) -> bool:
    if name == "torch":
        return rules.torch_row(matrix, version) is not None
    if name == "torchvision":
        return any(version in row.torchvision for row in matrix.torch)
    if name == "numpy":
        return any(row.series == rules.minor(version) for row in matrix.numpy)
    if name in ("mmcv", "mmcv-full"):
        return rules.mmcv_row(matrix, name, version) is not None
    if name in ("mmengine", "mmdet", "mmpose"):
        return rules.mmlab_row(matrix, name, version) is not None
    return rules.binary_row(matrix, name, version) is not None


def combination_of(row: StackRow) -> Combination:
    """What was measured in a row, to measure it again."""
    versions = {name: version for name, version in rules.parts_of_row(row).items() if name != "python"}
    built = {row.mmcv_package: row.mmcv_artefact, "xtcocotools": row.xtcocotools_artefact}
    return Combination(
        versions={name: version for name, version in versions.items() if version is not None},
        python=row.python,
        build=row.build,
        compiled=tuple(name for name, artefact in built.items() if artefact == "build"),
        without=tuple(name for name, version in versions.items() if version is None),
    )


def chosen(facts: Facts, matrix: Matrix, asked: Combination) -> Chosen:
    """The stack that ROW means on this machine: its own versions, the rest as the resolver fills it in.

    Where the resolver has no answer with all of them, it is asked with as few of them left out as will do; those are
    then put in against it. Raises UsageError when it has none for the torch alone.
    """
    old = "mmcv-full" in asked.versions or asked.versions.get("mmpose", "").startswith("0.")
    recipe = Recipe(name="verify", title="", source="", family="mmpose-0" if old else "mmpose-1")
    variants = (asked.build,) if asked.build else ()
    for kept in _fewer(asked.versions):
        request = Request(recipe=recipe, pins=kept, torch_variants=variants)
        filled = cheapest(Situation(facts, matrix, request))
        if filled is not None:
            break
    else:
        raise UsageError(f"nothing is known to go with torch {asked.versions['torch']} on Python {facts.target.python}")
    refused = tuple(f"{name}=={version}" for name, version in asked.versions.items() if name not in kept)
    stack = _literal(facts, matrix, asked, filled.stack)
    given = {*asked.versions, *asked.without}
    rest = {name: version for name, version in parts_of(stack).items() if name not in given}
    return Chosen(stack=stack, filled=tuple(f"{name}=={version}" for name, version in rest.items()), refused=refused)


def _fewer(versions: Mapping[str, str]) -> Iterator[dict[str, str]]:
    """All versions, then with one left out, with two …, the loosest parts first; torch is the last to go."""
    loosest = [name for name in reversed(PARTS) if name in versions]
    for count in range(len(loosest) + 1):
        for out in combinations(loosest, count):
            yield {name: version for name, version in versions.items() if name not in out}


def _literal(facts: Facts, matrix: Matrix, asked: Combination, filled: Stack) -> Stack:
    """The filled stack with every part of ROW in its place, and each compiled part's artefact for it."""
    given = asked.versions
    row = rules.torch_row(matrix, given["torch"])
    tools = rules.build_tools(matrix, given["torch"])
    stack = filled
    if row is not None and tools is not None and filled.torch.version != given["torch"]:
        choice = TorchChoice(version=row.release, variant=rules.pypi_variant(row, facts.host), index="pypi")
        stack = replace(stack, torch=choice, torchvision=row.torchvision[-1], setuptools=tools.setuptools_pin)
    flavour = next((name for name in FLAVOURS if name in given), None)
    if flavour is not None:
        stack = replace(stack, opencv=OpencvChoice(name=flavour, version=given[flavour]))  # type: ignore[arg-type]
    mmcv = next((name for name in ("mmcv", "mmcv-full") if name in given), stack.mmcv.name)
    plain = ("torchvision", "mmengine", "mmdet", "mmpose", "numpy")
    stack = replace(
        stack,
        **{name: given[name] for name in plain if name in given},
        **{name: None for name in asked.without if name in plain},
    )
    version = given.get(mmcv, stack.mmcv.version)
    artefact = _mmcv_artefact(facts, matrix, stack, mmcv, version, asked)
    coco = given.get("xtcocotools", stack.xtcocotools.version)
    return replace(
        stack,
        mmcv=MmcvChoice(name=mmcv, version=version, artefact=artefact),
        xtcocotools=BinaryChoice(version=coco, artefact=_xtcocotools_artefact(facts, matrix, coco, asked)),
    )


def _mmcv_artefact(facts: Facts, matrix: Matrix, stack: Stack, name: str, version: str, asked: Combination) -> Artefact:
    """What pip would take: the published wheel where the index has and gives it, else the sdist."""
    variant, torch = stack.torch.variant, stack.torch.version
    wheel = rules.mmcv_wheel(matrix, name, version, facts.host, variant, torch, facts.target.python)
    silent = any(index.name == "openmmlab" and index.reachable is False for index in facts.indexes)
    if wheel is None or silent or name in asked.compiled:
        why = "asked for" if name in asked.compiled else "the index does not answer" if silent else "there is no wheel"
        return Artefact(kind="build", source=f"sdist {name}-{version}", reason=why)
    source = matrix.openmmlab_index.format(variant=wheel.variant, torch=f"{wheel.torch}.0")
    return Artefact(kind="wheel", source=source, reason=f"prebuilt for torch {wheel.torch} {wheel.variant}")


def _xtcocotools_artefact(facts: Facts, matrix: Matrix, version: str, asked: Combination) -> Artefact:
    """The wheel where there is one for this Python, whatever NumPy it was built for, else the sdist."""
    row = rules.binary_row(matrix, "xtcocotools", version)
    has_wheel = row is not None and rules.minor(facts.target.python) in rules.wheel_pythons(row, facts.host)
    if has_wheel and "xtcocotools" not in asked.compiled:
        return Artefact(kind="wheel", source="pypi", reason="there is a wheel for this Python")
    why = "asked for" if has_wheel else "there is no wheel for this Python"
    return Artefact(kind="build", source=f"sdist xtcocotools-{version}", reason=why)


def parts_of(stack: Stack) -> dict[str, str]:
    """The stack's parts as exact versions by name; what it goes without is left out."""
    parts = {
        "torch": stack.torch.version,
        "torchvision": stack.torchvision,
        stack.mmcv.name: stack.mmcv.version,
        "mmengine": stack.mmengine,
        "mmdet": stack.mmdet,
        "mmpose": stack.mmpose,
        "numpy": stack.numpy,
        "xtcocotools": stack.xtcocotools.version,
        stack.opencv.name: stack.opencv.version,
    }
    return {name: version for name, version in parts.items() if version is not None}


def resolution_of(stack: Stack) -> Resolution:
    """The stack as a resolution for an environment that holds nothing yet."""
    changes = tuple(Change(name=name, old=None, new=version) for name, version in parts_of(stack).items())
    nothing = Cost(download_bytes=0, build_minutes=0.0)
    return Resolution(stack=stack, changes=changes, rejected=(), assumptions=(), cost=nothing)
