"""What would let a rejected candidate in, said from the fact that rejected it. Pure."""

from __future__ import annotations

import re
from typing import Callable, Optional

Said = Callable[[str, str], Optional[str]]


def _nearest_python(wanted: str, observed: str) -> Optional[str]:
    """The listed Python that is the fewest minors away; the range itself where a recipe has one."""
    listed = re.findall(r"(?<![\d.=<>~!])3\.(\d+)(?![\d.*])", wanted)
    here = re.match(r"3\.(\d+)", observed)
    if not listed:
        return wanted if re.search(r"\d", wanted) else None
    return f"Python 3.{min(map(int, listed), key=lambda one: abs(one - int(here[1])) if here else -one)}"


def _at_least(wanted: str, _: str) -> Optional[str]:
    """`driver 525.60.13` → `driver ≥525.60.13`; a range stays as it is."""
    name, _, version = wanted.partition(" ")
    return f"{name} ≥{version}" if version[:1].isdigit() else wanted


# By fact; what is not listed is a property of the releases themselves, and nothing on this machine changes it.
UNLOCKS: dict[str, Said] = {
    "python": _nearest_python,
    "driver": _at_least,
    "glibc": _at_least,
    "nvcc": lambda wanted, _: wanted,
    "gcc": lambda wanted, _: wanted,
    "compiler": lambda wanted, _: wanted,
    "memory": lambda wanted, _: wanted,
    "no-build": lambda *_: "a compile (leave out --no-build)",
}


def unlock(fact: str, wanted: str, observed: str) -> Optional[str]:
    """What would have to be there for the candidate to pass, as a noun phrase: `driver ≥525.60.13`, `nvcc 13.x`,
    `Python 3.11`. None where only another release would do."""
    if fact.startswith("index:"):
        return wanted
    said = UNLOCKS.get(fact)
    return said(wanted, observed) if said else None
