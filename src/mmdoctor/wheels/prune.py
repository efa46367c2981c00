"""What may go from the cache: wheels that nobody used for long, what no wheel needs, and what kills left."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Literal, Optional

from msgspec.structs import replace

from mmdoctor.locks import holder, locked
from mmdoctor.model import KeptWheel, Pruned, Removal, Value
from mmdoctor.wheels.cache import DRAFT, PROOF, USED, drop, listed, proofs, sha256_of, strays, written

DAY = 86400.0
# A step of `fix --apply` may take an hour; what was touched within it may be in use.
LEASE_SECONDS = 3600.0
# A killed build goes on where it stopped; after a week nobody waits for it.
BUILD_DAYS = 7.0
# A copy takes seconds, over a slow network minutes.
DRAFT_DAYS = 1.0


class Policy(Value, frozen=True, kw_only=True):
    """What goes: wheels that were not used for `days`, the longest unused first those beyond `bytes` together; the
    `keep` that were used last stay in any case."""

    days: float = 90.0
    bytes: Optional[int] = None
    keep: int = 0


def removals(folder: Path, cache: Optional[Path], policy: Policy, now: float) -> Pruned:
    """What `policy` takes out of the wheels in `folder` and, where it is given, out of the rest of mmdoctor's `cache`;
    nothing is deleted yet. `now` is in seconds since 1970."""
    found = listed(folder).wheels
    last = {wheel.path: last_use(Path(wheel.path).parent) for wheel in found}
    wheels = sorted(found, key=lambda wheel: last[wheel.path])
    in_use = [wheel for wheel in wheels if now - last[wheel.path] < LEASE_SECONDS]
    going = dict(_going(wheels, last, policy, now))
    staying = [wheel for wheel in wheels if wheel.path not in going or wheel in in_use]
    gone = [_removal(wheel, why) for wheel in wheels if (why := going.get(wheel.path)) and wheel not in in_use]
    gone += [_of("wheel", path, "no proof, or a changed one") for path in _untouched(strays(folder), 0, now)]
    gone += [_of("draft", path, "left by a kill") for path in _untouched(folder.glob(f"{DRAFT}*"), DRAFT_DAYS, now)]
    held = [f"{wheel.name} {wheel.version}" for wheel in in_use if wheel.path in going]
    if cache is not None:
        for path in _untouched((cache / "build").glob("*"), min(BUILD_DAYS, policy.days), now):
            if path == _lock(path):
                continue  # an empty file, which others may be about to open
            if holder(_lock(path), path.name):
                held.append(path.name)
            else:
                what = "a build that was not finished" if path.is_dir() else f"a build's {path.suffix[1:]}"
                gone.append(_of("build", path, f"{what}; untouched for {_days(path, now):.0f} days"))
        paths = {wheel.path for wheel in staying}
        sdists = {proof.key.sdist_sha256 for wheel, proof in proofs(folder) if str(wheel) in paths}
        for path in _untouched((cache / "sdists").glob("*"), policy.days, now):
            if sha256_of(path) not in sdists:
                gone.append(_of("sdist", path, "no wheel here was made from it"))
    return Pruned(
        folder=str(folder),
        done=False,
        removals=tuple(gone),
        in_use=tuple(held),
        kept=len(staying),
        kept_bytes=sum(wheel.bytes for wheel in staying),
    )


def remove(pruned: Pruned) -> Pruned:
    """Delete it. Raises RefusedError where that is not allowed, TryAgainError for a build that was begun meanwhile."""
    folder = Path(pruned.folder)
    for removal in pruned.removals:
        path = Path(removal.path)
        alone = locked(_lock(path), path.name, "wheels prune") if removal.kind == "build" else nullcontext()
        with written(path), alone:
            if removal.kind == "wheel":
                drop(path, folder)
            elif path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
    return replace(pruned, done=True)


def _going(
    wheels: Sequence[KeptWheel], last: dict[str, float], policy: Policy, now: float
) -> Iterator[tuple[str, str]]:
    """Those of the wheels, the longest unused first, that go: paths, with the reason."""
    yield from ((wheel.path, "damaged: not the file that was proven") for wheel in wheels if not wheel.sound)
    room = 0
    for number, wheel in enumerate(wheel for wheel in reversed(wheels) if wheel.sound):
        days = (now - last[wheel.path]) / DAY
        room += wheel.bytes
        if number < policy.keep:
            continue
        if days >= policy.days:
            yield wheel.path, f"not used for {days:.0f} days"
        elif policy.bytes is not None and room > policy.bytes:
            yield wheel.path, f"the ones used since then fill {policy.bytes / 1e9:g} GB; not used for {days:.0f} days"


def _lock(build: Path) -> Path:
    """The lock of a build's folder, of a file that belongs to it, or itself."""
    folder = build if build.is_dir() else build.with_suffix("")
    return folder.with_name(f"{folder.name}.lock")


def last_use(entry: Path) -> float:
    """When a wheel was last installed, else when it came here, in seconds since 1970."""
    used, proof = entry / USED, entry / PROOF
    return max((path.stat().st_mtime for path in (used, proof) if path.exists()), default=0.0)


def _untouched(paths: Iterable[Path], days: float, now: float) -> Iterator[Path]:
    """Those that nothing was written into for so long; what was within the lease is never among them."""
    for path in sorted(paths):
        if _days(path, now) * DAY >= max(days * DAY, LEASE_SECONDS):
            yield path


def _days(path: Path, now: float) -> float:
    return (now - max((found.st_mtime for found in _stats(path)), default=now)) / DAY


def _stats(path: Path) -> Iterator[os.stat_result]:
    """A path and everything below it, as far as it is still there."""
    below = (Path(base, name) for base, folders, files in os.walk(path) for name in (*folders, *files))
    for one in (path, *below):
        with suppress(FileNotFoundError):
            yield one.lstat()


def _removal(wheel: KeptWheel, why: str) -> Removal:
    name = f"{wheel.name} {wheel.version} {wheel.python_tag} for {wheel.torch or wheel.numpy or 'anything'}"
    return Removal(kind="wheel", name=name, path=str(Path(wheel.path).parent), bytes=wheel.bytes, why=why)


def _of(kind: Literal["wheel", "build", "sdist", "draft"], path: Path, why: str) -> Removal:
    return Removal(kind=kind, name=path.name, path=str(path), bytes=sum(s.st_size for s in _stats(path)), why=why)
