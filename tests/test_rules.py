"""The small questions, at their edges."""

from __future__ import annotations

from typing import Optional

import pytest
from msgspec.structs import replace

from mmdoctor import rules
from mmdoctor.matrix_model import Matrix
from mmdoctor.model import Distribution
from mmdoctor.pretend import pretend
from tests.conftest import Machine, on_host, on_target


@pytest.mark.parametrize(
    ("version", "text", "expected"),
    [
        ("2.1.0+cu118", "==2.1.0", True),
        ("2.1.0", "==2.1.0+cu118", False),
        ("2.0.0rc4", ">=2.0.0rc4,<2.2.0", True),
        ("2.2.0", ">=2.0.0rc4,<2.2.0", False),
        ("1.10.0", "<1.9", False),
        ("anything", None, True),
        ("unknown", ">=1", False),
    ],
)
def test_within(version: str, text: Optional[str], expected: bool) -> None:
    assert rules.within(version, text) is expected


@pytest.mark.parametrize(
    ("version", "cuda", "variant"),
    [
        ("2.1.2+cu121", None, "cu121"),
        ("2.1.2+cpu", "12.1", "cpu"),
        ("1.13.1+cu117.with.pypi.cudnn", "11.7", "cu117"),
        ("2.13.0", "13.0", "cu130"),
        ("2.1.2", None, "cpu"),
        ("2.1.0a0+gitabcdef", "12.1", "cu121"),
    ],
)
def test_the_variant_of_a_build(version: str, cuda: Optional[str], variant: str) -> None:
    assert rules.variant_of(version, cuda) == variant


@pytest.mark.parametrize(("variant", "cuda"), [("cu92", "9.2"), ("cu121", "12.1"), ("cu130", "13.0"), ("cpu", None)])
def test_the_cuda_of_a_variant(variant: str, cuda: Optional[str]) -> None:
    assert rules.cuda_of(variant) == cuda


def test_drivers_are_compared_number_by_number(matrix: Matrix) -> None:
    assert rules.driver_runs("550.144.03", "525.60.13")
    assert rules.driver_runs("525.60.13", "525.60.13")
    assert rules.driver_runs("580.65.06", "580")
    assert not rules.driver_runs("525.60.9", "525.60.13")
    assert rules.driver_floor(matrix, "cu121", "linux") == "525.60.13"
    assert rules.driver_floor(matrix, "cu118", "windows") == "452.39"
    assert rules.driver_floor(matrix, "cpu", "linux") is None


def test_a_gpu_runs_its_majors_code_and_older_ptx(machine: Machine, matrix: Matrix) -> None:
    host = machine("healthy-cpu").host
    for capability, expected in (("7.5", True), ("8.9", True), ("12.0", False), ("77.0", None)):
        assert rules.holds_code_for(matrix, "2.1.2", "cu121", host, capability) is expected
    assert rules.holds_code_for(matrix, "2.1.2", "cu999", host, "7.5") is None
    arm = replace(host, machine="aarch64")
    assert rules.holds_code_for(matrix, "2.13.0", "cu130", arm, "9.0") is True
    assert rules.holds_code_for(matrix, "2.13.0", "cu130", arm, "7.5") is False


def test_wheels_are_of_a_platform(machine: Machine, matrix: Matrix) -> None:
    host = machine("healthy-cpu").host
    row = rules.torch_row(matrix, "2.1.2+cu121")
    assert row is not None
    assert rules.pypi_variant(row, host) == "cu121"
    assert rules.pypi_variant(row, replace(host, machine="aarch64")) == "cpu"
    assert rules.pypi_variant(row, replace(host, os="windows")) == "cpu"
    for name in ("arm64", "aarch64"):
        assert rules.wheel_pythons(row, replace(host, os="macos", machine=name)) == row.python_macos_arm64
        assert rules.wheel_pythons(row, replace(host, machine=name)) == row.python_aarch64


def test_the_mmcv_index_is_x86_only(machine: Machine, matrix: Matrix) -> None:
    host = machine("healthy-cpu").host
    found = rules.mmcv_wheel(matrix, "mmcv", "2.1.0", host, "cpu", "2.1.2", "3.11.7")
    assert found is not None
    assert (found.torch, found.os) == ("2.1", "linux")
    assert rules.mmcv_wheel(matrix, "mmcv", "2.1.0", host, "cpu", "2.1.2", "3.12.1") is None
    for os_name, name in (("linux", "aarch64"), ("macos", "arm64")):
        arm = replace(host, os=os_name, machine=name)
        assert rules.mmcv_wheel(matrix, "mmcv", "2.1.0", arm, "cpu", "2.1.2", "3.11.7") is None


def test_nvcc_knows_gpus_and_refuses_compilers(matrix: Matrix) -> None:
    assert rules.nvcc_floor(matrix, "12.0") == "12.8"
    assert rules.nvcc_floor(matrix, "9.0") == "11.8"
    assert rules.nvcc_floor(matrix, "77.0") is None
    assert rules.gcc_limit(matrix, "12.1.105") == "13"
    assert rules.gcc_limit(matrix, "13.0.88") == "16"
    assert rules.gcc_limit(matrix, "99.0") is None


def test_fixups_are_for_versions_of_torch_and_python(matrix: Matrix) -> None:
    def ids(package: str, version: str, torch: Optional[str], python: str) -> list[str]:
        return [row.id for row in rules.fixups_for(matrix, package, version, torch, python)]

    assert ids("mmcv", "2.1.0", "2.13.0", "3.11.7") == []
    assert ids("mmcv", "2.1.0", "2.14.0+cpu", "3.11.7") == ["cxx20"]
    assert ids("mmcv", "2.1.0", "2.14.0", "3.13.0") == ["cxx20", "py313"]
    assert ids("mmcv", "2.0.1", "2.1.2", "3.10.0") == ["cxx17"]
    assert ids("xtcocotools", "1.14.3", "2.14.0", "3.13.0") == ["owndata", "py313"]
    assert ids("mmcv", "2.1.0", None, "3.11.7") == []


def test_a_wheel_of_the_index_is_told_from_a_build(machine: Machine, matrix: Matrix) -> None:
    facts = machine("healthy-cpu")
    row = rules.binary_row(matrix, "xtcocotools", "1.14.3")
    one = Distribution(name="xtcocotools", version="1.14.3", folder="/env")
    assert rules.prebuilt(replace(one, tag="cp311-cp311-manylinux1_x86_64"), row, facts)
    assert rules.prebuilt(replace(one, tag="cp311-cp311-win_amd64"), row, facts)
    assert not rules.prebuilt(replace(one, tag="cp311-cp311-linux_x86_64"), row, facts)
    assert not rules.prebuilt(one, row, facts)
    pretended = replace(one, folder="")
    assert rules.prebuilt(pretended, row, facts)
    assert not rules.prebuilt(pretended, row, on_target(facts, python="3.13.0"))
    assert not rules.prebuilt(pretended, None, facts)


def test_the_torch_variant_of_a_pretended_list(machine: Machine, matrix: Matrix) -> None:
    facts = pretend(machine("healthy-cpu"), ("installed=torch==2.1.2",))
    assert rules.torch_variant(matrix, facts) == "cu121"
    assert rules.torch_variant(matrix, on_host(facts, os="windows")) == "cpu"
    assert rules.torch_variant(matrix, pretend(facts, ("installed=torch==2.1.2+cpu",))) == "cpu"
    assert rules.torch_variant(matrix, pretend(facts, ("installed=",))) is None
    seen = replace(facts, pretended=())  # in a real environment no label and no CUDA is a CPU build
    assert rules.torch_variant(matrix, seen) == "cpu"


def test_declared_requirements(machine: Machine) -> None:
    facts = machine("healthy-cpu")
    for text in ("a; extra == 'x'", "a; sys_platform == 'win32'", "a b c", "a; python_version < '3.11'"):
        assert rules.declared(text, facts) is None
    found = rules.declared("OpenCV_Python>=4; python_full_version >= '3.11.7'", facts)
    assert found is not None
    assert (found.name, str(found.specifier)) == ("opencv-python", ">=4")


def test_small_ones(matrix: Matrix) -> None:
    assert rules.minor("2.1.2+cu121") == "2.1"
    assert rules.order("nonsense") < rules.order("0.1")
    assert rules.newest(("1.9", "1.10")) == "1.10"
    assert rules.newest(()) is None
    assert rules.numpy_generation("2.0.1") == "2"
    assert rules.mmlab_rows(matrix, "mmpose")[0].version == "1.3.2"
    tools = rules.build_tools(matrix, "2.1.2+cu121")
    assert tools is not None
    assert rules.within(tools.setuptools_pin, tools.setuptools)


@pytest.mark.parametrize(
    ("symbol", "name"),
    [
        ("_ZN2at4_ops5zeros4callEN3c108ArrayRefINS2_6SymIntEEE", "at::_ops::zeros::call"),
        ("_ZNK3c107SymBool14guard_or_falseEPKcl", "c10::SymBool::guard_or_false"),
        ("_ZN3c105ErrorC1ENS_14SourceLocationESs", "c10::Error"),
        ("_Z16THPVariable_WrapN2at10TensorBaseE", "THPVariable_Wrap"),
        ("_ZTIN3c105ErrorE", "_ZTIN3c105ErrorE"),
        ("PyDict_New", "PyDict_New"),
    ],
)
def test_a_mangled_symbol_gets_its_name(symbol: str, name: str) -> None:
    assert rules.cxx_name(symbol) == name
