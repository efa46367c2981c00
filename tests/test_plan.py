"""Plans: the order of the stages, what holds them together, and three of them whole."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from mmdoctor.checks import CHECKS
from mmdoctor.matrix import load_recipe
from mmdoctor.matrix_model import Matrix
from mmdoctor.model import Build, Facts, Plan, Request, Stage
from mmdoctor.plan import bound_to, plan, stale
from mmdoctor.pretend import pretend
from mmdoctor.report.text import render
from mmdoctor.resolve import resolve
from tests.conftest import (
    Machine,
    distribution,
    golden,
    import_of,
    new_environment,
    on_host,
    on_target,
    packages,
)

ORDER = ("environment", "remove", "mend", "tools", "torch", "mmcv", "numpy-bound", "openmmlab", "proof")
HOOF = ("python=3.10", "driver=535.104.05", "gpu=7.5", "os=linux")


def planned(facts: Facts, matrix: Matrix, recipe: str = "rtmpose", **fields: Any) -> Plan:
    request = Request(recipe=load_recipe(recipe), **fields)
    return plan(facts, matrix, request, resolve(facts, matrix, request))


def stage_of(made: Plan, name: str) -> Stage:
    return next(stage for stage in made.stages if stage.id == name)


def build_of(made: Plan, package: str) -> Build:
    builds = [step.build for stage in made.stages for step in stage.steps if step.build]
    return next(build for build in builds if build.package == package)


def words(made: Plan, name: str) -> tuple[str, ...]:
    return tuple(word for step in stage_of(made, name).steps for word in step.argv)


@pytest.fixture
def three(machine: Machine, matrix: Matrix) -> dict[str, Plan]:
    return {
        "natural-breakage": planned(machine("natural-breakage"), matrix),
        "new-python313": planned(new_environment(machine("healthy-cpu"), "3.13.1", True), matrix),
        "hoof-training": planned(pretend(machine("healthy-cpu"), HOOF), matrix, "hoof-training"),
    }


@pytest.mark.parametrize("name", ["natural-breakage", "new-python313", "hoof-training"])
def test_golden(name: str, three: dict[str, Plan]) -> None:
    """Whole, but for the rejections, which are long and are the resolver's."""
    text = msgspec.json.format(msgspec.json.encode(replace(three[name], rejected=())), indent=2).decode()
    golden(f"plans/{name}.json", text + "\n")


def test_the_stages_come_in_their_order(three: dict[str, Plan]) -> None:
    known = {check.id for check in CHECKS}
    for made in three.values():
        ids = [stage.id for stage in made.stages]
        assert ids == [name for name in ORDER if name in ids]
        assert ids[-2:] == ["openmmlab", "proof"]
        assert all(set(stage.verify) <= known for stage in made.stages)
    assert [stage.id for stage in three["natural-breakage"].stages][:2] == ["tools", "torch"]
    assert [stage.id for stage in three["hoof-training"].stages][:2] == ["environment", "tools"]


def test_the_constraints_cover_every_part_and_the_overrides_keep_out_what_must_not_come(
    three: dict[str, Plan],
) -> None:
    for made in three.values():
        assert made.stack is not None
        names = {text.partition("==")[0] for text in made.constraints}
        parts = {"torch", "torchvision", "numpy", "mmcv", "xtcocotools", "mmengine", "mmdet", "mmpose", "setuptools"}
        assert names == {*parts, made.stack.opencv.name}
        out = {text.partition(" ;")[0] for text in made.overrides}
        others = {"opencv-python", "opencv-python-headless", "opencv-contrib-python", "opencv-contrib-python-headless"}
        assert out == {"chumpy", *others - {made.stack.opencv.name}}
        assert all(text.endswith("; python_version < '0'") for text in made.overrides)
        for stage in ("mmcv", "numpy-bound", "openmmlab"):
            assert {"{constraints}", "{overrides}"} <= set(words(made, stage))


def test_a_torch_of_another_variant_is_laid_down_again(three: dict[str, Plan]) -> None:
    said = words(three["natural-breakage"], "torch")
    assert "torch===2.13.0" in said  # `==` would also take a +cpu from the user's find-links
    assert said[-2:] == ("--reinstall-package", "torch")
    assert not any(word.startswith("torchvision") for word in said)


def test_a_torchvision_from_the_torch_index(machine: Machine, matrix: Matrix) -> None:
    facts = machine("natural-breakage")
    facts = replace(facts, indexes=tuple(replace(i, reachable=True, reason=None) for i in facts.indexes))
    said = words(planned(facts, matrix), "torch")
    assert said[said.index("--index") + 1] == "https://download.pytorch.org/whl/cpu"
    assert "torchvision==0.28.0+cpu" in said
    assert not any(word.startswith("torch==") for word in said)


def test_builds_carry_hash_fixups_and_environment(three: dict[str, Plan]) -> None:
    made = three["new-python313"]
    mmcv, xtcocotools = build_of(made, "mmcv"), build_of(made, "xtcocotools")
    assert [fixup.id for fixup in mmcv.fixups] == ["cxx20", "py313"]
    assert [fixup.id for fixup in xtcocotools.fixups] == ["owndata", "py313"]
    for build in (mmcv, xtcocotools):
        assert build.sdist_sha256 is not None
        assert len(build.sdist_sha256) == 64
    assert mmcv.env == {"MMCV_WITH_OPS": "1", "CFLAGS": "-g0", "CXXFLAGS": "-g0"}
    assert words(made, "mmcv")[-1] == "{wheel}"
    old = build_of(three["natural-breakage"], "mmcv")
    assert old.fixups == ()  # torch 2.13 still takes C++17, and Python is 3.11


def test_cxx20_is_for_torch_from_2_14_on(machine: Machine, matrix: Matrix) -> None:
    for torch, expected in (("2.13.0", []), ("2.14.0", ["cxx20"]), ("2.14.1", ["cxx20"])):
        made = planned(new_environment(machine("healthy-cpu")), matrix, pins={"torch": torch})
        assert [fixup.id for fixup in build_of(made, "mmcv").fixups] == expected


def test_nothing_comes_from_pips_own_wheel_cache(three: dict[str, Plan]) -> None:
    """Each compiled package comes as a step with a build, or as a wheel from a named place, and only as a binary."""
    for made in three.values():
        for name, package in (("mmcv", "mmcv"), ("numpy-bound", "xtcocotools")):
            for step in stage_of(made, name).steps:
                binary = "--only-binary" in step.argv and step.argv[step.argv.index("--only-binary") + 1] == package
                assert (step.build is not None) != binary
                assert "--reinstall-package" in step.argv


def test_cuda_builds_name_the_gpu(machine: Machine, matrix: Matrix) -> None:
    said = ("python=3.11", "gpu=12.0,9.0", "driver=580.65.06", "nvcc=13.0")
    env = build_of(planned(pretend(machine("healthy-cpu"), said), matrix), "mmcv").env
    assert (env["FORCE_CUDA"], env["TORCH_CUDA_ARCH_LIST"]) == ("1", "9.0;12.0")
    own = replace(machine("healthy-cpu"), environment={"TORCH_CUDA_ARCH_LIST": "12.0+PTX"})
    env = build_of(planned(pretend(own, said), matrix), "mmcv").env
    assert env["TORCH_CUDA_ARCH_LIST"] == "12.0+PTX"


def test_cuda_ops_without_a_gpu_where_they_are_forced(machine: Machine, matrix: Matrix) -> None:
    facts, said = machine("healthy-cpu"), ("python=3.11", "nvcc=none", "gcc=12.2.0")
    for told, archs in ({}, None), ({"FORCE_CUDA": "1", "TORCH_CUDA_ARCH_LIST": "8.0 9.0"}, "8.0;9.0"):
        forced = pretend(replace(facts, environment=told), said)
        made = planned(new_environment(forced), matrix, pins={"torch": "2.14.1"}, torch_variants=("cu130",))
        build = build_of(made, "mmcv")
        assert build.env.get("TORCH_CUDA_ARCH_LIST") == archs
        assert bool(build.nvcc) == bool(archs)  # nvcc out of wheels
    nothing = replace(facts, environment={"FORCE_CUDA": "1"})
    made = planned(new_environment(nothing), matrix, pins={"torch": "2.14.1"}, torch_variants=("cu130",))
    assert any("FORCE_CUDA=1 and no GPU is here" in text for text in made.assumptions)


def test_build_minutes_are_of_this_machines_cores(machine: Machine, matrix: Matrix) -> None:
    facts = new_environment(machine("healthy-cpu"))
    for cores, minutes in ((2, 4.0), (8, 1.0), (1, 8.0)):
        made = planned(on_host(facts, cpu_count=cores), matrix)
        assert build_of(made, "mmcv").minutes == made.cost.build_minutes == minutes


def test_the_removal_comes_before_what_is_laid_down_again(machine: Machine, matrix: Matrix) -> None:
    made = planned(packages(machine("healthy-cpu"), {"opencv-python": "4.11.0.86", "mmcv-full": "1.7.2"}), matrix)
    assert [stage.id for stage in made.stages][:2] == ["remove", "tools"]
    assert set(words(made, "remove")[-2:]) == {"mmcv-full", "opencv-python"}
    assert words(made, "torch")[-2:] == ("--reinstall-package", "opencv-python-headless")


def test_nothing_to_do(machine: Machine, matrix: Matrix) -> None:
    made = planned(machine("healthy-cpu"), matrix)
    assert (made.status, made.stages, made.changes) == ("nothing-to-do", (), ())
    assert "torch==2.1.2" in made.constraints


def test_a_pin_besides_the_stack_is_something_to_do(machine: Machine, matrix: Matrix) -> None:
    facts = machine("healthy-cpu")
    have = facts.target.version("scipy")
    assert planned(facts, matrix, pins={"scipy": str(have)}).status == "nothing-to-do"
    made = planned(facts, matrix, pins={"scipy": "1.11.4"})
    assert made.status == "plan"
    assert words(made, "openmmlab")[-1] == "scipy==1.11.4"
    assert "scipy==1.11.4" in made.constraints
    assert not any(text.startswith("chumpy") for text in planned(facts, matrix, pins={"chumpy": "0.70"}).overrides)


def test_the_recipes_extras_are_installed(machine: Machine, matrix: Matrix) -> None:
    made = planned(new_environment(machine("healthy-cpu"), reachable=True), matrix, "pose-service")
    assert words(made, "openmmlab")[-1] == "fastapi==0.111.0"


def test_without_a_stack_there_are_no_stages(machine: Machine, matrix: Matrix) -> None:
    made = planned(machine("healthy-cpu"), matrix, pins={"mmcv": "2.2.0"})
    assert (made.status, made.stack, made.stages) == ("unsatisfiable", None, ())
    assert made.conflict is not None
    assert made.rejected


def test_a_plan_is_bound_to_host_interpreter_and_packages(machine: Machine, matrix: Matrix) -> None:
    facts = distribution(machine("healthy-cpu"), "tqdm", digest="1")
    made = planned(facts, matrix)
    others = {
        "numpy 1.26.4 is gone": packages(facts, {"numpy": "1.26.3"}),
        "tqdm 4.70.1 is gone": packages(facts, {"tqdm": None}),
        "tqdm 4.70.1 was installed again": distribution(facts, "tqdm", digest="2"),
        "it was made for another machine": on_host(facts, identity="another"),
        "now present with 3.11.8": on_target(facts, python="3.11.8"),
        "now absent with 3.11.7": on_target(facts, state="absent"),
    }
    for said, other in others.items():
        assert said in " ".join(stale(made, other)), said
    backwards = on_target(facts, distributions=tuple(reversed(facts.target.distributions)))
    for same in (import_of(facts, "torch", "timeout"), backwards):
        assert bound_to(same) == made.bound
        assert stale(made, same) == ()


def test_mmpose_0_is_proven_without_the_rtmpose_inference(machine: Machine, matrix: Matrix) -> None:
    made = planned(new_environment(machine("healthy-cpu"), "3.8.10", True), matrix, "mmpose-0x")
    assert not any("bench" in step.argv for step in stage_of(made, "proof").steps)


def test_a_plan_survives_its_file(three: dict[str, Plan]) -> None:
    for made in three.values():
        assert msgspec.json.decode(msgspec.json.encode(made), type=Plan) == made


def test_chumpy_is_built_beside_pip_when_it_is_asked_for(machine: Machine, matrix: Matrix) -> None:
    """Its setup.py imports pip, which is not there in an isolated build."""
    facts = machine("natural-breakage")
    request = Request(recipe=load_recipe("rtmpose"), pins={"chumpy": "0.70"})
    made = plan(facts, matrix, request, resolve(facts, matrix, request))
    argv = next(stage for stage in made.stages if stage.id == "openmmlab").steps[0].argv
    assert argv[argv.index("--no-build-isolation-package") + 1] == "chumpy"
    assert not any(text.startswith("chumpy") for text in made.overrides)


def site(name: str) -> str:
    return f"{{env}}/lib/python3.11/site-packages/{name}"


def test_what_no_installer_can_remove_is_deleted_by_path(machine: Machine, matrix: Matrix) -> None:
    facts = on_target(machine("healthy-cpu"), modules=("mmengine", "numpy"))
    facts = distribution(facts, "mmengine", record="missing", info="mmengine-0.10.7.dist-info")
    made = planned(facts, matrix)
    assert [(c.name, c.old, c.new, c.why) for c in made.changes] == [("mmengine", "0.10.7", "0.10.7", "no RECORD")]
    assert words(made, "remove") == ("rm", "-rf", site("mmengine-0.10.7.dist-info"), site("mmengine"))
    assert "--reinstall-package mmengine" in " ".join(words(made, "openmmlab"))
    assert [stage.id for stage in made.stages] == ["remove", "openmmlab", "proof"]


def test_a_distribution_listed_twice_goes_whole_and_comes_again(machine: Machine, matrix: Matrix) -> None:
    facts = distribution(machine("healthy-cpu"), "numpy", info="numpy-1.26.4.dist-info")
    one = next(d for d in facts.target.distributions if d.name == "numpy")
    two = (replace(one, version="1.25.2", info="numpy-1.25.2.dist-info"), *facts.target.distributions)
    made = planned(on_target(facts, modules=("numpy",), distributions=two), matrix)
    assert [(c.name, c.new) for c in made.changes] == [("numpy", "1.26.4")]
    gone = (site("numpy-1.25.2.dist-info"), site("numpy"), site("numpy-1.26.4.dist-info"))
    assert words(made, "remove") == ("rm", "-rf", *gone)
    assert "numpy==1.26.4" in words(made, "torch")


def test_a_folder_that_nobody_owns_makes_room(machine: Machine, matrix: Matrix) -> None:
    facts = on_target(packages(machine("healthy-cpu"), {"xtcocotools": None}), modules=("xtcocotools", "mmcv"))
    assert words(planned(facts, matrix), "remove") == ("rm", "-rf", site("xtcocotools"))


def test_remains_and_damaged_bytecode_alone_make_a_plan(machine: Machine, matrix: Matrix) -> None:
    facts = machine("healthy-cpu")
    folder = facts.target.site_packages
    file = f"{folder}/mmengine/__pycache__/__init__.cpython-311.pyc"
    said = {"error": "EOFError", "message": "marshal data too short", "data": {"bytecode": file}}
    facts = import_of(on_target(facts, leftovers=(f"{folder}/~umpy", "/usr/lib/python3/~ip")), "mmengine", **said)
    made = planned(facts, matrix)
    assert (made.status, made.changes) == ("plan", ())
    # What lies outside the environment is not ours to delete.
    assert words(made, "remove") == ("rm", "-rf", site("~umpy"), site("mmengine/__pycache__"))
    assert [stage.id for stage in made.stages] == ["remove", "proof"]


def test_a_damaged_package_below_the_stack_is_installed_again_as_it_was(machine: Machine, matrix: Matrix) -> None:
    facts = distribution(machine("healthy-cpu"), "scipy", damaged_files=("scipy/linalg/_fblas.so",))
    died = {"signal": 7, "message": "died", "packages": ("mmpose", "scipy")}
    facts = import_of(facts, "mmpose.apis", "crash", **died)
    made = planned(facts, matrix)
    assert [(c.name, c.old, c.new) for c in made.changes] == [("scipy", "1.17.1", "1.17.1")]
    assert words(made, "mend")[5:] == ("--no-deps", "--reinstall-package", "scipy", "scipy==1.17.1")
    # One that came from a folder is on no index, and one that the stack does not need is the user's own affair.
    for name, fields in (("scipy", {"direct": True}), ("ninja", {"missing_files": ("bin/ninja",)})):
        other = (
            distribution(machine("healthy-cpu"), name, missing_files=("gone",), **fields)
            if name == "scipy"
            else (distribution(machine("healthy-cpu"), name, **fields))
        )
        assert planned(other, matrix).status == "nothing-to-do"


def test_a_lost_cuda_library_does_not_move_torch(machine: Machine, matrix: Matrix) -> None:
    facts = distribution(machine("healthy-cpu"), "torch", requires=("nvidia-cublas-cu12==12.1.3.1",))
    facts = packages(facts, {"nvidia-cublas-cu12": "12.1.3.1"})
    facts = distribution(facts, "nvidia-cublas-cu12", missing_files=("nvidia/cublas/lib/libcublas.so.12",))
    said = {"error": "ImportError", "message": "libcublas.so.12: cannot open", "packages": ("torch",)}
    for module in ("torch", "torch.numpy", "torchvision", "mmcv._ext", "mmcv.ops", "mmdet", "mmpose.apis", "registry"):
        facts = import_of(facts, module, **said)
    assert [c.name for c in planned(facts, matrix).changes] == ["nvidia-cublas-cu12"]


def test_pip_deletes_the_same_paths(machine: Machine, matrix: Matrix) -> None:
    facts = distribution(machine("healthy-cpu"), "mmengine", record="missing", info="mmengine-0.10.7.dist-info")
    made = planned(facts, matrix, installer="pip")
    assert words(made, "remove") == ("rm", "-rf", site("mmengine-0.10.7.dist-info"))


def test_a_wheel_that_was_compiled_earlier_is_no_compile(three: dict[str, Plan]) -> None:
    made = three["natural-breakage"]
    assert made.stack is not None
    mmcv = made.stack.mmcv
    earlier = replace(mmcv, artefact=replace(mmcv.artefact, kind="cached"))
    for one, compiled in ((made, True), (replace(made, stack=replace(made.stack, mmcv=earlier)), False)):
        said = render(one)
        assert ("compiles mmcv 2.1.0" in said) == compiled
        assert ("# compile {wheel}: mmcv 2.1.0" in said) == compiled
        assert "compiles xtcocotools" in said
