"""Brings up one combination in a throwaway environment and says what was seen, as a row for the matrix."""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import NamedTuple, Optional, Union

from msgspec.structs import replace

from mmdoctor import rules
from mmdoctor.apply.failure import CREDENTIALS
from mmdoctor.apply.fetch import fetch
from mmdoctor.apply.journal import Journal
from mmdoctor.apply.stages import Listener, Settings, Stages
from mmdoctor.checks import diagnose
from mmdoctor.errors import ApplyError, TryAgainError, UndeterminedError, UsageError
from mmdoctor.matrix_model import Matrix, StackRow
from mmdoctor.model import Facts, Host, OpCheck, Plan, Recipe, Request, Stack, Target, Text
from mmdoctor.plan import plan
from mmdoctor.probes.collect import collect, with_indexes, with_smoke
from mmdoctor.probes.target import on_base_interpreter, probe_target
from mmdoctor.smoke.bench import run_bench, run_ops
from mmdoctor.verify.artefacts import installed_files
from mmdoctor.verify.combination import Combination, chosen, parts_of, resolution_of

SOURCE = "V1"
SOURCE_SAYS = "`mmdoctor matrix verify`: measured on the machine and the day that the row names"
RUNS = 3
# A throwaway environment is looked at once, on whatever machine: its first imports compile bytecode from a cold disk.
IMPORT_DEADLINE_SECONDS = 300.0
TARGET_DEADLINE_SECONDS = 120.0
DEADLINE_SECONDS = 300.0
LONGEST_ERROR = 300
NO_ANSWER = "No answer within"  # what the smoke says when its deadline ended it
# What uv and our own runner say when a deadline ended a step.
BUSY = re.compile(r"timed out|did not end within", re.IGNORECASE)


class Failure(NamedTuple):
    """Where a combination failed, and its first error in one line."""

    step: str
    error: str


class Clock:
    """The times of the steps, wall clock and CPU of all children, and the highest load meanwhile."""

    def __init__(self) -> None:
        self.times: dict[str, tuple[float, ...]] = {}
        self.load = 0.0

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Time a step, also one that fails."""
        start, used = time.monotonic(), _children()
        try:
            yield
        finally:
            self.times[name] = (round(time.monotonic() - start, 1), round(_children() - used, 1))
            self.load = max(self.load, os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0)


def _children() -> float:
    """CPU seconds of the processes that were waited for."""
    times = os.times()
    return times.children_user + times.children_system


def verify(
    asked: Combination, matrix: Matrix, settings: Settings, say: Listener, place: Path, base: Optional[str] = None
) -> StackRow:
    """Install the combination literally below `place`, on the interpreter `base` or one that is found, and smoke it.

    A failure of whatever step is evidence and in the row. Raises TryAgainError when the network or an index stands in
    the way, UndeterminedError when a deadline ended a step, UsageError when there is no such interpreter; nothing was
    measured then.
    """
    env, clock = place / "env", Clock()
    facts = _facts(asked, matrix, settings, env, base)
    found = chosen(facts, matrix, asked)
    say.info(f"installs {', '.join(f'{name} {version}' for name, version in parts_of(found.stack).items())}")
    say.info(f"filled in: {', '.join(found.filled) or 'nothing'}")
    if found.refused:
        say.info(f"against the resolver: {', '.join(found.refused)}")
    failure = _install(facts, matrix, settings, say, place, found.stack, clock)
    seen = facts
    ops: tuple[OpCheck, ...] = ()
    if failure is None:
        say.info("proof: every import, mmcv's ops, RTMPose inference")
        with clock.step("proof"):
            seen, ops = _look(env, settings)
        failure = first_failure(seen, ops)
    if failure is not None:
        failure = Failure(failure.step, failure.error.replace(str(env), "ENV").replace(str(settings.cache), "CACHE"))
    target = seen.target if seen.target.state == "present" else probe_target(env, is_env=True)
    return _row(found.stack, facts, replace(seen, target=target), matrix, settings, failure, ops, clock)


def _facts(asked: Combination, matrix: Matrix, settings: Settings, env: Path, base: Optional[str]) -> Facts:
    """The machine, and the interpreter that the environment will stand on."""
    target = Target(requested=str(env), state="absent")
    wanted = f"=={asked.python}.*" if asked.python else ">=3.7"
    if asked.python is None and base is None:
        row = rules.torch_row(matrix, asked.versions["torch"])
        oldest, newest = (row.python[0], row.python[-1]) if row else ("3.7", "3.99")
        wanted = f">={oldest},<={newest}.99"
    target = on_base_interpreter(target, wanted, base)
    if asked.python and rules.minor(target.python) != asked.python:
        what = f"ROW is for Python {asked.python}, and {base} is {target.python}"
        raise UsageError(what, hint="name another interpreter with --python, or leave python== out")
    seen = collect(target, env.parent, wheels_folder=settings.wheels)
    return with_indexes(seen, matrix, offline=settings.offline)


def _install(
    facts: Facts, matrix: Matrix, settings: Settings, say: Listener, place: Path, stack: Stack, clock: Clock
) -> Optional[Failure]:
    """Run the plan of the stack, stage by stage; the failure, or None."""
    # mmpose 1.3 imports six and does not say so; chumpy, which the plan leaves out, would have brought it (measured).
    recipe = Recipe(name="verify", title="", source="", extra=("six",))
    made = plan(facts, matrix, Request(recipe=recipe), resolution_of(stack))
    step = "fetch"
    try:
        with clock.step(step):
            made, fetched = _fetched(made, facts, settings, place / "run", say)
        stages = [stage for stage in made.stages if stage.id != "proof"]
        journal = Journal(place / "journal.jsonl")
        work = Stages(place / "env", place / "run", facts, matrix, settings, say, journal, fetched)
        for number, stage in enumerate(stages, start=1):
            step = stage.id
            say.stage(number, len(stages), stage.title)
            with clock.step(step):
                work.run(stage, verify=False)
    except ApplyError as error:
        if BUSY.search(error.what):
            raise UndeterminedError(f"{error.what}: a busy machine does that too, and is no evidence") from error
        if step == "fetch" and (settings.offline or settings.config.no_index):
            what = f"{error.what}: without an index that is no evidence about the combination"
            raise TryAgainError(what, hint="repeat it with the network") from error
        return Failure(step, _short(error.what.partition(f"stage {step}: ")[2] or error.what))
    return None


def _fetched(made: Plan, facts: Facts, settings: Settings, folder: Path, say: Listener) -> tuple[Plan, dict[str, str]]:
    """Fetch what the plan installs. Where declared ranges do not admit the combination, they are overridden: it is to
    be measured, not believed."""
    for attempt in (made, forced(made)):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        (folder / "constraints.txt").write_text("\n".join(attempt.constraints) + "\n", encoding="utf-8")
        (folder / "overrides.txt").write_text("\n".join(attempt.overrides) + "\n", encoding="utf-8")
        try:
            return attempt, dict(fetch(attempt, facts.target, settings, folder, say))
        except ApplyError as error:
            if attempt is not made or "No solution found" not in error.what:
                raise
            say.info(f"declared ranges do not admit it, they are overridden: {_short(error.what)}")
    raise AssertionError("one of the two attempts returns or raises")


def forced(made: Plan) -> Plan:
    """The same plan with every part that comes from an index as an override, in every step that installs."""
    compiled = {step.build.package for stage in made.stages for step in stage.steps if step.build}
    # As the plan says it: `===` where `==` would also take a build with another label.
    exact = {
        name: word
        for stage in made.stages
        for step in stage.steps
        for word in step.argv
        if "==" in word and not word.startswith("-")
        for name in (word.partition("=")[0],)
    }
    overrides = [exact.get(text.partition("=")[0], text) for text in made.constraints]
    overrides = [text for text in overrides if text.partition("=")[0] not in compiled]
    install = ("uv", "pip", "install")
    stages = tuple(
        replace(
            stage,
            steps=tuple(
                replace(step, argv=(*step.argv, "--override", "{overrides}"))
                if step.argv[:3] == install and "--override" not in step.argv
                else step
                for step in stage.steps
            ),
        )
        for stage in made.stages
    )
    return replace(made, stages=stages, overrides=(*made.overrides, *overrides))


def _look(env: Path, settings: Settings) -> tuple[Facts, tuple[OpCheck, ...]]:
    """Every import, and where all succeed the inference with its ops; of mmpose 0.x, which the inference is not written
    for, mmcv's ops alone. What hangs is looked at twice, and then it is UndeterminedError: it may be the machine."""
    for _ in range(2):
        facts, ops = _once(env, settings)
        said = [result.module for result in facts.imports if result.status == "timeout"]
        said += [bench.model for bench in facts.smoke if NO_ANSWER in (bench.reason or "")]
        said += [check.op for check in ops if NO_ANSWER in (check.message or "")]
        if not said and facts.target.state == "present":
            return facts, ops
    what = f"no answer in time, twice: {', '.join(said) or facts.target.problem}"
    raise UndeterminedError(what, hint="a busy machine does that too, and is no evidence; try again on a quiet one")


def _once(env: Path, settings: Settings) -> tuple[Facts, tuple[OpCheck, ...]]:
    target = probe_target(env, is_env=True, deadline=TARGET_DEADLINE_SECONDS)
    facts = collect(target, env, import_deadline=IMPORT_DEADLINE_SECONDS, wheels_folder=settings.wheels)
    if any(result.status != "ok" for result in facts.imports):
        return facts, ()
    if (target.version("mmpose") or "0.").startswith("0."):
        return facts, run_ops(target.executable, DEADLINE_SECONDS)
    facts = with_smoke(facts, run_bench(target.executable, runs=RUNS, deadline=DEADLINE_SECONDS))
    return facts, tuple(check for bench in facts.smoke for check in bench.ops)


def first_failure(facts: Facts, ops: tuple[OpCheck, ...]) -> Optional[Failure]:
    """The first thing that did not work, seen and not judged; None when all did."""
    for result in facts.imports:
        if result.status != "ok":
            how = f"signal {result.signal}" if result.status == "crash" else result.status
            said = f"{result.error}: {result.message}" if result.error else result.message or how
            return Failure(f"import {result.module}", _short(said))
    wrong = next((check for check in ops if not check.ok), None)
    if wrong is not None:
        return Failure("mmcv's ops", _short(f"{wrong.op}: {wrong.message or f'off by {wrong.max_abs_error}'}"))
    failed = next((bench for bench in facts.smoke if not bench.ok), None)
    return None if failed is None else Failure(f"inference {failed.model}", _short(failed.reason or "no reason"))


def _short(text: str) -> str:
    line = " ".join(CREDENTIALS.sub("//***@", text).split())
    return line if len(line) <= LONGEST_ERROR else line[: LONGEST_ERROR - 1] + "…"


def _row(
    stack: Stack,
    before: Facts,
    seen: Facts,
    matrix: Matrix,
    settings: Settings,
    failure: Optional[Failure],
    ops: tuple[OpCheck, ...],
    clock: Clock,
) -> StackRow:
    target, (python, gcc) = seen.target, (before.target.python, before.toolchain.gcc)
    findings = diagnose(seen, matrix) if seen.imports else ()
    bad = [f for f in findings if f.status in ("fail", "crash") and not f.caused_by]
    unmet = rules.unmet(seen) if target.state == "present" and _installed(failure) else ()
    works = failure is None
    notes = [*_seen(seen, ops), *(f"{f.id} says fail: {f.detail}" for f in bad if works)]
    return StackRow(
        source=(SOURCE,),
        torch=stack.torch.version,
        build=stack.torch.variant,
        python=rules.minor(python),
        torchvision=stack.torchvision or "",
        mmcv_package=stack.mmcv.name,
        mmcv=stack.mmcv.version,
        mmcv_artefact="wheel" if stack.mmcv.artefact.kind == "wheel" else "build",
        mmengine=stack.mmengine,
        mmdet=stack.mmdet,
        mmpose=stack.mmpose,
        numpy=stack.numpy,
        xtcocotools=stack.xtcocotools.version,
        xtcocotools_artefact="wheel" if stack.xtcocotools.artefact.kind == "wheel" else "build",
        opencv=f"{stack.opencv.name}=={stack.opencv.version}",
        outcome="works" if works else "broken",
        step=failure.step if failure else None,
        error=failure.error if failure else None,
        roots=() if works else tuple(f"{f.id} {f.cause}" if f.cause else f.id for f in bad),
        unmet=tuple(one.said for one in unmet if one.requirement.name != "chumpy"),
        date=datetime.now(timezone.utc).date().isoformat(),
        notes="; ".join(notes),
        machine=_machine(before.host, python, gcc.version if gcc else None, seen),
        times=clock.times,
        load=round(clock.load, 1),
        artefacts=installed_files(stack, target, matrix, settings),
    )


def _installed(failure: Optional[Failure]) -> bool:
    """Whether everything was installed, so that what is declared and not there means something."""
    return failure is None or failure.step.startswith(("import", "inference", "mmcv's ops"))


def _seen(facts: Facts, ops: tuple[OpCheck, ...]) -> Iterator[str]:
    """What ran, with its distance from the reference."""
    for bench in facts.smoke:
        error = bench.keypoints.max_abs_error
        if bench.ok and error is not None:
            yield f"{bench.model}: {bench.keypoints.count} keypoints, off by {error:.2g} px"
    if not facts.smoke and ops and all(check.ok for check in ops):
        yield f"{len(ops)} golden ops of mmcv are right; RTMPose is not in mmpose 0.x"


def _machine(host: Host, python: str, gcc: Union[Text, None], facts: Facts) -> dict[str, str]:
    said = {
        "os": host.os_name,
        "machine": host.machine,
        "glibc": host.glibc if isinstance(host.glibc, str) else "",
        "gcc": gcc if isinstance(gcc, str) else "",
        "python": python,
        "cores": str(host.cpu_count),
        "gpu": ", ".join(device.name for device in facts.gpu.devices),
    }
    return {name: text for name, text in said.items() if text}
