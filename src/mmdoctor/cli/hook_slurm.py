"""`mmdoctor hook slurm`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Optional

import click

from mmdoctor.cli.common import OK, age


@click.command()
@click.option("--env", required=True, metavar="DIR", help="The environment that the node's jobs run from.")
@click.option("--print", "print_it", is_flag=True, help="Print the script (the default).")
@click.option("--install", "folder", metavar="DIR", help="Write it there, and print the lines for slurm.conf.")
@click.option(
    "--cached",
    callback=age,
    default="1h",
    show_default=True,
    metavar="MAX_AGE",
    help="For `check --cached`: 10m, 1h, 1d.",
)
@click.option("--strict", is_flag=True, help="Drain also where mmdoctor comes to no verdict (a crash, a timeout).")
def hook_slurm(env: str, print_it: bool, folder: Optional[str], cached: float, strict: bool) -> int:
    """A HealthCheckProgram and Prolog in one: drains a node whose environment is broken, undrains what it drained."""
    from mmdoctor.errors import UsageError
    from mmdoctor.hooks.slurm import install, script, slurm_conf
    from mmdoctor.system import which

    if print_it and folder:
        raise UsageError("--print and --install exclude each other")
    program = which("mmdoctor") or str(Path(sys.argv[0]).absolute())
    where = str(Path(folder or "/etc/slurm").absolute())
    control = which("scontrol") or "scontrol"
    text = script(program, str(Path(env).absolute()), control, cached=f"{cached:g}", strict=strict, folder=where)
    if not folder:
        click.echo(text.rstrip("\n"))
        return OK
    path = install(text, Path(where))
    click.echo(f"mmdoctor: wrote {path}; into slurm.conf, then `scontrol reconfigure`:", err=True)
    click.echo("\n".join(slurm_conf(path)))
    return OK
