"""Pages of package indexes: fetched with the user's own configuration, read as files, refused where they are no index.

PyPI's JSON (PEP 691, PEP 700), its HTML (PEP 503, PEP 592, PEP 714) and plain lists of links, as the wheel indexes of
torch and openmmlab are. A page that cannot be read is a value with its reason, so that what others say stands.
"""

from __future__ import annotations

import gzip
import time
import zlib
from html.parser import HTMLParser
from http.client import HTTPException
from pathlib import Path
from typing import Any, Optional, Union
from urllib.error import HTTPError, URLError
from urllib.parse import unquote, urljoin, urlsplit

import msgspec

from mmdoctor.model import Value
from mmdoctor.probes.indexes import IndexConfig, open_url, why_not

JSON = "application/vnd.pypi.simple.v1+json"
ACCEPT = f"{JSON}, application/vnd.pypi.simple.v1+html;q=0.2, text/html;q=0.1"
SILENCE_SECONDS = 15.0
PAGE_SECONDS = 60.0
PAGE_BYTES = 64 << 20  # numpy's page is 1.5 MB; PyPI's root, the largest there is, 40
CHUNK = 1 << 16
NOT_FOUND = 404


class File(Value, frozen=True, kw_only=True):
    """One file of a page. `yanked` is the reason, maybe empty; `metadata`: its METADATA lies beside it (PEP 658)."""

    name: str
    url: str
    sha256: Optional[str] = None
    yanked: Optional[str] = None
    requires_python: Optional[str] = None
    metadata: bool = False


class Page(Value, frozen=True, kw_only=True):
    """What an index lists. `said` is why there is nothing to go by, None for a page that was read; `absent`: the index
    answered, and has no such page; `silent`: nobody answered."""

    url: str
    files: tuple[File, ...] = ()
    said: Optional[str] = None
    absent: bool = False
    silent: bool = False


class _JsonFile(msgspec.Struct):
    filename: str
    url: str
    hashes: dict[str, str] = {}
    requires_python: Optional[str] = msgspec.field(name="requires-python", default=None)
    yanked: Union[bool, str] = False
    core_metadata: Union[bool, dict[str, str]] = msgspec.field(name="core-metadata", default=False)


class _JsonPage(msgspec.Struct):
    files: list[_JsonFile]


# Made here and not where it is used: two threads that learn one type at once die of it (msgspec 0.22, measured).
_decode_page = msgspec.json.Decoder(_JsonPage).decode


class _Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[dict[str, str]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, Optional[str]]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "a" and given.get("href"):
            self.found.append(given)


def read_page(url: str, config: IndexConfig, *, offline: bool = False) -> Page:
    """The page at an address, or why there is none. With `offline` only local folders are read."""
    if offline and not url.startswith("file:"):
        return Page(url=url, said="--offline")
    try:
        urlsplit(url)
        body, kind, final = _fetch(url, config)
        files = _json(body, final) if "json" in kind else _html(body, final)
    except _NotThereError:
        return Page(url=url, said="there is no such page", absent=True)
    except _RefusedError as error:
        return Page(url=url, said=str(error), silent=isinstance(error, _SilentError))
    except ValueError as error:
        return Page(url=url, said=f"not an address, or a link on its page is none: {error}")
    if not files:
        return Page(url=url, said="it lists no file")
    return Page(url=url, files=files)


class _RefusedError(Exception):
    """Why a page cannot be gone by; never leaves this module."""


class _NotThereError(_RefusedError):
    pass


class _SilentError(_RefusedError):
    pass


def _fetch(url: str, config: IndexConfig) -> tuple[bytes, str, str]:
    """(body, content type, address after redirects)."""
    if url.startswith("file:"):
        return _local(Path(unquote(urlsplit(url).path))), "", url
    end = time.monotonic() + PAGE_SECONDS
    headers = {"Accept": ACCEPT, "Accept-Encoding": "gzip"}
    try:
        with open_url(url, config, headers, config.timeout or SILENCE_SECONDS) as answer:
            body = bytearray()
            while chunk := answer.read(CHUNK):
                body += chunk
                if time.monotonic() > end or len(body) > PAGE_BYTES:
                    raise _RefusedError(f"it does not end within {PAGE_SECONDS:.0f} s and {PAGE_BYTES >> 20} MB")
            told: Any = answer  # an answer over HTTP: with headers and its final address
            length = told.headers.get("Content-Length")
            if length and int(length) != len(body):
                raise _RefusedError(f"it is cut off: {len(body)} of {length} bytes")
            whole = gzip.decompress(body) if told.headers.get("Content-Encoding") == "gzip" else bytes(body)
            return whole, told.headers.get("Content-Type", ""), told.geturl()
    except HTTPError as error:
        error.close()
        raise (_NotThereError() if error.code == NOT_FOUND else _RefusedError(why_not(url, config, error))) from error
    except (gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise _RefusedError("its compressed text is broken") from error
    except URLError as error:
        raise _SilentError(why_not(url, config, error)) from error
    except (OSError, HTTPException, ValueError) as error:
        raise _RefusedError(why_not(url, config, error)) from error


def _local(path: Path) -> bytes:
    page = path / "index.html" if path.is_dir() else path
    try:
        return page.read_bytes()
    except FileNotFoundError:
        raise _NotThereError from None
    except OSError as error:
        raise _RefusedError(f"it cannot be read: {error.strerror}") from error


def _json(body: bytes, base: str) -> tuple[File, ...]:
    try:
        page = _decode_page(body)
    except msgspec.DecodeError as error:
        raise _RefusedError(f"its JSON is broken: {error}") from error
    return tuple(
        File(
            name=file.filename,
            url=urljoin(base, file.url),
            sha256=file.hashes.get("sha256"),
            yanked=None if file.yanked is False else "" if file.yanked is True else file.yanked,
            requires_python=file.requires_python,
            metadata=bool(file.core_metadata),
        )
        for file in page.files
    )


def _html(body: bytes, base: str) -> tuple[File, ...]:
    parser = _Links()
    parser.feed(body.decode("utf-8", "replace"))
    return tuple(file for link in parser.found if (file := _file(link, base)) is not None)


def _file(link: dict[str, str], base: str) -> Optional[File]:
    """The file that a link leads to; None for a link to anything else (a parent folder, a page's navigation)."""
    parts = urlsplit(urljoin(base, link["href"]))
    name = unquote(parts.path.rsplit("/", 1)[-1])
    if not name.endswith((".whl", ".tar.gz", ".zip")):
        return None
    kind, _, digest = parts.fragment.partition("=")
    beside = link.get("data-core-metadata", link.get("data-dist-info-metadata"))
    return File(
        name=name,
        url=parts._replace(fragment="").geturl(),
        sha256=digest if kind == "sha256" else None,
        yanked=link.get("data-yanked"),
        requires_python=link.get("data-requires-python") or None,
        metadata=beside is not None and beside != "false",
    )
