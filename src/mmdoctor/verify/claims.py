"""What the documents say of the measured stacks, and where measurement says otherwise. Computed, never typed in. Pure.

A document says *this package goes with that range of another*. It is contradicted where a stack outside the range
works, and where stacks inside it are broken for just that: none of them works, and the first error names the other
package. Both stand: the document keeps its row, the measurement too.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple, Optional

from mmdoctor import rules
from mmdoctor.matrix_model import Matrix, StackRow

# The stage that compiles a package.
STAGE_OF = {"mmcv": "mmcv", "mmcv-full": "mmcv", "onedl-mmcv": "mmcv", "xtcocotools": "numpy-bound"}


class Claim(NamedTuple):
    """`package` `version` goes with `range` of `needs`, says `how` and `source`; an empty range: also without `needs`.
    `artefact` is the one that is meant where wheel and compiled package differ."""

    package: str
    version: str
    needs: str
    range: str
    how: str
    source: tuple[str, ...]
    artefact: Optional[str] = None

    @property
    def text(self) -> str:
        """The claim in a sentence."""
        beside = f"{self.needs} {self.range}" if self.range else f"no {self.needs}"
        return f"{self.package} {self.version} {self.how} {beside}"


class Contradiction(NamedTuple):
    """A claim, the version of `needs` it is about, whether measurement says *works* or *broken*, and the rows."""

    claim: Claim
    version: Optional[str]
    measured: str
    rows: tuple[StackRow, ...]


def claims_about(matrix: Matrix, row: StackRow) -> Iterator[Claim]:
    """What the matrix holds of documents about pairs of this stack's parts."""
    parts = {name: version for name, version in rules.parts_of_row(row).items() if version is not None}
    for project in ("mmdet", "onedl-mmdetection", "mmpose"):
        lab = rules.mmlab_row(matrix, project, parts[project]) if project in parts else None
        if lab is None:
            continue
        hard = {lab.mmcv_package or "": lab.mmcv, "mmengine": lab.mmengine}
        for name, text in hard.items():
            if text and name in parts:
                yield Claim(project, lab.version, name, text, "asserts at import", lab.source)
        for name, text in lab.mim.items():
            if name in parts:
                yield Claim(project, lab.version, name, text, "declares in its [mim] extra", lab.source)
        if project == "mmpose" and "mmdet" in lab.mim and row.mmdet is None:
            yield Claim(project, lab.version, "mmdet", "", "leaves to its [mim] extra, and so runs with", lab.source)
    yield from _claims_about_binaries(matrix, row, parts)
    for said in matrix.documents:
        if said.package in parts and rules.within(parts[said.package], said.versions):
            about = (said.package, said.versions.removeprefix("=="))
            needs = {name: text for name, text in said.needs.items() if name in parts}
            yield from (Claim(*about, name, text, said.says, said.source) for name, text in needs.items())


def _claims_about_binaries(matrix: Matrix, row: StackRow, parts: dict[str, str]) -> Iterator[Claim]:
    torch = rules.torch_row(matrix, row.torch)
    if torch is not None and torch.numpy == "1":
        yield Claim("torch", row.torch, "numpy", "<2", "was compiled for", torch.source)
    mmcv = rules.mmcv_row(matrix, row.mmcv_package, row.mmcv)
    if mmcv is not None and row.mmcv_artefact == "build":
        how = "compiles, with fix-ups, beside"
        yield Claim(row.mmcv_package, row.mmcv, "torch", mmcv.torch, how, mmcv.source, "build")
    for name in ("xtcocotools", row.opencv.partition("==")[0]):
        binary = rules.binary_row(matrix, name, parts[name])
        artefact = row.xtcocotools_artefact if name == "xtcocotools" else "wheel"
        if binary is None:
            continue
        if binary.numpy:
            yield Claim(name, parts[name], "numpy", binary.numpy, "declares", binary.source, artefact)
        if binary.built_on == "1" and artefact == "wheel":
            yield Claim(name, parts[name], "numpy", "<2", "has a wheel compiled for", binary.source, artefact)


def contradictions(matrix: Matrix) -> tuple[Contradiction, ...]:
    """Every claim that measured stacks refute, with those stacks; in the order of the claims' texts."""
    about: dict[tuple[Claim, Optional[str]], list[StackRow]] = {}
    for row in matrix.stacks:
        for claim in claims_about(matrix, row):
            about.setdefault((claim, rules.parts_of_row(row).get(claim.needs)), []).append(row)
    found = (_contradiction(claim, version, rows) for (claim, version), rows in about.items())
    ordered = sorted((one for one in found if one is not None), key=lambda one: (one.claim.text, one.version or ""))
    return tuple(ordered)


def _contradiction(claim: Claim, version: Optional[str], rows: Iterable[StackRow]) -> Optional[Contradiction]:
    admits = version is None if not claim.range else version is not None and rules.within(version, claim.range)
    working = tuple(row for row in rows if row.outcome == "works")
    if working:
        return None if admits else Contradiction(claim, version, "works", working)
    blaming = tuple(row for row in rows if _blames(row, claim))
    return Contradiction(claim, version, "broken", blaming) if admits and blaming else None


def _blames(row: StackRow, claim: Claim) -> bool:
    """Whether a broken stack's first error is about this pair: it came where the package was compiled; or in its import
    (in any for mmpose, which stands on all of them) and names the other one. Many errors name torch, so it does not
    count. A row measured by hand has no error of its own."""
    if row.step is None or row.error is None or not row.step.startswith("import "):
        return row.step is not None and row.step == STAGE_OF.get(claim.package)
    module = row.step.removeprefix("import ").partition(".")[0]
    theirs = claim.package == "mmpose" or rules.module_of(claim.package) == module
    named = re.search(rf"\b{re.escape(claim.needs)}\b", row.error, re.IGNORECASE)
    return theirs and named is not None and claim.needs != "torch"
