"""Writes the JSON Schemas of what mmdoctor prints and reads, from the values in `model.py`.

    python tools/schemas.py [--check]

With --check nothing is written; exit status 1 when a file is out of date.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import msgspec

from mmdoctor.matrix_model import Matrix
from mmdoctor.model import Bench, Explanation, Facts, Fleet, Health, Plan, Recipe, Report, Waivers, Why

FOLDER = Path(__file__).parents[1] / "src" / "mmdoctor" / "schemas"
KINDS = {
    "facts": Facts,
    "report": Report,
    "plan": Plan,
    "bench": Bench,
    "explanation": Explanation,
    "matrix": Matrix,
    "recipe": Recipe,
    "why": Why,
    "fleet": Fleet,
    "health": Health,
    "waivers": Waivers,
}


def schema(name: str, kind: type) -> str:
    """The schema of one value, as the text of its file."""
    document: dict[str, Any] = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": f"mmdoctor {name}"}
    document.update(msgspec.json.schema(kind))
    return json.dumps(document, indent=1) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    stale = []
    for name, kind in KINDS.items():
        path, text = FOLDER / f"{name}.json", schema(name, kind)
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            stale.append(path.name)
            if not check:
                path.write_text(text, encoding="utf-8")
    for name in stale:
        print(f"{name} {'is out of date: make schemas' if check else 'written'}")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
