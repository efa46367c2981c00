"""`mmdoctor hook systemd`."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from mmdoctor.cli.common import OK
from mmdoctor.errors import UsageError


@click.command()
@click.argument("unit")
@click.option("--env", required=True, metavar="DIR", help="The environment that the unit runs from.")
@click.option("--print", "print_it", is_flag=True, help="Print the drop-in.")
@click.option("--deadline", type=click.IntRange(5, 80), default=60, show_default=True, metavar="SECONDS")
def hook_systemd(unit: str, env: str, print_it: bool, deadline: int) -> int:
    """A drop-in that checks the environment before UNIT starts."""
    from mmdoctor.hooks.systemd import drop_in
    from mmdoctor.system import which

    if not print_it:
        raise UsageError("only --print is there yet", hint=f"mmdoctor hook systemd {unit} --env {env} --print")
    program = which("mmdoctor") or str(Path(sys.argv[0]).absolute())
    click.echo(drop_in(unit, program, str(Path(env).absolute()), deadline).rstrip("\n"))
    return OK
