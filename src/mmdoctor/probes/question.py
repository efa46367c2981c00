"""What a target's interpreter is asked. With the standard library alone: it can be asked before all else is loaded."""

from __future__ import annotations

import json
import os
from pathlib import Path

from mmdoctor.stack import STACK_MODULES

SCRIPT = Path(__file__).with_name("inside_target.py")


def interpreter_of(env: Path) -> Path:
    """The path of the interpreter inside a venv or conda prefix; it need not exist."""
    candidates = (env / "bin" / "python", env / "Scripts" / "python.exe", env / "python.exe")
    # lexists, since Path.exists() raises where the base interpreter's folder may not be searched
    there = next((path for path in candidates if os.path.lexists(path)), None)
    return there or (candidates[0] if os.name == "posix" else candidates[1])


def asked(python: Path, *, quick: bool) -> tuple[tuple[str, ...], str]:
    """The command that asks an interpreter about itself and its packages, and the script that it reads."""
    request = json.dumps({"quick": quick, "stack": STACK_MODULES})
    return (str(python), "-", request), SCRIPT.read_text(encoding="utf-8")
