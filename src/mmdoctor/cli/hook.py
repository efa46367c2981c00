"""The hooks: mmdoctor where no one is looking."""

from __future__ import annotations

from importlib import import_module
from typing import Optional

import click

# The hooks in the order in which they are listed, and the modules of cli/ that hold them as `hook_NAME`.
HOOKS = {
    "systemd": "hook_systemd",
    "slurm": "hook_slurm",
    "github": "hook_github",
    "gitlab": "hook_gitlab",
    "k8s": "hook_k8s",
}


class Hooks(click.Group):
    """The hooks of `HOOKS`, each imported when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  click's signature
        return list(HOOKS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> Optional[click.Command]:  # noqa: ARG002
        if cmd_name not in HOOKS:
            return None
        found: click.Command = getattr(import_module(f"mmdoctor.cli.{HOOKS[cmd_name]}"), f"hook_{cmd_name}")
        return found


@click.command(cls=Hooks)
def hook() -> None:
    """Run mmdoctor where no one is looking."""
