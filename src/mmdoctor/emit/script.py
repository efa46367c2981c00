"""A bash script that does what the plan says, with uv and pip alone."""

from __future__ import annotations

from collections.abc import Iterator

from mmdoctor.emit.commands import PROOF, SHELL_NAMES, commands, comment, files
from mmdoctor.model import Plan


def emit(plan: Plan) -> str:
    """The script; its one optional argument is the environment's folder. It stops at the first command that fails.

    A new environment is created; an existing one is changed in place, without the clone that `fix --apply` works on.
    """
    return "\n".join(_lines(plan)) + "\n"


def _lines(plan: Plan) -> Iterator[str]:
    yield "#!/usr/bin/env bash"
    yield "# Written by `mmdoctor fix --emit script`. Usage: bash THIS_FILE [ENVIRONMENT]"
    yield from comment(plan)
    if not plan.new_environment:
        yield "# It changes the environment in place; `mmdoctor fix --apply` works on a clone and swaps it in when proven."
    yield "set -euo pipefail"
    yield 'env=$(realpath -m "${1:-.venv}")'
    yield 'python="$env/bin/python"'
    yield "work=$(mktemp -d)"
    yield "trap 'rm -rf \"$work\"' EXIT"
    yield "command -v uv >/dev/null || { echo 'this script needs uv: pip install uv' >&2; exit 2; }"
    yield from files(plan)
    for number, stage in enumerate(plan.stages, start=1):
        yield ""
        yield f"echo '[{number}/{len(plan.stages)}] {stage.title}'"
        if stage.id == "proof":
            yield "if command -v mmdoctor >/dev/null; then"
            yield from (f"  {text}" for text in commands(stage, SHELL_NAMES))
            yield "else"
            yield f"  \"$python\" -c '{PROOF}'"
            yield "fi"
        else:
            yield from commands(stage, SHELL_NAMES)
    yield ""
    yield 'echo "ready: $env"'
