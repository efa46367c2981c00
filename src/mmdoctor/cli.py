"""The command line: parse → call → render → exit code. The only composition root."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Optional, TypeVar

import click
import msgspec
from msgspec.structs import replace

from mmdoctor import __version__
from mmdoctor.errors import DataError, RefusedError, UsageError
from mmdoctor.matrix_model import Matrix
from mmdoctor.model import (
    Bench,
    Facts,
    Finding,
    Kept,
    Plan,
    Recipe,
    Report,
    ReportTarget,
    Request,
    Target,
    Value,
)

if TYPE_CHECKING:
    from mmdoctor.probes.indexes import IndexConfig

F = TypeVar("F", bound=Callable[..., Any])
V = TypeVar("V")
REPORT_FORMATS = ("text", "json", "junit", "github", "markdown")
FIRST_PERSON = 1000  # uids below are the system's own (login.defs)
OK, FINDINGS, UNDETERMINED, NO_STACK, BELOW = 0, 1, 3, 4, 1


# ------------------------------------------------------------------------------------------------- common options


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
    return str(Path.home()), os.environ.get("USER", "") if person else ""


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


# --------------------------------------------------------------------------------------------------------- target


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
    from mmdoctor.apply.recover import recovered as mended

    path, is_env = chosen_target(env, python)
    said = mended(path) if is_env else None
    if said:
        click.echo(f"mmdoctor: {said}", err=True)


def looked(
    env: Optional[str],
    python: Optional[str],
    facts_file: Optional[str],
    pretend: tuple[str, ...],
    *,
    quick: bool = False,
    deadline: Optional[float] = None,
    wheels: Optional[Path] = None,
) -> Facts:
    """The facts: replayed, or looked at here and now, with the pretended ones over them."""
    from mmdoctor.pretend import pretend as pretended
    from mmdoctor.pretend import read

    read(pretend)  # a mistake in it is said before anything is looked at
    if facts_file:
        return pretended(load(facts_file, Facts, "facts"), pretend)
    from mmdoctor.probes.collect import collect
    from mmdoctor.probes.target import probe_target
    from mmdoctor.system import Background

    elsewhere = any(setting.startswith(("python=", "installed=")) for setting in pretend)
    if elsewhere and not env and not python:
        nowhere = Target(requested="a pretended environment", state="absent", python=f"3.{sys.version_info.minor}.0")
        return pretended(collect(nowhere, Path.cwd(), quick=quick, wheels_folder=wheels), pretend)
    recovered(env, python)
    path, is_env = chosen_target(env, python)
    target = Background(probe_target, path.absolute(), is_env=is_env, quick=quick)
    seen = collect(target, path.absolute(), quick=quick, import_deadline=deadline, wheels_folder=wheels)
    return pretended(seen, pretend)


# ------------------------------------------------------------------------------------------------------- commands


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="mmdoctor")
def cli() -> None:
    """Environment doctor and installer for the MMPose stack: torch, CUDA, mmcv, mmengine, mmdet, mmpose, NumPy."""


@cli.command()
@target_options
@facts_options
@output_options(*REPORT_FORMATS)
@click.option("--quick", is_flag=True, help="No import in the target: metadata, files and driver only.")
@click.option("--deep", is_flag=True, help="Also mmcv's ops and a short RTMPose inference.")
@click.option("--fail-on", type=click.Choice(("fail", "warn")), default="fail", show_default=True)
@click.option("--deadline", type=click.FloatRange(min=1), metavar="SECONDS", help="For each import (default 60).")
def check(
    env: Optional[str],
    python: Optional[str],
    facts_file: Optional[str],
    pretend: tuple[str, ...],
    offline: bool,  # noqa: ARG001  common to all commands; check asks no network anyway
    kind: str,
    output: Optional[str],
    quick: bool,
    deep: bool,
    fail_on: str,
    deadline: Optional[float],
) -> int:
    """Say whether the stack works, and name the roots where it does not.

    Exit status: 0 healthy, 1 findings, 2 usage, 3 could not determine.
    """
    from mmdoctor.matrix import load_matrix
    from mmdoctor.system import Background

    if quick and deep:
        raise UsageError("--quick and --deep exclude each other")
    started = time.perf_counter()
    matrix = Background(load_matrix)
    facts = looked(env, python, facts_file, pretend, quick=quick, deadline=deadline)
    if deep and not facts_file and facts.target.state == "present":
        from mmdoctor.probes.collect import with_smoke
        from mmdoctor.smoke.bench import run_bench

        if facts.target.version("mmpose"):
            facts = with_smoke(facts, run_bench(facts.target.executable, runs=3))
    report = reported(facts, matrix.result(), (time.perf_counter() - started) * 1000)
    emit(report, kind, output)
    return verdict(report.findings, fail_on)


def reported(facts: Facts, matrix: Matrix, duration_ms: float) -> Report:
    """Facts judged: the value that `check` prints."""
    from mmdoctor.checks import diagnose, summarise

    findings = diagnose(facts, matrix)
    target = facts.target
    return Report(
        ok=verdict(findings, "fail") == OK,
        target=ReportTarget(python=target.python or None, prefix=target.prefix or target.requested),
        summary=summarise(findings),
        findings=findings,
        facts=facts,
        duration_ms=round(duration_ms, 1),
    )


def verdict(findings: tuple[Finding, ...], fail_on: str) -> int:
    """The exit status of `check`."""
    bad = {"fail", "warn"} if fail_on == "warn" else {"fail"}
    if any(finding.status in bad for finding in findings):
        return FINDINGS
    undetermined = any(f.status == "crash" or (f.status == "skip" and f.severity == "error") for f in findings)
    return UNDETERMINED if undetermined else OK


@cli.command()
@target_options
@facts_options
@output_options("text", "json")
@click.option("--json", "as_json", is_flag=True, help="Short for --format json.")
def facts(
    env: Optional[str],
    python: Optional[str],
    facts_file: Optional[str],
    pretend: tuple[str, ...],
    offline: bool,
    kind: str,
    output: Optional[str],
    as_json: bool,
) -> None:
    """Print everything that was seen; `check --facts` and `fix --facts` replay it on another machine."""
    from mmdoctor.matrix import load_matrix
    from mmdoctor.probes.collect import with_indexes

    seen = looked(env, python, facts_file, pretend)
    shown = seen if facts_file else with_indexes(seen, load_matrix(), offline=offline)
    emit(shown, "json" if as_json else kind, output)


@cli.command()
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


def pins_of(texts: tuple[str, ...]) -> dict[str, str]:
    """`--pin NAME==VERSION` as a mapping of normalised names."""
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
            raise UsageError(f"--pin {text}: expected NAME==VERSION", hint="for example --pin numpy==1.26.4")
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
    seen = looked(env, None if env else python, facts_file, pretend, wheels=wheels)
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


def pip_config(target: Target) -> IndexConfig:
    """What pip was told of indexes, by the user and by the environment's own pip.conf."""
    from mmdoctor.probes.indexes import user_config

    return user_config(os.environ, Path.home(), Path(target.prefix) if target.prefix else None)


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
    from mmdoctor.apply.runner import Settings, apply
    from mmdoctor.report.progress import listener
    from mmdoctor.system import uv_program
    from mmdoctor.wheels.cache import cache_folder

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


@cli.command()
@target_options
@output_options("text", "json")
@click.option("--config", metavar="FILE", help="Your model's config (default: RTMPose-m on COCO and AP-10K).")
@click.option("--checkpoint", metavar="FILE", help="Its weights; the sha256 in the file's name is verified.")
@click.option("--image", metavar="FILE", help="Your image.")
@click.option("--device", type=click.Choice(("auto", "cpu", "cuda")), default="auto", show_default=True)
@click.option("--runs", type=click.IntRange(1, 1000), default=10, show_default=True)
@click.option("--picture", metavar="FILE", help="Write the image with skeleton and scores.")
def bench(
    env: Optional[str],
    python: Optional[str],
    kind: str,
    output: Optional[str],
    config: Optional[str],
    checkpoint: Optional[str],
    image: Optional[str],
    device: str,
    runs: int,
    picture: Optional[str],
) -> int:
    """Run RTMPose for real, compare its keypoints with the reference, and measure it.

    Exit status: 0, 1 wrong numbers or failed, 2 usage, 3 the target does not answer.
    """
    from mmdoctor.errors import UndeterminedError
    from mmdoctor.probes.target import probe_target
    from mmdoctor.smoke.bench import run_bench

    recovered(env, python)
    path, is_env = chosen_target(env, python)
    target = probe_target(path.absolute(), is_env=is_env, quick=True)
    if target.state != "present":
        raise UndeterminedError(f"{target.requested}: {target.problem}", hint="mmdoctor check says more")
    results = run_bench(
        target.executable,
        config=config,
        checkpoint=checkpoint,
        image=image,
        device=device,
        runs=runs,
        picture=picture,
    )
    if kind == "json":
        first = results[0]
        emit(replace(first, also=results[1:]) if len(results) > 1 else first, kind, output)
    else:
        emit_benches(results, output)
    return OK if all(result.ok for result in results) else BELOW


def emit_benches(results: tuple[Bench, ...], output: Optional[str]) -> None:
    """The benches as text: each in full, then side by side."""
    from mmdoctor.report import render
    from mmdoctor.report.tables import bench_table

    parts = [render(result, "text", *taken_out()).rstrip("\n") for result in results]
    put("\n\n".join([*parts, bench_table(results)]) if results else "", output)


@cli.command()
@click.argument("file", default="-")
@output_options("text", "json")
def explain(file: str, kind: str, output: Optional[str]) -> int:
    """Read a traceback, an install log or a collect_env listing (FILE or -), and name what is behind it."""
    from mmdoctor.explain import explain as explained

    if file == "-":
        text = sys.stdin.buffer.read().decode("utf-8", "replace")
    else:
        try:
            text = Path(file).read_text(encoding="utf-8", errors="replace")
        except OSError as error:
            raise UsageError(f"cannot read {file}: {error.strerror}") from error
    emit(explained(text), kind, output)
    return OK


@cli.command()
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


# ------------------------------------------------------------------------------------- matrix, recipe, wheels, hook


@cli.group()
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


@cli.group()
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


@cli.group()
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


@cli.group()
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
