"""`--pretend`: what it overrides, what it leaves, what it refuses."""

from __future__ import annotations

import pytest

from mmdoctor.errors import UsageError
from mmdoctor.model import TorchBuild, Unknown
from mmdoctor.pretend import CHANGES, pretend
from tests.conftest import Machine, load_machine

FACTS = load_machine("natural-breakage")
AWAY = Unknown(unknown="a pretended machine")


def test_every_key_of_the_contract_is_there() -> None:
    contract = {"python", "os", "machine", "glibc", "driver", "gpu", "nvcc", "gcc", "ram_gb", "installed"}
    assert set(CHANGES) == contract


def test_another_python_is_another_environment() -> None:
    facts = pretend(FACTS, ("python=3.10",))
    target = facts.target
    assert (target.python, target.state, target.distributions, target.torch) == ("3.10.0", "absent", (), None)
    assert (target.torchvision_build, target.base_prefix, target.executable) == (None, "", "")
    assert (facts.imports, facts.extension, facts.wheels, facts.smoke) == ((), None, (), ())
    assert target.requested == FACTS.target.requested
    assert pretend(FACTS, ("python=3.10.12",)).target.python == "3.10.12"


def test_host_and_tools() -> None:
    said = ("os=windows", "machine=aarch64", "glibc=2.31", "ram_gb=7.5", "nvcc=12.1", "gcc=none")
    facts = pretend(FACTS, said)
    host = facts.host
    assert (host.os, host.machine, host.glibc) == ("windows", "aarch64", "2.31")
    assert host.memory_total_bytes == int(7.5 * 1024**3)
    assert facts.toolchain.nvcc is not None
    assert (facts.toolchain.nvcc.version, facts.toolchain.gcc) == ("12.1", None)
    assert facts.pretended == said


def test_gpus_and_driver() -> None:
    facts = pretend(FACTS, ("gpu=8.6,9.0", "driver=550.144.03"))
    assert [device.compute_capability for device in facts.gpu.devices] == ["8.6", "9.0"]
    assert (facts.gpu.driver, facts.gpu.source, facts.gpu.reason) == ("550.144.03", "pretended", None)
    none = pretend(facts, ("gpu=none", "driver=none"))
    assert (none.gpu.devices, none.gpu.driver, none.gpu.reason) == ((), None, "pretended")


def test_the_whole_list_of_installed_packages() -> None:
    facts = pretend(FACTS, ("installed=Torch==2.1.2+cu121, opencv_python==4.8.1.78,,torchvision==0.16.2",))
    listed = {d.name: d.version for d in facts.target.distributions}
    assert listed == {"opencv-python": "4.8.1.78", "torch": "2.1.2+cu121", "torchvision": "0.16.2"}
    assert facts.target.torch == TorchBuild(version="2.1.2+cu121", cuda="12.1")
    assert (facts.target.state, facts.target.torchvision_build) == ("present", "0.16.2")
    assert (facts.imports, facts.quick, facts.extension) == ((), True, None)


def test_an_empty_list_is_an_empty_environment() -> None:
    facts = pretend(FACTS, ("installed=",))
    assert (facts.target.state, facts.target.distributions, facts.target.torch) == ("present", (), None)
    assert facts.target.python == FACTS.target.python


def test_python_and_installed_in_any_order() -> None:
    one = pretend(FACTS, ("installed=numpy==1.26.4", "python=3.10"))
    two = pretend(FACTS, ("python=3.10", "installed=numpy==1.26.4"))
    assert one.target == two.target
    assert (one.target.state, one.target.python, one.target.version("numpy")) == ("present", "3.10.0", "1.26.4")


@pytest.mark.parametrize(
    "setting", ["python=3.10", "os=linux", "machine=x86_64", "glibc=2.35", "driver=535", "gpu=none"]
)
def test_another_machine_has_another_network(setting: str) -> None:
    facts = pretend(FACTS, (setting,))
    assert {index.name: index.reachable for index in facts.indexes} == {"pypi": AWAY, "torch": AWAY, "openmmlab": AWAY}
    assert facts.host.libgl == AWAY


@pytest.mark.parametrize("setting", ["nvcc=12.1", "gcc=11.4", "ram_gb=16", "installed="])
def test_another_tool_is_still_this_machine(setting: str) -> None:
    facts = pretend(FACTS, (setting,))
    assert (facts.indexes, facts.host.libgl) == (FACTS.indexes, FACTS.host.libgl)


def test_nothing_pretended_is_nothing_changed(machine: Machine) -> None:
    assert pretend(machine("healthy-cpu"), ()) == machine("healthy-cpu")


@pytest.mark.parametrize(
    "setting",
    [
        "python=3",
        "python=three",
        "python=",
        "os=beos",
        "machine=sparc",
        "glibc=new",
        "driver=latest",
        "gpu=75",
        "gpu=sm_75",
        "gpu=8.6,",
        "gpu=",
        "ram_gb=much",
        "ram_gb=1.2.3",
        "ram_gb=16+swap",
        "nvcc=",
        "installed=numpy",
        "installed=numpy==",
        "installed===1.0",
        "installed=numpy==1.26.4 torch==2.1.2",
        "colour=blue",
        "python",
    ],
)
def test_what_cannot_be_is_refused(setting: str) -> None:
    with pytest.raises(UsageError, match=r"--pretend .*expected"):
        pretend(FACTS, (setting,))
