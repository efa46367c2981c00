"""Where mmdoctor keeps what belongs to an environment: beside it, so that links and renames stay on one file system."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mmdoctor.errors import TryAgainError

UNFINISHED = "mmdoctor-unfinished"


class Places:
    """The paths around one environment: `.NAME.mmdoctor/` beside it with the clone, the previous one and the runs."""

    def __init__(self, env: Path) -> None:
        self.env = env.absolute()
        self.state = self.env.parent / f".{self.env.name}.mmdoctor"
        self.next = self.state / "next"
        self.previous = self.state / "previous"
        self.journal = self.state / "journal.jsonl"

    def new_run(self) -> Path:
        """A fresh folder for the plan, the logs and the package lists of one run."""
        stamp = time.strftime("%Y%m%d-%H%M%S")
        for number in range(100):
            run = self.state / "runs" / (stamp if number == 0 else f"{stamp}-{number}")
            try:
                run.mkdir(parents=True)
            except FileExistsError:
                continue
            return run
        raise TryAgainError(f"no free run folder under {self.state}")

    def note(self, event: str, **fields: Any) -> None:
        """Append one event to the journal, on the disk before anything that follows it."""
        line = json.dumps({"event": event, "at": time.strftime("%Y-%m-%dT%H:%M:%S%z"), **fields})
        with self.journal.open("a", encoding="utf-8") as stream:
            stream.write(line + "\n")
            stream.flush()
            os.fsync(stream.fileno())

    @contextmanager
    def lock(self) -> Iterator[None]:
        """One change at a time. TryAgainError names who holds the lock."""
        self.state.mkdir(parents=True, exist_ok=True)
        path = self.state / "lock"
        with path.open("a+", encoding="utf-8") as stream:
            try:
                _lock(stream.fileno())
            except OSError:
                stream.seek(0)
                holder = stream.read().strip() or "another process"
                what = f"{self.env} is being changed by {holder}"
                raise TryAgainError(what, hint="wait for it to end, then run the same command again") from None
            stream.seek(0)
            stream.truncate()
            stream.write(f"mmdoctor, process {os.getpid()}")
            stream.flush()
            try:
                yield
            finally:
                stream.seek(0)
                stream.truncate()


def _lock(descriptor: int) -> None:
    if sys.platform != "win32":
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    else:
        import msvcrt

        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
