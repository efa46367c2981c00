"""A user's requirements file as a recipe. Sole user of pip_api, whose import runs pip: late, and here alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Optional

from mmdoctor import rules
from mmdoctor.errors import DataError, UsageError
from mmdoctor.model import Recipe

STACK = {"torch", "torchvision", "numpy", "xtcocotools", "mmpose", "setuptools", *rules.FAMILY_DISTRIBUTIONS}


def recipe_of(path: Path) -> Recipe:
    """The recipe that a requirements file stands for: the stack's lines as constraints, the others installed besides.

    Nested files (`-r`) and constraints count, as pip reads them. UsageError when the file cannot be read, DataError
    with what pip_api says when a line is no requirement.
    """
    if not path.is_file():
        raise UsageError(f"cannot read {path}: there is no such file", hint="name a requirements file with --recipe")
    from pip_api import parse_requirements  # type: ignore[attr-defined]  # exported, without saying so to mypy
    from pip_api.exceptions import PipError

    try:
        found: dict[str, Any] = dict(parse_requirements(path))
    except PipError as error:
        raise DataError(f"{path}: {error}", hint="each line must be a requirement as pip reads it") from error
    packages: dict[str, str] = {}
    extra: list[str] = []
    for name, requirement in found.items():
        stack = name in STACK or name in rules.MMCV_NAMES or name in rules.OPENCV_NAMES
        if requirement.marker is not None and not requirement.marker.evaluate():
            continue
        if stack and str(requirement.specifier):
            packages[name] = str(requirement.specifier)  # a text: pip_api's classes are vendored ones
        elif not stack and name != "chumpy":
            extra.append(f"{requirement.name}{requirement.specifier}")
    opencv: Optional[Literal["opencv-python", "opencv-python-headless"]] = None
    if "opencv-python-headless" in found:
        opencv = "opencv-python-headless"
    elif "opencv-python" in found:
        opencv = "opencv-python"
    return Recipe(
        name=path.name,
        title=f"requirements file {path.name}",
        source=str(path),
        family="mmpose-0" if "mmcv-full" in found else "mmpose-1",
        packages=packages,
        opencv=opencv,
        with_chumpy="chumpy" in found,
        extra=tuple(extra),
    )
