"""mmcv's published wheel table and the resolver: one answer for every (OS, CUDA, torch, mmcv), the empty places too.

`data/mmcv_wheel_table.json` is a copy of that table, with its source inside, made apart from `compat_matrix.yaml`.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from functools import cache
from typing import Any

import pytest
from packaging.version import Version

from mmdoctor import rules
from mmdoctor.matrix_model import Matrix
from mmdoctor.model import Facts, Gpu, Host, Index, Recipe, Request, Target, Toolchain
from mmdoctor.resolve import resolve
from tests.conftest import DATA
from tests.oracle_parts import inside, series

TABLE = json.loads((DATA / "mmcv_wheel_table.json").read_text(encoding="utf-8"))
SYSTEMS = ("linux", "windows", "macos")
FAMILIES = {"mmcv": "mmpose-1", "mmcv-full": "mmpose-0"}
# Every mmcv of the table has a wheel for it wherever it has wheels at all, and so has every torch up to 2.4.
PYTHON, LATER_PYTHON = "3.8.10", "3.10.12"
# Seen in use though the table lacks them. The second is left out: "no kernel image" on both machines that reported it.
BESIDES = {("mmcv-full", "linux", "cu117", "1.13", "1.7.2")}
LEFT_OUT = {("mmcv-full", "linux", "cu121", "2.1", "1.7.2")}


@cache
def published() -> frozenset[tuple[str, str, str, str, str]]:
    """Every (package, OS, variant, torch, version) of the table; a page of mps holds what the page of cpu holds."""
    return frozenset(
        (package, system, "cpu" if accelerator == "mps" else accelerator, torch, version)
        for package, systems in TABLE["wheels"].items()
        for system, accelerators in systems.items()
        for accelerator, torches in accelerators.items()
        for torch, versions in torches.items()
        for version in versions.split()
    )


def host(system: str, machine: str = "x86_64") -> Host:
    return Host(
        os=system,  # type: ignore[arg-type]
        os_name=system,
        machine=machine,
        glibc="2.36" if system == "linux" else None,
        cpu_count=8,
        memory_total_bytes=32 * 1024**3,
        memory_available_bytes=32 * 1024**3,
        disk_free_bytes=100 * 1024**3,
        container=None,
        wsl=False,
        libgl=True,
    )


def empty(here: Host, python: str) -> Facts:
    """An environment that is not there yet, every index at hand."""
    return Facts(
        mmdoctor="0",
        host=here,
        gpu=Gpu(driver=None, source=None, cuda_ceiling=None, devices=(), reason="none"),
        toolchain=Toolchain(nvcc=None, gcc=None, ninja=None, cuda_home=None),
        target=Target(requested="/env", state="absent", python=python),
        indexes=tuple(
            Index(name=n, url=f"https://{n}.example", reachable=True) for n in ("pypi", "torch", "openmmlab")
        ),  # type: ignore[arg-type]
    )


def say(capsys: pytest.CaptureFixture[str], text: str) -> None:
    with capsys.disabled():
        sys.stdout.write(f"\n{text}\n")


def test_the_copy_is_the_table() -> None:
    """The counts of the source, so that nothing is lost from the copy unseen."""
    rows = [
        (p, s, a, t)
        for p, systems in TABLE["wheels"].items()
        for s, x in systems.items()
        for a, y in x.items()
        for t in y
    ]
    assert len(rows) == len(set(rows)) == 182
    assert len(published()) == 2139
    assert {tuple(row[:5]) for row in TABLE["besides"]} == BESIDES | LEFT_OUT


def test_the_rule_answers_as_the_table(matrix: Matrix, capsys: pytest.CaptureFixture[str]) -> None:
    """Every place of the grid, that is (package, OS, variant, torch minor, release): a wheel where there is one, and
    none where there is none. The pre-releases have no row as a release: no answer ever names one."""
    releases = {(row.package, row.version) for row in matrix.mmcv if row.package in FAMILIES}
    assert {(p, v) for p, *_, v in published() if not Version(v).is_prerelease} <= releases
    assert not {v for _, v in releases if Version(v).is_prerelease}
    variants = {variant for _, _, variant, _, _ in published()} | {v for row in matrix.torch for v in row.variants}
    minors = {torch for *_, torch, _ in published()} | {series(row.release) for row in matrix.torch}
    counts: Counter[str] = Counter()
    wrong = []
    for system in SYSTEMS:
        here = host(system)
        for variant in sorted(variants):
            for torch in sorted(minors, key=Version):
                for package, version in sorted(releases):
                    place = (package, system, variant, torch, version)
                    expected = place in published() or place in BESIDES
                    found = rules.mmcv_wheel(matrix, package, version, here, variant, f"{torch}.0", PYTHON) is not None
                    counts["a wheel" if expected else "none"] += 1
                    wrong += [place] if found != expected else []
    assert not wrong, f"{len(wrong)} places differ, first {wrong[:5]}"
    assert counts["a wheel"] == len([1 for *_, v in published() if not Version(v).is_prerelease]) + len(BESIDES)
    say(
        capsys,
        f"wheel table: {sum(counts.values()):,} places agree: {counts['a wheel']:,} wheels, {counts['none']:,} empty",
    )


def test_the_matrix_holds_the_pre_releases_too(matrix: Matrix) -> None:
    rows = {
        (r.package, r.os, r.variant, r.torch, v)
        for r in matrix.mmcv_wheels
        if r.package in FAMILIES
        for v in r.versions
    }
    assert rows == published() | BESIDES


def test_the_rule_knows_the_pythons(matrix: Matrix, capsys: pytest.CaptureFixture[str]) -> None:
    """Where the Pythons of a wheel were seen one by one: all of them where the list is whole, else at least those."""
    for package, system, variant, torch, version, pythons, extent in TABLE["pythons"]:
        if (package, system, variant, torch, version) in LEFT_OUT:
            continue
        asked = [f"3.{minor}" for minor in range(6, 15)]
        found = {
            p
            for p in asked
            if rules.mmcv_wheel(matrix, package, version, host(system), variant, f"{torch}.0", f"{p}.1")
        }
        listed = set(pythons.split())
        assert found == listed if extent == "all" else listed <= found, (package, version, system, variant, torch)
    say(capsys, f"wheel table: the Pythons of {len(TABLE['pythons']) - len(LEFT_OUT)} wheels agree")


@pytest.mark.parametrize(("system", "machine"), [("linux", "aarch64"), ("macos", "arm64"), ("linux", "ppc64le")])
def test_only_x86_64_has_wheels(system: str, machine: str, matrix: Matrix) -> None:
    for package, _, variant, torch, version in published():
        assert rules.mmcv_wheel(matrix, package, version, host(system, machine), variant, f"{torch}.0", PYTHON) is None


# ----------------------------------------------------------------------------------------------- the whole resolver


def questions(matrix: Matrix, system: str) -> list[tuple[str, str, Any, str]]:
    """(package, variant, row of torch, version): every torch minor that is on an index for this system, its variants,
    and every release that some mmpose of its generation takes, whether there is a wheel or not; of mmcv-full, with its
    58 releases, the newest and the oldest with a wheel and without one."""
    asked = []
    for minor in sorted({series(row.release) for row in matrix.torch}, key=Version):
        row = max((row for row in matrix.torch if series(row.release) == minor), key=lambda row: Version(row.release))
        for variant in row.variants if system != "macos" else ("cpu",):
            for package, family in FAMILIES.items():
                taken = [r.mmcv for r in matrix.openmmlab if (r.project, r.mmcv_package) == ("mmpose", package)]
                releases = [r.version for r in matrix.mmcv if r.package == package]
                usable = sorted((v for v in releases if any(inside(v, text) for text in taken)), key=Version)
                if family == "mmpose-0":
                    there = [v for v in usable if (package, system, variant, minor, v) in published()]
                    gone = [v for v in usable if v not in there]
                    usable = [*there[:1], *there[1:][-1:], *gone[-1:]]
                asked += [(package, variant, row, version) for version in usable]
    return asked


def agreed(system: str, matrix: Matrix, every: int) -> Counter[str]:
    """With torch and mmcv pinned and no compiling, there is a stack just where the table has a wheel, from its page.

    Asks every so many of the questions; says how many had a wheel, and how many none.
    """
    counts: Counter[str] = Counter()
    for package, variant, row, version in questions(matrix, system)[::every]:
        pythons = {"linux": row.python, "windows": row.python_windows, "macos": row.python_macos_x86_64}[system]
        python = PYTHON if series(PYTHON) in pythons else LATER_PYTHON
        if series(python) not in pythons:
            continue
        recipe = Recipe(name="any", title="", source="", family=FAMILIES[package])  # type: ignore[arg-type]
        pins = {"torch": f"{row.release}+{variant}", package: version}
        stack = resolve(empty(host(system), python), matrix, Request(recipe=recipe, pins=pins, allow_build=False)).stack
        place = (package, system, variant, series(row.release), version)
        expected = place in published() or place in BESIDES
        assert (stack is not None) == expected, place
        counts["a wheel" if expected else "none"] += 1
        if stack is not None:
            page = f"/{variant}/torch{series(row.release)}.0/index.html"
            assert (stack.mmcv.artefact.kind, stack.mmcv.version) == ("wheel", version), place
            assert stack.mmcv.artefact.source.endswith(page), stack.mmcv.artefact.source
    return counts


@pytest.mark.parametrize("system", SYSTEMS)
def test_the_resolver_answers_as_the_table(system: str, matrix: Matrix) -> None:
    """A sample; all of them under the marker `real`."""
    counts = agreed(system, matrix, every=1 if system == "macos" else 13)
    assert min(counts["a wheel"], counts["none"]) >= 8


@pytest.mark.real
@pytest.mark.parametrize("system", SYSTEMS)
def test_the_resolver_answers_as_the_whole_table(
    system: str, matrix: Matrix, capsys: pytest.CaptureFixture[str]
) -> None:
    counts = agreed(system, matrix, every=1)
    say(capsys, f"resolver on {system}: {sum(counts.values()):,} questions agree: {dict(counts)}")
    assert min(counts["a wheel"], counts["none"]) >= (20 if system == "macos" else 100)
