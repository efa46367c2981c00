"""The text of an explanation, in the language that it was asked for."""

from __future__ import annotations

from mmdoctor.lang import translated
from mmdoctor.model import Explanation
from mmdoctor.report.page import Page

NOTHING = "nothing recognised in this text; mmdoctor check looks at the environment itself"
SURE = "({cause}, {confidence:.0%} sure)"
SEE = "see {docs}"
NAMED = "named in the text: {versions}"
PASTE = "To be sure, paste also:"
FIXES = {"auto": "fix: ", "confirm": "fix (asks first): ", "manual": "fix (by hand): ", "none": "fix: "}
LABELS = (NOTHING, SURE, SEE, NAMED, PASTE, *FIXES.values())


def write_explanation(page: Page, explanation: Explanation) -> None:
    """The causes, best first, with what each was seen by and what to do; then what else would tell."""

    def said(label: str, **values: object) -> str:
        return translated(label, explanation.lang).format(**values)

    def prose(text: str, first: str = "", style: str = "") -> None:
        if explanation.lang == "zh":  # has no blanks to wrap at
            page.line((first + text, style), indent=2)
        else:
            page.prose(text, 2, first=first, style=style)

    if not explanation.causes:
        page.line(said(NOTHING))
    for cause in explanation.causes:
        page.line((cause.title, "bold"), "  " + said(SURE, cause=cause.cause, confidence=cause.confidence))
        prose(cause.why)
        for text in cause.evidence:
            page.verbatim(text, 2)
        if cause.fix.summary:
            prose(cause.fix.summary, first=said(FIXES[cause.fix.kind]), style="green")
        for command in cause.fix.commands:
            page.line(f"$ {command}", indent=4)
        page.line((said(SEE, docs=cause.docs), "dim"), indent=2)
        page.line()
    if explanation.paste:
        page.line(said(PASTE))
        for text in explanation.paste:
            prose(text, first="- ")
    if explanation.versions:
        versions = ", ".join(f"{name} {version}" for name, version in explanation.versions.items())
        page.line(said(NAMED, versions=versions))
