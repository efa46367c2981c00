"""A pinned requirements file, with what a requirements file cannot say in comments."""

from __future__ import annotations

from collections.abc import Iterator

from mmdoctor.emit.commands import comment
from mmdoctor.model import Plan


def emit(plan: Plan) -> str:
    """Every part of the stack as `NAME==VERSION`, with the index options its artefacts need.

    What is compiled stands in a comment: in a requirements file pip would build it isolated from torch, which gives an
    mmcv without ops, and says that all went well.
    """
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
        source = stack.mmcv.artefact.source
        yield f"--find-links {source}" if "://" in source else f"# {stack.mmcv.name} lies in your own {source}"
        yield f"--only-binary {stack.mmcv.name}"
    parts = ((stack.mmcv.name, stack.mmcv.artefact), ("xtcocotools", stack.xtcocotools.artefact))
    compiled = {name for name, artefact in parts if artefact.kind in ("build", "cached")}
    later = [text for text in plan.constraints if text.partition("==")[0] in compiled]
    yield from (text for text in plan.constraints if text not in later)
    if later:
        yield "# Compiled, after all of the above and never from pip's own cache, which does not know for which torch"
        yield "# or NumPy a wheel was built (`--emit script` has it with hashes and fix-ups):"
        options = "--no-build-isolation --no-cache-dir --no-deps --force-reinstall --no-binary :all:"
        yield from (f"#   pip install {options} {text}" for text in later)
    for text in plan.overrides:
        yield f"# leave out: {text.partition(' ;')[0]}"
