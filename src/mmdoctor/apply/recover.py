"""After a kill: make whole what was begun, and go back to an earlier environment."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Optional

from mmdoctor.apply.journal import Journal, Standing
from mmdoctor.apply.places import UNFINISHED, Places
from mmdoctor.apply.processes import end_groups
from mmdoctor.apply.swap import exchange, put_back, to_disk
from mmdoctor.errors import RefusedError
from mmdoctor.model import Earlier

# How many earlier environments are kept, how long, and how much of the disk they may take; the newest always stays.
KEEP = 3
KEEP_DAYS = 30
KEEP_BYTES = 20_000_000_000
KEEP_RUNS = 20


def recover(places: Places, *, keep_clone: bool) -> Optional[str]:
    """Mend what the last run left when it was killed; says what was done, None when there was nothing to mend.

    The lock must be held. What is taken away is only renamed, so that this takes a moment; the next run or rollback
    sweeps. The path then shows the old environment or the proven new one, as it did before; the clone
    stays for `fix --resume` only when `keep_clone` is set and it is as a finished stage left it.
    """
    journal = Journal(places.journal)
    standing = journal.standing()
    if standing.ended:
        if not keep_clone:
            places.discard(places.next)
        return None
    end_groups(standing.children)
    said = _finished(places, journal, standing) or _undone(places, standing, keep_clone=keep_clone)
    journal.note("recovered", said=said)
    return said


def _finished(places: Places, journal: Journal, standing: Standing) -> Optional[str]:
    """The new environment stands at the path: what was left to do is to put the old one into its place."""
    if standing.new_environment:
        if not standing.proven:
            return None
        (places.env / UNFINISHED).unlink(missing_ok=True)
        journal.note("done")
        return "the new environment was proven already; it is ready"
    swap = standing.exchange
    if swap is None:
        return None
    put_back(places.env, swap.other, places.aside)
    if places.env.stat().st_ino != swap.new:
        return None
    if standing.run is not None and swap.other == places.next and places.next.exists():
        keep(places, standing.run.name)
    journal.note("done")
    return "the proven environment had been put in place already; it stays"


def _undone(places: Places, standing: Standing, *, keep_clone: bool) -> str:
    if standing.new_environment:
        if places.env.exists() and places.env.stat().st_ino == standing.created:
            places.discard(places.env)
        return "the unfinished new environment was taken away; `mmdoctor fix --resume` goes on from the caches"
    if keep_clone and standing.clean and places.next.exists():
        return "the environment is the old one; `mmdoctor fix --resume` goes on where the last run was killed"
    places.discard(places.next)
    return "the environment is the old one, the half-done copy was taken away"


def recovered(named: Path) -> Optional[str]:
    """Recovery at the beginning of a command, when one is due; says what was done, or who is at work just now."""
    places = Places(named)
    if Journal(places.journal).standing().ended:
        return None
    try:
        holder = places.holder()
        if holder:
            return holder
        with places.lock("mmdoctor, recovering"):
            said = recover(places, keep_clone=True)
            return f"a run of fix was killed here: {said}" if said else None
    except PermissionError:
        owner = places.state.stat().st_uid
        return f"a run of fix was killed here; any mmdoctor command of its owner (uid {owner}) recovers it"


# ------------------------------------------------------------------------------------------------ earlier environments


def keep(places: Places, name: str) -> None:
    """Put what stood at the path (now in `next`) among the earlier environments, under the run's name."""
    places.previous.mkdir(exist_ok=True)
    places.next.rename(places.previous / name)


def earlier(places: Places) -> tuple[Earlier, ...]:
    """The environments that `rollback` can bring back, newest first."""
    return tuple(
        Earlier(
            name=folder.name,
            bytes=own_bytes(folder),
            changes=_changes(places.runs / folder.name),
        )
        for folder in places.kept()
    )


def _changes(run: Path) -> tuple[str, ...]:
    """What the run that replaced an environment changed, from the plan in its folder; empty when that is gone."""
    import msgspec

    from mmdoctor.model import Plan

    try:
        plan = msgspec.json.decode((run / "plan.json").read_bytes(), type=Plan)
    except (OSError, msgspec.DecodeError):
        return ()
    return tuple(f"{change.name} {change.old or 'none'} → {change.new or 'removed'}" for change in plan.changes)


def own_bytes(folder: Path) -> int:
    """What would become free if `folder` went: the blocks of its files that have no other name."""
    total = 0
    for base, folders, names in os.walk(folder):
        statuses = [Path(base, name).lstat() for name in names]
        total += sum(status.st_blocks * 512 for status in statuses if status.st_nlink == 1)
        total += 4096 * len(folders)
    return total


def prune(places: Places) -> tuple[str, ...]:
    """Drop earlier environments beyond KEEP, KEEP_DAYS and KEEP_BYTES, and old runs' logs; returns their names."""
    dropped, taken = [], 0
    for position, folder in enumerate(places.kept()):
        taken += own_bytes(folder)
        old = time.time() - _when(folder.name) > KEEP_DAYS * 86_400
        if position and (position >= KEEP or old or taken > KEEP_BYTES):
            places.discard(folder)
            dropped.append(folder.name)
    for run in sorted(places.runs.glob("*"), reverse=True)[KEEP_RUNS:]:
        places.discard(run)
    places.sweep()
    Journal(places.journal).shorten(KEEP_RUNS)
    return tuple(dropped)


def _when(name: str) -> float:
    try:
        return time.mktime(time.strptime(name[:15], "%Y%m%d-%H%M%S"))
    except ValueError:
        return time.time()


def rollback(places: Places, name: Optional[str] = None) -> Path:
    """Exchange the environment with an earlier one (the newest, or `name`); returns that one's place.

    What stood at the path takes its place, so that the same command exchanges them back. Raises RefusedError.
    """
    kept = places.kept()
    chosen = next((folder for folder in kept if name in (None, folder.name)), None)
    if chosen is None:
        names = ", ".join(folder.name for folder in kept) or "there is none"
        wanted = f" named {name}" if name else ""
        raise RefusedError(f"there is no earlier environment{wanted} of {places.named}", hint=f"kept: {names}")
    journal = Journal(places.journal)
    journal.note("rollback", to=chosen.name)
    swap(places, journal, chosen)
    journal.note("done")
    places.sweep()
    return chosen


def swap(places: Places, journal: Journal, other: Path) -> bool:
    """Exchange the environment with `other`, under the journal; True when it was one atomic step."""
    to_disk(other)
    journal.note("swap", other=str(other), old=places.env.stat().st_ino, new=other.stat().st_ino)
    atomic = exchange(places.env, other, places.aside)
    to_disk(places.env.parent)
    return atomic
