"""Puts all probes together into `Facts`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Callable, Optional, Union

from msgspec.structs import replace

from mmdoctor import __version__
from mmdoctor.folders import cache_folder, home
from mmdoctor.matrix_model import Matrix
from mmdoctor.model import Bench, Extension, Facts, Gpu, Target, Toolchain, Unknown
from mmdoctor.work import Background, doing

# What of the environment decides builds and look-ups; never credentials.
TELLING = (
    "CUDA_HOME",
    "CUDA_VISIBLE_DEVICES",
    "FORCE_CUDA",
    "LD_LIBRARY_PATH",
    "LD_PRELOAD",
    "MAX_JOBS",
    "PYTHONNOUSERSITE",
    "PYTHONPATH",
    "TORCH_CUDA_ARCH_LIST",
)

NOT_LOOKED = Toolchain(looked=False, nvcc=None, gcc=None, ninja=None, cuda_home=None)


def collect(
    asked: Union[Target, Background[Target]],
    where: Path,
    *,
    quick: bool = False,
    import_deadline: Optional[float] = None,
    wheels_folder: Optional[Path] = None,
    likely_broken: bool = False,
    seen: Optional[Callable[[Facts], None]] = None,
) -> Facts:
    """Look at the machine and at a target, which may still be answering; imports in children unless `quick`.

    `where` is the target's place, for its disk. `likely_broken` only says which way of importing is the faster one.
    `seen` gets what a quick look would say, before the long part begins. No network.
    """
    from mmdoctor.probes.gpu import probe_gpu
    from mmdoctor.probes.host import loader_folders, probe_host
    from mmdoctor.probes.toolchain import probe_toolchain
    from mmdoctor.wheels.cache import cached_wheels

    toolchain = None if quick else Background(probe_toolchain, os.environ)
    with doing("looking at the machine"):
        host = probe_host(where, caches=written_places(os.environ))
    with doing("asking the GPU's driver"):
        gpu = probe_gpu(os.environ)
    with doing("asking the interpreter"):
        target = asked if isinstance(asked, Target) else asked.result()
    with doing("reading mmcv._ext"):
        extension = probe_extension(target)
    facts = Facts(
        mmdoctor=__version__,
        quick=True,
        host=host,
        gpu=gpu,
        toolchain=NOT_LOOKED,
        target=target,
        loader=loader_folders(os.environ),
        extension=extension,
        wheels=cached_wheels(wheels_folder or cache_folder() / "wheels"),
        environment={name: os.environ[name] for name in TELLING if name in os.environ},
    )
    if seen is not None:
        seen(facts)
    if quick:
        return facts
    if target.state == "present":
        facts = with_imports(facts, import_deadline, likely_broken=likely_broken)
    with doing("looking for compilers"):
        return replace(facts, quick=False, toolchain=toolchain.result() if toolchain else NOT_LOOKED)


def with_imports(facts: Facts, deadline: Optional[float], *, likely_broken: bool) -> Facts:
    """The same facts, with what the target's imports came to, each within `deadline` seconds, and what pip keeps."""
    from mmdoctor.probes.imports import DEADLINE_SECONDS, probe_imports, probe_retries, steps_for, surroundings
    from mmdoctor.probes.pip_cache import probe_pip_cache

    target = facts.target
    kept = Background(probe_pip_cache, target, os.environ, home())
    limit = deadline or DEADLINE_SECONDS
    imports = probe_imports(target.executable, steps_for(target), limit, likely_broken=likely_broken)
    retries = probe_retries(target.executable, imports, surroundings(target, os.environ), limit)
    with doing("looking into pip's cache"):
        return replace(facts, imports=imports, retries=retries, pip_cache=kept.result())


def unseen(requested: str) -> Facts:
    """The facts of a look that ended before the target had answered; nothing of it is touched."""
    from mmdoctor.probes.host import probe_host

    nobody_asked = Gpu(driver=Unknown(unknown="not asked"), source=None, cuda_ceiling=None, devices=(), reason=None)
    return Facts(
        mmdoctor=__version__,
        quick=True,
        host=probe_host(Path(os.sep)),
        gpu=nobody_asked,
        toolchain=NOT_LOOKED,
        target=Target(requested=requested, state="broken", problem="it was not asked to the end"),
    )


def written_places(environ: Mapping[str, str]) -> dict[str, Path]:
    """Where installing writes besides the environment, by what it is for."""
    # Not tempfile.gettempdir(), which passes over a TMPDIR that is full; uv, pip and compilers do not.
    temporary = environ.get("TMPDIR") or ("/tmp" if os.name == "posix" else environ.get("TEMP", "."))
    return {"temporary files": Path(temporary), "mmdoctor's cache": cache_folder(), "uv's cache": uv_cache(environ)}


def uv_cache(environ: Mapping[str, str]) -> Path:
    """uv's cache folder (docs.astral.sh/uv/reference/storage): UV_CACHE_DIR, else the platform's own."""
    if environ.get("UV_CACHE_DIR"):
        return Path(environ["UV_CACHE_DIR"])
    if os.name == "nt":
        return Path(environ.get("LOCALAPPDATA") or home() / "AppData" / "Local") / "uv" / "cache"
    return Path(environ.get("XDG_CACHE_HOME") or home() / ".cache") / "uv"


def probe_extension(target: Target) -> Optional[Extension]:
    """What `mmcv._ext` says of itself, read from the file; None when there is no such file."""
    if not target.site_packages:
        return None
    found = sorted(Path(target.site_packages).glob("mmcv/_ext*.so"))
    if not found:
        return None
    from mmdoctor.probes.extension import absent, read_extension, torch_folder

    extension = read_extension(found[0], torch_folder(target))
    return replace(extension, absent=absent(extension, target))


def with_indexes(facts: Facts, matrix: Matrix, *, offline: bool) -> Facts:
    """The same facts, with whether the indexes that a plan may use answer, and what the user's own places offer of
    mmcv. Asks the network unless `offline`."""
    from mmdoctor.probes.indexes import probe_indexes, user_config
    from mmdoctor.probes.offers import probe_offers

    config = user_config(os.environ, Path.home(), Path(facts.target.prefix) if facts.target.prefix else None)
    cpu = matrix.torch_index.format(variant="cpu")
    wheels = matrix.openmmlab_index.format(variant="cpu", torch="2.1.0")  # a page that exists: not each pair has one
    offers = Background(probe_offers, config, offline=offline)
    indexes = probe_indexes(config, f"{cpu}/", wheels, offline)
    return replace(facts, indexes=(*indexes, *offers.result()))


def with_smoke(facts: Facts, smoke: tuple[Bench, ...]) -> Facts:
    """The same facts, with the smoke's results."""
    return replace(facts, smoke=smoke)
