"""Runs a plan: fetch → clone → stages, each with its post-condition → proof → swap; or goes on with a killed run."""

from __future__ import annotations

import shutil
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Callable, Optional, Protocol

import msgspec
from msgspec.structs import replace

from mmdoctor import system
from mmdoctor.apply.clone import Manifest, clone, differences, hand_over, inodes, manifest, owned_by_another, relocate
from mmdoctor.apply.failure import failure
from mmdoctor.apply.fetch import fetch
from mmdoctor.apply.journal import Journal, Standing, boot
from mmdoctor.apply.places import UNFINISHED, Places
from mmdoctor.apply.preflight import Preflight, preflight, refuse_early
from mmdoctor.apply.processes import started
from mmdoctor.apply.recover import keep, prune, recover, swap
from mmdoctor.checks import diagnose
from mmdoctor.errors import ApplyError, RefusedError
from mmdoctor.matrix_model import Matrix
from mmdoctor.model import Build, Change, Facts, Finding, Plan, Stage, Step, Target, Value
from mmdoctor.plan import stale
from mmdoctor.probes.collect import collect, with_smoke
from mmdoctor.probes.imports import probe_imports, steps_for
from mmdoctor.probes.indexes import IndexConfig
from mmdoctor.probes.target import interpreter_of, probe_target
from mmdoctor.rest import uv_of
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


class Listener(Protocol):
    """Who is told how it goes; the report package has one for terminals and one for logs."""

    def info(self, text: str) -> None: ...

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


class Proof(Value, frozen=True, kw_only=True):
    """What was seen of the repaired environment before it was put in place."""

    facts: Facts
    findings: tuple[Finding, ...]


class Outcome(Value, frozen=True, kw_only=True):
    """The proven environment at its path: the proof's facts, what moved besides the plan's changes, who still runs the
    earlier one, and the run's folder."""

    facts: Facts
    moved: tuple[Change, ...]
    users: tuple[str, ...]
    atomic: bool
    run: Path
    seconds: float


Prove = Callable[[Path, Matrix, Settings], Proof]


def apply(
    plan: Plan,
    facts: Facts,
    matrix: Matrix,
    settings: Settings,
    say: Listener,
    *,
    prove: Optional[Prove] = None,
    resume: bool = False,
) -> Outcome:
    """Bring the target to the plan's stack. Until the proof holds, the path shows the old environment unchanged.

    `prove` looks at the repaired environment and raises ApplyError when it does not hold; by default every check and
    RTMPose inference. With `resume` the run that was killed goes on where it stood. Raises RefusedError (stale plan, a
    system's own Python, no space, no right), TryAgainError (lock, network), ApplyError (a step, a post-condition or the
    proof failed; nothing changed).
    """
    if plan.status != "plan":
        raise RefusedError(f"there is nothing to apply: {plan.status}", hint=plan.conflict)
    places = Places(Path(plan.target))
    refuse_early(plan, facts, places)
    with _told(plan), places.lock("mmdoctor fix --apply"):
        journal = Journal(places.journal)
        standing = journal.standing() if resume else Standing()
        said = recover(places, keep_clone=resume)
        if said:
            say.info(said)
        facts = _as_it_is_now(plan, facts, places)
        seen = preflight(plan, facts, places, settings.cache)
        run = _Run(plan, facts, matrix, settings, say, places, journal, seen)
        try:
            return run.to_the_end(prove or proven, standing)
        except BaseException as error:
            run.drop(error)
            raise
        finally:
            places.hand_over()


def to_resume(named: Path) -> tuple[Plan, Facts]:
    """The plan and the facts of the last run at this path, when it did not end well. Raises RefusedError."""
    places = Places(named)
    standing = Journal(places.journal).standing()
    if standing.run is None or standing.how == "done":
        raise RefusedError(f"there is no interrupted run of {named}", hint="make a new plan with `mmdoctor fix`")
    try:
        plan = msgspec.json.decode((standing.run / "plan.json").read_bytes(), type=Plan)
        facts = msgspec.json.decode((standing.run / "facts.json").read_bytes(), type=Facts)
    except (OSError, msgspec.DecodeError) as error:
        what = f"the interrupted run {standing.run} had not written its plan yet: {error}"
        raise RefusedError(what, hint="make a new plan with `mmdoctor fix`") from error
    return plan, facts


@contextmanager
def _told(plan: Plan) -> Iterator[None]:
    """An error of the system becomes one of ours; it names the file."""
    try:
        yield
    except OSError as error:
        what = f"{plan.target} could not be changed: {error.strerror}: {error.filename}"
        raise ApplyError(what, hint="nothing was changed at that path; see to that and run it again") from error


def _as_it_is_now(plan: Plan, facts: Facts, places: Places) -> Facts:
    """The facts with the target as it is under the lock. RefusedError when the plan is stale."""
    target = facts.target
    if plan.new_environment:
        if places.env.exists() and any(places.env.iterdir()):
            what = f"the plan is stale: it builds a new environment, and {plan.target} is not empty any more"
            raise RefusedError(what, hint="make a new plan with `mmdoctor fix`")
    else:
        target = probe_target(places.named, is_env=True)
    now = replace(facts, target=target)
    changed = stale(plan, now)
    if changed:
        shown = "; ".join(changed[:5]) + (f"; and {len(changed) - 5} more" if len(changed) > 5 else "")
        raise RefusedError(f"the plan is stale: {shown}", hint="make a new plan with `mmdoctor fix`")
    return now


class _Run:
    """One application of one plan."""

    def __init__(
        self,
        plan: Plan,
        facts: Facts,
        matrix: Matrix,
        settings: Settings,
        say: Listener,
        places: Places,
        journal: Journal,
        seen: Preflight,
    ) -> None:
        self.plan, self.facts, self.matrix = plan, facts, matrix
        self.settings, self.say, self.places = settings, say, places
        self.journal, self.seen = journal, seen
        self.started = time.monotonic()
        self.work = places.env if plan.new_environment else places.next
        self.folder = places.new_run()
        self.before: Manifest = {}
        self.fetched: Mapping[str, str] = {}
        self.created = 0
        self.swapped = False

    def to_the_end(self, prove: Prove, standing: Standing) -> Outcome:
        self._begin()
        going_on = standing.clean and not self.plan.new_environment and self.places.next.exists()
        self.fetched = fetch(self.plan, self.facts.target, self.settings, self.folder, self.say)
        self._prepare(standing if going_on else None)
        stages = [stage for stage in self.plan.stages if stage.id != "proof"]
        for number, stage in enumerate(stages, start=1):
            if going_on and stage.id in standing.stages:
                continue
            self.say.stage(number, len(stages) + 1, stage.title)
            # A post-condition is looked at early where it can save a compile; the proof holds all of them anyway.
            costly = any(step.build for later in stages[number:] for step in later.steps)
            self._stage(stage, verify=costly and stage.id not in standing.stages)
        self.say.stage(len(stages) + 1, len(stages) + 1, "proof: every check, mmcv's ops, RTMPose inference")
        proof = self._prove(prove)
        atomic = self._put_in_place()
        after = self._target_now()
        with self._only_said():
            self._write("freeze-after.txt", _freeze(after))
        return Outcome(
            facts=replace(proof.facts, target=after),
            moved=_moved(self.facts.target, after, self.plan),
            users=self.seen.users,
            atomic=atomic,
            run=self.folder,
            seconds=time.monotonic() - self.started,
        )

    def drop(self, error: BaseException) -> None:
        """Take back what was begun; what stood at the path stands there."""
        if self.swapped:
            return
        if not self.plan.new_environment:
            self.places.discard(self.places.next)
        elif self.created and self.places.env.exists():
            self.places.discard(self.places.env)
        with suppress(OSError):  # on a full disk the journal cannot say it; the next command then recovers
            self.journal.note("dropped", error=f"{type(error).__name__}: {error}"[:500])

    def _begin(self) -> None:
        self._write("plan.json", msgspec.json.format(msgspec.json.encode(self.plan), indent=1).decode())
        self._write("facts.json", msgspec.json.encode(self.facts).decode())
        self._write("constraints.txt", "\n".join(self.plan.constraints) + "\n")
        self._write("overrides.txt", "\n".join(self.plan.overrides) + "\n")
        self._write("freeze-before.txt", _freeze(self.facts.target))
        self.journal.note("start", run=str(self.folder), new=self.plan.new_environment)
        for warning in self.seen.warnings:
            self.say.info(warning)
        if self.seen.users:
            self.say.info(f"in use by {', '.join(self.seen.users)}: they go on with the old files; restart them after")

    def _write(self, name: str, text: str) -> None:
        (self.folder / name).write_text(text, encoding="utf-8")

    def _prepare(self, going_on: Optional[Standing]) -> None:
        """The place to work in: a clone, the one that a killed run left, or an empty folder at the final path."""
        if self.plan.new_environment:
            self.places.env.mkdir(parents=True, exist_ok=True)
            self.created = self.places.env.stat().st_ino
            self.journal.note("created", inode=self.created)
            return
        self.before = manifest(self.places.env)
        if going_on is not None and going_on.run is not None:
            then = msgspec.json.decode((going_on.run / "manifest.json").read_bytes(), type=Manifest)
            if then == self.before:
                self.say.info(f"going on after stage {', '.join(going_on.stages) or 'clone'} of the killed run")
                self._write("manifest.json", msgspec.json.encode(self.before).decode())
                self.journal.note("cloned", boot=boot(), linked=self.seen.linkable)
                for stage in going_on.stages:
                    self.journal.note("stage-done", id=stage, boot=boot())
                return
            self.places.discard(self.places.next)
        start = time.monotonic()
        cloned = clone(self.places.env, self.places.next)
        copied = f", {cloned.copied} files ({cloned.copied_bytes / 1e9:.1f} GB) copied" if cloned.copied else ""
        self.say.info(f"cloned beside itself by hard links in {time.monotonic() - start:.1f} s{copied}")
        self._write("manifest.json", msgspec.json.encode(self.before).decode())
        self.journal.note("cloned", boot=boot(), linked=not cloned.copied)

    def _stage(self, stage: Stage, *, verify: bool) -> None:
        self.journal.note("stage", id=stage.id)
        start = time.monotonic()
        for step in stage.steps:
            self._step(stage, step)
        if stage.id == "environment":
            (self.work / UNFINISHED).write_text(str(self.folder), encoding="utf-8")
        if verify:
            self._verify(stage)
        self.journal.note("stage-done", id=stage.id, boot=boot())
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
            on_start=self._child,
        )
        with log.open("a", encoding="utf-8") as stream:
            stream.write(f"$ {' '.join(argv)}\n{done.stdout}{done.stderr}\n")
        if not done.ok:
            raise failure(stage, done, log)

    def _child(self, pid: int) -> None:
        """Told of each process that writes into the clone, so that a recovery can end what a kill left running."""
        self.journal.note("child", pid=pid, started=started(pid))

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
        return compile_wheel(
            build,
            source,
            target,
            self.facts.host,
            out,
            self._environment(),
            log,
            self.say.progress,
            self._child,
        )

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
        facts = replace(self.facts, target=target, imports=imports, smoke=())
        failed = [f for f in diagnose(facts, self.matrix) if f.id in stage.verify and f.status in ("fail", "crash")]
        if failed:
            first = failed[0]
            said = f"{first.id}: {first.detail}: {'; '.join(first.evidence)}"
            raise ApplyError(f"after stage {stage.id} {said}", hint=f"the run's logs: {self.folder}")

    def _prove(self, prove: Prove) -> Proof:
        start = time.monotonic()
        proof = prove(self.work, self.matrix, self.settings)
        self._write("proof.json", msgspec.json.format(msgspec.json.encode(proof.findings), indent=1).decode())
        failed = [finding for finding in proof.findings if finding.status in ("fail", "crash")]
        if failed:
            said = "; ".join(f"{f.id} {f.detail}: {' '.join(f.evidence)}" for f in failed if not f.caused_by)
            raise ApplyError(f"the result is not proven: {said}", hint=f"the run's logs: {self.folder}")
        self.say.done(time.monotonic() - start)
        return proof

    def _put_in_place(self) -> bool:
        """Make the proven environment the one at the path. From here on nothing is dropped."""
        if self.plan.new_environment:
            self.journal.note("proven")
            (self.work / UNFINISHED).unlink(missing_ok=True)
            self.swapped = True
            with self._only_said():
                self.journal.note("done")
            return True
        relocate(self.places.next, self.places.next, self.places.named)
        hand_over(self.places.next, inodes(self.before))
        changed = differences(self.before, manifest(self.places.env))
        if changed:
            shown = ", ".join(changed[:5]) + (f" and {len(changed) - 5} more" if len(changed) > 5 else "")
            what = f"{self.plan.target} was changed by somebody else meanwhile, and that would be lost: {shown}"
            raise ApplyError(what, hint="look who writes there, then make a new plan with `mmdoctor fix`")
        with _uninterrupted():
            self.journal.note("proven")
            atomic = swap(self.places, self.journal, self.places.next)
            self.swapped = True
        with self._only_said():
            keep(self.places, self.folder.name)
            self.journal.note("done")
            prune(self.places)
        return atomic

    @contextmanager
    def _only_said(self) -> Iterator[None]:
        """What fails after the swap does not take the proven environment away; the next command puts it in order."""
        try:
            yield
        except OSError as error:
            self.say.info(f"the new environment is in place, but: {error.strerror}: {error.filename}")

    def _python(self) -> Path:
        return interpreter_of(self.places.env if self.swapped else self.work)

    def _target_now(self) -> Target:
        return probe_target(self.places.named if self.swapped else self.work, is_env=True)

    def _environment(self) -> dict[str, str]:
        settings = self.settings
        environment = {**uv_of(settings.uv, settings.config, offline=settings.offline).environment, **self.fetched}
        if owned_by_another(self.places.env):
            environment["UV_LINK_MODE"] = "copy"  # what is handed over must not be a file of root's own cache
        return environment


def proven(env: Path, matrix: Matrix, settings: Settings) -> Proof:
    """Every check, mmcv's golden ops and RTMPose inference with right keypoints, on the environment as it is."""
    from mmdoctor.smoke.bench import run_bench

    target = probe_target(env, is_env=True)
    looking = system.Background(collect, target, env, wheels_folder=settings.wheels)
    smoke = run_bench(target.executable) if not (target.version("mmpose") or "0.").startswith("0.") else ()
    facts = with_smoke(looking.result(), smoke)
    return Proof(facts=facts, findings=diagnose(facts, matrix))


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """SIGINT and SIGTERM wait until the swap is written down."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    held = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, held)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _filled(argv: tuple[str, ...], names: Mapping[str, str]) -> tuple[str, ...]:
    """The arguments with `{python}`, `{env}` … filled in, also at the beginning of a path."""
    filled = []
    for part in argv:
        for name, value in names.items():
            if part == f"{{{name}}}" or part.startswith(f"{{{name}}}/"):
                part = value + part[len(name) + 2 :]  # noqa: PLW2901
                break
        filled.append(part)
    return tuple(filled)


def _freeze(target: Target) -> str:
    return "".join(f"{d.name}=={d.version}\n" for d in sorted(target.distributions, key=lambda d: d.name))


def _moved(before: Target, after: Target, plan: Plan) -> tuple[Change, ...]:
    """What differs besides the plan's changes: the packages that were brought along, moved or lost."""
    old = {name: d.version for name, d in before.installed.items()}
    new = {name: d.version for name, d in after.installed.items()}
    planned = {change.name for change in plan.changes}
    return tuple(
        Change(name=name, old=old.get(name), new=new.get(name))
        for name in sorted({*old, *new})
        if old.get(name) != new.get(name) and name not in planned
    )
