"""Real requirements files, read by pip_api."""

from __future__ import annotations

from pathlib import Path

import pytest

from mmdoctor.errors import DataError, UsageError
from mmdoctor.requirements_file import recipe_of


def test_the_stacks_lines_become_constraints(tmp_path: Path) -> None:
    (tmp_path / "more.txt").write_text("fastapi==0.111.0\nuvicorn>=0.20 ; python_version < '3'\n")
    path = tmp_path / "requirements.txt"
    path.write_text("-r more.txt\ntorch==2.1.2\nmmcv>=2.0.1,<2.2\nnumpy\nopencv-python-headless==4.10.0.84\n# why\n")
    recipe = recipe_of(path)
    assert recipe.packages["torch"] == "==2.1.2"
    assert set(recipe.packages["mmcv"].split(",")) == {">=2.0.1", "<2.2"}
    assert "numpy" not in recipe.packages
    assert recipe.opencv == "opencv-python-headless"
    assert recipe.extra == ("fastapi==0.111.0",)


def test_a_line_that_is_no_requirement_is_said(tmp_path: Path) -> None:
    path = tmp_path / "requirements.txt"
    path.write_text("torch=2.1\n")
    with pytest.raises(DataError, match=r"requirements\.txt"):
        recipe_of(path)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such file"):
        recipe_of(tmp_path / "none.txt")
