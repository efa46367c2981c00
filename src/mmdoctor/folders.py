"""Where mmdoctor keeps things of its own."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from mmdoctor import marks


def home() -> Path:
    """The user's home folder; the root for one who has none (a container's user without an entry in passwd)."""
    try:
        return Path.home()
    except RuntimeError:
        return Path(os.sep)


def cache_folder() -> Path:
    """`$MMDOCTOR_CACHE`, else the platform's cache folder for mmdoctor."""
    chosen = os.environ.get("MMDOCTOR_CACHE")
    if chosen:
        return Path(chosen)
    if sys.platform == "darwin":
        return home() / "Library" / "Caches" / "mmdoctor"
    if os.name == "nt":
        return Path(os.environ.get("LOCALAPPDATA", str(home()))) / "mmdoctor" / "Cache"
    return Path(os.environ.get("XDG_CACHE_HOME") or home() / ".cache") / "mmdoctor"


def own_folder() -> str:
    """Where this user's own files lie in the cache folder, which several users may share."""
    return str(cache_folder() / f"kept-{marks.user()}")
