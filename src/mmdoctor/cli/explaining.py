"""Explaining: what is behind a pasted error. A module of its own, so that it starts without what the others need."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Optional

import click

from mmdoctor.cli.common import OK, emit, output_options
from mmdoctor.errors import UsageError
from mmdoctor.lang import LANGUAGES, language

CHUNK = 1 << 20


@click.command()
@click.argument("file", default="-")
@output_options("text", "json")
@click.option("--lang", type=click.Choice(LANGUAGES), help="English or Chinese (default: as the locale says).")
def explain(file: str, kind: str, output: Optional[str], lang: Optional[str]) -> int:
    """Read a traceback, an install log or a collect_env listing (FILE or -), and name what is behind it."""
    from mmdoctor.explain import explain as explained
    from mmdoctor.explain import text_of

    try:
        with sys.stdin.buffer if file == "-" else Path(file).open("rb") as stream:
            text = text_of(iter(lambda: stream.read(CHUNK), b""))
    except OSError as error:
        raise UsageError(f"cannot read {file}: {error.strerror}") from error
    emit(explained(text, language(lang, os.environ)), kind, output)
    return OK
