"""Runs a plan: clone → stages, each with its post-condition → proof → swap."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Optional, Protocol

import msgspec

from mmdoctor import system
from mmdoctor.apply.clone import clone, exchange, relocate
from mmdoctor.apply.places import UNFINISHED, Places
from mmdoctor.checks import diagnose
from mmdoctor.errors import ApplyError, RefusedError
from mmdoctor.matrix_model import Matrix
from mmdoctor.model import Bench, Build, Change, Facts, Finding, Plan, Stage, Step, Target, Value
from mmdoctor.plan import fingerprint
from mmdoctor.probes.collect import collect, with_smoke
from mmdoctor.probes.imports import probe_imports, steps_for
from mmdoctor.probes.indexes import IndexConfig, uv_environment
from mmdoctor.probes.target import probe_target
from mmdoctor.wheels.build import build_key, compile_wheel, unpack
from mmdoctor.wheels.cache import admit, proofs, sha256_of
from mmdoctor.wheels.fetch import fetch_sdist

STEP_DEADLINE_SECONDS = 3600.0
# Which imports show that a check's subject works, in a clone that is only half built.
IMPORTS_OF = {
    "TRC001": ("numpy", "torch"),
    "NPY001": ("numpy", "torch", "torch.numpy"),
    "TVN001": ("torch", "torchvision"),
    "OCV001": ("cv2",),
    "XTC001": ("numpy", "xtcocotools._mask"),
    "MCV002": ("torch", "mmcv", "mmcv._ext"),
    "MCV003": ("torch", "mmcv.ops"),
    "MML001": ("mmengine",),
    "MML002": ("mmdet",),
    "MML003": ("mmpose", "mmpose.apis"),
    "MML004": ("registry",),
}
# Of the user's environment, what would send an installer to another interpreter than the one it is told.
MISLEADING = ("VIRTUAL_ENV", "CONDA_PREFIX", "PYTHONHOME", "PYTHONPATH", "PIP_TARGET", "PIP_PREFIX", "PIP_USER")
FREE_SPACE_FACTOR = 3.5


class Listener(Protocol):
    """Who is told how it goes; the report package has one for terminals and one for logs."""

    def stage(self, number: int, total: int, title: str) -> None: ...

    def step(self, command: str, why: str) -> None: ...

    def line(self, text: str) -> None: ...

    def progress(self, done: int, total: int) -> None: ...

    def done(self, seconds: float) -> None: ...


class Settings(Value, frozen=True, kw_only=True):
    """How to apply, as far as the plan does not say it."""

    cache: Path
    wheels: Path
    offline: bool = False
    uv: str
    config: IndexConfig


class Outcome(Value, frozen=True, kw_only=True):
    """The proven environment: its facts and findings, what moved besides the plan's changes, and the run's folder."""

    facts: Facts
    findings: tuple[Finding, ...]
    smoke: tuple[Bench, ...]
    moved: tuple[Change, ...]
    atomic: bool
    run: Path
    seconds: float


def apply(plan: Plan, facts: Facts, matrix: Matrix, settings: Settings, say: Listener) -> Outcome:
    """Bring the target to the plan's stack. Until the proof holds, the path shows the old environment unchanged.

    Raises RefusedError (stale plan, a system's own Python, no space), TryAgainError (lock, network), ApplyError (a
    step, a post-condition or the proof failed; nothing changed).
    """
    _preflight(plan, facts)
    places = Places(Path(plan.target))
    try:
        with places.lock():
            run = _Run(plan, facts, matrix, settings, say, places)
            try:
                return run.to_the_end()
            except BaseException as error:
                run.drop(error)
                raise
    except OSError as error:  # no space, no right to write: said by the system, with the file
        what = f"{plan.target} could not be changed: {error.strerror}: {error.filename}"
        raise ApplyError(what, hint="nothing was changed at that path") from error


def _preflight(plan: Plan, facts: Facts) -> None:
    target = facts.target
    if plan.status != "plan":
        raise RefusedError(f"there is nothing to apply: {plan.status}", hint=plan.conflict)
    if plan.fingerprint != fingerprint(facts):
        what = f"the plan is stale: {plan.target} is not as it was when the plan was made"
        raise RefusedError(what, hint="make a new plan with `mmdoctor fix`")
    if target.state == "present" and target.kind == "system":
        raise RefusedError(
            f"{target.prefix} is the system's own Python; mmdoctor changes venvs and conda prefixes only",
            hint="name a new environment with --env DIR",
        )
    free = facts.host.disk_free_bytes
    needed = int(plan.cost.download_bytes * FREE_SPACE_FACTOR)
    if isinstance(free, int) and free < needed:
        what = f"the disk has {free / 1e9:.1f} GB free, the plan needs about {needed / 1e9:.1f} GB"
        raise RefusedError(what, hint="free some space, or choose another place with --env")


class _Run:
    """One application of one plan."""

    def __init__(
        self, plan: Plan, facts: Facts, matrix: Matrix, settings: Settings, say: Listener, places: Places
    ) -> None:
        self.plan, self.facts, self.matrix = plan, facts, matrix
        self.settings, self.say, self.places = settings, say, places
        self.started = time.monotonic()
        self.work = places.env if plan.new_environment else places.next
        self.created = not places.env.exists()
        self.folder = places.new_run()
        self.swapped = False

    def to_the_end(self) -> Outcome:
        self._write("plan.json", msgspec.json.format(msgspec.json.encode(self.plan), indent=1).decode())
        self._write("constraints.txt", "\n".join(self.plan.constraints) + "\n")
        self._write("overrides.txt", "\n".join(self.plan.overrides) + "\n")
        self._write("freeze-before.txt", _freeze(self.facts.target))
        self.places.note("start", plan=str(self.folder), new=self.plan.new_environment)
        self._prepare()
        stages = [stage for stage in self.plan.stages if stage.id != "proof"]
        for number, stage in enumerate(stages, start=1):
            self.say.stage(number, len(stages) + 1, stage.title)
            self._stage(stage)
        self.say.stage(len(stages) + 1, len(stages) + 1, "proof: every check, mmcv's ops, RTMPose inference")
        facts, findings = self._prove()
        atomic = self._swap()
        after = self._target_now()
        self._write("freeze-after.txt", _freeze(after))
        self.places.note("done")
        return Outcome(
            facts=facts,
            findings=findings,
            smoke=facts.smoke,
            moved=_moved(self.facts.target, after, self.plan),
            atomic=atomic,
            run=self.folder,
            seconds=time.monotonic() - self.started,
        )

    def drop(self, error: BaseException) -> None:
        """Take back what was begun; what stood at the path stands there."""
        if self.swapped:
            return
        if self.plan.new_environment:
            marked = (self.work / UNFINISHED).exists() or self.created
            if marked:
                shutil.rmtree(self.work, ignore_errors=True)
        else:
            shutil.rmtree(self.work, ignore_errors=True)
        self.places.note("dropped", error=f"{type(error).__name__}: {error}")

    def _write(self, name: str, text: str) -> None:
        (self.folder / name).write_text(text, encoding="utf-8")

    def _prepare(self) -> None:
        if self.plan.new_environment:
            return
        shutil.rmtree(self.places.next, ignore_errors=True)
        start = time.monotonic()
        linked = clone(self.places.env, self.places.next)
        how = "hard links" if linked else "a copy, since this file system refuses hard links"
        self.say.line(f"cloned beside itself by {how} in {time.monotonic() - start:.1f} s")
        self.places.note("cloned", linked=linked)

    def _stage(self, stage: Stage) -> None:
        self.places.note("stage", id=stage.id)
        start = time.monotonic()
        for step in stage.steps:
            self._step(stage, step)
        if stage.id == "environment":
            (self.work / UNFINISHED).write_text(str(self.folder), encoding="utf-8")
        self._verify(stage)
        self.say.done(time.monotonic() - start)

    def _step(self, stage: Stage, step: Step) -> None:
        names = {
            "python": str(self._python()),
            "env": str(self.work),
            "constraints": str(self.folder / "constraints.txt"),
            "overrides": str(self.folder / "overrides.txt"),
        }
        if step.build is not None:
            self._built(step, step.build, names)
            return
        self._command(stage.id, _filled(step.argv, names), step.why)

    def _command(self, stage: str, argv: tuple[str, ...], why: str) -> None:
        self.say.step(" ".join(argv), why)
        if argv[:3] == ("uv", "pip", "install") and self.settings.config.no_index:
            argv = (*argv, "--no-index")
        program = self.settings.uv if argv[0] == "uv" else argv[0]
        log = self.folder / f"{stage}.log"
        done = system.run(
            (program, *argv[1:]),
            deadline=STEP_DEADLINE_SECONDS,
            env=self._environment(),
            merge=True,
            on_line=self.say.line,
        )
        with log.open("a", encoding="utf-8") as stream:
            stream.write(f"$ {' '.join(argv)}\n{done.stdout}{done.stderr}\n")
        if not done.ok:
            how = "did not end in time" if done.timed_out else f"ended with {done.returncode}"
            said = " ".join((done.stdout + done.stderr).split("\n")[-6:]).strip()
            raise ApplyError(f"stage {stage}: {argv[0]} {how}: {said[-600:]}", hint=f"the log: {log}")

    def _built(self, step: Step, build: Build, names: Mapping[str, str]) -> None:
        """Install a compiled wheel: from the cache when its key is there, else compiled, proven, and then cached."""
        target = self._target_now()
        sdist = fetch_sdist(
            self.settings.config,
            build.package,
            build.version,
            build.sdist_sha256,
            self.settings.cache / "sdists",
            offline=self.settings.offline,
        )
        compiler = self.facts.toolchain.gcc.version if self.facts.toolchain.gcc else None
        key = build_key(build, target, self.facts.host, compiler, sha256_of(sdist))
        kept = next((wheel for wheel, proof in proofs(self.settings.wheels) if proof.key.serves(key)), None)
        start = time.monotonic()
        wheel = kept or self._compile(step, build, sdist, target, key.digest)
        minutes = round((time.monotonic() - start) / 60, 2)
        argv = _filled(step.argv, {**names, "wheel": str(wheel)})
        self._command(build.package, argv, "from the wheel cache" if kept else "what was just compiled")
        if kept is None:
            admit(self.settings.wheels, wheel, key, minutes, self._shown(build.package))
            shutil.rmtree(wheel.parent.parent, ignore_errors=True)

    def _compile(self, step: Step, build: Build, sdist: Path, target: Target, digest: str) -> Path:
        self.say.step(f"compile {build.package} {build.version} in {target.prefix}", step.why)
        folder = self.settings.cache / "build" / f"{build.package}-{build.version}-{digest}"
        source = unpack(sdist, build, folder)
        out = folder / "wheel"
        shutil.rmtree(out, ignore_errors=True)
        log = self.folder / f"build-{build.package}.log"
        environment = self._environment()
        return compile_wheel(build, source, target, self.facts.host, out, environment, log, self.say.progress)

    def _shown(self, package: str) -> tuple[str, ...]:
        """What a fresh wheel was seen to do; ApplyError when it does not load, and then it does not enter the cache."""
        steps = {"xtcocotools": ("numpy", "xtcocotools._mask")}.get(package, ("torch", "mmcv", "mmcv._ext", "mmcv.ops"))
        results = probe_imports(str(self._python()), steps)
        failed = [result for result in results if result.status != "ok"]
        if failed:
            said = failed[0].message or failed[0].status
            raise ApplyError(f"the compiled {package} does not work: import {failed[0].module}: {said}")
        return tuple(f"import {result.module}" for result in results)

    def _verify(self, stage: Stage) -> None:
        if not stage.verify:
            return
        target = self._target_now()
        wanted = {name for check in stage.verify for name in IMPORTS_OF.get(check, ())}
        steps = tuple(step for step in steps_for(target) if step in wanted)
        imports = probe_imports(target.executable, steps) if steps else ()
        facts = msgspec.structs.replace(self.facts, target=target, imports=imports, smoke=())
        failed = [f for f in diagnose(facts, self.matrix) if f.id in stage.verify and f.status in ("fail", "crash")]
        if failed:
            first = failed[0]
            said = f"{first.id}: {first.detail}: {'; '.join(first.evidence)}"
            raise ApplyError(f"after stage {stage.id} {said}", hint=f"the run's logs: {self.folder}")

    def _prove(self) -> tuple[Facts, tuple[Finding, ...]]:
        from mmdoctor.smoke.bench import run_bench

        start = time.monotonic()
        facts = collect(self._target_now(), self.work, wheels_folder=self.settings.wheels)
        if not (facts.target.version("mmpose") or "").startswith("0."):
            facts = with_smoke(facts, run_bench(str(self._python())))
        findings = diagnose(facts, self.matrix)
        failed = [finding for finding in findings if finding.status in ("fail", "crash")]
        self._write("proof.json", msgspec.json.format(msgspec.json.encode(findings), indent=1).decode())
        if failed:
            said = "; ".join(f"{f.id} {f.detail}: {' '.join(f.evidence)}" for f in failed if not f.caused_by)
            raise ApplyError(f"the result is not proven: {said}", hint=f"the run's logs: {self.folder}")
        self.say.done(time.monotonic() - start)
        self.places.note("proven")
        return facts, findings

    def _swap(self) -> bool:
        if self.plan.new_environment:
            (self.work / UNFINISHED).unlink(missing_ok=True)
            return True
        relocate(self.places.next, self.places.next, self.places.env)
        shutil.rmtree(self.places.previous, ignore_errors=True)
        self.places.note("swap")
        atomic = exchange(self.places.env, self.places.next)
        self.swapped = True
        self.places.next.rename(self.places.previous)
        return atomic

    def _python(self) -> Path:
        from mmdoctor.probes.target import interpreter_of

        return interpreter_of(self.places.env if self.swapped else self.work)

    def _target_now(self) -> Target:
        return probe_target(self.places.env if self.swapped else self.work, is_env=True)

    def _environment(self) -> dict[str, str]:
        environment = {name: value for name, value in os.environ.items() if name not in MISLEADING}
        environment.update(uv_environment(self.settings.config))
        if self.settings.offline:
            environment["UV_OFFLINE"] = "1"
        return environment


def _filled(argv: tuple[str, ...], names: Mapping[str, str]) -> tuple[str, ...]:
    filled = []
    for part in argv:
        if part.startswith("{") and part.endswith("}") and part[1:-1] in names:
            filled.append(names[part[1:-1]])
        else:
            filled.append(part)
    return tuple(filled)


def _freeze(target: Target) -> str:
    return "".join(f"{d.name}=={d.version}\n" for d in sorted(target.distributions, key=lambda d: d.name))


def _moved(before: Target, after: Target, plan: Plan) -> tuple[Change, ...]:
    """What differs besides the plan's changes: the packages that were brought along, moved or lost."""
    old = {d.name: d.version for d in before.distributions}
    new = {d.name: d.version for d in after.distributions}
    planned = {change.name for change in plan.changes}
    return tuple(
        Change(name=name, old=old.get(name), new=new.get(name))
        for name in sorted({*old, *new})
        if old.get(name) != new.get(name) and name not in planned
    )


def rollback(env: Path, say: Listener) -> Optional[Path]:
    """Exchange the environment with the one before the last swap; None when there is none."""
    places = Places(env)
    if not places.previous.exists():
        return None
    with places.lock():
        places.note("rollback")
        atomic = exchange(places.env, places.previous)
        say.line("exchanged in one step" if atomic else "exchanged by renames")
    return places.env
