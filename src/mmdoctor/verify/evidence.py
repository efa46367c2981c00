"""Puts measured rows into the matrix. The newer evidence of a combination takes the place of the same machine's older
one; that of another machine, or another interpreter, stands beside it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from msgspec.structs import replace

from mmdoctor.errors import UsageError
from mmdoctor.matrix import load_matrix, write_matrix
from mmdoctor.matrix_lint import row_order, source_order
from mmdoctor.matrix_model import Matrix, StackRow
from mmdoctor.verify.measure import SOURCE, SOURCE_SAYS

ELSEWHERE = "keep it with --no-write --format json --output FILE, or name a matrix with --matrix FILE"


def with_evidence(matrix: Matrix, rows: Iterable[StackRow]) -> Matrix:
    """The matrix with these rows in their places."""
    stacks = list(matrix.stacks)
    for row in rows:
        stacks = [old for old in stacks if (old.combination, old.machine) != (row.combination, row.machine)]
        stacks.append(row)
    stacks.sort(key=lambda row: row_order("stacks", row))
    sources = dict(sorted({**matrix.sources, SOURCE: SOURCE_SAYS}.items(), key=lambda item: source_order(item[0])))
    return replace(matrix, stacks=tuple(stacks), sources=sources)


def check_writable(file: Path) -> None:
    """UsageError unless evidence can be added to this matrix; said before anything is measured."""
    if "site-packages" in file.parts:
        raise UsageError(f"{file} is the matrix of an installed mmdoctor, which an update replaces", hint=ELSEWHERE)
    try:
        with file.open("a"):
            pass
    except OSError as error:
        raise UsageError(f"{file} cannot be written: {error.strerror}", hint=ELSEWHERE) from error


def add_evidence(file: Path, rows: Iterable[StackRow]) -> None:
    """Write the rows into the matrix in `file`, whole or not at all. It is read anew: measuring took a while."""
    write_matrix(file, with_evidence(load_matrix(file), rows))
