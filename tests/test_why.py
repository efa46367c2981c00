"""`matrix why`: yes or no, with the facts, the wheels and the measurements."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from mmdoctor.cli.data import matrix as command
from mmdoctor.matrix_model import Matrix
from mmdoctor.pretend import pretend
from mmdoctor.unlock import unlock
from mmdoctor.why import question, why
from tests.conftest import Machine, new_environment


def test_a_pair_that_goes_together(machine: Machine, matrix: Matrix) -> None:
    facts = new_environment(machine("healthy-cpu"), reachable=True)
    answer = why(facts, matrix, question({"torch": "2.1.2", "mmcv": "2.1.0"}))
    assert answer.together
    assert answer.stack is not None
    assert (answer.stack.torch.version, answer.stack.mmcv.version) == ("2.1.2", "2.1.0")
    assert {(wheel.torch, wheel.has) for wheel in answer.wheels} >= {("2.1.2+cpu", True), ("2.1.2+cu121", True)}
    assert {row.outcome for row in answer.measured} == {"works", "broken"}
    assert all(row.versions["torch"].startswith("2.1.") for row in answer.measured)


def test_a_pair_that_does_not_names_the_rule_and_its_source(machine: Machine, matrix: Matrix) -> None:
    facts = new_environment(machine("healthy-cpu"), reachable=True)
    answer = why(facts, matrix, question({"torch": "2.1.2", "numpy": "2.4.6"}))
    assert not answer.together
    assert [constraint.says for constraint in answer.core] == ["torch==2.1.2", "numpy==2.4.6"]
    assert {rejection.fact for rejection in answer.against} == {"numpy-generation"}
    assert answer.sources
    assert set(answer.sources) == {key for rejection in answer.against for key in rejection.source}
    assert len(answer.nearest) == 2


def test_each_source_says_why_it_has_no_wheel(machine: Machine, matrix: Matrix) -> None:
    facts = pretend(machine("healthy-cpu"), ("python=3.12", "gpu=12.0", "driver=580", "nvcc=11.8"))
    answer = why(facts, matrix, question({"torch": "2.8.0", "mmcv": "2.1.0"}))
    beside = {wheel.source: wheel for wheel in answer.wheels if wheel.torch == "2.8.0+cu128"}
    assert beside["openmmlab"].says == "no wheel for torch 2.8"
    assert not beside["sdist"].has
    assert "wanted nvcc 12.x, 12.8 or newer, found 11.8; unlocked by nvcc 12.x, 12.8 or newer" in beside["sdist"].says


def test_nvcc_may_come_as_wheels(machine: Machine, matrix: Matrix) -> None:
    facts = pretend(machine("healthy-cpu"), ("python=3.12", "gpu=12.0", "driver=580", "nvcc=12.1", "gcc=12.2"))
    answer = why(facts, matrix, question({"torch": "2.14.1", "mmcv": "2.1.0"}))
    says = next(wheel.says for wheel in answer.wheels if wheel.source == "sdist" and wheel.has)
    assert says.startswith("compiles with nvcc 13.0 from wheels and gcc 12.2: about ")


@pytest.mark.parametrize(("numpy", "status"), [("1.26.4", 0), ("2.4.6", 4)])
def test_the_command(numpy: str, status: int) -> None:
    said = CliRunner().invoke(
        command,
        ["why", "torch==2.1.2", f"numpy=={numpy}", "python==3.11", "--format", "json"],
        standalone_mode=False,
    )
    assert said.exception is None
    assert said.return_value == status
    answer = json.loads(said.output)
    assert answer["together"] is (status == 0)
    assert answer["pretended"] == ["python=3.11"]


@pytest.mark.parametrize(
    ("fact", "wanted", "observed", "said"),
    [
        ("driver", "driver 525.60.13", "470.256.02", "driver ≥525.60.13"),
        ("driver", "driver >=535", "470.256.02", "driver >=535"),
        ("python", "Python 3.8, 3.9, 3.10, 3.11", "3.13.0", "Python 3.11"),
        ("python", "Python 3.8, 3.9, 3.10, 3.11", "3.7.2", "Python 3.8"),
        ("python", "Python ==3.10.*", "3.13.0", "Python ==3.10.*"),
        ("python", "Python none on this platform", "3.11.7", None),
        ("glibc", "glibc 2.28", "2.17", "glibc ≥2.28"),
        ("nvcc", "nvcc 13.x", "none", "nvcc 13.x"),
        ("compiler", "a C++ compiler", "none", "a C++ compiler"),
        ("no-build", "a compile", "only the sdist", "a compile (leave out --no-build)"),
        ("index:openmmlab", "the index answers", "no answer", "the index answers"),
        ("mmcv-range", "mmcv <2.2.0", "2.2.0", None),
    ],
)
def test_what_would_unlock(fact: str, wanted: str, observed: str, said: str) -> None:
    assert unlock(fact, wanted, observed) == said
