"""Changing: fix with its plan, --apply and --resume, and rollback."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Optional

import click
import msgspec
from msgspec.structs import replace

from mmdoctor.cli.common import (
    FINDINGS,
    NO_STACK,
    OK,
    chosen_target,
    emit,
    facts_options,
    load,
    looked,
    output_options,
    put,
    recovered,
    target_options,
)
from mmdoctor.cli.looking import emit_benches, reported
from mmdoctor.errors import RefusedError, UsageError
from mmdoctor.matrix_model import Matrix
from mmdoctor.model import Facts, Finding, Kept, Plan, Recipe, Request, Target

if TYPE_CHECKING:
    from mmdoctor.probes.indexes import IndexConfig


@click.command()
@target_options
@facts_options
@output_options("text", "json")
@click.option(
    "--recipe",
    default="rtmpose",
    show_default=True,
    metavar="NAME|FILE",
    help="A name, a recipe or a requirements.txt.",
)
@click.option("--pin", multiple=True, metavar="NAME==VERSION", help="Your own exact version (repeatable).")
@click.option("--torch-variant", "variants", multiple=True, metavar="cpu|cu118|…", help="Allowed builds of torch.")
@click.option("--no-build", is_flag=True, help="Compile nothing.")
@click.option("--apply", "apply_it", is_flag=True, help="Run the plan on a clone, prove it, swap it in.")
@click.option("--resume", is_flag=True, help="Go on with the run that was killed or failed; implies --apply.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--plan-out", metavar="FILE", help="Save the plan.")
@click.option("--plan", "plan_file", metavar="FILE", help="Use a saved plan; refused when it is stale.")
@click.option("--wheels", metavar="DIR", help="The wheel cache (default: mmdoctor's own).")
@click.option("--installer", type=click.Choice(("uv", "pip")), default="uv", show_default=True)
@click.option(
    "--emit", "emit_kind", type=click.Choice(("script", "requirements", "dockerfile")), help="Print the plan so."
)
def fix(
    env: Optional[str],
    python: Optional[str],
    facts_file: Optional[str],
    pretend: tuple[str, ...],
    offline: bool,
    kind: str,
    output: Optional[str],
    recipe: str,
    pin: tuple[str, ...],
    variants: tuple[str, ...],
    no_build: bool,
    apply_it: bool,
    resume: bool,
    yes: bool,
    plan_out: Optional[str],
    plan_file: Optional[str],
    wheels: Optional[str],
    installer: str,
    emit_kind: Optional[str],
) -> int:
    """Plan what would make the environment work, and with --apply do it.

    Exit status: without --apply 0 nothing to do, 1 a plan exists, 4 no stack satisfies; with --apply 0 applied and
    proven, 4 refused, 5 failed and unchanged, 75 try again.
    """
    from mmdoctor.matrix import load_matrix, load_recipe
    from mmdoctor.requirements_file import recipe_of

    if (apply_it or resume) and (facts_file or pretend):
        raise UsageError("--apply changes this machine, so it takes no --facts and no --pretend")
    matrix = load_matrix()
    if resume:
        made, seen = interrupted(env, python)
        cache = Path(wheels) if wheels else None
        return applied(made, seen, matrix, kind, output, yes=yes, offline=offline, wheels=cache, resume=True)
    if apply_it:
        refuse_when_busy(env, python)
    wanted = recipe_of(Path(recipe)) if recipe.endswith(".txt") else load_recipe(recipe)
    request = Request(
        recipe=wanted,
        pins=pins_of(pin),
        torch_variants=variants,
        allow_build=not no_build,
        installer=installer,  # type: ignore[arg-type]
    )
    cache = Path(wheels) if wheels else None
    seen = facts_to_fix(env, python, facts_file, pretend, wanted, matrix, offline=offline, wheels=cache)
    made = (
        load(plan_file, Plan, "a plan")
        if plan_file
        else planned(seen, matrix, request, replayed=bool(facts_file), offline=offline)
    )
    if plan_out:
        put(msgspec.json.format(msgspec.json.encode(made), indent=2).decode(), plan_out)
    if emit_kind:
        return emitted(made, emit_kind, output)
    if not apply_it:
        emit(made, kind, output)
        return {"nothing-to-do": OK, "plan": FINDINGS}.get(made.status, NO_STACK)
    return applied(made, seen, matrix, kind, output, yes=yes, offline=offline, wheels=cache)


def interrupted(env: Optional[str], python: Optional[str]) -> tuple[Plan, Facts]:
    """The plan and the facts of the run that did not end well."""
    from mmdoctor.apply.runner import to_resume

    path, is_env = chosen_target(env, python)
    if not is_env:
        raise UsageError("--resume wants the environment's folder", hint="mmdoctor fix --resume --env DIR")
    return to_resume(path)


def refuse_when_busy(env: Optional[str], python: Optional[str]) -> None:
    """TryAgainError when the environment is being changed already: said before a minute of looking."""
    from mmdoctor.apply.places import Places
    from mmdoctor.errors import TryAgainError

    path, is_env = chosen_target(env, python)
    holder = Places(path).holder() if is_env else ""
    if holder:
        raise TryAgainError(holder, hint="wait for it to end, then run the same command again")


def pins_of(texts: tuple[str, ...], option: str = "--pin ") -> dict[str, str]:
    """`--pin NAME==VERSION` as a mapping of normalised names; UsageError names the `option`."""
    from packaging.utils import canonicalize_name
    from packaging.version import InvalidVersion, Version

    pins: dict[str, str] = {}
    for text in texts:
        name, separator, version = text.partition("==")
        try:
            Version(version)
        except InvalidVersion:
            separator = ""
        if not separator or not name:
            raise UsageError(f"{option}{text}: expected NAME==VERSION", hint=f"for example {option}numpy==1.26.4")
        pins[canonicalize_name(name)] = version
    return pins


def facts_to_fix(
    env: Optional[str],
    python: Optional[str],
    facts_file: Optional[str],
    pretend: tuple[str, ...],
    recipe: Recipe,
    matrix: Matrix,
    *,
    offline: bool,
    wheels: Optional[Path],
) -> Facts:
    """Facts for a plan: the indexes are asked too, and a missing environment gets the interpreter it would stand on."""
    from mmdoctor.pretend import pretend as pretended
    from mmdoctor.probes.collect import with_indexes
    from mmdoctor.probes.target import on_base_interpreter

    base = python if env else None
    seen = looked(env, None if env else python, facts_file, pretend, wheels=wheels, likely_broken=True)
    if facts_file:
        return seen
    if seen.target.state == "present" and seen.target.kind != "system":
        # A plan changes an environment's folder, also when its interpreter was named.
        seen = replace(seen, target=replace(seen.target, requested=seen.target.prefix))
    if seen.target.state == "broken":
        what = f"{seen.target.requested} does not answer: {seen.target.problem}"
        raise RefusedError(what, hint="move it away; `mmdoctor fix --apply` then builds a new one at the same path")
    if seen.target.state == "absent" and not any(setting.startswith("python=") for setting in pretend):
        target = on_base_interpreter(seen.target, recipe.python, base)
        seen = replace(seen, target=target)
    return pretended(with_indexes(seen, matrix, offline=offline), pretend)


def planned(seen: Facts, matrix: Matrix, request: Request, *, replayed: bool, offline: bool) -> Plan:
    """Resolve the stack, settle with uv what it means for the other packages (not for replayed facts), and plan."""
    from mmdoctor.checks import diagnose
    from mmdoctor.plan import plan
    from mmdoctor.resolve import resolve

    resolution = resolve(seen, matrix, request)
    made = plan(seen, matrix, request, resolution)
    if made.status == "plan" and not replayed:
        from mmdoctor.rest import settle
        from mmdoctor.system import uv_program

        rest = settle(seen, made, request, pip_config(seen.target), uv_program(), offline=offline)
        made = plan(seen, matrix, request, resolution, rest)
    return replace(made, manual=by_hand(diagnose(seen, matrix)) if seen.target.state == "present" else ())


def by_hand(findings: tuple[Finding, ...]) -> tuple[str, ...]:
    """The roots that no plan can mend, each with what to do."""
    return tuple(
        f"{finding.id} {finding.detail}: {finding.fix.summary}"
        for finding in findings
        if finding.status in ("fail", "warn") and finding.fix.kind == "manual" and not finding.caused_by
    )


def emitted(made: Plan, kind: str, output: Optional[str]) -> int:
    """Print the plan in another form; without a stack there is none."""
    from mmdoctor.emit import EMITTERS

    if made.stack is None:
        raise RefusedError(f"no stack satisfies: {made.conflict}")
    put(EMITTERS[kind](made), output)
    return OK


def applied(
    made: Plan,
    seen: Facts,
    matrix: Matrix,
    kind: str,
    output: Optional[str],
    *,
    yes: bool,
    offline: bool,
    wheels: Optional[Path],
    resume: bool = False,
) -> int:
    """Ask, run the plan, and report the proof."""
    from mmdoctor.apply.runner import apply
    from mmdoctor.apply.stages import Settings
    from mmdoctor.folders import cache_folder
    from mmdoctor.report.progress import listener
    from mmdoctor.system import uv_program

    if made.status == "nothing-to-do":
        emit(made, kind, output)
        return OK
    if made.status == "unsatisfiable":
        emit(made, kind, output)
        return NO_STACK
    if kind == "text":
        emit(made, kind, None)
    if not yes:
        if not sys.stdin.isatty():
            raise RefusedError("there is no terminal to ask on", hint="repeat it with --yes")
        beside = f" {len(made.forbidden)} of your packages stay with requirements unmet." if made.forbidden else ""
        if not click.confirm(f"{beside} Apply this plan?".strip(), err=True):
            raise RefusedError("not applied, as you said")
    cache = cache_folder()
    settings = Settings(
        cache=cache,
        wheels=wheels or cache / "wheels",
        offline=offline,
        uv=uv_program(),
        config=pip_config(seen.target),
    )
    with listener(sys.stderr) as say:
        outcome = apply(made, seen, matrix, settings, say, resume=resume)
    report = reported(outcome.facts, matrix, outcome.seconds * 1000)
    emit(report, kind, output)
    if kind == "text":
        emit_benches(outcome.facts.smoke, None)
        moved = [f"{change.name} {change.old or 'none'} → {change.new or 'none'}" for change in outcome.moved]
        if moved and not made.new_environment:
            click.echo(f"moved besides the plan's changes: {', '.join(moved)}")
        if outcome.users:
            click.echo(f"still on the earlier environment until restarted: {', '.join(outcome.users)}")
        click.echo(f"{made.target} is ready, proven in {outcome.seconds:.0f} s; the run's logs: {outcome.run}")
    return OK


def pip_config(target: Target) -> IndexConfig:
    """What pip was told of indexes, by the user and by the environment's own pip.conf."""
    from mmdoctor.probes.indexes import user_config

    return user_config(os.environ, Path.home(), Path(target.prefix) if target.prefix else None)


@click.command()
@target_options
@click.option("--list", "list_them", is_flag=True, help="The earlier environments that are kept.")
@click.option("--to", "name", metavar="NAME", help="One of them (default: the newest).")
@output_options("text", "json")
def rollback(
    env: Optional[str], python: Optional[str], list_them: bool, name: Optional[str], kind: str, output: Optional[str]
) -> int:
    """Exchange the environment with the one that stood there before the last `fix --apply`, or an earlier one."""
    from mmdoctor.apply.places import Places
    from mmdoctor.apply.recover import earlier, recover
    from mmdoctor.apply.recover import rollback as back

    path, is_env = chosen_target(env, python)
    if not is_env:
        raise UsageError("rollback wants the environment's folder", hint="mmdoctor rollback --env DIR")
    places = Places(path)
    if not places.state.exists():
        raise RefusedError(f"there is no earlier environment of {path}", hint="fix --apply keeps the last ones")
    if list_them:
        recovered(env, python)
        emit(Kept(target=str(path), earlier=earlier(places)), kind, output)
        return OK
    with places.lock("mmdoctor rollback"):
        said = recover(places, keep_clone=False)
        if said:
            click.echo(f"mmdoctor: a run of fix was killed here: {said}", err=True)
        chosen = back(places, name)
    put(f"{path} is the environment of before {chosen.name} again; the same command exchanges them back", output)
    return OK
