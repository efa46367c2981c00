"""Checks of the coupled packages: torch, torchvision, NumPy, OpenCV, xtcocotools, mmcv, mmengine, mmdet, mmpose."""

from __future__ import annotations

from typing import Callable, Optional

import msgspec

from mmdoctor import rules
from mmdoctor.checks import extension
from mmdoctor.checks.base import (
    Check,
    Verdict,
    fail,
    failed_import,
    import_evidence,
    manual,
    not_imported,
    ok,
    skip,
    warn,
)
from mmdoctor.checks.signatures import cause_of, imported
from mmdoctor.matrix_model import Matrix
from mmdoctor.model import Facts, Fix

# mmpose lists it and never imports it (facts: chumpy_unused); mmdoctor leaves it out unless asked.
UNUSED_REQUIREMENTS = frozenset({"chumpy"})


def _absent(facts: Facts, name: str, module: str, cause: str, unowned: str = "module-unowned") -> Verdict:
    """The verdict on a package that no distribution brings; its folder may lie there all the same."""
    if module in facts.target.modules:
        said = f"{facts.target.site_packages}/{module}: a copy, a shim, or its metadata is lost"
        return fail(f"no distribution owns the {module} that is there", unowned, said, about=(module,))
    return fail(f"{name} is not installed", cause, about=(module,))


def torch_imports(facts: Facts, matrix: Matrix) -> Optional[Verdict]:
    version = facts.target.version("torch")
    if version is None:
        return _absent(facts, "torch", "torch", "torch-missing")
    build = facts.target.torch.version if facts.target.torch else version
    broken = imported(facts, "torch", "torch-install-broken", "torch")
    if broken:
        return broken
    return ok(f"torch {build}") if facts.imported("torch") else not_imported(f"torch {build}")


def torch_is_the_neighbours(facts: Facts, matrix: Matrix) -> Optional[Verdict]:
    """Two witnesses: torchvision belongs to another torch, and torch does not import or mmcv's binary does not load."""
    target = facts.target
    torch, vision = target.torch, target.version("torchvision")
    row = rules.torch_row(matrix, torch.version) if torch else None
    if torch is None or vision is None or row is None or not row.torchvision:
        return None
    belongs = rules.public(vision) in row.torchvision
    own, compiled = facts.imported("torch"), facts.imported("mmcv._ext")
    broken = own is not None and own.status != "ok"
    alien = compiled is not None and cause_of(compiled) in ("mmcv-torch-abi-mismatch", "mmcv-cuda-runtime-mismatch")
    unfit = rules.not_for_this_torch(facts.extension, target)
    alien = alien or (compiled is None and unfit is not None)
    if belongs or not (broken or alien):
        return ok(f"torch {torch.version} is the one its neighbours were built for")
    evidence = [f"torch {torch.version} belongs to torchvision {' or '.join(row.torchvision)}, not {vision}"]
    evidence += [
        line for result in (own, compiled) if result and result.status != "ok" for line in import_evidence(result)
    ]
    evidence += [f"mmcv._ext {unfit}"] if unfit else []
    return fail(
        f"torch {torch.version} took the place of the one that its neighbours were built for",
        "torch-silently-replaced",
        *evidence,
        about=("torch", "torchvision", "mmcv", "mmcv.ops"),
    )


def _older_than_built_for(facts: Facts, numpy: str) -> Optional[Verdict]:
    """NumPy's C interface only grows within a generation: what was built for a newer one, and says so, breaks."""
    failed = [result for result in facts.imports if result.status in ("error", "crash")]
    wants = {
        rules.module_of(unmet.distribution.name): unmet.said
        for unmet in (rules.unmet(facts) if failed else ())
        if unmet.requirement.name == "numpy" and rules.below(numpy, str(unmet.requirement.specifier))
    }
    broken = [result for result in failed if set(result.packages) & wants.keys()]
    if not broken:
        return None
    detail = f"numpy {numpy} is older than what its neighbours were built for"
    return fail(detail, "numpy-too-old", *wants.values(), *import_evidence(broken[0]), about=("numpy", *wants))


def torch_takes_numpy(facts: Facts, matrix: Matrix) -> Optional[Verdict]:
    torch, numpy = facts.target.version("torch"), facts.target.version("numpy")
    if torch is None:
        return None
    if numpy is None:
        return _absent(facts, "numpy", "numpy", "numpy-missing")
    broken = imported(facts, "numpy", "numpy-broken", "numpy") or _older_than_built_for(facts, numpy)
    if broken:
        return broken
    result = facts.imported("torch.numpy")
    row = rules.torch_row(matrix, torch)
    generation = rules.numpy_generation(numpy)
    if result is not None and result.status != "ok":
        detail = f"torch {torch} cannot take arrays of numpy {numpy}"
        broken = failed_import(result, cause_of(result) or "numpy2-abi", ("numpy",))
        return broken if result.status == "skipped" else msgspec.structs.replace(broken, detail=detail)
    if result is None and row is not None and generation > row.numpy:
        detail = f"torch {torch} was built for NumPy {row.numpy}, numpy {numpy} is installed"
        return fail(detail, "numpy2-abi", about=("numpy",), rests_on=("ENV006",))
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
    broken = imported(facts, "torchvision", "torchvision-mismatch", "torchvision")
    if broken and broken.status == "fail" and evidence:
        detail = f"torchvision {build} does not belong to torch {torch.version}"
        evidence += broken.evidence
        return fail(detail, "torchvision-mismatch", *evidence, about=("torchvision",), rests_on=("TRC002",))
    if broken:
        return broken
    if evidence and facts.imported("torchvision") is None:
        detail = "torchvision does not belong to this torch"
        return fail(detail, "torchvision-mismatch", *evidence, about=("torchvision",), rests_on=("TRC002",))
    if evidence:
        detail = "torchvision imports, but is not this torch's pair"
        return warn(detail, "torchvision-mismatch", *evidence, rests_on=("TRC002",))
    return ok(f"torchvision {vision} belongs to torch {torch.version}")


def one_opencv(facts: Facts, matrix: Matrix) -> Optional[Verdict]:
    flavours = [d for d in facts.target.distributions if d.name in rules.OPENCV_NAMES]
    if not flavours:
        return _absent(facts, "OpenCV", "cv2", "opencv-missing")
    listed = ", ".join(f"{d.name} {d.version}" for d in flavours)
    broken = imported(facts, "cv2", "opencv-broken", "cv2")
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
            return _absent(facts, package, package, "xtcocotools-install-fail", "xtcocotools-shim")
        result = facts.imported(module)
        where = result.data.get("file", "") if result else ""
        if where and f"/{package}/" not in where.replace("\\", "/"):
            detail = f"something else answers to the name {package}"
            fix = manual("find what sets sys.modules (a sitecustomize, a .pth file) and take it away")
            return fail(
                detail, "xtcocotools-shim", f"{module} is {where}", about=(package,), rests_on=("ENV005",), fix=fix
            )
        broken = imported(facts, module, "numpy-dtype-size", package)
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
                rests_on=("NPY001",) if broken.cause == "numpy2-abi" else (),
                fix=broken.fix,
            )
        if result is None and old and numpy and rules.numpy_generation(numpy) == "2":
            detail = f"the wheel of {package} {installed.version} was built for NumPy 1; numpy {numpy} is installed"
            return fail(detail, "numpy2-abi", wheel, about=(package,), rests_on=("NPY001",))
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
        return _absent(facts, "mmcv", "mmcv", "mmcv-missing")
    if len(found) > 1:
        return fail("several distributions own the one mmcv folder", "mmcv-and-full-both", listed, about=("mmcv",))
    only = found[0]
    if only.name == "mmcv-lite" or (only.name == "mmcv" and only.version.startswith("1.")):
        return fail(f"{listed} is the distribution without ops", "mmcv-lite-installed", listed, about=("mmcv",))
    return ok(listed)


def one_owner(facts: Facts, matrix: Matrix) -> Optional[Verdict]:
    several = {module: owners for module, owners in rules.doubled(facts).items() if module != "mmcv"}
    if not several:
        return ok("one distribution brings mmengine") if rules.brought(facts, "mmengine") else None
    said = [f"{module}: {' and '.join(f'{d.name} {d.version}' for d in owners)}" for module, owners in several.items()]
    detail = "several distributions own one folder, and each wrote over the other's files"
    return fail(detail, "module-owned-twice", *said, about=tuple(several))


def ranges_hold(facts: Facts, matrix: Matrix) -> Optional[Verdict]:
    mmcv, mmengine = rules.brought(facts, "mmcv"), rules.brought(facts, "mmengine")
    wrong: list[str] = []
    about: list[str] = []
    mixed = False
    for project in ("mmdet", "mmpose", "mmpretrain"):
        owner = rules.brought(facts, project)
        row = rules.mmlab_row(matrix, owner.name, owner.version) if owner else None
        if row is None:
            continue
        for name, wanted, have in (("mmcv", row.mmcv, mmcv), ("mmengine", row.mmengine, mmengine)):
            if have is not None and not rules.within(have.version, wanted):
                found = have.version if have.name == name else f"{have.name} {have.version}"
                wrong.append(f"{row.project} {row.version} accepts {name} {wanted}; {found} is installed")
                about.append(project)
                other = _generation(have.version) != _generation(str(wanted).lstrip("<>="))
                mixed = mixed or (name == "mmcv" and other)
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
        owner = rules.brought(facts, package)
        if owner is None:
            return _left_out(package, facts, matrix) if steps != ("registry",) else None
        for step in steps:
            broken = imported(facts, step, cause, *(() if step == "registry" else (package,)))
            if broken:
                return broken
        looked, said = facts.imported(steps[-1]), f"{owner.name} {owner.version}"
        return ok(said) if looked else not_imported(said)

    return judge


def _left_out(package: str, facts: Facts, matrix: Matrix) -> Verdict:
    """An OpenMMLab package that is not installed: broken only where the installed mmpose wants it."""
    mmpose = facts.target.version("mmpose")
    row = rules.mmlab_row(matrix, "mmpose", mmpose) if mmpose else None
    if package == "mmdet" and row is not None and row.needs_mmdet:
        detail = f"mmdet is not installed, and mmpose {mmpose} imports it"
        verdict = _absent(facts, "mmdet", "mmdet", "optional-package-missing")
        return msgspec.structs.replace(verdict, detail=detail)
    if package == "mmdet" or (package == "mmengine" and row is not None and row.mmengine is None):
        return skip(f"{package} is not installed, nothing here needs it", needed=False)
    return _absent(facts, package, package, f"{package}-missing")


def setuptools_kept(facts: Facts, matrix: Matrix) -> Optional[Verdict]:
    mmengine = rules.brought(facts, "mmengine")
    row = rules.mmlab_row(matrix, mmengine.name, mmengine.version) if mmengine else None
    if row is None or not row.pkg_resources:
        return None
    setuptools = facts.target.version("setuptools")
    if setuptools is not None and rules.within(setuptools, "<82"):
        return ok(f"setuptools {setuptools} still brings pkg_resources")
    have = f"setuptools {setuptools}" if setuptools else "no setuptools"
    return fail(
        f"mmengine {row.version} imports pkg_resources, which setuptools removed in 82",
        "pkg-resources-gone",
        have,
        about=("pkg_resources",),
    )


def requirements_met(facts: Facts, matrix: Matrix) -> Optional[Verdict]:
    unmet = [u for u in rules.unmet(facts) if u.requirement.name not in UNUSED_REQUIREMENTS]
    if unmet:
        fix = Fix(kind="confirm", summary="install what is named")
        said = [u.said for u in unmet]
        concerns = tuple((rules.module_of(u.requirement.name), rules.module_of(u.distribution.name)) for u in unmet)
        detail = "declared requirements are not met"
        return warn(detail, "requirement-unmet", *said[:10], concerns=concerns, fix=fix)
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
        id="TRC002",
        title="torch is the one its neighbours were built for",
        why="A later install may exchange torch; torchvision and mmcv, compiled for the other, then break together.",
        judge=torch_is_the_neighbours,
    ),
    Check(
        id="NPY001",
        title="NumPy fits torch and its neighbours",
        why="A torch before 2.3 was built for NumPy 1: under NumPy 2 it imports, and then no tensor takes an array. "
        "What was built for a newer NumPy than the one there breaks, too.",
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
        why="mmcv, mmcv-full, mmcv-lite and the fork onedl-mmcv share one folder; the lite ones hold no ops.",
        judge=one_mmcv,
    ),
    Check(
        id="MML005",
        title="one mmengine, one mmdet",
        why="A fork brings the same modules: onedl-mmcv draws in onedl-mmengine, which writes over mmengine's files.",
        judge=one_owner,
    ),
    extension.LOADS,
    extension.OP_RUNS,
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
    extension.PIP_CACHE,
    Check(
        id="SMK001",
        title="RTMPose infers",
        why="The proof: a real model, real ops, keypoints that equal the reference.",
        judge=smoke_passes,
    ),
)
