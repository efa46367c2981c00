"""A bash script that does what the plan says, with uv or pip alone."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from mmdoctor import rules
from mmdoctor.emit.commands import PROOF, SHELL_NAMES, commands, comment, files, uses_uv
from mmdoctor.model import Plan


def emit(plan: Plan) -> str:
    """The script; its one argument is the environment's folder. It stops at the first command that fails.

    A new environment is created (by default in .venv); an existing one must be named, and is changed in place, without
    the clone that `fix --apply` works on.
    """
    return "\n".join(_lines(plan)) + "\n"


def _lines(plan: Plan) -> Iterator[str]:
    yield "#!/usr/bin/env bash"
    yield "# Written by `mmdoctor fix --emit script`. Usage: bash THIS_FILE ENVIRONMENT"
    yield from comment(plan)
    if not plan.new_environment:
        yield "# It changes the environment in place; `mmdoctor fix --apply` changes a proven clone instead."
    yield "set -euo pipefail"
    folder = "${1:-.venv}" if plan.new_environment else "${1:?usage: bash THIS_FILE ENVIRONMENT}"
    yield f'env=$(realpath -m "{folder}")'
    yield 'python="$env/bin/python"'
    yield "work=$(mktemp -d)"
    yield "trap 'rm -rf \"$work\"' EXIT"
    if uses_uv(plan):
        yield "command -v uv >/dev/null || { echo 'this script needs uv: pip install uv' >&2; exit 2; }"
    yield from files(plan)
    for number, stage in enumerate(plan.stages, start=1):
        yield ""
        yield f"echo {shlex.quote(f'[{number}/{len(plan.stages)}] {stage.title}')}"
        if stage.id == "environment" and plan.stack is not None:  # the plan's own names a folder of its machine
            python = rules.minor(plan.stack.python)
            yield f'uv venv --python {python} --seed "$env"' if uses_uv(plan) else f'python{python} -m venv "$env"'
        elif stage.id == "proof":
            yield "if command -v mmdoctor >/dev/null; then"
            yield from (f"  {text}" for text in commands(stage, SHELL_NAMES))
            yield "else"
            yield f"  \"$python\" -c '{PROOF}'"
            yield "fi"
        else:
            yield from commands(stage, SHELL_NAMES)
    yield ""
    yield 'echo "ready: $env"'
