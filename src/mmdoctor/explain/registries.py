"""Which OpenMMLab package registers a class, from `registry_names.json` (tools/registry_names.py)."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import msgspec

from mmdoctor.errors import DataError
from mmdoctor.model import Value

DATA = Path(__file__).with_name("registry_names.json")


class Names(Value, frozen=True, kw_only=True):
    """The names of each package's last release of the old and of the new generation."""

    old: dict[str, tuple[str, ...]]
    new: dict[str, tuple[str, ...]]


@cache
def names() -> Names:
    """The table. Raises DataError when the file is missing or not of this form."""
    try:
        return msgspec.json.decode(DATA.read_bytes(), type=Names)
    except (OSError, msgspec.MsgspecError) as error:
        raise DataError(f"{DATA.name}: {error}", "the installation is damaged: reinstall mmdoctor") from error


def homes(name: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The packages that register the name: those of the old generation, and those of the new."""
    table = names()
    old, new = (tuple(p for p, known in side.items() if name in known) for side in (table.old, table.new))
    return old, new


def verdict(name: str, scope: str) -> set[str]:
    """Where a class stands, seen from the scope that missed it: `nowhere`; `old` or `new`, only in that generation;
    `here`, the scope's own package has it; `elsewhere`, another package of the new generation has it."""
    old, new = homes(name)
    if not old and not new:
        return {"nowhere"}
    found = {"old"} if not new else {"here" if scope in new else "elsewhere"}
    return found if old else {*found, "new"}
