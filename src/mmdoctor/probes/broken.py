"""Why an interpreter does not answer: its base is gone, or a variable or a start-up file keeps it from starting.

Only asked after the interpreter failed. Each suspect is tried alone, so that the one that is named is proven.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Optional

from mmdoctor import system
from mmdoctor.model import Breakage

BARE_DEADLINE_SECONDS = 5.0
BARE = ("-I", "-S", "-c", "print(1)")
# What reaches an interpreter before its first line of code (python(1), ld.so(8)).
VARIABLES = ("PYTHONHOME", "PYTHONPATH", "LD_LIBRARY_PATH", "LD_PRELOAD")
# Runs one start-up file as `site` does, in an interpreter that ran none; says so when it is through.
TRY_ONE = """
import os, site, sys
path, folders = sys.argv[1], sys.argv[2:]
sys.path.extend(folders)
try:
    if path.endswith(".pth"):
        site.addpackage(os.path.dirname(path), os.path.basename(path), set())
    else:
        name = os.path.basename(path)[:-3]
        exec(compile(open(path, "rb").read(), path, "exec"), {"__name__": name, "__file__": path})
except Exception:
    pass  # so does site
print("through")
"""


def pyvenv(prefix: Path) -> dict[str, str]:
    """The settings of a venv's pyvenv.cfg, keys in lower case; empty when there is none."""
    lines = (system.read(prefix / "pyvenv.cfg") or "").splitlines()
    pairs = (line.partition("=") for line in lines if "=" in line)
    return {key.strip().lower(): value.strip() for key, _, value in pairs}


def minor(version: str) -> Optional[str]:
    """`3.11` of `3.11.7` or `3.11.7.final.0`, None where there is no version in it."""
    found = re.match(r"\d+\.\d+", version)
    return found[0] if found else None


def version_of(config: dict[str, str]) -> str:
    """The Python version in pyvenv.cfg (venv calls it `version`, virtualenv and uv `version_info`); may be empty."""
    return config.get("version") or config.get("version_info") or ""


def diagnose(python: Path, prefix: Path, done: system.Completed, deadline: float) -> tuple[str, Optional[Breakage]]:
    """What is wrong with an interpreter that did not answer as `done` says: in words, and as a value where it is known.

    Costs up to BARE_DEADLINE_SECONDS for each suspect.
    """
    if done.returncode == system.NOT_STARTED:
        return _not_started(python, prefix, done)
    said = _how(done, deadline)
    bare = _answers(python, BARE)
    if bare:
        for file in _startup_files(prefix):
            problem = _try_one(python, file, prefix)
            if problem is not None:
                return f"{said}; {file} {problem}", Breakage(kind="startup", culprit=str(file))
    for name in VARIABLES:
        if os.environ.get(name) and _answers(python, ("-c", "print(1)"), without=name):
            return f"{said}; without {name} it answers", Breakage(kind="variable", culprit=name)
    return f"{said}; without site-packages (-I -S) it {'answers' if bare else 'does not either'}", None


def moved(prefix: Path, answer: dict[str, Any]) -> tuple[Optional[str], Optional[Breakage]]:
    """An environment whose interpreter answers as another minor version than its packages are for: what is wrong, in
    words and as a value. A base interpreter that was upgraded in place leaves such a venv, whose packages nobody sees.
    """
    now = minor(answer["python"])
    own = [d for d in answer["distributions"] if d["folder"] == answer["site_packages"] and d["name"] not in SEEDS]
    if own or answer["kind"] != "venv":
        return None, None
    others = {
        folder.parent.name[len("python") :]: folder
        for folder in sorted(prefix.glob("lib/python*/site-packages"))
        if any(folder.glob("*.dist-info")) and folder.parent.name != f"python{now}"
    }
    if not others:
        return None, None
    then, folder = next(reversed(others.items()))
    what = f"the interpreter is Python {answer['python']} now, and the packages are for {then} (in {folder})"
    return what, Breakage(kind="python", culprit=then, others=_siblings(Path(answer["base_prefix"]), then))


# What a new venv brings along.
SEEDS = frozenset({"pip", "setuptools", "wheel"})


def lost(python: Path, prefix: Path) -> tuple[str, Optional[Breakage]]:
    """What is wrong with a folder that has no interpreter; a venv's pyvenv.cfg says what it was."""
    config = pyvenv(prefix)
    said = f"there is no interpreter at {python}"
    if "home" not in config:
        return said, None
    wanted = minor(version_of(config)) or ""
    was = Path(config["home"], f"python{wanted}")
    others = _siblings(was.parent.parent, wanted)
    return f"{said}; it was {was}", Breakage(kind="gone", culprit=str(was), others=others)


def _not_started(python: Path, prefix: Path, done: system.Completed) -> tuple[str, Optional[Breakage]]:
    denied = _denied(python)
    if denied is not None:
        return f"this user may not run {python}: {denied}", Breakage(kind="permission", culprit=denied)
    gone = Path(os.path.realpath(python))
    if not python.is_symlink() or gone.exists():
        return f"the interpreter could not be started: {done.stderr}", None
    version = version_of(pyvenv(prefix))
    others = _siblings(gone.parent.parent, minor(version) or "")
    said = f"the interpreter's link points to {gone}, which is gone{f'; it was Python {version}' if version else ''}"
    return said, Breakage(kind="gone", culprit=str(gone), others=others)


def _denied(python: Path) -> Optional[str]:
    """The first folder on the way to an interpreter that this user may not search, or the file it may not run."""
    file = Path(os.path.realpath(python))
    way = (*reversed(file.parents), file)
    return next((str(place) for place in way if os.path.lexists(place) and not os.access(place, os.X_OK)), None)


def _siblings(home: Path, wanted: str) -> tuple[str, ...]:
    """Interpreters of the minor version `wanted` in `home` or beside it, where pyenv, uv and Homebrew keep their
    versions; the newest last."""
    if not wanted:
        return ()
    found = [path for path in home.parent.glob(f"*{wanted}*/bin/python{wanted}") if os.access(path, os.X_OK)]
    return tuple(str(path) for path in sorted(found, key=lambda path: [int(n) for n in re.findall(r"\d+", str(path))]))


def _how(done: system.Completed, deadline: float) -> str:
    if done.timed_out:
        return f"the interpreter did not answer within {deadline:g} s"
    if done.returncode < 0:
        return f"the interpreter died of signal {-done.returncode} before it could answer"
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    version = re.search(r"Python (\d+\.\d+)", done.stdout + done.stderr)
    old = f" (Python {version[1]})" if version else ""
    return f"the interpreter{old} ended with {done.returncode}: {lines[-1] if lines else 'no output'}"


def _answers(python: Path, words: tuple[str, ...], without: str = "") -> bool:
    environment = {name: value for name, value in os.environ.items() if name != without}
    return system.run([str(python), *words], deadline=BARE_DEADLINE_SECONDS, env=environment).stdout.strip() == "1"


def _startup_files(prefix: Path) -> Iterator[Path]:
    """What may run at the start, in the order in which it does: the .pth files of the environment, then the modules."""
    folders = sorted(prefix.glob("lib/python*/site-packages"))
    if pyvenv(prefix).get("include-system-site-packages", "true").lower() == "true":  # else nobody looks at the user's
        user = Path(os.environ.get("PYTHONUSERBASE") or Path.home() / ".local")
        folders += sorted(user.glob("lib/python*/site-packages"))
    for folder in folders:
        yield from sorted(folder.glob("*.pth"))
    early = [Path(folder) for folder in os.environ.get("PYTHONPATH", "").split(os.pathsep) if folder]
    for name in ("sitecustomize.py", "usercustomize.py"):
        yield from (folder / name for folder in (*early, *folders) if (folder / name).is_file())


def _try_one(python: Path, file: Path, prefix: Path) -> Optional[str]:
    """How a start-up file that is run alone ends the interpreter, or None when it does not."""
    folders = [str(folder) for folder in sorted(prefix.glob("lib/python*/site-packages"))]
    argv = [str(python), "-I", "-S", "-c", TRY_ONE, str(file), *folders]
    done = system.run(argv, deadline=BARE_DEADLINE_SECONDS)
    if done.timed_out:
        return f"does not end within {BARE_DEADLINE_SECONDS:g} s"
    if "through" in done.stdout:
        return None
    return f"kills it with signal {-done.returncode}" if done.returncode < 0 else f"ends it with {done.returncode}"
