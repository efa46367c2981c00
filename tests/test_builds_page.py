"""docs/builds.md: every measured source build with the fix-ups that the matrix gives it, and every fix-up with what it
changes."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from mmdoctor import rules
from mmdoctor.matrix_model import Matrix

TOOLS = Path(__file__).parents[1] / "tools"


@pytest.fixture
def page(matrix: Matrix, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.syspath_prepend(str(TOOLS))
    import builds_page

    monkeypatch.delitem(sys.modules, "builds_page")
    monkeypatch.delitem(sys.modules, "matrix_page")
    text: str = builds_page.page(matrix)
    return text


def test_every_measured_build_is_there_with_its_fixups(matrix: Matrix, page: str) -> None:
    lines = [line for line in page.splitlines() if line.startswith("| ")]
    compiled = [row for row in matrix.stacks if row.mmcv_artefact == "build"]
    assert compiled
    for row in compiled:
        beside = f"| {row.mmcv_package} {row.mmcv} | torch {row.torch}+{row.build} | {rules.minor(row.python)} |"
        found = [line for line in lines if line.startswith(beside)]
        assert found, row.id
        wanted = rules.fixups_for(matrix, row.mmcv_package, row.mmcv, row.torch, row.python)
        for line in found:
            assert [f"[{fixup.id}](#{fixup.id}-for-{fixup.package})" in line for fixup in wanted] == [True] * len(
                wanted
            )
            assert ("| none |" in line) is (not wanted)


def test_every_fixup_says_what_it_changes_why_and_whence(matrix: Matrix, page: str) -> None:
    for row in matrix.fixups:
        part = page.partition(f"\n### {row.id} for {row.package}\n")[2].partition("\n### ")[0]
        assert row.reason in part
        assert all(matrix.sources[key] in part for key in row.source)
        for old, new in row.replace.items():
            assert all(f"-{line}\n" in part for line in old.splitlines())
            assert all(f"+{line}\n" in part for line in new.splitlines())
        assert "Needed by: " in part
