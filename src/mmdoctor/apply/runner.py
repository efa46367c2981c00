"""Runs a plan: fetch → clone → stages, each with its post-condition → proof → swap; or goes on with a killed run."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Callable, Optional

import msgspec
from msgspec.structs import replace

from mmdoctor.apply.clone import Manifest, clone, differences, hand_over, inodes, manifest, relocate
from mmdoctor.apply.fetch import fetch
from mmdoctor.apply.journal import Journal, Standing, boot
from mmdoctor.apply.places import UNFINISHED, Places
from mmdoctor.apply.preflight import Preflight, preflight, refuse_early
from mmdoctor.apply.recover import keep, prune, recover, swap
from mmdoctor.apply.stages import Listener, Settings, Stages
from mmdoctor.checks import diagnose
from mmdoctor.errors import ApplyError, RefusedError
from mmdoctor.matrix_model import Matrix
from mmdoctor.model import Change, Facts, Finding, Plan, Target, Value
from mmdoctor.plan import stale
from mmdoctor.probes.collect import collect, with_smoke
from mmdoctor.probes.target import probe_target
from mmdoctor.work import Background


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


PROOF_RUNS = 3  # as `check --deep`; `mmdoctor bench` measures with more
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
        places.sweep()
        facts = _as_it_is_now(plan, facts, places)
        seen = preflight(plan, facts, places, settings.cache, settings.wheels)
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
        self.created = 0
        self.swapped = False

    def to_the_end(self, prove: Prove, standing: Standing) -> Outcome:
        self._begin()
        going_on = standing.clean and not self.plan.new_environment and self.places.next.exists()
        fetched = fetch(self.plan, self.facts.target, self.settings, self.folder, self.say)
        going_on = self._prepare(standing if going_on else None)
        work = Stages(self.work, self.folder, self.facts, self.matrix, self.settings, self.say, self.journal, fetched)
        stages = [stage for stage in self.plan.stages if stage.id != "proof"]
        for number, stage in enumerate(stages, start=1):
            if going_on and stage.id in standing.stages:
                continue
            self.say.stage(number, len(stages) + 1, stage.title)
            # A post-condition is looked at early where it can save a compile; the proof holds all of them anyway.
            costly = any(step.build for later in stages[number:] for step in later.steps)
            work.run(stage, verify=costly and stage.id not in standing.stages)
        self.say.stage(len(stages) + 1, len(stages) + 1, "proof: every check, mmcv's ops, RTMPose inference")
        proof = self._prove(prove)
        atomic = self._put_in_place()
        after = probe_target(self.places.named, is_env=True)
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
        with suppress(OSError):  # a full or vanished disk: the error itself is told, and the next command recovers
            if not self.plan.new_environment:
                self.places.discard(self.places.next)
            elif self.created and self.places.env.exists():
                self.places.discard(self.places.env)
            self.places.sweep()
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

    def _prepare(self, going_on: Optional[Standing]) -> bool:
        """The place to work in: a clone, the one that a killed run left (then True), or an empty folder at the final
        path."""
        if self.plan.new_environment:
            self.places.env.mkdir(parents=True, exist_ok=True)
            self.created = self.places.env.stat().st_ino
            self.journal.note("created", inode=self.created)
            return False
        self.before = manifest(self.places.env)
        if going_on is not None and going_on.run is not None:
            then = msgspec.json.decode((going_on.run / "manifest.json").read_bytes(), type=Manifest)
            if then == self.before:
                self.say.info(f"going on after stage {', '.join(going_on.stages) or 'clone'} of the killed run")
                self._write("manifest.json", msgspec.json.encode(self.before).decode())
                self.journal.note("cloned", boot=boot(), linked=self.seen.linkable)
                for stage in going_on.stages:
                    self.journal.note("stage-done", id=stage, boot=boot())
                return True
            self.places.discard(self.places.next)
        start = time.monotonic()
        cloned = clone(self.places.env, self.places.next)
        copied = f", {cloned.copied} files ({cloned.copied_bytes / 1e9:.1f} GB) copied" if cloned.copied else ""
        self.say.info(f"cloned beside itself by hard links in {time.monotonic() - start:.1f} s{copied}")
        self._write("manifest.json", msgspec.json.encode(self.before).decode())
        self.journal.note("cloned", boot=boot(), linked=not cloned.copied)
        return False

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


def proven(env: Path, matrix: Matrix, settings: Settings) -> Proof:
    """Every check, mmcv's golden ops and RTMPose inference with right keypoints, on the environment as it is."""
    from mmdoctor.smoke.bench import run_bench

    target = probe_target(env, is_env=True)
    looking = Background(collect, target, env, wheels_folder=settings.wheels)
    old = (target.version("mmpose") or "0.").startswith("0.")  # mmpose 0.x has no bench
    smoke = () if old else run_bench(target.executable, runs=PROOF_RUNS, together=True)
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
