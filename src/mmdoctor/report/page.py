"""A page of text: lines with style. Prose is wrapped; commands and evidence never are, so that they can be copied and
searched."""

from __future__ import annotations

import io
import shlex
import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Union

if TYPE_CHECKING:
    from rich.console import Console


def wants_colour(environ: Mapping[str, str], tty: bool) -> bool:
    """Whether to colour: NO_COLOR (no-color.org) forbids, FORCE_COLOR asks, else only for a terminal."""
    if environ.get("NO_COLOR"):
        return False
    if environ.get("FORCE_COLOR"):
        return environ["FORCE_COLOR"] != "0"
    return tty and environ.get("TERM") != "dumb"


class Page:
    """Lines in the making, with rich for the colours only: its wrapping and its markup would alter what is shown."""

    def __init__(self, colour: bool, width: int) -> None:
        self._width = width
        self._out = io.StringIO()
        self._console = self._colours() if colour else None  # without colours there is no need to load rich

    def _colours(self) -> Console:
        from rich.console import Console

        return Console(
            file=self._out,
            width=self._width,
            force_terminal=True,
            color_system="standard",
            highlight=False,
            markup=False,
            emoji=False,
            legacy_windows=False,
        )

    def line(self, *parts: Union[str, tuple[str, str]], indent: int = 0) -> None:
        """One line, never wrapped; a part with a style is a pair."""
        pairs = [(part, "") if isinstance(part, str) else part for part in parts]
        if self._console is None:
            self._out.write(" " * indent + "".join(text for text, _ in pairs) + "\n")
            return
        from rich.text import Text as Styled

        styled = Styled(" " * indent)
        for text, style in pairs:
            styled.append(text, style)
        self._console.print(styled, soft_wrap=True)

    def prose(self, text: str, indent: int = 0, first: str = "", style: str = "") -> None:
        """Wrapped text; `first` stands before it, and what follows hangs below."""
        for paragraph in text.splitlines() or [""]:
            lines = textwrap.wrap(
                first + paragraph,
                max(40, self._width - indent),
                subsequent_indent=" " * len(first),
                break_long_words=False,
                break_on_hyphens=False,
            )
            for line in lines:
                self.line((line, style), indent=indent)
            first = " " * len(first)

    def verbatim(self, text: str, indent: int) -> None:
        """What a program or a file says, each line behind a bar."""
        for line in text.splitlines():
            self.line(f"| {line}", indent=indent)

    def heading(self, text: str) -> None:
        """A blank line and a title."""
        self.line()
        self.line((text, "bold"))

    def table(self, rows: Sequence[Sequence[str]], indent: int = 2) -> None:
        """Left-aligned columns, two spaces apart."""
        widths = [max(map(len, column)) for column in zip(*rows)]
        for row in rows:
            self.line("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip(), indent=indent)

    def pretended(self, keys: Sequence[str]) -> None:
        """Say, where it cannot be overlooked, which facts `--pretend` overrode."""
        if keys:
            self.prose(f"{', '.join(keys)}: not what this machine has", first="PRETENDED  ", style="bold yellow")

    def text(self) -> str:
        """What stands on the page."""
        return self._out.getvalue()


def size(count: int) -> str:
    """Bytes in the units of download pages (powers of 1000)."""
    for unit, factor in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= factor:
            return f"{count / factor:.{2 if unit == 'GB' else 0}f} {unit}"
    return f"{count} bytes"


def quote(word: str) -> str:
    """One word of a command as a shell takes it; `{python}` and the like, filled in later, and a leading `~` stay."""
    if word.startswith("~/"):
        return "~/" + (shlex.quote(word[2:]) if word[2:] else "")
    bare = word.replace("{", "").replace("}", "")
    return word if bare and shlex.quote(bare) == bare else shlex.quote(word)
