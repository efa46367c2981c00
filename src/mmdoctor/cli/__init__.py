"""The command line: parse → call → render → exit code. The only composition root."""

from __future__ import annotations

import click

from mmdoctor import __version__
from mmdoctor.cli.changing import fix, rollback
from mmdoctor.cli.data import hook, matrix, recipe
from mmdoctor.cli.looking import bench, check, explain, facts
from mmdoctor.cli.wheels import wheels


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="mmdoctor")
def cli() -> None:
    """Environment doctor and installer for the MMPose stack: torch, CUDA, mmcv, mmengine, mmdet, mmpose, NumPy."""


for command in (check, facts, fix, bench, explain, rollback, matrix, recipe, wheels, hook):
    cli.add_command(command)
