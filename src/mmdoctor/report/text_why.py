"""The text of `matrix why`: yes or no, where mmcv comes from, what speaks against it, and what was measured."""

from __future__ import annotations

from mmdoctor.model import Why
from mmdoctor.report.page import Page, size
from mmdoctor.report.text_plan import EVIDENCE, MMCV, write_nearest

SHOWN = ("torch", "mmcv", "mmcv-full", "mmdet", "mmpose", "numpy")


def write_why(page: Page, answer: Why) -> None:
    """Write the answer onto the page."""
    asked = " ".join(f"{name}=={version}" for name, version in answer.asked.items())
    page.line(("mmdoctor matrix why", "bold"), f"  {asked}")
    page.line(answer.machine)
    page.pretended(answer.pretended)
    page.line()
    if answer.together:
        _together(page, answer)
    else:
        page.prose(answer.conflict or "nothing satisfies it", first="no: ", style="bold red")
        write_nearest(page, answer.nearest)
    if answer.wheels:
        page.heading("Where mmcv comes from")
        for wheel in answer.wheels:
            mark = "+" if wheel.has else "-"
            page.prose(wheel.says, 2, first=f"{mark} torch {wheel.torch}, {wheel.source}: ")
    if answer.against:
        page.heading("What it leaves out" if answer.together else "Against it")
        for r in answer.against:
            unlocked = f"; unlocked by {r.unlock}" if r.unlock else ""
            source = f" [{', '.join(r.source)}]" if r.source else ""
            what = f"{r.candidate}: {r.why} (wanted {r.wanted}, found {r.observed}){unlocked}{source}"
            page.prose(what, 2, first="- ")
    _measured(page, answer)
    if answer.assumptions:
        page.heading("Assumed")
        for text in answer.assumptions:
            page.prose(text, 2, first="- ")
    if answer.sources:
        page.heading("Sources")
        for key, text in answer.sources.items():
            page.prose(text, 2, first=f"{key}: ")


def _together(page: Page, answer: Why) -> None:
    stack = answer.stack
    if stack is None:
        return
    page.line(("yes: they go together", "bold green"))
    parts = (
        f"torch {stack.torch.version}+{stack.torch.variant}",
        f"torchvision {stack.torchvision}" if stack.torchvision else "",
        f"{stack.mmcv.name} {stack.mmcv.version} ({MMCV[stack.mmcv.artefact.kind]})",
        f"mmengine {stack.mmengine}" if stack.mmengine else "",
        f"mmdet {stack.mmdet}" if stack.mmdet else "",
        f"mmpose {stack.mmpose}",
        f"numpy {stack.numpy}",
    )
    page.prose(", ".join(filter(None, parts)), 2)
    build = f"compiles about {answer.cost.build_minutes:g} minutes" if answer.cost.build_minutes else "compiles nothing"
    page.prose(f"downloads about {size(answer.cost.download_bytes)}; {build}", 2)
    page.prose(EVIDENCE[stack.evidence], 2)


def _measured(page: Page, answer: Why) -> None:
    page.heading("Measured")
    if not answer.measured:
        page.line("nothing with these versions", indent=2)
    for row in answer.measured:
        versions = ", ".join(f"{name} {row.versions[name]}" for name in SHOWN if name in row.versions)
        head = f"{row.outcome} on {row.date}, Python {row.versions['python']}: {versions}"
        page.prose(f"{head}. {row.says}" if row.says else head, 2, first="- ")
