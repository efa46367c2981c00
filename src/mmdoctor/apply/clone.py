"""Clone an environment by hard links, move a clone to its final path, and exchange two folders in one step."""

from __future__ import annotations

import base64
import ctypes
import errno
import hashlib
import os
import shutil
import sys
from pathlib import Path

RENAME_EXCHANGE = 2
AT_FDCWD = -100
# Scripts and metadata that name the environment's path are small; binaries are not rewritten.
LARGEST_REWRITTEN = 1_000_000


def clone(source: Path, destination: Path) -> bool:
    """Copy the tree `source` to `destination` by hard links; True when links were possible throughout.

    Nothing may be written through a shared file afterwards: installers replace files, and `relocate` writes new ones.
    Falls back to a copy, file by file, where the file system refuses a link (another device, too many links).
    """
    linked = True

    def link(old: str, new: str) -> str:
        nonlocal linked
        try:
            os.link(old, new, follow_symlinks=False)
        except OSError as error:
            if error.errno not in (errno.EXDEV, errno.EMLINK, errno.EPERM, errno.ENOTSUP):
                raise
            linked = False
            shutil.copy2(old, new, follow_symlinks=False)
        return new

    shutil.copytree(source, destination, symlinks=True, copy_function=link)
    return linked


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
    shutil.copymode(path, draft)
    draft.replace(path)


def _update_records(env: Path, rewritten: dict[Path, bytes]) -> None:
    """RECORD names scripts relative to site-packages (`../../../bin/pip`), with their hash and size."""
    for record in env.glob("lib/python*/site-packages/*.dist-info/RECORD"):
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


def exchange(left: Path, right: Path) -> bool:
    """Exchange two folders; True when it was one atomic step (`renameat2(RENAME_EXCHANGE)`), else three renames."""
    if sys.platform == "linux" and _renameat2(left, right):
        return True
    aside = left.with_name(f".{left.name}.{os.getpid()}.aside")
    left.rename(aside)
    try:
        right.rename(left)
    except OSError:
        aside.rename(left)  # the old environment back where it stood
        raise
    aside.rename(right)
    return False


def _renameat2(left: Path, right: Path) -> bool:
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "renameat2"):
        return False
    done = libc.renameat2(AT_FDCWD, os.fsencode(left), AT_FDCWD, os.fsencode(right), RENAME_EXCHANGE)
    if done == 0:
        return True
    code = ctypes.get_errno()
    if code in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP):
        return False  # a file system that does not know the exchange
    raise OSError(code, os.strerror(code), str(left))
