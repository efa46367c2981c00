"""Runs the stages of a plan in the place where the repair happens: commands, compiles, post-conditions."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from msgspec.structs import replace

from mmdoctor import system
from mmdoctor.apply.clone import owned_by_another
from mmdoctor.apply.failure import failure
from mmdoctor.apply.journal import Journal, boot
from mmdoctor.apply.places import UNFINISHED
from mmdoctor.apply.processes import started
from mmdoctor.checks import diagnose
from mmdoctor.errors import ApplyError
from mmdoctor.matrix_model import Matrix
from mmdoctor.model import Build, Facts, Stage, Step, Value
from mmdoctor.probes.imports import probe_imports, steps_for
from mmdoctor.probes.indexes import IndexConfig
from mmdoctor.probes.question import interpreter_of
from mmdoctor.probes.target import probe_target
from mmdoctor.rest import uv_of
from mmdoctor.wheels.making import make_wheel

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

    def progress(self, done: int, total: int, left: float) -> None: ...

    def done(self, seconds: float) -> None: ...


class Settings(Value, frozen=True, kw_only=True):
    """How to apply, as far as the plan does not say it."""

    cache: Path
    wheels: Path
    offline: bool = False
    uv: str
    config: IndexConfig


class Stages:
    """The stages of one run, in `work`: the clone, or the new environment. `fetched` are the variables under which the
    steps install what was fetched, and nothing else."""

    def __init__(
        self,
        work: Path,
        folder: Path,
        facts: Facts,
        matrix: Matrix,
        settings: Settings,
        say: Listener,
        journal: Journal,
        fetched: Mapping[str, str],
    ) -> None:
        self.work, self.folder = work, folder
        self.facts, self.matrix = facts, matrix
        self.settings, self.say, self.journal = settings, say, journal
        self.fetched = fetched

    def run(self, stage: Stage, *, verify: bool) -> None:
        """Run one stage; with `verify` its post-condition is looked at. Raises ApplyError, TryAgainError."""
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
            "python": str(interpreter_of(self.work)),
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
        made = make_wheel(
            build,
            probe_target(self.work, is_env=True),
            self.facts,
            self.matrix,
            self.settings,
            self.say,
            environment=self._environment(),
            why=step.why,
            log=self.folder / f"build-{build.package}.log",
            on_start=self._child,
        )
        argv = _filled(step.argv, {**names, "wheel": str(made.wheel)})
        self._command(build.package, argv, "what was just compiled" if made.compiled else "from the wheel cache")

    def _verify(self, stage: Stage) -> None:
        if not stage.verify:
            return
        target = probe_target(self.work, is_env=True)
        wanted = {name for check in stage.verify for name in IMPORTS_OF.get(check, ())}
        steps = tuple(step for step in steps_for(target) if step in wanted)
        imports = probe_imports(target.executable, steps) if steps else ()
        facts = replace(self.facts, target=target, imports=imports, smoke=())
        failed = [f for f in diagnose(facts, self.matrix) if f.id in stage.verify and f.status in ("fail", "crash")]
        if failed:
            first = failed[0]
            said = f"{first.id}: {first.detail}: {'; '.join(first.evidence)}"
            raise ApplyError(f"after stage {stage.id} {said}", hint=f"the run's logs: {self.folder}")

    def _environment(self) -> dict[str, str]:
        settings = self.settings
        environment = {**uv_of(settings.uv, settings.config, offline=settings.offline).environment, **self.fetched}
        if owned_by_another(self.work):
            environment["UV_LINK_MODE"] = "copy"  # what is handed over must not be a file of root's own cache
        return environment


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
