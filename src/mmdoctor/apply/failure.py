"""A failed step in words: the first real error, its known cause with what to do, and where the log lies."""

from __future__ import annotations

import re
import signal
from pathlib import Path

from mmdoctor.errors import ApplyError, MMDoctorError, TryAgainError
from mmdoctor.explain import explain
from mmdoctor.system import NOT_STARTED, Completed

# Causes that may be gone the next time without anything of this environment changing.
PASSING = ("network-proxy-ssl", "download-server-fault", "index-unavailable", "clock-wrong")
# Below this the explanation is a guess that had better not be told.
TOLD = 0.5
LONGEST = 400
# How uv begins its error and tells the reasons beneath, now and in older releases (these draw a tree).
HEAD = re.compile(r"^(?:error: |ERROR: | *× )(?P<said>.+)$", re.MULTILINE)
CAUSE = re.compile(r"^ *(?:cause: |[├╰]─▶ |Caused by: )(?P<said>.+)$", re.MULTILINE)
HASHES = re.compile(r"Expected:\s+(sha256:\w+)\s+Computed:\s+(sha256:\w+)")
# Where uv's resolver says "unsatisfiable" and only its hint says why: no network, no right, a file that is no wheel.
HINT = re.compile(
    r"^hint: (?P<said>(?:Packages were unavailable|An index|The structure of)[^\n]*(?:\n +\S[^\n]*)?)", re.MULTILINE
)
ERROR = re.compile(
    r"^(?:\S+: )?(?:\S+:\d+:(?:\d+:)? )?(?:fatal )?(?:error|[\w.]*(?:Error|Exception)):? .*$", re.MULTILINE
)
CREDENTIALS = re.compile(r"//[^/\s@]+@")
COMMAND = re.compile(r"Command '\['([^']*)'.*\]'")


def failure(stage: str, done: Completed, log: Path) -> MMDoctorError:
    """The error of a command that did not end well.

    TryAgainError (75) where the network or an index stood in the way, else ApplyError (5); its `what` holds the stage
    and the first real error, its `hint` the known cause, what to do about it, and the log.
    """
    text = done.stdout + done.stderr
    known = [cause for cause in explain(text).causes if cause.confidence >= TOLD]
    kind = TryAgainError if known and known[0].cause in PASSING else ApplyError
    do = f"{known[0].title}. {known[0].fix.summary} " if known else ""
    return kind(f"stage {stage}: {_how(done, text)}", hint=f"{do}The log: {log}")


def _how(done: Completed, text: str) -> str:
    if done.timed_out:
        return f"the command did not end within {done.duration_ms / 1000:.0f} s"
    if done.returncode == NOT_STARTED:
        return f"the command could not be started: {done.stderr.strip()[:LONGEST]}"
    first = first_error(text)
    if done.returncode < 0:
        return f"the command was ended by {signal.Signals(-done.returncode).name}: {first}"
    return first


def first_error(text: str) -> str:
    """The first real error of an installer's output in one line: uv's head with its innermost reason, of a build that
    failed its own first error; else the first line that names one, else the last line."""
    head = HEAD.search(text)
    inside = text.partition("[stderr]")[2]
    if head is None:
        plain = ERROR.search("\n".join(line.strip() for line in text.splitlines()))
        last = [line.strip() for line in text.splitlines() if line.strip()][-1:]
        return _short(plain[0] if plain else last[0] if last else "no word about why")
    rest = text[head.end() :].partition("[std")[0]
    reasons = [match["said"].strip() for match in CAUSE.finditer(rest)]
    if inside:
        real = ERROR.search("\n".join(line.strip() for line in inside.splitlines()))
        reasons = [COMMAND.sub(r"\1", real[0])] if real else reasons
    hint = HINT.search(text)
    if hint:
        reasons = [" ".join(hint["said"].split())]
    hashes = HASHES.search(text)
    if hashes:
        reasons = [f"expected {hashes[1]}, got {hashes[2]}"]
    return _short(": ".join([head["said"].strip(), *reasons[-1:]]))


def _short(text: str) -> str:
    """Its beginning and its end, which says why; credentials of an address left out."""
    text = CREDENTIALS.sub("//***@", text)
    return text if len(text) <= LONGEST else f"{text[: LONGEST // 2]} … {text[-LONGEST // 2 :]}"
