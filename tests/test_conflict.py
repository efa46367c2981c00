"""What is said when nothing satisfies: the set is minimal, the ways out are real, nothing hangs on what is shared."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from mmdoctor.candidates.situation import Situation
from mmdoctor.conflict import Possible, minimal
from mmdoctor.holds import Hold, Question, loosened
from mmdoctor.matrix import load_matrix, load_recipe, recipe_names
from mmdoctor.matrix_model import Matrix
from mmdoctor.model import Facts, Request
from mmdoctor.pretend import pretend
from mmdoctor.resolve import cheapest, resolve
from tests.conftest import Machine, load_machine, new_environment

MATRIX = load_matrix()
HEALTHY = load_machine("healthy-cpu")
MACHINES = (
    new_environment(HEALTHY, "3.12.1", True),
    new_environment(HEALTHY, "3.9.2", False),
    pretend(HEALTHY, ("python=3.11", "gpu=12.0", "driver=535.104.05", "nvcc=none")),
    pretend(HEALTHY, ("python=3.10", "gpu=6.1", "driver=470.256.02")),
    pretend(HEALTHY, ("python=3.11", "os=macos", "machine=arm64")),
    HEALTHY,
)
PINS = {"torch": ("2.1.2", "2.13.0"), "numpy": ("1.21.6", "2.4.6"), "mmcv": ("2.2.0", "2.0.1"), "mmdet": ("3.3.0",)}


@st.composite
def questions(draw: st.DrawFn) -> Question:
    names = draw(st.sets(st.sampled_from(sorted(PINS)), max_size=3))
    pins = {name: draw(st.sampled_from(PINS[name])) for name in sorted(names)}
    recipe = load_recipe(draw(st.sampled_from(recipe_names())))
    request = Request(recipe=recipe, pins=pins, allow_build=draw(st.booleans()))
    return Question(draw(st.sampled_from(MACHINES)), request, MATRIX)


def has_stack(asked: Question, let_go: list[Hold]) -> bool:
    """By the search itself, with nothing remembered."""
    return any(cheapest(Situation(q.facts, q.matrix, q.request)) for q in loosened(asked, let_go))


@settings(derandomize=True, suppress_health_check=list(HealthCheck))
@given(asked=questions())
def test_the_set_is_minimal(asked: Question) -> None:
    """Only the set held, there is no stack; any one of it let go, there is one. And every way out leads to a stack that
    the search finds, too."""
    resolution = resolve(asked.facts, asked.matrix, asked.request)
    if resolution.stack is not None:
        return
    stacks = Possible(asked)
    core = minimal(stacks)
    assert resolution.core == tuple(hold.constraint for hold in core)
    others = [hold for hold in stacks.holds if hold not in core]
    assert not has_stack(asked, others)
    for hold in core:
        assert has_stack(asked, [*others, hold]), hold.says
    assert resolution.nearest
    for way in resolution.nearest:
        if way.gives:
            assert has_stack(asked, [hold for hold in stacks.holds if hold.constraint in way.gives])
            assert {*way.gives} & {*resolution.core}
        else:  # by a fork that is named
            pins = {**asked.request.pins, way.stack.mmcv.name: way.stack.mmcv.version}
            assert has_stack(asked._replace(request=replace(asked.request, pins=pins)), [])


def blackwell(machine: Machine, *more: str) -> Facts:
    return pretend(machine("healthy-cpu"), ("gpu=12.0", "driver=580", "python=3.12", *more))


def test_a_new_gpu_is_compiled_for_with_the_tools_named(machine: Machine, matrix: Matrix) -> None:
    resolution = resolve(blackwell(machine), matrix, Request(recipe=load_recipe("rtmpose")))
    assert resolution.stack is not None
    artefact = resolution.stack.mmcv.artefact
    assert artefact.kind == "build"
    assert "no wheel for torch 2.1" in artefact.reason
    assert "CUDA ops for 12.0 with nvcc 13.x and gcc ≥11.3" in artefact.reason
    assert "there is nvcc 13.x (a pretended machine)" in resolution.assumptions


def test_without_compiling_two_ways_out_are_named(machine: Machine, matrix: Matrix) -> None:
    asked = Request(recipe=load_recipe("rtmpose"), allow_build=False)
    resolution = resolve(blackwell(machine), matrix, asked)
    assert [constraint.says for constraint in resolution.core] == ["--no-build", "Python 3.12.0"]
    first, second = resolution.nearest
    assert (first.how, first.stack.mmcv.artefact.kind, first.idle) == ("without --no-build", "build", False)
    assert first.cost.build_minutes > 0
    assert (second.how, second.stack.mmcv.artefact.kind, second.idle) == ("with Python 3.11", "wheel", True)


def test_every_rejection_of_the_machine_says_what_unlocks_it(machine: Machine, matrix: Matrix) -> None:
    facts = pretend(machine("healthy-cpu"), ("gpu=8.6", "driver=470.256.02", "python=3.10"))
    resolution = resolve(facts, matrix, Request(recipe=load_recipe("rtmpose")))
    drivers = {r.candidate: r.unlock for r in resolution.rejected if r.fact == "driver"}
    assert drivers["torch 2.1.2+cu121"] == "driver ≥525.60.13"
    assert drivers["torch 2.14.1+cu130"] == "driver ≥580"
    assert all(r.source for r in resolution.rejected if r.fact in ("driver", "gpu-arch"))
    data_center = replace(facts.gpu.devices[0], name="NVIDIA A10")
    facts = replace(facts, gpu=replace(facts.gpu, devices=(data_center,)))
    resolution = resolve(facts, matrix, Request(recipe=load_recipe("rtmpose")))
    said = next(r.unlock for r in resolution.rejected if r.candidate == "torch 2.1.2+cu121")
    assert said is not None
    assert "cuda-compat-12-1" in said


def test_the_tightest_come_first_and_the_newest_torch_is_looked_at(machine: Machine, matrix: Matrix) -> None:
    facts = new_environment(machine("healthy-cpu"), reachable=True)
    resolution = resolve(facts, matrix, Request(recipe=load_recipe("rtmpose"), allow_build=False))
    assert resolution.stack is not None
    words = [r.fact in ("constraint", "variant") for r in resolution.rejected]
    assert words == sorted(words)
    assert any(r.candidate.startswith("mmcv 2.1.0 beside torch 2.15.0") for r in resolution.rejected)


def test_a_forward_compatible_driver_counts(machine: Machine, matrix: Matrix) -> None:
    facts = pretend(machine("healthy-cpu"), ("gpu=8.0", "driver=470.256.02", "python=3.10"))
    asked = Request(recipe=load_recipe("rtmpose"), torch_variants=("cu121",))
    assert resolve(facts, matrix, asked).stack is None
    raised = replace(facts, gpu=replace(facts.gpu, cuda_ceiling="12.2"))
    resolution = resolve(raised, matrix, asked)
    assert resolution.stack is not None
    assert any("cuda-compat" in text for text in resolution.assumptions)


def test_two_kinds_of_gpu_that_no_torch_serves_together(machine: Machine, matrix: Matrix) -> None:
    """A GTX 1080 Ti beside an RTX 5090: the way out is a program that sees one of them."""
    facts = pretend(machine("healthy-cpu"), ("gpu=6.1,12.0", "driver=580", "python=3.11", "installed="))
    request = Request(recipe=load_recipe("rtmpose"))
    resolution = resolve(facts, matrix, request)
    assert resolution.stack is not None
    assert resolution.stack.torch.variant == "cpu"
    alone = [text for text in resolution.assumptions if "CUDA_VISIBLE_DEVICES" in text]
    assert [text.partition(" alone")[0] for text in alone] == ["with the GPU of 12.0", "with the GPU of 6.1"]
    resolution = resolve(facts, matrix, replace(request, torch_variants=("cu128",)))
    way = next(way for way in resolution.nearest if "CUDA_VISIBLE_DEVICES" in way.how)
    assert way.how == "with the GPU of 12.0 alone (CUDA_VISIBLE_DEVICES)"
    assert way.stack.torch.variant == "cu128"
