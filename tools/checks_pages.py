"""docs/checks/: a page for each code, from the checks, their words in `checks/pages.yaml`, the rules of annotations."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from pathlib import Path

import msgspec
import yaml

import mmdoctor
from mmdoctor.annotations.rules import RULES, WHOLE, Rule
from mmdoctor.checks import CHECKS
from mmdoctor.checks.base import Check
from mmdoctor.explain.matcher import load

WIDTH = 120
SUCH = {
    "file": "the file as a whole breaks the rule",
    "images": "one image breaks the rule",
    "categories": "its category breaks the rule",
    "annotations": "one annotation breaks the rule",
}
INDEX = """\
# Checks

A page for each code, written by `make docs` from `src/mmdoctor/checks/` and `src/mmdoctor/annotations/rules.py`. A code
is never reused. A finding that another explains carries its root's code in `caused_by`; mend that one first. `{env}`
on the pages is the environment's folder.

## How to silence one

A finding that you know and accept goes into a file of waivers, which is given as `mmdoctor check --waivers FILE`
([ci.md](../ci.md) has the whole form): `cause` and `target` may be left out, `expires` is the last day on which the
finding does not count.

    waivers:
    - id: PKG002
      cause: requirement-unmet
      reason: gradio is not used in this service
      expires: 2027-03-01

## Codes

| code | what is looked at |
| --- | --- |
"""


class Words(msgspec.Struct, forbid_unknown_fields=True):
    """What the code of a check does not hold: how people get there, how it is known, commands, causes it may name."""

    happens: str
    known: str
    fix: str
    causes: list[str]


def words() -> dict[str, Words]:
    """The words of `checks/pages.yaml`, by code."""
    text = (Path(mmdoctor.__file__).parent / "checks" / "pages.yaml").read_text(encoding="utf-8")
    return msgspec.convert(yaml.safe_load(text), dict[str, Words])


def pages() -> dict[str, str]:
    """docs/checks/ by file name: the index and a page for each code."""
    said = words()
    listed = [(check.id, check.title) for check in CHECKS] + [(rule.id, rule.title) for rule in RULES]
    rows = "".join(f"| [{code}]({code}.md) | {title} |\n" for code, title in sorted(listed))
    return {
        "checks/README.md": INDEX + rows,
        **{f"checks/{check.id}.md": of_check(check, said[check.id]) for check in CHECKS},
        **{f"checks/{rule.id}.md": of_rule(rule) for rule in RULES},
    }


def of_check(check: Check, said: Words) -> str:
    """The page of a check."""
    known = load().causes.keys()
    causes = (f"[{cause}](../causes.md#{cause})" if cause in known else f"`{cause}`" for cause in said.causes)
    return page(check.id, check.title, check.why, said.happens, said.known, commands(said.fix), causes)


def of_rule(rule: Rule) -> str:
    """The page of a rule of annotations, all of it the rule's own."""
    known = (
        f"MMPose 1.3.2 with xtcocotools 1.14.3 was given a file of four instances, and {SUCH[rule.about]}: "
        f"{rule.seen}. Whole, that file gives: {WHOLE}. tests/real/test_annotations.py holds both word by word."
    )
    fix = wrapped(f"{rule.fix[0].upper()}{rule.fix[1:]}.")
    if rule.derived:
        fix += f"\n\n{wrapped(f'`--write-fixed` puts in what follows from the rest: {rule.derived}.')}"
        fix += "\n\n    mmdoctor check --annotations FILE.json --write-fixed OUT.json"
    happens = "Files come from converters and labelling tools, whose own formats do without it or have it otherwise."
    return page(rule.id, rule.title, rule.why, happens, known, fix, (f"`annotations-{rule.id.lower()}`",))


def page(code: str, title: str, why: str, happens: str, known: str, fix: str, causes: Iterable[str]) -> str:
    """The form that all pages have."""
    parts = (
        f"# {code}: {title}",
        wrapped(why),
        f"## Why it happens\n\n{wrapped(happens)}",
        f"## How we know\n\n{wrapped(known)}",
        f"## How to fix\n\n{fix}",
        f"## How to silence\n\n[Waivers](README.md#how-to-silence-one), by `id: {code}`. Causes: {', '.join(causes)}.",
    )
    return "\n\n".join(parts) + "\n"


def commands(text: str) -> str:
    """Shell lines as a block."""
    return textwrap.indent(text.rstrip("\n"), "    ")


def wrapped(text: str) -> str:
    """Prose, broken at blanks."""
    return textwrap.fill(text, WIDTH, break_long_words=False, break_on_hyphens=False)
