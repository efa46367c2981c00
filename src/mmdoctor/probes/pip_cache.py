"""What pip compiled of the stack and keeps, read from its folder: pip is not run, and nothing is imported.

pip files a wheel that it built from an sdist by the sdist's address and hash, the interpreter's name and version, and
nothing else (pip/_internal/cache.py): neither by the torch nor by the NumPy that it was compiled against.
"""

from __future__ import annotations

import sys
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Optional, Union

from msgspec.structs import replace

from mmdoctor.errors import UsageError
from mmdoctor.model import Extension, PipWheel, Target, Unknown
from mmdoctor.probes.extension import numpy_generation, read_extension, torch_folder
from mmdoctor.probes.indexes import IndexConfig, user_config

# The compiled module of each distribution that is bound to a torch or a NumPy, by the names that wheels write.
MODULES = {
    "mmcv": "mmcv/_ext",
    "mmcv_full": "mmcv/_ext",
    "onedl_mmcv": "mmcv/_ext",
    "xtcocotools": "xtcocotools/_mask",
    "pycocotools": "pycocotools/_mask",
}


def probe_pip_cache(target: Target, environ: Mapping[str, str], home: Path) -> Union[tuple[PipWheel, ...], Unknown]:
    """The wheels of pip's own cache that it would hand out to the target, by name and place.

    Unknown where pip's configuration or its folder cannot be read. An mmcv of 1.x named `mmcv` never had ops.
    """
    site = Path(target.prefix) if target.prefix else None
    try:
        folder = pip_cache_folder(user_config(environ, home, site), environ, home)
        found = sorted(folder.glob("wheels/*/*/*/*/*.whl")) if folder else []
        return tuple(wheel for path in found if (wheel := _wheel(path, target)) is not None)
    except UsageError as error:
        return Unknown(unknown=error.what)
    except OSError as error:
        return Unknown(unknown=f"{error.strerror}: {error.filename}")


def pip_cache_folder(config: IndexConfig, environ: Mapping[str, str], home: Path) -> Optional[Path]:
    """Where pip keeps its cache (pip.pypa.io/en/stable/topics/caching); None where it was told to keep none."""
    if config.no_cache:
        return None
    if config.cache_dir:
        return Path(config.cache_dir).expanduser()
    if sys.platform == "win32":
        return Path(environ.get("LOCALAPPDATA") or home / "AppData" / "Local") / "pip" / "Cache"
    if sys.platform == "darwin":
        return home / "Library" / "Caches" / "pip"
    return Path(environ.get("XDG_CACHE_HOME") or home / ".cache") / "pip"


def _wheel(path: Path, target: Target) -> Optional[PipWheel]:
    """What a wheel is; None where it is of another package or for another Python."""
    name, version, *tags = path.name[: -len(".whl")].split("-")
    module = MODULES.get(name.lower().replace(".", "_"))
    pythons = tags[-3].split(".") if len(tags) >= 3 else []
    own = "cp" + "".join(target.python.split(".")[:2])
    if module is None or (name == "mmcv" and version.startswith("1.")) or not {own, "py3"} & set(pythons):
        return None
    plain = PipWheel(name=name.replace("_", "-"), version=version, path=str(path))
    try:
        with zipfile.ZipFile(path) as archive:
            member = next((info for info in archive.infolist() if _is(info, module)), None)
            if member is None:
                return plain
            compiled = archive.read(member)
    except (zipfile.BadZipFile, zlib.error):
        return replace(plain, extension=_cut_off(path))
    with NamedTemporaryFile(suffix=".so") as copy:
        copy.write(compiled)
        copy.flush()
        bound = module.startswith("mmcv/")
        extension = read_extension(Path(copy.name), torch_folder(target) if bound else None)
    extension = replace(extension, path=member.filename)
    return replace(plain, extension=extension, numpy=None if bound else numpy_generation(compiled))


def _is(info: zipfile.ZipInfo, module: str) -> bool:
    stem, _, rest = info.filename.partition(".")
    return stem == module and rest.endswith(("so", "pyd"))


def _cut_off(path: Path) -> Extension:
    return Extension(path=path.name, needed=(), has_cuda_code=False, machine="", problem="cut-off")
