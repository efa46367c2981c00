"""The write-ahead journal of an environment: what was begun, each event on the disk before what follows it.

    start ─► cloned ─► stage, stage-done … ─► proven ─► swap ─► done
      └────────────────── dropped ◄──────────────┘

A run that was killed has neither `done` nor `dropped`; where it stood is read from its last event.
"""

from __future__ import annotations

import json
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Optional

from mmdoctor import system
from mmdoctor.apply.places import ENDS
from mmdoctor.model import Value


class Exchange(Value, frozen=True, kw_only=True):
    """An exchange of the environment with the folder `other` that was about to happen, by the inodes of the two."""

    other: Path
    old: int
    new: int


class Standing(Value, frozen=True, kw_only=True):
    """Where the last run stands.

    `ended`: nothing is left to mend. `clean`: the clone is as the last finished stage left it, so a resume goes on from
    there. `created`: the inode of a new environment's folder. `children`: process groups that it started, each with the
    start time of its first process.
    """

    run: Optional[Path] = None
    new_environment: bool = False
    created: int = 0
    ended: bool = True
    how: str = ""
    clean: bool = False
    stages: tuple[str, ...] = ()
    proven: bool = False
    exchange: Optional[Exchange] = None
    children: tuple[tuple[int, float], ...] = ()


class Journal:
    """The journal in a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def note(self, event: str, **fields: Any) -> None:
        """Append one event and have it on the disk. Raises OSError."""
        line = json.dumps({"event": event, "at": time.strftime("%Y-%m-%dT%H:%M:%S%z"), **fields})
        with self.path.open("a+", encoding="utf-8") as stream:
            stream.seek(max(0, stream.seek(0, os.SEEK_END) - 1))
            torn = stream.read() not in ("", "\n")  # by a power cut: the line begins anew
            stream.write(f"\n{line}\n" if torn else f"{line}\n")
            stream.flush()
            os.fsync(stream.fileno())

    def events(self) -> tuple[dict[str, Any], ...]:
        """All events; a line that a power cut left half written is the last one and none."""
        found = []
        for line in (system.read(self.path) or "").splitlines():
            try:
                found.append(json.loads(line))
            except ValueError:
                continue
        return tuple(found)

    def standing(self) -> Standing:
        """Where the last run stands. An event without the fields that ours have is of another version, and says
        nothing."""
        standing = Standing()
        for event in self.events():
            with suppress(KeyError):
                standing = _after(standing, event)
        return standing

    def shorten(self, runs: int) -> None:
        """Keep the events of the last `runs` runs."""
        events = self.events()
        starts = [position for position, event in enumerate(events) if event["event"] == "start"]
        if len(starts) <= runs:
            return
        draft = self.path.with_suffix(".part")
        draft.write_text("".join(json.dumps(event) + "\n" for event in events[starts[-runs] :]), encoding="utf-8")
        draft.replace(self.path)


def _after(standing: Standing, event: dict[str, Any]) -> Standing:
    """The standing after one more event."""
    from msgspec.structs import replace

    kind = event["event"]
    if kind == "start":
        return Standing(run=Path(event["run"]), new_environment=event["new"], ended=False, how="killed")
    if kind == "rollback":
        return Standing(ended=False, how="killed")
    if kind == "created":
        return replace(standing, created=event["inode"])
    if kind == "cloned":
        return replace(standing, clean=event["boot"] == boot(), stages=(), proven=False)
    if kind == "stage":
        return replace(standing, clean=False)
    if kind == "stage-done":
        return replace(standing, clean=event["boot"] == boot(), stages=(*standing.stages, event["id"]))
    if kind == "child":
        return replace(standing, children=(*standing.children, (event["pid"], event["started"])))
    if kind == "proven":
        return replace(standing, proven=True)
    if kind == "swap":
        return replace(standing, exchange=Exchange(other=Path(event["other"]), old=event["old"], new=event["new"]))
    if kind in ENDS:
        return replace(standing, ended=True, how=kind if kind != "recovered" else standing.how, children=())
    return standing


def boot() -> str:
    """Which boot of the machine this is: what was not synced before another one is not trusted."""
    return (system.read(Path("/proc/sys/kernel/random/boot_id")) or "").strip()
