"""What `mmdoctor wheels build NAME==VERSION` asks for: the build for an environment as it is, or why there is none."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Optional

from msgspec.structs import replace

from mmdoctor import rules
from mmdoctor.builds import BOUND_TO_TORCH, BUILDABLE, build_for
from mmdoctor.errors import RefusedError, UsageError
from mmdoctor.matrix_model import Matrix
from mmdoctor.model import Build, Facts
from mmdoctor.probes.collect import collect
from mmdoctor.probes.target import probe_target
from mmdoctor.probes.toolchain import probe_toolchain

ARCH = re.compile(r"\d+\.\d[af]?(\+PTX)?")


def facts_for(path: Path, is_env: bool) -> Facts:
    """What a build depends on of this machine and of the target; RefusedError for a target that does not answer."""
    target = probe_target(path.absolute(), is_env=is_env)
    if target.state != "present":
        raise RefusedError(
            f"{target.requested} does not answer: {target.problem}", hint="mmdoctor fix --apply --env DIR"
        )
    return replace(collect(target, path.absolute(), quick=True), toolchain=probe_toolchain(os.environ))


def build_asked(matrix: Matrix, facts: Facts, name: str, version: str, archs: Optional[str]) -> Build:
    """The build of this release beside the target's torch and NumPy. `archs` is what `--cuda-archs` says.

    Raises UsageError (not one of BUILDABLE, no such release or arch), RefusedError (nothing there to be built for, or
    a torch that its source does not compile against).
    """
    target = facts.target
    if name not in BUILDABLE:
        raise UsageError(f"{name} is not among what is compiled: {', '.join(BUILDABLE)}")
    known = rules.releases(matrix, name)
    if version not in known:
        raise UsageError(f"the matrix does not know {name} {version}", hint=f"it knows {', '.join(known)}")
    if name not in BOUND_TO_TORCH:
        if archs:
            raise UsageError(f"--cuda-archs {archs}: {name} has no CUDA ops")
        if name != "chumpy" and target.version("numpy") is None:
            what = f"{name} is compiled against the NumPy that will run, and {target.requested} has none"
            raise RefusedError(what, hint="install it first; `mmdoctor fix` does all of it")
        torch = target.torch.version if target.torch else None
        return build_for(matrix, facts.host, name, version, python=target.python, torch=torch)
    if target.torch is None:
        what = f"{name} is compiled against the torch that will run, and {target.requested} has none"
        raise RefusedError(what, hint="install it first; `mmdoctor fix` does all of it")
    row = rules.mmcv_row(matrix, name, version)
    if row is not None and not rules.within(target.torch.version, row.torch):
        what = f"the source of {name} {version} compiles against torch {row.torch}; here is {target.torch.version}"
        raise RefusedError(what, hint=f"`mmdoctor matrix why {name}=={version}` says what goes together")
    wanted = archs_of(matrix, facts, archs)
    return build_for(matrix, facts.host, name, version, python=target.python, torch=target.torch.version, archs=wanted)


def archs_of(matrix: Matrix, facts: Facts, told: Optional[str]) -> str:
    """The compute capabilities to compile for, as torch takes them (`7.5;8.6`): those of `--cuda-archs`, else as in a
    plan (`rules.cuda_archs`). Empty for CPU ops. UsageError where FORCE_CUDA=1 and nothing says what for."""
    if told:
        archs = [arch for arch in re.split(r"[,; ]+", told) if arch]
        wrong = next((arch for arch in archs if not ARCH.fullmatch(arch)), None)
        if wrong is not None or not archs:
            raise UsageError(
                f"--cuda-archs {told}: {wrong!r} is no compute capability", hint="--cuda-archs 7.5,8.6+PTX"
            )
        return ";".join(dict.fromkeys(archs))
    variant = rules.torch_variant(matrix, facts) or "cpu"
    found = rules.cuda_archs(facts, variant)
    if not found and variant != "cpu" and facts.environment.get("FORCE_CUDA") == "1":
        raise UsageError("FORCE_CUDA=1, and no GPU is here to compile for", hint="name them: --cuda-archs 8.6")
    return found
