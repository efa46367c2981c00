"""What the files of a page are: releases, and the wheels of each by platform, Python and local label. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import cache
from typing import NamedTuple, Optional, Union

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.tags import Tag
from packaging.utils import (
    InvalidSdistFilename,
    InvalidWheelFilename,
    canonicalize_name,
    parse_sdist_filename,
    parse_wheel_filename,
)
from packaging.version import InvalidVersion, Version

from mmdoctor import rules
from mmdoctor.matrix_model import BinaryRow, Matrix, MmcvRow, NumpyRow, OpenmmlabRow, TorchRow
from mmdoctor.refresh.pages import File, Page

# The field of a row that lists the Pythons of a platform's wheels, by what the platform tag ends with.
FIELDS = {
    "python": r"(manylinux|linux)\w*_x86_64",
    "python_aarch64": r"(manylinux|linux)\w*_aarch64",
    "python_windows": r"win_amd64",
    "python_macos_arm64": r"macosx\w*_(arm64|universal2)",
    "python_macos_x86_64": r"macosx\w*_(x86_64|universal2)",
}
GLIBC = re.compile(r"manylinux_(\d+)_(\d+)_")
LEGACY = {"manylinux1": "2.5", "manylinux2010": "2.12", "manylinux2014": "2.17"}  # PEP 513, 571, 599
# One file in ten may be gone before a page is taken for a part of itself.
MAY_MISS = 0.1
Fact = tuple[str, str, str]  # release, field of the row, Python; or release and nothing
Release = Union[TorchRow, NumpyRow, MmcvRow, OpenmmlabRow, BinaryRow]


class Wheel(NamedTuple):
    """One wheel: the release without its label, the label (`cu121`), and for which fields of a row it counts."""

    release: str
    label: str
    fields: tuple[str, ...]
    pythons: tuple[str, ...]
    glibc: Optional[str]
    file: File


class Listing(NamedTuple):
    """A page of one package: its files by release, and its wheels. `url` is the page's address."""

    url: str
    files: dict[str, tuple[File, ...]]
    wheels: tuple[Wheel, ...]

    def of(self, release: str) -> tuple[Wheel, ...]:
        """The wheels of a release."""
        return tuple(wheel for wheel in self.wheels if wheel.release == release)

    def pythons(self, release: str, field: str) -> tuple[str, ...]:
        """The CPython minors that have a wheel of a release, for a field of a row."""
        found = {python for wheel in self.of(release) if field in wheel.fields for python in wheel.pythons}
        return tuple(sorted(found, key=rules.order))

    def glibc(self, release: str) -> Optional[str]:
        """The oldest C library that a Linux x86_64 wheel of a release promises to run on, manylinux2014's at least."""
        floors = {wheel.glibc for wheel in self.of(release) if "python" in wheel.fields and wheel.glibc}
        lowest = min(floors, key=rules.order, default=None)
        return rules.newest((lowest, LEGACY["manylinux2014"])) if lowest else None

    def withdrawn(self, release: str) -> Optional[str]:
        """Why a release is no longer handed out; None for one that is."""
        files = self.files.get(release, ())
        if not files:
            return "no file of it is left on the index"
        reasons = {file.yanked for file in files}
        if None in reasons:
            return None
        said = "; ".join(sorted(filter(None, reasons)))
        return f"yanked: {said}" if said else "yanked"

    def fresh(self, known: Iterable[str]) -> tuple[str, ...]:
        """Final releases, not yanked, that are newer than the oldest of the known ones and none of them."""
        listed = set(known)
        oldest = min(map(rules.order, listed), default=None)
        newer = (r for r in self.files if oldest is not None and rules.order(r) > oldest)
        found = [r for r in newer if r not in listed and not self.withdrawn(r)]
        return tuple(sorted((r for r in found if not Version(r).is_prerelease), key=rules.order))

    def sdist_sha256(self, release: str) -> Optional[str]:
        """The sum of a release's sdist, as the index states it."""
        return next((file.sha256 for file in self.files.get(release, ()) if file.name.endswith(".tar.gz")), None)


def listing(page: Page, package: str, pythons: Iterable[str]) -> Listing:
    """The page's files of `package`; `pythons` are the CPython minors that a wheel for the stable ABI is counted for.

    Files that are no wheel or sdist (eggs, installers) or have no PEP 440 version are left out.
    """
    files: dict[str, list[File]] = {}
    wheels: list[Wheel] = []
    for file in page.files:
        named = _named(file.name)
        if named is None or named[0] != canonicalize_name(package):
            continue
        _, version, tags = named
        files.setdefault(version.public, []).append(file)
        wheels += _wheels(file, version, tags, tuple(pythons))
    return Listing(page.url, {release: tuple(found) for release, found in files.items()}, tuple(wheels))


def _named(name: str) -> Optional[tuple[str, Version, frozenset[Tag]]]:
    """Package, version and tags (none of an sdist) that a file's name says; None of any other file."""
    try:
        if name.endswith(".whl"):
            package, version, _, tags = parse_wheel_filename(name)
            return package, version, tags
        return (*parse_sdist_filename(name), frozenset())
    except (InvalidWheelFilename, InvalidSdistFilename, InvalidVersion):
        return None


def _wheels(file: File, version: Version, tags: frozenset[Tag], pythons: tuple[str, ...]) -> Iterator[Wheel]:
    platforms = {tag.platform for tag in tags}
    fields = tuple(f for f, tag in FIELDS.items() if any(p == "any" or re.fullmatch(tag, p) for p in platforms))
    found = {python for tag in tags for python in _tagged(tag.interpreter, tag.abi, pythons)}
    if fields and found:
        allowed = tuple(sorted((p for p in found if _allows(file.requires_python, p)), key=rules.order))
        floors = [floor for platform in platforms for floor in _glibc(platform)]
        glibc = min(floors, key=rules.order, default=None)
        yield Wheel(version.public, version.local or "", fields, allowed, glibc, file)


def _tagged(interpreter: str, abi: str, pythons: tuple[str, ...]) -> Iterator[str]:
    """The CPython minors that take a tag. Builds without the global lock (`cp313t`) are another interpreter."""
    if re.fullmatch(r"py3|py2\.py3", interpreter) and abi == "none":
        yield from pythons
    found = re.fullmatch(r"cp3(\d+)", interpreter)
    if not found:
        return
    own = f"3.{found[1]}"
    if abi == "abi3":
        yield from (python for python in pythons if rules.order(python) >= rules.order(own))
    elif abi in (f"cp3{found[1]}", f"cp3{found[1]}m", "none"):
        yield own


@cache
def _allows(specifier: Optional[str], python: str) -> bool:
    try:
        # A bound such as >=3.9.1 is no bound on the minor.
        return specifier is None or any(SpecifierSet(specifier).contains(f"{python}.{n}") for n in (0, 30))
    except InvalidSpecifier:
        return True


def _glibc(platform: str) -> Iterator[str]:
    found = GLIBC.match(platform)
    if found:
        yield f"{found[1]}.{found[2]}"
    elif platform.partition("_")[0] in LEGACY:
        yield LEGACY[platform.partition("_")[0]]


def known_pythons(matrix: Matrix) -> tuple[str, ...]:
    """The CPython minors that the matrix knows of."""
    listed = (*(row.python for row in matrix.torch), *(row.python for row in matrix.binaries))
    return tuple(sorted({python for pythons in listed for python in pythons}, key=rules.order))


def known_facts(rows: Iterable[Release]) -> set[Fact]:
    """What rows of a table say of one page: their releases, and the Pythons that have a wheel."""
    facts: set[Fact] = set()
    for row in rows:
        release = release_of(row)
        facts.add((release, "", ""))
        fields = FIELDS if isinstance(row, (TorchRow, BinaryRow)) else ("python",) if isinstance(row, NumpyRow) else ()
        facts |= {(release, field, python) for field in fields for python in getattr(row, field)}
    return facts


def release_of(row: Release) -> str:
    """The release that a row stands for."""
    return row.release if isinstance(row, TorchRow) else row.last if isinstance(row, NumpyRow) else row.version


def holds(seen: Listing, fact: Fact) -> bool:
    """Whether a page says so too."""
    release, field, python = fact
    return python in seen.pythons(release, field) if field else release in seen.files


def too_short(seen: Listing, facts: set[Fact]) -> Optional[str]:
    """Why a page is taken for a part of what it should be (a small mirror, a cut-off or filtered page); None for a
    whole one. It is held against what the matrix knows: one fact in ten may be gone."""
    for kind in (True, False):
        expected = {fact for fact in facts if bool(fact[1]) is kind}
        found = sum(holds(seen, fact) for fact in expected)
        if len(expected) - found > MAY_MISS * len(expected):
            what = "wheels" if kind else "releases"
            return f"it has {found} of the {len(expected)} {what} that the matrix knows of: too short to go by"
    return None
