"""Wheels to and from a team or a host without network: an exported folder is a wheel cache with pages.

NAME-VERSION/DIGEST/      the entries, as in any cache: `fix --wheels DIR` takes them from there, and a folder of one
                          entry is one that `--find-links` takes
simple/BOUND/NAME/        an index (PEP 503) for what wheels are bound to and their names do not say: a torch with its
                          ops, or a NumPy; each page is a flat list of links too, as `--find-links` wants it
index.html                every entry with its proof: for people, and for `wheels import` over the network
"""

from __future__ import annotations

import html
import re
import shutil
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from email.parser import HeaderParser
from pathlib import Path
from urllib.parse import quote
from uuid import uuid4

from msgspec.structs import replace
from packaging.utils import canonicalize_name

from mmdoctor import rules
from mmdoctor.errors import RefusedError, UsageError
from mmdoctor.model import Exported, WheelIndex
from mmdoctor.wheels.cache import PROOF, BuildKey, Proof, built, draft, proofs, sound, store, written

SIMPLE = "simple"
PAGE = "index.html"
DOCUMENT = """\
<!DOCTYPE html>
<html lang="en">
<head><meta charset="utf-8"><meta name="pypi:repository-version" content="1.0"><title>{title}</title></head>
<body>
<h1>{title}</h1>
{body}
</body>
</html>
"""
Found = tuple[Path, Proof]


def export(cache: Path, into: Path, wanted: Sequence[str]) -> Exported:
    """Copy the wheels of a cache that `wanted` names (`mmcv`, `mmcv==2.1.0`; all where it is empty) into the folder
    `into`, and write its pages anew, for what was there before too.

    A wheel comes before the page that names it, and each file whole, so who installs meanwhile never sees half an
    index. Raises UsageError for a wheel that the cache does not hold, RefusedError where there is none or `into` cannot
    be written.
    """
    chosen = choose(proofs(cache), wanted, cache)
    have = {proof.key.entry for wheel, proof in proofs(into) if sound(wheel, proof)}
    added, there, damaged = [], [], []
    with written(into):
        for wheel, proof in chosen:
            entry = proof.key.entry
            if entry in have:
                there.append(entry)
            elif not sound(wheel, proof):
                damaged.append(entry)
            else:
                with draft(into) as place:
                    shutil.copyfile(wheel, place / wheel.name)
                    # Whence it came is nobody else's matter.
                    store(into, place, replace(proof, origin="", built=built(wheel, proof)))
                added.append(entry)
        indexes = write_pages(into)
    return Exported(
        folder=str(into.absolute()), added=tuple(added), there=tuple(there), damaged=tuple(damaged), indexes=indexes
    )


def refresh_pages(folder: Path) -> None:
    """Write the pages anew of a folder that has some; a cache has none."""
    if (folder / SIMPLE).is_dir():
        with written(folder):
            write_pages(folder)


def choose(there: Sequence[Found], wanted: Sequence[str], cache: Path) -> list[Found]:
    """The wheels that are named `NAME` or `NAME==VERSION`, all where nothing is. Raises UsageError, RefusedError."""
    if not there:
        raise RefusedError(f"there is no wheel in {cache}", hint="`mmdoctor wheels build` and `fix --apply` make some")
    chosen: dict[str, Found] = {}
    for text in wanted:
        name, _, version = text.partition("==")
        named = [found for found in there if canonicalize_name(found[1].key.package) == canonicalize_name(name.strip())]
        those = [found for found in named if version.strip() in ("", found[1].key.version)]
        if not those:
            held = sorted({f"{proof.key.package}=={proof.key.version}" for _, proof in there})
            raise UsageError(f"there is no wheel of {text} in {cache}", hint=f"there are {', '.join(held)}")
        chosen.update((proof.key.entry, (wheel, proof)) for wheel, proof in those)
    return list(chosen.values()) if wanted else list(there)


def bound(key: BuildKey) -> tuple[str, str]:
    """The index that a wheel of this key belongs into, and in words what its wheels run beside.

    No name of OpenMMLab's habit (`cu121/torch2.1.0`): that says nothing of the ops, and CPU ops are compiled against a
    CUDA build of torch as well. So `probes.offers` takes what the proof says, not the address.
    """
    names, words = [], []
    if key.torch:
        names.append(f"torch-{key.torch}-ops-{key.archs or 'cpu'}")
        words.append(f"torch {key.torch} with " + (f"CUDA ops for {key.archs}" if key.archs else "CPU ops"))
    if key.numpy:
        names.append(f"numpy-{key.numpy}")
        words.append(f"numpy {key.numpy}")
    return re.sub(r"[^A-Za-z0-9._]+", "-", "-".join(names)) or "any", " and ".join(words) or "anything"


def write_pages(folder: Path) -> tuple[WheelIndex, ...]:
    """Write the indexes of an exported folder, each page whole, and take away those of wheels that are gone.

    Of wheels with the same file name for the same thing a page names one: that of the oldest glibc, which serves the
    most machines, then the newest. Raises OSError.
    """
    there = sorted(proofs(folder), key=lambda found: built(*found), reverse=True)
    there.sort(key=lambda found: rules.order(found[1].key.glibc))
    pages: dict[tuple[str, str], dict[str, dict[str, Found]]] = {}
    for wheel, proof in there:
        project = str(canonicalize_name(proof.key.package))
        pages.setdefault(bound(proof.key), {}).setdefault(project, {}).setdefault(wheel.name, (wheel, proof))
    kept = {folder / PAGE}
    for (name, words), projects in sorted(pages.items()):
        for project, wheels in projects.items():
            page = folder / SIMPLE / name / project / PAGE
            _write(page, f"{project} for {words}", [_anchor(folder, *found) for _, found in sorted(wheels.items())])
            kept.add(page)
        page = folder / SIMPLE / name / PAGE
        _write(page, f"Wheels for {words}", [f'<a href="{project}/">{project}</a>' for project in sorted(projects)])
        kept.add(page)
    _write(folder / PAGE, "Compiled and proven wheels", list(_top(folder, pages, there)))
    for page in set((folder / SIMPLE).glob(f"**/{PAGE}")) - kept:
        page.unlink()
    return tuple(
        WheelIndex(
            path=f"{SIMPLE}/{name}",
            beside=words,
            wheels={project: tuple(sorted(wheels)) for project, wheels in sorted(projects.items())},
        )
        for (name, words), projects in sorted(pages.items())
    )


def _write(path: Path, title: str, lines: Iterable[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = DOCUMENT.format(title=html.escape(title), body="<br>\n".join(lines))
    part = path.with_name(f"{path.name}.{uuid4().hex}.part")
    try:
        part.write_text(text, encoding="utf-8")
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _anchor(folder: Path, wheel: Path, proof: Proof) -> str:
    """A link of a project's page to a file of the folder, with its hash and what Python it wants (PEP 503)."""
    python = requires_python(wheel)
    wants = f' data-requires-python="{html.escape(python)}"' if python else ""
    address = f"../../../{_address(folder, wheel)}#sha256={proof.wheel_sha256}"
    return f'<a href="{html.escape(address)}"{wants}>{html.escape(wheel.name)}</a>'


def _address(folder: Path, path: Path) -> str:
    return quote(path.relative_to(folder).as_posix())


def _top(folder: Path, pages: Iterable[tuple[str, str]], there: Sequence[Found]) -> Iterator[str]:
    """The page for people, which `wheels import` reads too: every entry with its proof, by index."""
    yield "Each folder below is an index for pip and uv (--extra-index-url). What was seen to work lies beside each"
    yield "wheel; <code>mmdoctor wheels import</code> holds it against the file and takes both into a cache."
    for name, words in sorted(pages):
        yield f'<strong><a href="{SIMPLE}/{name}/">{SIMPLE}/{name}/</a></strong>: for {html.escape(words)}'
        for wheel, proof in sorted(there):
            if bound(proof.key)[0] == name:
                links = " ".join(
                    f'<a href="{html.escape(_address(folder, path))}">{html.escape(path.name)}</a>'
                    for path in (wheel, wheel.parent / PROOF)
                )
                yield f"{links} {wheel.stat().st_size / 1e6:.1f} MB, {html.escape(_made(proof.key))}"


def _made(key: BuildKey) -> str:
    return f"Python {key.python_tag}, glibc {key.glibc or '?'}, compiler {key.compiler or '?'}"


def requires_python(wheel: Path) -> str:
    """Requires-Python of a wheel's METADATA; empty where it states none, or is no archive."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            name = next(name for name in archive.namelist() if re.fullmatch(r"[^/]+\.dist-info/METADATA", name))
            metadata = archive.read(name).decode("utf-8", "replace")
    except (zipfile.BadZipFile, StopIteration):
        return ""
    return str(HeaderParser().parsestr(metadata, headersonly=True).get("Requires-Python") or "")
