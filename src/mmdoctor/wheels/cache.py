"""A wheel cache keyed by what the binary depends on.

pip keys its own by the sdist's address alone, so a wheel compiled against one torch is handed out beside another and
dies with an undefined symbol (measured). Here the key is a digest of sdist, fix-ups, torch with local label, NumPy,
CUDA, archs, Python tag, glibc, compiler and flags; a wheel enters only with the proof that it loaded and its ops ran.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
from pathlib import Path

import msgspec

from mmdoctor import rules
from mmdoctor.model import CachedWheel, Value

PROOF = "proof.json"


class BuildKey(Value, frozen=True, kw_only=True):
    """Everything that a compiled wheel depends on. `torch` and `numpy` are empty where the binary uses neither."""

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

    def serves(self, wanted: BuildKey) -> bool:
        """Whether a wheel of this key runs where one of `wanted` would: it may come from another compiler or from an
        older glibc, not from another torch, NumPy, CUDA or Python."""
        bound = ("package", "version", "torch", "numpy", "cuda", "archs", "python_tag")
        same = all(getattr(self, name) == getattr(wanted, name) for name in bound)
        return same and rules.order(self.glibc) <= rules.order(wanted.glibc)


class Proof(Value, frozen=True, kw_only=True):
    """Lies beside each cached wheel: what it was built from, for what, and what was seen to work."""

    schema_version: str = "1"
    key: BuildKey
    wheel: str
    wheel_sha256: str
    minutes: float
    shown: tuple[str, ...]


def cache_folder() -> Path:
    """`$MMDOCTOR_CACHE`, else the platform's cache folder for mmdoctor."""
    chosen = os.environ.get("MMDOCTOR_CACHE")
    if chosen:
        return Path(chosen)
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "mmdoctor"
    if os.name == "nt":
        return Path(os.environ.get("LOCALAPPDATA", str(Path.home()))) / "mmdoctor" / "Cache"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mmdoctor"


def sha256_of(path: Path) -> str:
    """The sha256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def proofs(folder: Path) -> tuple[tuple[Path, Proof], ...]:
    """Every wheel of a cache with its proof, by name; an entry whose proof does not read is left out."""
    found = []
    for path in sorted(folder.glob(f"*/*/{PROOF}")):
        try:
            proof = msgspec.json.decode(path.read_bytes(), type=Proof)
        except (OSError, msgspec.DecodeError):
            continue  # a half-written or foreign entry is no proof
        wheel = path.parent / proof.wheel
        if wheel.exists():
            found.append((wheel, proof))
    return tuple(found)


def cached_wheels(folder: Path) -> tuple[CachedWheel, ...]:
    """The cache as facts for the resolver."""
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
    )


def admit(folder: Path, wheel: Path, key: BuildKey, minutes: float, shown: tuple[str, ...]) -> Path:
    """Put a proven wheel into the cache, whole or not at all; returns where it lies."""
    place = folder / f"{key.package}-{key.version}" / key.digest
    if (place / PROOF).exists():
        return place / wheel.name
    draft = place.with_name(place.name + f".{os.getpid()}")
    draft.mkdir(parents=True)
    shutil.copy2(wheel, draft / wheel.name)
    proof = Proof(key=key, wheel=wheel.name, wheel_sha256=sha256_of(wheel), minutes=minutes, shown=shown)
    (draft / PROOF).write_bytes(msgspec.json.format(msgspec.json.encode(proof), indent=1))
    if place.exists():
        shutil.rmtree(place)
    draft.rename(place)
    return place / wheel.name
