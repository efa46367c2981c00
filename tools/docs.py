"""Writes docs/checks.md from the table of checks.

    python tools/docs.py [--check]

With --check nothing is written; exit status 1 when the page is out of date.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from mmdoctor.checks import CHECKS

PAGE = Path(__file__).parents[1] / "docs" / "checks.md"
HEAD = """\
# Checks

Written by `python tools/docs.py` from `src/mmdoctor/checks/`. A code is never reused. A finding that another one
explains carries its root's code in `caused_by`.
"""


def page() -> str:
    """The page, whole."""
    parts = [HEAD]
    parts += [f"## {check.id}\n\n**{check.title}.** {check.why}\n" for check in CHECKS]
    return "\n".join(parts)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    if PAGE.exists() and PAGE.read_text(encoding="utf-8") == page():
        return 0
    if parser.parse_args().check:
        print(f"{PAGE.name} is out of date: python tools/docs.py")
        return 1
    PAGE.write_text(page(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
