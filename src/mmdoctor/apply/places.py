"""Where mmdoctor keeps what belongs to an environment: beside it, so that links and renames stay on one file system.

.NAME.mmdoctor/  next/             the clone under repair
                 previous/STAMP/   what stood at the path before, newest last
                 runs/STAMP/       plan, facts, logs, package lists, proof of one run
                 journal.jsonl     what was begun and done, each line on the disk before what follows it
                 lock              who is changing the environment
"""

from __future__ import annotations

import json
import os
import shutil
import time
from contextlib import AbstractContextManager
from pathlib import Path

from mmdoctor.errors import TryAgainError
from mmdoctor.locks import holder, locked

UNFINISHED = "mmdoctor-unfinished"
ENDS = ("done", "dropped", "recovered")


class Places:
    """The paths around one environment. `named` is its path as the user says it, `env` where it really lies."""

    def __init__(self, named: Path) -> None:
        self.named = named.absolute()
        self.env = Path(os.path.realpath(named))
        self.state = self.env.parent / f".{self.env.name}.mmdoctor"
        self.next = self.state / "next"
        self.aside = self.state / "aside"
        self.previous = self.state / "previous"
        self.runs = self.state / "runs"
        self.journal = self.state / "journal.jsonl"
        self.lock_file = self.state / "lock"

    def new_run(self) -> Path:
        """A fresh folder for the plan, the logs and the package lists of one run; its name is a time."""
        stamp = time.strftime("%Y%m%d-%H%M%S")
        for number in range(100):
            run = self.runs / (stamp if number == 0 else f"{stamp}-{number:02}")
            try:
                run.mkdir(parents=True)
            except FileExistsError:
                continue
            return run
        raise TryAgainError(f"no free run folder under {self.state}")

    def kept(self) -> tuple[Path, ...]:
        """The environments that stood at the path before, newest first."""
        return tuple(sorted(self.previous.glob("*"), reverse=True))

    def discard(self, folder: Path) -> None:
        """Take a folder out of its place in one step; `sweep` deletes it, which takes a while."""
        if not os.path.lexists(folder):
            return
        trash = self.state / f"trash-{folder.name}-{os.getpid()}-{time.monotonic_ns()}"
        folder.rename(trash)

    def hand_over(self) -> None:
        """As root: what lies here belongs to the environment's owner, who recovers and rolls back without root."""
        if os.name != "posix" or os.geteuid() != 0 or not self.env.exists() or self.env.stat().st_uid == 0:
            return
        owner = self.env.stat()
        for path in (self.state, *self.state.glob("*"), *self.runs.rglob("*")):
            os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)

    def sweep(self) -> None:
        """Delete what was discarded. A killed sweep leaves some of it for the next one."""
        for trash in self.state.glob("trash-*"):
            _remove(trash)

    def at_rest(self) -> bool:
        """Whether nothing was begun here that did not end: there is no journal, or an end is its last word."""
        try:
            *_, last = self.journal.read_bytes().splitlines()
            return json.loads(last)["event"] in ENDS
        except FileNotFoundError:
            return True
        except (OSError, ValueError, LookupError, TypeError):  # torn, or of another version: who mends it reads it all
            return False

    def holder(self) -> str:
        """Who is changing the environment right now; empty when nobody is."""
        return holder(self.lock_file, str(self.named))

    def lock(self, what: str) -> AbstractContextManager[None]:
        """One change at a time; `what` is told to whoever comes second. TryAgainError names the holder."""
        return locked(self.lock_file, str(self.named), what)


def _remove(folder: Path) -> None:
    for base, _, _ in os.walk(folder):
        if not os.access(base, os.W_OK):
            Path(base).chmod(0o700)  # a folder of the clone; the original's is another one
    shutil.rmtree(folder)
