"""What a loaded matrix must mean, beyond its form: sources that exist, pairs that fit, stacks that have rows."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any

from mmdoctor import rules
from mmdoctor.matrix import dump_matrix, row_lines
from mmdoctor.matrix_model import Matrix, Row, StackRow, TorchRow
from mmdoctor.texts import is_range, is_requirement, is_variant, is_version

# What identifies a row of a table, and the order of its rows.
KEYS = {
    "torch": ("release",),
    "archs": ("platform", "torch", "variant"),
    "drivers": ("cuda_major",),
    "toolkits": ("cuda",),
    "gpus": ("compute_capability",),
    "compilers": ("cuda",),
    "standards": ("gcc",),
    "mmcv": ("package", "version"),
    "mmcv_wheels": ("package", "os", "torch", "variant"),
    "wheel_sources": ("name",),
    "openmmlab": ("project", "version"),
    "numpy": ("series",),
    "binaries": ("package", "version"),
    "tools": ("torch",),
    "fixups": ("id", "package"),
    "documents": ("package", "versions", "says", "needs"),
    "stacks": (
        "torch",
        "build",
        "python",
        "mmcv",
        "mmpose",
        "mmdet",
        "mmengine",
        "numpy",
        "xtcocotools",
        "xtcocotools_artefact",
        "mmcv_artefact",
        "torchvision",
        "opencv",
        "machine",
    ),
}
PYTHONS = ("python", "python_aarch64", "python_windows", "python_macos_arm64", "python_macos_x86_64")
VERSIONS = {
    "torch": ("release", "torchvision", "pypi_cuda", "pypi_cuda_aarch64", "glibc", *PYTHONS),
    "archs": ("torch", "sass", "ptx"),
    "drivers": ("cuda_major", "linux", "windows"),
    "toolkits": ("cuda", "linux", "windows"),
    "gpus": ("compute_capability", "runs_on_sass_of"),
    "compilers": ("cuda", "gcc_below"),
    "standards": ("gcc",),
    "mmcv": ("version", "wheel_python"),
    "wheel_sources": ("glibc",),
    "mmcv_wheels": ("torch", "versions", "python", "archs"),
    "openmmlab": ("version",),
    "numpy": ("series", "last", "python", "glibc"),
    "binaries": ("version", *PYTHONS),
    "tools": ("setuptools_pin",),
    "stacks": ("torch", "python", "torchvision", "mmcv", "mmengine", "mmdet", "mmpose", "numpy", "xtcocotools"),
}
RANGES = {
    "torch": ("setuptools",),
    "mmcv": ("torch", "python"),
    "openmmlab": ("mmcv", "mmengine", "mim"),
    "binaries": ("numpy",),
    "tools": ("torch", "setuptools"),
    "fixups": ("versions", "torch", "python"),
    "documents": ("versions", "needs"),
}
REQUIREMENTS = {"openmmlab": ("requires",), "stacks": ("opencv",)}
UNPINNED_TORCHVISION = "0.29.1"  # from here on one torchvision serves several torch releases (its own metadata)


def lint_matrix(matrix: Matrix, text: str) -> tuple[str, ...]:
    """What is wrong with the meaning of a loaded matrix, one message per fault, each naming its row.

    `text` is the file that it was loaded from; it must be in canonical form. An empty tuple is a clean matrix.
    """
    faults = list(_lint_texts(matrix))
    if not faults:  # the rest compares versions, which waits until they are versions
        faults += [fault for lint in LINTS for fault in lint(matrix)]
    written = dump_matrix(matrix).splitlines()
    for number, (line, wanted) in enumerate(zip([*text.splitlines(), ""], [*written, ""]), 1):
        if line != wanted:
            faults.append(f"line {number} is not in canonical form; expected: {wanted}")
            break
    return tuple(faults)


def _tables(matrix: Matrix) -> Iterator[tuple[str, Any, str]]:
    """(table, row, the row's name in messages) of all rows."""
    for table, fields in KEYS.items():
        for row in getattr(matrix, table):
            yield table, row, " ".join([table, *(text for _, text in _texts(row, fields))])


def _texts(row: Row, fields: Iterable[str]) -> Iterator[tuple[str, str]]:
    """(field, text) of all texts in these fields, also within tuples and dicts of texts."""
    for field in fields:
        pending = [getattr(row, field)]
        while pending:
            value = pending.pop(0)
            if isinstance(value, str):
                yield field, value
            elif value is not None:
                pending += value.values() if isinstance(value, dict) else value


def _lint_texts(matrix: Matrix) -> Iterator[str]:
    for table, row, name in _tables(matrix):
        for fields, good, what in (
            (VERSIONS, is_version, "version"),
            (RANGES, is_range, "version range"),
            (REQUIREMENTS, is_requirement, "requirement"),
        ):
            for field, text in _texts(row, fields.get(table, ())):
                if not good(text):
                    yield f"{name}: {field}: {text!r} is not a {what}"


def located(faults: Iterable[str], matrix: Matrix, text: str, file: str) -> Iterator[str]:
    """The faults that `lint_matrix` found, each with file and line of the row that it names."""
    lines = dict(row_lines(text))
    counts: dict[str, int] = {}
    for table, _, name in _tables(matrix):
        counts[table] = counts.get(table, -1) + 1
        lines.setdefault(name, lines[f"{table}[{counts[table]}]"])
    for fault in faults:
        stated = re.match(r"line (\d+) ", fault)
        names = [name for name in lines if fault.startswith((f"{name}:", f"{name} "))]
        line = int(stated[1]) if stated else lines[max(names, key=len)] if names else 1
        yield f"{file}:{line}: {fault}"


def _lint_head(matrix: Matrix) -> Iterator[str]:
    """What stands above the tables."""
    if not re.fullmatch(r"\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])", matrix.read_on):
        yield f"read_on: {matrix.read_on!r} is not a date as in 2026-11-20"
    for field, wanted in (("torch_index", {"variant"}), ("openmmlab_index", {"variant", "torch"})):
        address = getattr(matrix, field)
        if set(re.findall(r"{(\w*)}", address)) != wanted or not re.match(r"https?://", address):
            yield f"{field}: expected an address with {' and '.join(f'{{{name}}}' for name in sorted(wanted))}"
    if list(matrix.sources) != sorted(matrix.sources, key=source_order):
        yield "sources: not in order"


def _lint_rows(matrix: Matrix) -> Iterator[str]:
    """No row twice, and all in order."""
    seen: dict[str, tuple[Any, str]] = {}
    for table, row, name in _tables(matrix):
        rank = row_order(table, row)
        before, before_name = seen.get(table, (None, ""))
        if name == before_name:
            yield f"{name}: is there twice"
        elif before is not None and rank < before:
            yield f"{name}: belongs before {before_name}"
        seen[table] = (rank, name)


def _lint_lists(matrix: Matrix) -> Iterator[str]:
    """No version twice within a list of a row, and all in order."""
    for table, row, name in _tables(matrix):
        fields = (*VERSIONS.get(table, ()), *(("variants",) if isinstance(row, TorchRow) else ()))
        for field in fields:
            value = getattr(row, field)
            for listed in value.values() if isinstance(value, dict) else (value,):
                if not isinstance(listed, tuple):
                    continue
                twice = sorted({text for text in listed if listed.count(text) > 1})
                if twice:
                    yield f"{name}: {field}: {', '.join(twice)} twice"
                elif list(listed) != sorted(listed, key=_rank):
                    yield f"{name}: {field}: {', '.join(listed)} is not in order"
        for key in sorted({key for key in row.source if row.source.count(key) > 1}):
            yield f"{name}: source {key!r} twice"
        digest = getattr(row, "sdist_sha256", None)
        if digest is not None and not re.fullmatch(r"[0-9a-f]{64}", digest):
            yield f"{name}: sdist_sha256: {digest!r} is not 64 hexadecimal digits"


def _lint_trends(matrix: Matrix) -> Iterator[str]:
    """What a newer torch never goes back on: a wheel that was read wrongly shows here."""
    for older, newer in zip(matrix.torch, matrix.torch[1:]):
        for field in ("numpy", "cxx_std", "cxx11_abi", "weights_only"):
            before, after = getattr(older, field), getattr(newer, field)
            if after < before:
                yield f"torch {newer.release}: {field} {after} goes back behind {before} of torch {older.release}"
        pairs = [max(row.torchvision, key=_rank) for row in (older, newer) if row.torchvision]
        if len(pairs) == 2 and _rank(pairs[1]) < _rank(pairs[0]):
            yield f"torch {newer.release}: torchvision {pairs[1]} is older than {pairs[0]} of torch {older.release}"
        if not any(getattr(newer, field) for field in PYTHONS):
            yield f"torch {newer.release}: has no wheel at all"


def row_order(table: str, row: Row) -> tuple[tuple[int, Any], ...]:
    """The sort key of a row within its table."""
    return tuple(_rank(text) for _, text in _texts(row, KEYS[table]))


def source_order(key: str) -> tuple[str, int]:
    """The sort key of a source: by its letters, then by its number."""
    letters = key.rstrip("0123456789")
    return letters, int(key[len(letters) :] or 0)


@cache
def _rank(text: str) -> tuple[int, Any]:
    """Orders versions as versions, cpu before cu92 before cu118, and other texts by the alphabet."""
    from packaging.version import Version

    if is_variant(text):
        return 0, int(text[2:]) if text != "cpu" else 0
    return (1, Version(text)) if is_version(text) else (2, text)


def _lint_sources(matrix: Matrix) -> Iterator[str]:
    used = set()
    for _, row, name in _tables(matrix):
        used |= set(row.source)
        if not row.source:
            yield f"{name}: has no source"
        for key in row.source:
            if key not in matrix.sources:
                yield f"{name}: source {key!r} is not in the table of sources"
    for key in matrix.sources.keys() - used:
        yield f"sources {key}: no row uses it"


def _lint_torch(matrix: Matrix) -> Iterator[str]:
    releases = {row.release: row for row in matrix.torch}
    owner: dict[str, str] = {}
    for row in matrix.torch:
        for variant in row.variants:
            if not is_variant(variant):
                yield f"torch {row.release}: {variant!r} is no variant; expected cpu or cu and digits"
        for cuda in dict.fromkeys((row.pypi_cuda, row.pypi_cuda_aarch64)):
            if cuda and f"cu{cuda.replace('.', '')}" not in row.variants:
                yield f"torch {row.release}: the PyPI wheel's CUDA {cuda} is not among its variants"
        for pair in row.torchvision:
            other = owner.setdefault(pair, row.release)
            if other != row.release and _rank(pair) < _rank(UNPINNED_TORCHVISION):
                yield f"torch {row.release}: torchvision {pair} belongs to torch {other}"
    for arch in matrix.archs:
        if arch.torch not in releases or arch.variant not in releases[arch.torch].variants:
            yield f"archs {arch.platform} {arch.torch} {arch.variant}: there is no such torch release and variant"


def _lint_machines(matrix: Matrix) -> Iterator[str]:
    for older, newer in zip(matrix.drivers, matrix.drivers[1:]):
        for field in ("linux", "windows"):
            before, after = getattr(older, field), getattr(newer, field)
            if before and after and _rank(after) < _rank(before):
                yield f"drivers {newer.cuda_major}: {field} {after} is older than {before} of CUDA {older.cuda_major}"
    for gpu in matrix.gpus:
        if gpu.arch != "sm_" + gpu.compute_capability.replace(".", ""):
            yield f"gpus {gpu.compute_capability}: arch {gpu.arch} is not that of its compute capability"
        if gpu.compute_capability not in gpu.runs_on_sass_of:
            yield f"gpus {gpu.compute_capability}: does not run its own machine code"
    for row in matrix.numpy:
        if not row.series.startswith(row.abi + ".") or not row.last.startswith(row.series + "."):
            yield f"numpy {row.series}: {row.last} and API {row.abi} are not of this series"


def _lint_mmcv(matrix: Matrix) -> Iterator[str]:
    known = {(row.package, row.version) for row in matrix.mmcv}
    variants: dict[str, set[str]] = {}
    for torch in matrix.torch:
        variants.setdefault(_series(torch.release), set()).update(torch.variants)
    for row in matrix.mmcv_wheels:
        name = f"mmcv_wheels {row.package} {row.os} {row.torch} {row.variant}"
        if row.variant not in variants.get(row.torch, {row.variant}):
            yield f"{name}: torch {row.torch} has no variant {row.variant}"
        for version in row.versions:
            if (row.package, version) not in known and "rc" not in version:
                yield f"{name}: {version} has no row in mmcv"
        for version in row.python.keys() - set(row.versions):
            yield f"{name}: python names {version}, which is not in versions"
        if row.archs and row.variant == "cpu":
            yield f"{name}: a CPU build has no archs"
    for project in matrix.openmmlab:
        if (project.mmcv is None) != (project.mmcv_package is None):
            yield f"openmmlab {project.project} {project.version}: mmcv and mmcv_package go together"
    for torch in matrix.torch:
        tools = [row for row in matrix.tools if _admits(row.torch, torch.release)]
        if len(tools) != 1:
            yield f"torch {torch.release}: {len(tools)} rows of tools apply, expected one"
    for tool in matrix.tools:
        if not _admits(tool.setuptools, tool.setuptools_pin):
            yield f"tools {tool.torch}: the pin {tool.setuptools_pin} is outside {tool.setuptools}"
    built = known | {(row.package, row.version) for row in matrix.binaries}
    for fixup in matrix.fixups:
        if not any(package == fixup.package and _admits(fixup.versions, version) for package, version in built):
            yield f"fixups {fixup.id} {fixup.package}: no row has such a version"
        if bool(fixup.replace) != bool(fixup.file):
            yield f"fixups {fixup.id} {fixup.package}: file and replace go together"


def _lint_wheel_sources(matrix: Matrix) -> Iterator[str]:
    """One index for each fork, an address that can be filled in, and none for what it has no wheel of."""
    own = [package for source in matrix.wheel_sources if not source.community for package in source.packages]
    for package in sorted({name for name in own if own.count(name) > 1}):
        yield f"wheel_sources: {package} has several"
    for source in matrix.wheel_sources:
        if set(re.findall(r"{(\w*)}", source.page)) - {"variant", "torch", "digits"}:
            yield f"wheel_sources {source.name}: page knows {{variant}}, {{torch}} and {{digits}} only"
        for package in set(source.packages) - {wheel.package for wheel in matrix.mmcv_wheels}:
            yield f"wheel_sources {source.name}: mmcv_wheels has no row of {package}"


def _lint_stacks(matrix: Matrix) -> Iterator[str]:
    """Every version of a stack that was brought up has its row."""
    rows = {("torch", row.release) for row in matrix.torch} | {("numpy series", row.series) for row in matrix.numpy}
    rows |= {(row.package, row.version) for row in matrix.mmcv} | {
        (row.package, row.version) for row in matrix.binaries
    }
    rows |= {(row.project, row.version) for row in matrix.openmmlab}
    for table, stack, name in _tables(matrix):
        if table != "stacks":
            continue
        opencv, _, opencv_version = stack.opencv.partition("==")
        family = rules.family_of(stack.mmcv_package)
        wanted = [("torch", stack.torch), (stack.mmcv_package, stack.mmcv), ("mmpose", stack.mmpose)]
        wanted += [("xtcocotools", stack.xtcocotools), (opencv, opencv_version), (family.mmengine, stack.mmengine)]
        wanted += [(family.mmdet, stack.mmdet), ("numpy series", _series(stack.numpy))]
        for package, version in wanted:
            if version is not None and (package, version) not in rows:
                yield f"{name}: {package} {version} has no row"
        torch = next((row for row in matrix.torch if row.release == stack.torch), None)
        if torch and not (stack.machine and stack.outcome == "broken"):  # a wrong pair may be what was measured
            yield from (f"{name}: {fault}" for fault in _outside(torch, stack))
        if stack.machine:
            yield from (f"{name}: {fault}" for fault in _no_evidence(stack))


def _no_evidence(stack: StackRow) -> Iterator[str]:
    """What is missing of a row that says on which machine it was measured."""
    if stack.outcome == "broken" and not (stack.step and stack.error):
        yield "it is broken, and no step with its error says how"
    if stack.outcome == "works" and (stack.step or stack.error or stack.roots):
        yield "it works, and yet something failed"
    if not stack.times or any(len(both) != 2 for both in stack.times.values()):
        yield "there are no times of its steps, wall clock and CPU"
    for file, digest in stack.artefacts.items():
        if not re.fullmatch(r"[0-9a-f]{64}", digest):
            yield f"{file} has no sha256"


def _outside(torch: TorchRow, stack: StackRow) -> Iterator[str]:
    if stack.torchvision not in torch.torchvision:
        yield f"torchvision {stack.torchvision} is not that of torch {torch.release}"
    if stack.build not in torch.variants:
        yield f"torch {torch.release} has no variant {stack.build}"
    if stack.python not in torch.python:
        yield f"torch {torch.release} has no wheel for Python {stack.python}"


def _series(version: str) -> str:
    return ".".join(version.split(".")[:2])


def _admits(ranges: str, version: str) -> bool:
    from packaging.specifiers import SpecifierSet

    return SpecifierSet(ranges).contains(version, prereleases=True)


LINTS = (
    _lint_head,
    _lint_rows,
    _lint_lists,
    _lint_sources,
    _lint_torch,
    _lint_trends,
    _lint_machines,
    _lint_mmcv,
    _lint_wheel_sources,
    _lint_stacks,
)
