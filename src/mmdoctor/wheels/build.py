"""What a build depends on, and its source: unpacked and mended."""

from __future__ import annotations

import hashlib
import shutil
import tarfile
from pathlib import Path
from typing import Optional

import msgspec

from mmdoctor import rules
from mmdoctor.errors import ApplyError
from mmdoctor.model import Build, Host, Target, Text
from mmdoctor.wheels.cache import BuildKey


def build_key(
    build: Build, target: Target, host: Host, compiler: Text, sdist_sha256: str, nvcc: Optional[str] = None
) -> BuildKey:
    """What the wheel of this build will depend on, in this target. xtcocotools knows NumPy and no torch; mmcv the
    reverse (its use of pybind11's NumPy header binds at run time; facts: mmcv_side)."""
    torch = target.torch.version if target.torch and rules.module_of(build.package) == "mmcv" else ""
    cuda = (target.torch.cuda or "") if target.torch and torch and build.env.get("FORCE_CUDA") == "1" else ""
    fixups = hashlib.sha256(msgspec.json.encode(build.fixups)).hexdigest()[:16] if build.fixups else ""
    return BuildKey(
        package=build.package,
        version=build.version,
        sdist_sha256=sdist_sha256,
        fixups=fixups,
        torch=torch,
        numpy=(target.version("numpy") or "") if not torch else "",
        cuda=cuda,
        archs=build.env.get("TORCH_CUDA_ARCH_LIST", "") if cuda else "",
        python_tag="cp" + "".join(target.python.split(".")[:2]),
        glibc=host.glibc if isinstance(host.glibc, str) else "",
        compiler=" nvcc ".join(version for version in (compiler, nvcc) if isinstance(version, str)),
        flags=" ".join(f"{key}={value}" for key, value in sorted(build.env.items())),
    )


def unpack(sdist: Path, build: Build, folder: Path) -> Path:
    """Unpack an sdist into `folder` and apply the fix-ups; returns the source's folder.

    A folder that an earlier, killed build left is taken up again. ApplyError when a fix-up no longer fits the source.
    """
    source = folder / sdist.name[: -len(".tar.gz")]
    done = folder / "unpacked"
    if done.exists():
        return source
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    with tarfile.open(sdist) as archive:
        if hasattr(tarfile, "data_filter"):
            archive.extractall(folder, filter="data")
        else:
            archive.extractall(folder)  # the archive's sha256 is the one that the matrix names
    for fixup in build.fixups:
        path = source / fixup.file
        text = path.read_text(encoding="utf-8")
        for old, new in fixup.replace.items():
            if old not in text:
                what = f"fix-up {fixup.id} no longer fits {build.package} {build.version}: {fixup.file} has no {old!r}"
                raise ApplyError(what, hint="report it: the matrix's row is out of date")
            text = text.replace(old, new)
        path.write_text(text, encoding="utf-8")
    done.write_text(build.version, encoding="utf-8")
    return source
