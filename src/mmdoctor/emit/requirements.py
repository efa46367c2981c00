"""A pinned requirements file, with what a requirements file cannot say in comments."""

from __future__ import annotations

from collections.abc import Iterator

from mmdoctor.emit.commands import comment
from mmdoctor.model import Plan


def emit(plan: Plan) -> str:
    """Every part of the stack as `NAME==VERSION`, with the index options its artefacts need."""
    return "\n".join(_lines(plan)) + "\n"


def _lines(plan: Plan) -> Iterator[str]:
    stack = plan.stack
    yield "# Written by `mmdoctor fix --emit requirements`."
    yield from comment(plan)
    if stack is None:
        return
    if stack.torch.index.startswith("http"):
        yield f"--extra-index-url {stack.torch.index}"
    if stack.mmcv.artefact.kind == "wheel":
        yield f"--find-links {stack.mmcv.artefact.source}"
        yield f"--only-binary {stack.mmcv.name}"
    for name, artefact in ((stack.mmcv.name, stack.mmcv.artefact), ("xtcocotools", stack.xtcocotools.artefact)):
        if artefact.kind in ("build", "cached"):
            yield f"# {name} is compiled: after torch and numpy, with `pip install --no-build-isolation --no-cache-dir`,"
            yield "# never from pip's own cache, which does not know for which torch or NumPy a wheel was built."
    yield from plan.constraints
    for text in plan.overrides:
        yield f"# leave out: {text.split(' ;')[0]}"
