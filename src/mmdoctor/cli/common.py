"""What the commands share: options, the target, how values are read, shown and looked at."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any, Callable, Optional, TypeVar

import click
import msgspec

from mmdoctor import __version__
from mmdoctor.errors import DataError, UsageError
from mmdoctor.folders import home
from mmdoctor.marks import span
from mmdoctor.model import Facts, Target, Value

F = TypeVar("F", bound=Callable[..., Any])
V = TypeVar("V")
REPORT_FORMATS = (
    "text",
    "json",
    "junit",
    "sarif",
    "github",
    "prometheus",
    "markdown",
    "html",
    "nagios",
    "journal",
    "healthz",
)
FIRST_PERSON = 1000  # uids below are the system's own (login.defs)
OK, FINDINGS, UNDETERMINED, NO_STACK, BELOW, TRY_AGAIN = 0, 1, 3, 4, 1, 75


def age(_context: click.Context, _option: click.Parameter, value: Optional[str]) -> Optional[float]:
    """The callback of an option that takes a time span: its seconds."""
    try:
        return None if value is None else span(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


def target_options(command: F) -> F:
    """--env and --python, for every command that has a target."""
    command = click.option("--python", metavar="EXE", help="The target's interpreter.")(command)
    return click.option("--env", metavar="DIR", help="The target: a venv or conda prefix.")(command)


def facts_options(command: F) -> F:
    """--facts and --pretend: look at another machine than this one."""
    command = click.option("--offline", is_flag=True, help="Ask no network.")(command)
    command = click.option("--pretend", metavar="KEY=VALUE", multiple=True, help="Override a fact (repeatable).")(
        command
    )
    return click.option("--facts", "facts_file", metavar="FILE", help="Replay recorded facts instead of looking.")(
        command
    )


def output_options(*formats: str) -> Callable[[F], F]:
    """--format and --output."""

    def decorate(command: F) -> F:
        command = click.option("--output", metavar="FILE", help="Write there instead of to standard output.")(command)
        return click.option("--format", "kind", type=click.Choice(formats), default=formats[0], show_default=True)(
            command
        )

    return decorate


def emit(value: Value, kind: str, output: Optional[str]) -> None:
    """Render a value, without what must not be pasted in public, to stdout or a file."""
    from mmdoctor.report import render
    from mmdoctor.report.page import wants_colour

    colour = kind == "text" and output is None and wants_colour(os.environ, sys.stdout.isatty())
    put(render(value, kind, *taken_out(), colour=colour), output)


def taken_out() -> tuple[str, str]:
    """The home folder and the user's name, which no report shows. A service account's name is often that of a folder
    the report is about, so only people's names are taken out."""
    person = not hasattr(os, "getuid") or os.getuid() >= FIRST_PERSON
    return str(home()), os.environ.get("USER", "") if person else ""


def put(text: str, output: Optional[str]) -> None:
    """Text to stdout, or whole into a file."""
    if output is None:
        click.echo(text.rstrip("\n"))
        return
    path = Path(output)
    draft = path.with_name(path.name + ".part")
    try:
        draft.write_text(text.rstrip("\n") + "\n", encoding="utf-8")
        draft.replace(path)
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}", hint="name another file with --output") from error


def load(path: str, kind: type[V], what: str) -> V:
    """Read a JSON value that mmdoctor wrote; DataError names file and place."""
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error
    try:
        return msgspec.json.decode(content, type=kind)
    except msgspec.DecodeError as error:
        raise DataError(
            f"{path} does not hold {what}: {error}", hint=f"write it with mmdoctor {__version__}"
        ) from error


def chosen_target(env: Optional[str], python: Optional[str]) -> tuple[Path, bool]:
    """The path of the target and whether it is an environment's folder.

    --env, --python, $VIRTUAL_ENV, $CONDA_PREFIX, in this order; never mmdoctor's own environment unasked.
    """
    if env:
        return Path(env), True
    if python:
        return Path(python), False
    for name in ("VIRTUAL_ENV", "CONDA_PREFIX"):
        value = os.environ.get(name)
        if value and Path(value).resolve() != Path(sys.prefix).resolve():
            return Path(value), True
    raise UsageError("which environment? there is no --env, no --python and no active one", hint="mmdoctor … --env DIR")


def recovered(env: Optional[str], python: Optional[str]) -> None:
    """Make whole what a killed `fix --apply` left at this target, before anything is looked at."""
    from mmdoctor.apply.places import Places

    path, is_env = chosen_target(env, python)
    if not is_env or Places(path).at_rest():
        return
    from mmdoctor.apply.recover import recovered as mended

    said = mended(path)
    if said:
        click.echo(f"mmdoctor: {said}", err=True)


def machine_alone(
    pretend: tuple[str, ...], requested: str, *, quick: bool = False, wheels: Optional[Path] = None
) -> Facts:
    """The facts of this machine with an environment that is not there, on the Python of mmdoctor's own minor."""
    from mmdoctor.pretend import pretend as pretended
    from mmdoctor.probes.collect import collect

    nowhere = Target(requested=requested, state="absent", python=f"3.{sys.version_info.minor}.0")
    return pretended(collect(nowhere, Path.cwd(), quick=quick, wheels_folder=wheels), pretend)


def looked(
    env: Optional[str],
    python: Optional[str],
    facts_file: Optional[str],
    pretend: tuple[str, ...],
    *,
    quick: bool = False,
    wheels: Optional[Path] = None,
    likely_broken: bool = False,
    seen: Optional[Callable[[Facts], None]] = None,
) -> Facts:
    """The facts: replayed, or looked at here and now, with the pretended ones over them. `seen` gets what a quick look
    would say, before the long part begins."""
    from mmdoctor.pretend import pretend as pretended
    from mmdoctor.pretend import read

    read(pretend)  # a mistake in it is said before anything is looked at
    if facts_file:
        return pretended(load(facts_file, Facts, "facts"), pretend)
    from mmdoctor.probes.target import probe_target
    from mmdoctor.work import Background

    # Facts are made in several threads, and two that learn one type at once die of it (msgspec 0.22, measured).
    msgspec.json.Decoder(Facts)
    elsewhere = any(setting.startswith(("python=", "installed=")) for setting in pretend)
    if elsewhere and not env and not python:
        return machine_alone(pretend, "a pretended environment", quick=quick, wheels=wheels)
    recovered(env, python)
    path, is_env = chosen_target(env, python)
    target = Background(probe_target, path.absolute(), is_env=is_env, quick=quick)
    from mmdoctor.probes.collect import collect  # while the target answers

    facts = collect(
        target,
        path.absolute(),
        quick=quick,
        wheels_folder=wheels,
        likely_broken=likely_broken,
        seen=seen,
    )
    return pretended(facts, pretend)
