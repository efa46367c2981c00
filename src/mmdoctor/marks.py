"""What decides a verdict, read from the machine again and compared: of the standard library alone, in milliseconds.

A verdict holds while its marks do: boot and start of the container, the driver and its device nodes, the interpreter,
what lies at the top of every folder of packages and in their own folders, every compiled module there, what the loader
knows, what the working directory could put in the way, the matrix, and mmdoctor's version. So installing, upgrading and
removing is seen, and a compiled module changed in place. Not seen are an edit of a .py file and what comes and goes
deeper than two folders down, nor a GPU that falls off the bus: the age that the user grants bounds these.

Files that are kept are read where only this user can have written them, and written whole by one rename.
"""

from __future__ import annotations

import hashlib
import os
import stat
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Optional

from mmdoctor import __version__

# Variables that begin so reach the loader, the interpreter or the driver; $HOME has the user's own site-packages.
STEERING = ("CUDA", "HOME", "LD_", "NVIDIA_", "PYTHON")
BOOT = "/proc/sys/kernel/random/boot_id"
FIRST_PROCESS = "/proc/1/stat"
START_FIELD = 19  # of what follows the name in /proc/PID/stat: when it began, in ticks since boot (proc(5), field 22)
DRIVER_FILES = ("/sys/module/nvidia/version", "/proc/driver/nvidia/version")
DEVICES = "/dev"
LOADER_CACHE = "/etc/ld.so.cache"
COMPILED = (".so", ".pyd")
DEPTH = 2
SECONDS_IN = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}
KEPT_SECONDS = 30 * 24 * 3600.0
KEPT_MOST = 64
DRAFT = ".draft-"
DRAFT_SECONDS = 3600.0


def marks(interpreter: str, watched: Iterable[str], matrix: str, modules: Iterable[str]) -> dict[str, str]:
    """What decides a verdict, each part as one text, by what it is called when it changed. `modules` are the names that
    a file in the working directory must not have."""
    program = os.path.realpath(interpreter)
    return {
        "mmdoctor": __version__,
        "the matrix": digest(_content(matrix)),
        "the boot": " ".join(_boot()),
        "the driver": " ".join(_driver()),
        "the interpreter": f"{program} {_signature(program)}",
        "what the environment holds": digest("\n".join(map(_signature, watched)).encode()),
        "the working directory": " ".join(_in_the_way(frozenset(modules))),
    }


def watch(prefix: str, sys_path: Iterable[str], folders: Iterable[str]) -> Iterator[str]:
    """The paths whose change is a change of the environment at `prefix`, whose packages lie in `folders`."""
    yield LOADER_CACHE
    yield os.path.join(prefix, "pyvenv.cfg")
    yield os.path.join(prefix, "conda-meta")
    yield from sys_path
    for folder in folders:
        for root, inner, files in os.walk(folder):
            inner[:] = sorted(name for name in inner if name != "__pycache__")
            depth = root[len(folder) :].count(os.sep)
            if depth <= DEPTH:
                yield root
            yield from (
                os.path.join(root, name) for name in sorted(files) if not depth or any(end in name for end in COMPILED)
            )


def changed_since(watched: Iterable[str], since: float) -> bool:
    """Whether something that is watched changed after `since` (seconds since 1970)."""
    return any(status.st_mtime >= since for path in watched if (status := _status(path)))


def subject(parts: Iterable[object], environ: Mapping[str, str]) -> str:
    """The name of what is asked: by this user, with these variables, and whatever else `parts` say."""
    steering = sorted((name, value) for name, value in environ.items() if name.startswith(STEERING))
    return digest(repr((user(), steering, *parts)).encode())


def user() -> int:
    """The number of the user that this runs as; 0 where there are none."""
    return os.geteuid() if os.name == "posix" else 0


def span(text: str) -> float:
    """The seconds of a time span such as `30s`, `10m`, `12h`, `1d` or `45`. Raises ValueError for any other text."""
    number = text.rstrip("smhd")
    unit = text[len(number) :]
    if not number.replace(".", "", 1).isdecimal() or unit not in SECONDS_IN:
        raise ValueError(f"{text!r}: expected a time span such as 30s, 10m, 12h or 1d")
    return float(number) * SECONDS_IN[unit]


def ago(seconds: float) -> str:
    """A time span for people: `40 s`, `12 min`, `3 h`, `2 d`."""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def _signature(path: str) -> str:
    # Not the time of the last change of the inode: a clone by hard links, such as `fix` makes, is no change.
    status = _status(path)
    return "-" if status is None else f"{status.st_mode} {status.st_ino} {status.st_size} {status.st_mtime_ns}"


def _status(path: str) -> Optional[os.stat_result]:
    try:
        return os.stat(path)
    except OSError:
        return None


def _boot() -> Iterator[str]:
    yield _content(BOOT).decode().strip()
    # A container that starts again has a new first process, on a kernel that went on.
    yield from (
        _content(FIRST_PROCESS).decode(errors="replace").rpartition(")")[2].split()[START_FIELD : START_FIELD + 1]
    )


def _driver() -> Iterator[str]:
    yield from (digest(_content(file)) for file in DRIVER_FILES)
    with suppress(OSError):
        yield from sorted(name for name in os.listdir(DEVICES) if name.startswith("nvidia"))


def _in_the_way(stack: frozenset[str]) -> Iterator[str]:
    known = stack.union(getattr(sys, "stdlib_module_names", ()))
    every = known == stack  # Python 3.9 does not know its own modules' names
    with suppress(OSError):
        yield from sorted(
            entry for entry in os.listdir() if entry.partition(".")[0] in known or (every and entry.endswith(".py"))
        )


def _content(path: str) -> bytes:
    try:
        with open(path, "rb") as stream:
            return stream.read()
    except OSError:
        return b""


def digest(content: bytes) -> str:
    """16 hexadecimal digits that tell this content from others."""
    return hashlib.sha256(content).hexdigest()[:16]


# ----------------------------------------------------------------------------------------------------------- files


def _ours(status: os.stat_result) -> bool:
    """Whether only this user can have written it."""
    return os.name != "posix" or (status.st_uid == user() and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH))


def read(file: str) -> Optional[bytes]:
    """A file's content; None where there is none, or another user may have written it."""
    with suppress(OSError):
        descriptor = os.open(file, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0))
        with open(descriptor, "rb") as stream:
            status = os.fstat(descriptor)
            if stat.S_ISREG(status.st_mode) and _ours(status):
                return stream.read()
    return None


def write(folder: str, name: str, content: bytes) -> None:
    """Put a file into this user's folder, whole or not at all, and forget the oldest ones. Raises OSError."""
    os.makedirs(os.path.dirname(folder), exist_ok=True)
    with suppress(FileExistsError):
        os.mkdir(folder, 0o700)
    if not _ours(os.lstat(folder)):
        raise PermissionError(0, "it belongs to another user, or others may write there")
    draft = os.path.join(folder, f"{DRAFT}{os.getpid()}-{os.urandom(4).hex()}")
    try:
        with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as stream:
            stream.write(content)
        os.replace(draft, os.path.join(folder, name))
    except BaseException:
        with suppress(OSError):
            os.unlink(draft)
        raise
    _forget_old(folder)


def forget(folder: str, beginning: str) -> None:
    """Delete the files whose names begin so."""
    with suppress(OSError):
        for name in os.listdir(folder):
            if name.startswith(beginning):
                with suppress(OSError):
                    os.unlink(os.path.join(folder, name))


def _forget_old(folder: str) -> None:
    """Delete what is too old or too much, and drafts that a kill left."""
    now = time.time()
    times = {name: status.st_mtime for name in os.listdir(folder) if (status := _status(os.path.join(folder, name)))}
    kept = sorted((name for name in times if not name.startswith(DRAFT)), key=lambda name: -times[name])[:KEPT_MOST]
    for name, written in times.items():
        limit = KEPT_SECONDS if name in kept else DRAFT_SECONDS if name.startswith(DRAFT) else 0.0
        if now - written > limit:
            forget(folder, name)
