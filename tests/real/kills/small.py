"""Applies a plan of small packages to a small environment, as `mmdoctor fix --apply` applies a large one: the same code
from the lock to the swap, with a proof that fits small packages. Run as a process of its own, so that it can be killed.

    python small.py ENVIRONMENT CACHE
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from mmdoctor import system
from mmdoctor.apply.runner import Proof, apply
from mmdoctor.apply.stages import Settings
from mmdoctor.errors import ApplyError
from mmdoctor.matrix import load_matrix
from mmdoctor.matrix_model import Matrix
from mmdoctor.model import Change, Cost, Plan, Stage, Step
from mmdoctor.plan import bound_to
from mmdoctor.probes.collect import collect
from mmdoctor.probes.indexes import user_config
from mmdoctor.probes.question import interpreter_of
from mmdoctor.probes.target import probe_target
from mmdoctor.report.progress import listener

OLD = {"colorama": "0.4.5", "six": "1.16.0", "pygments": "2.17.2"}
NEW = {"colorama": "0.4.6", "six": "1.17.0", "pygments": "2.18.0", "idna": "3.7"}
INSTALL = ("uv", "pip", "install", "--python", "{python}", "--compile-bytecode", "--constraint", "{constraints}")
SHOWN = "import colorama, six, pygments, idna; print(colorama.__version__, six.__version__, pygments.__version__)"


def plan_for(env: Path) -> Plan:
    """A plan from OLD to NEW in two stages."""
    facts = collect(probe_target(env, is_env=True), env, quick=True)
    pins = tuple(f"{name}=={version}" for name, version in NEW.items())
    stages = (
        Stage(id="first", title="two of them", steps=(Step(argv=(*INSTALL, *pins[:2]), why="small"),)),
        Stage(id="second", title="the rest", steps=(Step(argv=(*INSTALL, *pins[2:]), why="small"),)),
    )
    return Plan(
        status="plan",
        recipe="small",
        target=str(env),
        bound=bound_to(facts),
        new_environment=False,
        stack=None,
        changes=tuple(Change(name=name, old=OLD.get(name), new=version) for name, version in NEW.items()),
        constraints=pins,
        stages=stages,
        rejected=(),
        assumptions=(),
        cost=Cost(download_bytes=0, build_minutes=0.0),
    )


def small_proof(env: Path, matrix: Matrix, settings: Settings) -> Proof:
    """The new versions import, from files that are all there."""
    done = system.run((str(interpreter_of(env)), "-c", SHOWN), deadline=20)
    if done.stdout.split() != [NEW["colorama"], NEW["six"], NEW["pygments"]]:
        raise ApplyError(f"not the new versions: {done.stdout}{done.stderr}")
    target = probe_target(env, is_env=True)
    damaged = [d.name for d in target.distributions if d.missing_files or d.record == "missing"]
    if damaged:
        raise ApplyError(f"damaged: {damaged}")
    return Proof(facts=collect(target, env, quick=True), findings=())


def main() -> None:
    env, cache = Path(sys.argv[1]), Path(sys.argv[2])
    facts = collect(probe_target(env, is_env=True), env, quick=True)
    settings = Settings(
        cache=cache,
        wheels=cache / "wheels",
        uv=system.uv_program(),
        config=user_config(os.environ, Path.home(), env),
    )
    with listener(sys.stderr) as say:
        apply(plan_for(env), facts, load_matrix(), settings, say, prove=small_proof)


if __name__ == "__main__":
    main()
