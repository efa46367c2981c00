"""Checks of the GPU, its driver, and torch's use of them."""

from __future__ import annotations

from typing import Optional

from mmdoctor import rules
from mmdoctor.checks.base import Check, Verdict, fail, manual, ok, skip, warn
from mmdoctor.matrix_model import Matrix
from mmdoctor.model import Facts, Unknown


def gpu_answers(facts: Facts, matrix: Matrix) -> Optional[Verdict]:
    gpu = facts.gpu
    if isinstance(gpu.driver, Unknown):
        return _driver_refuses(gpu.driver.unknown)
    if gpu.devices:
        names = ", ".join(f"{d.name} ({d.compute_capability})" for d in gpu.devices)
        return ok(f"driver {gpu.driver}, {names}")
    return ok(f"no GPU: {gpu.reason}; the stack runs on the CPU")


def _driver_refuses(reason: str) -> Verdict:
    """A driver is there and says nothing: parts of two versions, no right to ask it, or no answer at all."""
    detail = "the NVIDIA driver could not be asked"
    if "mismatch" in reason:
        return fail(detail, "nvml-mismatch", reason, fix=manual("reboot"))
    if "permission" in reason:
        return fail(detail, "permission-or-lock", reason, fix=manual("let this user open the /dev/nvidia* files"))
    return skip(f"{detail}: {reason}")


def driver_new_enough(facts: Facts, matrix: Matrix) -> Optional[Verdict]:
    torch, driver = facts.target.torch, facts.gpu.driver
    variant = rules.torch_variant(matrix, facts)
    if torch is None or variant is None or not isinstance(driver, str) or not facts.gpu.devices:
        return None
    floor = rules.driver_floor(matrix, variant, facts.host.os)
    if floor is None:
        return None
    if rules.driver_runs(driver, floor):
        return ok(f"driver {driver} runs torch's CUDA {rules.cuda_of(variant)} (needs {floor})")
    if rules.driver_takes(facts, variant, floor):
        compat = f"by a cuda-compat package, which makes it CUDA {facts.gpu.cuda_ceiling}"
        return ok(f"driver {driver} runs torch's CUDA {rules.cuda_of(variant)} {compat}")
    return fail(
        f"torch {torch.version} needs driver {floor} or newer",
        "driver-too-old",
        f"driver {driver}",
        f"build CUDA {rules.cuda_of(variant)}",
        fix=manual(f"install driver {floor} or newer, or let mmdoctor fix choose an older CUDA variant of torch"),
    )


def gpu_supported(facts: Facts, matrix: Matrix) -> Optional[Verdict]:
    torch, variant = facts.target.torch, rules.torch_variant(matrix, facts)
    if torch is None or variant in (None, "cpu") or not facts.gpu.devices:
        return None
    capabilities = [device.compute_capability for device in facts.gpu.devices]
    held = {one: rules.code_for(matrix, torch.version, variant, facts.host, one) for one in capabilities}
    out = [one for one, code in held.items() if code is not None and not any(code)]
    if out:
        detail = f"torch {torch.version} holds no code for compute capability {', '.join(out)}"
        return fail(detail, "gpu-arch-unsupported", f"build {variant}")
    compiled = [one for one, code in held.items() if code is not None and not code.machine]
    floor = rules.toolkit_driver(matrix, variant, facts.host.os)
    if compiled and not rules.driver_takes(facts, variant, floor):
        return fail(
            f"torch {torch.version} holds PTX alone for compute capability {', '.join(compiled)}",
            "driver-too-old",
            f"driver {facts.gpu.driver}",
            f"PTX of CUDA {rules.cuda_of(variant)} is compiled by driver {floor} or newer",
            fix=manual(f"install driver {floor} or newer, or let mmdoctor fix choose a torch with machine code for it"),
        )
    if None in held.values():
        return skip(f"the matrix does not know which archs torch {torch.version} holds", needed=False)
    return ok(f"torch {torch.version} holds code for {', '.join(held)}")


def gpu_used(facts: Facts, matrix: Matrix) -> Optional[Verdict]:
    torch = facts.target.torch
    if torch is None or not facts.gpu.devices:
        return None
    if rules.torch_variant(matrix, facts) == "cpu":
        return warn(f"torch {torch.version} is a CPU build beside a GPU", "torch-cpu-build")
    result = facts.imported("torch")
    if result is None or result.status != "ok":
        return None
    if result.data.get("cuda_available") == "True":
        return ok("torch sees the GPU")
    said = "torch.cuda.is_available() is False"
    return fail("torch does not see the GPU", "torch-gpu-unavailable", said, rests_on=("GPU001", "GPU002"))


CHECKS = (
    Check(
        id="GPU001",
        title="the GPU and its driver",
        why="No GPU is fine, the stack runs on the CPU; a driver whose parts differ in version is not.",
        judge=gpu_answers,
    ),
    Check(
        id="GPU002",
        title="the driver runs torch's CUDA",
        why="A driver runs every CUDA of a major from that major's first driver on, and none of a newer major.",
        judge=driver_new_enough,
    ),
    Check(
        id="GPU003",
        title="torch holds code for this GPU",
        why="torch's binaries hold machine code for a list of archs; a GPU outside it has no kernel image.",
        judge=gpu_supported,
    ),
    Check(
        id="GPU004",
        title="torch uses the GPU",
        why="A CPU build beside a GPU is slow without a word.",
        judge=gpu_used,
    ),
)
