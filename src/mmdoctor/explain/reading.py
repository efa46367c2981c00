"""Bytes in, text out: a log of any length and encoding as a text worth matching, in memory that stays bounded."""

from __future__ import annotations

import codecs
from collections import deque
from collections.abc import Iterable, Iterator
from itertools import chain

from mmdoctor.explain.normalise import LONGEST_LINE, shortened

HEAD, MIDDLE, TAIL = 150_000, 400_000, 250_000  # characters of a long log that are kept
WHOLE = HEAD + MIDDLE + TAIL  # up to here nothing is left out
BEFORE, AFTER = 40, 15  # lines around one that names an error
TEMPLATES = 200_000  # lines that are remembered to know a repetition
DIGITS = {ord(digit): None for digit in "0123456789"}
# Nearly every line that a rule looks for holds one of these.
TROUBLE = (
    *("error", "exception", "warn", "fail", "fatal", "cannot", "can't", "not ", "no ", "missing", "undefined", "kill"),
    *("denied", "unsupported", "mismatch", "abort", "install", "错误", "失败", "无法", "找不到", "拒绝", "不"),
)


def encoding_of(content: bytes) -> str:
    """The encoding of a text by its beginning: UTF-8, UTF-16 (PowerShell's `>`), or a Chinese Windows' own."""
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    for encoding in ("utf-8-sig", "gb18030"):
        try:
            codecs.getincrementaldecoder(encoding)().decode(content)  # a character may be cut at the end
        except UnicodeDecodeError:
            continue
        return encoding
    return "utf-8-sig"


def text_of(chunks: Iterable[bytes]) -> str:
    """The text of a log that comes in pieces; of a long one what `condensed` keeps."""
    begun = b""
    rest = iter(chunks)
    for chunk in rest:
        begun += chunk
        if len(begun) > WHOLE:
            return condensed(_lines(encoding_of(begun), chain((begun,), rest)))
    return begun.decode(encoding_of(begun), "replace")


def _lines(encoding: str, chunks: Iterable[bytes]) -> Iterator[str]:
    decoder = codecs.getincrementaldecoder(encoding)("replace")
    left = ""
    for chunk in chunks:
        *whole, left = (left + decoder.decode(chunk)).splitlines(keepends=True) or [""]
        yield from whole
        if left.endswith("\n") or len(left) > LONGEST_LINE:
            yield left
            left = ""
    yield left + decoder.decode(b"", final=True)


def condensed(lines: Iterable[str]) -> str:
    """Of a long log its beginning, its end, and between them what names an error with the lines around it; there, a
    line that says the same as an earlier one but for its numbers is left out. At most `WHOLE` characters, or so."""
    head: list[str] = []
    tail: deque[str] = deque()
    middle = _Middle()
    head_room, tail_room = HEAD, TAIL
    for line in lines:
        if len(line) > LONGEST_LINE:
            line = shortened(line)  # noqa: PLW2901
        if head_room > 0:
            head_room -= len(line)
            head.append(line)
            continue
        tail.append(line)
        tail_room -= len(line)
        while tail_room < 0:
            left = tail.popleft()
            tail_room += len(left)
            middle.look(left)
    return "".join((*head, *middle.kept, *tail))


class _Middle:
    """What is kept of the lines between beginning and end, as they pass."""

    def __init__(self) -> None:
        self.kept: list[str] = []
        self.room = MIDDLE
        self.seen: set[int] = set()
        self.before: deque[str] = deque(maxlen=BEFORE)
        self.after = 0

    def look(self, line: str) -> None:
        template = hash(line.translate(DIGITS))
        if self.room <= 0 or template in self.seen:
            return
        if len(self.seen) < TEMPLATES:
            self.seen.add(template)
        lowered = line.lower()
        if any(word in lowered for word in TROUBLE):
            self.keep(*self.before, line)
            self.before.clear()
            self.after = AFTER
        elif self.after:
            self.after -= 1
            self.keep(line)
        else:
            self.before.append(line)

    def keep(self, *lines: str) -> None:
        self.kept += lines
        self.room -= sum(map(len, lines))
