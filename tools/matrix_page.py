"""docs/matrix.md: what was measured, what is documented, and where the two disagree, from compat_matrix.yaml."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from mmdoctor import rules
from mmdoctor.matrix_model import Matrix, StackRow
from mmdoctor.verify.claims import Contradiction, contradictions

HEAD = """\
# The matrix

Written by `make docs` from `compat_matrix.yaml`. *Measured*: really installed and run. *Documented*: what packages
declare or assert, and what their publishers list. *Contradicted*: documented one way, measured the other; both stand.
"""
MEASURED = """\
## Measured

`mmdoctor matrix verify ID` measures a row again. Machines are told apart below; a row without one was measured by hand.
mmcv and xtcocotools: *c* compiled from the sdist (with the fix-ups of the matrix), *w* the published wheel.
"""
BROKEN = """\
### How they are broken

The first step that failed with its first error, and the checks that are its roots.
"""
TIMES = """\
### What it took

Seconds of CPU per step; the wall clock, which tells of the machine's other work too, is in the matrix. Where mmcv took
seconds, its wheel came from the cache: it had been compiled for an earlier row.
"""
CONTRADICTED = """\
## Contradicted

Computed: a range that does not admit what works; or a range that admits what is broken for just that, where nothing
that has the same pair works.
"""
DOCUMENTED = """\
## Documented

The sources are those of the matrix, by their keys.
"""


def page(matrix: Matrix) -> str:
    """docs/matrix.md, whole."""
    return "\n".join(
        [
            HEAD,
            MEASURED,
            *_measured(matrix.stacks),
            *_machines(matrix.stacks),
            BROKEN,
            *_broken(matrix.stacks),
            TIMES,
            *_times(matrix.stacks),
            CONTRADICTED,
            *_contradicted(contradictions(matrix)),
            DOCUMENTED,
            *_documented(matrix),
        ]
    )


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """A table of Markdown."""
    yield f"| {' | '.join(head)} |"
    yield "|" + "---|" * len(head)
    for row in rows:
        yield f"| {' | '.join(cell.replace('|', '·') for cell in row)} |"
    yield ""


def _number(row: StackRow, rows: Sequence[StackRow]) -> str:
    """The number of a row's machine, in the order in which they come."""
    machines = list(dict.fromkeys(_machine(one) for one in rows if one.machine))
    return str(machines.index(_machine(row)) + 1) if row.machine else "–"


def _machine(row: StackRow) -> str:
    return ", ".join(f"{name} {text}" for name, text in row.machine.items() if name != "python")


def _measured(rows: Sequence[StackRow]) -> Iterator[str]:
    head = (
        "id",
        "Python",
        "torch",
        "mmcv",
        "mmdet",
        "mmpose",
        "NumPy",
        "xtcocotools",
        "OpenCV",
        "outcome",
        "on",
        "date",
    )
    made = {"wheel": "w", "build": "c"}
    cells = []
    for row in rows:
        name = "" if row.mmcv_package == "mmcv" else f"{row.mmcv_package} "
        broken = f"**broken** at {row.step}" if row.step else "**broken**"
        cells.append(
            (
                f"`{row.id}`",
                row.machine.get("python", row.python),
                f"{row.torch}+{row.build}",
                f"{name}{row.mmcv} {made[row.mmcv_artefact]}",
                row.mmdet or "–",
                row.mmpose,
                row.numpy,
                f"{row.xtcocotools} {made[row.xtcocotools_artefact]}",
                row.opencv.replace("opencv-python", "").replace("==", " ").replace("-headless", "headless").strip(),
                "works" if row.outcome == "works" else broken,
                _number(row, rows),
                row.date,
            )
        )
    yield from table(head, cells)


def _machines(rows: Sequence[StackRow]) -> Iterator[str]:
    machines = {_number(row, rows): _machine(row) for row in rows if row.machine}
    yield from (f"{number}. {machine}" for number, machine in sorted(machines.items()))
    yield ""


def _broken(rows: Sequence[StackRow]) -> Iterator[str]:
    for row in rows:
        if row.outcome == "broken":
            where = f"{row.step}: {row.error}" if row.step else row.notes
            roots = f" ({'; '.join(row.roots)})" if row.roots else ""
            yield f"- `{row.id}` {_said(where)}{roots}"
    yield ""


def _said(text: str) -> str:
    return f"`{text.replace('`', chr(39))}`" if any(sign in text for sign in "*_<>[") else text


def _times(rows: Sequence[StackRow]) -> Iterator[str]:
    timed = [row for row in rows if row.times]
    steps = list(dict.fromkeys(step for row in timed for step in row.times))
    cells = (
        (f"`{row.id}`", *(f"{row.times[step][1]:g}" if step in row.times else "" for step in steps), f"{row.load:g}")
        for row in timed
    )
    yield from table(("id", *steps, "load"), cells)


def _contradicted(found: Sequence[Contradiction]) -> Iterator[str]:
    cells = (
        (
            _said(one.claim.text),
            ", ".join(one.claim.source),
            f"{one.claim.needs} {one.version}" if one.version else f"without {one.claim.needs}",
            one.measured,
            " ".join(dict.fromkeys(f"`{row.id}`" for row in one.rows)),
        )
        for one in found
    )
    yield from table(("documented", "source", "measured with", "outcome", "rows"), cells)


def _documented(matrix: Matrix) -> Iterator[str]:
    yield "### Asserted at import, and declared in the `[mim]` extra"
    yield ""
    cells = (
        (
            f"{row.project} {row.version}",
            f"{row.mmcv_package} {row.mmcv}" if row.mmcv else "–",
            f"mmengine {row.mmengine}" if row.mmengine else "–",
            ", ".join(f"{name} {text}" for name, text in row.mim.items()) or "–",
            ", ".join(row.source),
        )
        for row in matrix.openmmlab
        if row.mmcv or row.mim
    )
    yield from table(("release", "asserts mmcv", "asserts mmengine", "declares", "source"), cells)
    yield "### Listed by documents"
    yield ""
    documents = (
        (
            _said(
                f"{row.package} {row.versions} {row.says} {', '.join(f'{n} {text}' for n, text in row.needs.items())}"
            ),
            ", ".join(row.source),
        )
        for row in matrix.documents
    )
    yield from table(("document", "source"), documents)
    yield "### Published wheels of mmcv for Linux x86_64"
    yield ""
    wheels: dict[str, dict[str, set[str]]] = {}
    for row in matrix.mmcv_wheels:
        if row.os == "linux" and row.package == "mmcv":
            wheels.setdefault(row.torch, {}).setdefault(row.variant, set()).update(row.versions)
    minors = sorted({rules.minor(row.release) for row in matrix.torch} | wheels.keys(), key=rules.order, reverse=True)
    yield from table(("torch", "wheels"), ((minor, _wheels(wheels.get(minor, {}))) for minor in minors))


def _wheels(variants: dict[str, set[str]]) -> str:
    """Variants with the same releases together; release candidates left out."""
    together: dict[tuple[str, ...], list[str]] = {}
    for variant, versions in sorted(variants.items()):
        final = tuple(sorted((version for version in versions if "rc" not in version), key=rules.order))
        together.setdefault(final, []).append(variant)
    return (
        "; ".join(f"{', '.join(names)}: {', '.join(versions)}" for versions, names in together.items() if versions)
        or "none"
    )
