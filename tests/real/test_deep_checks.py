"""What `check` finds where nobody else looks, on hard-linked clones of the provisioned environment with the fault
really made; most of it by --quick, without an import. tests/real/chaos heals nearly all of these faults, for hours."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Callable, Optional

import pytest

from tests.real.chaos import machine, packages
from tests.real.chaos.lab import Around, Lab, roots_of
from tests.real.chaos.packages import deleted, ext, put, site
from tests.real.conftest import run

pytestmark = pytest.mark.real
Inject = Callable[[Lab, Path], Optional[Around]]
# A function of torch that mmcv._ext calls, and one of the same length that no torch has.
ASKED, NOBODYS = b"_ZN2at4_ops10zeros_like4call", b"_ZN2at4_ops10zeros_liku4call"


@pytest.fixture(scope="module")
def lab(demo: Path, scratch: Path) -> Iterator[Lab]:
    folder = scratch / "deep"
    folder.mkdir()
    yield Lab(demo, folder)
    shutil.rmtree(folder)


def symbol_of_nobody(lab: Lab, env: Path) -> None:
    """mmcv._ext as if compiled beside a torch that has other functions."""
    content = ext(env).read_bytes()
    assert content.count(ASKED)
    put(ext(env), content.replace(ASKED, NOBODYS))


def runtime_of_nobody(lab: Lab, env: Path) -> None:
    """mmcv._ext linked to a library of CUDA 11, in the place of one of the same length."""
    content = ext(env).read_bytes()
    assert content.count(b"libtorch_cpu.so\0")
    put(ext(env), content.replace(b"libtorch_cpu.so\0", b"libcudart.so.11\0"))


def emptied(lab: Lab, env: Path) -> None:
    put(site(env) / "mmengine" / "config" / "config.py", b"")


def record_lost(lab: Lab, env: Path) -> None:
    next(site(env).glob("mmdet-*.dist-info/RECORD")).unlink()


def owned_twice(lab: Lab, env: Path) -> None:
    """The fork's metadata over the same folder, as an install of onedl-mmengine leaves it."""
    [own] = site(env).glob("mmengine-*.dist-info")
    fork = site(env) / own.name.replace("mmengine", "onedl_mmengine")
    fork.mkdir()
    for file in filter(Path.is_file, own.rglob("*")):
        text = file.read_text(encoding="utf-8").replace(own.name, fork.name)
        place = fork / file.relative_to(own)
        place.parent.mkdir(parents=True, exist_ok=True)
        put(place, re.sub(r"^Name: .*$", "Name: onedl-mmengine", text, flags=re.MULTILINE).encode())


def user_site(lab: Lab, env: Path) -> Around:
    """A venv that lets the system in and lost its numpy: the one of the user is taken."""
    config = env / "pyvenv.cfg"
    put(config, config.read_bytes().replace(b"packages = false", b"packages = true"))
    base = machine.folder(lab, "user-base")
    theirs = base / "lib" / site(env).parent.name / "site-packages"
    theirs.mkdir(parents=True)
    for path in site(env).glob("numpy*"):
        path.rename(theirs / path.name)
    (base / "bin").mkdir()
    for name in ("f2py", "numpy-config"):
        if (env / "bin" / name).exists():
            (env / "bin" / name).rename(base / "bin" / name)
    return Around(environment={"PYTHONUSERBASE": str(base)})


def poisoned(lab: Lab, env: Path) -> Around:
    """pip's own cache holds an mmcv that was built in isolation, so without ops."""
    cache, sdist = machine.folder(lab, "pip-cache"), machine.folder(lab, "mmcv-2.1.0")
    (sdist / "mmcv").mkdir()
    (sdist / "mmcv" / "__init__.py").write_text("__version__ = '2.1.0'\n")
    setup = "import setuptools\nsetuptools.setup(name='mmcv', version='2.1.0', packages=['mmcv'])"
    (sdist / "setup.py").write_text(setup)
    run("tar", "-C", str(lab.folder), "-czf", str(lab.folder / "mmcv-2.1.0.tar.gz"), sdist.name)
    index = machine.folder(lab, "links")
    shutil.move(lab.folder / "mmcv-2.1.0.tar.gz", index / "mmcv-2.1.0.tar.gz")
    settings = {"PIP_CACHE_DIR": str(cache), "PIP_NO_BUILD_ISOLATION": "0"}
    words = ("wheel", "-q", "--no-deps", "--no-index", "-w", str(lab.folder), "-f", str(index), "mmcv==2.1.0")
    run(str(env / "bin" / "python"), "-m", "pip", *words, environment=settings)
    return Around(environment=settings)


QUICK = {
    "a symbol that torch lacks": (symbol_of_nobody, "MCV002", "mmcv-torch-abi-mismatch"),
    "no end": (packages.cut("mmcv/_ext*.so", 0.6), "MCV002", "mmcv-ext-damaged"),
    "another machine's": (packages.ext_of_another_machine, "MCV002", "mmcv-ext-damaged"),
    "no ops": (deleted("mmcv/_ext*.so"), "MCV002", "mmcv-ext-missing"),
    "no RECORD": (record_lost, "ENV002", "distribution-damaged"),
    "a CUDA runtime that is not there": (runtime_of_nobody, "MCV002", "mmcv-cuda-runtime-mismatch"),
    "one folder, two owners": (owned_twice, "MML005", "module-owned-twice"),
    "one name, two versions": (packages.two_numpys, "ENV009", "distribution-twice"),
    "a folder in the working directory": (machine.shadow_in_cwd, "ENV004", "path-shadowing"),
    "a folder on PYTHONPATH": (machine.shadow_on_pythonpath, "ENV004", "path-shadowing"),
    "the user's own packages": (user_site, "ENV006", "user-site-leak"),
    "another toolkit's libraries": (machine.foreign_cuda, "ENV007", "library-path-foreign"),
    "remains of an install": (packages.leftovers, "ENV003", "install-leftovers"),
}
# Every file that RECORD lists is looked up, and pip's cache opened, where there is time for imports too.
WHOLE = {
    "a folder that RECORD lists": (deleted("mmengine"), "ENV002", "distribution-damaged"),
    "a file without content": (emptied, "ENV002", "distribution-damaged"),
    "what pip compiled without torch": (poisoned, "PKG004", "pip-cache-poisoned"),
    # The linker itself is the judge of what was read from the files.
    "a symbol that torch lacks": QUICK["a symbol that torch lacks"],
    "a CUDA runtime that is not there": QUICK["a CUDA runtime that is not there"],
    "another toolkit's libraries": QUICK["another toolkit's libraries"],
}


def look(lab: Lab, inject: Inject, *options: str) -> list[tuple[str, str]]:
    """The roots that `check` names in a patient with this fault."""
    env = lab.patient("patient")
    around = inject(lab, env) or Around()
    done = lab.mmdoctor(around, "check", "--env", str(env), "--format", "json", *options)
    assert done.stdout.startswith("{"), done.stderr
    return [(f["id"], f["cause"]) for f in roots_of(json.loads(done.stdout))]


@pytest.mark.parametrize("name", QUICK)
def test_it_is_found_without_an_import(name: str, lab: Lab) -> None:
    inject, check, cause = QUICK[name]
    assert look(lab, inject, "--quick") == [(check, cause)]


def test_a_healthy_clone_has_nothing_of_it(lab: Lab) -> None:
    assert look(lab, lambda lab, env: None, "--quick") == []


@pytest.mark.parametrize("name", WHOLE)
def test_it_is_found(name: str, lab: Lab) -> None:
    inject, check, cause = WHOLE[name]
    assert look(lab, inject) == [(check, cause)]
