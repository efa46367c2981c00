"""What the indexes list, held against the matrix: the rows that would be new or other. Pure.

A refresh adds and marks; it takes nothing away. What is no longer listed, and what an index cannot tell, is said for
somebody to look at.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Any, NamedTuple, Optional, Union

from msgspec.structs import replace
from packaging.version import Version

from mmdoctor import rules
from mmdoctor.matrix_lint import row_order, source_order
from mmdoctor.matrix_model import BinaryRow, Matrix, MmcvRow, MmcvWheelRow, NumpyRow, OpenmmlabRow, Row, TorchRow
from mmdoctor.model import Unknown
from mmdoctor.refresh.listing import FIELDS, Listing, release_of
from mmdoctor.refresh.remote import BinaryInside, TorchInside

SOURCE = "R1"
SOURCE_SAYS = "pages of the package indexes, and what stands inside the wheels, read by `mmdoctor matrix refresh`"
SYSTEMS = {"linux": ("python",), "windows": ("python_windows",), "macos": ("python_macos_arm64", "python_macos_x86_64")}
API_GENERATIONS = ("1", "2")
USUAL_GLIBC = "2.17"  # of manylinux2014; a row of numpy states another one
# What stands in no index, only in the sources.
MMCV_LOOK = "torch: the releases that its source compiles against", "build_minutes_2_cores", "wheel_python"
OPENMMLAB_LOOK = (
    "mmcv, mmengine: the ranges that it asserts at import",
    "mim, requires: its requirements/*.txt",
    "needs_mmdet, needs_ops, pkg_resources: what it imports",
)


class WheelPage(NamedTuple):
    """A page of prebuilt mmcv wheels, for one variant and torch minor."""

    variant: str
    torch: str
    packages: dict[str, Listing]


class Seen(NamedTuple):
    """What was read: PyPI's pages by package, the variants on torch's index by release (None without an answer), the
    pages of mmcv wheels, and what stands inside the wheels of releases that the matrix does not know."""

    pypi: dict[str, Listing]
    variants: Optional[dict[str, tuple[str, ...]]]
    wheels: tuple[WheelPage, ...]
    torch: dict[str, Union[TorchInside, Unknown]]
    torchvision: dict[str, Union[str, Unknown, None]]  # the range of torch that it declares
    binaries: dict[tuple[str, str], Union[BinaryInside, Unknown]]


class Proposal(NamedTuple):
    """One row as it is (None: a new one) and as it would be (None: it cannot be written yet), and what is left to look
    up by hand. `url` is the page that says so."""

    table: str
    name: str
    old: Optional[Row]
    new: Optional[Row]
    look: tuple[str, ...]
    url: str


def propose(matrix: Matrix, seen: Seen) -> tuple[Proposal, ...]:
    """Every row that the indexes would have otherwise, table by table."""
    tables = (_torch, _mmcv, _mmcv_wheels, _openmmlab, _numpy, _binaries)
    found = (proposal for table in tables for proposal in table(matrix, seen))
    return tuple(p for p in found if p.look or p.old != p.new)


def followed(matrix: Matrix) -> tuple[str, ...]:
    """The packages of `binaries` that have a row for every release; others have those with which something changed."""
    return tuple(sorted({row.package for row in matrix.binaries} & rules.STACK_DISTRIBUTIONS))


def applied(matrix: Matrix, proposals: Iterable[Proposal], today: str) -> Matrix:
    """The matrix with all that can be written: rows in their order, `read_on` and the source of it; unchanged where
    there is nothing."""
    writable = [p for p in proposals if p.new is not None and p.new != p.old]
    if not writable:
        return matrix
    tables: dict[str, Any] = {}
    for table in {p.table for p in writable}:
        changed = {id(p.old): p.new for p in writable if p.table == table and p.old is not None}
        rows = [changed.get(id(row), row) for row in getattr(matrix, table)]
        rows += [p.new for p in writable if p.table == table and p.old is None]
        tables[table] = tuple(sorted(rows, key=lambda row: row_order(table, row)))
    said = f"{SOURCE_SAYS}, last on {today}"
    sources = dict(sorted({**matrix.sources, SOURCE: said}.items(), key=lambda item: source_order(item[0])))
    return replace(matrix, read_on=today, sources=sources, **tables)


# ---------------------------------------------------------------------------------------------------------- torch


def fresh_torches(matrix: Matrix, pypi: dict[str, Listing]) -> tuple[str, ...]:
    """The releases of torch that the matrix does not know."""
    return pypi["torch"].fresh(row.release for row in matrix.torch) if "torch" in pypi else ()


def fresh_torchvisions(matrix: Matrix, pypi: dict[str, Listing]) -> tuple[str, ...]:
    """The same of torchvision; with a new torch also the newest one, which may serve it too."""
    page = pypi.get("torchvision")
    if page is None:
        return ()
    known = {version for row in matrix.torch for version in row.torchvision}
    fresh = set(page.fresh(known))
    newest = rules.newest(version for version in known if not page.withdrawn(version))
    return tuple(sorted(fresh | ({newest} if newest and fresh_torches(matrix, pypi) else set()), key=rules.order))


def _pairs(matrix: Matrix, seen: Seen) -> dict[str, tuple[str, ...]]:
    """The torchvision releases that are new beside each torch, by their own metadata. One that takes a range of torch
    counts for the newest that it takes; a new torch without one of its own gets the newest that takes it."""
    known = {version for row in matrix.torch for version in row.torchvision}
    fresh = fresh_torches(matrix, seen.pypi)
    torches = [*(row.release for row in matrix.torch), *fresh]
    ranges = {version: text for version, text in seen.torchvision.items() if isinstance(text, str)}
    pairs: dict[str, tuple[str, ...]] = {}
    for version in sorted(ranges.keys() - known, key=rules.order):
        torch = rules.newest(torch for torch in torches if rules.within(torch, ranges[version]))
        if torch:
            pairs[torch] = (*pairs.get(torch, ()), version)
    for torch in fresh:
        served = rules.newest(version for version, text in ranges.items() if rules.within(torch, text))
        if served:
            pairs.setdefault(torch, (served,))
    return pairs


def _torch(matrix: Matrix, seen: Seen) -> Iterator[Proposal]:
    page, pairs = seen.pypi.get("torch"), _pairs(matrix, seen)
    for row in matrix.torch:
        fields: dict[str, Any] = {"torchvision": _joined(row.torchvision, pairs.get(row.release, ()))}
        look: list[str] = []
        if page is not None:
            fields.update(_known(row, page))
            look += _gone(row, page)
        if seen.variants is not None:
            listed = seen.variants.get(row.release, ())
            fields["variants"] = _variants(*row.variants, *listed)
            gone = [variant for variant in row.variants if variant not in listed]
            look += [f"variants: {', '.join(gone)} no longer on torch's index"] if gone else []
        name, url = f"torch {row.release}", page.url if page else ""
        yield Proposal("torch", name, row, _sourced(row, fields), tuple(look), url)
    for release in fresh_torches(matrix, seen.pypi):
        yield _new_torch(seen, release, pairs.get(release, ()))
    placed = {version for versions in pairs.values() for version in versions}
    for version, text in seen.torchvision.items():
        if version not in placed and not any(version in row.torchvision for row in matrix.torch):
            why = text.unknown if isinstance(text, Unknown) else f"it declares torch{text or ' of any version'}"
            unplaced = (f"which torch it belongs to: {why}",)
            yield Proposal("torch", f"torchvision {version}", None, None, unplaced, seen.pypi["torchvision"].url)


def _new_torch(seen: Seen, release: str, pairs: tuple[str, ...]) -> Proposal:
    page, inside = seen.pypi["torch"], seen.torch[release]
    name = f"torch {release}"
    if isinstance(inside, Unknown):
        return Proposal("torch", name, None, None, (f"its wheel cannot be read: {inside.unknown}",), page.url)
    open_fields = ("numpy", "cxx_std", "cxx11_abi", "weights_only", "glibc")
    missing = [f"{field}: its wheel does not say" for field in open_fields if getattr(inside, field) is None]
    missing += [] if pairs else ["torchvision: none that declares it"]
    own = _variants(*(f"cu{cuda.replace('.', '')}" if cuda else "cpu" for cuda in (inside.cuda, inside.cuda_aarch64)))
    pythons: dict[str, Any] = {field: page.pythons(release, field) for field in FIELDS}
    row = TorchRow(
        release=release,
        torchvision=pairs,
        **pythons,
        pypi_cuda=inside.cuda,
        pypi_cuda_aarch64=inside.cuda_aarch64,
        variants=_variants(*own, *(seen.variants or {}).get(release, ())),
        glibc=inside.glibc or "",
        numpy=inside.numpy or "2",
        cxx_std=inside.cxx_std or 0,
        cxx11_abi=bool(inside.cxx11_abi),
        weights_only=bool(inside.weights_only),
        setuptools=inside.setuptools,
        download_mb=None,
        source=(SOURCE,),
    )
    later = ["download_mb: the sizes of its wheel and of those it requires"]
    later += [f"archs: PyPI's Linux build holds machine code for {', '.join(inside.sass)}; its PTX is not in the wheel"]
    later += [] if seen.variants else [f"variants: only PyPI's own ({', '.join(own)}), torch's index did not answer"]
    return Proposal("torch", name, None, None if missing else row, (*missing, *later), page.url)


def _variants(*variants: str) -> tuple[str, ...]:
    return tuple(sorted(set(variants), key=lambda variant: int(variant[2:]) if variant != "cpu" else 0))


# ----------------------------------------------------------------------------------------------------- OpenMMLab


def _mmcv(matrix: Matrix, seen: Seen) -> Iterator[Proposal]:
    yield from _released(matrix.mmcv, "mmcv", "package", MMCV_LOOK, seen)


def _openmmlab(matrix: Matrix, seen: Seen) -> Iterator[Proposal]:
    yield from _released(matrix.openmmlab, "openmmlab", "project", OPENMMLAB_LOOK, seen)


def _released(
    rows: Iterable[Union[MmcvRow, OpenmmlabRow]], table: str, field: str, unknown: tuple[str, ...], seen: Seen
) -> Iterator[Proposal]:
    """Releases of which an index says little more than that they are there."""
    by_package: dict[str, list[Union[MmcvRow, OpenmmlabRow]]] = {}
    for row in rows:
        by_package.setdefault(getattr(row, field), []).append(row)
    for package, known in by_package.items():
        page = seen.pypi.get(package)
        if page is None:
            continue
        for row in known:
            yield Proposal(table, f"{package} {row.version}", row, _sourced(row, _known(row, page)), (), page.url)
        for release in page.fresh(row.version for row in known):
            digest = page.sdist_sha256(release) if table == "mmcv" else None
            look = (*unknown, f"sdist_sha256 is {digest}") if digest else unknown
            yield Proposal(table, f"{package} {release}", None, None, look, page.url)


def _mmcv_wheels(matrix: Matrix, seen: Seen) -> Iterator[Proposal]:
    for page in seen.wheels:
        for package, listed in page.packages.items():
            for os_name, fields in SYSTEMS.items():
                found: dict[str, tuple[str, ...]] = {}
                for wheel in listed.wheels:
                    if set(fields) & set(wheel.fields):
                        found[wheel.release] = _joined(found.get(wheel.release, ()), wheel.pythons)
                yield from _wheel_row(matrix, page, package, os_name, found, listed.url)


def _wheel_row(
    matrix: Matrix, page: WheelPage, package: Any, os_name: Any, found: dict[str, tuple[str, ...]], url: str
) -> Iterator[Proposal]:
    key = (package, os_name, page.torch, page.variant)
    same = (row for row in matrix.mmcv_wheels if (row.package, row.os, row.torch, row.variant) == key)
    old = next(same, None)
    built = {row.version: row for row in matrix.mmcv if row.package == package}
    known = {version for version in found if version in built or Version(version).is_prerelease}
    look = [f"{version} is there and has no row in mmcv" for version in sorted(found.keys() - known, key=rules.order)]
    versions, python = (old.versions, dict(old.python)) if old else ((), {})
    gone = [version for version in versions if version not in found]
    look += [f"versions: {', '.join(gone)} no longer there"] if gone else []
    for version in sorted(known, key=rules.order):
        recorded = python.get(version, ())
        assumed = recorded or (built[version].wheel_python if version in built else ())
        if recorded or assumed != found[version]:
            python[version] = _joined(recorded, found[version])
            gone = [minor for minor in recorded if minor not in found[version]]
            look += [f"python: {version} for {', '.join(gone)} no longer there"] if gone else []
    merged = _joined(versions, known)
    if not (merged or look):
        return
    ordered = {version: python[version] for version in merged if version in python}
    name = " ".join(("mmcv_wheels", *key))
    if old is not None:
        fields = {"versions": merged, "python": ordered}
        yield Proposal("mmcv_wheels", name, old, _sourced(old, fields), tuple(look), url)
        return
    new = MmcvWheelRow(
        package=package,
        os=os_name,
        variant=page.variant,
        torch=page.torch,
        versions=merged,
        python=ordered,
        source=(SOURCE,),
    )
    yield Proposal("mmcv_wheels", name, None, new if merged else None, tuple(look), url)


# -------------------------------------------------------------------------------------------- NumPy and its binaries


def _numpy(matrix: Matrix, seen: Seen) -> Iterator[Proposal]:
    page = seen.pypi.get("numpy")
    known = {row.series: row for row in matrix.numpy}
    if page is None or not known:
        return
    oldest = min(map(rules.order, known))
    final = [r for r in page.files if not Version(r).is_prerelease and not page.withdrawn(r)]
    for series, releases in groupby(sorted(final, key=rules.order), key=rules.minor):
        last = rules.newest(releases) or ""
        row, name, pythons = known.get(series), f"numpy {series}", page.pythons(last, "python")
        floor = page.glibc(last)
        fields: dict[str, Any] = {"last": last, "python": pythons, "glibc": floor if floor != USUAL_GLIBC else None}
        look: tuple[str, ...] = ()
        if row is not None:
            if row.last == last:
                fields["python"], look = _later(row.python, pythons), tuple(_gone(row, page))
            yield Proposal("numpy", name, row, _sourced(row, fields), look, page.url)
        elif rules.order(series) > oldest:
            abi = rules.numpy_generation(last)
            new = NumpyRow(series=series, abi=abi, source=(SOURCE,), **fields)  # type: ignore[arg-type]
            if abi not in API_GENERATIONS:
                look = (f"abi: a generation {abi} of NumPy's C API is not known here",)
            yield Proposal("numpy", name, None, None if look else new, look, page.url)


def _binaries(matrix: Matrix, seen: Seen) -> Iterator[Proposal]:
    for package in followed(matrix):
        page = seen.pypi.get(package)
        if page is None:
            continue
        known = [row for row in matrix.binaries if row.package == package]
        for row in known:
            fields, look = _known(row, page), tuple(_gone(row, page))
            yield Proposal("binaries", f"{package} {row.version}", row, _sourced(row, fields), look, page.url)
        for release in page.fresh(row.version for row in known):
            yield _new_binary(seen, page, known, release)


def _new_binary(seen: Seen, page: Listing, known: list[BinaryRow], release: str) -> Proposal:
    package = known[0].package
    name, inside = f"{package} {release}", seen.binaries[package, release]
    if isinstance(inside, Unknown):
        return Proposal("binaries", name, None, None, (f"its wheel cannot be read: {inside.unknown}",), page.url)
    ranges, newest = inside.ranges, rules.newest(inside.ranges)
    # A row has one range. Where only the floor rises with Python, NumPy's own wheels hold it up; for a Python with
    # another kind of range (an OpenCV that takes NumPy 1 there, and 2 elsewhere) the release counts as not there.
    fitting = sorted((p for p in ranges if _kind(ranges[p]) == _kind(ranges[newest or ""])), key=rules.order)
    pythons: dict[str, Any] = {f: tuple(p for p in page.pythons(release, f) if p in fitting) for f in FIELDS}
    row = BinaryRow(
        package=package,
        version=release,
        **pythons,
        built_on=inside.built_on,
        numpy=ranges[fitting[0]] if fitting else None,
        sdist_sha256=page.sdist_sha256(release) if any(row.sdist_sha256 for row in known) else None,
        source=(SOURCE,),
    )
    look = () if inside.built_on else ("built_on: its binary is too large to fetch, or names no C API of NumPy",)
    return Proposal("binaries", name, None, row, look, page.url)


def _kind(declared: Optional[str]) -> tuple[str, ...]:
    """A range without the height of its floor: the floor's major version, and the other clauses."""
    clauses = (declared or "").split(",")
    return tuple(clause.partition(".")[0] if clause.startswith(">=") else clause for clause in clauses)


# --------------------------------------------------------------------------------------------------- of every table


def _known(row: Union[TorchRow, MmcvRow, OpenmmlabRow, BinaryRow], page: Listing) -> dict[str, Any]:
    """What a page says of a release that has its row: wheels for further Pythons, and that it was withdrawn."""
    release = release_of(row)
    fields: dict[str, Any] = {"withdrawn": page.withdrawn(release)}
    if isinstance(row, (TorchRow, BinaryRow)):
        fields.update({field: _later(getattr(row, field), page.pythons(release, field)) for field in FIELDS})
    return fields


def _later(known: tuple[str, ...], listed: tuple[str, ...]) -> tuple[str, ...]:
    """With the Pythons that came after the newest known one. A tag may allow an older one that the release itself does
    not (an OpenCV for NumPy 2 is tagged cp37-abi3), so older ones are not added."""
    newest = rules.newest(known)
    return (*known, *(p for p in listed if newest is not None and rules.order(p) > rules.order(newest)))


def _gone(row: Union[TorchRow, NumpyRow, BinaryRow], page: Listing) -> list[str]:
    """Wheels of a row that the page no longer lists, while it lists the release."""
    release = release_of(row)
    if release not in page.files:
        return []
    fields = ("python",) if isinstance(row, NumpyRow) else tuple(FIELDS)
    found = []
    for field in fields:
        missing = [python for python in getattr(row, field) if python not in page.pythons(release, field)]
        found += [f"{field}: no wheel any more for Python {', '.join(missing)}"] if missing else []
    return found


def _joined(known: Iterable[str], found: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted({*known, *found}, key=rules.order))


def _sourced(row: Row, fields: dict[str, Any]) -> Row:
    """The row with these fields; with the refresh among its sources where one of them differs."""
    if all(getattr(row, name) == value for name, value in fields.items()):
        return row
    return replace(row, **fields, source=(*(key for key in row.source if key != SOURCE), SOURCE))
