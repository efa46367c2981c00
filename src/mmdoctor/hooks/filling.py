"""Templates of YAML, each a file beside this one: `"@name@"` stands for a value."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from mmdoctor.errors import UsageError


def filled(template: str, **values: Any) -> str:
    """The template with its values as JSON, which in YAML means the same whatever it holds.

    Raises UsageError for a text that GitHub and GitLab would read as an expression, or that is not on one line.
    """
    for name, value in values.items():
        words = value if isinstance(value, list) else [value] if isinstance(value, str) else []
        for word in words:
            if not word or not word.isprintable() or "${{" in word or "$[[" in word:
                expected = "expected a text on one line, without ${{ }} and $[[ ]]"
                raise UsageError(f"--{name} {word!r}: {expected}", "it is put into a file of YAML as it is")
    text = Path(__file__).with_name(template).read_text(encoding="utf-8")
    return re.sub(r'"@(\w+)@"', lambda found: json.dumps(values[found[1]], ensure_ascii=False), text)
