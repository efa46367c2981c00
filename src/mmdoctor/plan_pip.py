"""The same stages for pip, the fallback where uv cannot be used. Pure.

pip has no overrides, so what must not be followed (chumpy, a second OpenCV) is kept out by installing the stack's own
packages with `--no-deps`, after a stage that installs what else they require.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from mmdoctor import rules
from mmdoctor.matrix_model import Matrix
from mmdoctor.model import Stack, Stage, Step

PIP = ("{python}", "-m", "pip", "install")
# What mmcv 2.x and mmcv-full 1.x require at run time (source: requirements/runtime.txt at their tags; facts: O8), and
# what onedl-mmcv 2.3 does besides onedl-mmengine and OpenCV (its METADATA).
MMCV_REQUIRES = ("addict", "packaging", "pillow", "pyyaml", "yapf")
OURS = {"torch", "torchvision", "numpy", "xtcocotools", "mmpose", "chumpy", *rules.MMCV_NAMES}
OURS |= rules.FAMILY_DISTRIBUTIONS
WITHOUT_DEPENDENCIES = ("mmcv", "numpy-bound")


def for_pip(stages: tuple[Stage, ...], matrix: Matrix, stack: Stack) -> tuple[Stage, ...]:
    """Each stage of a uv plan in pip's words, with one more before mmcv: what the `--no-deps` packages require."""
    translated: list[Stage] = []
    required = False
    for stage in stages:
        if not required and stage.id in ("mmcv", "numpy-bound", "openmmlab"):
            translated.append(_requirements(matrix, stack))
            required = True
        steps = tuple(new for step in stage.steps for new in _steps(stage.id, step))
        translated.append(msgspec.structs.replace(stage, steps=steps))
    return tuple(translated)


def _requirements(matrix: Matrix, stack: Stack) -> Stage:
    names = set(MMCV_REQUIRES)
    family = rules.family_of(stack.mmcv.name)
    for project, version in ((family.mmengine, stack.mmengine), (family.mmdet, stack.mmdet), ("mmpose", stack.mmpose)):
        row = rules.mmlab_row(matrix, project, version) if version else None
        names.update(row.requires if row else ())
    kept = []
    for text in sorted(names):
        requirement = Requirement(text)
        name = canonicalize_name(requirement.name)
        if name not in OURS and name not in rules.OPENCV_NAMES:
            kept.append(text)
    why = "what mmcv, mmengine, mmdet and mmpose require, less the stack itself and chumpy"
    steps = [Step(argv=(*PIP, "--constraint", "{constraints}", *kept), why=why)]
    if stack.mmengine:
        alone = (*PIP, "--no-deps", f"{family.mmengine}=={stack.mmengine}")
        steps.append(Step(argv=alone, why="mmcv imports it; without the OpenCV that it names"))
    return Stage(id="requirements", title="what the packages require", steps=tuple(steps))


def _steps(stage: str, step: Step) -> Iterator[Step]:
    argv = step.argv
    if argv[:2] == ("uv", "venv"):
        base = argv[argv.index("--python") + 1]
        yield msgspec.structs.replace(step, argv=(base, "-m", "venv", "{env}"))
        return
    if argv[:3] == ("uv", "pip", "uninstall"):
        names = argv[argv.index("{python}") + 1 :]
        yield msgspec.structs.replace(step, argv=("{python}", "-m", "pip", "uninstall", "-y", *names))
        return
    if argv[:3] != ("uv", "pip", "install"):
        yield step
        return
    words = [word for word in argv[argv.index("{python}") + 1 :] if word != "--compile-bytecode"]  # pip does it anyway
    again = _taken(words, "--reinstall-package")
    _taken(words, "--override")
    isolation = ("--no-build-isolation",) if _taken(words, "--no-build-isolation-package") else ()
    _taken(words, "--index-strategy")
    words = ["--extra-index-url" if word == "--index" else word for word in words]
    if stage in WITHOUT_DEPENDENCIES:
        _taken(words, "--constraint")
        yield msgspec.structs.replace(step, argv=(*PIP, "--no-deps", "--force-reinstall", *words))
        return
    if again:
        why = "pip takes a version with another local label for the same one"
        yield Step(argv=("{python}", "-m", "pip", "uninstall", "-y", *again), why=why)
    if stage == "openmmlab":
        _taken(words, "--constraint")
        ours = [word for word in words if canonicalize_name(word.split("==")[0]) in (*OURS, *rules.OPENCV_NAMES)]
        yield msgspec.structs.replace(step, argv=(*PIP, *isolation, "--no-deps", *ours))
        theirs = [word for word in words if word not in ours]
        if theirs:
            yield Step(argv=(*PIP, "--constraint", "{constraints}", *theirs), why="what the recipe asks for besides")
        return
    yield msgspec.structs.replace(step, argv=(*PIP, *words))


def _taken(words: list[str], option: str) -> list[str]:
    """Remove an option with its value from the words, each time it occurs; returns the values."""
    values = []
    while option in words:
        position = words.index(option)
        values.append(words[position + 1])
        del words[position : position + 2]
    return values
