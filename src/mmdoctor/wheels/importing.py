"""Takes wheels from a folder that `wheels export` made, or its address, into a cache: those whose proofs hold.

Proofs are no signatures. The name of an entry binds its key, the proof the wheel's hash; who imports trusts the one who
made the folder, and the way it came.
"""

from __future__ import annotations

import hashlib
import re
import time
import zipfile
from collections.abc import Generator, Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from http.client import HTTPException
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Callable, NamedTuple, Optional
from urllib.error import HTTPError
from urllib.parse import quote, unquote, urlsplit

import msgspec
from msgspec.structs import replace
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename
from packaging.version import InvalidVersion, Version

from mmdoctor import rules
from mmdoctor.errors import ApplyError, TryAgainError, UsageError
from mmdoctor.model import Imported, RefusedWheel, Target, Value
from mmdoctor.probes.elf import CUDA_SECTION, Elf, ElfProblem
from mmdoctor.probes.fatbin import device_code
from mmdoctor.probes.indexes import IndexConfig, open_url, redact, why_not
from mmdoctor.wheels.cache import (
    PROOF,
    PROOF_VERSION,
    BuildKey,
    Proof,
    decode_proof,
    draft,
    entries,
    proofs,
    sound,
    stamp,
    store,
    written,
)
from mmdoctor.wheels.exporting import PAGE
from mmdoctor.wheels.fetch import links
from mmdoctor.wheels.proof import BINARY, COMPILED, prove, wanted_archs

PAGE_BYTES = 16_000_000
PROOF_BYTES = 1_000_000
SILENCE_SECONDS = 30.0
ENTRY = re.compile(r"(?:^|/)([^/]+/[0-9a-f]{16})/proof\.json$")


class _RefusedError(Exception):
    """Why an entry is not imported."""


class Place(NamedTuple):
    """Where wheels are imported from: its entries with the address of each, and how a file there is opened."""

    entries: dict[str, str]
    open: Callable[[str], AbstractContextManager[IO[bytes]]]


def import_wheels(
    source: str, cache: Path, config: IndexConfig, target: Optional[Target] = None, *, dry_run: bool = False
) -> Imported:
    """Take the wheels of an exported folder (a path, or an address of http, https or file) into a cache.

    An entry is refused, with the reason, unless its proof reads, is the one that it was filed under, names this very
    wheel by hash, and the wheel holds what the key says (name, version, Python, CUDA code). Those that are for the
    `target`'s Python, torch and NumPy are proven anew there. Raises UsageError where `source` is no such folder,
    TryAgainError where it does not answer, RefusedError where the cache cannot be written.
    """
    place = place_of(source, config)
    origin = f"{redact(source) if '://' in source else Path(source).absolute()} on {stamp(time.time())[:10]}"
    have = {proof.key.entry for wheel, proof in proofs(cache) if sound(wheel, proof)}
    added, there, refused, anew = [], [], [], []
    with ExitStack() as stack:
        room = Path(stack.enter_context(TemporaryDirectory(prefix="mmdoctor-"))) if dry_run else cache
        for entry, address in sorted(place.entries.items()):
            try:
                proof = read_proof(entry, _whole(place, f"{address}/{PROOF}"))
                if entry in have:
                    there.append(entry)
                    continue
                with written(room), draft(room) as made:
                    _fetch(place, address, proof, made)
                    _look_inside(made / proof.wheel, proof.key)
                    if target is not None and is_for(proof.key, target):
                        proof = replace(proof, proven=prove(made / proof.wheel, proof.key, target))
                        anew.append(entry)
                    if not dry_run:
                        store(cache, made, replace(proof, origin=origin))
                added.append(entry)
            except _RefusedError as bad:
                refused.append(RefusedWheel(entry=entry, why=str(bad)))
            except ApplyError as error:
                refused.append(RefusedWheel(entry=entry, why=error.what))
    return Imported(
        source=source,
        folder=str(cache),
        done=not dry_run,
        added=tuple(added),
        proven=tuple(anew),
        there=tuple(there),
        refused=tuple(refused),
    )


def place_of(source: str, config: IndexConfig) -> Place:
    """The entries of an exported folder. Raises UsageError, TryAgainError."""
    parts = urlsplit(source)
    if parts.scheme in ("http", "https"):
        page = source if source.endswith(".html") else f"{source.rstrip('/')}/{PAGE}"
        try:
            with _closed(), open_url(page, config, seconds=SILENCE_SECONDS) as answer:
                text = answer.read(PAGE_BYTES).decode("utf-8", "replace")
        except (OSError, ValueError, HTTPException) as error:
            what = f"{redact(page)} cannot be read: {why_not(page, config, error)}"
            hint = "is it the address of a folder that `mmdoctor wheels export` made?"
            raise TryAgainError(what, hint=hint) from error
        proofs_there = [address for _, address in links(text, page)]
        found = {m[1]: a.rpartition("/")[0] for a in proofs_there if (m := ENTRY.search(unquote(urlsplit(a).path)))}
        place = Place(found, lambda address: open_url(address, config, seconds=SILENCE_SECONDS))
    else:
        folder = Path(unquote(parts.path)) if parts.scheme == "file" else Path(source)
        found = {f"{path.parent.name}/{path.name}": str(path) for path in entries(folder)}
        place = Place(found, _opened)
        if not folder.is_dir():
            raise UsageError(f"there is no folder {folder}", hint="name one that `mmdoctor wheels export` made")
    if not place.entries:
        what = f"{redact(source)} holds no wheel with a proof"
        raise UsageError(what, hint="name a folder that `mmdoctor wheels export` made, or its address")
    return place


def read_proof(entry: str, content: bytes) -> Proof:
    """The proof of an entry, which must be the one that it was filed under and name a wheel that fits it."""
    try:
        version = msgspec.json.decode(content, type=_Versioned).schema_version
        if version != PROOF_VERSION:
            raise _RefusedError(f"its proof is of version {version}, and this mmdoctor reads {PROOF_VERSION}")
        proof = decode_proof(content)
    except msgspec.DecodeError as error:
        raise _RefusedError(f"its proof does not read: {error}") from error
    key = proof.key
    if key.entry != entry:
        raise _RefusedError(f"its proof was changed: the key in it belongs to {key.entry}")
    try:
        name, release, _, tags = parse_wheel_filename(proof.wheel)
        fits = name == canonicalize_name(key.package) and release == Version(key.version)
    except (InvalidWheelFilename, InvalidVersion) as error:
        raise _RefusedError(f"its proof names {proof.wheel!r}, which is no wheel: {error}") from error
    if not fits or not {key.python_tag, "py3"} & {tag.interpreter for tag in tags}:
        raise _RefusedError(f"its proof is for {key.package} {key.version}, {key.python_tag}, and names {proof.wheel}")
    return proof


class _Versioned(Value, frozen=True, kw_only=True):
    schema_version: str


def _fetch(place: Place, address: str, proof: Proof, into: Path) -> None:
    """Copy the wheel of an entry into a draft; it must be the proven one."""
    digest = hashlib.sha256()
    file = f"{address}/{quote(proof.wheel) if '://' in address else proof.wheel}"
    with (into / proof.wheel).open("wb") as out, closing(_blocks(place, file)) as blocks:
        for block in blocks:
            digest.update(block)
            out.write(block)
    if digest.hexdigest() != proof.wheel_sha256:
        what = f"{proof.wheel} is not the file that was proven: its sha256 is {digest.hexdigest()[:16]}…"
        raise _RefusedError(f"{what}, its proof says {proof.wheel_sha256[:16]}…")


def is_for(key: BuildKey, target: Target) -> bool:
    """Whether a wheel of this key is for the target's Python and the torch or NumPy there."""
    beside = target.torch.version if target.torch else None
    same = key.torch in ("", beside) and key.numpy in ("", target.version("numpy"))
    return same and key.python_tag == "cp" + rules.minor(target.python).replace(".", "")


def _look_inside(wheel: Path, key: BuildKey) -> None:
    """What a wheel shows without the torch that it is for: an archive of this name and version, compiled, with the CUDA
    code that its key promises."""
    asked, _ = wanted_archs(key.archs)
    archs: set[str] = set()
    try:
        with zipfile.ZipFile(wheel) as archive, TemporaryDirectory(prefix="mmdoctor-") as folder:
            info = f"{key.package.replace('-', '_')}-{key.version}.dist-info/METADATA"
            compiled = [name for name in archive.namelist() if COMPILED.fullmatch(Path(name).name)]
            if info not in archive.namelist():
                raise _RefusedError(f"{wheel.name} has no {info}")
            if not compiled and rules.module_of(key.package) in BINARY:
                raise _RefusedError(f"{wheel.name} holds no compiled module")
            for name in compiled if asked else ():
                with Elf(Path(archive.extract(name, folder))) as elf:
                    archs.update(device_code(elf.section(CUDA_SECTION)).archs)
    except (OSError, zipfile.BadZipFile) as error:
        raise _RefusedError(f"{wheel.name} is no whole wheel: {error}") from error
    except ElfProblem as problem:
        raise _RefusedError(f"{wheel.name} holds a compiled module that is {problem.kind}") from problem
    if asked - archs:
        lost, held = (", ".join(sorted(found, key=rules.order)) or "none" for found in (asked - archs, archs))
        raise _RefusedError(f"{wheel.name} holds no CUDA code for {lost}, as its proof says; it holds {held}")


def _opened(path: str) -> AbstractContextManager[IO[bytes]]:
    return Path(path).open("rb")


def _whole(place: Place, file: str) -> bytes:
    content = b""
    with closing(_blocks(place, file)) as blocks:
        for block in blocks:
            content += block
            if len(content) > PROOF_BYTES:
                raise _RefusedError(f"its proof is longer than {PROOF_BYTES / 1e6:g} MB")
    return content


def _blocks(place: Place, file: str) -> Generator[bytes, None, None]:
    try:
        with _closed(), place.open(file) as stream:
            while block := stream.read(1 << 20):
                yield block
    except (OSError, ValueError, HTTPException) as error:
        raise _RefusedError(f"{redact(file)} cannot be read: {error}") from error


@contextmanager
def _closed() -> Iterator[None]:
    """An answer such as 404 is an error that holds its connection."""
    try:
        yield
    except HTTPError as error:
        error.close()
        raise
