"""What a loaded matrix must mean, beyond its form: sources that exist, pairs that fit, stacks that have rows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from mmdoctor.matrix import dump_matrix
from mmdoctor.matrix_model import Matrix, Row, StackRow, TorchRow
from mmdoctor.texts import is_range, is_requirement, is_variant, is_version

# What identifies a row of a table, and the order of its rows.
KEYS = {
    "torch": ("release",),
    "archs": ("platform", "torch", "variant"),
    "drivers": ("cuda_major",),
    "gpus": ("compute_capability",),
    "compilers": ("cuda",),
    "mmcv": ("package", "version"),
    "mmcv_wheels": ("package", "os", "torch", "variant"),
    "openmmlab": ("project", "version"),
    "numpy": ("series",),
    "binaries": ("package", "version"),
    "tools": ("torch",),
    "fixups": ("id", "package"),
    "stacks": ("torch", "build", "python", "mmcv", "numpy", "opencv"),
}
PYTHONS = ("python", "python_aarch64", "python_windows", "python_macos_arm64", "python_macos_x86_64")
VERSIONS = {
    "torch": ("release", "torchvision", "pypi_cuda", "pypi_cuda_aarch64", "glibc", *PYTHONS),
    "archs": ("torch", "sass", "ptx"),
    "drivers": ("cuda_major", "linux", "windows"),
    "gpus": ("compute_capability", "runs_on_sass_of"),
    "compilers": ("cuda", "gcc_below"),
    "mmcv": ("version", "wheel_python"),
    "mmcv_wheels": ("torch", "versions", "python"),
    "openmmlab": ("version",),
    "numpy": ("series", "last", "python"),
    "binaries": ("version", *PYTHONS),
    "tools": ("setuptools_pin",),
    "stacks": ("torch", "python", "torchvision", "mmcv", "mmengine", "mmdet", "mmpose", "numpy", "xtcocotools"),
}
RANGES = {
    "torch": ("setuptools",),
    "mmcv": ("torch",),
    "openmmlab": ("mmcv", "mmengine", "mim"),
    "binaries": ("numpy",),
    "tools": ("torch", "setuptools"),
    "fixups": ("versions", "torch", "python"),
}
REQUIREMENTS = {"openmmlab": ("requires",), "stacks": ("opencv",)}
UNPINNED_TORCHVISION = "0.29.1"  # from here on one torchvision serves several torch releases (its own metadata)


def lint_matrix(matrix: Matrix, text: str) -> tuple[str, ...]:
    """What is wrong with the meaning of a loaded matrix, one message per fault, each naming its row.

    `text` is the file that it was loaded from; it must be in canonical form. An empty tuple is a clean matrix.
    """
    faults = list(_lint_texts(matrix))
    if not faults:  # the rest compares versions, which waits until they are versions
        lints = (_lint_rows, _lint_sources, _lint_torch, _lint_machines, _lint_mmcv, _lint_stacks)
        faults += [fault for lint in lints for fault in lint(matrix)]
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


def _lint_rows(matrix: Matrix) -> Iterator[str]:
    """No row twice, and all in order."""
    seen: dict[str, tuple[Any, str]] = {}
    for table, row, name in _tables(matrix):
        rank = tuple(_rank(text) for _, text in _texts(row, KEYS[table]))
        before, before_name = seen.get(table, (None, ""))
        if name == before_name:
            yield f"{name}: is there twice"
        elif before is not None and rank < before:
            yield f"{name}: belongs before {before_name}"
        seen[table] = (rank, name)


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
        if row.pypi_cuda and "cu" + row.pypi_cuda.replace(".", "") not in row.variants:
            yield f"torch {row.release}: the PyPI wheel's CUDA {row.pypi_cuda} is not among its variants"
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
        wanted = [("torch", stack.torch), ("mmcv", stack.mmcv), ("mmengine", stack.mmengine), ("mmpose", stack.mmpose)]
        wanted += [("xtcocotools", stack.xtcocotools), (opencv, opencv_version)]
        wanted += [("mmdet", stack.mmdet), ("numpy series", _series(stack.numpy))]
        for package, version in wanted:
            if version is not None and (package, version) not in rows:
                yield f"{name}: {package} {version} has no row"
        torch = next((row for row in matrix.torch if row.release == stack.torch), None)
        if torch:
            yield from (f"{name}: {fault}" for fault in _outside(torch, stack))


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
