"""Writes docs/checks/ from the checks, docs/causes.md from the known failures, docs/matrix.md and docs/builds.md from
the matrix, docs/annotations.md from the rules of annotations.

    python tools/docs.py [--check]

With --check nothing is written; exit status 1 when a page is out of date.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path

import annotations_page
import builds_page
import checks_pages
import matrix_page

import mmdoctor
from mmdoctor.matrix import load_matrix

DOCS = Path(__file__).parents[1] / "docs"
FAILURES = Path(mmdoctor.__file__).parent / "explain" / "failures.json"
CAUSES_HEAD = """\
# Causes

Written by `make docs` from `src/mmdoctor/explain/failures.json`: what `mmdoctor explain` knows, by root cause.
"""


def causes() -> str:
    """docs/causes.md, whole."""
    known = json.loads(FAILURES.read_text(encoding="utf-8"))
    parts = [CAUSES_HEAD]
    for slug, cause in known["causes"].items():
        rows = [row for row in known["rows"] if row["cause"] == slug]
        sources = sorted({source for row in rows for source in row["source"]})
        # A version that a row takes from the text it reads stands here as an ellipsis.
        said = dict.fromkeys(re.sub(r"\{\w+\}", "…", row["why"]) for row in rows)
        whys = "".join(f"- {why}\n" for why in said)
        listed = f"\nSources: {'; '.join(sources)}.\n" if sources else ""
        parts.append(f"## {slug}\n\n{cause['title']}. {cause['fix']['summary']}\n\n{whys}{listed}")
    return "\n".join(parts)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    stale = []
    matrix = load_matrix()
    pages = {
        **checks_pages.pages(),
        "causes.md": causes(),
        "matrix.md": matrix_page.page(matrix),
        "builds.md": builds_page.page(matrix),
        "annotations.md": annotations_page.page(),
    }
    for name, text in pages.items():
        path = DOCS / name
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            stale.append(name)
            if not check:
                path.write_text(text, encoding="utf-8")
    orphans = {f"checks/{path.name}" for path in (DOCS / "checks").iterdir()} - pages.keys()
    stale += sorted(orphans)
    for name in orphans if not check else ():
        (DOCS / name).unlink()
    for name in stale:
        print(f"{name} {'is out of date: make docs' if check else 'written'}")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
