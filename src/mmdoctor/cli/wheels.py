"""Wheels that were compiled and proven: made, listed, pruned, and exchanged with a team or a host without network."""

from __future__ import annotations

import os
import re
import shutil
import sys
import time
from pathlib import Path
from typing import Callable, Optional, TypeVar

import click

from mmdoctor.cli.changing import pins_of
from mmdoctor.cli.common import FINDINGS, OK, F, chosen_target, output_options, put, taken_out, target_options
from mmdoctor.cli.data import UNFOLDED
from mmdoctor.errors import RefusedError, UsageError
from mmdoctor.model import Value

AGE = re.compile(r"(\d+(?:\.\d+)?) ?([hdw])")
W = TypeVar("W", bound=Value)
SIZE = re.compile(r"(\d+(?:\.\d+)?) ?([kMGT])B")


def wheels_option(command: F) -> F:
    """--wheels, for every command on a wheel cache."""
    return click.option("--wheels", "folder", metavar="DIR", help="The wheel cache (default: mmdoctor's own).")(command)


@click.group()
def wheels() -> None:
    """The cache of compiled and proven wheels."""


@wheels.command("list")
@wheels_option
@output_options("text", "json")
def wheels_list(folder: Optional[str], kind: str, output: Optional[str]) -> int:
    """What was compiled or imported, for what, and whether each file is still the one that was proven.

    Exit status: 0, or 1 when one is damaged.
    """
    from mmdoctor.report.page import wants_colour
    from mmdoctor.report.tables import wheels_text
    from mmdoctor.wheels.cache import listed

    tty = output is None and sys.stdout.isatty()
    width = shutil.get_terminal_size().columns if tty else UNFOLDED
    colour = output is None and wants_colour(os.environ, tty)
    found = listed(wheels_of(folder))
    shown(found, kind, output, lambda value: wheels_text(value, width, colour))
    return FINDINGS if found.strays or not all(wheel.sound for wheel in found.wheels) else OK


@wheels.command("build")
@click.argument("wanted", metavar="NAME==VERSION")
@target_options
@wheels_option
@click.option("--cuda-archs", metavar="7.5,8.6", help="CUDA ops for these GPUs (default: those that are here).")
@click.option("--offline", is_flag=True, help="Ask no network.")
@output_options("text", "json")
def wheels_build(
    wanted: str,
    env: Optional[str],
    python: Optional[str],
    folder: Optional[str],
    cuda_archs: Optional[str],
    offline: bool,
    kind: str,
    output: Optional[str],
) -> int:
    """Compile a wheel for the torch, NumPy and Python of an environment, prove it, and keep it in the cache.

    The environment is not changed. A build that was killed goes on where it stopped. MAX_JOBS, CC, CXX, CUDA_HOME,
    TORCH_CUDA_ARCH_LIST and FORCE_CUDA=1 (CUDA ops where there is no GPU) are heeded. Exit status: 0 it is in the
    cache; 4 refused, something is missing here; 5 the compile or the proof failed; 75 try again.
    """
    from mmdoctor.apply.stages import Settings
    from mmdoctor.folders import cache_folder
    from mmdoctor.matrix import load_matrix
    from mmdoctor.model import Built
    from mmdoctor.probes.indexes import user_config
    from mmdoctor.report.progress import listener
    from mmdoctor.report.tables import built_text
    from mmdoctor.rest import uv_of
    from mmdoctor.system import uv_program
    from mmdoctor.wheels.asking import build_asked, facts_for
    from mmdoctor.wheels.cache import kept, proofs, written
    from mmdoctor.wheels.making import make_wheel

    matrix = load_matrix()
    facts = facts_for(*chosen_target(env, python))
    [(name, version)] = pins_of((wanted,), option="").items()
    build = build_asked(matrix, facts, name, version, cuda_archs)
    settings = Settings(
        cache=cache_folder(),
        wheels=wheels_of(folder),
        offline=offline,
        uv=uv_program(),
        config=user_config(os.environ, Path.home(), Path(facts.target.prefix)),
    )
    environment = uv_of(settings.uv, settings.config, offline=offline).environment
    start = time.monotonic()
    with listener(sys.stderr) as say, written(settings.cache):
        say.stage(1, 1, f"{name} {version} for {facts.target.requested}")
        made = make_wheel(build, facts.target, facts, matrix, settings, say, environment=environment)
        say.done(time.monotonic() - start)
    proof = next(proof for wheel, proof in proofs(settings.wheels) if wheel == made.wheel)
    shown(Built(wheel=kept(made.wheel, proof), compiled=made.compiled), kind, output, built_text)
    return OK


@wheels.command("prune")
@wheels_option
@click.option("--older-than", default="90d", show_default=True, metavar="AGE", help="Wheels not used for so long.")
@click.option("--larger-than", metavar="SIZE", help="The longest unused ones, until the rest is no larger.")
@click.option("--keep", type=click.IntRange(0), default=0, metavar="N", help="But not the N that were used last.")
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@output_options("text", "json")
def wheels_prune(
    folder: Optional[str],
    older_than: str,
    larger_than: Optional[str],
    keep: int,
    dry_run: bool,
    yes: bool,
    kind: str,
    output: Optional[str],
) -> int:
    """Delete wheels that were not used for long, damaged ones, and what no wheel needs.

    With them, unless --wheels names another folder: what is left of builds after a week, and after AGE the sdists of no
    wheel that stays. A build that runs stays, and what was used within the last hour.
    AGE is 12h, 90d or 8w, SIZE 500MB or 5GB. Exit status: 0 done, or nothing to do; 4 refused.
    """
    from mmdoctor.folders import cache_folder
    from mmdoctor.report import redact
    from mmdoctor.report.tables import pruned_text
    from mmdoctor.wheels.exporting import refresh_pages
    from mmdoctor.wheels.prune import Policy, removals, remove

    policy = Policy(days=days_of(older_than), bytes=bytes_of(larger_than) if larger_than else None, keep=keep)
    pruned = removals(wheels_of(folder), None if folder else cache_folder(), policy, time.time())
    if dry_run or not pruned.removals:
        shown(pruned, kind, output, pruned_text)
        return OK
    if not yes:
        if not sys.stdin.isatty():
            raise RefusedError("there is no terminal to ask on", hint="repeat it with --yes, or --dry-run to see it")
        click.echo(pruned_text(redact(pruned, *taken_out())), err=True)
        if not click.confirm("Delete them?", err=True):
            raise RefusedError("nothing is deleted, as you said")
    pruned = remove(pruned)
    refresh_pages(wheels_of(folder))
    shown(pruned, kind, output, pruned_text)
    return OK


@wheels.command("export")
@click.argument("into", metavar="DIR")
@click.argument("wanted", nargs=-1, metavar="[NAME==VERSION...]")
@wheels_option
@output_options("text", "json")
def wheels_export(into: str, wanted: tuple[str, ...], folder: Optional[str], kind: str, output: Optional[str]) -> int:
    """Copy wheels with their proofs into DIR, and make it a static index (PEP 503) that any web server shows.

    All of them, or those that are named. What DIR holds already stays. Exit status: 0, or 4 when a wheel is damaged
    and left out, or DIR cannot be written.
    """
    from mmdoctor.report.tables import exported_text
    from mmdoctor.wheels.exporting import export

    exported = export(wheels_of(folder), Path(into), wanted)
    shown(exported, kind, output, exported_text)
    return RefusedError.exit_code if exported.damaged else OK


@wheels.command("import")
@click.argument("source", metavar="DIR|URL")
@wheels_option
@click.option("--env", metavar="DIR", help="Prove anew, in this environment, what is for its Python, torch and NumPy.")
@click.option("--dry-run", is_flag=True, help="Check, and write nothing.")
@output_options("text", "json")
def wheels_import(
    source: str, folder: Optional[str], env: Optional[str], dry_run: bool, kind: str, output: Optional[str]
) -> int:
    """Take the wheels of an exported folder, or of its address, whose proofs hold; say of each other one why not.

    A proof names its wheel by hash and is no signature: an import trusts who made the folder. With --env the wheels
    are loaded and their ops run here as well. Exit status: 0; 4 when one is refused; 75 the address does not answer.
    """
    from mmdoctor.probes.indexes import user_config
    from mmdoctor.probes.target import probe_target
    from mmdoctor.report.tables import imported_text
    from mmdoctor.wheels.importing import import_wheels

    target = probe_target(Path(env).absolute(), is_env=True) if env else None
    if target is not None and target.state != "present":
        raise UsageError(f"{env} is no environment to prove wheels in: {target.problem or 'there is none'}")
    config = user_config(os.environ, Path.home())
    imported = import_wheels(source, wheels_of(folder), config, target, dry_run=dry_run)
    shown(imported, kind, output, imported_text)
    return RefusedError.exit_code if imported.refused else OK


def wheels_of(folder: Optional[str]) -> Path:
    """The wheel cache that is meant; UsageError when it is named and not there."""
    from mmdoctor.folders import cache_folder

    if folder is not None and Path(folder).exists() and not Path(folder).is_dir():
        raise UsageError(f"{folder} is no folder", hint="--wheels names a wheel cache")
    return Path(folder) if folder else cache_folder() / "wheels"


def shown(value: W, kind: str, output: Optional[str], as_text: Callable[[W], str]) -> None:
    """The value without what must not be pasted in public, as JSON or as text."""
    from mmdoctor.report import encode, redact

    clean = redact(value, *taken_out())
    put(encode(clean) if kind == "json" else as_text(clean), output)


def days_of(text: str) -> float:
    """`12h`, `90d`, `8w` in days; UsageError for anything else."""
    found = AGE.fullmatch(text.strip())
    if found is None:
        raise UsageError(f"--older-than {text}: expected an age like 12h, 90d or 8w")
    return float(found[1]) * {"h": 1 / 24, "d": 1.0, "w": 7.0}[found[2]]


def bytes_of(text: str) -> int:
    """`500MB`, `5GB` in bytes; UsageError for anything else."""
    found = SIZE.fullmatch(text.strip())
    if found is None:
        raise UsageError(f"--larger-than {text}: expected a size like 500MB or 5GB")
    return int(float(found[1]) * {"k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}[found[2]])
