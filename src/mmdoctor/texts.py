"""Whether a text is a version, a range, a requirement or a torch variant."""

from __future__ import annotations

import re
from functools import cache
from typing import Callable


@cache
def is_version(text: str) -> bool:
    from packaging.version import Version

    return _parses(Version, text)


@cache
def is_range(text: str) -> bool:
    from packaging.specifiers import SpecifierSet

    return _parses(SpecifierSet, text)


def is_requirement(text: str) -> bool:
    from packaging.requirements import Requirement

    return _parses(Requirement, text)


def _parses(parser: Callable[[str], object], text: str) -> bool:
    try:
        parser(text)
    except ValueError:
        return False
    return True


def is_variant(text: str) -> bool:
    return re.fullmatch(r"cpu|cu\d{2,3}", text) is not None
