"""What the fast tests share: the shipped matrix, the recorded machines, small edits of them, golden files."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, Callable, NamedTuple, Optional
from unittest.mock import patch

import msgspec
import pytest
from hypothesis import HealthCheck
from hypothesis import settings as profiles
from msgspec.structs import replace

from mmdoctor.__main__ import _run
from mmdoctor.matrix import load_matrix
from mmdoctor.matrix_model import Matrix
from mmdoctor.model import Distribution, Facts, Gpu, GpuDevice, ImportResult, Target, Unknown, YesNo
from mmdoctor.wheels.cache import BuildKey

# Few examples wherever the tests run; `--hypothesis-profile thorough -m hypothesis` (make evidence) tries many.
EVERYWHERE = {"deadline": None, "suppress_health_check": [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]}
profiles.register_profile("few", max_examples=12, **EVERYWHERE)
profiles.register_profile("thorough", max_examples=400, **EVERYWHERE)
profiles.load_profile("few")

DATA = Path(__file__).parent / "data"
Machine = Callable[[str], Facts]
BUILD_KEY = BuildKey(
    package="mmcv",
    version="2.1.0",
    sdist_sha256="0" * 64,
    fixups="",
    torch="2.1.2+cu121",
    numpy="",
    cuda="",
    archs="",
    python_tag="cp311",
    glibc="2.36",
    compiler="12.2.0",
    flags="",
)


@pytest.fixture(scope="session")
def matrix() -> Matrix:
    return load_matrix()


@pytest.fixture(scope="session")
def machine() -> Machine:
    """Loads a recorded machine: `machine("natural-breakage")`."""
    return load_machine


def load_machine(name: str) -> Facts:
    return msgspec.json.decode((DATA / "machines" / f"{name}.json").read_bytes(), type=Facts)


def packages(facts: Facts, changes: Mapping[str, Optional[str]]) -> Facts:
    """Other versions of some distributions; None takes one away, an unknown name is added."""
    kept = [
        replace(d, version=changes[d.name]) if changes.get(d.name, d.version) is not None else None
        for d in facts.target.distributions
        if d.name in changes
    ]
    rest = [d for d in facts.target.distributions if d.name not in changes]
    known = {d.name for d in facts.target.distributions}
    folder = facts.target.site_packages
    new = [Distribution(name=n, version=v, folder=folder) for n, v in changes.items() if n not in known and v]
    found = sorted([*rest, *(d for d in kept if d), *new], key=lambda d: d.name)
    return on_target(facts, distributions=tuple(found))


def distribution(facts: Facts, name: str, **fields: Any) -> Facts:
    """One distribution with other fields."""
    changed = (replace(d, **fields) if d.name == name else d for d in facts.target.distributions)
    return on_target(facts, distributions=tuple(changed))


def on_target(facts: Facts, **fields: Any) -> Facts:
    return replace(facts, target=replace(facts.target, **fields))


def on_host(facts: Facts, **fields: Any) -> Facts:
    return replace(facts, host=replace(facts.host, **fields))


def import_of(facts: Facts, module: str, status: str = "error", **fields: Any) -> Facts:
    """One import that ended in another way."""
    result = ImportResult(module=module, status=status, **fields)  # type: ignore[arg-type]
    return replace(facts, imports=(*(r for r in facts.imports if r.module != module), result))


def with_gpu(facts: Facts, capability: str, driver: Any, cuda_available: bool = True) -> Facts:
    """A GPU, its driver, and whether torch sees it."""
    device = GpuDevice(name="GPU", compute_capability=capability, memory_bytes=16 * 1024**3)
    gpu = Gpu(driver=driver, source="nvml", cuda_ceiling=None, devices=(device,), reason=None)
    facts = replace(facts, gpu=gpu)
    torch = facts.imported("torch")
    if torch is None:
        return facts
    return import_of(facts, "torch", "ok", data={**torch.data, "cuda_available": str(cuda_available)})


def quick(facts: Facts) -> Facts:
    """The same machine as `--quick` sees it."""
    return replace(facts, imports=(), quick=True)


def new_environment(facts: Facts, python: str = "3.11.7", reachable: Optional[YesNo] = None) -> Facts:
    """Nothing there yet; `reachable` of all indexes, None leaves what was recorded."""
    target = Target(requested="/srv/pose/new", state="absent", python=python)
    facts = replace(facts, target=target, imports=(), extension=None)
    return facts if reachable is None else indexes(facts, reachable)


def indexes(facts: Facts, reachable: YesNo) -> Facts:
    """All indexes answer, or none, or nobody looked."""
    reason = "no answer" if reachable is False else None
    return replace(facts, indexes=tuple(replace(i, reachable=reachable, reason=reason) for i in facts.indexes))


NOT_ASKED = Unknown(unknown="--offline")


def golden(place: str, text: str) -> None:
    """Compare with a golden file; `UPDATE_GOLDEN=1` writes it: read the difference before you commit it."""
    file = DATA / place
    if os.environ.get("UPDATE_GOLDEN"):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    assert text == file.read_text(encoding="utf-8")


class Done(NamedTuple):
    """What a command ended with."""

    returncode: int
    stdout: str
    stderr: str


def command(*arguments: str, text: str = "", environment: Optional[Mapping[str, str]] = None) -> Done:
    """mmdoctor from its arguments to its exit status, in this process: a start of its own costs half a second."""
    kept = {name: value for name, value in os.environ.items() if name not in ("VIRTUAL_ENV", "CONDA_PREFIX")}
    out, err = io.StringIO(), io.StringIO()
    stdin = patch("sys.stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
    settings = patch.dict(os.environ, {**kept, **(environment or {})}, clear=True)
    with stdin, settings, redirect_stdout(out), redirect_stderr(err):
        status = _run(list(arguments))
    assert "Traceback" not in err.getvalue()
    return Done(status, out.getvalue(), err.getvalue())
