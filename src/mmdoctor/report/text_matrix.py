"""Text of what the indexes list, against the matrix."""

from __future__ import annotations

from typing import Any

from mmdoctor.model import FieldChange, Reading, Refresh
from mmdoctor.report.page import Page

STYLES = {"new": "green", "changed": "yellow", "look": "bold red"}
WORDS = {"new": "new", "changed": "changed", "look": "needs a look"}


def write_refresh(page: Page, refresh: Refresh) -> None:
    """The differences table by table, then what could not be read, then what it comes to."""
    table = ""
    for difference in refresh.differences:
        if difference.table != table:
            page.heading(difference.table)
            table = difference.table
        page.line((WORDS[difference.kind], STYLES[difference.kind]), f"  {difference.row}", indent=2)
        for change in difference.changes:
            page.prose(_said(change), indent=6)
        for look in difference.look:
            page.prose(look, indent=6, first="look: ")
    unread = _unread(refresh.readings)
    if unread:
        page.heading("not read")
        for line in unread:
            page.prose(line, indent=2)
    page.line()
    page.prose(_sum(refresh))


def _said(change: FieldChange) -> str:
    """`python + 3.15` of a list, `last 2.5.5 → 2.5.6` of a value."""
    if isinstance(change.new, list) and change.old is not None:
        added = [f"+ {item}" for item in change.new if item not in change.old]
        return " ".join([change.field, *added])
    old = "" if change.old is None else f"{_short(change.old)} → "
    return f"{change.field} {old}{_short(change.new)}"


def _short(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    if isinstance(value, dict):
        return "; ".join(f"{key}: {_short(item)}" for key, item in value.items()) or "none"
    return {None: "none", True: "yes", False: "no"}.get(value) or str(value)


def _unread(readings: tuple[Reading, ...]) -> list[str]:
    """One line per page that no place had, and one for all the pages of a host that failed in the same way."""
    pages: dict[tuple[tuple[str, str], ...], list[str]] = {}
    for reading in readings:
        if not reading.read:
            tried = tuple((_host(t.url), t.said or "") for t in reading.tried)
            pages.setdefault(tried, []).append(reading.page)
    lines = []
    for tried, names in pages.items():
        said = "; ".join(f"{place}: {why}" for place, why in tried) or "pip is told no-index"
        lines.append(f"{names[0] if len(names) == 1 else f'{names[0]} and {len(names) - 1} more'}: {said}")
    return lines


def _host(url: str) -> str:
    """The host of an address; the whole of a local folder's."""
    return url.partition("//")[2].partition("/")[0] or url


def _sum(refresh: Refresh) -> str:
    counts = {kind: sum(d.kind == kind for d in refresh.differences) for kind in WORDS}
    said = ", ".join(f"{count} {WORDS[kind]}" for kind, count in counts.items() if count) or "nothing new"
    read = sum(reading.read for reading in refresh.readings)
    where = f"{read} of {len(refresh.readings)} pages read, against {refresh.matrix} of {refresh.read_on}"
    if refresh.written:
        return f"{said}; {where}; written"
    writable = any(difference.changes for difference in refresh.differences)
    return f"{said}; {where}" + ("; --write writes what can be written" if writable else "")
