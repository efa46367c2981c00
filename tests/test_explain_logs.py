"""Logs of faults that were really provoked (tools/provoke.py), or composed where this machine cannot: each is named for
what it is, and not taken for its look-alikes."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import NamedTuple

from mmdoctor.explain import explain as explained
from mmdoctor.explain.matcher import SURE, load

FOLDER = Path(__file__).parent / "data" / "explain" / "logs"
BELIEVED = 0.5

explain = cache(explained)


class Log(NamedTuple):
    """A recorded log: its cause (`unsure` where the text cannot tell), its look-alikes, and how it was made."""

    name: str
    cause: str
    near: tuple[str, ...]
    made: str
    script: str
    text: str


def read(path: Path) -> Log:
    head, _, text = path.read_text(encoding="utf-8").partition("\n\n")
    lines = [line for line in head.splitlines() if not line.startswith("$ ")]
    script = "\n".join(line[2:] for line in head.splitlines() if line.startswith("$ "))
    said = dict(line.split(": ", 1) for line in lines)
    near = tuple(cause.strip() for cause in said.get("near", "").split(",") if cause.strip())
    return Log(path.stem, said["cause"], near, said["made"], script, text)


LOGS = [read(path) for path in sorted(FOLDER.glob("*.txt"))]


def test_each_log_is_named_for_its_cause_and_nothing_else_is_sure() -> None:
    for log in LOGS:
        causes = explain(log.text).causes
        assert [c.cause for c in causes if c.confidence >= SURE and c.cause != log.cause] == [], log.name
        assert log.cause == "unsure" or (causes and causes[0].cause == log.cause), log.name


def test_no_log_is_taken_for_its_look_alikes() -> None:
    for log in LOGS:
        named = {cause.cause for cause in explain(log.text).causes if cause.confidence >= BELIEVED}
        assert not named & set(log.near), log.name


def test_each_log_says_how_it_was_made() -> None:
    for log in LOGS:
        assert log.made in ("provoked", "composed"), log.name
        assert bool(log.script) == (log.made == "provoked"), log.name
        assert log.text.strip(), log.name
        assert not any(place in log.text + log.script for place in ("/root/", "/work" + "/", "/tmp/lab")), log.name


def test_every_cause_has_a_log_and_a_look_alike() -> None:
    known = load().causes.keys()
    assert known == {log.cause for log in LOGS} - {"unsure"}
    assert known == {cause for log in LOGS for cause in log.near}
