"""Locks between processes: a file that one of them holds, and that says who. A kill frees it."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mmdoctor.errors import TryAgainError

TRIES = 3
PAUSE_SECONDS = 0.1


@contextmanager
def locked(file: Path, subject: str, what: str) -> Iterator[None]:
    """One at a time. `what` is told to whoever comes second: a TryAgainError says that it changes `subject`."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.touch()
    with _held(file, subject) as stream:
        os.truncate(stream, 0)
        os.write(stream, f"{what}, process {os.getpid()}, since {time.strftime('%H:%M:%S')}".encode())
        try:
            yield
        finally:
            os.truncate(stream, 0)


def holder(file: Path, subject: str) -> str:
    """Who holds a lock right now, as a sentence; empty when nobody does."""
    if not file.exists():
        return ""
    try:
        with _held(file, subject):
            return ""
    except TryAgainError as error:
        return error.what


@contextmanager
def _held(file: Path, subject: str) -> Iterator[int]:
    descriptor = os.open(file, os.O_RDWR | os.O_APPEND)
    try:
        if not _taken(descriptor):
            by = file.read_text(encoding="utf-8").strip() or "another process"
            raise TryAgainError(
                f"{subject} is being changed by {by}", hint="wait for it to end, then run the same command again"
            )
        yield descriptor
    finally:
        os.close(descriptor)  # and with it the lock, as a kill does


def _taken(descriptor: int) -> bool:
    """Take the lock, or say that another has it; who only looks has it for a moment, so it is tried again."""
    for _ in range(TRIES):
        try:
            if sys.platform != "win32":
                import fcntl

                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            else:
                import msvcrt

                msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError:
            time.sleep(PAUSE_SECONDS)
        else:
            return True
    return False
