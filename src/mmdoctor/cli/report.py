"""Reports of several hosts as one."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any, Optional, Union

import click
import msgspec

from mmdoctor.cli.common import FINDINGS, OK, UNDETERMINED, output_options, put, taken_out
from mmdoctor.errors import DataError, UsageError
from mmdoctor.model import SCHEMA_VERSION, Fleet, Report

HOW = "write it with `mmdoctor check --format json --output FILE`"


@click.group()
def report() -> None:
    """Work with what `check --format json` wrote."""


@report.command("merge")
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@output_options("text", "json", "html", "markdown")
def report_merge(files: tuple[str, ...], kind: str, output: Optional[str]) -> int:
    """The reports of several hosts as one: a table of hosts and findings, and what differs between hosts.

    A report names no host, since reports get pasted in public: a host is called by what tells its FILE from the others
    (`web1.json`, or `web1/report.json`).

    Exit status: 0 all are healthy, 1 findings, 2 usage, 3 a host could not be determined.
    """
    from mmdoctor.fleet import host_names, merge

    names = host_names([Path(file) for file in files])
    twice = next((file for file, name in zip(files, names) if names.count(name) > 1), None)
    if twice:
        raise UsageError(f"{twice} is named twice", hint="a host is called by its file: one file for each")
    fleet = merge({name: said_by(Path(file)) for name, file in zip(names, files)})
    put(rendered(fleet, kind, output), output)
    states = {host.state for host in fleet.hosts}
    return FINDINGS if "findings" in states else OK if states == {"healthy"} else UNDETERMINED


def said_by(path: Path) -> Union[Report, str]:
    """The report in a file, or the error that mmdoctor wrote in its place. DataError for anything else."""
    try:
        content = path.read_bytes()
    except OSError as error:
        hint = f"name its files: {path}/*.json" if path.is_dir() else None
        raise UsageError(f"cannot read {path}: {error.strerror}", hint=hint) from error
    try:
        document: Any = msgspec.json.decode(content)
    except msgspec.DecodeError as error:
        what = "it is empty" if not content.strip() else str(error)
        raise DataError(f"{path} is no JSON: {what}", hint=HOW) from error
    if not isinstance(document, dict) or "schema_version" not in document:
        raise DataError(f"{path} is no report: nothing of mmdoctor's", hint=HOW)
    if isinstance(document.get("error"), dict) and "what" in document["error"]:
        return str(document["error"]["what"])
    if document["schema_version"] != SCHEMA_VERSION:
        theirs = f"schema_version {document['schema_version']!r}, expected {SCHEMA_VERSION!r}"
        raise DataError(f"{path}: {theirs}", hint="merge with the newest mmdoctor of the fleet")
    try:
        return msgspec.convert(document, Report)
    except msgspec.ValidationError as error:
        raise DataError(f"{path} is no report of `mmdoctor check`: {error}", hint=HOW) from error


def rendered(fleet: Fleet, kind: str, output: Optional[str]) -> str:
    """The fleet in one of the formats, without what must not be pasted in public."""
    from mmdoctor.report import encode, redact
    from mmdoctor.report.page import wants_colour

    clean = redact(fleet, *taken_out())
    if kind == "json":
        return encode(clean)
    if kind == "html":
        from mmdoctor.report.fleet_html import render

        return render(clean)
    from mmdoctor.report.fleet import markdown, text

    if kind == "markdown":
        return markdown(clean)
    return text(clean, output is None and wants_colour(os.environ, sys.stdout.isatty()))
