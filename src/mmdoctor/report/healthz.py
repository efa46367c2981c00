"""The payload of a pose service's /healthz: what runs there, and whether it may be sent requests (200) or not (503)."""

from __future__ import annotations

from typing import Optional, Union

from mmdoctor.model import Bench, Facts, Health, ImportResult, Report, Unknown
from mmdoctor.report.text import outline

# By distribution: a fork stands in for the package that it replaces.
NAMES = {
    "numpy_version": ("numpy",),
    "mmcv_version": ("mmcv", "mmcv-full", "mmcv-lite", "onedl-mmcv"),
    "mmengine_version": ("mmengine", "onedl-mmengine"),
    "mmdet_version": ("mmdet", "onedl-mmdetection"),
    "mmpose_version": ("mmpose",),
}
NOT_TRIED = "not tried: --deep runs a short RTMPose inference"
# What mmcv says where its ops were compiled without CUDA.
NO_CUDA = "not available"
Field = Union[str, bool, float, None, Unknown]


def render(report: Report) -> str:
    """The payload as JSON."""
    from mmdoctor.report import encode

    return encode(health(report))


def health(report: Report) -> Health:
    """A report as a service's health; what was not looked at is null, with the reason."""
    facts = report.facts
    fields: dict[str, Field] = {**_versions(facts), **_torch(facts), **_mmcv(facts), **_gpu(facts), **_model(facts)}
    well = report.ok if report.exit_code is None else report.exit_code == 0
    status = "ok" if well else "unknown" if _is_open(report) else "broken"
    roots = [finding for depth, finding in outline(report.findings) if not depth]
    return Health(
        status=status,  # type: ignore[arg-type]
        http_status=200 if status == "ok" else 503,
        target=report.target.prefix,
        python=report.target.python,
        findings=tuple(f"{finding.id} {finding.title}: {finding.detail}" for finding in roots),
        unknown={name: value.unknown for name, value in fields.items() if isinstance(value, Unknown)},
        cached=report.cached,
        **{name: None if isinstance(value, Unknown) else value for name, value in fields.items()},  # type: ignore[arg-type]
    )


def _is_open(report: Report) -> bool:
    """Whether a report that is not well has no finding either: something could not be looked at."""
    return report.exit_code != 1 and not any(f.status == "fail" and not f.accepted for f in report.findings)


def _versions(facts: Facts) -> dict[str, Field]:
    installed = facts.target.installed
    nobody = Unknown(unknown="the interpreter was not asked") if facts.target.state != "present" else None
    return {
        field: next((installed[name].version for name in names if name in installed), nobody)
        for field, names in NAMES.items()
    }


def _torch(facts: Facts) -> dict[str, Field]:
    build = facts.target.torch
    nobody = Unknown(unknown="the interpreter was not asked") if facts.target.state != "present" else None
    fields: dict[str, Field] = {
        "torch_version": build.version if build else nobody,
        "torch_cuda": build.cuda if build else nobody,
    }
    result = facts.imported("torch")
    said = _asked(facts, result, "torch", "cuda_available")
    return {**fields, "cuda_available": said if isinstance(said, Unknown) else said == "True"}


def _mmcv(facts: Facts) -> dict[str, Field]:
    said = _asked(facts, facts.imported("mmcv.ops"), "mmcv.ops", "compiling_cuda")
    return {"mmcv_cuda": None if said == NO_CUDA else said}


def _asked(facts: Facts, result: Optional[ImportResult], what: str, question: str) -> Union[str, Unknown]:
    """What an import said to a question, or why it did not."""
    if result is not None and result.status == "ok":
        return result.data.get(question, Unknown(unknown=f"{what} did not say {question}"))
    if result is not None:
        why = (result.message or result.status).splitlines()[0]
    else:
        why = facts.unfinished or ("the look was quick" if facts.quick else "it is not installed")
    return Unknown(unknown=f"{what} was not imported: {why}")


def _gpu(facts: Facts) -> dict[str, Field]:
    devices = ", ".join(device.name for device in facts.gpu.devices)
    device: Field = devices or (facts.gpu.driver if isinstance(facts.gpu.driver, Unknown) else None)
    return {"gpu_device": device, "gpu_driver": facts.gpu.driver}


def _model(facts: Facts) -> dict[str, Field]:
    if not facts.smoke:
        return dict.fromkeys(("model_loaded", "model", "model_device", "inference_ms"), Unknown(unknown=NOT_TRIED))
    first: Bench = facts.smoke[0]
    loaded = all(bench.ok for bench in facts.smoke)
    return {
        "model_loaded": loaded,
        "model": first.model,
        "model_device": first.device,
        "inference_ms": first.latency_ms.p50 if loaded else Unknown(unknown=first.reason or "the inference failed"),
    }
