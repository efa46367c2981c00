"""What the places that the user named for pip or uv offer of mmcv: find-links pages and folders, further indexes.

mmcv's file names do not say what torch they were compiled for, and an installer takes any whose tags fit. What is known
besides is looked at here; `candidates.sources` judges it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple, Optional
from urllib.parse import unquote, urljoin, urlsplit

import msgspec
from msgspec.structs import replace
from packaging.utils import InvalidWheelFilename, parse_wheel_filename

from mmdoctor.model import Index, OfferedWheel, Unknown
from mmdoctor.probes.indexes import LATE, IndexConfig, at_once, open_url, redact, why_not
from mmdoctor.wheels.cache import DIGEST, PROOF, Proof, decode_proof, sha256_of
from mmdoctor.wheels.fetch import links

PACKAGES = ("mmcv", "mmcv-full", "onedl-mmcv")
PAGE_BYTES = 4_000_000
# `2.1.0+torch2.6.0.cu124`, `2.1.0+cu124torch2.6`; what has no dot (`pt26`, `pt210`) may be read in two ways and is not.
TORCH_IN_LABEL = re.compile(r"(?:torch|pt)(\d+\.\d+(?:\.\d+)*)")
VARIANT_IN_LABEL = re.compile(r"(?<![a-z])(cu\d{2,3}|cpu)(?!\d)")
# The folders of OpenMMLab's index (`cu121/torch2.1.0`) and of OneDL's (`cu128-torch280`), or of somebody's mirror.
FOLDERS = re.compile(
    r"/(?P<variant>cpu|cu\d{2,3})(?:/torch(?P<torch>\d+\.\d+)(?:\.\d+)?|-torch(?P<digits>\d{3,4}))(?=/|$)"
)
# An entry of a wheel cache, and its file.
ENTRY = re.compile(r"/([^/]+/[0-9a-f]{16})/[^/]+$")


class Place(NamedTuple):
    kind: Literal["find-links", "extra-index"]
    url: str
    pages: tuple[str, ...]


def places(config: IndexConfig) -> tuple[Place, ...]:
    """The user's own places, as uv will use them: what uv was told wins over what pip was told."""
    told = config.uv.get("UV_FIND_LINKS")
    found = [Place("find-links", url, (url,)) for url in (told.split(",") if told else config.find_links) if url]
    told = config.uv.get("UV_INDEX") or config.uv.get("UV_EXTRA_INDEX_URL")
    extra = [re.sub(r"^[\w.-]+=(?=\w+:)", "", url) for url in told.split()] if told else config.extra_index_urls
    for url in () if config.no_index else extra:
        pages = tuple(f"{url.rstrip('/')}/{package}/" for package in PACKAGES)
        found.append(Place("extra-index", url, pages))
    return tuple(found)


def probe_offers(config: IndexConfig, *, offline: bool) -> tuple[Index, ...]:
    """What each place offers of mmcv, asked at once; 5 s at most. Folders are looked at with `offline` too."""
    asked = places(config)
    found = at_once({place: partial(_look, place, config, offline) for place in asked})

    def late(place: Place) -> Index:
        return Index(name=place.kind, url=redact(place.url), reachable=False, reason=LATE)

    return tuple(found.get(place) or late(place) for place in asked)


def _look(place: Place, config: IndexConfig, offline: bool) -> Index:
    index = Index(name=place.kind, url=redact(place.url), reachable=True)
    wheels: list[OfferedWheel] = []
    for page in place.pages:
        folder = _folder(page)
        if folder is None and offline:
            return replace(index, reachable=Unknown(unknown="--offline"))
        try:
            wheels += _on_disk(place, folder) if folder is not None else _on_page(_read(page, config), page, config)
        except (OSError, ValueError) as error:
            if place.kind == "extra-index" and getattr(error, "code", None) in (403, 404):
                continue  # an index that does not hold this project says so in this way
            return replace(index, reachable=False, reason=why_not(page, config, error))
    return replace(index, wheels=tuple(wheels))


def _read(page: str, config: IndexConfig) -> str:
    with open_url(page, config) as answer:
        return answer.read(PAGE_BYTES).decode("utf-8", "replace")


def _on_disk(place: Place, path: Path) -> Iterator[OfferedWheel]:
    """A folder of wheels, a page, or a project of an index, which is a folder with a page (PEP 503)."""
    if place.kind == "extra-index":
        if not path.exists() and path.parent.is_dir():
            return  # an index that does not hold this project
        path /= "index.html"
    if path.is_dir():
        yield from _in_folder(path)
    else:
        yield from _on_page(path.read_text(encoding="utf-8"), path.absolute().as_uri(), None)


def _folder(page: str) -> Optional[Path]:
    parts = urlsplit(page)
    if parts.scheme == "file":
        return Path(unquote(parts.path))
    return None if parts.scheme in ("http", "https") else Path(page)


def _on_page(text: str, base: str, config: Optional[IndexConfig]) -> Iterator[OfferedWheel]:
    """The wheels of a page; without `config` no network is asked for their proofs."""
    for file, address in links(text, base):
        wheel = _wheel(file, address, urljoin(base, "."))
        if wheel is not None:
            path = _folder(address)
            if path is not None:
                yield _proven(wheel, _proof_of(path))
            else:
                yield _proven(wheel, _proof_at(address, file, config) if config is not None else None)


def _in_folder(folder: Path) -> Iterator[OfferedWheel]:
    for path in sorted(folder.glob("*.whl")):
        wheel = _wheel(path.name, path.absolute().as_uri(), "")
        if wheel is not None:
            yield _proven(wheel, _proof_of(path))


def _proven(wheel: OfferedWheel, proof: Optional[Proof]) -> OfferedWheel:
    if proof is None:
        return wheel
    return replace(wheel, torch=proof.key.torch, archs=proof.key.archs, says="its proof")


def _proof_of(wheel: Path) -> Optional[Proof]:
    """What mmdoctor's cache says of the very file that lies beside it; None for any other."""
    try:
        proof = decode_proof((wheel.parent / PROOF).read_bytes())
    except (OSError, msgspec.DecodeError):
        return None
    filed = wheel.parent.name
    if DIGEST.fullmatch(filed) and filed != proof.key.digest:  # an entry whose proof was changed
        return None
    return proof if proof.wheel == wheel.name and proof.wheel_sha256 == sha256_of(wheel) else None


def _proof_at(address: str, file: str, config: IndexConfig) -> Optional[Proof]:
    """The same in a folder that `wheels export` made and a web server shows. The link's hash stands for the file, since
    an installer holds the one against the other."""
    parts = urlsplit(address)
    entry = ENTRY.search(unquote(parts.path))
    if entry is None:
        return None
    try:
        proof = decode_proof(_read(urljoin(address, PROOF), config))
    except (OSError, ValueError):  # a DecodeError is one
        return None
    same = (proof.wheel, f"sha256={proof.wheel_sha256}", proof.key.entry) == (file, parts.fragment, entry[1])
    return proof if same else None


def _wheel(file: str, *addresses: str) -> Optional[OfferedWheel]:
    try:
        name, version, _, tags = parse_wheel_filename(file)
    except InvalidWheelFilename:
        return None
    if name not in PACKAGES:
        return None
    wheel = OfferedWheel(
        name=name,
        version=str(version),
        file=file,
        python_tag=next(iter(sorted(tag.interpreter for tag in tags))),
        platforms=tuple(sorted(tag.platform for tag in tags)),
    )
    label = str(version.local or "")
    torch, variant = TORCH_IN_LABEL.search(label), VARIANT_IN_LABEL.search(label)
    if torch and variant:
        build = f"{torch[1]}+{variant[1]}"
        return replace(wheel, torch=build, says="its label")
    for address in addresses:
        folders = FOLDERS.search(unquote(urlsplit(address).path))
        if folders:
            digits = folders["digits"]
            release = folders["torch"] or f"{digits[0]}.{digits[1:-1]}"
            return replace(wheel, torch=f"{release}+{folders['variant']}", says="its address")
    return wheel
