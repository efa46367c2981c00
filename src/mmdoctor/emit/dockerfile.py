"""A Dockerfile that builds the plan's environment as one image."""

from __future__ import annotations

from collections.abc import Iterator

from mmdoctor import rules
from mmdoctor.emit.commands import PROOF, commands, comment, files, uses_uv
from mmdoctor.errors import UsageError
from mmdoctor.model import Plan, Stack

ENV = "/opt/mmpose"
NAMES = {
    "{python}": f"{ENV}/bin/python",
    "{env}": ENV,
    "{constraints}": "/tmp/mmdoctor/constraints.txt",
    "{overrides}": "/tmp/mmdoctor/overrides.txt",
}


def emit(plan: Plan) -> str:
    """The Dockerfile: one RUN per stage, so that a change late in the plan keeps the layers before it.

    UsageError for a plan that changes an existing environment: it names only what changes, and an image has nothing.
    """
    stack = plan.stack
    if stack is not None and not plan.new_environment:
        raise UsageError(
            f"this plan changes the environment {plan.target}, and an image starts from nothing",
            hint=f"plan a new one: --env of a new folder, or --pretend python={rules.minor(stack.python)}",
        )
    return "\n".join(_lines(plan, stack)) + "\n" if stack is not None else ""


def _lines(plan: Plan, stack: Stack) -> Iterator[str]:
    yield "# Written by `mmdoctor fix --emit dockerfile`."
    yield from comment(plan)
    yield f"FROM python:{rules.minor(stack.python)}-slim-bookworm"
    packages = _system_packages(stack)
    if packages:
        install = f"apt-get install -y --no-install-recommends {' '.join(packages)}"
        yield f"RUN apt-get update && {install} && rm -rf /var/lib/apt/lists/*"
    if uses_uv(plan):
        yield "RUN pip install --no-cache-dir uv"
    yield "ENV UV_LINK_MODE=copy work=/tmp/mmdoctor"
    yield "RUN " + _joined(['mkdir -p "$work"', *files(plan)])
    for stage in plan.stages:
        if stage.id == "environment":
            yield f"RUN uv venv --python python3 --seed {ENV}" if uses_uv(plan) else f"RUN python3 -m venv {ENV}"
        elif stage.id == "proof":
            yield f"RUN {ENV}/bin/python -c '{PROOF}'"
        else:
            yield f"# {stage.title}"
            yield "RUN " + _joined(list(commands(stage, NAMES)))
    yield f'ENV PATH="{ENV}/bin:$PATH" VIRTUAL_ENV={ENV}'


def _system_packages(stack: Stack) -> list[str]:
    """A compiler where something is compiled; OpenGL and GLib where OpenCV is the GUI build."""
    kinds = (stack.mmcv.artefact.kind, stack.xtcocotools.artefact.kind)
    packages = ["g++"] if {"build", "cached"} & set(kinds) else []
    return packages + (["libgl1", "libglib2.0-0"] if stack.opencv.name == "opencv-python" else [])


def _joined(lines: list[str]) -> str:
    return " && \\\n    ".join(text for text in lines if not text.startswith("#"))
