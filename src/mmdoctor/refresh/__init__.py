"""`matrix refresh`: what the package indexes list today, against what the matrix says."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Callable

import msgspec

from mmdoctor.matrix_model import Matrix
from mmdoctor.model import Difference, FieldChange, Reading
from mmdoctor.probes.indexes import IndexConfig, redact
from mmdoctor.refresh.compare import Proposal, applied, propose
from mmdoctor.refresh.reading import read_indexes


def refresh(
    matrix: Matrix, config: IndexConfig, today: str, say: Callable[[str], None], *, offline: bool = False
) -> tuple[Matrix, tuple[Difference, ...], tuple[Reading, ...]]:
    """The matrix as the indexes would have it, with every difference and what was read.

    The indexes are those of the user's configuration; `today` is the date that goes into the matrix. With `offline`
    only local folders are read. An index that does not answer, or whose page is too short to go by, is named in the
    readings, and what the others say stands. Nothing is written.
    """
    seen, readings = read_indexes(matrix, config, say, offline=offline)
    proposals = propose(matrix, seen)
    return applied(matrix, proposals, today), differences(proposals), readings


def differences(proposals: Iterable[Proposal]) -> tuple[Difference, ...]:
    """The proposals as they are shown."""
    return tuple(map(_difference, proposals))


def _difference(proposal: Proposal) -> Difference:
    old, new = proposal.old, proposal.new
    changes: tuple[FieldChange, ...] = ()
    if new is not None and new != old:
        names = [name for name in type(new).__struct_fields__ if name != "source"]
        before: dict[str, Any] = {name: getattr(old, name, None) for name in names}
        changes = tuple(
            FieldChange(field=name, old=before[name], new=getattr(new, name))
            for name in names
            if getattr(new, name) != before[name]
        )
    return Difference(
        table=proposal.table,
        row=proposal.name,
        kind="look" if not changes else "new" if old is None else "changed",
        changes=tuple(msgspec.convert(msgspec.to_builtins(changes), tuple[FieldChange, ...])),
        look=proposal.look,
        url=redact(proposal.url),
    )
