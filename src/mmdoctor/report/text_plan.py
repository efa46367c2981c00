"""The text of a plan: what changes, what it costs, every command with its reason, and what was rejected.

`Plan.reasons` are not repeated here: the stack's line and the cost say the same with the minutes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Optional

from mmdoctor.model import Artefact, Build, Change, Nearest, Plan, Rejection, Stack, Stage
from mmdoctor.report.page import Page, quote, size

MOST_REJECTIONS = 6
WORDS = ("constraint", "variant")
MMCV = {"wheel": "prebuilt", "cached": "compiled earlier", "build": "compiled", "installed": "as installed"}
EVIDENCE = {
    "tested": "tested: brought up as a whole",
    "tested-elsewhere": "tested on another Python: brought up there as a whole",
    "documented": "documented by its projects, not tested as a whole",
    "derived": "derived from its parts' ranges, not tested as a whole",
}


def write_plan(page: Page, plan: Plan) -> None:
    """Write the plan, whatever its status, onto the page."""
    page.line(("mmdoctor fix", "bold"), f"  {plan.target}  (recipe {plan.recipe})")
    page.pretended(plan.pretended)
    page.line()
    if plan.status == "nothing-to-do":
        page.line(("nothing to do", "bold green"), ": the environment is what the recipe asks for")
    elif plan.status == "unsatisfiable":
        page.prose(plan.conflict or "nothing satisfies the request", first="no stack: ", style="bold red")
        write_nearest(page, plan.nearest)
    else:
        _changes(page, plan)
    if plan.status != "nothing-to-do":
        write_rejections(page, plan.rejected)
    _sentences(page, "Not for a plan to mend", plan.manual)
    _sentences(page, "Your packages that cannot live beside this stack", plan.forbidden)
    _sentences(page, "Assumed", plan.assumptions)
    if plan.status == "plan":
        what = "builds it" if plan.new_environment else "repairs a copy, proves it, and swaps it in"
        page.line()
        recipe = "" if plan.recipe == "rtmpose" else f" --recipe {quote(plan.recipe)}"
        page.line(f"next: mmdoctor fix --apply --env {quote(plan.target)}{recipe}    {what}")


def _sentences(page: Page, heading: str, sentences: Sequence[str]) -> None:
    if sentences:
        page.heading(heading)
    for sentence in sentences:
        page.prose(sentence, 2, first="- ")


def _changes(page: Page, plan: Plan) -> None:
    page.line(("Changes", "bold"))
    page.table([_change(change) for change in plan.changes])
    if plan.stack is not None:
        page.heading("Stack")
        page.table(_stack(plan.stack))
        page.line(EVIDENCE[plan.stack.evidence], indent=2)
    page.heading("Cost")
    for line in _costs(plan):
        page.prose(line, 2)
    page.heading("Stages")
    for number, stage in enumerate(plan.stages, 1):
        _stage(page, number, stage, plan.stack)
    for name, held in (("constraints", plan.constraints), ("overrides", plan.overrides)):
        if held:
            page.prose(", ".join(held), 2, first=f"{{{name}}}: ")


def _change(change: Change) -> tuple[str, str, str, str, str]:
    return change.name, change.old or "not installed", "→", change.new or "removed", change.why


def _stack(stack: Stack) -> list[tuple[str, str, str]]:
    parts = (
        ("Python", stack.python, ""),
        ("torch", stack.torch.version, stack.torch.variant),
        ("torchvision", stack.torchvision, ""),
        (stack.mmcv.name, stack.mmcv.version, stack.mmcv.artefact.kind),
        ("mmengine", stack.mmengine, ""),
        ("mmdet", stack.mmdet, ""),
        ("mmpose", stack.mmpose, ""),
        ("numpy", stack.numpy, ""),
        ("xtcocotools", stack.xtcocotools.version, stack.xtcocotools.artefact.kind),
        (stack.opencv.name, stack.opencv.version, ""),
        ("setuptools", stack.setuptools, ""),
    )
    return [(name, version, note) for name, version, note in parts if version]


def _costs(plan: Plan) -> Iterator[str]:
    downloaded = plan.cost.download_bytes
    yield f"downloads about {size(downloaded)}" if downloaded else "downloads nothing of a known size"
    steps = (step.build for stage in plan.stages for step in stage.steps if step.build is not None)
    builds = [build for build in steps if not _compiled_earlier(plan.stack, build)]
    for build in builds:
        artefact = _artefact(plan.stack, build)
        because = f", because {artefact.reason}" if artefact is not None else ""
        yield f"compiles {build.package} {build.version}: {_minutes(build.minutes)}{because}"
    if not builds:
        yield "compiles nothing"


def _artefact(stack: Optional[Stack], build: Build) -> Optional[Artefact]:
    if stack is None:
        return None
    return {stack.mmcv.name: stack.mmcv.artefact, "xtcocotools": stack.xtcocotools.artefact}.get(build.package)


def _compiled_earlier(stack: Optional[Stack], build: Build) -> bool:
    artefact = _artefact(stack, build)
    return artefact is not None and artefact.kind == "cached"


def _minutes(minutes: float) -> str:
    whole = round(minutes)
    return "less than a minute" if minutes < 1 else f"about {whole} minute{'s' if whole != 1 else ''}"


def _stage(page: Page, number: int, stage: Stage, stack: Optional[Stack]) -> None:
    page.line((f"{number}. {stage.title}", "bold"), indent=2)
    for step in stage.steps:
        page.prose(step.why, 5)
        if step.build is not None:
            variables = " ".join(f"{name}={quote(value)}" for name, value in step.build.env.items())
            does = "compiled earlier" if _compiled_earlier(stack, step.build) else "compile"
            page.line(f"# {does} {{wheel}}: {step.build.package} {step.build.version} {variables}".rstrip(), indent=7)
            for fixup in step.build.fixups:
                page.prose(f"{fixup.file}: {fixup.reason}", 7, first="# with ")
        page.line("$ " + " ".join(map(quote, step.argv)), indent=7)
    if stage.verify:
        page.prose(f"then {', '.join(stage.verify)} must pass", 5)


def write_nearest(page: Page, ways: Sequence[Nearest]) -> None:
    """The ways out, each with its stack and what it costs."""
    if not ways:
        return
    page.heading("Nearest ways out")
    for number, way in enumerate(ways, 1):
        stack = way.stack
        parts = (
            f"Python {stack.python}",
            f"torch {stack.torch.version}+{stack.torch.variant}",
            f"{stack.mmcv.name} {stack.mmcv.version} ({MMCV[stack.mmcv.artefact.kind]})",
            f"mmdet {stack.mmdet}" if stack.mmdet else "",
            f"mmpose {stack.mmpose}",
            f"numpy {stack.numpy}",
        )
        page.prose(way.how, 2, first=f"{number}. ")
        page.prose(", ".join(filter(None, parts)), 5)
        cost = [f"downloads about {size(way.cost.download_bytes)}" if way.cost.download_bytes else "downloads nothing"]
        cost.append(f"compiles {_minutes(way.cost.build_minutes)}" if way.cost.build_minutes else "compiles nothing")
        moved = sum(change.old is not None for change in way.changes)
        cost += [f"moves {moved} installed package{'s' if moved != 1 else ''}"] if moved else []
        cost += ["leaves the GPU idle"] if way.idle else []
        page.prose("; ".join(cost), 5)


def write_rejections(page: Page, rejected: Sequence[Rejection]) -> None:
    """The tightest rejection of each fact, of a candidate once: first those that something would unlock, last what was
    excluded by a word. The JSON has them all."""
    first: dict[str, Rejection] = {}
    for rejection in rejected:
        if all(other.candidate != rejection.candidate for other in first.values()):
            first.setdefault(rejection.fact, rejection)
    if not first:
        return
    page.heading(f"Rejected (the tightest by reason, of {len(rejected)}; --format json has them all)")
    shown = sorted(first.values(), key=lambda rejection: (rejection.fact in WORDS, rejection.unlock is None))
    for rejection in shown[:MOST_REJECTIONS]:
        found = f"{rejection.why} (wanted {rejection.wanted}, found {rejection.observed})"
        unlocked = f"; unlocked by {rejection.unlock}" if rejection.unlock else ""
        page.prose(f"{rejection.candidate}: {found}{unlocked}", 2, first="- ")
