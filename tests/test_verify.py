"""`matrix verify`: what ROW means, how evidence gets into the matrix, and where documents and measurements disagree."""

from __future__ import annotations

import hashlib
import os
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from mmdoctor.errors import UsageError
from mmdoctor.matrix import dump_matrix, load_matrix
from mmdoctor.matrix_lint import lint_matrix
from mmdoctor.matrix_model import DocumentRow, Matrix, StackRow
from mmdoctor.model import OpCheck, Recipe, Request
from mmdoctor.plan import plan
from mmdoctor.verify.claims import contradictions
from mmdoctor.verify.combination import Combination, chosen, combination_of, parts_of, read_combination, resolution_of
from mmdoctor.verify.evidence import add_evidence, check_writable, with_evidence
from mmdoctor.verify.measure import Failure, first_failure, forced
from tests.conftest import Machine, command, import_of, new_environment
from tests.wheelhouse import index, wheel

HERE = {"os": "Debian", "machine": "x86_64", "glibc": "2.36", "gcc": "12.2.0", "python": "3.11.7", "cores": "2"}


def row_of(**changes: Any) -> StackRow:
    """A measured row with other fields."""
    row = StackRow(
        source=("V1",),
        torch="2.1.2",
        build="cu121",
        python="3.11",
        torchvision="0.16.2",
        mmcv="2.1.0",
        mmcv_artefact="build",
        mmengine="0.10.7",
        mmdet="3.2.0",
        mmpose="1.3.2",
        numpy="1.26.4",
        xtcocotools="1.14.3",
        xtcocotools_artefact="wheel",
        opencv="opencv-python==4.11.0.86",
        outcome="works",
        date="2026-11-21",
        notes="",
        machine=HERE,
        times={"fetch": (3.5, 1.0)},
        load=0.5,
    )
    return replace(row, **changes)


def broken(step: str, error: str, **changes: Any) -> StackRow:
    return row_of(outcome="broken", step=step, error=error, **changes)


# ------------------------------------------------------------------------------------------------------ what ROW means


def read(text: str, matrix: Matrix) -> Combination:
    return read_combination(text.split(), matrix, (), ())


def test_a_row_is_read_as_requirements(matrix: Matrix) -> None:
    found = read_combination(["torch==2.4.1 mmcv==2.2.0", "python==3.11.7"], matrix, ["xtcocotools"], ["mmdet"])
    assert found.versions == {"torch": "2.4.1", "mmcv": "2.2.0"}
    assert (found.python, found.compiled, found.without) == ("3.11", ("xtcocotools",), ("mmdet",))
    assert read("torch==2.1.2+cu118", matrix).build == "cu118"


def test_a_measured_row_is_measured_again_by_its_id(matrix: Matrix) -> None:
    row = row_of(mmdet=None, xtcocotools_artefact="build")
    found = read(row.id, replace(matrix, stacks=(row,)))
    assert found == combination_of(row)
    assert found.without == ("mmdet",)
    assert set(found.compiled) == {"mmcv", "xtcocotools"}


WRONG_ROWS = {
    "no torch": ("mmcv==2.1.0", "which torch"),
    "a range": ("torch>=2.1", "no exact version"),
    "a wildcard": ("torch==2.1.*", "no exact version"),
    "no requirement": ("torch==2.1.2 mmcv=2.1.0", "no exact version"),
    "no part": ("torch==2.1.2 pandas==2.0.0", "pandas is no part"),
    "no release": ("torch==2.1.2 mmdet==3.9.0", "no row for mmdet 3.9.0"),
    "no id": ("deadbeef", "no measured row has the id"),
    "two mmcv": ("torch==2.1.2 mmcv==2.1.0 mmcv-full==1.7.0", "only one of"),
    "the same twice": ("torch==2.1.2 torch==2.4.1", "twice"),
}


@pytest.mark.parametrize("name", WRONG_ROWS)
def test_a_wrong_row_is_said(name: str, matrix: Matrix) -> None:
    text, said = WRONG_ROWS[name]
    with pytest.raises(UsageError, match=said):
        read(text, matrix)


def test_an_option_for_no_part_is_said(matrix: Matrix) -> None:
    with pytest.raises(UsageError, match="numpy is no part that this option is for"):
        read_combination(["torch==2.1.2"], matrix, ["numpy"], [])
    with pytest.raises(UsageError, match="pandas is no part that this option is for"):
        read_combination(["torch==2.1.2"], matrix, [], ["pandas"])


def test_what_is_left_out_is_filled_in_by_the_resolver(machine: Machine, matrix: Matrix) -> None:
    facts = new_environment(machine("healthy-cpu"), reachable=True)
    found = chosen(facts, matrix, read("torch==2.1.2 mmcv==2.1.0 numpy==1.26.4", matrix))
    assert found.refused == ()
    parts = parts_of(found.stack)
    assert (parts["torch"], parts["torchvision"], parts["mmcv"], parts["numpy"]) == (
        "2.1.2",
        "0.16.2",
        "2.1.0",
        "1.26.4",
    )
    assert {text.partition("==")[0] for text in found.filled} == parts.keys() - {"torch", "mmcv", "numpy"}


REFUSED = {
    "mmdet asserts another mmcv": ("torch==2.4.1 mmcv==2.2.0 mmdet==3.3.0 mmpose==1.3.2", 1),
    "torch of NumPy 1": ("torch==2.1.2 mmcv==2.1.0 numpy==2.2.6", 1),
    "not its torchvision": ("torch==2.1.2 torchvision==0.19.1", 1),
    "an mmcv of the other generation": ("torch==2.1.2 mmcv-full==1.7.0 mmpose==1.3.2", 1),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_the_resolver_refuses_is_taken_literally(name: str, machine: Machine, matrix: Matrix) -> None:
    text, count = REFUSED[name]
    asked = read(text, matrix)
    found = chosen(new_environment(machine("healthy-cpu"), reachable=True), matrix, asked)
    assert len(found.refused) == count, found.refused
    assert asked.versions.items() <= parts_of(found.stack).items()


def test_a_torch_that_the_resolver_refuses_comes_with_its_torchvision(machine: Machine, matrix: Matrix) -> None:
    """No wheel of it is for Python 3.13."""
    facts = new_environment(machine("healthy-cpu"), python="3.13.0", reachable=True)
    found = chosen(facts, matrix, read("torch==2.1.2 mmcv==2.1.0", matrix))
    assert found.stack.torch.version == "2.1.2"
    assert found.stack.torchvision == "0.16.2"
    assert "torch==2.1.2" in found.refused


def test_xtcocotools_is_the_wheel_unless_it_is_to_be_compiled(machine: Machine, matrix: Matrix) -> None:
    facts = new_environment(machine("healthy-cpu"), reachable=True)
    row = ["torch==2.4.1", "mmcv==2.1.0", "numpy==2.2.6"]
    assert chosen(facts, matrix, read_combination(row, matrix, [], [])).stack.xtcocotools.artefact.kind == "wheel"
    built = chosen(facts, matrix, read_combination(row, matrix, ["xtcocotools"], []))
    assert built.stack.xtcocotools.artefact.kind == "build"


def test_a_forced_plan_lets_no_declared_range_move_a_part(machine: Machine, matrix: Matrix) -> None:
    facts = new_environment(machine("healthy-cpu"), reachable=False)
    stack = chosen(facts, matrix, read("torch==2.1.2 mmcv==2.1.0 numpy==1.26.4 opencv-python==5.0.0.93", matrix)).stack
    request = Request(recipe=Recipe(name="verify", title="", source=""))
    made = forced(plan(facts, matrix, request, resolution_of(stack)))
    assert {"torch===2.1.2", "torchvision===0.16.2", "numpy==1.26.4", "opencv-python==5.0.0.93"} <= set(made.overrides)
    assert not any(text.startswith("mmcv") for text in made.overrides)
    installs = [step.argv for stage in made.stages for step in stage.steps if step.argv[:3] == ("uv", "pip", "install")]
    assert installs
    assert all("--override" in argv for argv in installs)


# --------------------------------------------------------------------------------------------------- what was seen


def test_the_first_failure_is_what_was_seen_and_not_a_verdict(machine: Machine) -> None:
    facts = machine("healthy-cpu")
    assert first_failure(facts, ()) is None
    said = "operator torchvision::nms\n does not exist"
    facts = import_of(facts, "torchvision", error="RuntimeError", message=said)
    found = first_failure(facts, ())
    assert found == Failure("import torchvision", "RuntimeError: operator torchvision::nms does not exist")


def test_a_wrong_op_is_a_failure(machine: Machine) -> None:
    ops = (
        OpCheck(op="nms", ok=True, max_abs_error=0.0, tolerance=0.1),
        OpCheck(op="roi", ok=False, max_abs_error=0.5, tolerance=0.1),
    )
    assert first_failure(machine("healthy-cpu"), ops) == Failure("mmcv's ops", "roi: off by 0.5")


# ------------------------------------------------------------------------------------------------------- the matrix


def test_evidence_replaces_that_of_the_same_machine_only(matrix: Matrix) -> None:
    older, elsewhere = row_of(date="2026-11-20"), row_of(machine={**HERE, "glibc": "2.31"})
    newer = broken("import mmdet", "AssertionError")
    found = with_evidence(with_evidence(replace(matrix, stacks=()), [older, elsewhere]), [newer]).stacks
    assert sorted(found, key=repr) == sorted((newer, elsewhere), key=repr)


def test_a_matrix_with_evidence_is_clean_and_loads_again(matrix: Matrix, tmp_path: Path) -> None:
    rows = (
        row_of(artefacts={"numpy-1.26.4-cp311-cp311-manylinux_2_17_x86_64.whl": "0" * 64}, load=1.0),
        broken(
            "import mmdet", 'MMCV==2.2.0 is "used"', mmcv="2.2.0", roots=("MCV004 mmcv-version-range",), numpy="2.2.6"
        ),
        row_of(mmcv_package="mmcv-full", mmcv="1.7.0", mmengine=None, mmdet=None, mmpose="0.29.0", numpy="1.23.5"),
    )
    file = tmp_path / "matrix.yaml"
    file.write_text(dump_matrix(matrix), encoding="utf-8")
    before = len(matrix.stacks)
    add_evidence(file, rows)
    loaded = load_matrix(file)
    assert lint_matrix(loaded, file.read_text(encoding="utf-8")) == ()
    assert {row.id for row in rows} <= {row.id for row in loaded.stacks}
    assert before <= len(loaded.stacks) <= before + len(rows)


def test_lint_of_evidence(matrix: Matrix) -> None:
    wrong = (
        (row_of(outcome="broken", mmpose="1.3.0"), "broken, and no step"),
        (row_of(error="ImportError", mmpose="1.3.1"), "works, and yet"),
        (row_of(times={}, mmpose="1.2.0"), "no times"),
        (row_of(artefacts={"a.whl": "abc"}, mmpose="1.1.0"), "a.whl has no sha256"),
    )
    changed = with_evidence(replace(matrix, stacks=()), [row for row, _ in wrong])
    faults = [fault for fault in lint_matrix(changed, dump_matrix(changed)) if fault.startswith("stacks")]
    assert len(faults) == len(wrong), faults
    for row, said in wrong:
        assert any(said in fault and f" {row.mmpose} " in fault for fault in faults)


def test_an_installed_matrix_is_not_written(tmp_path: Path) -> None:
    inside = tmp_path / "site-packages" / "mmdoctor" / "data" / "compat_matrix.yaml"
    with pytest.raises(UsageError, match="installed mmdoctor"):
        check_writable(inside)
    with pytest.raises(UsageError, match="cannot be written"):
        check_writable(tmp_path / "nowhere" / "matrix.yaml")


# --------------------------------------------------------------------------------- documented, measured, contradicted


def texts(matrix: Matrix, *rows: StackRow) -> set[tuple[str, str]]:
    """The contradicted claims with what was measured, of a matrix with only these rows."""
    return {(one.claim.text, one.measured) for one in contradictions(replace(matrix, stacks=rows))}


def test_what_agrees_is_no_contradiction(matrix: Matrix) -> None:
    assert texts(matrix, row_of()) == set()
    refused = "AssertionError: MMCV==2.1.0 is used but incompatible. Please install mmcv>=2.0.0rc4, <2.1.0."
    assert texts(matrix, row_of(), broken("import mmdet", refused, mmdet="3.1.0")) == set()


def test_what_works_outside_a_declared_range_contradicts_it(matrix: Matrix) -> None:
    found = texts(matrix, row_of(mmdet="3.3.0"))
    assert found == {("mmpose 1.3.2 declares in its [mim] extra mmdet >=3.0.0,<3.3.0", "works")}


def test_numpy_2_is_a_matter_of_the_wheel(matrix: Matrix) -> None:
    """Documents say that MMPose needs NumPy 1; the compiled xtcocotools shows that its wheel does."""
    error = "ValueError: numpy.dtype size changed, may indicate binary incompatibility."
    newer = {"torch": "2.4.1", "build": "cu121", "torchvision": "0.19.1", "numpy": "2.2.6"}
    wheel_fails = broken("import xtcocotools._mask", error, **newer)
    builds = row_of(xtcocotools_artefact="build", **newer)
    found = texts(matrix, wheel_fails, builds)
    assert ("mmpose >=1.0.0 needs, as its users are told, numpy <2", "works") in found
    assert ("xtcocotools 1.14.3 declares numpy >=1.20.0", "broken") in found
    assert not any("torch 2.4.1" in text for text, _ in found)


def test_a_failure_for_another_reason_contradicts_nothing(matrix: Matrix) -> None:
    assert texts(matrix, broken("import cv2", "ImportError: libGL.so.1: cannot open shared object file")) == set()


def test_a_failure_of_another_package_is_not_laid_to_this_one(matrix: Matrix) -> None:
    """torch 2.1 was compiled for NumPy 1; the compiled xtcocotools and OpenCV have no part in that."""
    row = broken(
        "import torch.numpy", "RuntimeError: Numpy is not available", numpy="2.2.6", xtcocotools_artefact="build"
    )
    assert texts(matrix, row) == set()


def test_what_fails_inside_a_listed_range_contradicts_the_list(matrix: Matrix) -> None:
    error = "AssertionError: MMCV==2.2.0 is used but incompatible. Please install mmcv>=2.0.0rc4, <2.2.0."
    row = broken("import mmdet", error, mmcv="2.2.0", mmdet="3.3.0")
    listed = DocumentRow(
        package="mmpose", versions="==1.3.2", says="is listed with", needs={"mmcv": ">=2.0.1"}, source=()
    )
    found = texts(replace(matrix, documents=(listed,)), row)
    assert ("mmpose 1.3.2 is listed with mmcv >=2.0.1", "broken") in found
    assert ("mmpose 1.3.2 asserts at import mmcv >=2.0.0rc4,<=3.0.0", "broken") in found
    assert not any(text.startswith("mmdet 3.3.0") for text, _ in found)


def test_a_compile_that_fails_contradicts_the_range_that_was_said_to_compile(matrix: Matrix) -> None:
    row = broken("mmcv", "compiling mmcv 2.1.0 failed: error: #error C++20 or later", torch="2.15.0")
    assert {text for text, _ in texts(matrix, row)} == {"mmcv 2.1.0 compiles, with fix-ups, beside torch >=1.8,<2.16"}


def test_an_optional_package_that_is_missed_is_a_contradiction(matrix: Matrix) -> None:
    row = broken("import mmpose.apis", "ModuleNotFoundError: No module named 'mmdet'", mmdet=None)
    assert ("mmpose 1.3.2 leaves to its [mim] extra, and so runs with no mmdet", "broken") in texts(matrix, row)
    assert texts(matrix, row_of(mmpose="1.2.0", mmdet=None)) == set()


# ---------------------------------------------------------------------------------------------------- the command


class Lab:
    """A matrix of its own, an sdist of mmcv that is none, and a folder of small wheels under the stack's names."""

    def __init__(self, folder: Path, matrix: Matrix) -> None:
        self.cache, self.matrix, self.wheels = folder / "cache", folder / "matrix.yaml", folder / "wheels"
        sdist = self.cache / "sdists" / "mmcv-2.1.0.tar.gz"
        sdist.parent.mkdir(parents=True)
        sdist.write_bytes(b"no archive")
        digest = hashlib.sha256(sdist.read_bytes()).hexdigest()
        mmcv = tuple(
            replace(row, sdist_sha256=digest) if (row.package, row.version) == ("mmcv", "2.1.0") else row
            for row in matrix.mmcv
        )
        self.matrix.write_text(dump_matrix(replace(matrix, mmcv=mmcv)), encoding="utf-8")
        for name in ("pip", "setuptools", "wheel"):
            wheel(self.wheels, name, "69.5.1")

    def verify(self, *words: str, **environment: str) -> Any:
        settings = {name: "" for name in os.environ if name.startswith(("PIP_", "UV_"))}
        settings |= {"MMDOCTOR_CACHE": str(self.cache), "UV_CACHE_DIR": str(self.cache / "uv"), **environment}
        row = ("torch==2.4.1", "mmcv==2.1.0", "numpy==1.26.4", *words)
        # The other indexes are asked through a proxy that is not there, so that no test reaches the network.
        settings |= {"HTTPS_PROXY": "http://127.0.0.1:9", "NO_PROXY": "127.0.0.1", "UV_HTTP_RETRIES": "0"}
        arguments = ("--matrix", str(self.matrix), "--python", sys.executable, *row)
        return command("matrix", "verify", *arguments, environment=settings)


@pytest.fixture
def lab(tmp_path: Path, matrix: Matrix) -> Lab:
    return Lab(tmp_path, matrix)


def test_a_failed_install_is_evidence_with_its_first_error(lab: Lab) -> None:
    with index(lab.wheels) as address:
        done = lab.verify(PIP_INDEX_URL=address)
    assert done.returncode == 1, done.stderr
    assert "failed at fetch: No solution found" in done.stdout
    loaded = load_matrix(lab.matrix)
    assert lint_matrix(loaded, lab.matrix.read_text(encoding="utf-8")) == ()
    [row] = [row for row in loaded.stacks if row.id == done.stdout.split()[0]]
    assert (row.outcome, row.step, row.torch) == ("broken", "fetch", "2.4.1")
    assert row.machine["machine"]
    assert row.times.keys() == {"fetch"}
    assert not list((lab.cache / "verify").glob("*/env"))


def test_without_network_nothing_is_written(lab: Lab) -> None:
    before = lab.matrix.read_bytes()
    with index(lab.wheels, "503") as address:
        done = lab.verify(PIP_INDEX_URL=address)
    assert done.returncode == 75, done.stdout + done.stderr
    time.sleep(1.1)  # a measurement's folder has the second and the process in its name
    offline = lab.verify("--offline", PIP_NO_INDEX="1", PIP_FIND_LINKS=str(lab.wheels))
    assert offline.returncode == 75, offline.stdout + offline.stderr
    assert "no evidence" in offline.stderr
    assert lab.matrix.read_bytes() == before


def test_evidence_of_another_machine_is_added(lab: Lab, tmp_path: Path) -> None:
    printed = tmp_path / "row.json"
    untouched = lab.matrix.read_bytes()
    with index(lab.wheels) as address:
        done = lab.verify("--no-write", "--format", "json", "--output", str(printed), PIP_INDEX_URL=address)
    assert done.returncode == 1, done.stderr
    assert lab.matrix.read_bytes() == untouched
    done = command("matrix", "verify", "--matrix", str(lab.matrix), "--add", str(printed))
    assert done.returncode == 0, done.stderr
    assert any(row.step == "fetch" for row in load_matrix(lab.matrix).stacks)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "what to measure"),
        (("torch==2.1.2", "--add", "x.json"), "what to measure"),
        (("torch==2.1.2", "--python", "/nowhere/python"), "--python /nowhere/python"),
        (("torch==2.1.2", "python==3.7", "--python", sys.executable), "ROW is for Python 3.7"),
        (("--add", "/nowhere.json"), "cannot read /nowhere.json"),
    ],
)
def test_a_mistake_is_usage(arguments: tuple[str, ...], said: str, tmp_path: Path) -> None:
    done = command("matrix", "verify", *arguments, environment={"MMDOCTOR_CACHE": str(tmp_path)})
    assert done.returncode == 2
    assert said in done.stderr
