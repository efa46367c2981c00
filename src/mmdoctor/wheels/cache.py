"""A wheel cache keyed by what the binary depends on.

pip keys its own by the sdist's address alone, so a wheel compiled against one torch is handed out beside another and
dies with an undefined symbol (measured). Here the key is a digest of sdist, fix-ups, torch with local label, NumPy,
CUDA, archs, Python tag, glibc, compiler and flags; a wheel enters only with the proof that it loaded and its ops ran.

NAME-VERSION/DIGEST/   one entry: the wheel, its proof, and `used`, whose time is that of the last use
draft-*                an entry that is being made or deleted; renamed, so that none is ever seen half
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Optional
from uuid import uuid4

import msgspec

from mmdoctor import rules
from mmdoctor.errors import RefusedError
from mmdoctor.model import CachedWheel, KeptWheel, Proven, Value, WheelList
from mmdoctor.probes.host import nearest

PROOF = "proof.json"
PROOF_VERSION = "1"
USED = "used"
DRAFT = "draft-"
ELSEWHERE = "name another folder with --wheels, or take the right to write there"
DIGEST = re.compile(r"[0-9a-f]{16}")
TRIES = 10


class BuildKey(Value, frozen=True, kw_only=True, omit_defaults=True):
    """Everything that a compiled wheel depends on. `torch` and `numpy` are empty where the binary uses neither. A field
    that is added gets a default: what has it keeps its digest."""

    package: str
    version: str
    sdist_sha256: str
    fixups: str
    torch: str
    numpy: str
    cuda: str
    archs: str
    python_tag: str
    glibc: str
    compiler: str
    flags: str

    @property
    def digest(self) -> str:
        """The key as 16 hexadecimal digits."""
        return hashlib.sha256(msgspec.json.encode(self, order="deterministic")).hexdigest()[:16]

    @property
    def entry(self) -> str:
        """Where a wheel of this key lies in a cache: `mmcv-2.1.0/3722998f1d8d4279`."""
        return f"{self.package}-{self.version}/{self.digest}"

    def serves(self, wanted: BuildKey) -> bool:
        """Whether a wheel of this key runs where one of `wanted` would: it may come from another compiler or from an
        older glibc, not from other fix-ups, another torch, NumPy, CUDA or Python."""
        bound = ("package", "version", "fixups", "torch", "numpy", "cuda", "archs", "python_tag")
        same = all(getattr(self, name) == getattr(wanted, name) for name in bound)
        return same and rules.order(self.glibc) <= rules.order(wanted.glibc)


class Proof(Value, frozen=True, kw_only=True):
    """Lies beside each cached wheel: what it was built from, for what, and what was seen to work: `proven`, or in the
    proofs of before `shown`. `built` is when (UTC), empty in those of before; `origin` says where it was imported from,
    empty for a wheel that was compiled here."""

    schema_version: str = PROOF_VERSION
    key: BuildKey
    wheel: str
    wheel_sha256: str
    minutes: float
    shown: tuple[str, ...] = ()
    proven: Optional[Proven] = None
    built: str = ""
    origin: str = ""


# Made here and not where it is used: two threads that learn one type at once die of it (msgspec 0.22, measured).
decode_proof = msgspec.json.Decoder(Proof).decode


def sha256_of(path: Path) -> str:
    """The sha256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def proofs(folder: Path) -> tuple[tuple[Path, Proof], ...]:
    """Every wheel of a cache with its proof, by name. Left out is an entry whose proof does not read, or was changed:
    its key no longer gives the digest that it is filed under."""
    found = []
    for entry in entries(folder):
        try:
            proof = decode_proof((entry / PROOF).read_bytes())
        except (OSError, msgspec.DecodeError):
            continue  # a foreign entry is no proof
        wheel = entry / proof.wheel
        if entry == folder / proof.key.entry and wheel.name == proof.wheel and wheel.is_file():
            found.append((wheel, proof))
    return tuple(found)


def entries(folder: Path) -> tuple[Path, ...]:
    """The folders of a cache that wheels lie in, by name; without those in the making."""
    named = (path for path in _inside(folder) if not path.name.startswith(DRAFT))
    return tuple(entry for path in named for entry in _inside(path) if DIGEST.fullmatch(entry.name))


def _inside(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:  # no folder, or pruned meanwhile
        return []


def strays(folder: Path) -> tuple[Path, ...]:
    """Entries of a cache that are none, since their proof does not read or was changed."""
    whole = {wheel.parent for wheel, _ in proofs(folder)}
    return tuple(entry for entry in entries(folder) if entry not in whole)


def sound(wheel: Path, proof: Proof) -> bool:
    """Whether the file is the very one that was proven (30 ms for the 37 MB of CUDA ops)."""
    try:
        return sha256_of(wheel) == proof.wheel_sha256
    except OSError:
        return False


def take(folder: Path, wanted: BuildKey) -> Optional[Path]:
    """The wheel to install where one of `wanted` would be: proven, its file still the one that was, and marked as used.
    None without such a one. `folder` need not be writable."""
    for wheel, proof in proofs(folder):
        if proof.key.serves(wanted) and sound(wheel, proof):
            with suppress(OSError):  # a team's folder, which is only read here
                (wheel.parent / USED).touch()
            return wheel
    return None


def cached_wheels(folder: Path) -> tuple[CachedWheel, ...]:
    """The cache as facts for the resolver. A damaged wheel of one's own is dropped before an install; one in a folder
    that is only read cannot be, and is left out here."""
    return tuple(
        CachedWheel(
            name=proof.key.package,
            version=proof.key.version,
            python_tag=proof.key.python_tag,
            torch=proof.key.torch,
            archs=proof.key.archs,
            numpy=proof.key.numpy or None,
            path=str(wheel),
        )
        for wheel, proof in proofs(folder)
        if os.access(wheel.parent, os.W_OK) or sound(wheel, proof)
    )


def listed(folder: Path) -> WheelList:
    """The cache for its user; each file is held against its proof."""
    found = []
    for wheel, proof in proofs(folder):
        with suppress(FileNotFoundError):  # pruned meanwhile
            found.append(kept(wheel, proof))
    found.sort(key=lambda one: (one.name, *map(rules.order, (one.version, one.torch or one.numpy or "")), one.path))
    return WheelList(folder=str(folder), wheels=tuple(found), strays=tuple(map(str, strays(folder))))


def kept(wheel: Path, proof: Proof) -> KeptWheel:
    """One entry for its user."""
    key, used = proof.key, wheel.parent / USED
    return KeptWheel(
        name=key.package,
        version=key.version,
        path=str(wheel),
        sound=sound(wheel, proof),
        bytes=wheel.stat().st_size,
        torch=key.torch or None,
        cuda=key.cuda or None,
        archs=key.archs,
        numpy=key.numpy or None,
        python_tag=key.python_tag,
        glibc=key.glibc,
        compiler=key.compiler,
        minutes=proof.minutes,
        built=built(wheel, proof),
        used=stamp(used.stat().st_mtime) if used.exists() else None,
        shown=said(proof),
        origin=proof.origin or None,
    )


def built(wheel: Path, proof: Proof) -> str:
    """When a wheel was built, as its proof says, else the proof's own time."""
    return proof.built or stamp((wheel.parent / PROOF).stat().st_mtime)


def said(proof: Proof) -> tuple[str, ...]:
    """What a proof shows, in words: `import mmcv._ext`, `4 ops on cpu`."""
    proven = proof.proven
    if proven is None:
        return proof.shown
    symbols = f"{sum(module.symbols for module in proven.modules)} symbols resolve" if proven.modules else ""
    ops = f"{len(proven.ops)} ops on {', '.join(proven.devices)}" if proven.ops else ""
    archs = sorted({arch for module in proven.modules for arch in module.archs}, key=rules.order)
    code = f"code for {', '.join(archs)}" if archs else ""
    return tuple(part for part in (symbols, *(f"import {name}" for name in proven.imports), ops, code) if part)


def stamp(seconds: float) -> str:
    """A time as the proofs state it: UTC, to the second."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def unwritable(folder: Path) -> Optional[str]:
    """Why a compiled wheel could not be put into this cache, said before an hour of compiling; None where it can."""
    place = nearest(folder)
    if place.is_dir() and os.access(place, os.W_OK | os.X_OK):
        return None
    return f"compiled wheels go into {folder}, and {place} is {'not writable' if place.is_dir() else 'no folder'}"


def admit(folder: Path, wheel: Path, key: BuildKey, minutes: float, proven: Proven) -> Path:
    """Put a proven wheel into the cache, whole or not at all; returns where it lies. RefusedError where it cannot be
    written."""
    proof = Proof(
        key=key,
        wheel=wheel.name,
        wheel_sha256=sha256_of(wheel),
        minutes=minutes,
        proven=proven,
        built=stamp(time.time()),
    )
    with written(folder), draft(folder) as place:
        shutil.copyfile(wheel, place / wheel.name)
        return store(folder, place, proof)[0]


@contextmanager
def draft(folder: Path) -> Iterator[Path]:
    """A folder for an entry in the making; what is left of it at the end is deleted."""
    place = folder / f"{DRAFT}{uuid4().hex}"
    place.mkdir(parents=True)
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)


def store(folder: Path, made: Path, proof: Proof) -> tuple[Path, bool]:
    """Turn a draft that holds the proof's wheel into an entry; the wheel's path, and False where the same is there.

    Whoever comes second keeps the first one's entry, which may be in use; a damaged one is replaced. Raises OSError.
    """
    place = folder / proof.key.entry
    (made / PROOF).write_bytes(msgspec.json.format(msgspec.json.encode(proof), indent=1))
    for left in reversed(range(TRIES)):  # others may put the same one there, or prune it, between two looks
        place.parent.mkdir(exist_ok=True)
        try:
            made.rename(place)
        except OSError:
            there = next((entry for entry in proofs(folder) if entry[0].parent == place), None)
            if there is not None and sound(*there):
                return there[0], False
            if left == 0:
                raise
            drop(place, folder)
        else:
            break
    return place / proof.wheel, True


def drop(entry: Path, folder: Path) -> None:
    """Take an entry out of the cache in one step, then delete it. Raises OSError where that is not allowed."""
    with draft(folder) as gone:
        with suppress(FileNotFoundError):  # another process was faster
            entry.rename(gone / entry.name)
        with suppress(OSError):
            entry.parent.rmdir()  # other entries may lie there


@contextmanager
def written(folder: Path) -> Iterator[None]:
    """That a folder cannot be written is the user's to know (RefusedError), and no bug of ours."""
    try:
        yield
    except OSError as error:
        what = f"cannot write {folder}: {error.strerror or error}"
        raise RefusedError(what, hint="name another folder, or make room and rights there") from error
