"""Who may import whom, and where each third-party library lives; read from the source, nothing is run."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

import mmdoctor

ROOT = Path(mmdoctor.__file__).parent
VALUES = {"model", "errors"}
CORE = {*VALUES, "matrix_model", "rules", "stack"}
# A module or package, and the ones of ours that it may import, besides what it holds itself.
MAY_IMPORT = {
    "errors": set(),
    "model": set(),
    "matrix_model": {"model"},
    "rules": {"model", "matrix_model", "stack"},
    "stack": set(),
    "checks": CORE,
    "unlock": set(),
    "candidates": {*CORE, "builds", "unlock"},
    "weigh": {*CORE, "candidates"},
    "resolve": {*CORE, "candidates", "weigh", "assumptions", "conflict"},
    "assumptions": {*CORE, "builds", "candidates", "holds", "resolve"},
    "holds": {*CORE, "candidates"},
    "conflict": {*CORE, "candidates", "holds", "resolve", "weigh"},
    "builds": CORE,
    "plan": {*CORE, "builds", "plan_mend", "plan_pip"},
    "plan_mend": CORE,
    "plan_pip": CORE,
    "rest": {*CORE, "plan_pip", "probes.indexes", "system"},
    "emit": CORE,
    "annotations": VALUES,
    "fleet": {*VALUES, "rules"},
    "explain": {*VALUES, "lang"},
    "lang": {*VALUES, "answers"},
    "pretend": VALUES,
    "matrix": {*VALUES, "matrix_model", "texts", "marks", "folders", "__init__"},
    "matrix_list": {*CORE, "candidates"},
    "refresh.listing": {*CORE, "refresh.pages"},
    "refresh.compare": {*CORE, "matrix_lint", "refresh.listing", "refresh.remote"},
    "texts": set(),
    "system": {*VALUES, "work"},
    "ahead": {"apply.places", "probes.question", "system"},
    "probes.question": {"stack"},
    "work": set(),
    "folders": {"marks"},
    "marks": {"__init__"},
    "answers": {"marks", "folders"},
    "verdicts": {*VALUES, "marks", "stack"},
    "waivers": {*VALUES, "checks"},
    "verify.claims": CORE,
    "verify.combination": {*CORE, "candidates", "resolve"},
}
# A library, and the modules where it is at home.
HOMES = {
    "subprocess": {"system"},
    "yaml": {"matrix"},
    "pynvml": {"probes.gpu"},
    "psutil": {"probes.host", "apply.processes"},
    "elftools": {"probes.elf"},
    "rich": {"report"},
    "click": {"cli", "__main__"},
}
# Third-party libraries that cost start-up time: imported inside the function that needs them.
LATE = {"yaml", "rich", "pynvml", "psutil", "elftools", "pip_api", "uv", "jsonschema"}


class Import(NamedTuple):
    module: str
    name: str
    line: int
    top: bool


def module_of(file: Path) -> str:
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts) or "__init__"


def imports(file: Path) -> Iterator[Import]:
    """Every import of a file, those under TYPE_CHECKING aside; `top` are run when the module is."""
    tree = ast.parse(file.read_text(encoding="utf-8"))

    def walk(node: ast.AST, top: bool) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                yield from (Import(module_of(file), alias.name, child.lineno, top) for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                assert child.level == 0, f"{file}:{child.lineno}: relative import"
                base = str(child.module)
                inner = [f"{base}.{alias.name}" for alias in child.names] if base.startswith("mmdoctor") else [base]
                yield from (Import(module_of(file), name, child.lineno, top) for name in inner)
            elif isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
                yield from (found for part in child.orelse for found in walk(part, top))
            else:
                inside = isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
                yield from walk(child, top and not inside)

    return walk(tree, True)


FILES = sorted(ROOT.rglob("*.py"))
OURS = {module_of(file) for file in FILES}


@cache
def every_import() -> list[Import]:
    return [found for file in FILES for found in imports(file)]


def ours(name: str) -> str:
    """The module of ours that an imported name is or comes from: `mmdoctor.checks.base.Check` → `checks.base`."""
    parts = name.split(".")[1:]
    while parts and ".".join(parts) not in OURS:
        parts.pop()
    return ".".join(parts) or "__init__"


def inside(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")


def test_the_walk_sees_late_and_early_imports() -> None:
    found = {(one.module, one.name, one.top) for one in every_import()}
    assert ("system", "subprocess", False) in found or ("system", "subprocess", True) in found
    assert ("rules.rows", "mmdoctor.model.Host", True) in found
    assert any(one.module == "matrix" and one.name == "yaml" and not one.top for one in every_import())


@pytest.mark.parametrize("package", sorted(MAY_IMPORT))
def test_the_core_imports_only_the_core(package: str) -> None:
    wrong = [
        f"{one.module}:{one.line} imports {one.name}"
        for one in every_import()
        if inside(one.module, package)
        and one.name.split(".")[0] == "mmdoctor"
        and not inside(ours(one.name), package)
        and not any(inside(ours(one.name), allowed) for allowed in MAY_IMPORT[package])
    ]
    assert not wrong, wrong


@pytest.mark.parametrize("library", sorted(HOMES))
def test_a_library_has_one_home(library: str) -> None:
    users = {one.module for one in every_import() if one.name.split(".")[0] == library}
    users = {module for module in users if not module.rpartition(".")[2].startswith("inside_")}
    assert users, f"nobody uses {library}"
    strangers = {module for module in users if not any(inside(module, home) for home in HOMES[library])}
    assert not strangers


def test_nobody_imports_the_command_line() -> None:
    users = {
        one.module for one in every_import() if one.name.startswith("mmdoctor.cli") and not inside(one.module, "cli")
    }
    assert users == {"__main__"}


def test_reports_are_for_the_command_line() -> None:
    users = {
        one.module
        for one in every_import()
        if one.name.startswith("mmdoctor.report") and not inside(one.module, "report")
    }
    assert {module.partition(".")[0] for module in users} <= {"cli", "__main__"}


def test_what_runs_in_the_target_stands_alone() -> None:
    scripts = [file for file in FILES if file.name.startswith("inside_")]
    assert len(scripts) >= 3
    for file in scripts:
        assert not [one for one in imports(file) if one.name.split(".")[0] == "mmdoctor"]
        ast.parse(file.read_text(encoding="utf-8"), feature_version=(3, 7))


def test_slow_libraries_are_imported_late() -> None:
    early = [
        f"{one.module}:{one.line} {one.name}" for one in every_import() if one.top and one.name.split(".")[0] in LATE
    ]
    assert not early


def test_nobody_reads_what_users_do_not_have() -> None:
    for file in FILES:
        text = file.read_text(encoding="utf-8")
        assert "/work" + "/" not in text, file
        assert "../" + "shared" not in text, file
