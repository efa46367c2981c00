"""Versions and variants; what is asked of a matrix once."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache, wraps
from typing import Any, Callable, Optional, TypeVar

from packaging.specifiers import SpecifierSet
from packaging.version import InvalidVersion, Version

from mmdoctor.matrix_model import Matrix

Rule = TypeVar("Rule", bound=Callable[..., Any])


def remembered(rule: Rule) -> Rule:
    """A question to the matrix that is answered once per matrix: `rule(matrix, *arguments)`, all of them hashable and
    of few values (versions of the matrix, platforms), so that what is kept stays small."""

    @wraps(rule)
    def ask(matrix: Matrix, *arguments: Any) -> Any:
        answers, key = matrix.answers, (rule, arguments)
        try:
            return answers[key]
        except KeyError:
            return answers.setdefault(key, rule(matrix, *arguments))

    return ask  # type: ignore[return-value]


@cache
def within(version: str, specifier: Optional[str]) -> bool:
    """Whether a version satisfies a PEP 440 range; pre-releases count, None allows everything.

    `==2.1.0` accepts `2.1.0+cu118`, not the reverse. A text that is no version is in no range.
    """
    try:
        return specifier is None or SpecifierSet(specifier).contains(Version(version), prereleases=True)
    except InvalidVersion:
        return False


@cache
def public(version: str) -> str:
    """The version without its local label: `2.1.2+cu121` → `2.1.2`."""
    return version.split("+", 1)[0]


@cache
def minor(version: str) -> str:
    """The first two numbers of a version: `3.11.7` → `3.11`, `2.1.2+cu121` → `2.1`."""
    return ".".join(public(version).split(".")[:2])


@cache
def order(version: str) -> Version:
    """The sort key of a version; a text that is no version sorts first."""
    try:
        return Version(version)
    except InvalidVersion:
        return Version("0")


def variant_of(version: str, cuda: Optional[str]) -> str:
    """The variant of a torch build: its local label, else its build CUDA (`12.1` → `cu121`), else `cpu`."""
    label = version.partition("+")[2].partition(".")[0]  # `cu117.with.pypi.cudnn` is cu117
    if label.startswith("cu") or label == "cpu":
        return label
    return "cpu" if not cuda else "cu" + cuda.replace(".", "")


def cuda_of(variant: str) -> Optional[str]:
    """The build CUDA of a variant: `cu121` → `12.1`, `cu130` → `13.0`, `cpu` → None."""
    digits = variant[2:]
    return f"{digits[:-1]}.{digits[-1]}" if variant.startswith("cu") and digits.isdigit() else None


def below(version: str, specifier: str) -> bool:
    """Whether a version is older than a range begins."""
    floors = (clause for clause in SpecifierSet(specifier) if clause.operator in (">=", ">", "~=", "=="))
    return any(order(version) < order(clause.version.removesuffix(".*")) for clause in floors)


def numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".") if part.isdigit())


@cache
def numpy_generation(version: str) -> str:
    """`1` or `2`: the generation of NumPy's C API."""
    return public(version).split(".", 1)[0]


def newest(versions: Iterable[str]) -> Optional[str]:
    """The newest of some versions, None of none."""
    return max(versions, key=order, default=None)
