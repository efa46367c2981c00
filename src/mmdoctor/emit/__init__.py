"""The plan in forms that run without mmdoctor. Pure: a plan in, text out."""

from __future__ import annotations

from typing import Callable

from mmdoctor.emit import dockerfile, requirements, script
from mmdoctor.model import Plan

EMITTERS: dict[str, Callable[[Plan], str]] = {
    "script": script.emit,
    "requirements": requirements.emit,
    "dockerfile": dockerfile.emit,
}
