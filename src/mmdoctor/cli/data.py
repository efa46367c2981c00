"""What mmdoctor knows: matrix and recipe."""

from __future__ import annotations

import os
import shutil
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Optional

import click

from mmdoctor.cli.common import (
    FINDINGS,
    NO_STACK,
    OK,
    TRY_AGAIN,
    emit,
    load,
    machine_alone,
    output_options,
    put,
    taken_out,
)
from mmdoctor.errors import RefusedError, TryAgainError, UsageError

if TYPE_CHECKING:
    from mmdoctor.matrix_model import Matrix, StackRow


UNFOLDED = 200  # columns, where no terminal has to hold them


@click.group()
def matrix() -> None:
    """The compatibility matrix."""


@matrix.command("list")
@click.option("--matrix", "file", metavar="FILE", help="The matrix to list (default: mmdoctor's own).")
@click.option("--pretend", multiple=True, metavar="KEY=VALUE", help="Only what runs on that machine (repeatable).")
@output_options("text", "json")
def matrix_list(file: Optional[str], pretend: tuple[str, ...], kind: str, output: Optional[str]) -> int:
    """The measured stacks, and every torch release with its builds and prebuilt wheels.

    --pretend python=3.12 os=linux machine=x86_64 glibc=2.35 driver=535.104.05 gpu=7.5 keep what runs there, and count
    what does not by the fact that speaks against it. What is not said filters nothing.
    """
    from mmdoctor.matrix import load_matrix
    from mmdoctor.matrix_list import anybody
    from mmdoctor.matrix_list import matrix_list as listed
    from mmdoctor.pretend import pretend as pretended
    from mmdoctor.report.page import wants_colour
    from mmdoctor.report.tables import matrix_list_text

    facts = pretended(anybody(), pretend)
    found = listed(load_matrix(Path(file) if file else None), facts)
    if kind == "json":
        emit(found, kind, output)
        return OK
    tty = output is None and sys.stdout.isatty()
    width = shutil.get_terminal_size().columns if tty else UNFOLDED
    put(matrix_list_text(found, width, output is None and wants_colour(os.environ, tty)), output)
    return OK


@matrix.command("why")
@click.argument("versions", nargs=-1, required=True, metavar="NAME==VERSION...")
@click.option("--pretend", multiple=True, metavar="KEY=VALUE", help="On that machine (repeatable).")
@click.option("--facts", "facts_file", metavar="FILE", help="On the machine of recorded facts.")
@click.option("--recipe", metavar="NAME|FILE", help="Beside what a recipe wants (default: beside anything).")
@click.option("--no-build", is_flag=True, help="Compile nothing.")
@output_options("text", "json")
def matrix_why(
    versions: tuple[str, ...],
    pretend: tuple[str, ...],
    facts_file: Optional[str],
    recipe: Optional[str],
    no_build: bool,
    kind: str,
    output: Optional[str],
) -> int:
    """Do these versions go together in a new environment on this machine, and why not?

    python==3.12 may be among them. Asks no network. Exit status 0 yes, 4 no.
    """
    from msgspec.structs import replace

    from mmdoctor.cli.changing import pins_of
    from mmdoctor.holds import in_new_environment
    from mmdoctor.matrix import load_matrix, load_recipe
    from mmdoctor.model import Facts
    from mmdoctor.pretend import pretend as pretended
    from mmdoctor.why import question, why

    pins = pins_of(versions, option="")
    python = pins.pop("python", None)
    if not pins:
        raise UsageError("which packages?", hint="mmdoctor matrix why torch==2.6.0 mmcv==2.1.0")
    settings = (*pretend, f"python={python}") if python else pretend
    if facts_file:
        seen = pretended(load(facts_file, Facts, "facts"), settings)
    else:
        seen = machine_alone(settings, "a new environment")
    request = replace(question(pins), allow_build=not no_build)
    if recipe:
        request = replace(request, recipe=load_recipe(recipe))
    answer = why(in_new_environment(seen, seen.target.python), load_matrix(), request)
    emit(answer, kind, output)
    return OK if answer.together else NO_STACK


@matrix.command("lint")
@click.argument("file", required=False)
def matrix_lint(file: Optional[str]) -> int:
    """Check the matrix: form, sources, meaning. Exit status 1 when something is wrong, each fault with its line."""
    from mmdoctor.matrix import load_matrix, matrix_file
    from mmdoctor.matrix_lint import lint_matrix, located

    path = Path(file) if file else matrix_file()
    loaded, text = load_matrix(path), path.read_text(encoding="utf-8")
    problems = lint_matrix(loaded, text)
    for problem in located(problems, loaded, text, str(path)):
        click.echo(problem)
    if not problems:
        click.echo(
            f"{path.name}: {len(loaded.torch)} torch releases, {len(loaded.mmcv_wheels)} wheel rows, no problems"
        )
    return FINDINGS if problems else OK


@matrix.command("refresh")
@click.option("--matrix", "file", metavar="FILE", help="The matrix to compare and write (default: mmdoctor's own).")
@click.option("--write", is_flag=True, help="Write what can be written.")
@click.option("--offline", is_flag=True, help="Ask no network: only indexes that are local folders.")
@output_options("text", "json")
def matrix_refresh(file: Optional[str], write: bool, offline: bool, kind: str, output: Optional[str]) -> int:
    """What PyPI, torch's index and those of mmcv's wheels list today, against the matrix.

    The indexes are those of pip's and uv's configuration. Nothing is taken out of the matrix: a release that is gone is
    marked, and what an index cannot tell is left to look up. A page that is far shorter than the matrix is not gone by.

    Exit status: 0 the matrix is as the indexes say, or is so now; 1 a difference is left; 2 usage; 4 the outcome would
    not pass `matrix lint`, so nothing is written; 75 no difference is seen, but not every index could be read.
    """
    from mmdoctor.matrix import load_matrix, matrix_file
    from mmdoctor.model import Refresh
    from mmdoctor.probes.indexes import user_config
    from mmdoctor.refresh import refresh
    from mmdoctor.verify.evidence import check_writable

    path = Path(file) if file else matrix_file()
    known = load_matrix(path)
    if write:
        check_writable(path)
    today = time.strftime("%Y-%m-%d", time.gmtime())
    config = user_config(os.environ, Path.home())
    anew, differences, readings = refresh(
        known, config, today, lambda text: click.echo(f"mmdoctor: {text}", err=True), offline=offline
    )
    unread = [reading for reading in readings if not reading.read]
    if len(unread) == len(readings):
        raise TryAgainError(
            f"no index could be read: {unread[0].tried[0].url if unread[0].tried else unread[0].page}: "
            f"{unread[0].tried[0].said if unread[0].tried else 'pip is told no-index'}",
            hint="check the network and pip's configuration",
        )
    if write and anew != known:
        written(path, known, anew)
    made = Refresh(
        matrix=str(path),
        read_on=known.read_on,
        written=write and anew != known,
        differences=differences,
        readings=readings,
    )
    emit(made, kind, output)
    left = [d for d in differences if d.look or not made.written]
    return FINDINGS if left else TRY_AGAIN if unread else OK


def written(path: Path, known: Matrix, anew: Matrix) -> None:
    """Write the refreshed matrix, unless it does not mean what it should or the file has changed meanwhile."""
    from mmdoctor.matrix import dump_matrix, load_matrix, write_matrix
    from mmdoctor.matrix_lint import lint_matrix

    faults = lint_matrix(anew, dump_matrix(anew))
    if faults:
        what = f"the refreshed matrix would not pass `mmdoctor matrix lint`: {'; '.join(faults)}"
        raise RefusedError(what, hint="nothing is written; correct the rows that are named, then repeat it")
    if load_matrix(path) != known:
        raise TryAgainError(f"{path} was changed meanwhile; nothing is written", hint="repeat it")
    write_matrix(path, anew)


@matrix.command("verify")
@click.argument("row", nargs=-1)
@click.option("--python", metavar="EXE", help="The interpreter to build on (default: one that is found).")
@click.option("--no-binary", multiple=True, metavar="NAME", help="Compile it although there is a wheel (repeatable).")
@click.option("--without", multiple=True, metavar="NAME", help="Leave this part out (repeatable).")
@click.option("--matrix", "file", metavar="FILE", help="The matrix to add the evidence to (default: mmdoctor's own).")
@click.option("--no-write", is_flag=True, help="Only print the evidence.")
@click.option("--add", multiple=True, metavar="FILE", help="Add evidence that another machine printed as JSON.")
@click.option("--keep", is_flag=True, help="Leave the environment, for a look.")
@click.option("--offline", is_flag=True, help="Ask no network.")
@click.option("--wheels", metavar="DIR", help="The wheel cache (default: mmdoctor's own).")
@output_options("text", "json")
def matrix_verify(
    row: tuple[str, ...],
    python: Optional[str],
    no_binary: tuple[str, ...],
    without: tuple[str, ...],
    file: Optional[str],
    no_write: bool,
    add: tuple[str, ...],
    keep: bool,
    offline: bool,
    wheels: Optional[str],
    kind: str,
    output: Optional[str],
) -> int:
    """Install one combination literally in a throwaway environment, smoke it, and add the evidence to the matrix.

    ROW: exact versions (torch==2.4.1 mmcv==2.2.0 numpy==1.26.4 python==3.11), what is left out is filled in and said;
    or the id of a measured row, to measure it again. Exit status: 0 it works, 1 it is broken, which is evidence too;
    and with nothing written 2 usage, 3 a deadline ended a step, as a busy machine may, 75 the network stood in the way.
    """
    from mmdoctor.matrix import load_matrix, matrix_file
    from mmdoctor.matrix_model import StackRow
    from mmdoctor.report import encode
    from mmdoctor.report.evidence import evidence_text
    from mmdoctor.verify.evidence import add_evidence, check_writable

    path = Path(file) if file else matrix_file()
    if bool(row) == bool(add):
        raise UsageError("what to measure? give a ROW, or evidence with --add FILE")
    if not no_write:
        check_writable(path)
    if add:
        add_evidence(path, [load(name, StackRow, "evidence of `matrix verify`") for name in add])
        click.echo(f"{path.name}: evidence of {len(add)} runs added")
        return OK
    measured = verified(row, load_matrix(path), python, no_binary, without, wheels, keep=keep, offline=offline)
    if not no_write:
        add_evidence(path, [measured])
    put(evidence_text(measured) if kind == "text" else encode(measured), output)
    return OK if measured.outcome == "works" else FINDINGS


def verified(
    words: tuple[str, ...],
    known: Matrix,
    python: Optional[str],
    no_binary: tuple[str, ...],
    without: tuple[str, ...],
    wheels: Optional[str],
    *,
    keep: bool,
    offline: bool,
) -> StackRow:
    """Measure ROW in a folder of mmdoctor's cache; its logs stay there, the environment only with `keep`."""
    from mmdoctor.apply.stages import Settings
    from mmdoctor.folders import cache_folder
    from mmdoctor.probes.indexes import user_config
    from mmdoctor.report import redact
    from mmdoctor.report.progress import listener
    from mmdoctor.system import uv_program
    from mmdoctor.verify.combination import read_combination
    from mmdoctor.verify.measure import verify

    asked = read_combination(words, known, no_binary, without)
    cache = cache_folder()
    place = cache / "verify" / f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"
    place.mkdir(parents=True)
    settings = Settings(
        cache=cache,
        wheels=Path(wheels) if wheels else cache / "wheels",
        offline=offline,
        uv=uv_program(),
        config=user_config(os.environ, Path.home()),
    )
    try:
        with listener(sys.stderr) as say:
            measured = verify(asked, known, settings, say, place, python)
            say.info(f"{measured.outcome}; the logs: {place}")
    finally:
        if not keep:
            shutil.rmtree(place / "env", ignore_errors=True)
    return redact(measured, *taken_out())


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
