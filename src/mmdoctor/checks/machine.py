"""Checks of the interpreter, the packages' files, what is around them, and the machine."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Optional, Union

from mmdoctor import rules
from mmdoctor.checks.base import AUTO, Check, Verdict, fail, manual, ok, skip, warn
from mmdoctor.matrix_model import Matrix
from mmdoctor.model import Breakage, Facts, ImportResult, Unknown
from mmdoctor.stack import STACK_MODULES


def look_was_finished(facts: Facts, matrix: Matrix) -> Optional[Verdict]:
    return skip(facts.unfinished) if facts.unfinished else None


def interpreter_answers(facts: Facts, matrix: Matrix) -> Optional[Verdict]:
    target = facts.target
    if facts.unfinished and target.state != "present":
        return None
    if target.state == "present":
        read_only = (
            () if target.writable else ("read-only for this user: it runs, and `fix --apply` refuses to change it",)
        )
        return ok(f"Python {target.python} at {target.prefix}", *read_only)
    if target.breakage is not None:
        return _broken(target.requested, target.problem or "", target.breakage)
    what = "the environment is not there yet" if target.state == "absent" else "the interpreter does not answer"
    fix = manual("mmdoctor fix --apply builds it" if target.state == "absent" else "repair or recreate the environment")
    return fail(what, "interpreter-broken", target.problem or "", fix=fix)


# The variables that reach an interpreter before its first line of code, by what a wrong one is called.
VARIABLE_CAUSES = {"PYTHONHOME": "wrong-interpreter", "PYTHONPATH": "path-shadowing"}


def _broken(env: str, problem: str, breakage: Breakage) -> Verdict:
    """An interpreter that does not serve, where it is known why."""
    culprit = breakage.culprit
    if breakage.kind == "startup":
        fix = manual(f"move {culprit} away: the interpreter runs it at each start")
        return fail("a start-up file keeps the interpreter from starting", "startup-file-broken", problem, fix=fix)
    if breakage.kind == "variable":
        cause = VARIABLE_CAUSES.get(culprit, "library-path-foreign")
        fix = manual(f"unset {culprit} where this environment is used")
        return fail(f"{culprit} keeps the interpreter from starting", cause, problem, fix=fix)
    if breakage.kind == "permission":
        fix = manual(f"let this user read and search {culprit}, or run as the one who may")
        return fail("this user may not run the interpreter", "permission-or-lock", problem, fix=fix)
    anew = f"move {env} away, and `mmdoctor fix --apply` builds it anew"
    if breakage.kind == "python":
        fix = manual(f"make {env}/bin/python a link to {breakage.others[-1]}, or {anew}" if breakage.others else anew)
        return fail("the packages are for another Python than the one that runs", "wrong-interpreter", problem, fix=fix)
    again = f"install {culprit} again"
    if breakage.others:
        again = f"ln -sfn {breakage.others[-1]} {env}/bin/python (the same minor version runs these packages)"
    return fail("the interpreter is gone", "interpreter-gone", problem, fix=manual(f"{again}, or {anew}"))


def not_shadowed(facts: Facts, matrix: Matrix) -> Optional[Verdict]:
    """Copies of the stack's packages count as they are; what else lies early on the path, only when imports work
    without it."""
    target = facts.target
    names = tuple(line.split(":")[0] for line in target.shadowed)
    healed = _healed_without(facts, "PYTHONPATH", "the working directory")
    if not names and not healed:
        return ok("the stack's packages come from site-packages")
    evidence = (*target.shadowed, *(target.shadowed_stdlib if healed else ()), *_retried(facts, healed))
    fix = manual("run from another folder, rename the folder, or clear PYTHONPATH")
    about = (*names, *_packages(healed))
    return fail("another copy is imported first", "path-shadowing", *evidence, about=about, fix=fix)


def _healed_without(facts: Facts, *names: str) -> tuple[str, ...]:
    """The imports that fail, and do not without one of these parts of their surroundings."""
    retries = (retry for retry in facts.retries if set(retry.without.split(" and ")) & set(names))
    return tuple(dict.fromkeys(module for retry in retries for module in retry.healed))


def _packages(modules: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(module.split(".")[0] for module in modules))


def _retried(facts: Facts, healed: tuple[str, ...]) -> tuple[str, ...]:
    """The lines that show what was tried, and that it helped."""
    retries = [retry for retry in facts.retries if set(retry.healed) & set(healed)]
    return tuple(f"without {retry.without} it works: {', '.join(retry.healed)}" for retry in retries)


def starts_clean(facts: Facts, matrix: Matrix) -> Optional[Verdict]:
    target = facts.target
    raising = [file for file in target.startup if file.problem]
    gone = [f"{file.path} names {name}, which is gone" for file in target.startup for name in file.missing]
    # A module that patches may do it later, by a hook; a .pth file's line does at once what it does.
    now = set(target.at_start)
    touching = [file for file in target.startup if file.stack and (file.kind != "pth" or now & set(file.stack))]
    healed = _healed_without(facts, "the start-up files")
    evidence = (
        *(f"{file.path} {file.problem}" for file in raising),
        *gone,
        *(f"{file.path} touches {', '.join(file.stack)} before anybody asks" for file in touching),
        *_retried(facts, healed),
    )
    if not evidence:
        return ok(f"{len(target.startup)} start-up files, none of them in the way")
    files = dict.fromkeys(file.path for file in target.startup if file in raising or file in touching or file.missing)
    fix = manual(f"move {', '.join(files)} away, or mend what it says: each start of the interpreter reads it")
    detail = "start-up files do what they should not"
    # An editable package that nobody finds was to come by such a file.
    editable = {rules.module_of(d.name).replace("-", "_") for d in target.distributions if d.record == "editable"}
    lost = editable & {r.data.get("missing", "") for r in facts.imports if r.error == "ModuleNotFoundError"}
    about = (*_packages(healed), *(sorted(lost) if gone or raising else ()))
    if about:
        return fail(detail, "startup-file-broken", *evidence, about=about, fix=fix)
    return warn(detail, "startup-file-broken", *evidence, fix=fix)


def _touches(result: ImportResult, packages: tuple[str, ...]) -> bool:
    """Whether a failed import went through one of these packages, or missed it."""
    missing = result.data.get("missing", "").split(".")[0]
    return bool({*result.packages, missing, result.module.split(".")[0]} & set(packages))


# What is compiled against a package, and so breaks with it. NumPy's C interface is used by all the rest of the stack.
BOUND_TO = {
    "numpy": STACK_MODULES,
    "torch": tuple(name for name in STACK_MODULES if name not in ("numpy", "cv2", "xtcocotools", "pycocotools")),
}


def one_place(facts: Facts, matrix: Matrix) -> Optional[Verdict]:
    """The user's own site-packages (`pip install --user`): before a conda prefix's, behind a venv's (Lib/site.py)."""
    target = facts.target
    if target.user_site is None:
        return ok("the user's site-packages are not looked at, or there are none")
    leaked = [
        d
        for d in {d.name: d for d in reversed(target.distributions)}.values()
        if d.folder == target.user_site and d.name in rules.STACK_DISTRIBUTIONS
    ]
    healed = _healed_without(facts, "the user site")
    if not leaked and not healed:
        return ok("the stack does not come from the user's site-packages", target.user_site)
    modules = tuple(rules.module_of(d.name) for d in leaked)
    whole = (*modules, *_packages(healed))
    about = tuple(dict.fromkeys(name for module in whole for name in (module, *BOUND_TO.get(module, ()))))
    own = {d.name: d.version for d in target.distributions if d.folder == target.site_packages}
    evidence = [
        f"{d.name} {d.version} of {d.folder}" + (f" hides {own[d.name]}" if d.name in own else "") for d in leaked
    ]
    # A venv's own packages come before the user's; those of another prefix behind them, whatever is installed there.
    by_hand = manual(
        "set PYTHONNOUSERSITE=1 where this environment is used; `mmdoctor fix` installs what is missing then"
    )
    fix = AUTO if target.kind == "venv" else by_hand
    detail = "packages come from the user's own site-packages, which other users and services do not have"
    broken = facts.quick or any(_touches(r, about) for r in facts.imports if r.status in ("error", "crash"))
    if broken:
        return fail(detail, "user-site-leak", *evidence, *_retried(facts, healed), about=about, fix=fix)
    return warn(detail, "user-site-leak", *evidence, fix=fix)


# Of these, LD_LIBRARY_PATH's copy is loaded and not the wheels' own: NVIDIA's libraries look for each other by RUNPATH,
# which ld.so(8) reads after LD_LIBRARY_PATH; cuDNN's parts only at the first convolution. The others torch finds by
# RPATH, before LD_LIBRARY_PATH (read from the ELF files of torch 2.1.2+cu121 and nvidia-*-cu12).
TAKES_PRECEDENCE = ("libnvJitLink.", "libcudnn_")
LOADER_VARIABLES = ("LD_LIBRARY_PATH", "LD_PRELOAD")


def loader_finds_own(facts: Facts, matrix: Matrix) -> Optional[Verdict]:
    healed = _healed_without(facts, *LOADER_VARIABLES)
    listed = tuple(f"{one.variable}: {one.folder} holds {', '.join(one.libraries)}" for one in facts.loader)
    if healed:
        blamed = " and ".join(name for name in LOADER_VARIABLES if _healed_without(facts, name))
        fix = manual(f"unset {blamed}, or take the named folders out; the wheels bring their own libraries")
        evidence = (*listed, *_retried(facts, healed))
        detail = "the loader is sent to other libraries than the stack's own"
        return fail(detail, "library-path-foreign", *evidence, about=_packages(healed), fix=fix)
    torch = facts.target.torch
    first = [name for one in facts.loader for name in one.libraries if name.startswith(TAKES_PRECEDENCE)]
    if first and torch is not None and torch.cuda is not None:
        fix = manual("take the folder out of LD_LIBRARY_PATH; the wheels bring their own libraries")
        detail = f"{', '.join(first)} of LD_LIBRARY_PATH is loaded in place of the stack's own"
        return warn(detail, "library-path-foreign", *listed, fix=fix)
    return ok("the loader finds the stack's own libraries", *listed)


DAY_SECONDS = 86400.0


def clock_right(facts: Facts, matrix: Matrix) -> Optional[Verdict]:
    """More than a day counts: that is what certificates are refused for, and no time zone makes it."""
    now = facts.host.now
    if now is None:
        return None
    fix = manual("set the clock (timedatectl set-ntp true); a wrong one makes every https connection fail")
    installed = facts.target.installed_at
    if installed is not None and installed - now > DAY_SECONDS:
        said = f"the clock says {_date(now)}, and the environment's packages were installed on {_date(installed)}"
        return warn(f"the clock is at least {_days(installed - now)} behind", "clock-wrong", said, fix=fix)
    for index in facts.indexes:
        if index.now is not None and abs(index.now - now) > DAY_SECONDS:
            said = f"the clock says {_date(now)}, {index.url} says {_date(index.now)}"
            side = "behind" if index.now > now else "ahead"
            return warn(f"the clock is {_days(abs(index.now - now))} {side}", "clock-wrong", said, fix=fix)
    return ok(f"the clock says {_date(now)}")


def _date(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%d")


def _days(seconds: float) -> str:
    return f"{seconds / DAY_SECONDS:.0f} days"


# A clone of the real stack by hard links takes 13 MB for its folders (measured, 37,000 files); with less than this it
# and its logs hardly fit.
SCARCE_BYTES = 32 * 1024**2


def room_left(facts: Facts, matrix: Matrix) -> Optional[Verdict]:
    disks = facts.host.disks
    if not disks:
        return None
    unknown = [disk.free_bytes.unknown for disk in disks if isinstance(disk.free_bytes, Unknown)]
    full = [disk for disk in disks if not isinstance(disk.free_bytes, Unknown) and disk.free_bytes < SCARCE_BYTES]
    if full:
        evidence = [f"{disk.what}: {_megabytes(disk.free_bytes)} free at {disk.path}" for disk in full]
        fix = manual("make room there, or name another place with TMPDIR, UV_CACHE_DIR or MMDOCTOR_CACHE")
        return warn(f"no room for {', '.join(disk.what for disk in full)}", "disk-full", *evidence, fix=fix)
    if unknown:
        return skip(unknown[0], needed=False)
    return ok("room for the environment, temporary files and caches")


def _megabytes(size: Union[int, Unknown]) -> str:
    return "unknown" if isinstance(size, Unknown) else f"{size / 1024**2:.0f} MB"


CHECKS = (
    Check(
        id="ENV001",
        title="the interpreter answers",
        why="Everything else is asked of it. A dead link, a hanging sitecustomize or a crash at start-up ends here.",
        judge=interpreter_answers,
    ),
    Check(
        id="RUN001",
        title="the look came to its end",
        why="`--deadline` ended it. What was seen until then is said; of the rest nothing is known, so the verdict is "
        "open (exit status 3) unless something was found.",
        judge=look_was_finished,
    ),
    Check(
        id="ENV004",
        title="the stack is imported from site-packages",
        why="A folder of the same name in the working directory or on PYTHONPATH is imported first.",
        judge=not_shadowed,
    ),
    Check(
        id="ENV005",
        title="start-up files do no harm",
        why="A .pth file, sitecustomize or usercustomize runs at each start; what it raises, patches or looks for in a "
        "folder that is gone shows up far from it.",
        judge=starts_clean,
    ),
    Check(
        id="ENV006",
        title="the stack comes from one place",
        why="What `pip install --user` left is imported before a conda prefix's packages, and where a venv lets the "
        "system in; only this user has it.",
        judge=one_place,
    ),
    Check(
        id="ENV007",
        title="the loader finds the stack's own libraries",
        why="LD_LIBRARY_PATH and LD_PRELOAD put another CUDA or C++ library in the place of the one the wheels bring.",
        judge=loader_finds_own,
    ),
    Check(
        id="HST001",
        title="the clock is right",
        why="With a clock that is far off every certificate is refused, and nothing can be downloaded.",
        judge=clock_right,
    ),
    Check(
        id="HST002",
        title="the disks have room",
        why="A full disk breaks installs, compilers and caches with errors that do not name it.",
        judge=room_left,
    ),
)
