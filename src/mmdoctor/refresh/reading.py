"""Reads the pages that the matrix rests on, and what stands inside the wheels of new releases."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from threading import Lock
from typing import Callable, NamedTuple, Optional, TypeVar, Union
from urllib.parse import urlsplit

from msgspec.structs import replace

from mmdoctor import rules
from mmdoctor.errors import UndeterminedError
from mmdoctor.matrix_model import Matrix
from mmdoctor.model import Reading, Tried, Unknown
from mmdoctor.probes.indexes import IndexConfig, redact
from mmdoctor.refresh.compare import Seen, WheelPage, followed, fresh_torches, fresh_torchvisions
from mmdoctor.refresh.listing import MAY_MISS, Listing, Release, Wheel, known_facts, known_pythons, listing, too_short
from mmdoctor.refresh.pages import Page, read_page
from mmdoctor.refresh.remote import BinaryInside, TorchInside, binary_inside, build_cuda, declared, requirements
from mmdoctor.refresh.remote import torch_inside as inside_torch
from mmdoctor.texts import is_variant
from mmdoctor.work import Background

T = TypeVar("T")
AT_ONCE = 8
Judge = Callable[[Page], Optional[str]]  # why a page that was read is not gone by


class _Ask(NamedTuple):
    """A page that is wanted: its name, the places to ask in turn, and what speaks against a page. `optional`: that
    there is no such page is an answer too."""

    name: str
    urls: tuple[str, ...]
    judge: Judge
    optional: bool = False


class _Asker:
    """Asks for pages, several at once. A host that did not answer is not asked again."""

    def __init__(self, config: IndexConfig, offline: bool) -> None:
        self._config, self._offline = config, offline
        self._silent: dict[str, str] = {}
        self._lock = Lock()

    def __call__(self, asks: Sequence[_Ask]) -> tuple[dict[str, Page], tuple[Reading, ...]]:
        """The pages that were had, by name, and how each was come by."""
        found: dict[str, tuple[Optional[Page], Reading]] = {}
        left = deque(asks)

        def work() -> None:
            while True:
                try:
                    ask = left.popleft()
                except IndexError:
                    return
                found[ask.name] = self._ask(ask)

        # Daemon threads: an interrupt does not wait for a server that hangs.
        for worker in [Background(work) for _ in range(AT_ONCE)]:
            worker.result()
        pages = {ask.name: page for ask in asks if (page := found[ask.name][0]) is not None}
        return pages, tuple(found[ask.name][1] for ask in asks)

    def _ask(self, ask: _Ask) -> tuple[Optional[Page], Reading]:
        tried: list[Tried] = []
        for url in ask.urls:
            page = self._page(url)
            there = page.said is None
            said = ask.judge(page) if there else None if page.absent and ask.optional else page.said
            tried.append(Tried(url=redact(url), said=said))
            if said is None:
                reading = Reading(page=ask.name, read=True, tried=tuple(tried))
                return (page if there else None), reading
        return None, Reading(page=ask.name, read=False, tried=tuple(tried))

    def _page(self, url: str) -> Page:
        host = redact(url).partition("//")[2].partition("/")[0]
        with self._lock:
            said = self._silent.get(host)
        if said is not None:
            return Page(url=url, said=said)
        page = read_page(url, self._config, offline=self._offline)
        if page.silent and page.said is not None:
            with self._lock:
                self._silent[host] = page.said
        return page


def read_indexes(
    matrix: Matrix, config: IndexConfig, say: Callable[[str], None], *, offline: bool
) -> tuple[Seen, tuple[Reading, ...]]:
    """What the indexes list and, of what the matrix does not know, what the wheels hold; with how each page was had.

    `say` is told what is being read. The user's index stands in for PyPI, and further ones of theirs are asked where it
    has no whole page.
    """
    pythons = known_pythons(matrix)
    packages = _packages(matrix)
    theirs = () if config.no_index else (config.pypi, *config.extra_index_urls)
    asks = [
        _Ask(f"PyPI {name}", tuple(_project(index, name) for index in theirs), _whole(name, rows, pythons))
        for name, rows in packages.items()
    ]
    asks.append(
        _Ask("torch's index", _torch_pages(matrix, config), lambda p: _few_variants(matrix, _labels(p, pythons)))
    )
    places = list(_wheel_places(matrix, config))
    asks += [place.ask for place in places]
    say(f"reading {len(asks)} pages")
    pages, readings = _Asker(config, offline)(asks)
    pypi = {name: listing(pages[f"PyPI {name}"], name, pythons) for name in packages if f"PyPI {name}" in pages}
    index = pages.get("torch's index")
    wheels = tuple(
        WheelPage(p.variant, p.torch, {name: listing(pages[p.ask.name], name, pythons) for name in p.packages})
        for p in places
        if p.ask.name in pages
    )
    seen = Seen(
        pypi=pypi,
        variants=None if index is None else _labels(index, pythons),
        wheels=wheels,
        torch={},
        torchvision={},
        binaries={},
    )
    return _with_insides(matrix, config, seen, say), readings


def _packages(matrix: Matrix) -> dict[str, tuple[Release, ...]]:
    """The projects of PyPI that the matrix follows, each with its rows (of torchvision there are none of its own)."""
    found: dict[str, tuple[Release, ...]] = {"torch": matrix.torch, "torchvision": (), "numpy": matrix.numpy}
    for row in matrix.mmcv:
        found[row.package] = (*found.get(row.package, ()), row)
    for project in matrix.openmmlab:
        found[project.project] = (*found.get(project.project, ()), project)
    for name in followed(matrix):
        found[name] = tuple(row for row in matrix.binaries if row.package == name)
    return found


def _project(index: str, name: str) -> str:
    return f"{index.rstrip('/')}/{name}/"


def _whole(name: str, rows: Iterable[Release], pythons: tuple[str, ...]) -> Judge:
    def judge(page: Page) -> Optional[str]:
        return too_short(listing(page, name, pythons), known_facts(rows))

    return judge


# ------------------------------------------------------------------------------------------------- torch's own index


def _torch_pages(matrix: Matrix, config: IndexConfig) -> tuple[str, ...]:
    """The page of all builds on torch's index, and on what may mirror it: a mirror is configured for one variant
    (`…/whl/cu121`), and the page of all lies beside that."""
    mirrors = () if config.no_index else config.extra_index_urls
    roots = (matrix.torch_index.format(variant=""), *(re.sub(r"/(cpu|cu\d+)/?$", "", url) for url in mirrors))
    return tuple(_project(root, "torch") for root in roots)


def _labels(page: Page, pythons: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    """The variants of each release: the labels of the files for Linux x86_64 and Windows."""
    found: dict[str, set[str]] = {}
    for wheel in listing(page, "torch", pythons).wheels:
        if is_variant(wheel.label) and {"python", "python_windows"} & set(wheel.fields):
            found.setdefault(wheel.release, set()).add(wheel.label)
    return {release: tuple(sorted(variants)) for release, variants in found.items()}


def _few_variants(matrix: Matrix, labels: dict[str, tuple[str, ...]]) -> Optional[str]:
    """Why a page is not that of torch's index, or a part of it."""
    known = [(row.release, variant) for row in matrix.torch for variant in row.variants]
    found = sum(variant in labels.get(release, ()) for release, variant in known)
    if len(known) - found > MAY_MISS * len(known):
        return f"it has {found} of the {len(known)} builds that the matrix knows of: too short to go by"
    return None


# --------------------------------------------------------------------------------------------------- mmcv's wheels


class _Place(NamedTuple):
    """A page of prebuilt mmcv wheels that may be there."""

    variant: str
    torch: str
    packages: tuple[str, ...]
    ask: _Ask


def _wheel_places(matrix: Matrix, config: IndexConfig) -> Iterator[_Place]:
    """The pages that the matrix knows, and those of newer torch minors that there could be. A page among the user's
    find-links that has the same place in a mirror is asked where the publisher's own has nothing."""
    sources: list[tuple[str, str, tuple[str, ...]]] = [("openmmlab", matrix.openmmlab_index, ("mmcv", "mmcv-full"))]
    sources += [(row.name, row.page, row.packages) for row in matrix.wheel_sources if not row.community]
    for name, page, packages in sources:
        rows = [row for row in matrix.mmcv_wheels if row.package in packages]
        known: dict[tuple[str, str], set[tuple[str, str]]] = {}
        for row in rows:
            known.setdefault((row.variant, row.torch), set()).update((row.package, v) for v in row.versions)
        newest = max((rules.order(row.torch) for row in rows), default=rules.order("0"))
        later = {
            (variant, rules.minor(row.release))
            for row in matrix.torch
            for variant in row.variants
            if rules.order(rules.minor(row.release)) > newest
        }
        for variant, torch in sorted({*known, *later}, key=lambda place: (rules.order(place[1]), place[0])):
            url = page.format(variant=variant, torch=f"{torch}.0", digits=f"{torch}.0".replace(".", ""))
            tail = "/".join(urlsplit(url).path.rsplit("/", 3)[1:])
            mirrors = [link for link in config.find_links if urlsplit(link).path.endswith(f"/{tail}")]
            expected = len(known.get((variant, torch), ()))
            ask = _Ask(f"{name} {variant} torch {torch}", (url, *mirrors), _enough(expected), optional=not expected)
            yield _Place(variant, torch, packages, ask)


def _enough(expected: int) -> Judge:
    def judge(page: Page) -> Optional[str]:
        found = len({file.name.partition("-cp")[0] for file in page.files if file.name.endswith(".whl")})
        if expected - found > MAY_MISS * expected:
            return f"it has {found} of the {expected} releases that the matrix knows of: too short to go by"
        return None

    return judge


# ------------------------------------------------------------------------------------- what stands inside the wheels


def _with_insides(matrix: Matrix, config: IndexConfig, seen: Seen, say: Callable[[str], None]) -> Seen:
    """The same with what the wheels of new releases say; Unknown of one that cannot be read."""
    torch: dict[str, Union[TorchInside, Unknown]] = {}
    for release in fresh_torches(matrix, seen.pypi):
        say(f"reading parts of the wheels of torch {release}")
        torch[release] = _tried(partial(_torch, seen.pypi["torch"], release, config))
    torchvision: dict[str, Union[str, Unknown, None]] = {}
    for release in fresh_torchvisions(matrix, seen.pypi):
        torchvision[release] = _tried(partial(_torchvision, seen.pypi["torchvision"], release, config))
    binaries: dict[tuple[str, str], Union[BinaryInside, Unknown]] = {}
    for name in followed(matrix):
        page = seen.pypi.get(name)
        known = [row.version for row in matrix.binaries if row.package == name]
        if page is None:
            continue
        for release in page.fresh(known):
            say(f"reading parts of the wheel of {name} {release}")
            binaries[name, release] = _tried(partial(_binary, page, release, config))
    return seen._replace(torch=torch, torchvision=torchvision, binaries=binaries)


def _tried(call: Callable[[], T]) -> Union[T, Unknown]:
    try:
        return call()
    except UndeterminedError as error:
        return Unknown(unknown=error.what)


def _one(page: Listing, release: str, field: str) -> Optional[Wheel]:
    """One wheel of a release for a platform: of the Python in the middle, which all packages know."""
    wheels = sorted((w for w in page.of(release) if field in w.fields), key=lambda w: rules.order(w.pythons[0]))
    return wheels[len(wheels) // 2] if wheels else None


def _linux(page: Listing, release: str) -> Wheel:
    wheel = _one(page, release, "python")
    if wheel is None:
        raise UndeterminedError(f"{release} has no wheel for Linux x86_64")
    return wheel


def _torch(page: Listing, release: str, config: IndexConfig) -> TorchInside:
    wheel, arm = _linux(page, release), _one(page, release, "python_aarch64")
    inside = inside_torch(wheel.file, config)
    floor = rules.newest(filter(None, (inside.glibc, wheel.glibc)))
    return replace(inside, glibc=floor, cuda_aarch64=build_cuda(arm.file, config) if arm else None)


def _torchvision(page: Listing, release: str, config: IndexConfig) -> Optional[str]:
    wheel = _linux(page, release)
    return declared(requirements(wheel.file, config), "torch", wheel.pythons[-1])


def _binary(page: Listing, release: str, config: IndexConfig) -> BinaryInside:
    return binary_inside(_linux(page, release).file, page.pythons(release, "python"), config)
