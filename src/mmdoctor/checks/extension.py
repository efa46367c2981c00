"""Checks of mmcv's compiled part: the installed `_ext`, and the wheels that pip compiled and would install again."""

from __future__ import annotations

from typing import Optional

from msgspec.structs import replace

from mmdoctor import rules
from mmdoctor.checks.base import Check, Verdict, fail, manual, not_imported, ok, skip, warn
from mmdoctor.checks.signatures import cause_told, imported
from mmdoctor.matrix_model import Matrix
from mmdoctor.model import Facts, Unknown

MISMATCHES = ("mmcv-torch-abi-mismatch", "mmcv-cuda-runtime-mismatch")


def ext_loads(facts: Facts, matrix: Matrix) -> Optional[Verdict]:
    target = facts.target
    found = next((d for d in target.distributions if d.name in rules.MMCV_NAMES), None)
    if found is None:
        return None
    damage = _damage(facts)
    if damage is not None:
        return damage
    unfit = rules.not_for_this_torch(facts.extension, target)
    for step in ("mmcv", "mmcv._ext"):
        broken = imported(facts, step, "mmcv-ext-missing", "mmcv")
        if broken and broken.cause in MISMATCHES and unfit:
            return replace(broken, evidence=(*broken.evidence, f"mmcv._ext {unfit}"))
        if broken:
            return broken
    said = f"mmcv._ext of {found.name} {found.version}"
    if facts.imported("mmcv._ext"):
        return ok(said)
    if facts.extension is None and found.folder:  # a pretended distribution has no folder to look into
        detail = f"{found.name} {found.version} holds no _ext"
        return fail(detail, "mmcv-ext-missing", about=("mmcv",), rests_on=("MCV001",))
    if unfit and facts.extension:
        detail = f"{said} was compiled for another torch"
        cause = MISMATCHES[rules.wants_cuda(facts.extension, target)]
        return fail(detail, cause, f"mmcv._ext {unfit}", about=("mmcv",), rests_on=("TRC002",))
    if facts.extension and facts.extension.absent:
        detail = f"{said} needs a library that is not there"
        missed = [f"{name}: cannot open shared object file" for name in facts.extension.absent]  # the linker's words
        cause = cause_told(missed[0], "mmcv") or MISMATCHES[1]
        return fail(detail, cause, *missed, about=("mmcv",), rests_on=("TRC002",))
    return not_imported(said)


def _damage(facts: Facts) -> Optional[Verdict]:
    """What the file of mmcv._ext shows without loading it, which kills the interpreter where its end is missing."""
    extension = facts.extension
    said = rules.extension_fault(extension, facts.host) if extension else None
    if extension is None or said is None:
        return None
    cause = "permission-or-lock" if extension.problem == "unreadable" else "mmcv-ext-damaged"
    return fail("mmcv._ext is of no use", cause, f"{extension.path}: {said}", about=("mmcv",))


def op_runs(facts: Facts, matrix: Matrix) -> Optional[Verdict]:
    broken = imported(facts, "mmcv.ops", "mmcv-torch-abi-mismatch", "mmcv.ops")
    if broken:
        return broken
    result = facts.imported("mmcv.ops")
    if result is None:
        return _without_cuda_ops(facts, matrix)
    on_gpu = result.data.get("nms_cuda")
    if on_gpu not in (None, "ok"):
        cause = "gpu-arch-unsupported" if "no kernel image" in on_gpu else "mmcv-cpu-build"
        return fail("nms runs on the CPU, not on the GPU", cause, on_gpu, rests_on=("GPU002", "GPU003"))
    where = "CPU and GPU" if on_gpu else "CPU"
    return ok(f"nms on {where}, compiled with {result.data.get('compiler')}, CUDA {result.data.get('compiling_cuda')}")


def _without_cuda_ops(facts: Facts, matrix: Matrix) -> Optional[Verdict]:
    """What the file of mmcv._ext shows without running an op."""
    variant = rules.torch_variant(matrix, facts)
    if facts.extension is None or variant is None or not rules.without_cuda_ops(facts, facts.extension, variant):
        return None
    detail = f"mmcv was compiled for the CPU alone, beside a {variant} build of torch and a GPU"
    return fail(detail, "mmcv-cpu-build", f"{facts.extension.path} holds no CUDA code", about=("mmcv.ops",))


def pip_cache_clean(facts: Facts, matrix: Matrix) -> Optional[Verdict]:
    kept = facts.pip_cache
    if isinstance(kept, Unknown):
        return skip(f"pip's wheel cache could not be looked at: {kept.unknown}", needed=False)
    if kept is None:
        return None
    said = [(wheel, fault) for wheel in kept if (fault := rules.wheel_fault(wheel, facts))]
    if not said:
        wheels = ", ".join(dict.fromkeys(f"{wheel.name} {wheel.version}" for wheel in kept))
        return ok(f"what pip compiled and keeps fits this environment: {wheels or 'nothing of the stack'}")
    names = sorted({wheel.name.replace("-", "_") for wheel, _ in said})
    fix = manual("; ".join(f"python -m pip cache remove {name}" for name in names))
    evidence = (f"{wheel.path}: {wheel.name} {wheel.version} {fault}" for wheel, fault in said)
    return warn("pip would install what it compiled for another environment", "pip-cache-poisoned", *evidence, fix=fix)


LOADS = Check(
    id="MCV002",
    title="mmcv._ext loads",
    why="It is compiled for one torch; beside another the linker finds no such symbol or library.",
    judge=ext_loads,
)
OP_RUNS = Check(
    id="MCV003",
    title="an mmcv op runs",
    why="A binary may load and still hold no kernel for this device.",
    judge=op_runs,
)
PIP_CACHE = Check(
    id="PKG004",
    title="pip's cache holds nothing of another environment",
    why="pip keeps what it compiled by the sdist alone: an mmcv that was compiled for one torch, or without its ops, "
    "is installed beside another without a word.",
    judge=pip_cache_clean,
)
