"""The files that an environment was installed from, by name and sha256."""

from __future__ import annotations

import re
from collections.abc import Iterable

from packaging.utils import InvalidWheelFilename, parse_wheel_filename

from mmdoctor import rules, system
from mmdoctor.apply.failure import first_error
from mmdoctor.apply.stages import Settings
from mmdoctor.errors import TryAgainError
from mmdoctor.matrix_model import Matrix
from mmdoctor.model import Stack, Target
from mmdoctor.rest import uv_of
from mmdoctor.verify.combination import parts_of
from mmdoctor.wheels.cache import proofs

DEADLINE_SECONDS = 300.0
# A file of a PEP 751 lock as uv writes it, with its hash.
LOCKED = re.compile(r'(?:url|path) = "(?:[^"]*/)?([^"/]+)"[^{}]*hashes = \{ sha256 = "([0-9a-f]{64})"')


def installed_files(stack: Stack, target: Target, matrix: Matrix, settings: Settings) -> dict[str, str]:
    """The files that were installed, with their sha256: the stack's parts and what is bound to NumPy. Of a compiled one
    the sdist and the wheel that came out."""
    names = {*parts_of(stack), *(row.package for row in matrix.binaries)}
    there = {name: d for name, d in target.installed.items() if name in names}
    built = {stack.mmcv.name: stack.mmcv.artefact, "xtcocotools": stack.xtcocotools.artefact}
    compiled = {name for name, artefact in built.items() if artefact.kind != "wheel"}
    found: dict[str, str] = {}
    for name in sorted(compiled & there.keys()):
        version = there[name].version
        row = rules.binary_row(matrix, name, version) or rules.mmcv_row(matrix, name, version)
        if row is not None and row.sdist_sha256:
            found[f"{name}-{version}.tar.gz"] = row.sdist_sha256
        tag = "cp" + rules.minor(target.python).replace(".", "")
        torch = target.torch.version if target.torch else ""
        for wheel, proof in proofs(settings.wheels):
            key, beside = proof.key, (torch if name != "xtcocotools" else target.version("numpy"))
            if (key.package, key.version, key.python_tag, key.torch or key.numpy) == (name, version, tag, beside):
                found[wheel.name] = proof.wheel_sha256
    wanted = sorted(there.keys() - compiled)
    found.update(_locked(wanted, stack, target, settings) if wanted else {})
    return dict(sorted(found.items()))


def _locked(wanted: Iterable[str], stack: Stack, target: Target, settings: Settings) -> dict[str, str]:
    """The index's file and hash of each installed distribution, as uv would lock it for this interpreter."""
    where, exact = rules.torch_source(stack)
    installed = target.installed
    texts = []
    for name in wanted:
        version = rules.public(installed[name].version)
        texts.append(f"{name}{exact(version)}" if name in ("torch", "torchvision") else f"{name}=={version}")
    uv = uv_of(settings.uv, settings.config, offline=settings.offline)
    argv = (uv.program, "pip", "compile", "-", "--no-deps", "--quiet", "--no-header", "--format", "pylock.toml")
    registry = ("--no-index",) if uv.no_index else ()
    done = system.run(
        (*argv, "--python", target.executable, *where, *registry),
        deadline=DEADLINE_SECONDS,
        env=uv.environment,
        text="\n".join(texts) + "\n",
    )
    if not done.ok:
        raise TryAgainError(f"the index does not say any more what was installed: {first_error(done.stderr)}")
    found: dict[str, str] = {}
    for files in (_files_of(name, done.stdout) for name in wanted):
        # Most often the lock holds the one file that fits; the tag within a wheel need not be that of its name (torch).
        fits = [file for file in files if len(files) == 1 or installed[_name_of(file)].tag in _tags_of(file)]
        found.update({file: files[file] for file in fits[:1]})
    return found


def _files_of(name: str, lock: str) -> dict[str, str]:
    """The wheels of a distribution in a lock, with their sha256."""
    return {file: digest for file, digest in LOCKED.findall(lock) if _name_of(file) == name}


def _name_of(file: str) -> str:
    """The distribution of a wheel; empty for another file."""
    try:
        return str(parse_wheel_filename(file)[0])
    except InvalidWheelFilename:
        return ""


def _tags_of(file: str) -> set[str]:
    return {str(tag) for tag in parse_wheel_filename(file)[3]}
