"""The last verdicts on an environment: what `check --cached` answers with while their marks hold (see `marks`).

kept-UID/SUBJECT-DEPTH.json   the last verdict of this depth on one target
kept-UID/SUBJECT=ASKED.json   how one command line said it: see `answers`
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Union

import msgspec
from msgspec.structs import replace

from mmdoctor.marks import ago, changed_since, forget, marks, read, subject, watch, write
from mmdoctor.model import Cached, Report, Value
from mmdoctor.stack import STACK_MODULES

# A deeper look answers what a less deep one would, not the other way round.
DEPTHS = ("quick", "full", "deep")


class Stored(Value, frozen=True, kw_only=True):
    """A verdict as it lies on the disk: of when, under which marks, and what is looked at to compare them."""

    at: float
    marks: dict[str, str]
    interpreter: str
    watched: tuple[str, ...]
    matrix: str
    modules: tuple[str, ...]
    report: msgspec.Raw


class Shelf:
    """Where the verdicts on one target lie, for this user with these variables."""

    def __init__(self, folder: str, target: Path, *, is_env: bool, environ: Mapping[str, str]) -> None:
        self.folder = folder
        self.subject = subject((str(target), is_env), environ)

    def last(self, depth: str, max_age: float) -> Union[tuple[Stored, Report], str]:
        """The newest verdict of at least this depth that is at most `max_age` seconds old and still holds, marked as
        cached; else why there is none."""
        deep_enough = DEPTHS[DEPTHS.index(depth) :]
        found = [stored for kind in deep_enough for stored in self._read(kind)]
        why = "there is no verdict on it yet"
        for stored in sorted(found, key=lambda one: -one.at):
            age = time.time() - stored.at
            if not 0 <= age <= max_age:
                return f"the last verdict is {ago(age)} old" if age >= 0 else "the last verdict is of the future"
            now = marks(stored.interpreter, stored.watched, stored.matrix, stored.modules)
            changed = [name for name in now if stored.marks.get(name) != now[name]]
            if not changed:
                report = msgspec.json.decode(stored.report, type=Report)
                return stored, replace(report, cached=Cached(at=stored.at, age_seconds=round(age, 1)))
            why = f"since the last verdict, {ago(age)} ago, {' and '.join(changed)} changed"
        return why

    def keep(self, depth: str, report: Report, since: float, matrix: Path) -> Union[Stored, str]:
        """Keep a verdict whose look began at `since` (seconds since 1970); or why it is not kept.

        A look during which somebody changed the environment may have seen either state, so it is not.
        """
        target = report.facts.target
        folders = dict.fromkeys(d.folder for d in target.distributions if d.folder)
        watched = tuple(watch(target.prefix, target.sys_path, folders))
        if changed_since(watched, since):
            return "the environment changed while it was looked at (so does one whose bytecode is written then)"
        stored = Stored(
            at=time.time(),
            marks=marks(target.executable, watched, str(matrix), STACK_MODULES),
            interpreter=target.executable,
            watched=watched,
            matrix=str(matrix),
            modules=STACK_MODULES,
            report=msgspec.Raw(msgspec.json.encode(report)),
        )
        try:
            write(self.folder, f"{self.subject}-{depth}.json", msgspec.json.encode(stored))
        except OSError as error:
            return f"{self.folder}: {error.strerror or error}"
        return stored

    def clear(self, depth: str) -> None:
        """Forget the verdicts that a look of this depth replaces, and how they were said."""
        for kind in DEPTHS[: DEPTHS.index(depth) + 1]:
            forget(self.folder, f"{self.subject}-{kind}.json")
        forget(self.folder, f"{self.subject}=")

    def _read(self, depth: str) -> Iterator[Stored]:
        content = read(f"{self.folder}/{self.subject}-{depth}.json")
        with suppress(msgspec.DecodeError):
            if content is not None:
                yield msgspec.json.decode(content, type=Stored)
