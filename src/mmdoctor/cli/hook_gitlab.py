"""`mmdoctor hook gitlab`."""

from __future__ import annotations

import click

from mmdoctor import __version__
from mmdoctor.cli.common import OK


@click.command()
@click.option("--env", default=".venv", show_default=True, metavar="DIR", help="The environment, inside the image.")
@click.option("--image", default="python:3.11", show_default=True, help="The image that the job runs in.")
@click.option(
    "--mmdoctor", default=f"mmdoctor=={__version__}", show_default=True, help="What pip installs as mmdoctor."
)
def hook_gitlab(env: str, image: str, mmdoctor: str) -> int:
    """A job for GitLab CI.

    Its findings are a test report of the merge request.
    """
    from mmdoctor.hooks.gitlab import job

    click.echo(job(env, image, mmdoctor).rstrip("\n"))
    return OK
