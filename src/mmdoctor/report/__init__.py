"""Renderers: a value in, the text to print out. What gets rendered is redacted first, for reports get pasted in public.

`RENDERERS` names them. `text` and `json` render every value; the others render the report of a check.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from importlib import import_module
from typing import Any, TypeVar

import msgspec

from mmdoctor.errors import UsageError
from mmdoctor.model import Report, Value

T = TypeVar("T", bound=Value)

SECRETS = (
    # user and password of an address; the names that a signed address gives its secret
    (re.compile(r"(\b[a-zA-Z][\w+.-]*://)[^\s/\"']*@(?=[^\s/])"), r"\1***@"),
    (re.compile(r"([?&](?:token|sig|signature|key|secret|password|x-amz-\w+)=)[^&\s\"']+", re.IGNORECASE), r"\1***"),
    # what NVIDIA's tools call a device: a UUID
    (re.compile(r"\b((?:MIG-)?(?:GPU|MIG))-[0-9a-f]{4,}(?:-[0-9a-f]+)*(?:/\d+)*", re.IGNORECASE), r"\1-***"),
)
# A program's output may hold commands to the terminal: colours, cursor moves, titles.
CONTROL = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?|[\x00-\x08\x0b-\x1f\x7f-\x9f]"
)
HOMES = re.compile(r"(/home/|/Users/|\b[A-Za-z]:\\Users\\)(?!USER\b)[^/\\\s:;,\"'<>|]+")
# What every text that loses something holds, besides this user's home and name: to look for it is a tenth of the work.
SUSPECT = r"[@?&\x00-\x1f\x7f-\x9f]|(?:[Gg][Pp][Uu]|[Mm][Ii][Gg])-|/home/|/Users/|:\\[Uu]sers\\"
PATH_END = r"(?=[/\\\s:;,\"'()<>|\]}]|$)"


@lru_cache(maxsize=4096)
def redact_text(raw: str, home: str, user: str) -> str:
    """The text without this user's home (`~`) and name (`USER`, in paths and addresses), credentials and GPU UUIDs.

    Other people's homes below /home, /Users and C:\\Users lose the name too. `user` may be empty (a service account's
    name is often the name of a folder that the report is about); root names nobody.
    """
    for pattern, replacement in SECRETS:
        raw = pattern.sub(replacement, raw)
    if home.strip("/\\"):
        raw = re.sub(rf"(?<![\w.~-]){re.escape(home.rstrip('/'))}{PATH_END}", "~", raw)
    raw = HOMES.sub(r"\1USER", raw)
    if user and user != "root":
        raw = re.sub(rf"(?<=[/\\]){re.escape(user)}{PATH_END}|\b{re.escape(user)}(?=@)", "USER", raw)
    return raw


def redact(value: T, home: str, user: str) -> T:
    """A copy of the value, fit to be shown: `redact_text` on every text in it, and no commands to a terminal."""
    own = [re.escape(text) for text in (home.rstrip("/\\"), user if user != "root" else "") if text]
    suspicious = re.compile("|".join([SUSPECT, *own])).search

    def clean(node: Any) -> Any:
        if isinstance(node, str):
            return redact_text(CONTROL.sub("", node), home, user) if suspicious(node) else node
        if isinstance(node, dict):
            return {clean(key): clean(item) for key, item in node.items()}
        if isinstance(node, list):
            return [clean(item) for item in node]
        return node

    return msgspec.convert(clean(msgspec.json.decode(msgspec.json.encode(value))), type(value))


def encode(value: Value) -> str:
    """The value as one indented JSON document, without a newline at its end."""
    return msgspec.json.format(msgspec.json.encode(value), indent=2).decode()


def _text(value: Value) -> str:
    from mmdoctor.report.text import render as to_text

    return to_text(value)


def _only_report(name: str) -> Callable[[Value], str]:
    """The renderer of `mmdoctor.report.NAME`, loaded when it is used, for the report of a check alone."""

    def checked(value: Value) -> str:
        if not isinstance(value, Report):
            kind = type(value).__name__.lower()
            what = f"--format {name} renders the report of a check, not a {kind}"
            raise UsageError(what, "use --format text or json")
        rendered: str = import_module(f"mmdoctor.report.{name}").render(value)
        return rendered

    return checked


RENDERERS: dict[str, Callable[[Value], str]] = {
    "text": _text,
    "json": encode,
    **{
        name: _only_report(name)
        for name in ("junit", "sarif", "github", "prometheus", "markdown", "html", "nagios", "journal", "healthz")
    },
}


def render(value: Value, kind: str, home: str, user: str, *, colour: bool = False) -> str:
    """Redact and render; `colour` is for text.

    Raises UsageError for a format that is not there, or does not render this kind of value.
    """
    if kind not in RENDERERS:
        raise UsageError(f"there is no format {kind!r}", f"use one of {', '.join(RENDERERS)}")
    shown = redact(value, home, user)
    if kind == "text" and colour:
        from mmdoctor.report.text import render as to_text

        return to_text(shown, colour)
    return RENDERERS[kind](shown)
