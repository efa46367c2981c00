"""A CUDA toolkit out of wheels: nvcc beside what the torch of the target already brings. No root, no system toolkit."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from mmdoctor import system
from mmdoctor.apply.failure import failure
from mmdoctor.builds import CudaTools, nvcc_wheels
from mmdoctor.errors import RefusedError
from mmdoctor.model import Target

DEADLINE_SECONDS = 1800.0
# What both nvcc's wheels or toolkit and torch's own wheels have a part of.
SHARED = ("include", "lib")


def cuda_home(
    tools: CudaTools, folder: Path, target: Target, uv: tuple[str, ...], environment: Mapping[str, str]
) -> Path:
    """Make a CUDA_HOME in `folder`: nvcc, and links to the headers and libraries of torch's own wheels.

    nvcc is that of the toolkit at `tools.own`, or uv installs it as wheels, from its cache where it has them (hard
    links: a second one costs no space). Made anew each time, since the target that it points into may be another; the
    files keep their times, so nothing is compiled again for it. Raises RefusedError where torch did not bring CUDA as
    wheels, TryAgainError or ApplyError where uv fails.
    """
    row = tools.wheels
    if row is None:
        raise ValueError(f"{tools} is whole")
    brought = Path(target.site_packages) / row.home
    if not (brought / "include" / "cuda_runtime.h").exists():
        what = f"the torch of {target.requested} does not bring CUDA's headers as wheels: there is no {brought}/include"
        raise RefusedError(what, hint=f"install the CUDA toolkit {row.cuda}, or torch from PyPI")
    shutil.rmtree(folder, ignore_errors=True)
    home = folder / row.home
    if tools.own is None:
        install(nvcc_wheels(row), folder, target.executable, uv, environment)
    for name in SHARED:
        (home / name).mkdir(parents=True, exist_ok=True)
    for name, to in row.links.items():
        if not os.path.lexists(home / name):
            (home / name).symlink_to(to)
    for other in (tools.own, brought):
        if other is not None:
            join(home, Path(other))
    return home


def install(
    wanted: tuple[str, ...], folder: Path, python: str, uv: tuple[str, ...], environment: Mapping[str, str]
) -> None:
    """Install these requirements, and nothing that they require, for `python` into a folder of their own. `uv` is the
    command that installs."""
    argv = (*uv, "--python", python, "--no-deps", "--target", str(folder), *wanted)
    done = system.run(argv, deadline=DEADLINE_SECONDS, env=environment, merge=True)
    if not done.ok:
        log = folder.with_suffix(".log")
        log.write_text(f"$ {' '.join(argv)}\n{done.stdout}{done.stderr}\n", encoding="utf-8")
        raise failure(folder.name, done, log)


def join(home: Path, other: Path) -> None:
    """Show in `home` what `other` has besides, as symbolic links; what both have stays `home`'s."""
    for entry in other.iterdir():
        here = home / entry.name
        if not os.path.lexists(here):
            here.symlink_to(entry)
        elif here.is_dir() and not here.is_symlink() and entry.is_dir():
            join(here, entry)
