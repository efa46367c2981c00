"""`mmdoctor hook github`."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

import click

from mmdoctor import __version__
from mmdoctor.cli.common import OK


@click.command()
@click.option("--env", default=".venv", show_default=True, metavar="DIR", help="The environment the workflow builds.")
@click.option(
    "--mmdoctor", default=f"mmdoctor=={__version__}", show_default=True, help="What pip installs as mmdoctor."
)
@click.option("--write", "repository", metavar="DIR", help="Write them into this repository.")
def hook_github(env: str, mmdoctor: str, repository: Optional[str]) -> int:
    """A composite action and a workflow for GitHub.

    Annotations, the step's summary, code scanning, reports as files. Both are printed one after the other, or written
    into the repository with --write.
    """
    from mmdoctor.hooks.github import files, write

    texts = files(env, mmdoctor)
    if repository is None:
        click.echo("---\n".join(texts.values()).rstrip("\n"))
        return OK
    for path in write(texts, Path(repository)):
        click.echo(f"wrote {path}")
    return OK
