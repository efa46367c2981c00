"""Asks the target what a config and a checkpoint come to there (`inside_config.py`, `inside_checkpoint.py`)."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Optional

import msgspec

from mmdoctor import system
from mmdoctor.errors import UsageError
from mmdoctor.model import CheckpointSeen, ConfigSeen, Facts, Value
from mmdoctor.smoke.bench import CRASH_FRAME, HASH_IN_NAME

HERE = Path(__file__).parent
DEADLINE_SECONDS = 180.0  # loading mmpose and a config, making and running the model: 9 s of CPU for RTMPose-m


class Asked(Value, frozen=True, kw_only=True):
    """Which config and checkpoint to look at."""

    config: Optional[str] = None
    checkpoint: Optional[str] = None


def with_config(facts: Facts, asked: Asked, deadline: float = DEADLINE_SECONDS) -> Facts:
    """The same facts, with what a config and a checkpoint come to in the target, each within `deadline` seconds.

    Runs the code of the config, which is Python, in a child. UsageError when the checkpoint is no file.
    """
    python = facts.target.executable
    shapes: Optional[dict[str, list[int]]] = None
    if asked.checkpoint is not None:
        checkpoint, shapes = probe_checkpoint(python, Path(asked.checkpoint), deadline)
        facts = msgspec.structs.replace(facts, checkpoint=checkpoint)
    if asked.config is not None:
        name = Path(asked.checkpoint).name if asked.checkpoint else None
        config = probe_config(python, asked.config, deadline, checkpoint=name, shapes=shapes)
        facts = msgspec.structs.replace(facts, config=config)
    return facts


def probe_config(
    python: str,
    config: str,
    deadline: float = DEADLINE_SECONDS,
    *,
    checkpoint: Optional[str] = None,
    shapes: Optional[dict[str, list[int]]] = None,
) -> ConfigSeen:
    """What `config` (a path, or a name) comes to; with the `shapes` of a checkpoint by name, whether they fit. Never
    raises for what happens in the target: a crash or a hang is the end of its step."""
    steps = _ask(
        [python, str(HERE / "inside_config.py")],
        {"config": config, "checkpoint": checkpoint, "weights": shapes},
        deadline,
    )
    return msgspec.convert({"asked": config, "find": {}, **steps}, ConfigSeen)


def probe_checkpoint(
    python: str, path: Path, deadline: float = DEADLINE_SECONDS
) -> tuple[CheckpointSeen, Optional[dict[str, list[int]]]]:
    """What a checkpoint is, and the shapes of its weights by name, where it holds any. UsageError: it is no file."""
    if not path.is_file():
        what = f"{path} is no file" if path.exists() else f"the checkpoint {path} is not there"
        raise UsageError(what, hint="give the path of a downloaded .pth file")
    steps = _ask([python, str(HERE / "inside_checkpoint.py")], {"path": str(path.absolute())}, deadline)
    shapes = steps.get("content", {}).pop("shapes", None)
    promised = HASH_IN_NAME.search(path.name)
    steps["file"] = {**steps.get("file", {}), "promised": promised and promised[1]}
    if "content" in steps:
        steps["content"]["weights"] = len(shapes or ())
    return msgspec.convert({"path": str(path), **steps}, CheckpointSeen), shapes or None


def _ask(argv: Sequence[str], request: dict[str, Any], deadline: float) -> dict[str, dict[str, Any]]:
    """The answers of a script by step; a step that it began and did not end is one with an `error`."""
    mark = os.urandom(8).hex()
    done = system.run(argv, deadline=deadline, text=json.dumps({"mark": mark, **request}))
    steps: dict[str, dict[str, Any]] = {}
    current: Optional[str] = None
    for line in done.stdout.splitlines():
        if not line.startswith(mark):
            continue
        document = json.loads(line[len(mark) :])
        current = document.pop("begin", None)
        steps.update(document)
    if current is None and not steps:
        current = "find" if "config" in request else "file"
    if current is not None:
        steps[current] = _ended(done, deadline)
    return steps


def _ended(done: system.Completed, deadline: float) -> dict[str, Any]:
    """How a process ended that did not come to the end of its step."""
    if done.timed_out:
        return {"error": "timeout", "message": f"no answer within {deadline:g} s"}
    place = CRASH_FRAME.search(done.stderr)
    where = f"in {place[2]} ({place[1]})" if place else ""
    if done.returncode < 0:
        return {
            "error": _signal_name(-done.returncode),
            "message": where,
            "packages": [place[1].split("/")[0]] if place else [],
        }
    last = (done.stderr.strip().splitlines() or [""])[-1]
    return {"error": f"status {done.returncode}", "message": last}


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
