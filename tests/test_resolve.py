"""The resolver on recorded, edited and generated machines.

What a stack must hold is said again here, from the matrix's rows and PEP 440 alone, without the code under test.
"""

from __future__ import annotations

import random
from typing import Any, Optional

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from mmdoctor import rules
from mmdoctor.candidates.situation import Situation
from mmdoctor.matrix import load_matrix, load_recipe, recipe_names
from mmdoctor.matrix_model import Matrix
from mmdoctor.model import CachedWheel, Facts, Recipe, Request, Resolution, Stack, Tool, Unknown
from mmdoctor.pretend import pretend
from mmdoctor.resolve import cheapest, resolve
from tests.conftest import (
    NOT_ASKED,
    Machine,
    distribution,
    import_of,
    indexes,
    load_machine,
    new_environment,
    on_host,
    on_target,
    packages,
    quick,
    with_gpu,
)

LIBGL = "libGL.so.1: cannot open shared object file: No such file or directory"


def ask(recipe: str = "rtmpose", **fields: Any) -> Request:
    return Request(recipe=load_recipe(recipe), **fields)


def changes(resolution: Resolution) -> dict[str, tuple[Optional[str], Optional[str]]]:
    return {change.name: (change.old, change.new) for change in resolution.changes}


def stack_of(resolution: Resolution) -> Stack:
    assert resolution.stack is not None, resolution.conflict
    return resolution.stack


def said(resolution: Resolution) -> set[tuple[str, str]]:
    """The minimal set of constraints: who set each, and what it says."""
    assert resolution.stack is None
    assert resolution.conflict is not None
    return {(constraint.who, constraint.says) for constraint in resolution.core}


def rejections(resolution: Resolution, fact: str) -> list[str]:
    return [rejection.candidate for rejection in resolution.rejected if rejection.fact == fact]


# ------------------------------------------------------------------------------------------------ recorded machines


def test_the_natural_breakage_keeps_what_works(machine: Machine, matrix: Matrix) -> None:
    resolution = resolve(machine("natural-breakage"), matrix, ask())
    assert changes(resolution) == {
        "torch": ("2.13.0+cpu", "2.13.0+cu130"),
        "mmcv": ("2.2.0", "2.1.0"),
        "xtcocotools": ("1.14.3", "1.14.3"),
    }
    stack = stack_of(resolution)
    assert (stack.mmcv.artefact.kind, stack.xtcocotools.artefact.kind) == ("build", "build")
    assert (stack.numpy, stack.mmdet, stack.mmpose, stack.mmengine) == ("2.4.6", "3.3.0", "1.3.2", "0.10.7")
    assert "does not answer" in resolution.assumptions[0]


def test_with_the_torch_index_the_cpu_torch_stays(machine: Machine, matrix: Matrix) -> None:
    resolution = resolve(indexes(machine("natural-breakage"), True), matrix, ask())
    assert changes(resolution) == {
        "torchvision": ("0.28.0+cu130", "0.28.0+cpu"),
        "mmcv": ("2.2.0", "2.1.0"),
        "xtcocotools": ("1.14.3", "1.14.3"),
    }
    assert stack_of(resolution).torch.index == "https://download.pytorch.org/whl/cpu"


def test_the_natural_breakage_is_the_same_without_imports(machine: Machine, matrix: Matrix) -> None:
    facts = machine("natural-breakage")
    assert changes(resolve(quick(facts), matrix, ask())) == changes(resolve(facts, matrix, ask()))


@pytest.mark.parametrize("reachable", [True, False, NOT_ASKED])
def test_a_healthy_machine_needs_nothing(reachable: Any, machine: Machine, matrix: Matrix) -> None:
    for facts in (machine("healthy-cpu"), quick(machine("healthy-cpu"))):
        resolution = resolve(indexes(facts, reachable), matrix, ask())
        assert (resolution.changes, resolution.cost.download_bytes, resolution.assumptions) == ((), 0, ())


def test_a_healthy_machine_elsewhere_needs_nothing_either(machine: Machine, matrix: Matrix) -> None:
    """On macOS and aarch64 torch and torchvision carry no label, and are no CUDA builds."""
    facts = packages(machine("healthy-cpu"), {"torch": "2.1.2", "torchvision": "0.16.2"})
    assert facts.target.torch is not None
    bare = replace(facts.target.torch, version="2.1.2", cuda=None)
    facts = on_target(facts, torch=bare, torchvision_build="0.16.2")
    for os_name, machine_name in (("macos", "arm64"), ("linux", "aarch64"), ("linux", "x86_64")):
        here = on_host(facts, os=os_name, machine=machine_name)
        if machine_name == "aarch64":
            here = replace(here, extension=replace(facts.extension, machine="EM_AARCH64"))
        assert resolve(here, matrix, ask()).changes == (), (os_name, machine_name)


# -------------------------------------------------------------------------------------------------- new environments


def test_a_new_environment_without_indexes_is_the_tested_one(machine: Machine, matrix: Matrix) -> None:
    stack = stack_of(resolve(new_environment(machine("healthy-cpu")), matrix, ask()))
    assert (stack.torch.version, stack.torch.variant, stack.torch.index) == ("2.1.2", "cu121", "pypi")
    assert (stack.mmcv.version, stack.mmcv.artefact.kind, stack.evidence) == ("2.1.0", "build", "tested")
    assert (stack.mmdet, stack.mmpose, stack.numpy) == ("3.2.0", "1.3.2", "1.26.4")


@pytest.mark.parametrize("reachable", [True, NOT_ASKED])
def test_a_new_environment_with_indexes_compiles_nothing(reachable: Any, machine: Machine, matrix: Matrix) -> None:
    resolution = resolve(new_environment(machine("healthy-cpu"), reachable=reachable), matrix, ask())
    stack = stack_of(resolution)
    assert (stack.torch.version[:4], stack.torch.variant) == ("2.1.", "cpu")
    assert stack.mmcv.artefact.kind == stack.xtcocotools.artefact.kind == "wheel"
    assert stack.mmcv.artefact.source == "https://download.openmmlab.com/mmcv/dist/cpu/torch2.1.0/index.html"
    assert resolution.cost.build_minutes == 0
    assert len([text for text in resolution.assumptions if "--offline" in text]) == (3 if reachable is NOT_ASKED else 0)


def test_a_cached_wheel_spares_the_build(machine: Machine, matrix: Matrix) -> None:
    wheel = CachedWheel(
        name="mmcv", version="2.1.0", python_tag="cp311", torch="2.1.2+cu121", numpy=None, path="/cache/mmcv.whl"
    )
    facts = new_environment(machine("healthy-cpu"))
    resolution = resolve(replace(facts, wheels=(wheel,)), matrix, ask())
    assert stack_of(resolution).mmcv.artefact.kind == "cached"
    assert resolution.cost.build_minutes == 0
    other = replace(facts, wheels=(replace(wheel, torch="2.1.2+cpu"),))
    assert stack_of(resolve(other, matrix, ask())).mmcv.artefact.kind == "build"


def test_a_pretended_list_changes_what_is_wrong_in_it(machine: Machine, matrix: Matrix) -> None:
    listed = "torch==2.1.2,torchvision==0.16.2,numpy==2.0.1,xtcocotools==1.14.3,mmcv==2.1.0,mmpose==1.3.2,mmdet==3.2.0"
    more = "mmengine==0.10.7,setuptools==69.5.1,opencv-python==4.10.0.84"
    facts = pretend(machine("natural-breakage"), (f"installed={listed},{more}",))
    assert changes(resolve(facts, matrix, ask())) == {"numpy": ("2.0.1", "1.26.4")}


def test_an_empty_environment_is_filled_with_the_best(machine: Machine, matrix: Matrix) -> None:
    facts = pretend(machine("healthy-cpu"), ("installed=",))
    stack = stack_of(resolve(facts, matrix, ask("barnhand-horse")))
    assert (stack.mmdet, stack.mmpose, stack.evidence) == ("3.2.0", "1.3.2", "tested")


# ----------------------------------------------------------------------------------------------------------- recipes


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_has_a_stack_somewhere(name: str, machine: Machine, matrix: Matrix) -> None:
    pythons = ("3.11.7", "3.10.12", "3.9.2", "3.8.10")
    facts = [new_environment(machine("healthy-cpu"), python, True) for python in pythons]
    assert any(resolve(one, matrix, ask(name)).stack for one in facts)


def test_hoof_training_takes_the_prebuilt_wheel(machine: Machine, matrix: Matrix) -> None:
    said = ("python=3.10", "driver=535.104.05", "gpu=7.5", "os=linux")
    resolution = resolve(pretend(machine("healthy-cpu"), said), matrix, ask("hoof-training"))
    stack = stack_of(resolution)
    assert (stack.torch.version, stack.torch.variant) == ("2.1.2", "cu121")
    assert stack.mmcv.artefact.source == "https://download.openmmlab.com/mmcv/dist/cu121/torch2.1.0/index.html"
    assert (stack.mmdet, stack.opencv.name, stack.opencv.version) == ("3.3.0", "opencv-python", "4.8.1.78")
    assert resolution.assumptions[:4] == tuple(f"pretended: {text}" for text in said)


def test_pose_service_gets_exactly_its_pins(machine: Machine, matrix: Matrix) -> None:
    said = ("python=3.10", "driver=535.104.05", "gpu=7.5", "os=linux")
    stack = stack_of(resolve(pretend(machine("healthy-cpu"), said), matrix, ask("pose-service")))
    found = (stack.torch.version, stack.torchvision, stack.mmcv.version, stack.opencv.name, stack.opencv.version)
    assert found == ("2.1.2", "0.16.2", "2.1.0", "opencv-python-headless", "4.10.0.84")
    assert (stack.mmdet, stack.numpy) == ("3.2.0", "1.26.4")


def test_padel_service_names_the_pin_and_the_python(machine: Machine, matrix: Matrix) -> None:
    resolution = resolve(new_environment(machine("healthy-cpu")), matrix, ask("padel-service"))
    conflict = resolution.conflict
    assert conflict is not None
    assert conflict.startswith("recipe padel-service's numpy==1.21.6 and Python 3.11.7 exclude each other: ")
    assert "there is no wheel for this Python, wanted Python 3.7, 3.8, 3.9, 3.10, seen 3.11.7" in conflict
    assert [(way.how, way.stack.torch.version) for way in resolution.nearest] == [
        ("without recipe padel-service's numpy==1.21.6", "2.0.1"),
        ("with Python 3.10", "2.0.1"),
    ]


def test_padel_service_on_its_own_python(machine: Machine, matrix: Matrix) -> None:
    stack = stack_of(resolve(new_environment(machine("healthy-cpu"), "3.9.2"), matrix, ask("padel-service")))
    assert (stack.numpy, stack.torch.version, stack.mmcv.version) == ("1.21.6", "2.0.1", "2.0.1")
    assert (stack.mmcv.artefact.kind, stack.xtcocotools.artefact.kind, stack.evidence) == ("build", "wheel", "tested")
    assert stack.opencv.name == "opencv-python-headless"


def test_barnhand_horse_gets_its_exact_trio(machine: Machine, matrix: Matrix) -> None:
    stack = stack_of(resolve(new_environment(machine("healthy-cpu"), reachable=True), matrix, ask("barnhand-horse")))
    assert (stack.mmcv.version, stack.mmengine, stack.mmpose) == ("2.1.0", "0.10.7", "1.3.2")


def test_mmpose_0_takes_the_prebuilt_mmcv_full(machine: Machine, matrix: Matrix) -> None:
    facts = new_environment(machine("healthy-cpu"), "3.8.10", True)
    stack = stack_of(resolve(facts, matrix, ask("mmpose-0x")))
    assert (stack.mmcv.name, stack.mmcv.artefact.kind) == ("mmcv-full", "wheel")
    assert (stack.mmpose, stack.mmengine, stack.mmdet) == ("0.29.0", None, None)
    assert Version(stack.numpy) < Version("1.24")


def test_a_recipe_is_for_its_python_and_driver(machine: Machine, matrix: Matrix) -> None:
    wrong = pretend(machine("healthy-cpu"), ("python=3.11", "driver=535.104.05", "gpu=7.5"))
    resolution = resolve(wrong, matrix, ask("hoof-training"))
    assert said(resolution) == {("recipe hoof-training", "python ==3.10.*"), ("this machine", "Python 3.11.0")}
    assert [way.how for way in resolution.nearest] == [
        "without recipe hoof-training's python ==3.10.*",
        "with Python 3.10",
    ]
    old = pretend(machine("healthy-cpu"), ("python=3.10", "driver=470.256.02", "gpu=7.5"))
    resolution = resolve(old, matrix, ask("hoof-training"))
    assert resolution.nearest[0].how == "with a newer driver"
    assert rejections(resolution, "driver") == ["driver 470.256.02"]


# ------------------------------------------------------------------------------------------------- GPUs and platforms


def pretended(machine: Machine, *said: str) -> Facts:
    return pretend(machine("healthy-cpu"), said)


def test_an_old_driver_gets_an_old_cuda(machine: Machine, matrix: Matrix) -> None:
    facts = pretended(machine, "python=3.10", "driver=470.256.02", "gpu=8.6", "nvcc=none")
    resolution = resolve(facts, matrix, ask())
    stack = stack_of(resolution)
    assert stack.torch.variant.startswith("cu11")
    assert stack.mmcv.artefact.kind == "wheel"
    assert "torch 2.1.2+cu121" in rejections(resolution, "driver")


@pytest.mark.parametrize(
    ("nvcc", "driver", "variant"),
    [("12.8", "570.86.10", "cu12"), ("13.0", "580.65.06", "cu13"), ("none", "580.65.06", "cu130")],
)
def test_a_new_gpu_gets_its_code_and_a_build(
    nvcc: str, driver: str, variant: str, machine: Machine, matrix: Matrix
) -> None:
    """With the machine's own nvcc of torch's CUDA; without one nvcc comes as wheels, which there are of CUDA 13."""
    facts = pretended(machine, "python=3.11", "gpu=12.0", f"driver={driver}", f"nvcc={nvcc}")
    stack = stack_of(resolve(facts, matrix, ask()))
    assert stack.torch.variant.startswith(variant)
    assert ("nvcc 13.0 from wheels" in stack.mmcv.artefact.reason) == (nvcc == "none")
    assert stack.mmcv.artefact.kind == "build"
    row = next(a for a in matrix.archs if (a.torch, a.variant) == (stack.torch.version, stack.torch.variant))
    assert "12.0" in row.sass


@pytest.mark.parametrize("nvcc", ["none", "12.1"])
def test_a_gpu_that_stays_idle_is_said(nvcc: str, machine: Machine, matrix: Matrix) -> None:
    """The driver runs CUDA 12 alone, of which there is no nvcc as wheels."""
    facts = pretended(machine, "python=3.11", "gpu=12.0", "driver=570.86.10", f"nvcc={nvcc}")
    resolution = resolve(facts, matrix, ask())
    assert stack_of(resolution).torch.variant == "cpu"
    assert any("the GPU stays idle" in text and "nvcc" in text for text in resolution.assumptions)


def test_nvcc_and_gcc_must_get_along(machine: Machine, matrix: Matrix) -> None:
    facts = pretended(machine, "python=3.12", "gpu=8.6", "driver=550.54.14", "nvcc=12.4", "gcc=14.2")
    resolution = resolve(facts, matrix, ask())
    assert stack_of(resolution).torch.variant == "cpu"
    assert rejections(resolution, "gcc")
    facts = pretended(machine, "python=3.12", "gpu=8.6", "driver=550.54.14", "nvcc=12.4", "gcc=13.2")
    assert stack_of(resolve(facts, matrix, ask())).torch.variant.startswith("cu12")


def test_a_pretended_gpu_without_a_driver_is_an_assumption(machine: Machine, matrix: Matrix) -> None:
    resolution = resolve(pretended(machine, "python=3.10", "gpu=7.5"), matrix, ask("hoof-training"))
    assert any("the driver is 525.60.13 or newer" in text for text in resolution.assumptions)


def test_aarch64_compiles_what_has_no_wheel(machine: Machine, matrix: Matrix) -> None:
    stack = stack_of(resolve(pretended(machine, "python=3.11", "machine=aarch64"), matrix, ask()))
    assert stack.mmcv.artefact.kind == stack.xtcocotools.artefact.kind == "build"
    assert stack.evidence == "derived"


def test_windows_takes_the_windows_wheel(machine: Machine, matrix: Matrix) -> None:
    stack = stack_of(resolve(pretended(machine, "python=3.10", "os=windows"), matrix, ask()))
    assert (stack.torch.variant, stack.torch.index, stack.mmcv.artefact.kind) == ("cpu", "pypi", "wheel")
    assert (stack.opencv.name, stack.evidence) == ("opencv-python", "documented")
    facts = pretended(machine, "python=3.10", "os=windows", "gpu=8.6", "driver=551.23")
    stack = stack_of(resolve(facts, matrix, ask()))
    assert stack.torch.variant.startswith("cu")
    assert stack.torch.index.startswith("http")


@pytest.mark.parametrize("name", ["arm64", "aarch64"])
def test_macos_knows_no_cuda(name: str, machine: Machine, matrix: Matrix) -> None:
    facts = pretended(machine, "python=3.11", "os=macos", f"machine={name}")
    stack = stack_of(resolve(facts, matrix, ask()))
    assert (stack.torch.variant, stack.torch.index, stack.mmcv.artefact.kind) == ("cpu", "pypi", "build")
    asked = resolve(facts, matrix, ask(torch_variants=("cu121",)))
    assert said(asked) == {("you", "--torch-variant cu121"), ("this machine", f"macos on {name}")}


def test_without_a_compiler(machine: Machine, matrix: Matrix) -> None:
    facts = new_environment(machine("healthy-cpu"), reachable=True)
    facts = replace(facts, toolchain=replace(facts.toolchain, gcc=None))
    assert stack_of(resolve(facts, matrix, ask())).mmcv.artefact.kind == "wheel"
    resolution = resolve(indexes(facts, False), matrix, ask())
    assert {text.rpartition("/")[2] for _, text in said(resolution)} == {
        "no C++ compiler",
        "index.html does not answer (no answer)",
    }
    assert resolution.nearest[0].how.endswith("index.html answers")
    assert resolution.nearest[1].how == "with a C++ compiler"


def test_a_c_library_other_than_glibc_has_no_wheels(machine: Machine, matrix: Matrix) -> None:
    conflict = resolve(on_host(new_environment(machine("healthy-cpu")), glibc=None), matrix, ask()).conflict
    assert conflict is not None
    assert conflict.startswith("a C library other than glibc excludes every stack")


def test_an_old_glibc_gets_an_older_torch(machine: Machine, matrix: Matrix) -> None:
    facts = on_host(new_environment(machine("healthy-cpu"), "3.12.1", True), glibc="2.17")
    resolution = resolve(facts, matrix, ask())
    assert Version(stack_of(resolution).torch.version) < Version("2.7")
    assert "torch 2.15.0" in rejections(resolution, "glibc")


# ------------------------------------------------------------------------------------------------ the user's own word


def test_no_build(machine: Machine, matrix: Matrix) -> None:
    facts = new_environment(machine("healthy-cpu"), reachable=True)
    stack = stack_of(resolve(facts, matrix, ask(allow_build=False)))
    assert stack.mmcv.artefact.kind == stack.xtcocotools.artefact.kind == "wheel"
    resolution = resolve(indexes(facts, False), matrix, ask(allow_build=False))
    assert resolution.stack is None
    assert {who for who, _ in said(resolution)} == {"you", "this machine"}
    assert (resolution.nearest[0].how, resolution.nearest[0].stack.torch.version) == ("without --no-build", "2.1.2")


@pytest.mark.parametrize(
    ("pins", "start", "why"),
    [
        (
            {"mmcv": "2.2.0"},
            "your pin mmcv==2.2.0 and recipe rtmpose's mm",
            "mmdet asserts it at import, wanted mmcv >=2.0.0rc4,<2.2.0, seen 2.2.0",
        ),
        (
            {"numpy": "1.21.6"},
            "your pin numpy==1.21.6 and Python 3.11.7 exclude each other",
            "there is no wheel for this Python, wanted Python 3.7, 3.8, 3.9, 3.10, seen 3.11.7",
        ),
        (
            {"numpy": "2.4.6", "torch": "2.1.2"},
            "your pin numpy==2.4.6 and your pin torch==2.1.2 exclude each other",
            "cannot take arrays of NumPy 2",
        ),
        (
            {"mmcv": "2.0.1", "torch": "2.13.0"},
            "your pin mmcv==2.0.1 and your pin torch==2.13.0 exclude each other",
            "its source does not compile against this torch",
        ),
        ({"setuptools": "82.0.0"}, "your pin setuptools==82.0.0 excludes", "wanted setuptools <82, seen 82.0.0"),
        ({"mmcv-full": "1.7.2"}, "your pin mmcv-full==1.7.2 excludes", "both own one folder"),
        ({"opencv-contrib-python": "4.8.1.78"}, "your pin opencv-contrib-python==4.8.1.78", "both own one folder"),
        ({"xtcocotools": "1.10"}, "your pin xtcocotools==1.10", "wanted xtcocotools >=1.12, seen 1.10"),
        ({"numpy": "1.99.0"}, "your pin numpy==1.99.0 excludes", "wanted a known series, seen 1.99.0"),
        ({"torch": "1.0.0"}, "your pin torch==1.0.0 excludes", "no torch that is known is ==1.0.0"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_a_pin_that_cannot_hold_is_unsatisfiable(
    pins: dict[str, str], start: str, why: str, machine: Machine, matrix: Matrix
) -> None:
    resolution = resolve(new_environment(machine("healthy-cpu")), matrix, ask(pins=pins))
    assert (resolution.stack, resolution.changes) == (None, ())
    assert resolution.conflict is not None
    assert resolution.conflict.startswith(start)
    assert why in resolution.conflict
    name, version = next(iter(pins.items()))
    assert ("you", f"{name}=={version}") in said(resolution)


def test_a_pin_does_not_replace_the_recipes_word(machine: Machine, matrix: Matrix) -> None:
    facts = new_environment(machine("healthy-cpu"), "3.9.2")
    resolution = resolve(facts, matrix, ask("padel-service", pins={"numpy": "1.26.4"}))
    assert said(resolution) == {("you", "numpy==1.26.4"), ("recipe padel-service", "numpy==1.21.6")}


def test_pins_hold(machine: Machine, matrix: Matrix) -> None:
    pins = {"torch": "2.1.1+cu118", "setuptools": "68.0.0", "opencv-python": "4.8.1.78", "mmdet": "3.3.0"}
    facts = new_environment(machine("healthy-cpu"), reachable=True)
    stack = stack_of(resolve(facts, matrix, ask(pins=pins)))
    found = (stack.torch.version, stack.torch.variant, stack.setuptools, stack.opencv.version, stack.mmdet)
    assert found == ("2.1.1", "cu118", "68.0.0", "4.8.1.78", "3.3.0")
    assert stack.opencv.name == "opencv-python"


def test_the_torch_variant_is_held(machine: Machine, matrix: Matrix) -> None:
    facts = new_environment(machine("healthy-cpu"), reachable=True)
    stack = stack_of(resolve(facts, matrix, ask(torch_variants=("cu118", "cu121"))))
    assert stack.torch.variant in ("cu118", "cu121")
    conflict = resolve(facts, matrix, ask("hoof-training", torch_variants=("cpu",))).conflict
    assert conflict is not None


# --------------------------------------------------------------------------------------------- keeping what works


def test_libgl_costs_an_opencv_and_not_a_compile(machine: Machine, matrix: Matrix) -> None:
    facts = packages(machine("healthy-cpu"), {"opencv-python-headless": None, "opencv-python": "4.11.0.86"})
    said = {"error": "ImportError", "message": LIBGL, "data": {"missing": "cv2"}}
    for module in ("cv2", "mmcv", "mmcv._ext", "mmcv.ops", "mmdet", "mmpose"):
        facts = import_of(facts, module, **said, packages=(module.split(".")[0], "cv2"))
    resolution = resolve(on_host(facts, libgl=False), matrix, ask())
    assert changes(resolution) == {
        "opencv-python-headless": (None, "4.11.0.86"),
        "opencv-python": ("4.11.0.86", None),
    }


def test_an_opencv_that_loads_stays_whatever_the_linker_lists(machine: Machine, matrix: Matrix) -> None:
    facts = packages(machine("healthy-cpu"), {"opencv-python-headless": None, "opencv-python": "4.11.0.86"})
    assert resolve(on_host(facts, libgl=False), matrix, ask()).changes == ()


def test_of_two_opencvs_the_one_that_stays_is_laid_down_again(machine: Machine, matrix: Matrix) -> None:
    facts = packages(machine("healthy-cpu"), {"opencv-python": "4.11.0.86"})
    resolution = resolve(facts, matrix, ask())
    assert changes(resolution) == {
        "opencv-python-headless": ("4.11.0.86", "4.11.0.86"),
        "opencv-python": ("4.11.0.86", None),
    }


def test_an_opencv_that_failed_under_the_wrong_numpy_stays(machine: Machine, matrix: Matrix) -> None:
    facts = packages(machine("healthy-cpu"), {"numpy": "2.4.6"})
    said = "A module that was compiled using NumPy 1.x cannot be run in NumPy 2.4.6"
    facts = import_of(facts, "cv2", error="ImportError", message=said, packages=("cv2",))
    assert changes(resolve(facts, matrix, ask())) == {"numpy": ("2.4.6", "1.26.4")}


def test_two_mmcvs_become_one(machine: Machine, matrix: Matrix) -> None:
    facts = packages(machine("healthy-cpu"), {"mmcv-full": "1.7.2"})
    found = changes(resolve(facts, matrix, ask()))
    assert found == {"mmcv": ("2.1.0", "2.1.0"), "mmcv-full": ("1.7.2", None)}


def test_a_binary_of_another_torch_is_replaced(machine: Machine, matrix: Matrix) -> None:
    facts = import_of(machine("healthy-cpu"), "mmcv._ext", error="ImportError", message="undefined symbol: _ZN2at4")
    assert changes(resolve(facts, matrix, ask())) == {"mmcv": ("2.1.0", "2.1.0")}


def test_a_damaged_package_is_laid_down_again(machine: Machine, matrix: Matrix) -> None:
    facts = distribution(machine("healthy-cpu"), "mmengine", missing_files=("mmengine/config.py",))
    assert changes(resolve(facts, matrix, ask())) == {"mmengine": ("0.10.7", "0.10.7")}


def test_a_setuptools_without_pkg_resources_goes(machine: Machine, matrix: Matrix) -> None:
    facts = packages(machine("healthy-cpu"), {"setuptools": "82.0.1"})
    assert changes(resolve(facts, matrix, ask())) == {"setuptools": ("82.0.1", "69.5.1")}


def test_requirements_of_others_count(machine: Machine, matrix: Matrix) -> None:
    """A package of a folder that wants NumPy 2 keeps NumPy 2, even at the price of another torch; one of an index moves
    itself, which is a change like any other."""
    facts = machine("natural-breakage")
    free = distribution(facts, "tqdm", requires=("numpy>=2",))
    facts = distribution(free, "tqdm", direct=True)
    assert stack_of(resolve(facts, matrix, ask())).numpy == "2.4.6"
    pinned = resolve(facts, matrix, ask(pins={"numpy": "1.26.4"}))
    assert any("requirements of your other packages" in text for text in pinned.assumptions)
    moved = cheapest(Situation(free, matrix, ask(pins={"numpy": "1.26.4"})))
    bound = cheapest(Situation(facts, matrix, ask(pins={"numpy": "1.26.4"})))
    assert moved is not None
    assert bound is not None
    assert (moved.weight.others_broken, bound.weight.others_broken) == (0, 1)
    assert moved.weight.changes == bound.weight.changes + 1
    elsewhere = distribution(facts, "tqdm", requires=("numpy>=2; sys_platform == 'win32'",))
    before = len(pinned.assumptions)
    assert len(resolve(elsewhere, matrix, ask(pins={"numpy": "1.26.4"})).assumptions) <= before


def test_an_installed_mmdet_is_kept_in_tune(machine: Machine, matrix: Matrix) -> None:
    facts = packages(machine("natural-breakage"), {"mmpose": "1.2.0"})
    recipe = replace(load_recipe("rtmpose"), packages={"mmpose": "==1.2.0"})
    stack = stack_of(resolve(facts, matrix, Request(recipe=recipe)))
    assert (stack.mmcv.version, stack.mmdet) == ("2.1.0", "3.3.0")


def test_a_target_that_does_not_answer_has_no_plan(machine: Machine, matrix: Matrix) -> None:
    facts = on_target(machine("healthy-cpu"), state="broken", python="", distributions=(), torch=None)
    resolution = resolve(facts, matrix, ask())
    assert resolution.conflict == "the target's interpreter does not answer, so its Python is not known"


# -------------------------------------------------------------------------------------------------------- determinism


def shuffled(matrix: Matrix, seed: int) -> Matrix:
    chance = random.Random(seed)
    rows = {name: getattr(matrix, name) for name in Matrix.__struct_fields__}
    return Matrix(**{k: tuple(chance.sample(v, len(v))) if isinstance(v, tuple) else v for k, v in rows.items()})


@pytest.mark.parametrize("seed", range(3))
def test_the_order_of_rows_does_not_matter(seed: int, machine: Machine, matrix: Matrix) -> None:
    other = shuffled(matrix, seed)
    for facts in (
        machine("natural-breakage"),
        new_environment(machine("healthy-cpu"), reachable=True),
        new_environment(machine("healthy-cpu"), "3.13.1", True),
        pretended(machine, "python=3.10", "gpu=8.6", "driver=550.54.14"),
    ):
        one, two = (replace(resolve(facts, rows, ask()), rejected=()) for rows in (matrix, other))
        assert one == two


def test_the_same_question_has_the_same_answer(machine: Machine, matrix: Matrix) -> None:
    facts = machine("natural-breakage")
    assert resolve(facts, matrix, ask()) == resolve(facts, matrix, ask())


# ------------------------------------------------------------------------------------------------- generated machines

MATRIX = load_matrix()
RTMPOSE = load_recipe("rtmpose")
HEALTHY, NATURAL = load_machine("healthy-cpu"), load_machine("natural-breakage")
GPUS = {"7.5": "535.104.05", "8.6": "470.256.02", "9.0": "550.144.03", "12.0": "580.65.06", "6.1": "580.65.06"}
PINS = {
    "torch": ("2.1.2", "2.13.0", "2.0.1", "2.5.1"),
    "numpy": ("1.26.4", "2.4.6", "1.24.4"),
    "mmcv": ("2.1.0", "2.0.1", "2.2.0"),
    "mmdet": ("3.2.0", "3.3.0"),
    "mmpose": ("1.3.2", "1.3.0"),
    "setuptools": ("69.5.1", "75.3.4"),
}
PYTHONS = ("3.8.10", "3.9.2", "3.10.12", "3.11.7", "3.12.1", "3.13.0")
STACK_PARTS = ("torchvision", "numpy", "mmcv", "mmdet", "mmpose", "mmengine", "xtcocotools", "setuptools")


@st.composite
def machines(draw: st.DrawFn) -> Facts:
    facts = draw(st.sampled_from((HEALTHY, NATURAL)))
    if draw(st.booleans()):
        facts = new_environment(facts, draw(st.sampled_from(PYTHONS)))
    else:
        gone = draw(st.sets(st.sampled_from(STACK_PARTS), max_size=3))
        facts = packages(facts, dict.fromkeys(gone))
        facts = quick(facts) if draw(st.booleans()) else facts
    reached = st.sampled_from((True, False, NOT_ASKED))
    facts = replace(facts, indexes=tuple(replace(i, reachable=draw(reached), reason="?") for i in facts.indexes))
    platform = draw(st.sampled_from((("linux", "x86_64"),) * 4 + (("linux", "aarch64"), ("windows", "x86_64"))))
    glibc = draw(st.sampled_from(("2.36", "2.31", "2.17", Unknown(unknown="?"))))
    libgl = draw(st.sampled_from((True, False)))
    facts = on_host(facts, os=platform[0], machine=platform[1], glibc=glibc, libgl=libgl)
    gcc = draw(st.sampled_from((None, Tool(path="gcc", version="12.2.0"))))
    nvcc = draw(st.sampled_from((None, Tool(path="nvcc", version="12.1"), Tool(path="nvcc", version="13.0.88"))))
    facts = replace(facts, toolchain=replace(facts.toolchain, gcc=gcc, nvcc=nvcc))
    gpu = draw(st.sampled_from((None, None, *GPUS)))
    return facts if gpu is None else with_gpu(facts, gpu, GPUS[gpu])


@st.composite
def requests(draw: st.DrawFn) -> Request:
    names = draw(st.sets(st.sampled_from(sorted(PINS)), max_size=2))
    pins = {name: draw(st.sampled_from(PINS[name])) for name in sorted(names)}
    return Request(recipe=RTMPOSE, pins=pins, allow_build=draw(st.sampled_from((True, True, False))))


def inside(version: Optional[str], text: Optional[str]) -> bool:
    return text is None or (version is not None and SpecifierSet(text).contains(version, prereleases=True))


def first(version: str, count: int = 2) -> str:
    return ".".join(version.split("+", maxsplit=1)[0].split(".")[:count])


def on_platform(row: Any, facts: Facts) -> tuple[str, ...]:
    if facts.host.os == "windows":
        return tuple(row.python_windows)
    return tuple(row.python_aarch64 if facts.host.machine == "aarch64" else row.python)


def assert_holds(stack: Stack, facts: Facts, request: Request) -> None:
    """What makes a stack work, said again."""
    python = first(facts.target.python)
    installed = {d.name: d.version for d in facts.target.distributions}
    reachable = {index.name: index.reachable for index in facts.indexes}
    torch = next(row for row in MATRIX.torch if row.release == stack.torch.version)
    cuda = None if stack.torch.variant == "cpu" else f"{stack.torch.variant[2:-1]}.{stack.torch.variant[-1]}"
    kept = (
        facts.target.torch is not None and facts.target.torch.version == f"{stack.torch.version}+{stack.torch.variant}"
    )

    assert python in on_platform(torch, facts)
    assert stack.torchvision in torch.torchvision
    assert kept or not stack.torch.index.startswith("http") or reachable["torch"] is not False
    if facts.host.os == "linux" and isinstance(facts.host.glibc, str):
        assert Version(facts.host.glibc) >= Version(torch.glibc)

    for device in facts.gpu.devices if cuda else ():
        floor = next(row for row in MATRIX.drivers if row.cuda_major == str(cuda).split(".")[0])
        lowest = str(floor.windows if facts.host.os == "windows" else floor.linux)
        assert Version(str(facts.gpu.driver)) >= Version(lowest)
        usable = next(row.runs_on_sass_of for row in MATRIX.gpus if row.compute_capability == device.compute_capability)
        for arch in MATRIX.archs:
            same = (arch.torch, arch.variant) == (stack.torch.version, stack.torch.variant)
            if same and arch.platform in (facts.host.os, f"{facts.host.os}_{facts.host.machine}"):
                ptx = any(Version(p) <= Version(device.compute_capability) for p in arch.ptx)
                assert set(arch.sass) & set(usable) or ptx

    labs = {(row.project, row.version): row for row in MATRIX.openmmlab}
    mmpose, mmdet = labs["mmpose", stack.mmpose], labs.get(("mmdet", stack.mmdet or ""))
    assert mmdet is not None or not mmpose.needs_mmdet
    for row in (mmpose, mmdet):
        assert row is None or (inside(stack.mmcv.version, row.mmcv) and inside(stack.mmengine, row.mmengine))

    generation = stack.numpy.split(".")[0]
    assert generation <= torch.numpy
    numpy = next((row for row in MATRIX.numpy if row.series == first(stack.numpy)), None)
    assert numpy is None or python in numpy.python
    opencv = next(
        (r for r in MATRIX.binaries if (r.package, r.version) == (stack.opencv.name, stack.opencv.version)), None
    )
    assert opencv is None or (inside(stack.numpy, opencv.numpy) and not (opencv.built_on == "1" and generation == "2"))
    assert Version(stack.setuptools) < Version("82")

    can_build = request.allow_build and (facts.toolchain.gcc is not None or facts.host.os != "linux")
    assert_artefacts(stack, facts, generation, cuda, can_build=can_build, kept=kept)

    chosen = {
        "torch": stack.torch.version,
        "torchvision": stack.torchvision,
        "numpy": stack.numpy,
        "mmcv": stack.mmcv.version,
        "mmdet": stack.mmdet,
        "mmengine": stack.mmengine,
        "mmpose": stack.mmpose,
        "setuptools": stack.setuptools,
    }
    for name, version in request.pins.items():
        assert chosen[name] == version
    for name, text in request.recipe.packages.items():
        assert inside(chosen[name], text)
    if facts.host.os == "linux" and facts.host.libgl is False and "opencv-python" not in installed:
        assert stack.opencv.name == "opencv-python-headless"


def assert_artefacts(
    stack: Stack, facts: Facts, generation: str, cuda: Optional[str], *, can_build: bool, kept: bool
) -> None:
    python, reachable = first(facts.target.python), {index.name: index.reachable for index in facts.indexes}
    if stack.mmcv.artefact.kind == "wheel":
        assert reachable["openmmlab"] is not False
        key = ("mmcv", facts.host.os, stack.torch.variant, first(stack.torch.version))
        row = next(r for r in MATRIX.mmcv_wheels if (r.package, r.os, r.variant, r.torch) == key)
        assert stack.mmcv.version in row.versions
        assert python in row.python.get(stack.mmcv.version, (python,))
        assert facts.host.machine == "x86_64"
    elif stack.mmcv.artefact.kind == "build":
        assert can_build
        built = next(row for row in MATRIX.mmcv if (row.package, row.version) == ("mmcv", stack.mmcv.version))
        assert inside(stack.torch.version, built.torch)
        if facts.gpu.devices and cuda:
            assert facts.toolchain.nvcc is not None
            assert str(facts.toolchain.nvcc.version).split(".")[0] == cuda.split(".")[0]
    else:
        assert stack.mmcv.artefact.kind == "installed"
        assert kept
        assert facts.target.version("mmcv") == stack.mmcv.version
    kind = stack.xtcocotools.artefact.kind
    assert not (generation == "2" and kind == "wheel")
    assert kind != "build" or can_build
    assert kind != "installed" or facts.target.version("xtcocotools") == stack.xtcocotools.version
    if kind == "installed" and generation == "2":  # in both recorded machines it is the wheel for NumPy 1
        raise AssertionError("a NumPy 1 wheel was kept beside NumPy 2")


FEW = settings(derandomize=True, suppress_health_check=list(HealthCheck))


@FEW
@given(facts=machines(), request=requests())
def test_whatever_is_chosen_holds(facts: Facts, request: Request) -> None:
    best = cheapest(Situation(facts, MATRIX, request))
    if best is not None:
        assert_holds(best.stack, facts, request)


@FEW
@given(facts=machines(), request=requests(), name=st.sampled_from(sorted(PINS)), data=st.data())
def test_a_pin_more_makes_nothing_cheaper(facts: Facts, request: Request, name: str, data: st.DataObject) -> None:
    pins = {key: value for key, value in request.pins.items() if key != name}
    free = cheapest(Situation(facts, MATRIX, replace(request, pins=pins)))
    more = {**pins, name: data.draw(st.sampled_from(PINS[name]))}
    held = cheapest(Situation(facts, MATRIX, replace(request, pins=more)))
    if held is not None:
        assert free is not None
        assert free.weight <= held.weight


@FEW
@given(facts=machines(), request=requests())
def test_without_a_stack_there_is_a_sentence(facts: Facts, request: Request) -> None:
    impossible = replace(request, pins={**request.pins, "mmcv": "2.2.0"})
    resolution = resolve(facts, MATRIX, impossible)
    assert resolution.stack is None
    assert resolution.conflict is not None
    assert len(resolution.conflict) > 40
    assert resolution.rejected


def test_a_recipe_that_nothing_satisfies_is_explained(machine: Machine, matrix: Matrix) -> None:
    recipe = Recipe(name="mine", title="", source="", packages={"mmpose": "==9.9", "torch": "==9.9"})
    resolution = resolve(machine("healthy-cpu"), matrix, Request(recipe=recipe))
    assert said(resolution) <= {("recipe mine", "mmpose==9.9"), ("recipe mine", "torch==9.9")}
    assert len(resolution.core) == 1
    assert {constraint.says for constraint in resolution.nearest[0].gives} == {"mmpose==9.9", "torch==9.9"}


def test_a_wheel_of_cpu_ops_is_no_answer_for_a_gpu(machine: Machine, matrix: Matrix) -> None:
    """The cache tells CPU ops from CUDA ops, and those of one GPU from those of another."""
    seen = pretend(machine("healthy-cpu"), ("python=3.11", "gpu=9.0", "driver=580.65.06", "nvcc=13.0"))
    pins = {"torch": "2.14.1+cu130"}
    cached = CachedWheel(name="mmcv", version="2.1.0", python_tag="cp311", torch="2.14.1+cu130", numpy=None, path="x")
    kinds = []
    for archs in ("", "9.0", "12.0"):
        facts = replace(seen, wheels=(replace(cached, archs=archs),))
        stack = resolve(facts, matrix, Request(recipe=load_recipe("rtmpose"), pins=pins)).stack
        assert stack is not None
        kinds.append(stack.mmcv.artefact.kind)
    assert kinds == ["build", "cached", "build"]


def test_cuda_ops_take_longer(machine: Machine, matrix: Matrix) -> None:
    """On two cores 4 minutes for the CPU ops (facts: M7), and what nvcc takes for each arch besides."""
    host = replace(machine("healthy-cpu").host, cpu_count=2)
    row = rules.mmcv_row(matrix, "mmcv", "2.1.0")
    assert rules.build_minutes(row, host, "") == 4.0
    assert rules.build_minutes(row, host, "9.0") == 17.0
    assert rules.build_minutes(row, host, "9.0;12.0") == 30.0


def test_a_withdrawn_release_is_taken_only_where_it_is_there_or_named(machine: Machine, matrix: Matrix) -> None:
    facts, recipe = new_environment(machine("healthy-cpu"), reachable=True), load_recipe("rtmpose")
    best = resolve(facts, matrix, Request(recipe=recipe)).stack
    assert best is not None
    flavour, version = best.opencv.name, best.opencv.version
    yanked = replace(
        matrix,
        binaries=tuple(
            replace(row, withdrawn="yanked: a bug") if (row.package, row.version) == (flavour, version) else row
            for row in matrix.binaries
        ),
    )
    resolution = resolve(facts, yanked, Request(recipe=recipe))
    assert resolution.stack is not None
    assert resolution.stack.opencv.version != version
    said = next(r for r in resolution.rejected if r.candidate == f"{flavour} {version}")
    assert (said.fact, said.observed, said.unlock) == ("withdrawn", "yanked: a bug", f"your pin {flavour}=={version}")
    named = resolve(facts, yanked, Request(recipe=recipe, pins={flavour: version})).stack
    assert named is not None
    assert named.opencv.version == version
    there = pretend(facts, (f"installed={flavour}=={version}",))
    kept = resolve(there, yanked, Request(recipe=recipe)).stack
    assert kept is not None
    assert kept.opencv.version == version
