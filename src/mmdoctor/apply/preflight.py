"""What is looked at before anything is changed: everything that would stop the plan half-way, said at once."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from mmdoctor.apply.clone import can_link
from mmdoctor.apply.places import Places
from mmdoctor.apply.processes import users_of
from mmdoctor.errors import RefusedError
from mmdoctor.model import Facts, Plan, Unknown, Value
from mmdoctor.probes.collect import uv_cache, written_places
from mmdoctor.probes.host import nearest
from mmdoctor.wheels.cache import ELSEWHERE, unwritable

# Unpacked, a wheel takes two and a half times its download (measured: torch 2.1.2+cu121 and its nvidia-* wheels, 2.1
# and 5.0 GB). uv keeps it unpacked in its cache and links it from there where both are on one file system.
UNPACKED_FACTOR = 2.5
BUILD_BYTES = 1_500_000_000  # an mmcv build folder with its objects (measured: 0.9 GB with -g0, CPU ops)
SPARE_BYTES = 200_000_000
# One RTMPose inference on the CPU peaks at 737 MB, one compile of mmcv at 1.2 GB (both measured).
SMOKE_BYTES = 800_000_000
COMPILE_BYTES = 1_200_000_000


class Preflight(Value, frozen=True, kw_only=True):
    """What was found that stops nothing: `linkable` says whether the clone costs no space, `users` who runs from it."""

    linkable: bool
    users: tuple[str, ...]
    warnings: tuple[str, ...]


def preflight(plan: Plan, facts: Facts, places: Places, cache: Path, wheels: Path) -> Preflight:
    """Look before the first change; the state folder exists. RefusedError names every obstacle with its remedy."""
    linkable = plan.new_environment or can_link(places.env, places.state)
    closed = unwritable(wheels) if plan.cost.build_minutes else None
    obstacles = [
        *_rights(plan, facts, places),
        *_caches(cache),
        *([(closed, ELSEWHERE)] if closed is not None else []),
        *_space(plan, places, cache, linkable=linkable),
    ]
    if obstacles:
        what = "; ".join(what for what, _ in obstacles)
        raise RefusedError(what, hint="; ".join(dict.fromkeys(remedy for _, remedy in obstacles)))
    users = () if plan.new_environment else users_of(places.env)
    return Preflight(linkable=linkable, users=users, warnings=tuple(_warnings(plan, facts, linkable=linkable)))


def refuse_early(plan: Plan, facts: Facts, places: Places) -> None:
    """What can be said without writing anything. Raises RefusedError."""
    target = facts.target
    if plan.pretended:
        raise RefusedError("the plan was made for a pretended machine", hint="make one on this machine: mmdoctor fix")
    if target.state == "present" and target.kind == "system" and not plan.new_environment:
        managed = ", which its distribution manages (PEP 668)" if target.externally_managed else ""
        raise RefusedError(
            f"{target.prefix} is the system's own Python{managed}; mmdoctor changes venvs and conda prefixes only",
            hint="name a new environment with --env DIR",
        )
    if not plan.new_environment and os.path.ismount(places.env):
        raise RefusedError(
            f"{places.named} is a mount point, which cannot be exchanged for another folder",
            hint="put the environment into a folder below the mount point",
        )
    parent = nearest(places.env.parent)
    if not parent.is_dir():
        raise RefusedError(f"{parent} is no folder", hint="name another place with --env DIR")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise RefusedError(
            f"{parent} is not writable for {_who()}, and the environment is exchanged by renaming it there",
            hint=_right_to(parent),
        )
    if places.state.exists() and not os.access(places.state, os.W_OK | os.X_OK):
        owner = _owner(places.state)
        raise RefusedError(f"{places.state} belongs to {owner}", hint=f"run it as {owner}, or chown -R that folder")


def _rights(plan: Plan, facts: Facts, places: Places) -> Iterator[tuple[str, str]]:
    if plan.new_environment:
        return
    if not os.access(places.env, os.W_OK | os.X_OK) or not facts.target.writable:
        where = places.env if not os.access(places.env, os.W_OK | os.X_OK) else Path(facts.target.site_packages)
        yield f"{where} is not writable for {_who()}", _right_to(where)
    foreign = _foreign(places.env, facts.target.site_packages)
    if foreign:
        shown = ", ".join(f"{path} ({_owner(path)})" for path in foreign[:3])
        more = f" and {len(foreign) - 3} more" if len(foreign) > 3 else ""
        what = f"{len(foreign)} entries belong to somebody else, as after a `sudo pip install`: {shown}{more}"
        yield what, f"sudo chown -R {_who()} {places.env}"


def _caches(cache: Path) -> Iterator[tuple[str, str]]:
    """Caches that cannot be written to, as when `sudo -u` keeps the HOME of somebody else."""
    for folder, variable in ((cache, "MMDOCTOR_CACHE"), (uv_cache(os.environ), "UV_CACHE_DIR")):
        if not os.access(nearest(folder), os.W_OK | os.X_OK):
            yield f"the cache {folder} is not writable for {_who()}", f"set {variable}, or HOME (sudo -H)"


def _foreign(env: Path, site_packages: str) -> list[Path]:
    """The top entries of the environment that this user does not own and so may not replace; root may all."""
    if os.name != "posix" or os.geteuid() == 0:
        return []
    folders = [env, env / "bin", Path(site_packages)]
    entries = [path for folder in folders if folder.is_dir() for path in folder.iterdir()]
    return sorted(path for path in entries if path.lstat().st_uid != os.geteuid())


def _space(plan: Plan, places: Places, cache: Path, *, linkable: bool) -> Iterator[tuple[str, str]]:
    """Per disk: what the environment, the caches and the builds will take there."""
    download = plan.cost.download_bytes
    builds = any(step.build for stage in plan.stages for step in stage.steps)
    places_written = written_places(os.environ)
    unpacked, kept_by_uv = download * UNPACKED_FACTOR, places_written["uv's cache"]
    apart = nearest(kept_by_uv).stat().st_dev != nearest(places.state).stat().st_dev
    copied = 0 if linkable else _size(places.env)
    needs: list[tuple[Path, float, str]] = [
        (places.state, (unpacked if apart else 0) + copied + SPARE_BYTES, "the environment"),
        (kept_by_uv, unpacked, "uv's cache"),
        (cache, BUILD_BYTES if builds else 0, "the compile"),
        (places_written["temporary files"], SPARE_BYTES if download or builds else 0, "temporary files"),
    ]
    disks: dict[int, list[tuple[Path, float, str]]] = {}
    for path, needed, what in needs:
        disks.setdefault(nearest(path).stat().st_dev, []).append((path, needed, what))
    for parts in disks.values():
        place, needed = nearest(parts[0][0]), sum(needed for _, needed, _ in parts)
        free = shutil.disk_usage(place).free
        if free < needed:
            names = " and ".join(what for _, needed, what in parts if needed)
            copy = " (this file system refuses hard links, so the environment is copied)" if copied else ""
            what = f"the disk of {place} has {free / 1e9:.2f} GB free, {names} need about {needed / 1e9:.2f} GB{copy}"
            yield (
                what,
                "free some space there, or move the environment, MMDOCTOR_CACHE, UV_CACHE_DIR or TMPDIR elsewhere",
            )


def _size(folder: Path) -> int:
    return sum(Path(base, name).lstat().st_size for base, _, names in os.walk(folder) for name in names)


def _warnings(plan: Plan, facts: Facts, *, linkable: bool) -> Iterator[str]:
    available = facts.host.memory_available_bytes
    builds = any(step.build for stage in plan.stages for step in stage.steps)
    needed = COMPILE_BYTES if builds else SMOKE_BYTES
    if available < needed:
        what = "one compile" if builds else "the RTMPose inference"
        yield f"{available / 1e9:.1f} GB of memory are free, {what} takes {needed / 1e9:.1f}: it may be killed"
    if not linkable:
        yield "this file system refuses hard links: the environment is copied, which takes its size and minutes"
    for index in facts.indexes:
        if index.reachable is False and plan.cost.download_bytes:
            yield f"{index.url} does not answer ({index.reason}); what only it has must be in uv's cache"
        elif isinstance(index.reachable, Unknown) and plan.cost.download_bytes:
            yield f"{index.url} was not asked: {index.reachable.unknown}"


def _who() -> str:
    if os.name != "posix":
        return "you"
    import pwd

    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


def _owner(path: Path) -> str:
    try:
        return path.owner()
    except (KeyError, NotImplementedError):
        return str(path.lstat().st_uid)


def _right_to(path: Path) -> str:
    owner = _owner(path)
    return (
        f"run it as {owner}, or on a file system that is not mounted read-only"
        if owner != _who()
        else (f"chmod u+w {path}, or remount its file system for writing")
    )
