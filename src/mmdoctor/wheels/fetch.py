"""Fetches an sdist by name and hash from the user's own indexes, and runs none of its code.

`pip download` of an sdist executes its setup.py for the metadata, before any fix-up could be applied to it; so the
file's address is read from the index's page (PEP 503) instead.
"""

from __future__ import annotations

from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Optional
from urllib.parse import unquote, urljoin, urlsplit

from mmdoctor.errors import ApplyError, TryAgainError
from mmdoctor.probes.indexes import IndexConfig, open_url, redact
from mmdoctor.wheels.cache import sha256_of


class _Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, Optional[str]]]) -> None:
        if tag == "a":
            self.found += [value for name, value in attrs if name == "href" and value]


def links(page: str, base: str) -> Iterator[tuple[str, str]]:
    """(file name, absolute address) of every link on an index's page."""
    parser = _Links()
    parser.feed(page)
    for link in parser.found:
        address = urljoin(base, link)
        yield unquote(urlsplit(address).path.rsplit("/", 1)[-1]), address


def fetch_sdist(
    config: IndexConfig, package: str, version: str, sha256: Optional[str], into: Path, *, offline: bool
) -> Path:
    """The sdist `package`-`version`, kept in `into`; taken from there when it is there already.

    ApplyError when what an index hands out has another sha256 than the matrix says, TryAgainError when no index has
    it or answers (with what each said).
    """
    # Newer tools write `onedl_mmcv-2.3.6.tar.gz` (PEP 625), older ones kept the hyphens of `mmcv-full-1.7.2.tar.gz`.
    names = (f"{package}-{version}.tar.gz", f"{package.replace('-', '_')}-{version}.tar.gz")
    name = next((name for name in names if (into / name).exists()), names[0])
    kept = into / name
    if kept.exists() and (sha256 is None or sha256_of(kept) == sha256):
        return kept
    if offline:
        raise TryAgainError(f"{name} is not at hand, and --offline forbids to fetch it", hint=f"put it into {into}")
    into.mkdir(parents=True, exist_ok=True)
    said = []
    for index in () if config.no_index else (config.pypi, *config.extra_index_urls):
        address = f"{index.rstrip('/')}/{package}/"
        try:
            listed = _addresses_of(config, address)
            name = next((name for name in names if name in listed), name)
            if name not in listed:
                said.append(f"{redact(address)} does not list it")
                continue
            kept, file = into / name, listed[name]
            draft = kept.with_suffix(".part")
            with open_url(file, config) as answer:
                draft.write_bytes(answer.read())
        except (OSError, ValueError) as error:
            said.append(f"{redact(address)}: {error}")
            continue
        found = sha256_of(draft)
        if sha256 is not None and found != sha256:
            draft.unlink()
            what = f"{name} from {redact(index)} has sha256 {found[:16]}…, expected {sha256[:16]}…"
            raise ApplyError(what, hint="the file is not the one that was tested; nothing was built")
        draft.replace(kept)
        return kept
    raise TryAgainError(
        f"no index gave {name}: {'; '.join(said) or 'pip is told no-index'}",
        hint="check the network and pip's configuration",
    )


def _addresses_of(config: IndexConfig, page: str) -> dict[str, str]:
    if urlsplit(page).scheme == "file":
        index = Path(unquote(urlsplit(page).path)) / "index.html"
        text = index.read_text(encoding="utf-8") if index.exists() else ""
    else:
        with open_url(page, config) as answer:
            text = answer.read().decode("utf-8", "replace")
    return dict(links(text, page))
