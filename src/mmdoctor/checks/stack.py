"""Checks of the coupled packages: torch, torchvision, NumPy, OpenCV, xtcocotools, mmcv, mmengine, mmdet, mmpose."""

from __future__ import annotations

from typing import Callable, Optional

import msgspec

from mmdoctor import rules
from mmdoctor.checks.base import (
    Check,
    Verdict,
    fail,
    failed_import,
    manual,
    not_imported,
    ok,
    skip,
    warn,
)
from mmdoctor.checks.signatures import cause_of
from mmdoctor.matrix_model import Matrix
from mmdoctor.model import Facts, Fix

# mmpose lists it and never imports it (facts: chumpy_unused); mmdoctor leaves it out unless asked.
UNUSED_REQUIREMENTS = frozenset({"chumpy"})


def _imported(facts: Facts, step: str, cause: str, *about: str) -> Optional[Verdict]:
    """The verdict on an import that did not end well; None when it did, or was not tried."""
    result = facts.imported(step)
    if result is None or result.status == "ok":
        return None
    return failed_import(result, cause_of(result) or cause, about)


def torch_imports(facts: Facts, matrix: Matrix) -> Optional[Verdict]:
    version = facts.target.version("torch")
    if version is None:
        return fail("torch is not installed", "torch-missing", about=("torch",))
    build = facts.target.torch.version if facts.target.torch else version
    broken = _imported(facts, "torch", "torch-install-broken", "torch")
    if broken:
        return broken
    return ok(f"torch {build}") if facts.imported("torch") else not_imported(f"torch {build}")


def torch_takes_numpy(facts: Facts, matrix: Matrix) -> Optional[Verdict]:
    torch, numpy = facts.target.version("torch"), facts.target.version("numpy")
    if torch is None:
        return None
    if numpy is None:
        return fail("numpy is not installed", "numpy-missing", about=("numpy",))
    broken = _imported(facts, "numpy", "numpy-broken", "numpy")
    if broken:
        return broken
    result = facts.imported("torch.numpy")
    row = rules.torch_row(matrix, torch)
    generation = rules.numpy_generation(numpy)
    if result is not None and result.status != "ok":
        detail = f"torch {torch} cannot take arrays of numpy {numpy}"
        broken = failed_import(result, cause_of(result) or "numpy2-abi", ())
        return broken if result.status == "skipped" else msgspec.structs.replace(broken, detail=detail)
    if result is None and row is not None and generation > row.numpy:
        return fail(f"torch {torch} was built for NumPy {row.numpy}, numpy {numpy} is installed", "numpy2-abi")
    return ok(f"torch {torch} takes numpy {numpy}") if result or row else not_imported(f"torch {torch}, numpy {numpy}")


def torchvision_fits(facts: Facts, matrix: Matrix) -> Optional[Verdict]:
    target = facts.target
    vision, torch = target.version("torchvision"), target.torch
    variant = rules.torch_variant(matrix, facts)
    if vision is None or torch is None:
        return skip("torchvision is not installed", needed=False) if torch else None
    evidence: list[str] = []
    row = rules.torch_row(matrix, torch.version)
    if row is not None and row.torchvision and rules.public(vision) not in row.torchvision:
        evidence.append(f"torch {torch.version} belongs to torchvision {' or '.join(row.torchvision)}, not {vision}")
    build = target.torchvision_build or vision
    label = build.partition("+")[2].partition(".")[0]
    if label and variant != label:
        evidence.append(f"torch is a {variant} build, torchvision a {label} build ({build})")
    broken = _imported(facts, "torchvision", "torchvision-mismatch", "torchvision")
    if broken and broken.status == "fail" and evidence:
        detail = f"torchvision {build} does not belong to torch {torch.version}"
        return fail(detail, "torchvision-mismatch", *evidence, *broken.evidence, about=("torchvision",))
    if broken:
        return broken
    if evidence and facts.imported("torchvision") is None:
        return fail(
            "torchvision does not belong to this torch", "torchvision-mismatch", *evidence, about=("torchvision",)
        )
    if evidence:
        return warn("torchvision imports, but is not this torch's pair", "torchvision-mismatch", *evidence)
    return ok(f"torchvision {vision} belongs to torch {torch.version}")


def one_opencv(facts: Facts, matrix: Matrix) -> Optional[Verdict]:
    flavours = [d for d in facts.target.distributions if d.name in rules.OPENCV_NAMES]
    if not flavours:
        return fail("OpenCV is not installed", "opencv-missing", about=("cv2",))
    listed = ", ".join(f"{d.name} {d.version}" for d in flavours)
    broken = _imported(facts, "cv2", "opencv-broken", "cv2")
    if broken:
        return broken
    if len(flavours) > 1:
        return warn("several distributions own the one cv2 folder", "opencv-both", listed)
    looked = facts.imported("cv2")
    gui = flavours[0].name in ("opencv-python", "opencv-contrib-python") and facts.host.os == "linux"
    if looked is None and gui and facts.host.libgl is False:
        return fail(
            "OpenCV's GUI build without the system's OpenGL library",
            "libgl-missing",
            f"{listed}, and libGL.so.1 is not on this machine",
            about=("cv2",),
        )
    return ok(listed) if looked else not_imported(listed)


def numpy_bound(package: str, module: str) -> Check:
    def judge(facts: Facts, matrix: Matrix) -> Optional[Verdict]:
        target = facts.target
        installed = next((d for d in target.distributions if d.name == package), None)
        numpy = target.version("numpy")
        if installed is None:
            if target.version("mmpose") is None:
                return None
            return fail(f"{package} is not installed", "xtcocotools-install-fail", about=(package,))
        result = facts.imported(module)
        broken = _imported(facts, module, "numpy-dtype-size", package)
        row = rules.binary_row(matrix, package, installed.version)
        old = row is not None and row.built_on == "1" and rules.prebuilt(installed, row, facts)
        wheel = f"wheel {installed.tag or 'of the index'}"
        if broken:
            return Verdict(
                status=broken.status,
                detail=f"{package} {installed.version} does not load with numpy {numpy}",
                evidence=(*broken.evidence, *((f"{wheel}, built for NumPy 1",) if old else ())),
                cause=broken.cause,
                about=(package,),
                failed=broken.failed,
                fix=broken.fix,
            )
        if result is None and old and numpy and rules.numpy_generation(numpy) == "2":
            detail = f"the wheel of {package} {installed.version} was built for NumPy 1; numpy {numpy} is installed"
            return fail(detail, "numpy2-abi", wheel, about=(package,))
        said = f"{package} {installed.version} with numpy {numpy}"
        return ok(said) if result else not_imported(said)

    return Check(
        id="XTC001",
        title=f"{package} loads with this NumPy",
        why="Its wheels were built for NumPy 1 and declare no upper bound, so pip puts NumPy 2 beside them.",
        judge=judge,
    )


def one_mmcv(facts: Facts, matrix: Matrix) -> Optional[Verdict]:
    found = [d for d in facts.target.distributions if d.name in rules.MMCV_NAMES]
    listed = ", ".join(f"{d.name} {d.version}" for d in found)
    if not found:
        return fail("mmcv is not installed", "mmcv-missing", about=("mmcv",))
    if len(found) > 1:
        return fail("several distributions own the one mmcv folder", "mmcv-and-full-both", listed, about=("mmcv",))
    only = found[0]
    if only.name == "mmcv-lite" or (only.name == "mmcv" and only.version.startswith("1.")):
        return fail(f"{listed} is the distribution without ops", "mmcv-lite-installed", listed, about=("mmcv",))
    return ok(listed)


def mmcv_ext_loads(facts: Facts, matrix: Matrix) -> Optional[Verdict]:
    target = facts.target
    found = next((d for d in target.distributions if d.name in rules.MMCV_NAMES), None)
    if found is None:
        return None
    for step in ("mmcv", "mmcv._ext"):
        broken = _imported(facts, step, "mmcv-ext-missing", "mmcv")
        if broken:
            return broken
    said = f"mmcv._ext of {found.name} {found.version}"
    if facts.imported("mmcv._ext"):
        return ok(said)
    if facts.extension is None and found.folder:  # a pretended distribution has no folder to look into
        detail = f"{found.name} {found.version} holds no _ext"
        return fail(detail, "mmcv-ext-missing", about=("mmcv",), rests_on=("MCV001",))
    return not_imported(said)


def mmcv_op_runs(facts: Facts, matrix: Matrix) -> Optional[Verdict]:
    broken = _imported(facts, "mmcv.ops", "mmcv-torch-abi-mismatch", "mmcv.ops")
    if broken:
        return broken
    result = facts.imported("mmcv.ops")
    if result is None:
        return None
    on_gpu = result.data.get("nms_cuda")
    if on_gpu not in (None, "ok"):
        cause = "gpu-arch-unsupported" if "no kernel image" in on_gpu else "mmcv-cpu-build"
        return fail("nms runs on the CPU, not on the GPU", cause, on_gpu, rests_on=("GPU002", "GPU003"))
    where = "CPU and GPU" if on_gpu else "CPU"
    return ok(f"nms on {where}, compiled with {result.data.get('compiler')}, CUDA {result.data.get('compiling_cuda')}")


def ranges_hold(facts: Facts, matrix: Matrix) -> Optional[Verdict]:
    target = facts.target
    mmcv = next((d for d in target.distributions if d.name in rules.MMCV_NAMES), None)
    mmengine = target.version("mmengine")
    wrong: list[str] = []
    about: list[str] = []
    mixed = False
    for project in ("mmdet", "mmpose", "mmpretrain"):
        version = target.version(project)
        row = rules.mmlab_row(matrix, project, version) if version else None
        if row is None:
            continue
        wanted = {"mmcv": row.mmcv, "mmengine": row.mmengine}
        for name, have in (("mmcv", mmcv.version if mmcv else None), ("mmengine", mmengine)):
            if have is not None and not rules.within(have, wanted[name]):
                wrong.append(f"{project} {version} accepts {name} {wanted[name]}; {have} is installed")
                about.append(project)
                mixed = mixed or (name == "mmcv" and _generation(have) != _generation(str(row.mmcv).lstrip("<>=")))
    if wrong:
        cause = "mmlab-generation-mix" if mixed else "mmcv-version-range"
        return fail("versions outside the ranges asserted at import", cause, *wrong, about=tuple(about))
    return ok("mmcv and mmengine are inside every range") if mmcv else None


def _generation(version: str) -> str:
    return "1" if version.startswith(("0.", "1.")) else "2"


def openmmlab_imports(
    package: str, *steps: str, cause: str = "import-error-swallowed"
) -> Callable[[Facts, Matrix], Optional[Verdict]]:
    def judge(facts: Facts, matrix: Matrix) -> Optional[Verdict]:
        version = facts.target.version(package)
        if version is None:
            return _absent(package, facts, matrix) if steps != ("registry",) else None
        for step in steps:
            broken = _imported(facts, step, cause, package)
            if broken:
                return broken
        looked = facts.imported(steps[-1])
        return ok(f"{package} {version}") if looked else not_imported(f"{package} {version}")

    return judge


def _absent(package: str, facts: Facts, matrix: Matrix) -> Verdict:
    """An OpenMMLab package that is not installed: broken only where the installed mmpose wants it."""
    mmpose = facts.target.version("mmpose")
    row = rules.mmlab_row(matrix, "mmpose", mmpose) if mmpose else None
    if package == "mmdet" and row is not None and row.needs_mmdet:
        detail = f"mmdet is not installed, and mmpose {mmpose} imports it"
        return fail(detail, "optional-package-missing", about=("mmdet",))
    if package == "mmdet" or (package == "mmengine" and row is not None and row.mmengine is None):
        return skip(f"{package} is not installed, nothing here needs it", needed=False)
    return fail(f"{package} is not installed", f"{package}-missing", about=(package,))


def setuptools_kept(facts: Facts, matrix: Matrix) -> Optional[Verdict]:
    target = facts.target
    mmengine = target.version("mmengine")
    row = rules.mmlab_row(matrix, "mmengine", mmengine) if mmengine else None
    if row is None or not row.pkg_resources:
        return None
    setuptools = target.version("setuptools")
    if setuptools is not None and rules.within(setuptools, "<82"):
        return ok(f"setuptools {setuptools} still brings pkg_resources")
    have = f"setuptools {setuptools}" if setuptools else "no setuptools"
    return fail(
        f"mmengine {mmengine} imports pkg_resources, which setuptools removed in 82",
        "pkg-resources-gone",
        have,
        about=("pkg_resources",),
    )


def requirements_met(facts: Facts, matrix: Matrix) -> Optional[Verdict]:
    installed = {d.name: d.version for d in facts.target.distributions}
    has_opencv = any(name in installed for name in rules.OPENCV_NAMES)
    unmet: list[str] = []
    for distribution in facts.target.distributions:
        for text in distribution.requires:
            requirement = rules.declared(text, facts)
            if requirement is None:
                continue
            name = requirement.name
            if name in UNUSED_REQUIREMENTS or (name in rules.OPENCV_NAMES and has_opencv):
                continue
            have = installed.get(name)
            if have is None or not rules.within(have, str(requirement.specifier)):
                unmet.append(
                    f"{distribution.name} {distribution.version} wants {text}; {have or 'nothing'} is installed"
                )
    if unmet:
        fix = Fix(kind="confirm", summary="install what is named")
        return warn("declared requirements are not met", "requirement-unmet", *unmet[:10], fix=fix)
    return ok("declared requirements are met")


def openxlab_absent(facts: Facts, matrix: Matrix) -> Optional[Verdict]:
    version = facts.target.version("openxlab")
    if version is None:
        return ok("openxlab is not installed")
    fix = manual("pip uninstall openmim opendatalab openxlab: mmdoctor needs none of them")
    return warn(f"openxlab {version} pins setuptools, requests, rich and others", "openmim-openxlab-pins", fix=fix)


def smoke_passes(facts: Facts, matrix: Matrix) -> Optional[Verdict]:
    if not facts.smoke:
        return None
    failed = [bench for bench in facts.smoke if not bench.ok]
    if failed:
        said = tuple(f"{bench.model}: {bench.reason}" for bench in failed)
        rests_on = ("MML003", "MML004", "MCV003", "NPY001", "TRC001")  # what an inference goes through
        return fail("the reference RTMPose inference failed", "smoke-failed", *said, rests_on=rests_on)
    done = ", ".join(f"{b.model}: {b.keypoints.count} keypoints, {b.latency_ms.p50:.0f} ms" for b in facts.smoke)
    return ok(done)


CHECKS = (
    Check(
        id="TRC001",
        title="torch imports",
        why="Mixed files of two versions, or a library torch links to that has changed.",
        judge=torch_imports,
    ),
    Check(
        id="NPY001",
        title="torch and NumPy fit",
        why="A torch before 2.3 was built for NumPy 1: under NumPy 2 it imports, and then no tensor takes an array.",
        judge=torch_takes_numpy,
    ),
    Check(
        id="TVN001",
        title="torchvision belongs to this torch",
        why="torchvision's operators are compiled for one torch release and one variant of it; pip checks neither.",
        judge=torchvision_fits,
    ),
    Check(
        id="OCV001",
        title="one OpenCV, and it loads",
        why="All OpenCV distributions write the same cv2 folder; the GUI ones need the system's libGL.",
        judge=one_opencv,
    ),
    numpy_bound("xtcocotools", "xtcocotools._mask"),
    Check(
        id="PKG001",
        title="pkg_resources is there for mmengine",
        why="mmengine up to 0.10.7 imports pkg_resources when mmpose.apis is imported; setuptools 82 removed it.",
        judge=setuptools_kept,
    ),
    Check(
        id="MML001",
        title="mmengine imports",
        why="Everything of OpenMMLab 2 stands on it.",
        judge=openmmlab_imports("mmengine", "mmengine"),
    ),
    Check(
        id="MCV001",
        title="one mmcv, with ops",
        why="mmcv, mmcv-full and mmcv-lite share one folder; the lite ones hold no ops.",
        judge=one_mmcv,
    ),
    Check(
        id="MCV002",
        title="mmcv._ext loads",
        why="It is compiled for one torch; beside another the linker finds no such symbol or library.",
        judge=mmcv_ext_loads,
    ),
    Check(
        id="MCV003",
        title="an mmcv op runs",
        why="A binary may load and still hold no kernel for this device.",
        judge=mmcv_op_runs,
    ),
    Check(
        id="MCV004",
        title="mmcv and mmengine are inside every accepted range",
        why="mmdet and mmpose assert ranges at import that their metadata does not declare, so pip check passes.",
        judge=ranges_hold,
    ),
    Check(
        id="MML002",
        title="mmdet imports",
        why="mmpose 1.3 and later imports it without a guard, and no metadata says so.",
        judge=openmmlab_imports("mmdet", "mmdet"),
    ),
    Check(
        id="MML003",
        title="mmpose.apis imports",
        why="`import mmpose` loads almost nothing; mmpose.apis is what inference needs.",
        judge=openmmlab_imports("mmpose", "mmpose", "mmpose.apis"),
    ),
    Check(
        id="MML004",
        title="RTMPose's parts are registered",
        why="A config names classes; the one that was never imported is not in the registry.",
        judge=openmmlab_imports("mmpose", "registry", cause="registry-scope"),
    ),
    Check(
        id="PKG002",
        title="declared requirements are met",
        why="What `pip check` looks at, less what the stack deliberately goes without.",
        judge=requirements_met,
    ),
    Check(
        id="PKG003",
        title="no openxlab pins",
        why="openmim draws in openxlab, which pins an old setuptools and more.",
        judge=openxlab_absent,
    ),
    Check(
        id="SMK001",
        title="RTMPose infers",
        why="The proof: a real model, real ops, keypoints that equal the reference.",
        judge=smoke_passes,
    ),
)
