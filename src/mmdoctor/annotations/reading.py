"""The elements of a large JSON object's lists, one after the other, in bounded memory and with their places.

Reads what Python's json reads (that is what MMPose reads with) and refuses what it refuses. A list's elements are cut
out many at a time by msgspec; where that is not possible (a list's end, NaN, a fault), json itself takes one after
the other. Nothing is converted here: an element is its bytes.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple, Optional

import msgspec

WINDOW = 1 << 20  # what is read at a time
LARGEST = 1 << 28  # of one value that is no list of the outermost object
SLICE = 1 << 14  # what json is given at first
# How far before its end json may notice that a text was cut: `-Infinity`, `\ud83d\ude00`.
NEAR = 16
OF_NUMBERS = "0123456789eE+-."
BLANK = re.compile(rb"[ \t\r\n]*")
BETWEEN = re.compile(rb"[ \t\r\n]*,[ \t\r\n]*")
SEAM = re.compile(rb"\}[ \t\r\n]*,[ \t\r\n]*\Z")
BOM = b"\xef\xbb\xbf"
OTHER_BOMS = {b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}
LISTS = msgspec.json.Decoder(list[msgspec.Raw])
VALUE = json.JSONDecoder()


class Fault(Exception):  # noqa: N818  it is the file's, not ours
    """The file is not JSON: what was found, and at which byte."""

    def __init__(self, what: str, at: int) -> None:
        super().__init__(what)
        self.what = what
        self.at = at


class Place(NamedTuple):
    """One value: an element of the list at `key`, or with `number` None what stands at `key` and is no list. With
    `number` -1 a list begins. `start` is the byte of the file where `raw` begins. Of a file that holds no object there
    is one place, with the key ""; a list is not read further."""

    key: str
    number: Optional[int]
    start: int
    raw: bytes


def places(path: Path) -> Iterator[Place]:
    """The values of a file in the order of the file.

    Raises Fault where the file stops being JSON, OSError where it cannot be read. A byte order mark, which json
    refuses, is passed over: whoever asks looks at the file's first bytes.
    """
    with path.open("rb") as file:
        window = _Window(file)
        if window.peek() == b"[":
            yield Place("", -1, window.at, b"")
            return
        if window.peek() != b"{":
            yield Place("", None, window.at, window.value())
        else:
            yield from _members(window)
        if window.peek():
            raise Fault("more follows after the end of the JSON value", window.at)


def _members(window: _Window) -> Iterator[Place]:
    window.take(b"{")
    if window.peek() == b"}":
        window.take(b"}")
        return
    while True:
        if window.peek() != b'"':
            raise Fault("a name in double quotes is expected here", window.at)
        key = str(json.loads(window.value()))
        window.take(b":")
        if window.peek() == b"[":
            yield from _elements(window, key)
        else:
            start = window.at
            yield Place(key, None, start, window.value())
        if window.take(b",}") == b"}":
            return


def _elements(window: _Window, key: str) -> Iterator[Place]:
    yield Place(key, -1, window.at, b"")
    window.take(b"[")
    if window.peek() == b"]":
        window.take(b"]")
        return
    index = 0
    one_by_one_to = 0  # where msgspec found no list, json takes each element up to there
    while True:
        window.peek()
        if window.at >= one_by_one_to:
            for start, raw in window.many():
                yield Place(key, index, start, raw)
                index += 1
            one_by_one_to = window.filled_to
        window.peek()
        start = window.at
        yield Place(key, index, start, window.value())
        index += 1
        if window.take(b",]") == b"]":
            return


class _Window:
    """The part of a file that is in memory, and how far it was taken."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._data = b""
        self._base = 0
        self._pos = 0
        self._ended = False
        self._utf8 = codecs.getincrementaldecoder("utf-8")()
        self._fill()
        for mark, name in OTHER_BOMS.items():
            if self._data.startswith(mark):
                raise Fault(f"the file is {name}; JSON is UTF-8", 0)
        if self._data.startswith(BOM):
            self._pos = len(BOM)

    @property
    def at(self) -> int:
        """The byte of the file that comes next."""
        return self._base + self._pos

    @property
    def filled_to(self) -> int:
        """The byte of the file that what is in memory ends before."""
        return self._base + len(self._data)

    def _fill(self) -> None:
        """Let go of what was taken, and read on; more at a time the more is held, so that a long value costs its
        length and not the square of it."""
        held = self._data[self._pos :]
        new = self._file.read(max(WINDOW, len(held)))
        self._base += self._pos
        self._pos = 0
        self._ended = not new
        waiting = len(self._utf8.getstate()[0])
        try:
            if not (self._base == 0 and new.startswith(tuple(OTHER_BOMS))):
                self._utf8.decode(new, final=self._ended)
        except UnicodeDecodeError as error:
            at = self._base + len(held) - waiting + error.start
            raise Fault(f"not UTF-8: byte 0x{error.object[error.start]:02x}", at) from error
        self._data = held + new

    def peek(self) -> bytes:
        """The next byte that is no blank; empty at the end of the file."""
        while True:
            blank = BLANK.match(self._data, self._pos)
            self._pos = blank.end() if blank else self._pos
            if self._pos < len(self._data) or self._ended:
                return self._data[self._pos : self._pos + 1]
            self._fill()

    def take(self, of: bytes) -> bytes:
        """The next byte that is no blank, one of these."""
        byte = self.peek()
        if not byte:
            raise Fault("the file ends here, before its JSON does", self.at)
        if byte not in of:
            expected = " or ".join(repr(chr(one)) for one in of)
            raise Fault(f"{expected} is expected here, not {byte.decode('utf-8', 'replace')!r}", self.at)
        self._pos += 1
        return byte

    def value(self) -> bytes:
        """The next value, whole."""
        size = SLICE
        while True:
            while self._pos + size > len(self._data) and not self._ended:
                self._fill()
            length = self._length(size)
            if length is not None:
                raw = self._data[self._pos : self._pos + length]
                self._pos += length
                return raw
            if size > LARGEST:
                raise Fault(f"a single value of more than {LARGEST >> 20} MiB", self.at)
            size *= 4

    def _length(self, size: int) -> Optional[int]:
        """How long the value is that begins here, None where the first `size` bytes do not hold all of it."""
        part = self._data[self._pos : self._pos + size]
        last = self._ended and self._pos + size >= len(self._data)
        text = codecs.getincrementaldecoder("utf-8")().decode(part, final=last)
        try:
            _, end = VALUE.raw_decode(text)
        except RecursionError as error:
            raise Fault("nested too deeply", self.at) from error
        except json.JSONDecodeError as error:
            near = error.pos > len(text) - NEAR or not text[error.pos :].strip(OF_NUMBERS)
            cut = near or error.msg.startswith("Unterminated string")
            if cut and not last:
                return None
            at = self.at + len(text[: error.pos].encode("utf-8"))
            if error.pos >= len(text) or (cut and error.msg.startswith("Unterminated")):
                raise Fault("the file ends here, before its JSON does", at) from error
            raise Fault(error.msg, at) from error
        if text[end - 1] not in '}]"' and not last and not text[end:].strip(OF_NUMBERS):
            return None  # a number that may go on
        return len(text[:end].encode("utf-8"))

    def many(self) -> Iterator[tuple[int, bytes]]:
        """As many whole objects as are in memory, with the bytes where they begin; what follows them is another element
        of the same list. Nothing where that is not easily seen: the caller goes on with one."""
        if len(self._data) - self._pos < SLICE and not self._ended:
            self._fill()
        end = len(self._data)
        for _ in range(4):
            end = self._data.rfind(b"{", self._pos, end)
            seam = SEAM.search(self._data, max(self._pos, end - 256), max(end, 0))
            if end <= self._pos or seam is None:
                continue
            try:
                found = LISTS.decode(b"[" + self._data[self._pos : seam.start() + 1] + b"]")
            except (msgspec.DecodeError, RecursionError):
                continue
            for raw in found:
                content = bytes(raw)
                yield self.at, content
                between = BETWEEN.match(self._data, self._pos + len(content))
                self._pos = between.end() if between else self._pos
            return
