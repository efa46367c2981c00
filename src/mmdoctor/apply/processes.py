"""Processes around an environment: who runs from it, and what a killed run of mmdoctor left running."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

# psutil and the kernel round start times to a clock tick.
SAME_START_SECONDS = 0.1


def users_of(env: Path) -> tuple[str, ...]:
    """The processes that run from `env`, as `name (process 123)`: an argument of their command line or a library they
    have loaded lies in it. Those of other users that may not be looked into are left out."""
    import psutil

    inside = f"{env}{os.sep}"
    mine = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    found = []
    for process in psutil.process_iter():
        if process.pid in mine:
            continue
        with suppress(psutil.Error, OSError):
            if any(part.startswith(inside) for part in process.cmdline()) or any(
                entry.path.startswith(inside) for entry in process.memory_maps()
            ):
                found.append(f"{process.name()} (process {process.pid})")
    return tuple(found)


def started(pid: int) -> float:
    """When a process started, in seconds since the epoch; 0 when it is gone already."""
    import psutil

    try:
        return float(psutil.Process(pid).create_time())
    except psutil.NoSuchProcess:
        return 0.0


def end_groups(children: Iterable[tuple[int, float]]) -> tuple[int, ...]:
    """End the process groups that a killed run left, each told by its first process and when that started; what has
    taken over a number since is left alone. Returns those that were ended."""
    return tuple(_ended(children))


def _ended(children: Iterable[tuple[int, float]]) -> Iterator[int]:
    import psutil

    for pid, since in children:
        with suppress(psutil.NoSuchProcess, ProcessLookupError, PermissionError):
            members = [p for p in psutil.process_iter() if _group(p.pid) == pid]
            leader = next((p for p in members if p.pid == pid), None)
            if leader is not None and abs(leader.create_time() - since) > SAME_START_SECONDS:
                continue
            if members and os.name == "posix":
                os.killpg(pid, signal.SIGKILL)
                yield pid


def _group(pid: int) -> int:
    try:
        return os.getpgid(pid) if os.name == "posix" else 0
    except OSError:
        return 0
