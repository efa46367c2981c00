"""The quick way to read the matrix says what YAML's parser says, of the shipped file and of broken ones."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

import mmdoctor.matrix as module
from mmdoctor.errors import DataError
from mmdoctor.matrix import dump_matrix, load_matrix, matrix_file
from mmdoctor.matrix_model import Matrix

LONG = ("archs", "mmcv", "mmcv_wheels", "openmmlab", "binaries", "documents", "stacks")
TEXT = dump_matrix(replace(load_matrix(), **dict.fromkeys(LONG, ())))  # YAML's own parser takes its time


def slowly(path: Path, monkeypatch: pytest.MonkeyPatch) -> Matrix:
    with monkeypatch.context() as patch:
        patch.setattr(module, "_canonical", lambda text, kind: None)
        return load_matrix(path)


def test_the_shipped_file_is_read_the_quick_way(monkeypatch: pytest.MonkeyPatch) -> None:
    text = matrix_file().read_text(encoding="utf-8")
    assert module._canonical(text, Matrix) == slowly(matrix_file(), monkeypatch)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('numpy: "1", cxx_std: 14', 'numpy: "1", numpy: "2", cxx_std: 14'),
        ('numpy: "1", cxx_std: 14', 'numpy: "1", colour: "red", cxx_std: 14'),
        ('{release: "1.8.0"', "{release: 1.10"),
        ('{release: "1.8.0"', '{version: "1.8.0"'),
        ('schema_version: "1"', "schema_version: 2026-11-20"),
        ("\ntorch:\n", "\ntorch:\n- ,\n"),
        ('schema_version: "1"\n', 'schema_version: "1"\nschema_version: "1"\n'),
        ("\ngpus:\n", "\ngpus: 7\n"),
    ],
)
def test_what_is_wrong_is_refused_with_its_line(old: str, new: str, tmp_path: Path) -> None:
    broken = tmp_path / "matrix.yaml"
    assert old in TEXT
    broken.write_text(TEXT.replace(old, new, 1), encoding="utf-8")
    assert module._canonical(broken.read_text(encoding="utf-8"), Matrix) is None
    with pytest.raises(DataError, match=r"matrix\.yaml:\d+: "):
        load_matrix(broken)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("\ntorch:\n", "\ntorch:  # the releases\n"),
        ("cxx_std: 14", "cxx_std:   14"),
        ("cxx11_abi: false", "cxx11_abi: no"),
        ('release: "1.8.0"', "release: '1.8.0'"),
        ('"NVIDIA CUDA GPU', '"a: b, {c: d}\\n- e \\"f\\" # g", "G99": "NVIDIA CUDA GPU'.replace('", "G99": "', " ")),
        ('"NVIDIA CUDA GPU', '"back\\\\slash NVIDIA CUDA GPU'),
    ],
)
def test_another_form_means_the_same(old: str, new: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = tmp_path / "matrix.yaml"
    assert old in TEXT
    other.write_text(TEXT.replace(old, new, 1), encoding="utf-8")
    assert load_matrix(other) == slowly(other, monkeypatch)
