"""A log as its program wrote it: without what terminals, containers, journals, mails and notebooks put around it."""

from __future__ import annotations

import re
from functools import cache

LONGEST_LINE = 4_000  # characters; a search within a line may cost its square

# What stands before a line, in the order in which it is wrapped around: a quotation first, a box last.
_PREFIXES = (
    r"(?!>>> )(?:> ?)+(?=\S)",
    r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d\S*[ \t]+(?:[\w.-]+ [^\s:\[]+\[\d+\]: )?",  # GitHub, journal -o short-iso
    r"[A-Z][a-z]{2} +\d{1,2} \d\d:\d\d:\d\d(?:\.\d+)? \S+ [^\s:\[]+(?:\[\d+\])?: ",  # journal
    r"(?:#\d+ )?\d+\.\d{2,3} +",  # docker build
    r"[\w.-]+[-_]\d+ +\| ",  # docker compose
    r"\[(?:pod/)?[\w.-]+/[\w.-]+\] ",  # kubectl logs --prefix
    r"\[\w*rank ?\d+\]: ?|\[default\d+\]: ?|\d{1,4}: (?=Traceback|[A-Z]\w*Error)",  # torchrun, srun -l
    r"##\[\w+\]",
    r"\[\d{4}-\d\d-\d\d[^\]\n]*\](?: \[\d+\])? \[[A-Z]+\] ",  # gunicorn
    r"(?:\d\d/\d\d \d\d:\d\d:\d\d )?- [\w.]+ - [A-Z]+ - ",  # mmengine's and Python's logging
    r"(?:INFO|WARNING|ERROR|CRITICAL):[\w.]+:(?=\S)",
    r"E {3,}",  # pytest
    r"[ \t]*[\u2500-\u257f\u00d7]+>?[ \t]?",  # pip's and rich's boxes
    r"  +[|+][-+ ](?:-+ ?)?(?=\S)",  # exception groups
)
# What has to occur for the substitution to be tried, the pattern, and what is put in its place.
_SUBSTITUTIONS = (
    (
        ("\x1b", "\\u001b", "\\x1b"),
        r"(?:\x1b|\\u001b|\\x1b)(?:\[[0-9;?]*[ -/]*[@-~]|\][^\x07\n]*\x07|[@-_])",
        "",
    ),  # ANSI
    (("\r",), r"\r\n?", "\n"),
    (("\\n",), r"\\n(?=[ '\",-])", "\n"),  # the repr of a dict, a notebook's JSON
    (("\u2018", "\u2019", "\u00b4"), "[\u2018\u2019\u00b4]", "'"),
    (("\u201c", "\u201d"), "[\u201c\u201d]", '"'),
    (("\uff1a",), "\uff1a ?", ": "),
    (("",), rf"^(?:{'|'.join(_PREFIXES)}){{1,4}}", ""),
    (("\u2502", "\u2503"), r"[ \t]*[\u2502\u2503]+[ \t]*$", ""),
    (("",), r"[ \t\u00a0]+", " "),
    (("\n ", " \n"), r"^ | $", ""),
    (("\\",), r"\\+", "/"),
    (
        ("/home/", "/Users/", "/users/"),
        r"(?:[A-Za-z]:)?/(?:home|[Uu]sers)/[^/\s'\"]+/",
        "~/",
    ),  # nobody's name in the evidence
    (("@",), r"//[^/\s@]+@", "//***@"),
)


@cache
def _pattern(number: int) -> re.Pattern[str]:
    return re.compile(_SUBSTITUTIONS[number][1], re.MULTILINE)


def plain(text: str) -> str:
    """The text without colours, log prefixes, quoting, boxes, user names and runs of blanks; slashes forward, and of a
    very long line its two ends."""
    for number, (fragments, _, new) in enumerate(_SUBSTITUTIONS):
        if any(fragment in text for fragment in fragments):
            text = _pattern(number).sub(new, text)
    if len(text) > LONGEST_LINE:
        text = "\n".join(shortened(line) for line in text.split("\n"))
    return text.strip(" ")


def shortened(line: str) -> str:
    """A very long line as its two ends, in lines of their own."""
    half = LONGEST_LINE // 2
    return line if len(line) <= LONGEST_LINE else f"{line[:half]}\n{line[-half:]}"
