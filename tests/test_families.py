"""The three families: which a request may take, that they are never mixed, and what keeps or excludes the fork."""

from __future__ import annotations

from typing import Any, Optional

import pytest
from msgspec.structs import replace

from mmdoctor import rules
from mmdoctor.matrix import dump_matrix, load_recipe
from mmdoctor.matrix_lint import lint_matrix
from mmdoctor.matrix_model import Matrix
from mmdoctor.model import Facts, Plan, Recipe, Request, Resolution, Stack
from mmdoctor.plan import plan
from mmdoctor.pretend import pretend
from mmdoctor.resolve import resolve
from tests.conftest import load_machine, packages

FORK = {"onedl-mmcv": "2.3.6", "onedl-mmengine": "0.10.12", "onedl-mmdetection": "3.5.1"}
OWN = {"mmcv": "2.1.0", "mmengine": "0.10.7", "mmdet": "3.2.0"}
REST = {
    "torch": "2.8.0",
    "torchvision": "0.23.0",
    "numpy": "1.26.4",
    "mmpose": "1.3.2",
    "xtcocotools": "1.14.3",
    "opencv-python-headless": "4.11.0.86",
    "setuptools": "80.10.2",
}
BLACKWELL = ("gpu=12.0", "driver=580.65.06")


def on(python: str = "3.10", *keys: str, **installed: str) -> Facts:
    """A Linux machine with these packages."""
    listed = ",".join(f"{name.replace('_', '-')}=={version}" for name, version in installed.items())
    return pretend(load_machine("healthy-cpu"), (f"python={python}", f"installed={listed}", *keys))


def with_installed(*groups: dict[str, str], python: str = "3.10") -> Facts:
    listed = ",".join(f"{name}=={version}" for group in groups for name, version in group.items())
    return pretend(load_machine("healthy-cpu"), (f"python={python}", f"installed={listed}"))


def ask(facts: Facts, matrix: Matrix, recipe: Optional[Recipe] = None, **fields: Any) -> Resolution:
    return resolve(facts, matrix, Request(recipe=recipe or load_recipe("rtmpose"), **fields))


def stack_of(resolution: Resolution) -> Stack:
    assert resolution.stack is not None, resolution.conflict
    return resolution.stack


def names_in(made: Plan) -> set[str]:
    return {word.partition("==")[0] for stage in made.stages for step in stage.steps for word in step.argv}


# ---------------------------------------------------------------------------------------------------------- choosing


@pytest.mark.parametrize("python", ["3.9", "3.10", "3.12", "3.13"])
def test_nobody_gets_the_fork_unasked(matrix: Matrix, python: str) -> None:
    for build in (True, False):
        stack = ask(on(python), matrix, allow_build=build).stack
        assert stack is None or rules.family_of(stack.mmcv.name).name == "OpenMMLab 2"


def test_an_old_recipe_gets_the_old_family(matrix: Matrix) -> None:
    stack = stack_of(ask(on("3.9"), matrix, load_recipe("mmpose-0x")))
    assert (stack.mmcv.name, stack.mmengine) == ("mmcv-full", None)


def test_the_fork_by_name(matrix: Matrix) -> None:
    resolution = ask(on("3.10", *BLACKWELL), matrix, pins={"onedl-mmcv": "2.3.6"}, allow_build=False)
    stack = stack_of(resolution)
    assert (stack.mmcv.name, stack.mmcv.version, stack.mmcv.artefact.kind) == ("onedl-mmcv", "2.3.6", "wheel")
    assert stack.mmcv.artefact.source.endswith("cu128-torch280/simple/onedl-mmcv/index.html")
    assert (stack.torch.version, stack.torch.variant) == ("2.8.0", "cu128")
    assert {"onedl-mmcv", "onedl-mmengine", "onedl-mmdetection"} <= {c.name for c in resolution.changes}
    assert not set(OWN) & {c.name for c in resolution.changes}


def test_the_fork_is_a_way_out_where_it_has_the_wheel(matrix: Matrix) -> None:
    """OpenMMLab has no wheel beside a torch for Blackwell, OneDL has. Who said which mmcv does not mean the fork's."""
    facts = on("3.10", *BLACKWELL, "glibc=2.39")
    only = {"allow_build": False, "torch_variants": ("cu128",)}
    fork = next(way for way in ask(facts, matrix, **only).nearest if not way.gives)
    assert fork.how == "with the fork OneDL, by --pin onedl-mmcv==2.3.6"
    assert (fork.stack.mmcv.artefact.kind, fork.idle) == ("wheel", False)
    assert ask(facts, matrix, **only, pins={"onedl-mmcv": "2.3.6"}).stack == fork.stack
    assert all(way.gives for way in ask(facts, matrix, **only, pins={"mmcv": "2.1.0"}).nearest)


@pytest.mark.parametrize("name", FORK)
def test_any_of_its_names_will_do(matrix: Matrix, name: str) -> None:
    stack = stack_of(ask(on("3.10"), matrix, pins={name: FORK[name]}))
    assert stack.mmcv.name == "onedl-mmcv"
    by_range = replace(load_recipe("rtmpose"), packages={"mmpose": ">=1.3", name: ">=0.10"})
    assert stack_of(ask(on("3.10"), matrix, by_range)).mmcv.name == "onedl-mmcv"


def test_an_installed_fork_stays(matrix: Matrix) -> None:
    resolution = ask(with_installed(FORK, REST), matrix)
    assert resolution.changes == ()
    assert stack_of(resolution).mmcv.name == "onedl-mmcv"


def test_an_installed_fork_goes_where_its_rival_is_asked_for(matrix: Matrix) -> None:
    resolution = ask(with_installed(FORK, REST), matrix, pins={"mmcv": "2.1.0"})
    assert stack_of(resolution).mmcv.name == "mmcv"
    moves = {change.name: (change.old, change.new) for change in resolution.changes}
    for name, version in FORK.items():
        assert moves[name] == (version, None)
    for name in OWN:
        assert moves[name][0] is None
        assert moves[name][1] is not None


def test_one_of_two_families_goes_and_the_other_is_laid_down_again(matrix: Matrix) -> None:
    """pip put onedl-mmcv, and with it onedl-mmengine, into an OpenMMLab environment: each wrote over the other."""
    both = with_installed(OWN, {"onedl-mmcv": "2.3.6", "onedl-mmengine": "0.10.12"}, REST)
    resolution = ask(both, matrix)
    family = rules.family_of(stack_of(resolution).mmcv.name)
    moves = {change.name: change.new for change in resolution.changes}
    for module in ("mmcv", "mmengine"):
        gone = [name for name in rules.OWNERS[module] if moves.get(name, "stays") is None]
        laid_down = [name for name in rules.OWNERS[module] if moves.get(name)]
        assert len(gone) == 1
        assert laid_down in ([family.mmcv], [family.mmengine])
    made = plan(both, matrix, Request(recipe=load_recipe("rtmpose")), resolution)
    again = [word for stage in made.stages for step in stage.steps for word in step.argv]
    assert family.mmengine in [again[i + 1] for i, word in enumerate(again) if word == "--reinstall-package"]


def test_the_families_do_not_mix(matrix: Matrix) -> None:
    for pins in (
        {"onedl-mmcv": "2.3.6", "mmcv": "2.1.0"},
        {"onedl-mmcv": "2.3.6", "mmdet": "3.3.0"},
        {"mmcv": "2.1.0", "onedl-mmdetection": "3.5.1"},
        {"mmcv": "2.1.0", "onedl-mmengine": "0.10.12"},
    ):
        assert ask(on("3.10"), matrix, pins=pins).stack is None, pins


# --------------------------------------------------------------------------------------------------- what excludes it


def test_its_python(matrix: Matrix) -> None:
    resolution = ask(on("3.9"), matrix, pins={"onedl-mmcv": "2.3.6"})
    assert resolution.stack is None
    rejected = next(r for r in resolution.rejected if r.candidate == "onedl-mmcv 2.3.6" and r.fact == "python")
    assert (rejected.wanted, rejected.observed) == ("Python >=3.10", "3.9.0")


@pytest.mark.parametrize(
    ("keys", "fact", "why"),
    [
        (("glibc=2.31",), "wheel:onedl", "onedl: its wheel wants glibc 2.34"),
        (("gpu=8.0", "driver=580.65.06"), "wheel:onedl", "holds code for 7.5, 8.6, 8.9, 12.0, not for 8.0"),
        (("machine=aarch64",), "wheel:onedl", "onedl: no wheel for linux aarch64"),
    ],
)
def test_its_wheels(matrix: Matrix, keys: tuple[str, ...], fact: str, why: str) -> None:
    pins = {"onedl-mmcv": "2.3.6", "torch": "2.8.0"}
    cuda = ("cu128",) if keys[0].startswith("gpu") else ()
    resolution = ask(on("3.10", *keys), matrix, pins=pins, allow_build=False, torch_variants=cuda)
    assert resolution.stack is None
    assert any(why in r.why for r in resolution.rejected if r.fact == fact)


def test_openmmlabs_mmdet_refuses_it_and_mmpose_takes_it(matrix: Matrix) -> None:
    """The asserts are about the module's version: mmdet 3.3.0 says <2.2.0, mmpose 1.3.2 <=3.0.0, OneDL's mmdet none."""
    for project, version, takes in (("mmdet", "3.3.0", False), ("mmpose", "1.3.2", True), ("mmpose", "1.3.1", False)):
        row = rules.mmlab_row(matrix, project, version)
        assert row is not None
        assert rules.within("2.3.6", row.mmcv) is takes
    for row in rules.mmlab_rows(matrix, "onedl-mmdetection"):
        assert (row.mmcv, row.mmengine) == (None, None)
    resolution = ask(on("3.10"), matrix, pins={"onedl-mmcv": "2.3.6", "mmpose": "1.3.1"})
    assert resolution.stack is None
    why = next(r for r in resolution.rejected if r.candidate == "mmpose 1.3.1 with onedl-mmcv 2.3.6")
    assert (why.fact, why.wanted) == ("mmcv-range", "mmcv >=2.0.0rc4,<=2.3.0")


# -------------------------------------------------------------------------------------------------------------- plans


@pytest.mark.parametrize("installer", ["uv", "pip"])
def test_a_plan_of_the_fork_names_none_of_the_others(matrix: Matrix, installer: str) -> None:
    facts = on("3.10", *BLACKWELL)
    fields = {"pins": {"onedl-mmcv": "2.3.6"}, "allow_build": False, "installer": installer}
    request = Request(recipe=load_recipe("rtmpose"), **fields)  # type: ignore[arg-type]
    made = plan(facts, matrix, request, resolve(facts, matrix, request))
    assert set(FORK) <= names_in(made)
    assert not set(OWN) & names_in(made)
    constrained = {text.partition("==")[0] for text in made.constraints}
    assert set(FORK) <= constrained
    assert not set(OWN) & constrained


def test_a_build_of_the_fork(matrix: Matrix) -> None:
    facts = on("3.11")
    request = Request(recipe=load_recipe("rtmpose"), pins={"onedl-mmcv": "2.3.6", "torch": "2.12.0"})
    made = plan(facts, matrix, request, resolve(facts, matrix, request))
    build = next(step.build for stage in made.stages for step in stage.steps if step.build)
    assert (build.package, build.version, build.fixups) == ("onedl-mmcv", "2.3.6", ())
    assert build.sdist_sha256 is not None
    assert rules.within(stack_of(resolve(facts, matrix, request)).setuptools, ">=77.0.3")  # its pyproject wants PEP 639


# -------------------------------------------------------------------------------------------------------------- rules


def test_owners_and_families_agree() -> None:
    for family in rules.FAMILIES:
        assert [rules.module_of(name) for name in family.distributions] == ["mmcv", "mmengine", "mmdet"]
        assert rules.family_of(family.mmcv) == family
    assert rules.family_of("mmcv-lite").name == "OpenMMLab 2"


def test_who_brings_a_module() -> None:
    facts = load_machine("healthy-cpu")
    brought = rules.brought(facts, "mmengine")
    assert brought is not None
    assert brought.name == "mmengine"
    assert rules.doubled(facts) == {}
    more = packages(facts, {"onedl-mmengine": "0.10.12"})
    assert {m: [d.name for d in owners] for m, owners in rules.doubled(more).items()} == {
        "mmengine": ["mmengine", "onedl-mmengine"]
    }
    without = packages(facts, {"mmengine": None, "onedl-mmengine": "0.10.12"})
    fork = rules.brought(without, "mmengine")
    assert fork is not None
    assert fork.name == "onedl-mmengine"
    assert rules.brought(packages(facts, {"mmdet": None}), "mmdet") is None


def test_the_page_of_each_index(matrix: Matrix) -> None:
    assert rules.wheel_index(matrix, "mmcv").address("cu121", "2.1").endswith("cu121/torch2.1.0/index.html")
    assert any("mmcv" in source.packages for source in matrix.wheel_sources if source.community)  # and yet not asked
    fork = rules.wheel_index(matrix, "onedl-mmcv")
    assert fork.address("cpu", "2.10").endswith("/cpu-torch2100/simple/onedl-mmcv/index.html")


# --------------------------------------------------------------------------------------------------------------- lint


def test_lint_of_wheel_sources(matrix: Matrix) -> None:
    assert [fault for fault in lint_matrix(matrix, dump_matrix(matrix)) if "wheel" in fault] == []
    source = next(source for source in matrix.wheel_sources if not source.community)
    cpu = next(w for w in matrix.mmcv_wheels if w.package == "onedl-mmcv" and w.variant == "cpu")
    wrong = replace(
        matrix,
        wheel_sources=(source, replace(source, name="other", page="https://x/{cuda}", packages=("onedl-mmcv", "mmcv"))),
        mmcv_wheels=tuple(replace(w, archs=("8.0",)) if w == cpu else w for w in matrix.mmcv_wheels),
    )
    said = "\n".join(lint_matrix(wrong, dump_matrix(wrong)))
    assert "wheel_sources: onedl-mmcv has several" in said
    assert "wheel_sources other: page knows {variant}, {torch} and {digits} only" in said
    assert "mmcv_wheels onedl-mmcv linux 2.4 cpu: a CPU build has no archs" in said
    without = replace(matrix, mmcv_wheels=tuple(w for w in matrix.mmcv_wheels if w.package != "onedl-mmcv"))
    assert "wheel_sources onedl: mmcv_wheels has no row of onedl-mmcv" in "\n".join(
        lint_matrix(without, dump_matrix(without))
    )
