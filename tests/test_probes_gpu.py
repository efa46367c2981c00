"""The GPU probe: parsers on the tools' own words, NVML through a small stand-in library, and why there is no GPU."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import Optional

import msgspec
import pytest

from mmdoctor import system
from mmdoctor.model import Gpu, GpuDevice, Unknown
from mmdoctor.probes import gpu
from mmdoctor.probes.gpu import Answer, Surroundings

DATA = Path(__file__).parent / "data" / "gpu"
MIB = 1024**2


def text(name: str) -> str:
    return (DATA / f"{name}.txt").read_text(encoding="utf-8")


# -------------------------------------------------------------------------------------------------------- parsers


@pytest.mark.parametrize(
    ("name", "version"), [("proc-version-closed", "535.104.05"), ("proc-version-open", "570.86.15")]
)
def test_proc_version_keeps_the_raw_driver_version(name: str, version: str) -> None:
    assert gpu.parse_proc_version(text(name)) == version


def test_proc_version_of_nothing() -> None:
    assert gpu.parse_proc_version("") is None


def test_smi_names_each_device_with_bytes() -> None:
    answer = gpu.parse_nvidia_smi(text("smi-two"))
    assert answer.driver == "535.104.05"
    assert answer.devices == (
        GpuDevice(name="NVIDIA GeForce GTX 1660 SUPER", compute_capability="7.5", memory_bytes=6144 * MIB),
        GpuDevice(name="Tesla T4", compute_capability="7.5", memory_bytes=15360 * MIB),
    )


def test_smi_without_own_memory_is_zero() -> None:
    assert gpu.parse_nvidia_smi(text("smi-unified-memory")).devices[0].memory_bytes == 0


@pytest.mark.parametrize("name", ["smi-old-driver", "smi-mismatch", "smi-no-driver", "smi-none"])
def test_smi_refusal_is_no_device_and_keeps_the_words(name: str) -> None:
    answer = gpu.parse_nvidia_smi(text(name))
    assert (answer.driver, answer.devices) == (None, ())
    assert answer.message == text(name).splitlines()[0]


def test_smi_device_without_capability_is_left_out_and_said() -> None:
    answer = gpu.parse_nvidia_smi("Tesla K80, [N/A], 11441, 470.82.01\n")
    assert answer.devices == ()
    assert "Tesla K80" in answer.message


def test_banner_and_library_version() -> None:
    assert gpu.parse_smi_banner(text("smi-banner")) == ("535.104.05", "12.2")
    assert gpu.parse_smi_banner("") == (None, None)
    assert gpu.parse_library_version(text("smi-mismatch")) == "535.161"


def test_kernel_driver_prefers_the_module(tmp_path: Path) -> None:
    assert gpu.kernel_driver(tmp_path) == (None, None)
    write(tmp_path / "proc/driver/nvidia/version", text("proc-version-open"))
    assert gpu.kernel_driver(tmp_path) == ("570.86.15", "/proc/driver/nvidia/version")
    write(tmp_path / "sys/module/nvidia/version", "570.86.16\n")
    assert gpu.kernel_driver(tmp_path) == ("570.86.16", "/sys/module/nvidia/version")


def write(path: Path, content: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")


# ---------------------------------------------------------------------------------------------- CUDA_VISIBLE_DEVICES

T4 = GpuDevice(name="Tesla T4", compute_capability="7.5", memory_bytes=15360 * MIB)
H100 = GpuDevice(name="NVIDIA H100 80GB HBM3", compute_capability="9.0", memory_bytes=81559 * MIB)
PCI = {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}


@pytest.mark.parametrize(
    ("devices", "wanted", "order", "left"),
    [
        pytest.param((T4, H100), None, {}, (T4, H100), id="unset"),
        pytest.param((T4, H100), "", {}, (), id="empty hides all"),
        pytest.param((T4, H100), "-1", {}, (), id="-1 hides all"),
        pytest.param((T4, H100), "1", PCI, (H100,), id="number in PCI order"),
        pytest.param((T4, H100), "1", {}, (T4, H100), id="number in CUDA's own order: which one is open"),
        pytest.param((T4, T4, T4), "2,0", {}, (T4, T4), id="all alike: only the count matters"),
        pytest.param((T4, H100), "0,-1,1", PCI, (T4,), id="the list ends at the first that is no device"),
        pytest.param((T4, H100), "7", PCI, (), id="no such number"),
        pytest.param((T4, H100), "GPU-8932f937", PCI, (T4, H100), id="a name is not resolved"),
        pytest.param((), "0", {}, (), id="nothing to hide"),
    ],
)
def test_visible_devices(
    devices: tuple[GpuDevice, ...], wanted: Optional[str], order: dict[str, str], left: tuple[GpuDevice, ...]
) -> None:
    environ = order if wanted is None else {**order, "CUDA_VISIBLE_DEVICES": wanted}
    seen, reason = gpu.visible(devices, environ)
    assert seen == left
    assert (reason is not None) == bool(devices and not left)
    assert reason is None or "CUDA_VISIBLE_DEVICES" in reason


# ------------------------------------------------------------------------------------------------ why there is none

BARE = Surroundings(
    os="linux", pci_devices=0, nouveau=False, control_node=False, container=None, wsl=False, tegra=False
)


@pytest.mark.parametrize(
    ("nvml", "smi", "module", "around", "words"),
    [
        (12, "", None, {}, "no NVIDIA device on the PCI bus"),
        (12, "", None, {"pci_devices": 1}, "the nvidia kernel module is not loaded"),
        (12, "", None, {"pci_devices": 1, "nouveau": True}, "nouveau"),
        (12, "", None, {"pci_devices": None}, "the PCI bus does not show itself"),
        (12, "", None, {"pci_devices": None, "os": "macos"}, "macOS"),
        (12, "", None, {"wsl": True}, "WSL"),
        (12, "", None, {"tegra": True}, "Jetson"),
        (12, "", "550.144.03", {"container": "docker"}, "(docker) was started without the NVIDIA runtime"),
        (9, "", "550.144.03", {"container": "docker"}, "--gpus all"),
        (12, "", "550.144.03", {}, "libnvidia-ml.so.1 is not installed"),
        (9, "", "550.144.03", {}, "/dev/nvidiactl is missing"),
        (999, "", "550.144.03", {"control_node": True}, "the driver 550.144.03 refuses: Stub"),
        (18, text("smi-mismatch"), "535.104.05", {}, "kernel module is 535.104.05, the driver's user library 535.161"),
        (4, "", "535.104.05", {}, "no permission"),
        (15, "", "535.104.05", {}, "fell off the bus"),
    ],
)
def test_why_none(nvml: int, smi: str, module: Optional[str], around: dict[str, object], words: str) -> None:
    seen = msgspec.structs.replace(BARE, **around)
    assert words in gpu.why_none(Answer(code=nvml, message="Stub"), Answer(message=smi), module, seen)


def test_surroundings_count_display_devices_only(tmp_path: Path) -> None:
    for slot, vendor, kind in (
        ("0000:01:00.0", "0x10de", "0x030000"),
        ("0000:01:00.1", "0x10de", "0x040300"),  # the card's audio function
        ("0000:02:00.0", "0x10de", "0x030200"),  # a 3D controller without display
        ("0000:03:00.0", "0x8086", "0x030000"),
    ):
        write(tmp_path / "sys/bus/pci/devices" / slot / "vendor", vendor + "\n")
        write(tmp_path / "sys/bus/pci/devices" / slot / "class", kind + "\n")
    write(tmp_path / "dev/nvidiactl", "")
    around = gpu.surroundings({}, tmp_path)
    assert (around.pci_devices, around.control_node, around.nouveau) == (2, True, False)
    assert gpu.surroundings({}, tmp_path / "empty").pci_devices is None


# ---------------------------------------------------------------------------------------- NVML and nvidia-smi, run

ASK = """
import sys, msgspec
from pathlib import Path
from mmdoctor.probes import gpu
gpu.NVML_SECONDS = float(sys.argv[2])
print(msgspec.json.encode(gpu.probe_gpu(root=Path(sys.argv[1]))).decode())
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("cc")
    if compiler is None or sys.platform != "linux":
        pytest.skip("needs a C compiler, and Linux, to build the stand-in for NVML")
    folder = tmp_path_factory.mktemp("nvml")
    target = str(folder / "libnvidia-ml.so.1")
    built = system.run([compiler, "-shared", "-fPIC", "-o", target, str(DATA / "nvml_stub.c")], deadline=60)
    assert built.ok, built.stderr
    return folder


def ask(library: Optional[Path], root: Path, seconds: float = 10, **environ: str) -> Gpu:
    """Probe in a fresh interpreter, for the loader reads LD_LIBRARY_PATH once."""
    env = {
        "PATH": "/nonexistent",
        "PYTHONPATH": os.pathsep.join(sys.path),
        "LD_LIBRARY_PATH": str(library or ""),
        **environ,
    }
    done = system.run([sys.executable, "-c", ASK, str(root), str(seconds)], deadline=60, env=env)
    assert done.ok, done.stderr
    return msgspec.json.decode(done.stdout, type=Gpu)


def test_nvml_answers(library: Path, tmp_path: Path) -> None:
    seen = ask(library, tmp_path)
    whole = GpuDevice(name="NVIDIA H100 80GB HBM3", compute_capability="9.0", memory_bytes=80 << 30)
    assert seen == Gpu(driver="550.144.03", source="nvml", cuda_ceiling="12.4", devices=(whole,), reason=None)


def test_nvml_counts_mig_instances_not_the_device(library: Path, tmp_path: Path) -> None:
    seen = ask(library, tmp_path, STUB_DEVICES="2", STUB_MIG="2")
    assert [device.memory_bytes >> 30 for device in seen.devices] == [10, 10, 80]
    assert {device.compute_capability for device in seen.devices} == {"9.0"}


def test_nvml_with_mig_and_no_instance(library: Path, tmp_path: Path) -> None:
    seen = ask(library, tmp_path, STUB_MIG="0")
    assert seen.devices == ()
    assert "MIG" in (seen.reason or "")


def test_nvml_without_memory_of_its_own(library: Path, tmp_path: Path) -> None:
    assert ask(library, tmp_path, STUB_UNIFIED="1").devices[0].memory_bytes == 0


def test_hidden_devices_keep_the_driver(library: Path, tmp_path: Path) -> None:
    seen = ask(library, tmp_path, CUDA_VISIBLE_DEVICES="")
    assert (seen.driver, seen.devices) == ("550.144.03", ())
    assert "CUDA_VISIBLE_DEVICES=''" in (seen.reason or "")


def test_nvml_without_devices(library: Path, tmp_path: Path) -> None:
    assert ask(library, tmp_path, STUB_DEVICES="0").reason == "the driver 550.144.03 runs, but hands out no device"


def test_version_mismatch_is_unknown_not_a_driver(library: Path, tmp_path: Path) -> None:
    write(tmp_path / "sys/module/nvidia/version", "535.104.05\n")
    write(tmp_path / "bin/nvidia-smi", f"#!/bin/sh\n/bin/cat '{DATA}/smi-mismatch.txt'\nexit 18\n")
    (tmp_path / "bin/nvidia-smi").chmod(0o755)
    seen = ask(library, tmp_path, STUB_INIT="18", PATH=str(tmp_path / "bin"))
    assert isinstance(seen.driver, Unknown)
    assert seen.reason == seen.driver.unknown
    assert "535.104.05" in seen.reason
    assert "535.161" in seen.reason


def test_a_wedged_driver_ends_at_the_deadline(library: Path, tmp_path: Path) -> None:
    seen = ask(library, tmp_path, seconds=0.2, STUB_HANG="1")
    assert isinstance(seen.driver, Unknown)
    assert "did not answer" in seen.driver.unknown


def test_smi_answers_where_the_loader_does_not_know_nvml(tmp_path: Path) -> None:
    smi = f"#!/bin/sh\ncd '{DATA}'\ncase $1 in --query*) /bin/cat smi-two.txt;; *) /bin/cat smi-banner.txt;; esac\n"
    write(tmp_path / "bin/nvidia-smi", smi)
    (tmp_path / "bin/nvidia-smi").chmod(0o755)
    (tmp_path / "empty").mkdir()
    seen = ask(tmp_path / "empty", tmp_path, PATH=str(tmp_path / "bin"))
    if seen.source == "nvml":
        pytest.skip("this machine has NVML of its own")
    assert (seen.driver, seen.source, seen.cuda_ceiling) == ("535.104.05", "nvidia-smi", "12.2")
    assert len(seen.devices) == 2
    assert seen.reason is None


def test_this_machine_answers_or_says_why_not() -> None:
    seen = gpu.probe_gpu()
    assert bool(seen.devices) != bool(seen.reason)
