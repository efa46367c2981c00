"""The hooks: mmdoctor where no one is looking."""

from __future__ import annotations

import click

from mmdoctor.cli import Commands

# The hooks in the order in which they are listed, each in a module of its own.
HOOKS = {name: f"hook_{name}" for name in ("systemd", "slurm", "github", "gitlab", "k8s")}


@click.command(cls=Commands, modules=HOOKS, prefix="hook_")
def hook() -> None:
    """Run mmdoctor where no one is looking."""
