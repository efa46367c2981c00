"""Faults of the packages: what pip, mim, a copy or a killed install do to a stack that worked."""

from __future__ import annotations

import os
import shutil
import stat
import sys
from pathlib import Path
from typing import Callable

from mmdoctor.system import uv_program
from tests.real.chaos.lab import Around, Fault, Lab

Inject = Callable[[Lab, Path], None]
# root without the right to read everything: a process of user 0 whose capabilities are gone.
OTHER_TORCH = "torch==2.13.0"
NO_CAPABILITIES = ("setpriv", "--inh-caps=-all", "--bounding-set=-all")
SHIM = "from pycocotools.{0} import *\nfrom pycocotools import {0} as _{0}\n"
ALIAS = """\
import sys
import pycocotools, pycocotools._mask, pycocotools.coco, pycocotools.cocoeval, pycocotools.mask
for name in ("", "._mask", ".coco", ".cocoeval", ".mask"):
    sys.modules["xtcocotools" + name] = sys.modules["pycocotools" + name]
"""
# One small extension against torch's headers: its symbols are those of the torch that it is compiled beside.
TINY_EXT = """\
#include <torch/extension.h>
at::Tensor twice(at::Tensor tensor) { return torch::empty_like(tensor).copy_(tensor) * 2; }
PYBIND11_MODULE(_ext, module) { module.def("twice", &twice); }
"""
COMPILE_EXT = """\
import sys
from torch.utils.cpp_extension import load
load("_ext", [sys.argv[1]], extra_cflags=["-O0"], build_directory=sys.argv[2], is_python_module=False)
"""


def site(env: Path) -> Path:
    """The environment's site-packages."""
    [found] = env.glob("lib/python3*/site-packages")
    return found


def ext(env: Path) -> Path:
    """mmcv's compiled part."""
    [found] = site(env).glob("mmcv/_ext*.so")
    return found


def put(path: Path, content: bytes) -> None:
    """Replace a file, never write into it: it is the proven environment's too."""
    draft = path.with_name(f".{path.name}.draft")
    draft.write_bytes(content)
    if path.exists():
        shutil.copymode(path, draft)
    draft.replace(path)


def installed(*requirements: str, options: tuple[str, ...] = ("--no-deps",)) -> Inject:
    """uv installs these."""

    def inject(lab: Lab, env: Path) -> None:
        lab.uv(env, "install", *options, *requirements)

    return inject


def uninstalled(*names: str) -> Inject:
    """uv removes these."""

    def inject(lab: Lab, env: Path) -> None:
        lab.uv(env, "uninstall", *names)

    return inject


def deleted(*patterns: str) -> Inject:
    """These files or folders of site-packages vanish."""

    def inject(lab: Lab, env: Path) -> None:
        for pattern in patterns:
            found = list(site(env).glob(pattern))
            assert found, pattern
            for path in found:
                shutil.rmtree(path) if path.is_dir() else path.unlink()

    return inject


def cut(pattern: str, keep: float) -> Inject:
    """A file loses its end, as after a crash of the machine or on a full disk."""

    def inject(lab: Lab, env: Path) -> None:
        [path] = site(env).glob(pattern)
        content = path.read_bytes()
        put(path, content[: int(len(content) * keep)])

    return inject


def lite_in_place(lab: Lab, env: Path) -> None:
    lab.uv(env, "uninstall", "mmcv")
    lab.uv(env, "install", "--no-deps", "mmcv-lite==2.1.0")


def without_torch(requirement: str) -> Inject:
    """What pip and uv do unless told otherwise: setup.py runs in isolation, finds no torch, and leaves the ops out."""

    def inject(lab: Lab, env: Path) -> None:
        constraint = lab.folder / "build-constraint.txt"
        constraint.write_text("setuptools<81\n")  # mmcv's setup.py imports pkg_resources
        name = requirement.split("==", maxsplit=1)[0]
        words = ("--no-deps", "--no-cache", "--no-binary", name, "--build-constraint", str(constraint))
        full = {"MMCV_WITH_OPS": "1"}
        python = ("--python", str(env / "bin" / "python"))
        again = ("--reinstall-package", name)
        lab.run(uv_program(), "pip", "install", *python, *words, *again, requirement, environment=full)

    return inject


def other_torch(lab: Lab) -> Path:
    """An environment with another torch and a compiler's tools, made once."""
    env = lab.folder / "other-torch"
    if not env.exists():
        lab.run(uv_program(), "venv", "--python", "3.11", str(env))
        tools = ("numpy==2.2.6", "ninja", "setuptools<81", "wheel", "cython")
        lab.uv(env, "install", OTHER_TORCH, *tools)
    return env


def ext_of_another_torch(lab: Lab, env: Path) -> None:
    made = lab.folder / "tiny"
    made.mkdir(exist_ok=True)
    if not (made / "_ext.so").exists():
        (made / "ext.cpp").write_text(TINY_EXT)
        python = other_torch(lab) / "bin" / "python"
        path = {"PATH": f"{python.parent}:{os.environ['PATH']}"}
        lab.run(str(python), "-c", COMPILE_EXT, str(made / "ext.cpp"), str(made), environment=path)
    put(ext(env), (made / "_ext.so").read_bytes())


def ext_of_another_machine(lab: Lab, env: Path) -> None:
    """A small wheel that exists for aarch64 lends its binary."""
    folder = lab.folder / "foreign"
    if not folder.exists():
        platform = ("--python-platform", "aarch64-unknown-linux-gnu", "--only-binary", ":all:", "--no-deps")
        lab.run(uv_program(), "pip", "install", "--target", str(folder), *platform, "markupsafe==3.0.2")
    [foreign] = folder.glob("markupsafe/_speedups*.so")
    put(ext(env), foreign.read_bytes())


def ext_unreadable(lab: Lab, env: Path) -> Around:
    path = ext(env)
    put(path, path.read_bytes())
    path.chmod(0)
    assert not path.stat().st_mode & stat.S_IRUSR
    return Around(wrapper=NO_CAPABILITIES)


def no_libgl(lab: Lab, env: Path) -> Around:
    """In a mount namespace of its own, the folder of libGL.so.1 without it, and the linker's cache made anew."""
    upper = lab.folder / "no-libgl"
    for name in ("upper", "work"):
        (upper / name).mkdir(parents=True, exist_ok=True)
    script = (
        'set -e; folder=$(dirname "$(ldconfig -p | sed -n "s/.*libGL.so.1 .*=> //p" | head -1)"); '
        f'mount -t tmpfs none "{upper}"; mkdir "{upper}/upper" "{upper}/work"; '
        f'mount -t overlay overlay -o "lowerdir=$folder,upperdir={upper}/upper,workdir={upper}/work" "$folder"; '
        f'rm -f "$folder"/libGL.so.1*; ldconfig -C "{upper}/cache"; mount --bind "{upper}/cache" /etc/ld.so.cache; '
        'exec "$@"'
    )
    return Around(wrapper=("unshare", "-m", "sh", "-c", script, "sh"))


def xtcocotools_for_numpy_2(lab: Lab, env: Path) -> None:
    """Compiled in an environment with NumPy 2 and for nothing older (NPY_TARGET_VERSION is NumPy's own switch)."""
    made = lab.folder / "xtcocotools-for-numpy-2"
    if not made.exists():
        python = str(other_torch(lab) / "bin" / "python")
        where = ("--python", python, "--target", str(made))
        words = ("--no-deps", "--no-cache", "--no-binary", "xtcocotools", "--no-build-isolation")
        target = {"CFLAGS": "-DNPY_TARGET_VERSION=0x00000012"}
        lab.run(uv_program(), "pip", "install", *where, *words, "xtcocotools==1.14.3", environment=target)
    [binary] = made.glob("xtcocotools/_mask*.so")
    put(site(env) / "xtcocotools" / binary.name, binary.read_bytes())


def xtcocotools_shim(lab: Lab, env: Path) -> None:
    """What forum answers advise where xtcocotools has no wheel."""
    lab.uv(env, "uninstall", "xtcocotools")
    folder = site(env) / "xtcocotools"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    for name in ("mask", "coco", "cocoeval"):
        (folder / f"{name}.py").write_text(SHIM.format(name))


def xtcocotools_alias(lab: Lab, env: Path) -> None:
    put(site(env) / "sitecustomize.py", ALIAS.encode())


def leftovers(lab: Lab, env: Path) -> None:
    """pip renames a folder to ~ and its second letter on while it replaces it."""
    for name in ("pip", next(site(env).glob("pip-*.dist-info")).name):
        shutil.copytree(site(env) / name, site(env) / f"~{name[1:]}")


def two_numpys(lab: Lab, env: Path) -> None:
    """An interrupted or a copied install: the metadata of another version beside the one whose files are there."""
    extra = lab.folder / "numpy-1.25.2"
    if not extra.exists():
        lab.run(sys.executable, "-m", "pip", "install", "-q", "--target", str(extra), *("--no-deps", "numpy==1.25.2"))
    shutil.copytree(extra / "numpy-1.25.2.dist-info", site(env) / "numpy-1.25.2.dist-info")


def cut_bytecode(lab: Lab, env: Path) -> None:
    [path] = site(env).glob("mmengine/__pycache__/__init__.cpython-3*[0-9].pyc")
    put(path, path.read_bytes()[:40])


FAULTS = (
    Fault(
        "numpy 2 over a NumPy-1 stack",
        installed("numpy==2.2.6"),
        "NPY001",
        "numpy2-abi",
        changes=("numpy",),
        small=True,
    ),
    Fault("numpy older than its neighbours", installed("numpy==1.23.5"), "NPY001", "numpy-too-old", changes=("numpy",)),
    Fault(
        "mmcv-lite over mmcv",
        installed("mmcv-lite==2.1.0"),
        "MCV001",
        "mmcv-and-full-both",
        changes=("mmcv", "mmcv-lite"),
    ),
    Fault("mmcv-lite in place of mmcv", lite_in_place, "MCV001", "mmcv-lite-installed", changes=("mmcv", "mmcv-lite")),
    Fault(
        "mmcv and mmcv-full both",
        without_torch("mmcv-full==1.7.2"),
        "MCV001",
        "mmcv-and-full-both",
        changes=("mmcv", "mmcv-full"),
    ),
    Fault("mmcv._ext of another torch", ext_of_another_torch, "MCV002", "mmcv-torch-abi-mismatch", changes=("mmcv",)),
    Fault("mmcv._ext cut off", cut("mmcv/_ext*.so", 0.6), "MCV002", "mmcv-ext-damaged", changes=("mmcv",), small=True),
    Fault("mmcv._ext missing", deleted("mmcv/_ext*.so"), "MCV002", "mmcv-ext-missing", changes=("mmcv",)),
    Fault("mmcv._ext of another machine", ext_of_another_machine, "MCV002", "mmcv-ext-damaged", changes=("mmcv",)),
    Fault("mmcv._ext not readable", ext_unreadable, "MCV002", "permission-or-lock", changes=("mmcv",)),
    Fault("mmcv without ops", without_torch("mmcv==2.1.0"), "MCV002", "mmcv-ext-missing", changes=("mmcv",)),
    Fault("torch swapped", installed(OTHER_TORCH, "setuptools<81", options=()), "TRC002", "torch-silently-replaced"),
    Fault(
        "torchvision of another torch",
        installed("torchvision==0.17.2"),
        "TVN001",
        "torchvision-mismatch",
        changes=("torchvision",),
    ),
    Fault(
        "metadata deleted, folder left",
        deleted("mmengine-*.dist-info"),
        "MML001",
        "module-unowned",
        changes=("mmengine",),
    ),
    Fault("package folder deleted", deleted("mmengine"), "ENV002", "distribution-damaged", changes=("mmengine",)),
    Fault("folder of a dependency deleted", deleted("addict"), "ENV002", "distribution-damaged", changes=("addict",)),
    Fault(
        "CUDA library deleted",
        deleted("nvidia/cublas/lib/libcublas.so.12"),
        "ENV002",
        "distribution-damaged",
        changes=("nvidia-cublas-cu12",),
    ),
    Fault(
        "library of a dependency cut off",
        cut("scipy/linalg/_fblas*.so", 0.5),
        "ENV002",
        "distribution-damaged",
        changes=("scipy",),
    ),
    Fault(
        "metadata without RECORD",
        deleted("mmengine-*.dist-info/RECORD"),
        "ENV002",
        "distribution-damaged",
        changes=("mmengine",),
    ),
    Fault("bytecode cut off", cut_bytecode, "MML001", "bytecode-damaged", changes=()),
    Fault("remains of an interrupted install", leftovers, "ENV003", "install-leftovers", changes=(), small=True),
    Fault("numpy listed twice", two_numpys, "ENV009", "distribution-twice", changes=("numpy",)),
    Fault("both OpenCV flavours", installed("opencv-python-headless==4.11.0.86"), "OCV001", "opencv-both"),
    Fault("OpenCV with windows, no libGL", no_libgl, "OCV001", "libgl-missing"),
    Fault(
        "xtcocotools removed",
        uninstalled("xtcocotools"),
        "XTC001",
        "xtcocotools-install-fail",
        changes=("xtcocotools",),
        small=True,
    ),
    Fault(
        "xtcocotools built for another NumPy",
        xtcocotools_for_numpy_2,
        "XTC001",
        "numpy-dtype-size",
        changes=("xtcocotools",),
    ),
    Fault("xtcocotools is a shim", xtcocotools_shim, "XTC001", "xtcocotools-shim", changes=("xtcocotools",)),
    Fault("xtcocotools is an alias in sitecustomize", xtcocotools_alias, "ENV005", "startup-file-broken", "manual"),
    Fault(
        "setuptools without pkg_resources",
        installed("setuptools==84.2.1"),
        "PKG001",
        "pkg-resources-gone",
        changes=("setuptools",),
    ),
    Fault(
        "openmim with openxlab",
        installed("openmim", "numpy<2", options=()),
        "PKG003",
        "openmim-openxlab-pins",
        "manual",
    ),
    Fault("mmdet out of range", installed("mmdet==3.0.0"), "MCV004", "mmcv-version-range", changes=("mmdet",)),
    Fault("mmpose 0 beside mmcv 2", installed("mmpose==0.29.0"), "MCV004", "mmlab-generation-mix", changes=("mmpose",)),
)
