"""What `check --cached` said, said again: with the standard library alone, since a gate asks it every few seconds.

The verdict behind it must hold (see `marks`) and the question be the same one: the same target, options and form, and
neither a terminal nor anything else that is read or written. Every other question is for the command line itself.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from threading import Thread
from typing import Any, Optional

from mmdoctor.folders import own_folder
from mmdoctor.marks import ago, marks, read, span, subject, write

FLAGS = ("--quick", "--deep")
VALUED = ("--env", "--python", "--fail-on", "--format", "--cached", "--deadline")
LOCALE = ("LC_ALL", "LC_MESSAGES", "LANG")
# The forms that say how old the verdict is, and how a new one says it: its age is filled in each time.
AGES = {"text": "found 0 s ago", "json": '"age_seconds": 0.0', "healthz": '"age_seconds": 0.0'}


def question(depth: str, fail_on: str, kind: str, environ: Mapping[str, str]) -> str:
    """The name of a question about a target, and of the language it is answered in."""
    return subject((depth, fail_on, kind, *map(environ.get, LOCALE)), {})


def remember(name: str, stored: Mapping[str, Any], status: int, text: str) -> None:
    """Keep what was said: `name` is `SUBJECT=QUESTION`, `stored` the verdict's marks, `text` as of age 0. Where nothing
    can be written it is made anew the next time."""
    folder = own_folder()
    try:
        write(folder, f"{name}.json", json.dumps({**stored, "status": status, "text": text}).encode())
    except OSError:
        return


def answer(arguments: Sequence[str], environ: Mapping[str, str]) -> Optional[int]:
    """Say again what was said to this command line, and return its exit status; None where it has to be asked anew."""
    asked = _parsed(arguments)
    if asked is None or sys.stdout.isatty() or "FORCE_COLOR" in environ:
        return None
    found: list[dict[str, Any]] = []
    deadline = asked.get("--deadline")
    if deadline is None:
        _find(asked, environ, found)
    else:  # nothing else ends a look at a dead disk
        thread = Thread(target=_find, args=(asked, environ, found), daemon=True)
        thread.start()
        thread.join(float(deadline))
    if not found:
        return None
    form, age = asked["--format"], time.time() - found[0]["at"]
    before, _, after = found[0]["text"].rpartition(AGES[form])
    said = AGES[form].replace("0 s", ago(age)).replace("0.0", f"{age:.1f}")
    sys.stdout.write(f"{before}{said}{after}\n")
    return int(found[0]["status"])


def _parsed(arguments: Sequence[str]) -> Optional[dict[str, str]]:
    """The options of a `check --cached` about a named target in a form that tells its age; None for all else."""
    asked = {"--format": "text", "--fail-on": "fail", "depth": "full"}
    rest = iter(arguments)
    if next(rest, None) != "check":
        return None
    for argument in rest:
        option, equals, value = argument.partition("=")
        if argument in FLAGS:
            asked["depth"] = argument[2:]
        elif option in VALUED:
            asked[option] = value if equals else next(rest, "")
        else:
            return None
    named = ("--env" in asked) != ("--python" in asked)
    both = all(flag in arguments for flag in FLAGS)
    deadline = asked.get("--deadline", "1").replace(".", "", 1).isdecimal()
    return asked if "--cached" in asked and named and not both and deadline and asked["--format"] in AGES else None


def _find(asked: Mapping[str, str], environ: Mapping[str, str], found: list[dict[str, Any]]) -> None:
    """Put what was said to this question into `found`, where it still holds."""
    path = Path(asked.get("--env") or asked.get("--python") or "").absolute()
    name = subject((str(path), "--env" in asked), environ)
    asks = question(asked["depth"], asked["--fail-on"], asked["--format"], environ)
    content = read(f"{own_folder()}/{name}={asks}.json")
    with suppress(ValueError, KeyError):  # of another version, or damaged: then it is asked anew
        said = json.loads(content or b"{}")
        now = marks(said["interpreter"], said["watched"], said["matrix"], said["modules"])
        if 0 <= time.time() - said["at"] <= span(asked["--cached"]) and now == said["marks"]:
            found.append(said)
