"""What mmdoctor knows and keeps: matrix, recipe, wheels; and the hooks."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Optional

import click

from mmdoctor.cli.common import FINDINGS, OK, emit, output_options
from mmdoctor.errors import UsageError


@click.group()
def matrix() -> None:
    """The compatibility matrix."""


@matrix.command("list")
@click.option("--pretend", multiple=True, metavar="KEY=VALUE", help="Only what fits that machine.")
def matrix_list(pretend: tuple[str, ...]) -> int:
    """The measured stacks, and every torch release with its pairs and wheels."""
    from mmdoctor.matrix import load_matrix
    from mmdoctor.report.tables import matrix_table

    keys = dict(setting.partition("=")[::2] for setting in pretend)
    click.echo(matrix_table(load_matrix(), keys.get("python"), keys.get("os", "linux")))
    return OK


@matrix.command("lint")
@click.argument("file", required=False)
def matrix_lint(file: Optional[str]) -> int:
    """Check the matrix: form, sources, meaning. Exit status 1 when something is wrong."""
    from mmdoctor.matrix import load_matrix, matrix_file
    from mmdoctor.matrix_lint import lint_matrix

    path = Path(file) if file else matrix_file()
    loaded = load_matrix(path)
    problems = lint_matrix(loaded, path.read_text(encoding="utf-8"))
    for problem in problems:
        click.echo(problem)
    if not problems:
        click.echo(
            f"{path.name}: {len(loaded.torch)} torch releases, {len(loaded.mmcv_wheels)} wheel rows, no problems"
        )
    return FINDINGS if problems else OK


@click.group()
def recipe() -> None:
    """What a project wants of its stack."""


@recipe.command("list")
def recipe_list() -> int:
    """The recipes that come with mmdoctor."""
    from mmdoctor.matrix import load_recipe, recipe_names

    for name in recipe_names():
        click.echo(f"{name:16} {load_recipe(name).title}")
    return OK


@recipe.command("show")
@click.argument("name")
@output_options("text", "json")
def recipe_show(name: str, kind: str, output: Optional[str]) -> int:
    """One recipe, whole."""
    from mmdoctor.matrix import load_recipe

    emit(load_recipe(name), kind, output)
    return OK


@click.group()
def wheels() -> None:
    """The cache of compiled and proven wheels."""


@wheels.command("list")
@click.option("--wheels", "folder", metavar="DIR", help="The wheel cache (default: mmdoctor's own).")
def wheels_list(folder: Optional[str]) -> int:
    """What was compiled here, and for what."""
    from mmdoctor.report.tables import wheels_table
    from mmdoctor.wheels.cache import cache_folder, proofs

    click.echo(wheels_table(proofs(Path(folder) if folder else cache_folder() / "wheels")))
    return OK


@click.group()
def hook() -> None:
    """Run mmdoctor where no one is looking."""


@hook.command("systemd")
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
