"""The command line: parse → call → render → exit code. The only composition root."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any, Optional

import click

from mmdoctor import __version__

# The commands in the order in which they are listed, and the modules that hold them: one run needs one of these.
COMMANDS = {
    **dict.fromkeys(("check", "facts"), "looking"),
    "fix": "changing",
    "bench": "looking",
    "explain": "explaining",
    "rollback": "changing",
    **dict.fromkeys(("matrix", "recipe"), "data"),
    "wheels": "wheels",
    "hook": "hook",
    "report": "report",
}


class Commands(click.Group):
    """Commands that are imported when they are asked for: `modules` has by name the module of cli/ that holds each, as
    `prefix` and the name."""

    def __init__(self, *arguments: Any, modules: Mapping[str, str], prefix: str = "", **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.modules, self.prefix = modules, prefix

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  click's signature
        return list(self.modules)

    def get_command(self, ctx: click.Context, cmd_name: str) -> Optional[click.Command]:
        if cmd_name not in self.modules:
            return super().get_command(ctx, cmd_name)
        module = import_module(f"mmdoctor.cli.{self.modules[cmd_name]}")
        found: click.Command = getattr(module, self.prefix + cmd_name)
        return found


@click.command(
    cls=Commands,
    modules=COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
@click.version_option(__version__, prog_name="mmdoctor")
def cli() -> None:
    """Environment doctor and installer for the MMPose stack: torch, CUDA, mmcv, mmengine, mmdet, mmpose, NumPy."""
