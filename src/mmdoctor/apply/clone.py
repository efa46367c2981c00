"""Clone an environment by hard links, see that nobody wrote to the original, and move a clone to its final path."""

from __future__ import annotations

import base64
import errno
import hashlib
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

from mmdoctor.model import Value

# What a file system says that cannot link these two: another device, too many links, not supported, not allowed.
NO_LINK = (errno.EXDEV, errno.EMLINK, errno.EPERM, errno.ENOTSUP, errno.EACCES)
# Installers append to these or write them anew in place, which would reach the original through the shared file:
# setuptools' easy-install.pth, pip's RECORD, conda's history.
WRITTEN_IN_PLACE = frozenset({"pyvenv.cfg", "RECORD", "history", "direct_url.json"})
WRITTEN_SUFFIXES = (".pth", ".egg-link")
# Scripts and metadata that name the environment's path are small; binaries are not rewritten.
LARGEST_REWRITTEN = 1_000_000
FOLDER = "folder"
BYTECODE = ("__pycache__", ".pyc")


class Cloned(Value, frozen=True, kw_only=True):
    """How it went: `copied` counts what could not be linked, in files and bytes, of `files` in all."""

    files: int
    copied: int
    copied_bytes: int


Manifest = dict[str, str]


def clone(source: Path, destination: Path) -> Cloned:
    """Copy the tree `source` to `destination`, which must not exist, by hard links.

    Nothing may be written through a shared file afterwards: installers replace files, `relocate` writes new ones, and
    what some write in place is copied here. A link that the file system refuses becomes a copy, too. Absolute links
    into `source` become relative ones, so that they stay inside. Owners and modes are kept. Raises OSError.
    """
    counts = {"files": 0, "copied": 0, "bytes": 0}
    inside = (f"{source}{os.sep}", os.path.realpath(source) + os.sep)
    _clone_folder(str(source), str(destination), inside, counts)
    return Cloned(files=counts["files"], copied=counts["copied"], copied_bytes=counts["bytes"])


def _clone_folder(source: str, destination: str, inside: tuple[str, str], counts: dict[str, int]) -> None:
    os.mkdir(destination)
    with os.scandir(source) as entries:
        for entry in entries:
            new = f"{destination}{os.sep}{entry.name}"
            if entry.is_symlink():
                _link_again(entry.path, new, inside)
            elif entry.is_dir():
                _clone_folder(entry.path, new, inside, counts)
            else:
                counts["files"] += 1
                if not _linked(entry, new):
                    counts["copied"] += 1
                    counts["bytes"] += entry.stat().st_size
    _keep_owner_and_mode(os.stat(source), destination)


def _linked(entry: os.DirEntry[str], new: str) -> bool:
    if entry.name in WRITTEN_IN_PLACE or entry.name.endswith(WRITTEN_SUFFIXES):
        shutil.copy2(entry.path, new)
        _keep_owner_and_mode(entry.stat(), new)
        return True  # few and small: not worth a word
    try:
        os.link(entry.path, new)
    except OSError as error:
        if error.errno not in NO_LINK:
            raise
        shutil.copy2(entry.path, new)
        _keep_owner_and_mode(entry.stat(), new)
        return False
    return True


def _link_again(old: str, new: str, inside: tuple[str, str]) -> None:
    target = os.readlink(old)
    if target.startswith(inside):
        target = os.path.relpath(os.path.realpath(os.path.dirname(target)), os.path.realpath(os.path.dirname(old)))
        target = os.path.normpath(os.path.join(target, os.path.basename(os.readlink(old))))
    os.symlink(target, new)
    _keep_owner(os.lstat(old), new)


def _keep_owner_and_mode(status: os.stat_result, new: str) -> None:
    _keep_owner(status, new)
    os.chmod(new, stat.S_IMODE(status.st_mode))


def _keep_owner(status: os.stat_result, new: str) -> None:
    if os.name == "posix" and os.geteuid() == 0 and (status.st_uid, status.st_gid) != (0, 0):
        os.chown(new, status.st_uid, status.st_gid, follow_symlinks=False)


def can_link(env: Path, folder: Path) -> bool:
    """Whether a file of `env` can be linked into `folder`, which exists."""
    probe = folder / f"link-{os.getpid()}"
    try:
        os.link(env / "pyvenv.cfg" if (env / "pyvenv.cfg").exists() else next(_files(env)), probe)
    except (OSError, StopIteration):
        return False
    probe.unlink()
    return True


def _files(folder: Path) -> Iterator[Path]:
    for base, _, names in os.walk(folder):
        yield from (Path(base) / name for name in names if not (Path(base) / name).is_symlink())


def manifest(env: Path) -> Manifest:
    """What stands in `env`, bytecode aside: by relative path the inode, mode, size and time of change of each entry.

    Two equal manifests are the same files, written by nobody in between (a write sets the time). Links made to a file
    and bytecode that a running service compiles leave it as it is.
    """
    found: Manifest = {}
    _list_folder(str(env), "", found)
    return found


def _list_folder(folder: str, prefix: str, found: Manifest) -> None:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.endswith(BYTECODE):
                continue
            name = prefix + entry.name
            if entry.is_dir(follow_symlinks=False):
                found[name] = FOLDER
                _list_folder(entry.path, name + "/", found)
                continue
            status = entry.stat(follow_symlinks=False)
            found[name] = f"{status.st_ino} {status.st_mode:o} {status.st_size} {status.st_mtime_ns}"


def differences(before: Manifest, after: Manifest) -> tuple[str, ...]:
    """The relative paths that differ between two manifests of one environment."""
    return tuple(sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name)))


# ------------------------------------------------------------------------------------------------------ the final path


def relocate(env: Path, old: Path, new: Path) -> tuple[str, ...]:
    """Rewrite the path `old` to `new` in the scripts, .pth files and metadata of `env`; returns what was rewritten.

    Each file is replaced, never written through, since other environments may share it; RECORD gets the new hashes.
    """
    before, after = os.fsencode(str(old)), os.fsencode(str(new))
    rewritten = {}
    for path in _path_bearing(env):
        content = path.read_bytes()
        if before in content:
            rewritten[path] = content.replace(before, after)
    for path, content in rewritten.items():
        _replace(path, content)
    _update_records(env, rewritten)
    return tuple(str(path.relative_to(env)) for path in sorted(rewritten))


def _path_bearing(env: Path) -> list[Path]:
    patterns = (
        "bin/*",
        "Scripts/*",
        "pyvenv.cfg",
        "lib/python*/site-packages/*.pth",
        "lib/python*/site-packages/__editable__*",
        "lib/python*/site-packages/*.dist-info/direct_url.json",
    )
    found = [path for pattern in patterns for path in env.glob(pattern)]
    return [path for path in found if path.is_file() and not path.is_symlink() and _small(path)]


def _small(path: Path) -> bool:
    return path.stat().st_size < LARGEST_REWRITTEN


def _replace(path: Path, content: bytes) -> None:
    draft = path.with_name(f".{path.name}.mmdoctor")
    draft.write_bytes(content)
    _keep_owner_and_mode(path.stat(), str(draft))
    draft.replace(path)


def _update_records(env: Path, rewritten: dict[Path, bytes]) -> None:
    """RECORD names scripts relative to site-packages (`../../../bin/pip`), with their hash and size."""
    for record in env.glob("lib/python*/site-packages/*.dist-info/RECORD") if rewritten else ():
        site_packages = record.parent.parent
        lines = record.read_text(encoding="utf-8").splitlines()
        changed = False
        for position, line in enumerate(lines):
            name = line.rsplit(",", 2)[0]
            path = Path(os.path.normpath(site_packages / name))
            if path in rewritten and not name.startswith('"'):
                digest = base64.urlsafe_b64encode(hashlib.sha256(rewritten[path]).digest()).rstrip(b"=").decode()
                lines[position] = f"{name},sha256={digest},{len(rewritten[path])}"
                changed = True
        if changed:
            _replace(record, ("\n".join(lines) + "\n").encode())


def owned_by_another(env: Path) -> bool:
    """Whether root is at work in somebody else's environment."""
    return os.name == "posix" and os.geteuid() == 0 and env.exists() and env.stat().st_uid != 0


def inodes(listed: Manifest) -> frozenset[int]:
    """The inodes of the files and links in a manifest."""
    return frozenset(int(entry.partition(" ")[0]) for entry in listed.values() if entry != FOLDER)


def hand_over(env: Path, shared: frozenset[int]) -> int:
    """As root: give what is new in `env` (inodes not in `shared`) to the owner of the folder; returns how many."""
    if not owned_by_another(env):
        return 0
    owner, given = env.stat(), 0
    for base, folders, names in os.walk(env):
        for path in (os.path.join(base, name) for name in (*folders, *names)):
            status = os.lstat(path)
            if status.st_uid == 0 and status.st_ino not in shared:
                os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)
                given += 1
    return given
