"""Machines and requests by the thousand, each from its number alone: wide, odd and often broken, but each possible."""

from __future__ import annotations

import random
from functools import cache
from typing import Any, Optional

from msgspec.structs import replace
from packaging.specifiers import SpecifierSet

from mmdoctor.matrix import load_recipe, recipe_names
from mmdoctor.matrix_model import Matrix
from mmdoctor.model import (
    CachedWheel,
    Distribution,
    Extension,
    Facts,
    Gpu,
    GpuDevice,
    Host,
    ImportResult,
    Index,
    Request,
    Retry,
    Target,
    Tool,
    Toolchain,
    TorchBuild,
    Unknown,
)

GIGABYTE = 1024**3
recipe = cache(load_recipe)
SITE = "/env/lib/site-packages"
PLATFORMS = (
    *[("linux", "x86_64")] * 20, ("linux", "aarch64"), ("linux", "aarch64"), ("macos", "arm64"), ("macos", "x86_64"),
    ("windows", "x86_64"), ("windows", "x86_64"), ("linux", "ppc64le"), ("windows", "arm64"),
)  # fmt: skip
PYTHONS = (
    "3.7.17", "3.8.10", "3.8.10", "3.9.2", "3.9.2", *["3.10.12"] * 3, *["3.11.7"] * 3,
    "3.12.3", "3.12.3", "3.13.5", "3.14.0",
)  # fmt: skip
DRIVERS = (
    "418.226.00",
    "450.80.02",
    "470.256.02",
    "525.60.13",
    "535.104.05",
    "550.144.03",
    "570.86.15",
    "580.65.06",
    "595.45",
)
GPUS = ("6.1", "7.0", "7.5", "8.0", "8.6", "8.7", "8.9", "9.0", "10.0", "12.0")
GLIBCS = ("2.17", "2.28", "2.31", "2.35", "2.36", "2.39", "2.41")
NVCCS = ("11.3", "11.8.89", "12.1.105", "12.4.131", "12.8.61", "13.0.88")
GCCS = ("7.5.0", "9.4.0", "11.4.0", "12.2.0", "13.3.0", "14.2.0")
UNSEEN = Unknown(unknown="could not look")
# What the user has besides, and what it wants of the stack.
OTHERS = {
    "scipy": ("numpy<1.29,>=1.22.4", "numpy>=1.26.4"),
    "pandas": ("numpy>=2.0.2", "numpy>=1.20.3", "numpy<2"),
    "matplotlib": ("numpy>=1.23", "numpy<2,>=1.21"),
    "torchaudio": ("torch==2.1.2", "torch==2.13.0", "torch==1.13.1"),
    "ultralytics": ("torch>=1.8.0", "torchvision>=0.9.0", "numpy<=2.1.1", "opencv-python>=4.6.0"),
    "albumentations": ("opencv-python-headless>=4.9.0", "numpy>=1.24.4"),
    "openxlab": ("setuptools~=60.2.0",),
    "triton": ("setuptools>=40.8.0", "torch>=99; sys_platform == 'win32'"),
    "json-tricks": ("numpy>=1.17; extra == 'numpy'",),
}
STEPS = (
    "numpy",
    "torch",
    "torchvision",
    "cv2",
    "xtcocotools._mask",
    "mmcv",
    "mmcv._ext",
    "mmcv.ops",
    "mmdet",
    "mmpose",
)


def machine(number: int, matrix: Matrix) -> tuple[Facts, Request]:
    """The machine and the request of this number."""
    chance = random.Random(number)
    python = chance.choice(PYTHONS)
    host = _host(chance)
    facts = Facts(
        mmdoctor="0",
        host=host,
        gpu=_gpu(chance) if host.os != "macos" else _gpu(chance, 0),
        toolchain=_toolchain(chance),
        target=Target(requested="/env", state="absent", python=python),
        indexes=_indexes(chance),
    )
    if chance.random() < 0.6:
        facts = _lived_in(chance, facts, matrix)
    return replace(facts, wheels=_wheels(chance, facts, matrix)), _request(chance, facts, matrix)


def _host(chance: random.Random) -> Host:
    os_name, name = chance.choice(PLATFORMS)
    glibc = chance.choice((*GLIBCS, *GLIBCS, None, UNSEEN))
    return Host(
        os=os_name,  # type: ignore[arg-type]
        os_name=os_name,
        machine=name,
        glibc=glibc if os_name == "linux" else None,
        cpu_count=chance.choice((1, 2, 8, 32)),
        memory_total_bytes=chance.choice((1, 2, 8, 24, 128, 128)) * GIGABYTE,
        memory_available_bytes=chance.choice((1, 6, 20, 100)) * GIGABYTE,
        disk_free_bytes=100 * GIGABYTE,
        container=None,
        wsl=False,
        libgl=chance.choice((True, False, UNSEEN)),
    )


def _gpu(chance: random.Random, count: Optional[int] = None) -> Gpu:
    found = chance.choice((0, 0, 0, 1, 1, 1, 2)) if count is None else count
    devices = tuple(
        GpuDevice(name=f"GPU {capability}", compute_capability=capability, memory_bytes=16 * GIGABYTE)
        for capability in (chance.choice(GPUS) for _ in range(found))
    )
    driver = chance.choice((*DRIVERS, *DRIVERS, UNSEEN)) if found else chance.choice((None, "535.104.05"))
    ceiling = chance.choice((None, None, None, "12.4", "13.0")) if found else None
    return Gpu(driver=driver, source="nvml", cuda_ceiling=ceiling, devices=devices, reason=None if found else "none")


def _toolchain(chance: random.Random) -> Toolchain:
    looked = chance.random() < 0.9
    nvcc = chance.choice((None, None, *NVCCS, UNSEEN)) if looked else None
    gcc = chance.choice((None, *GCCS, *GCCS, UNSEEN)) if looked else None
    return Toolchain(
        looked=looked,
        nvcc=Tool(path="nvcc", version=nvcc) if nvcc else None,
        gcc=Tool(path="g++", version=gcc) if gcc else None,
        ninja=None,
        cuda_home=None,
    )


def _indexes(chance: random.Random) -> tuple[Index, ...]:
    answers = chance.choice(
        ((True,), (True,), (True,), (True, True, False), (False,), (UNSEEN,), (True, False, UNSEEN))
    )
    return tuple(
        Index(name=name, url=f"https://{name}.example", reachable=seen, reason="no answer" if seen is False else None)  # type: ignore[arg-type]
        for name, seen in ((name, chance.choice(answers)) for name in ("pypi", "torch", "openmmlab"))
    )


# ---------------------------------------------------------------------------------------------------- what is installed


def _lived_in(chance: random.Random, facts: Facts, matrix: Matrix) -> Facts:
    minor = ".".join(facts.target.python.split(".")[:2])
    torch = chance.choice([row for row in matrix.torch if minor in row.python])
    label = chance.choice(("", "+cpu", *(f"+{variant}" for variant in torch.variants)))
    cuda = label[3:-1] + "." + label[-1] if label.startswith("+cu") else None if label else torch.pypi_cuda
    versions = _versions(chance, matrix, minor)
    vision = chance.choice((torch.torchvision[0], torch.torchvision[0], chance.choice(matrix.torch).torchvision[0]))
    versions |= {"torch": torch.release + label, "torchvision": vision}
    pretended = chance.random() < 0.2
    for name in chance.sample(sorted(versions), chance.choice((0, 0, 1, 2, 5))):
        del versions[name]
    x86 = (facts.host.os, facts.host.machine) == ("linux", "x86_64")
    published = {(row.package, row.version) for row in matrix.binaries if x86 and minor in row.python}
    built = (None, f"cp{minor}-linux_x86_64")
    tags = {part: (*built, f"cp{minor}-manylinux1_x86_64") if part in published else built for part in versions.items()}
    listed = tuple(
        _distribution(chance, name, version, tags[name, version], pretended=pretended)
        for name, version in sorted(versions.items())
    )
    if chance.random() < 0.05 and not pretended:
        listed += (replace(listed[0], version="0.0.1"),)
    build = TorchBuild(version=versions["torch"], cuda=cuda) if "torch" in versions else None
    vision_label = chance.choice((label, label, "", "+cu118"))
    target = replace(
        facts.target,
        state="present",
        distributions=listed,
        torch=build,
        torchvision_build=versions["torchvision"] + vision_label if "torchvision" in versions else None,
    )
    facts = replace(facts, target=target, pretended=("installed=…",) if pretended else ())
    if pretended or chance.random() < 0.3:
        return replace(facts, quick=True)
    extension = Extension(
        path=f"{SITE}/mmcv/_ext.so",
        needed=("libc10.so",),
        has_cuda_code=chance.random() < 0.5,
        machine=chance.choice(("EM_X86_64", "EM_X86_64", "EM_AARCH64")),
        problem=chance.choice((None, None, None, None, "cut-off")),
    )
    retries = (Retry(without="PYTHONPATH", healed=("mmcv._ext", "torch")),) if chance.random() < 0.1 else ()
    imports = tuple(_import(chance, step) for step in STEPS if chance.random() < 0.95)
    return replace(facts, extension=extension, imports=imports, retries=retries)


def _versions(chance: random.Random, matrix: Matrix, minor: str) -> dict[str, str]:
    def one(rows: Any, name: str = "version") -> str:
        return str(getattr(chance.choice(tuple(rows)), name))

    def binaries(package: str) -> list[Any]:
        return [row for row in matrix.binaries if row.package == package and minor in row.python]

    numpys = [row for row in matrix.numpy if minor in row.python]
    old = chance.random() < 0.15
    lab = {
        name: [r for r in matrix.openmmlab if r.project == name and r.version.startswith("0.") == old]
        for name in ("mmpose", "mmdet")
    }
    lab["mmdet"] = [r for r in matrix.openmmlab if r.project == "mmdet" and r.version.startswith("2." if old else "3.")]
    mmcv = chance.choice([row for row in matrix.mmcv if (row.package == "mmcv-full") == old])
    flavour = chance.choice(("opencv-python", "opencv-python-headless"))
    versions = {
        "numpy": chance.choice((one(numpys, "last"), one(numpys, "last"), one(numpys, "series") + ".0")),
        mmcv.package: mmcv.version,
        "mmengine": one(r for r in matrix.openmmlab if r.project == "mmengine"),
        "mmdet": one(lab["mmdet"]),
        "mmpose": one(lab["mmpose"]),
        "xtcocotools": chance.choice(
            ("1.14.3", "1.14.3", one(r for r in matrix.binaries if r.package == "xtcocotools"))
        ),
        flavour: chance.choice((one(binaries(flavour)), "4.99.0.1")),
        "setuptools": chance.choice(("59.5.0", "68.0.0", "69.5.1", "75.3.4", "80.10.2", "82.0.1")),
    }
    if chance.random() < 0.1:
        versions[chance.choice(("mmcv-lite", "mmcv-full", "mmcv"))] = "1.7.2"
    if chance.random() < 0.15:
        forks = [row for row in (*matrix.mmcv, *matrix.openmmlab) if _name(row).startswith("onedl-")]
        versions |= {_name(row): row.version for row in chance.sample(forks, chance.randint(1, 3))}
    if chance.random() < 0.3:
        versions["pycocotools"] = one(binaries("pycocotools"))
    if chance.random() < 0.15:
        versions[chance.choice(("opencv-python", "opencv-python-headless", "opencv-contrib-python"))] = "4.11.0.86"
    return versions | dict.fromkeys(chance.sample(sorted(OTHERS), chance.choice((0, 0, 1, 2, 4))), "1.0")


def _name(row: Any) -> str:
    return str(getattr(row, "package", None) or row.project)


def _distribution(
    chance: random.Random, name: str, version: str, tags: tuple[Optional[str], ...], *, pretended: bool
) -> Distribution:
    requires = {"mmpose": ("matplotlib", "json-tricks", "scipy"), "torch": ("triton; platform_system == 'Linux'",)}
    wanted = (
        chance.sample(OTHERS[name], chance.randint(1, len(OTHERS[name]))) if name in OTHERS else requires.get(name, ())
    )
    found = Distribution(name=name, version=version, requires=tuple(wanted))
    if pretended:
        return found
    bad = chance.random()
    return replace(
        found,
        folder=SITE,
        tag=chance.choice(tags),
        record="missing" if bad < 0.01 else "present",
        missing_files=("a.py",) if 0.01 < bad < 0.03 else (),
        damaged_files=("b.so",) if 0.03 < bad < 0.04 else (),
        direct=chance.random() < 0.05,
    )


def _import(chance: random.Random, step: str) -> ImportResult:
    if chance.random() < 0.85:
        return ImportResult(module=step, status="ok")
    data = chance.choice(({}, {}, {"missing": chance.choice(("cv2", "mmcv", "scipy"))}, {"bytecode": "old"}))
    packages = chance.choice(((), (step.partition(".")[0],), ("mmcv", "cv2"), ("torch",), ("matplotlib",)))
    status = chance.choice(("error", "error", "crash", "timeout", "skipped"))
    return ImportResult(module=step, status=status, error="ImportError", packages=packages, data=data)  # type: ignore[arg-type]


def _wheels(chance: random.Random, facts: Facts, matrix: Matrix) -> tuple[CachedWheel, ...]:
    tag = "cp" + "".join(facts.target.python.split(".")[:2])
    archs = ";".join(sorted({device.compute_capability for device in facts.gpu.devices}, key=float))
    found: list[CachedWheel] = []
    for _ in range(chance.choice((0, 0, 0, 1, 4))):
        torch, mmcv = chance.choice(matrix.torch), chance.choice(matrix.mmcv)
        label = chance.choice(torch.variants)
        found.append(
            CachedWheel(
                name=mmcv.package,
                version=mmcv.version,
                python_tag=chance.choice((tag, tag, "cp310")),
                torch=f"{torch.release}+{label}",
                archs=chance.choice(("", archs)) if label != "cpu" else "",
                numpy=None,
                path=f"/cache/{len(found)}.whl",
            )
        )
    if chance.random() < 0.1:
        numpy = chance.choice(matrix.numpy).last
        found.append(
            CachedWheel(
                name="xtcocotools", version="1.14.3", python_tag=tag, torch="", numpy=numpy, path="/cache/x.whl"
            )
        )
    return tuple(found)


# ------------------------------------------------------------------------------------------------------------- requests


def _request(chance: random.Random, facts: Facts, matrix: Matrix) -> Request:
    """Mostly one that makes sense on this machine: a recipe for this Python, a variant for this GPU."""
    fitting = [name for name in recipe_names() if within(facts.target.python, recipe(name).python)]
    name = chance.choice(("rtmpose",) * 5 + (chance.choice(fitting),) * 3 + (chance.choice(recipe_names()),))
    pins = {}
    for _ in range(chance.choice((0, 0, 0, 0, 1, 1, 2))):
        part, version = pin(chance, matrix)
        pins[part] = version
    of_gpu = (("cu121",), ("cu118", "cu121"), ("cu117", "cu126", "cu130"))
    sensible = of_gpu if facts.gpu.devices else (("cpu",),)
    variants = chance.choice((*[()] * 8, *sensible, chance.choice((("cpu",), *of_gpu))))
    return Request(recipe=recipe(name), pins=pins, torch_variants=variants, allow_build=chance.random() < 0.85)


def within(version: str, text: str) -> bool:
    return SpecifierSet(text).contains(version)


def pin(chance: random.Random, matrix: Matrix) -> tuple[str, str]:
    """One version that a user may insist on, often one that cannot be had."""
    torch = chance.choice(matrix.torch)
    lab = chance.choice(
        [r for r in matrix.openmmlab if r.project in ("mmpose", "mmdet", "mmengine") and r.version[0] in "13"]
    )
    return chance.choice(
        (
            ("torch", torch.release),
            ("torch", f"{torch.release}+{chance.choice(torch.variants)}"),
            ("torchvision", torch.torchvision[0]),
            ("numpy", chance.choice(matrix.numpy).last),
            ("numpy", "1.26.0"),
            ("mmcv", chance.choice(("2.0.0", "2.0.1", "2.1.0", "2.2.0"))),
            (lab.project, lab.version),
            ("xtcocotools", chance.choice(("1.12", "1.13", "1.14.3"))),
            ("setuptools", chance.choice(("60.2.0", "69.5.1", "80.10.2", "82.0.0"))),
            ("opencv-python", chance.choice(("4.5.1.48", "4.8.1.78", "4.11.0.86", "5.0.0.93"))),
            ("opencv-python-headless", chance.choice(("4.10.0.84", "4.13.0.92"))),
            ("mmcv-full", "1.7.2"),
            ("onedl-mmcv", chance.choice(("2.3.2", "2.3.6"))),
            ("onedl-mmdetection", "3.5.1"),
        )
    )
