"""Exchange two folders: in one step where the kernel can, else by renames that a journal makes whole again."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path

RENAME_EXCHANGE = 2
AT_FDCWD = -100
# The kernel or the file system does not know the exchange (renameat2(2)).
UNKNOWN = (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP)


def exchange(left: Path, right: Path, aside: Path) -> bool:
    """Exchange two folders; True when it was one atomic step (`renameat2(RENAME_EXCHANGE)`).

    Else three renames by way of `aside`, between which `left` is not there for a moment: `put_back` mends a kill in
    between. Raises OSError, and then both stand where they stood.
    """
    if sys.platform == "linux" and _renameat2(left, right):
        return True
    left.rename(aside)
    try:
        right.rename(left)
    except OSError:
        aside.rename(left)  # the old environment back where it stood
        raise
    aside.rename(right)
    return False


def put_back(left: Path, right: Path, aside: Path) -> None:
    """Finish or undo the renames of an `exchange` that was killed; does nothing after an atomic one."""
    if not os.path.lexists(aside):
        return
    aside.rename(right if os.path.lexists(left) else left)


def _renameat2(left: Path, right: Path) -> bool:
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "renameat2"):
        return False
    done = libc.renameat2(AT_FDCWD, os.fsencode(left), AT_FDCWD, os.fsencode(right), RENAME_EXCHANGE)
    if done == 0:
        return True
    code = ctypes.get_errno()
    if code in UNKNOWN:
        return False
    raise OSError(code, os.strerror(code), str(left))


def to_disk(folder: Path) -> None:
    """Have everything written to the file system of `folder` be on the disk (syncfs(2)), so that a power cut after the
    swap does not find empty files."""
    if sys.platform != "linux":
        os.sync() if hasattr(os, "sync") else None
        return
    import ctypes

    descriptor = os.open(folder, os.O_RDONLY)
    try:
        ctypes.CDLL(None, use_errno=True).syncfs(descriptor)
    finally:
        os.close(descriptor)
