"""docs/builds.md: every source build that was measured, the fix-ups it needed, and what each of them changes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Optional

from matrix_page import table

from mmdoctor import rules
from mmdoctor.builds import BUILD_TOOLS, MMCV_ENV
from mmdoctor.matrix_model import FixupRow, Matrix, StackRow

HEAD = """\
# Source builds

Written by `make docs` from `compat_matrix.yaml`: what was compiled from an sdist in a measured stack (docs/matrix.md),
and what had to be changed for it. A wheel is compiled once for what it is bound to and then comes from the cache, so
one line stands for several stacks.
"""
MEASURED = """\
## Measured

*Minutes* are wall clock and, in brackets, CPU, of the stack that compiled it; without, the wheel came from the cache of
an earlier run, or was measured by hand. *Stacks*: how many with it work, and where the others break (more of that in
docs/matrix.md). *Wheel*: the beginning of its sha256.
"""
FIXUPS = """\
## Fix-ups

Each is applied to the unpacked sdist, as plain text, where its versions say so; one that no longer fits its source ends
the build. It is part of the wheel's key.
"""
SAME = """\
## What every build gets

No isolation, so that the torch and NumPy of the target are in sight; no wheel of pip's own cache; the sdist by its
sha256. What the target does not hold is installed beside the source, and the target itself is only read.
"""
# Less CPU than this is no compile: the wheel was there already.
COMPILED_SECONDS = 10.0
SHOWN = 12


class Bound(NamedTuple):
    """What a build is of and for; `beside` is torch, or for what knows no torch NumPy."""

    package: str
    version: str
    beside: str
    python: str
    machine: str


def page(matrix: Matrix) -> str:
    """docs/builds.md, whole."""
    builds = measured(matrix)
    lines = [HEAD, MEASURED, *_measured(matrix, builds), FIXUPS]
    for row in matrix.fixups:
        lines += _fixup(matrix, row, builds)
    return "\n".join([*lines, SAME, *_same(matrix)])


def measured(matrix: Matrix) -> dict[Bound, list[StackRow]]:
    """The stacks by what was compiled for them, in the order of their torch."""
    builds: dict[Bound, list[StackRow]] = {}
    for row in matrix.stacks:
        machine = ", ".join(f"{name} {row.machine[name]}" for name in ("gcc", "glibc") if name in row.machine)
        python = rules.minor(row.python)
        for package, version, artefact, beside in (
            (row.mmcv_package, row.mmcv, row.mmcv_artefact, f"torch {row.torch}+{row.build}"),
            ("xtcocotools", row.xtcocotools, row.xtcocotools_artefact, f"NumPy {row.numpy}"),
        ):
            if artefact == "build":
                builds.setdefault(Bound(package, version, beside, python, machine), []).append(row)
    return builds


def _torch_of(bound: Bound) -> Optional[str]:
    kind, _, version = bound.beside.partition(" ")
    return version if kind == "torch" else None


def _fixups(matrix: Matrix, bound: Bound) -> tuple[FixupRow, ...]:
    return rules.fixups_for(matrix, bound.package, bound.version, _torch_of(bound), bound.python)


def _measured(matrix: Matrix, builds: dict[Bound, list[StackRow]]) -> Iterator[str]:
    head = ("package", "beside", "Python", "on", "fix-ups", "minutes", "stacks", "wheel")
    cells = [
        (
            f"{bound.package} {bound.version}",
            bound.beside,
            bound.python,
            bound.machine or "by hand",
            " ".join(f"[{row.id}](#{_anchor(row)})" for row in _fixups(matrix, bound)) or "none",
            _minutes(bound, rows),
            _stacks(rows),
            _wheel(bound, rows),
        )
        for bound, rows in sorted(builds.items(), key=lambda item: (item[0].package, *_order(item[0])))
    ]
    yield from table(head, cells)


def _order(bound: Bound) -> tuple[object, ...]:
    return rules.order(bound.beside.partition(" ")[2]), rules.order(bound.version), bound.python, bound.machine


def _minutes(bound: Bound, rows: Sequence[StackRow]) -> str:
    stage = "numpy-bound" if bound.package == "xtcocotools" else "mmcv"
    times = [row.times[stage] for row in rows if stage in row.times]
    wall, cpu = max(times, key=lambda pair: pair[1], default=(0.0, 0.0))
    return f"{wall / 60:.1f} ({cpu / 60:.1f})" if cpu >= COMPILED_SECONDS else "–"


def _stacks(rows: Sequence[StackRow]) -> str:
    works = [row for row in rows if row.outcome == "works"]
    broken = [row for row in rows if row.outcome == "broken"]
    where = dict.fromkeys(row.step for row in broken if row.step)
    said = [f"{len(works)} work{'s' * (len(works) == 1)}"] if works else []
    said += [f"{len(broken)} broken" + (f" at {', '.join(where)}" if where else "")] if broken else []
    return "; ".join(said)


def _wheel(bound: Bound, rows: Sequence[StackRow]) -> str:
    prefix = f"{bound.package.replace('-', '_')}-{bound.version}-"
    found = {
        digest for row in rows for file, digest in row.artefacts.items() if file.startswith(prefix) and "-cp" in file
    }
    return ", ".join(f"`{digest[:SHOWN]}`" for digest in sorted(found)) or "–"


def _anchor(row: FixupRow) -> str:
    return f"{row.id}-for-{row.package}"


def _fixup(matrix: Matrix, row: FixupRow, builds: dict[Bound, list[StackRow]]) -> Iterator[str]:
    where = [f"{row.package} {row.versions}"]
    where += [f"beside torch {row.torch}"] if row.torch else []
    where += [f"on Python {row.python}"] if row.python else []
    yield f"### {row.id} for {row.package}"
    yield ""
    yield f"{', '.join(where)}. {row.reason}"
    yield ""
    if row.file is not None:
        yield f"In `{row.file}`:"
        yield ""
        yield "```diff"
        for old, new in row.replace.items():
            yield from (f"-{line}" for line in old.splitlines())
            yield from (f"+{line}" for line in new.splitlines())
        yield "```"
        yield ""
    needed = [
        f"{bound.package} {bound.version} beside {bound.beside} on Python {bound.python}"
        for bound in sorted(builds, key=_order)
        if row in _fixups(matrix, bound)
    ]
    yield f"Needed by: {'; '.join(dict.fromkeys(needed)) or 'no build that was measured yet'}."
    yield ""
    yield from (f"- {key}: {matrix.sources[key]}" for key in row.source)
    yield ""


def _same(matrix: Matrix) -> Iterator[str]:
    flags = " ".join(f"`{name}={value}`" for name, value in MMCV_ENV.items())
    yield f"- Tools: {', '.join(BUILD_TOOLS)}, and the setuptools that torch's cpp_extension lives with (below)."
    yield f"- mmcv: {flags}."
    yield ""
    rows = ((row.torch, row.setuptools, row.setuptools_pin, ", ".join(row.source)) for row in matrix.tools)
    yield from table(("torch", "setuptools", "installed where it is missing", "source"), rows)
    yield "nvcc as wheels, where the machine has no toolkit of torch's CUDA:"
    yield ""
    wheels = (
        (row.cuda, f"{row.os} {row.machine}", " ".join(f"{n}{v}" for n, v in row.wheels.items()), ", ".join(row.source))
        for row in matrix.cuda_wheels
    )
    yield from table(("CUDA", "on", "wheels", "source"), wheels)
