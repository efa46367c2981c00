"""Every check with a machine on which it passes and one on which it does not; roots and their consequences."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Callable, NamedTuple, Optional, Union

import pytest
import yaml
from msgspec.structs import replace

from mmdoctor import checks
from mmdoctor.checks import CHECKS, checkpoint, config, diagnose, summarise
from mmdoctor.checks.base import Check, Verdict
from mmdoctor.cli.looking import verdict
from mmdoctor.lang import OF_FINDINGS, chinese, recognised
from mmdoctor.matrix_model import Matrix
from mmdoctor.model import (
    Bench,
    Breakage,
    Disk,
    Distribution,
    Facts,
    Finding,
    Index,
    Keypoints,
    Latency,
    LoaderFolder,
    Memory,
    PipWheel,
    Retry,
    StartupFile,
    TorchBuild,
    Unknown,
    Weights,
)
from mmdoctor.pretend import pretend
from tests.config_cases import CONFIG_CASES
from tests.conftest import (
    DATA,
    Machine,
    command,
    distribution,
    import_of,
    load_machine,
    on_host,
    on_target,
    packages,
    quick,
    with_gpu,
)

LIBGL = "libGL.so.1: cannot open shared object file: No such file or directory"
SYMBOL = "/env/mmcv/_ext.cpython-311-x86_64-linux-gnu.so: undefined symbol: _ZN2at4_ops10zeros_like4callERKNS_6TensorE"
SIZE = "numpy.dtype size changed, may indicate binary incompatibility. Expected 96 from C header, got 88 from PyObject"
MISMATCH = "driver/library version mismatch: the loaded kernel module is 535.1; a reboot loads the matching module"
# The maintained fork in the place of OpenMMLab's own.
FORK = {
    "mmcv": None,
    "mmengine": None,
    "mmdet": None,
    "onedl-mmcv": "2.3.6",
    "onedl-mmengine": "0.10.12",
    "onedl-mmdetection": "3.5.1",
}


class Case(NamedTuple):
    check: str
    status: str
    cause: Optional[str]
    change: Callable[[Facts], Facts]


def healthy(facts: Facts) -> Facts:
    return facts


def driver(said: str) -> Callable[[Facts], Facts]:
    return lambda f: replace(f, gpu=replace(f.gpu, driver=Unknown(unknown=said), reason=said))


def cpu_torch(facts: Facts) -> Facts:
    facts = on_target(facts, torch=TorchBuild(version="2.1.2+cpu", cuda=None), torchvision_build="0.16.2+cpu")
    return packages(facts, {"torch": "2.1.2+cpu", "torchvision": "0.16.2+cpu"})


def bench(ok: bool) -> Callable[[Facts], Facts]:
    result = Bench(
        ok=ok,
        device="cpu",
        model="rtmpose-m",
        weights=Weights(kind="seeded", file=None, sha256=None),
        keypoints=Keypoints(count=17, finite=ok, max_abs_error=0.0, tolerance=0.5),
        latency_ms=Latency(init=1, first=1, p50=1, p95=1, preprocess=1, forward=1, postprocess=1),
        throughput_per_s=1,
        memory=Memory(rss_peak_bytes=1, gpu_peak_bytes=None),
        reason=None if ok else "keypoints are not finite",
    )
    return lambda f: replace(f, smoke=(result,))


def without_import(facts: Facts, *modules: str) -> Facts:
    return replace(facts, imports=tuple(r for r in facts.imports if r.module not in modules))


STARTUP = "the start-up files"
USER_SITE = "/home/ann/.local/lib/python3.11/site-packages"
NOW, YEAR = 1.8e9, 365 * 86400.0


def broken(facts: Facts, kind: str, culprit: str) -> Facts:
    breakage = Breakage(kind=kind, culprit=culprit)  # type: ignore[arg-type]
    return on_target(facts, state="broken", problem="no answer", breakage=breakage)


def without(what: str, *healed: str) -> Retry:
    return Retry(without=what, healed=healed)


def startup(facts: Facts, kind: str, **fields: Any) -> Facts:
    path = f"{facts.target.site_packages}/{'sitecustomize.py' if kind == 'sitecustomize' else 'x.pth'}"
    return on_target(facts, startup=(StartupFile(kind=kind, path=path, **fields),))  # type: ignore[arg-type]


def leaking(facts: Facts, name: str) -> Facts:
    """The user's own numpy 2 before the environment's."""
    leaked = Distribution(name=name, version="2.4.6", folder=USER_SITE)
    return on_target(facts, user_site=USER_SITE, distributions=(leaked, *facts.target.distributions))


def loader(facts: Facts, library: str) -> Facts:
    folder = LoaderFolder(variable="LD_LIBRARY_PATH", folder="/usr/local/cuda/lib64", libraries=(library,))
    return replace(facts, loader=(folder,))


def server_clock(facts: Facts, now: float) -> Facts:
    return replace(facts, indexes=(Index(name="pypi", url="https://pypi.org/simple", reachable=False, now=now),))


def disks(facts: Facts, free: Union[int, Unknown]) -> Facts:
    return on_host(facts, disks=(Disk(what="temporary files", path="/tmp", free_bytes=free),))


def twice(facts: Facts, name: str, version: str) -> Facts:
    """The metadata of another version in the same folder."""
    one = next(d for d in facts.target.distributions if d.name == name)
    other = replace(one, version=version, info=f"{name}-{version}.dist-info")
    return on_target(facts, distributions=(other, *facts.target.distributions))


def unowned(facts: Facts, name: str) -> Facts:
    """The folder of a package without the package's metadata."""
    return on_target(packages(facts, {name: None}), modules=(name,))


def extension(facts: Facts, **fields: Any) -> Facts:
    assert facts.extension is not None
    return replace(facts, extension=replace(facts.extension, **fields))


ANOTHER_TORCH = {"missing": ("_ZN2at4_ops5zeros4callEv",), "missing_count": 11, "built_for": "2.1 to 2.3"}


def unfit(facts: Facts) -> Facts:
    """An `_ext` of another torch, by its symbols."""
    return extension(facts, **ANOTHER_TORCH)


def pip_kept(facts: Facts, name: str, numpy: Optional[str] = None, ext: bool = True, **fields: Any) -> Facts:
    """A wheel in pip's own cache."""
    assert facts.extension is not None
    inside = replace(facts.extension, path="mmcv/_ext.so", **fields) if ext else None
    path = f"/home/ann/.cache/pip/wheels/ab/cd/ef/0123/{name}-2.1.0-cp311-cp311-linux_x86_64.whl"
    kept = PipWheel(name=name, version="2.1.0", path=path, extension=inside, numpy=numpy)  # type: ignore[arg-type]
    return replace(facts, pip_cache=(kept,))


def on_torch(facts: Facts, version: str) -> Facts:
    facts = packages(facts, {"torch": version})
    return on_target(facts, torch=TorchBuild(version=version, cuda="12.1"))


def swapped_torch(facts: Facts) -> Facts:
    """What `pip install` of something that wants a newer torch leaves (recorded: torch 2.13 over this stack)."""
    facts = on_torch(facts, "2.13.0+cu130")
    said = "Could not find the operator torchvision::nms. Please make sure you have already registered the operator"
    facts = import_of(facts, "torchvision", error="RuntimeError", message=said, packages=("torchvision", "torch"))
    return import_of(facts, "mmcv._ext", error="ImportError", message=SYMBOL, packages=("mmcv",))


def numpy_before_matplotlibs(facts: Facts) -> Facts:
    """Recorded: numpy 1.23.5 put into this stack."""
    facts = distribution(packages(facts, {"numpy": "1.23.5"}), "matplotlib", requires=("numpy>=1.25",))
    through = ("mmpose", "xtcocotools", "matplotlib")
    said = "Matplotlib requires numpy>=1.25; you have 1.23.5"
    return import_of(facts, "mmpose.apis", error="ImportError", message=said, packages=through)


def alias_of_pycocotools(facts: Facts) -> Facts:
    file = f"{facts.target.site_packages}/pycocotools/_mask.so"
    return import_of(facts, "xtcocotools._mask", "ok", data={"file": file})


CASES = (
    Case("ENV001", "ok", None, healthy),
    Case("ENV001", "fail", "interpreter-broken", lambda f: on_target(f, state="absent")),
    Case("ENV001", "fail", "interpreter-broken", lambda f: on_target(f, state="broken", problem="died of signal 11")),
    Case("ENV002", "ok", None, healthy),
    Case("ENV002", "fail", "distribution-damaged", lambda f: distribution(f, "torch", record="missing")),
    Case("ENV002", "fail", "distribution-damaged", lambda f: distribution(f, "tqdm", missing_files=("tqdm/std.py",))),
    Case("ENV002", "fail", "distribution-damaged", lambda f: distribution(f, "scipy", damaged_files=("scipy/_c.so",))),
    Case("ENV002", "warn", "distribution-damaged", lambda f: distribution(f, "ninja", missing_files=("bin/ninja",))),
    Case("ENV009", "ok", None, healthy),
    Case("ENV009", "fail", "distribution-twice", lambda f: twice(f, "numpy", "1.25.2")),
    Case("ENV009", "warn", "distribution-twice", lambda f: twice(f, "ninja", "1.11")),
    Case("ENV003", "ok", None, healthy),
    Case("ENV003", "warn", "install-leftovers", lambda f: on_target(f, leftovers=("~umpy",))),
    Case("ENV004", "ok", None, healthy),
    Case("ENV004", "fail", "path-shadowing", lambda f: on_target(f, shadowed=("mmpose: /srv/work/mmpose",))),
    Case("ENV001", "ok", None, lambda f: on_target(f, writable=False)),
    Case("ENV001", "fail", "startup-file-broken", lambda f: broken(f, "startup", "/env/lib/hang.pth")),
    Case("ENV001", "fail", "library-path-foreign", lambda f: broken(f, "variable", "LD_LIBRARY_PATH")),
    Case("ENV001", "fail", "wrong-interpreter", lambda f: broken(f, "variable", "PYTHONHOME")),
    Case("ENV001", "fail", "wrong-interpreter", lambda f: broken(f, "python", "3.10")),
    Case("ENV001", "fail", "permission-or-lock", lambda f: broken(f, "permission", "/home/ann")),
    Case("ENV001", "fail", "interpreter-gone", lambda f: broken(f, "gone", "/opt/3.11.7/bin/python3.11")),
    Case("ENV004", "ok", None, lambda f: on_target(f, shadowed_stdlib=("code: /srv/work/code",))),
    Case("ENV004", "fail", "path-shadowing", lambda f: replace(f, retries=(without("PYTHONPATH", "torch"),))),
    Case("ENV005", "ok", None, healthy),
    Case("ENV005", "ok", None, lambda f: startup(f, "pth")),
    Case("ENV005", "warn", "startup-file-broken", lambda f: startup(f, "pth", problem="line 1 raises NameError")),
    Case("ENV005", "warn", "startup-file-broken", lambda f: startup(f, "pth", missing=("/srv/checkout",))),
    Case("ENV005", "warn", "startup-file-broken", lambda f: startup(f, "sitecustomize", stack=("numpy",))),
    Case(
        "ENV005",
        "fail",
        "startup-file-broken",
        lambda f: replace(startup(f, "sitecustomize", stack=("numpy",)), retries=(without(STARTUP, "torch"),)),
    ),
    Case("ENV006", "ok", None, healthy),
    Case("ENV006", "ok", None, lambda f: on_target(f, user_site=USER_SITE)),
    Case("ENV006", "warn", "user-site-leak", lambda f: leaking(f, "numpy")),
    Case("ENV006", "fail", "user-site-leak", lambda f: quick(leaking(f, "numpy"))),
    Case("ENV007", "ok", None, healthy),
    Case("ENV007", "ok", None, lambda f: loader(f, "libcudart.so.12")),
    Case("ENV007", "ok", None, lambda f: loader(f, "libstdc++.so.6")),
    Case("ENV007", "warn", "library-path-foreign", lambda f: loader(f, "libnvJitLink.so.12")),
    Case("ENV007", "ok", None, lambda f: cpu_torch(loader(f, "libnvJitLink.so.12"))),
    Case(
        "ENV007",
        "fail",
        "library-path-foreign",
        lambda f: replace(loader(f, "libcudart.so.12"), retries=(without("LD_LIBRARY_PATH", "torch"),)),
    ),
    Case("HST001", "ok", None, lambda f: on_target(on_host(f, now=NOW), installed_at=NOW - YEAR)),
    Case("HST001", "warn", "clock-wrong", lambda f: on_target(on_host(f, now=NOW), installed_at=NOW + YEAR)),
    Case("HST001", "warn", "clock-wrong", lambda f: server_clock(on_host(f, now=NOW), NOW - YEAR)),
    Case("HST002", "ok", None, lambda f: disks(f, 10**9)),
    Case("HST002", "skip", None, lambda f: disks(f, Unknown(unknown="the disk does not say"))),
    Case("HST002", "warn", "disk-full", lambda f: disks(f, 10**6)),
    Case("GPU001", "ok", None, healthy),
    Case("GPU001", "fail", "nvml-mismatch", driver(MISMATCH)),
    Case("GPU001", "fail", "permission-or-lock", driver("no permission to use the NVIDIA driver")),
    Case("GPU001", "skip", None, driver("the driver did not answer NVML within 10 s")),
    Case("GPU002", "ok", None, lambda f: with_gpu(f, "7.5", "535.104.05")),
    Case("GPU002", "fail", "driver-too-old", lambda f: with_gpu(f, "7.5", "470.256.02", cuda_available=False)),
    Case("GPU003", "ok", None, lambda f: with_gpu(f, "7.5", "535.104.05")),
    Case("GPU003", "fail", "gpu-arch-unsupported", lambda f: with_gpu(f, "12.0", "580.65.06")),
    Case("GPU003", "skip", None, lambda f: with_gpu(f, "77.0", "580.65.06")),
    Case("GPU004", "ok", None, lambda f: with_gpu(f, "7.5", "535.104.05")),
    Case("GPU004", "fail", "torch-gpu-unavailable", lambda f: with_gpu(f, "7.5", "535.104.05", cuda_available=False)),
    Case("GPU004", "warn", "torch-cpu-build", lambda f: cpu_torch(with_gpu(f, "7.5", "535.104.05"))),
    Case("TRC001", "ok", None, healthy),
    Case("TRC001", "skip", None, quick),
    Case("TRC001", "fail", "torch-missing", lambda f: on_target(packages(f, {"torch": None}), torch=None)),
    Case(
        "TRC001",
        "fail",
        "torch-install-broken",
        lambda f: import_of(f, "torch", error="ImportError", message="libcudnn.so.9: cannot open shared object file"),
    ),
    Case("TRC001", "fail", "torch-install-broken", lambda f: import_of(f, "torch", "crash", signal=11, message="died")),
    Case("NPY001", "ok", None, healthy),
    Case("NPY001", "fail", "numpy2-abi", lambda f: quick(packages(f, {"numpy": "2.0.1"}))),
    Case("NPY001", "fail", "numpy-missing", lambda f: packages(f, {"numpy": None})),
    Case(
        "NPY001",
        "fail",
        "numpy2-abi",
        lambda f: import_of(f, "torch.numpy", error="RuntimeError", message="Numpy is not available"),
    ),
    Case("NPY001", "fail", "numpy-too-old", numpy_before_matplotlibs),
    Case("NPY001", "ok", None, lambda f: packages(f, {"numpy": "1.23.5"})),
    Case("NPY001", "skip", None, lambda f: import_of(f, "torch.numpy", "skipped", message="import torch hung")),
    Case("TRC002", "ok", None, healthy),
    Case("TRC002", "ok", None, lambda f: on_torch(f, "2.1.1+cu121")),
    Case("TRC002", "fail", "torch-silently-replaced", swapped_torch),
    Case("TVN001", "ok", None, healthy),
    Case("TVN001", "fail", "torchvision-mismatch", lambda f: quick(on_target(f, torchvision_build="0.16.2+cpu"))),
    Case("TVN001", "warn", "torchvision-mismatch", lambda f: on_target(f, torchvision_build="0.16.2+cpu")),
    Case(
        "TVN001",
        "fail",
        "torchvision-mismatch",
        lambda f: import_of(f, "torchvision", error="RuntimeError", message="operator torchvision::nms does not exist"),
    ),
    Case("OCV001", "ok", None, healthy),
    Case("OCV001", "fail", "opencv-missing", lambda f: packages(f, {"opencv-python-headless": None})),
    Case("OCV001", "fail", "libgl-missing", lambda f: import_of(f, "cv2", error="ImportError", message=LIBGL)),
    Case(
        "OCV001",
        "fail",
        "libgl-missing",
        lambda f: on_host(
            quick(packages(f, {"opencv-python-headless": None, "opencv-python": "4.11.0.86"})), libgl=False
        ),
    ),
    Case("OCV001", "warn", "opencv-both", lambda f: packages(f, {"opencv-python": "4.11.0.86"})),
    Case("XTC001", "ok", None, healthy),
    Case(
        "XTC001",
        "fail",
        "numpy2-abi",
        lambda f: import_of(f, "xtcocotools._mask", error="ValueError", message=SIZE, packages=("xtcocotools",)),
    ),
    Case("XTC001", "fail", "numpy2-abi", lambda f: quick(packages(f, {"numpy": "2.4.6"}))),
    Case("XTC001", "fail", "xtcocotools-install-fail", lambda f: packages(f, {"xtcocotools": None})),
    Case("XTC001", "fail", "xtcocotools-shim", lambda f: unowned(f, "xtcocotools")),
    Case("XTC001", "fail", "xtcocotools-shim", alias_of_pycocotools),
    Case("PKG001", "ok", None, healthy),
    Case("PKG001", "fail", "pkg-resources-gone", lambda f: packages(f, {"setuptools": "82.0.1"})),
    Case("PKG001", "fail", "pkg-resources-gone", lambda f: packages(f, {"setuptools": None})),
    Case("MML001", "ok", None, healthy),
    Case("MML001", "fail", "mmengine-missing", lambda f: packages(f, {"mmengine": None})),
    Case("MML001", "fail", "module-unowned", lambda f: unowned(f, "mmengine")),
    Case(
        "MML001",
        "fail",
        "bytecode-damaged",
        lambda f: import_of(f, "mmengine", error="EOFError", message="marshal data too short"),
    ),
    Case("MML001", "fail", "import-error-swallowed", lambda f: import_of(f, "mmengine", "timeout", message="60 s")),
    Case("MML001", "skip", None, lambda f: packages(f, {"mmengine": None, "mmpose": "0.29.0"})),
    Case("MCV001", "ok", None, healthy),
    Case("MCV001", "fail", "mmcv-missing", lambda f: packages(f, {"mmcv": None})),
    Case("MCV001", "fail", "mmcv-lite-installed", lambda f: packages(f, {"mmcv": None, "mmcv-lite": "2.1.0"})),
    Case("MCV001", "fail", "mmcv-lite-installed", lambda f: packages(f, {"mmcv": "1.7.2"})),
    Case("MCV001", "fail", "mmcv-and-full-both", lambda f: packages(f, {"mmcv-full": "1.7.2"})),
    Case("MCV002", "ok", None, healthy),
    Case(
        "MCV002",
        "fail",
        "mmcv-torch-abi-mismatch",
        lambda f: import_of(f, "mmcv._ext", error="ImportError", message=SYMBOL, packages=("mmcv",)),
    ),
    Case("MCV002", "fail", "mmcv-ext-damaged", lambda f: extension(f, problem="cut-off")),
    Case("MCV002", "fail", "mmcv-ext-damaged", lambda f: extension(f, problem="foreign")),
    Case("MCV002", "fail", "mmcv-ext-damaged", lambda f: quick(extension(f, machine="EM_AARCH64"))),
    Case("MCV002", "fail", "permission-or-lock", lambda f: extension(f, problem="unreadable")),
    Case("MCV002", "ok", None, lambda f: on_host(extension(f, problem="foreign"), os="macos")),
    Case("MCV002", "fail", "mmcv-ext-missing", lambda f: replace(quick(f), extension=None)),
    Case(
        "MCV002",
        "fail",
        "mmcv-cuda-runtime-mismatch",
        lambda f: import_of(f, "mmcv._ext", error="ImportError", message="libcudart.so.11.0: cannot open"),
    ),
    Case("MCV002", "fail", "mmcv-torch-abi-mismatch", lambda f: quick(unfit(f))),
    Case("MCV002", "ok", None, unfit),  # it was loaded
    Case(
        "MCV002",
        "fail",
        "mmcv-cuda-runtime-mismatch",
        lambda f: quick(cpu_torch(extension(unfit(f), needed=("libc10.so", "libc10_cuda.so")))),
    ),
    Case("MCV003", "ok", None, healthy),
    Case(
        "MCV003",
        "fail",
        "gpu-arch-unsupported",
        lambda f: import_of(f, "mmcv.ops", "ok", data={"nms_cuda": "CUDA error: no kernel image is available"}),
    ),
    Case(
        "MCV003",
        "fail",
        "mmcv-cpu-build",
        lambda f: import_of(f, "mmcv.ops", "ok", data={"nms_cuda": "nms_impl: no implementation for device cuda"}),
    ),
    Case(
        "MCV003", "fail", "mmcv-cpu-build", lambda f: quick(with_gpu(extension(f, has_cuda_code=False), "7.5", "535.1"))
    ),
    Case("MCV001", "fail", "mmcv-and-full-both", lambda f: packages(f, {"onedl-mmcv": "2.3.6"})),
    Case("MCV001", "ok", None, lambda f: packages(f, {"mmcv": None, "onedl-mmcv": "2.3.6"})),
    Case("MCV004", "ok", None, healthy),
    Case("MCV004", "fail", "mmcv-version-range", lambda f: packages(f, {"mmcv": None, "onedl-mmcv": "2.3.6"})),
    Case("MCV004", "ok", None, lambda f: packages(f, FORK)),
    Case("MML005", "ok", None, healthy),
    Case("MML005", "ok", None, lambda f: packages(f, FORK)),
    Case("MML005", "fail", "module-owned-twice", lambda f: packages(f, {"onedl-mmengine": "0.10.12"})),
    Case("MML005", "fail", "module-owned-twice", lambda f: packages(f, {"onedl-mmdetection": "3.5.1"})),
    Case("MML001", "ok", None, lambda f: packages(f, FORK)),
    Case("MML002", "ok", None, lambda f: packages(f, FORK)),
    Case("MCV004", "fail", "mmcv-version-range", lambda f: packages(f, {"mmcv": "2.2.0"})),
    Case("MCV004", "fail", "mmlab-generation-mix", lambda f: packages(f, {"mmcv": None, "mmcv-full": "1.7.2"})),
    Case("MCV004", "fail", "mmcv-version-range", lambda f: packages(f, {"mmengine": "0.3.0"})),
    Case("MML002", "ok", None, healthy),
    Case("MML002", "fail", "optional-package-missing", lambda f: packages(f, {"mmdet": None})),
    Case("MML002", "skip", None, lambda f: packages(f, {"mmdet": None, "mmpose": "1.2.0"})),
    Case("MML003", "ok", None, healthy),
    Case("MML003", "fail", "mmpose-missing", lambda f: packages(f, {"mmpose": None})),
    Case("MML003", "skip", None, quick),
    Case(
        "MML003",
        "fail",
        "pkg-resources-gone",
        lambda f: import_of(f, "mmpose.apis", error="ModuleNotFoundError", message="No module named 'pkg_resources'"),
    ),
    Case("MML004", "ok", None, healthy),
    Case(
        "MML004",
        "fail",
        "registry-scope",
        lambda f: import_of(f, "registry", error="KeyError", message="not in the registry: RTMCCHead"),
    ),
    Case("PKG002", "ok", None, healthy),
    Case("PKG002", "warn", "requirement-unmet", lambda f: packages(f, {"pillow": None})),
    Case("PKG003", "ok", None, healthy),
    Case("PKG003", "warn", "openmim-openxlab-pins", lambda f: packages(f, {"openxlab": "0.0.11"})),
    Case("PKG004", "ok", None, lambda f: replace(f, pip_cache=())),
    Case("PKG004", "ok", None, lambda f: pip_kept(f, "mmcv")),
    Case("PKG004", "warn", "pip-cache-poisoned", lambda f: pip_kept(f, "mmcv", **ANOTHER_TORCH)),
    Case("PKG004", "warn", "pip-cache-poisoned", lambda f: pip_kept(f, "mmcv-full", ext=False)),
    Case("PKG004", "warn", "pip-cache-poisoned", lambda f: pip_kept(f, "mmcv", problem="cut-off")),
    Case("PKG004", "skip", None, lambda f: replace(f, pip_cache=Unknown(unknown="pip.conf is broken"))),
    Case("PKG004", "ok", None, lambda f: pip_kept(f, "xtcocotools", "1")),
    Case(
        "PKG004", "warn", "pip-cache-poisoned", lambda f: packages(pip_kept(f, "xtcocotools", "1"), {"numpy": "2.0.1"})
    ),
    Case("PKG004", "ok", None, lambda f: packages(pip_kept(f, "xtcocotools", "2"), {"numpy": "2.0.1"})),
    Case("SMK001", "ok", None, bench(True)),
    Case("SMK001", "fail", "smoke-failed", bench(False)),
    *(Case(*case) for case in CONFIG_CASES),
)


def named(findings: tuple[Finding, ...], check: str) -> Finding:
    return next(finding for finding in findings if finding.id == check)


def roots(findings: tuple[Finding, ...]) -> dict[str, Optional[str]]:
    return {f.id: f.cause for f in findings if f.status == "fail" and not f.caused_by}


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.check}-{case.status}-{case.cause}")
def test_a_check_says_what_the_table_says(case: Case, machine: Machine, matrix: Matrix) -> None:
    finding = named(diagnose(case.change(machine("healthy-cpu")), matrix), case.check)
    assert (finding.status, finding.cause) == (case.status, case.cause)
    assert finding.detail
    assert (finding.fix.kind == "none") == (case.status in ("ok", "skip"))


# The same in every language: commands, paths, names with their versions.
PLACEHOLDER = re.compile(r"{\w+}")
DATA_ALONE = re.compile(r"|(mmdoctor|python) .*|/\S+|[\w.-]+ \d[\w.+]*(, [\w.-]+ \d[\w.+]*)*")


def test_every_finding_has_its_chinese(machine: Machine, matrix: Matrix) -> None:
    """Whatever any case makes any check say. What stands in no template comes out as it went in."""
    said = {check.title for check in CHECKS}
    for case in CASES:
        for finding in diagnose(case.change(machine("healthy-cpu")), matrix):
            said |= {finding.detail, finding.fix.summary}
    assert {text for text in said if recognised(text) == text and not DATA_ALONE.fullmatch(text)} == set()
    for english, translation in chinese(OF_FINDINGS).items():
        assert sorted(PLACEHOLDER.findall(english)) == sorted(PLACEHOLDER.findall(translation)), english


def test_a_report_speaks_chinese_when_asked(machine: Machine, matrix: Matrix) -> None:
    natural = str(DATA / "machines" / "natural-breakage.json")
    text = command("check", "--facts", natural, environment={"LC_ALL": "", "LC_MESSAGES": "", "LANG": "zh_CN.UTF-8"})
    assert "不健康" in text.stdout
    assert "torchvision 与此 torch 配套" in text.stdout
    plain = json.loads(command("check", "--facts", natural, "--format", "json", environment={"LANG": "zh_CN.UTF-8"})[1])
    asked = json.loads(command("check", "--facts", natural, "--format", "json", "--lang", "zh").stdout)
    keys = ("id", "cause", "caused_by", "evidence", "docs", "status")
    assert (plain["lang"], asked["lang"]) == ("en", "zh")
    assert [[f[key] for key in keys] for f in plain["findings"]] == [
        [f[key] for key in keys] for f in asked["findings"]
    ]
    assert all(f["title"].isascii() for f in plain["findings"])
    assert not any(f["title"].isascii() for f in asked["findings"])


def test_the_page_of_a_check_names_its_causes() -> None:
    file = Path(checks.__file__).with_name("pages.yaml")
    pages = yaml.safe_load(file.read_text(encoding="utf-8"))
    assert pages.keys() == {check.id for check in CHECKS}
    assert [case for case in CASES if case.cause and case.cause not in pages[case.check]["causes"]] == []
    assert all(page["causes"] == sorted(set(page["causes"])) for page in pages.values())


def test_every_check_has_a_passing_and_a_failing_case() -> None:
    ids = [check.id for check in CHECKS if check.id != "RUN001"]  # speaks where a look was ended, and leaves it open
    assert len(ids) == len(set(ids))
    assert {case.check for case in CASES if case.status == "ok"} == set(ids)
    assert {case.check for case in CASES if case.status in ("fail", "warn")} == set(ids)


@pytest.mark.parametrize("change", [healthy, quick], ids=["imported", "quick"])
def test_a_healthy_machine_has_nothing_to_say(
    change: Callable[[Facts], Facts], machine: Machine, matrix: Matrix
) -> None:
    findings = diagnose(change(machine("healthy-cpu")), matrix)
    assert {finding.status for finding in findings} <= {"ok", "skip"}
    assert verdict(findings, "warn") == 0


def test_the_natural_breakage_has_three_roots_and_what_follows_from_them(machine: Machine, matrix: Matrix) -> None:
    findings = diagnose(machine("natural-breakage"), matrix)
    expected = {"TVN001": "torchvision-mismatch", "XTC001": "numpy2-abi", "MCV004": "mmcv-version-range"}
    assert roots(findings) == expected
    caused = {finding.id: finding.caused_by for finding in findings if finding.caused_by}
    assert caused == {"MML002": ("MCV004",), "MML003": ("XTC001",), "MML004": ("XTC001",)}
    assert [bool(finding.caused_by) for finding in findings] == sorted(bool(f.caused_by) for f in findings)
    assert named(findings, "MML003").evidence[1] == "raised in: mmpose → xtcocotools"
    assert verdict(findings, "fail") == 1


def test_the_three_roots_show_without_an_import(machine: Machine, matrix: Matrix) -> None:
    findings = diagnose(quick(machine("natural-breakage")), matrix)
    expected = {"TVN001": "torchvision-mismatch", "XTC001": "numpy2-abi", "MCV004": "mmcv-version-range"}
    assert roots(findings) == expected


def test_what_was_not_imported_is_not_reported_as_passed(machine: Machine, matrix: Matrix) -> None:
    findings = diagnose(quick(machine("healthy-cpu")), matrix)
    for check in ("TRC001", "OCV001", "MML001", "MML002", "MML003", "MML004", "MCV002"):
        assert named(findings, check).status == "skip", check


@pytest.mark.parametrize("state", ["absent", "broken"])
def test_of_a_dead_interpreter_nothing_else_is_said(state: str, machine: Machine, matrix: Matrix) -> None:
    findings = diagnose(on_target(machine("natural-breakage"), state=state), matrix)
    assert [finding.id for finding in findings] == ["ENV001"]


# ---------------------------------------------------------------------------------------------- causes behind causes


def every_import(facts: Facts, status: str, skip: tuple[str, ...] = (), **fields: object) -> Facts:
    for result in facts.imports:
        if result.module not in skip:
            facts = import_of(facts, result.module, status, **fields)
    return facts


@pytest.mark.parametrize("status", ["timeout", "crash"])
def test_a_torch_that_hangs_or_crashes_is_the_one_root(status: str, machine: Machine, matrix: Matrix) -> None:
    alone = ("numpy", "torch", "cv2", "xtcocotools._mask")
    facts = every_import(machine("healthy-cpu"), "skipped", alone, message=f"import torch ended in a {status}")
    findings = diagnose(import_of(facts, "torch", status, message="no answer"), matrix)
    assert roots(findings) == {"TRC001": "torch-install-broken"}
    for check in ("NPY001", "TVN001", "MML001", "MCV002", "MCV003", "MML002", "MML003", "MML004"):
        finding = named(findings, check)
        assert (finding.status, finding.severity, finding.caused_by) == ("skip", "error", ("TRC001",)), check
    assert verdict(findings, "fail") == 1


def test_a_torch_that_does_not_import_explains_all_that_import_it(machine: Machine, matrix: Matrix) -> None:
    alone = ("numpy", "torch", "cv2", "xtcocotools._mask")
    broken = {"error": "ImportError", "message": "libcupti.so.12: undefined symbol: cuptiData", "packages": ("torch",)}
    facts = import_of(machine("healthy-cpu"), "torch", **broken)
    facts = every_import(facts, "error", alone, **broken)
    findings = diagnose(facts, matrix)
    assert roots(findings) == {"TRC001": "torch-install-broken"}
    assert named(findings, "NPY001").caused_by == ("TRC001",)


def test_an_import_that_was_skipped_alone_leaves_the_verdict_open(machine: Machine, matrix: Matrix) -> None:
    facts = import_of(machine("healthy-cpu"), "mmpose.apis", "skipped", message="the deadline of the whole was reached")
    findings = diagnose(facts, matrix)
    assert named(findings, "MML003").status == "skip"
    assert verdict(findings, "fail") == 3


def test_a_look_that_was_ended_leaves_the_verdict_open(machine: Machine, matrix: Matrix) -> None:
    ended = replace(
        quick(machine("healthy-cpu")), unfinished="the deadline of 5 s ended the look while importing torch"
    )
    findings = diagnose(ended, matrix)
    assert named(findings, "RUN001").detail.endswith("while importing torch")
    assert verdict(findings, "fail") == 3
    unseen = on_target(ended, state="broken")
    assert [finding.id for finding in diagnose(unseen, matrix)] == ["RUN001"]
    assert verdict(diagnose(replace(unseen, unfinished=None), matrix), "fail") == 1


def test_a_driver_that_does_not_answer_leaves_the_verdict_open(machine: Machine, matrix: Matrix) -> None:
    assert verdict(diagnose(driver("did not answer")(machine("healthy-cpu")), matrix), "fail") == 3


def test_warnings_fail_only_where_asked(machine: Machine, matrix: Matrix) -> None:
    findings = diagnose(packages(machine("healthy-cpu"), {"openxlab": "0.0.11"}), matrix)
    assert (verdict(findings, "fail"), verdict(findings, "warn")) == (0, 1)


def test_a_check_that_raises_is_a_finding_and_hides_no_other(
    machine: Machine, matrix: Matrix, monkeypatch: pytest.MonkeyPatch
) -> None:
    def judge(facts: Facts, matrix: Matrix) -> Verdict:
        raise ZeroDivisionError("a bug")

    bad = Check(id="BAD001", title="a check with a bug", why="", judge=judge)
    monkeypatch.setattr(checks, "CHECKS", (*CHECKS[:1], bad, *CHECKS[1:]))
    findings = diagnose(machine("healthy-cpu"), matrix)
    finding = named(findings, "BAD001")
    assert (finding.status, finding.severity) == ("crash", "error")
    assert "ZeroDivisionError: a bug (judge, line " in finding.evidence[0]
    not_recorded = {"RUN001", "GPU002", "GPU003", "GPU004", "HST001", "HST002", "PKG004", "SMK001"}
    asked_for = {check.id for check in (*config.CHECKS, *checkpoint.CHECKS)}
    assert {check.id for check in CHECKS} - not_recorded - asked_for < {f.id for f in findings}
    assert summarise(findings).crash == 1
    assert verdict(findings, "fail") == 3


def test_a_torch_that_was_swapped_explains_what_was_built_for_the_other(machine: Machine, matrix: Matrix) -> None:
    findings = diagnose(swapped_torch(machine("healthy-cpu")), matrix)
    assert roots(findings) == {"TRC002": "torch-silently-replaced"}
    assert named(findings, "TVN001").caused_by == named(findings, "MCV002").caused_by == ("TRC002",)


def test_an_unmet_requirement_follows_from_what_broke_either_package(machine: Machine, matrix: Matrix) -> None:
    facts = packages(machine("healthy-cpu"), {"xtcocotools": None})
    assert named(diagnose(facts, matrix), "PKG002").caused_by == ("XTC001",)
    facts = packages(facts, {"pillow": None})  # one more, which nothing else explains
    assert named(diagnose(facts, matrix), "PKG002").caused_by == ()


def test_the_package_that_an_assertion_asks_for_is_the_suspect(machine: Machine, matrix: Matrix) -> None:
    """Recorded: mmcv-full 1.7.2 over mmcv 2.1.0."""
    said = "MMCV==1.7.2 is used but incompatible. Please install mmcv>=2.0.0rc4, <2.2.0."
    facts = packages(machine("healthy-cpu"), {"mmcv-full": "1.7.2"})
    facts = import_of(facts, "mmdet", error="AssertionError", message=said, packages=("mmdet",))
    findings = diagnose(facts, matrix)
    assert named(findings, "MML002").caused_by == ("MCV001",)


def test_a_crash_is_laid_where_it_happened(machine: Machine, matrix: Matrix) -> None:
    """Recorded: the linker dies of SIGBUS in a library without its end."""
    died = {"signal": 7, "message": "the interpreter died of signal 7"}
    facts = extension(machine("healthy-cpu"), problem="cut-off")
    for module, through in (("mmcv._ext", ()), ("mmpose.apis", ("mmpose", "mmcv")), ("registry", ("mmpose", "mmcv"))):
        facts = import_of(facts, module, "crash", packages=through, **died)
    findings = diagnose(facts, matrix)
    assert roots(findings) == {"MCV002": "mmcv-ext-damaged"}
    facts = distribution(machine("healthy-cpu"), "scipy", damaged_files=("scipy/linalg/_fblas.so",))
    findings = diagnose(import_of(facts, "mmpose.apis", "crash", packages=("mmpose", "scipy"), **died), matrix)
    assert roots(findings) == {"ENV002": "distribution-damaged"}


def test_of_mmcvs_binary_its_own_check_says_more_than_the_list_of_files(machine: Machine, matrix: Matrix) -> None:
    facts = distribution(machine("healthy-cpu"), "mmcv", damaged_files=("mmcv/_ext.cpython-311-x86_64-linux-gnu.so",))
    findings = diagnose(extension(facts, problem="cut-off"), matrix)
    assert roots(findings) == {"MCV002": "mmcv-ext-damaged"}
    assert named(findings, "ENV002").caused_by == ("MCV002",)


def test_a_lost_cuda_library_explains_torch(machine: Machine, matrix: Matrix) -> None:
    facts = machine("healthy-cpu")
    facts = distribution(facts, "torch", requires=("nvidia-cublas-cu12==12.1.3.1",))
    facts = packages(facts, {"nvidia-cublas-cu12": "12.1.3.1"})
    facts = distribution(facts, "nvidia-cublas-cu12", missing_files=("nvidia/cublas/lib/libcublas.so.12",))
    said = "libcublas.so.12: cannot open shared object file: No such file or directory"
    facts = import_of(facts, "torch", error="ImportError", message=said, packages=("torch",))
    assert roots(diagnose(facts, matrix)) == {"ENV002": "distribution-damaged"}


def test_opencv_without_libgl_explains_mmcv(machine: Machine, matrix: Matrix) -> None:
    said = {"error": "ImportError", "message": LIBGL, "data": {"missing": "cv2"}}
    facts = import_of(machine("healthy-cpu"), "cv2", **said, packages=("cv2",))
    for module in ("mmcv", "mmcv._ext", "mmdet"):
        facts = import_of(facts, module, **said, packages=(module.split(".")[0], "mmcv", "cv2"))
    findings = diagnose(facts, matrix)
    assert roots(findings) == {"OCV001": "libgl-missing"}
    assert named(findings, "MCV002").caused_by == named(findings, "MML002").caused_by == ("OCV001",)


def test_a_foreign_library_explains_all_that_torch_takes_down(machine: Machine, matrix: Matrix) -> None:
    said = "/usr/local/cuda/lib64/libnvJitLink.so.12: version `libnvJitLink.so.12' not found"
    alone = ("numpy", "cv2", "xtcocotools._mask", "mmengine")
    facts = every_import(
        loader(machine("healthy-cpu"), "libnvJitLink.so.12"),
        "error",
        alone,
        error="ImportError",
        message=said,
        packages=("torch",),
    )
    steps = tuple(result.module for result in facts.imports if result.status == "error")
    findings = diagnose(replace(facts, retries=(without("LD_LIBRARY_PATH", *steps),)), matrix)
    assert roots(findings) == {"ENV007": "library-path-foreign"}
    assert named(findings, "TRC001").caused_by == named(findings, "MML003").caused_by == ("ENV007",)
    assert named(findings, "ENV007").fix.kind == "manual"
    assert "without LD_LIBRARY_PATH it works: torch" in " ".join(named(findings, "ENV007").evidence)


@pytest.mark.parametrize("look", [healthy, quick], ids=["imported", "quick"])
def test_numpy_of_the_user_site_explains_what_was_built_for_another(
    look: Callable[[Facts], Facts], machine: Machine, matrix: Matrix
) -> None:
    facts = leaking(machine("healthy-cpu"), "numpy")
    facts = import_of(facts, "torch.numpy", error="RuntimeError", message="Numpy is not available")
    facts = import_of(facts, "xtcocotools._mask", error="ValueError", message=SIZE, packages=("xtcocotools",))
    findings = diagnose(look(facts), matrix)
    assert roots(findings) == {"ENV006": "user-site-leak"}
    assert named(findings, "ENV006").evidence == (f"numpy 2.4.6 of {USER_SITE} hides 1.26.4",)
    assert named(findings, "NPY001").caused_by == named(findings, "XTC001").caused_by == ("ENV006",)


def test_what_a_base_or_the_user_holds_is_not_the_environments_to_keep(machine: Machine, matrix: Matrix) -> None:
    facts = machine("healthy-cpu")
    wants = {"version": "1.0", "requires": ("nothing-at-all",)}
    base = Distribution(name="of-the-base", folder=f"{facts.target.base_prefix}/lib/site-packages", **wants)
    users = Distribution(name="of-the-user", folder=USER_SITE, **wants)
    checkout = Distribution(name="a-checkout", folder="/srv/work/checkout", **wants)
    held = (*facts.target.distributions, base, users)
    facts = on_target(facts, user_site=USER_SITE, distributions=held)
    assert named(diagnose(facts, matrix), "PKG002").status == "ok"
    facts = on_target(facts, distributions=(*held, checkout))
    assert "a-checkout 1.0 wants nothing-at-all" in " ".join(named(diagnose(facts, matrix), "PKG002").evidence)


def test_of_two_distributions_the_first_on_the_path_counts(machine: Machine) -> None:
    target = leaking(machine("healthy-cpu"), "numpy").target
    assert target.version("numpy") == "2.4.6"  # imported
    assert target.installed["numpy"].version == "1.26.4"  # what a plan reckons with
    base = Distribution(name="numpy", version="1.19.5", folder=f"{target.base_prefix}/lib/site-packages")
    target = replace(target, distributions=(*target.distributions, base))
    assert target.installed["numpy"].version == "1.26.4"


def test_an_editable_package_whose_checkout_is_gone(machine: Machine, matrix: Matrix) -> None:
    facts = distribution(startup(machine("healthy-cpu"), "pth", missing=("/srv/mmpose",)), "mmpose", record="editable")
    lost = {"error": "ModuleNotFoundError", "message": "No module named 'mmpose'", "data": {"missing": "mmpose"}}
    for module in ("mmpose", "mmpose.apis", "registry"):
        facts = import_of(facts, module, **lost)
    findings = diagnose(facts, matrix)
    assert roots(findings) == {"ENV005": "startup-file-broken"}
    assert named(findings, "MML003").caused_by == ("ENV005",)
    # Without such a package, a folder that is gone explains nothing.
    findings = diagnose(distribution(facts, "mmpose", record="present"), matrix)
    assert "MML003" in roots(findings)


def test_a_dead_interpreter_gets_the_command_that_revives_it(machine: Machine, matrix: Matrix) -> None:
    others = ("/opt/3.11.8/bin/python3.11", "/opt/3.11.9/bin/python3.11")
    gone = Breakage(kind="gone", culprit="/opt/3.11.7/bin/python3.11", others=others)
    facts = on_target(machine("healthy-cpu"), state="broken", problem="gone", breakage=gone)
    summary = named(diagnose(facts, matrix), "ENV001").fix.summary
    assert summary.startswith("ln -sfn /opt/3.11.9/bin/python3.11 /srv/pose/env/bin/python ")


def test_an_import_outranks_what_the_linker_lists(machine: Machine, matrix: Matrix) -> None:
    facts = packages(machine("healthy-cpu"), {"opencv-python-headless": None, "opencv-python": "4.11.0.86"})
    assert named(diagnose(on_host(facts, libgl=False), matrix), "OCV001").status == "ok"


def test_files_that_are_gone_explain_the_import(machine: Machine, matrix: Matrix) -> None:
    facts = distribution(machine("healthy-cpu"), "opencv-python-headless", missing_files=("cv2/cv2.abi3.so",))
    said = "No module named 'cv2.cv2'"
    facts = import_of(facts, "cv2", error="ModuleNotFoundError", message=said, packages=("cv2",))
    findings = diagnose(facts, matrix)
    assert roots(findings) == {"ENV002": "distribution-damaged"}
    assert named(findings, "OCV001").caused_by == ("ENV002",)


def test_mmcv_lite_explains_the_missing_ops(machine: Machine, matrix: Matrix) -> None:
    facts = packages(machine("healthy-cpu"), {"mmcv": None, "mmcv-lite": "2.1.0"})
    for module in ("mmcv._ext", "mmcv.ops", "mmpose.apis"):
        said = "No module named 'mmcv._ext'"
        facts = import_of(facts, module, error="ModuleNotFoundError", message=said, data={"missing": "mmcv._ext"})
    findings = diagnose(facts, matrix)
    assert roots(findings) == {"MCV001": "mmcv-lite-installed"}
    assert {f.id for f in findings if f.caused_by == ("MCV001",)} == {"MCV002", "MCV003", "MML003"}


def test_setuptools_hides_no_other_missing_module(machine: Machine, matrix: Matrix) -> None:
    facts = packages(machine("healthy-cpu"), {"setuptools": "82.0.0"})
    gone = "No module named 'pkg_resources'"
    missing = {"missing": "pkg_resources"}
    facts = import_of(facts, "mmpose.apis", error="ModuleNotFoundError", message=gone, data=missing)
    other = "No module named 'addict'"
    through = ("mmengine",)
    facts = import_of(
        facts, "mmengine", error="ModuleNotFoundError", message=other, data={"missing": "addict"}, packages=through
    )
    findings = diagnose(facts, matrix)
    assert set(roots(findings)) == {"PKG001", "MML001"}
    assert named(findings, "MML003").caused_by == ("PKG001",)


def test_an_old_driver_explains_a_gpu_that_torch_does_not_see(machine: Machine, matrix: Matrix) -> None:
    findings = diagnose(with_gpu(machine("healthy-cpu"), "7.5", "470.256.02", cuda_available=False), matrix)
    assert roots(findings) == {"GPU002": "driver-too-old"}
    assert named(findings, "GPU004").caused_by == ("GPU002",)


def test_ptx_alone_takes_the_toolkits_own_driver(machine: Machine, matrix: Matrix) -> None:
    """Error 222: an older driver of the same major runs machine code, and does not compile newer PTX. A cuda-compat
    package before it does both."""
    ptx = tuple(replace(row, sass=("8.6",), ptx=("7.0",)) if row.torch == "2.1.2" else row for row in matrix.archs)
    facts = with_gpu(machine("healthy-cpu"), "7.5", "525.60.13")
    assert named(diagnose(facts, matrix), "GPU003").status == "ok"
    findings = diagnose(facts, replace(matrix, archs=ptx))
    assert named(findings, "GPU002").status == "ok"
    found = named(findings, "GPU003")
    assert (found.status, found.cause) == ("fail", "driver-too-old")
    assert "PTX of CUDA 12.1 is compiled by driver 530.30.02 or newer" in found.evidence
    compat = replace(facts, gpu=replace(facts.gpu, cuda_ceiling="12.4"))
    assert named(diagnose(compat, replace(matrix, archs=ptx)), "GPU003").status == "ok"


def test_a_compat_package_makes_an_old_driver_run_newer_cuda(machine: Machine, matrix: Matrix) -> None:
    facts = with_gpu(machine("healthy-cpu"), "8.0", "470.256.02")
    assert named(diagnose(facts, matrix), "GPU002").status == "fail"
    found = named(diagnose(replace(facts, gpu=replace(facts.gpu, cuda_ceiling="12.4")), matrix), "GPU002")
    assert found.status == "ok"
    assert "cuda-compat" in found.detail


def test_a_smoke_that_fails_is_laid_at_the_roots_door(machine: Machine, matrix: Matrix) -> None:
    findings = diagnose(bench(False)(machine("natural-breakage")), matrix)
    assert named(findings, "SMK001").caused_by == ("XTC001",)


def test_mmpose_0_is_healthy_without_mmengine(machine: Machine, matrix: Matrix) -> None:
    old = {"mmengine": None, "mmdet": None, "mmcv": None, "mmcv-full": "1.7.0", "mmpose": "0.29.0"}
    facts = packages(machine("healthy-cpu"), old)
    facts = replace(facts, imports=tuple(r for r in facts.imports if r.module not in ("mmengine", "mmdet")))
    assert roots(diagnose(facts, matrix)) == {}


# ---------------------------------------------------------------------------------------------- pretended and foreign


def test_a_pretended_list_is_judged_by_what_pypi_has(machine: Machine, matrix: Matrix) -> None:
    listed = "torch==2.1.2,torchvision==0.16.2,numpy==2.0.1,xtcocotools==1.14.3,mmcv==2.1.0,mmpose==1.3.2,mmdet==3.2.0"
    more = "mmengine==0.10.7,setuptools==69.5.1,opencv-python==4.11.0.86"
    settings = ("gpu=7.5", "driver=535.104.05", f"installed={listed},{more}")
    findings = diagnose(pretend(machine("healthy-cpu"), settings), matrix)
    assert roots(findings) == {"NPY001": "numpy2-abi"}
    assert named(findings, "XTC001").caused_by == ("NPY001",)
    assert named(findings, "GPU002").status == "ok"  # PyPI's torch 2.1.2 is a CUDA build
    assert named(findings, "MCV002").status == "skip"  # there is no folder to look for _ext in


def test_markers_are_those_of_the_target(machine: Machine, matrix: Matrix) -> None:
    requires = (
        "nothing-1; sys_platform == 'win32'",
        "nothing-2; python_full_version < '3.11.7'",
        "nothing-3; platform_machine == 'aarch64'",
        "nothing-4; extra == 'test'",
        "not a requirement",
    )
    facts = distribution(machine("healthy-cpu"), "tqdm", requires=requires)
    assert named(diagnose(facts, matrix), "PKG002").status == "ok"
    windows = diagnose(on_host(facts, os="windows"), matrix)
    assert "nothing-1" in named(windows, "PKG002").evidence[-1]
    arm = diagnose(on_host(facts, machine="aarch64"), matrix)
    assert "nothing-3" in " ".join(named(arm, "PKG002").evidence)


def test_a_version_that_is_none_crashes_no_check(machine: Machine, matrix: Matrix) -> None:
    facts = packages(machine("healthy-cpu"), {"mmengine": "unknown", "pillow": "not.a.version"})
    assert not [finding for finding in diagnose(facts, matrix) if finding.status == "crash"]


def test_the_recorded_machines_are_whole() -> None:
    for name in ("healthy-cpu", "natural-breakage"):
        facts = load_machine(name)
        assert (len(facts.imports), facts.quick, facts.pretended) == (14, False, ())


def test_a_binary_of_another_torch_says_which(machine: Machine, matrix: Matrix) -> None:
    said = "mmcv._ext was compiled for torch 2.1 to 2.3: "
    said += "torch 2.1.2+cu121 does not export its form of at::_ops::zeros::call"
    facts = unfit(machine("healthy-cpu"))
    said += " and of 10 more"
    assert named(diagnose(quick(facts), matrix), "MCV002").evidence == (said,)
    broken = import_of(facts, "mmcv._ext", error="ImportError", message=SYMBOL, packages=("mmcv",))
    assert named(diagnose(broken, matrix), "MCV002").evidence[-1] == said
    untold = extension(facts, built_for=None, missing_count=1)
    assert (
        named(diagnose(quick(untold), matrix), "MCV002")
        .evidence[0]
        .startswith("mmcv._ext was compiled for another torch: ")
    )


def test_a_library_that_is_nowhere_is_what_the_linker_would_say(machine: Machine, matrix: Matrix) -> None:
    facts = extension(machine("healthy-cpu"), absent=("libcudart.so.11.0",))
    found = named(diagnose(quick(facts), matrix), "MCV002")
    assert (found.status, found.cause) == ("fail", "mmcv-cuda-runtime-mismatch")
    assert found.evidence == ("libcudart.so.11.0: cannot open shared object file",)
    assert named(diagnose(facts, matrix), "MCV002").status == "ok"  # it was imported: the linker knows better


def test_without_an_import_the_symbols_witness_that_torch_was_swapped(machine: Machine, matrix: Matrix) -> None:
    facts = quick(unfit(on_torch(machine("healthy-cpu"), "2.4.1")))
    findings = diagnose(facts, matrix)
    assert roots(findings) == {"TRC002": "torch-silently-replaced"}
    assert named(findings, "MCV002").caused_by == named(findings, "TVN001").caused_by == ("TRC002",)


def test_a_poisoned_wheel_names_its_file_and_how_to_be_rid_of_it(machine: Machine, matrix: Matrix) -> None:
    facts = pip_kept(machine("healthy-cpu"), "mmcv-full", ext=False)
    finding = named(diagnose(facts, matrix), "PKG004")
    assert finding.evidence[0].endswith(
        "mmcv-full 2.1.0 holds no compiled ops: no torch was in sight when it was built"
    )
    assert finding.fix.kind == "manual"
    assert finding.fix.summary == "python -m pip cache remove mmcv_full"
