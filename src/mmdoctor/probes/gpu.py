"""The NVIDIA driver and its devices, or why there is none.

Asked in this order: NVML in this process, then for the driver `/sys/module/nvidia/version` and
`/proc/driver/nvidia/version`, and `nvidia-smi` for what the files do not say. UUIDs and serials are never read.
"""

from __future__ import annotations

import os
import re
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Optional

from mmdoctor import system
from mmdoctor.model import Gpu, GpuDevice, Text, Unknown, Value
from mmdoctor.probes.host import container, is_wsl, system_name

NVML = "libnvidia-ml.so.1"
NVML_SECONDS = 10.0
SMI_SECONDS = 15.0
SMI_QUERY = ("--query-gpu=name,compute_cap,memory.total,driver_version", "--format=csv,noheader,nounits")
WSL_LIBRARIES = "/usr/lib/wsl/lib"
NVIDIA_VENDOR = "0x10de"
DISPLAY_CLASS = "0x03"
MIB = 1024 * 1024

# NVML's return codes (nvml.h), the ones that say something about the installation.
NO_PERMISSION = 4
LIBRARY_NOT_FOUND = 12
GPU_LOST = 15
VERSION_MISMATCH = 18
NO_ANSWER = -1  # ours: the call did not come back
# A driver is there and cannot be used as it stands: which version will serve after the repair is not known.
UNUSABLE = (NO_PERMISSION, VERSION_MISMATCH, NO_ANSWER)


class Answer(Value, frozen=True, kw_only=True):
    """What NVML or nvidia-smi said. `code` is NVML's return code when it refused, with its `message`."""

    driver: Optional[str] = None
    cuda_ceiling: Optional[str] = None
    devices: tuple[GpuDevice, ...] = ()
    empty_mig: bool = False
    code: Optional[int] = None
    message: str = ""


class Surroundings(Value, frozen=True, kw_only=True):
    """What the machine shows without the driver's help; it explains why there is no device."""

    os: str
    pci_devices: Optional[int]
    nouveau: bool
    control_node: bool
    container: Optional[str]
    wsl: bool
    tegra: bool


def probe_gpu(environ: Optional[Mapping[str, str]] = None, root: Path = Path("/")) -> Gpu:
    """Look for NVIDIA devices, as a CUDA program started now would see them (CUDA_VISIBLE_DEVICES counts).

    `driver` is Unknown when a driver is there that refuses: no permission, parts of two versions, no answer.
    """
    environ = os.environ if environ is None else environ
    nvml = _ask_nvml()
    module, source = kernel_driver(root)
    smi = Answer()
    if nvml.code is None:
        source = "nvml"
    else:
        smi = _ask_smi(environ)
        source = source or ("nvidia-smi" if smi.driver else None)
    found = nvml.devices or smi.devices
    driver: Text = nvml.driver or module or smi.driver
    reason = None
    if not found:
        reason = why_none(nvml, smi, module, surroundings(environ, root))
        if nvml.code in UNUSABLE:
            driver = Unknown(unknown=reason)
    devices, hidden = visible(found, environ)
    return Gpu(
        driver=driver,
        source=source,
        cuda_ceiling=nvml.cuda_ceiling or smi.cuda_ceiling,
        devices=devices,
        reason=reason or hidden,
    )


# --------------------------------------------------------------------------------------------------------- NVML


def _ask_nvml() -> Answer:
    # A wedged driver never answers; the thread is left behind, for nothing ends a call into the kernel.
    answers: list[Answer] = []
    thread = threading.Thread(target=lambda: answers.append(_nvml()), name="nvml", daemon=True)
    thread.start()
    thread.join(NVML_SECONDS)
    if answers:
        return answers[0]
    return Answer(code=NO_ANSWER, message=f"the driver did not answer NVML within {NVML_SECONDS:.0f} s")


def _nvml() -> Answer:
    if sys.platform == "linux":  # pynvml takes as long to load as all the rest of a machine without a GPU to look at
        import ctypes

        try:
            ctypes.CDLL(NVML)
        except OSError as error:
            return Answer(code=LIBRARY_NOT_FOUND, message=str(error))
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        return Answer(code=error.value, message=str(error))
    try:
        ceiling = _supported(0, pynvml.nvmlSystemGetCudaDriverVersion_v2)
        devices: list[GpuDevice] = []
        empty_mig = False
        for index in range(pynvml.nvmlDeviceGetCount()):
            handle = pynvml.nvmlDeviceGetHandleByIndex(index)
            parts = _mig_parts(handle)
            empty_mig = empty_mig or parts == []
            devices += [_device(handle, part) for part in ([handle] if parts is None else parts)]
        return Answer(
            driver=_text(pynvml.nvmlSystemGetDriverVersion()),
            cuda_ceiling=f"{ceiling // 1000}.{ceiling % 1000 // 10}" if ceiling else None,
            devices=tuple(devices),
            empty_mig=empty_mig,
        )
    except pynvml.NVMLError as error:
        return Answer(code=error.value, message=str(error))
    finally:
        pynvml.nvmlShutdown()


def _device(handle: Any, part: Any) -> GpuDevice:
    import pynvml

    memory = _supported(None, pynvml.nvmlDeviceGetMemoryInfo, part)  # a device on the host's memory has no figure
    major, minor = pynvml.nvmlDeviceGetCudaComputeCapability(handle)
    return GpuDevice(
        name=_text(pynvml.nvmlDeviceGetName(part)),
        compute_capability=f"{major}.{minor}",
        memory_bytes=memory.total if memory else 0,
    )


def _mig_parts(handle: Any) -> Optional[list[Any]]:
    # None: not partitioned. With MIG on, CUDA sees the instances and never the whole GPU.
    import pynvml

    current, _ = _supported((0, 0), pynvml.nvmlDeviceGetMigMode, handle)
    if current != pynvml.NVML_DEVICE_MIG_ENABLE:
        return None
    most = _supported(0, pynvml.nvmlDeviceGetMaxMigDeviceCount, handle)
    parts = (_supported(None, pynvml.nvmlDeviceGetMigDeviceHandleByIndex, handle, i) for i in range(most))
    return [part for part in parts if part is not None]


def _supported(otherwise: Any, call: Callable[..., Any], *arguments: Any) -> Any:
    # Older drivers and smaller devices lack single NVML calls; the rest of the answer stands.
    import pynvml

    try:
        return call(*arguments)
    except (
        pynvml.NVMLError_NotSupported,
        pynvml.NVMLError_FunctionNotFound,
        pynvml.NVMLError_NotFound,
        pynvml.NVMLError_InvalidArgument,
    ):
        return otherwise


def _text(raw: Any) -> str:
    return raw.decode("utf-8", "replace") if isinstance(raw, bytes) else str(raw)  # bytes before nvidia-ml-py 11.515


# ------------------------------------------------------------------------------------------ files and nvidia-smi


def kernel_driver(root: Path = Path("/")) -> tuple[Optional[str], Optional[str]]:
    """The loaded kernel module's version and the file that said it; (None, None) when no module is loaded."""
    raw = (system.read(root / "sys/module/nvidia/version") or "").strip()
    if raw:
        return raw, "/sys/module/nvidia/version"
    told = parse_proc_version(system.read(root / "proc/driver/nvidia/version") or "")
    return told, "/proc/driver/nvidia/version" if told else None


def parse_proc_version(text: str) -> Optional[str]:
    """The driver's raw version in `/proc/driver/nvidia/version`, closed or open kernel module; None without one."""
    found = re.search(r"^NVRM version:.*?\s(\d{3,}\.\d+(?:\.\d+)?)(?:\s|$)", text, re.MULTILINE)
    return found[1] if found else None


def parse_nvidia_smi(text: str) -> Answer:
    """The answer to `nvidia-smi` with SMI_QUERY: name, compute capability, MiB and driver, a line per device.

    A line that is not a device is the refusal, kept as the message. `[N/A]` memory is 0: the device has none of its
    own. A device whose compute capability the driver cannot name is left out, with a message.
    """
    devices = []
    driver = None
    message = ""
    for line in filter(None, map(str.strip, text.splitlines())):
        fields = [field.strip() for field in line.rsplit(",", 3)]
        if len(fields) != 4 or not re.fullmatch(r"\d+\.\d+(\.\d+)?", fields[3]):
            message = message or line
            continue
        name, capability, memory, driver = fields
        if not re.fullmatch(r"\d+\.\d+", capability):
            message = message or f"nvidia-smi names no compute capability for {name}"
            continue
        size = int(memory) * MIB if memory.isdigit() else 0
        devices.append(GpuDevice(name=name, compute_capability=capability, memory_bytes=size))
    return Answer(driver=driver, devices=tuple(devices), message=message)


def parse_smi_banner(text: str) -> tuple[Optional[str], Optional[str]]:
    """(driver, CUDA ceiling) from the header of a bare `nvidia-smi`; None for what is not there."""
    driver = re.search(r"Driver Version:\s*(\d+\.\d+(?:\.\d+)?)", text)
    ceiling = re.search(r"CUDA Version:\s*(\d+\.\d+)", text)
    return driver[1] if driver else None, ceiling[1] if ceiling else None


def parse_library_version(text: str) -> Optional[str]:
    """The user library's version, which nvidia-smi prints when it differs from the kernel module's."""
    found = re.search(r"NVML library version:\s*([\d.]+)", text)
    return found[1] if found else None


def _ask_smi(environ: Mapping[str, str]) -> Answer:
    program = system.which("nvidia-smi", os.pathsep.join((environ.get("PATH", ""), WSL_LIBRARIES)))
    if program is None:
        return Answer()
    asked = system.run([program, *SMI_QUERY], deadline=SMI_SECONDS, merge=True)
    if asked.timed_out:
        return Answer(code=NO_ANSWER, message=f"nvidia-smi did not answer within {SMI_SECONDS:.0f} s")
    answer = parse_nvidia_smi(asked.stdout)
    if answer.driver is None:
        return Answer(message=asked.stdout.strip())
    banner = system.run([program], deadline=SMI_SECONDS)
    _, ceiling = parse_smi_banner(banner.stdout)
    return Answer(driver=answer.driver, cuda_ceiling=ceiling, devices=answer.devices, message=answer.message)


# ------------------------------------------------------------------------------------------------------ verdicts


def visible(devices: tuple[GpuDevice, ...], environ: Mapping[str, str]) -> tuple[tuple[GpuDevice, ...], Optional[str]]:
    """The devices that CUDA_VISIBLE_DEVICES leaves, and why none is left.

    CUDA reads the list up to the first entry that names no device. Its numbers follow CUDA's own order, which is
    NVML's only under CUDA_DEVICE_ORDER=PCI_BUS_ID; where numbers or names leave open which device is meant, all stay:
    a stack that serves every device serves the chosen one.
    """
    wanted = environ.get("CUDA_VISIBLE_DEVICES")
    if wanted is None or not devices:
        return devices, None
    entries = [entry.strip() for entry in wanted.split(",")]
    if entries[0] in ("", "-1", "NoDevFiles"):
        return (), f"CUDA_VISIBLE_DEVICES={wanted!r} hides the {len(devices)} device(s) of this machine"
    ordered = environ.get("CUDA_DEVICE_ORDER") == "PCI_BUS_ID" or len(set(devices)) == 1
    if not ordered or not entries[0].isdigit():
        return devices, None
    chosen: list[GpuDevice] = []
    for entry in entries:
        if not entry.isdigit() or int(entry) >= len(devices):
            break
        chosen.append(devices[int(entry)])
    reason = None if chosen else f"CUDA_VISIBLE_DEVICES={wanted!r} names no device: there are {len(devices)}, from 0"
    return tuple(chosen), reason


def surroundings(environ: Mapping[str, str], root: Path = Path("/")) -> Surroundings:
    """Look at the PCI bus, the modules, the device files and the container."""
    return Surroundings(
        os=system_name(),
        pci_devices=_pci_devices(root / "sys/bus/pci/devices"),
        nouveau=(root / "sys/module/nouveau").exists(),
        control_node=(root / "dev/nvidiactl").exists(),
        container=container(root, environ),
        wsl=is_wsl(root),
        tegra=(root / "etc/nv_tegra_release").exists(),
    )


def _pci_devices(bus: Path) -> Optional[int]:
    if not bus.is_dir():
        return None
    kinds = (
        ((system.read(device / "vendor") or "").strip(), (system.read(device / "class") or "").strip())
        for device in bus.iterdir()
    )
    return sum(vendor == NVIDIA_VENDOR and kind.startswith(DISPLAY_CLASS) for vendor, kind in kinds)


def why_none(nvml: Answer, smi: Answer, module: Optional[str], around: Surroundings) -> str:
    """One sentence: why no device was found. `module` is the loaded kernel module's version."""
    if nvml.code == VERSION_MISMATCH:
        library = parse_library_version(smi.message)
        return (
            f"driver/library version mismatch: the loaded kernel module is {module or 'another version'}, "
            f"the driver's user library {library or 'differs'}; a reboot loads the matching module"
        )
    if nvml.code == NO_PERMISSION:
        return "no permission to use the NVIDIA driver: this user may not open /dev/nvidiactl"
    if nvml.code == GPU_LOST:
        return "the GPU fell off the bus (NVML: GPU is lost); the machine wants a restart"
    if nvml.code == NO_ANSWER:
        return nvml.message
    if nvml.empty_mig:
        return "MIG is enabled, but there is no MIG instance that a program could use"
    if nvml.code is None:
        return f"the driver {nvml.driver} runs, but hands out no device"
    if module is None:
        return _why_no_driver(around)
    if around.container and (nvml.code == LIBRARY_NOT_FOUND or not around.control_node):
        return (
            f"the host runs driver {module}, but this container ({around.container}) was started without the NVIDIA "
            "runtime (docker: --gpus all)"
        )
    if nvml.code == LIBRARY_NOT_FOUND:
        return f"the kernel module {module} is loaded, but the driver's user library libnvidia-ml.so.1 is not installed"
    if not around.control_node:
        return f"the kernel module {module} is loaded, but the device file /dev/nvidiactl is missing"
    return f"the driver {module} refuses: {nvml.message or smi.message}"


def _why_no_driver(around: Surroundings) -> str:
    if around.os == "macos":
        return "macOS has no NVIDIA driver"
    if around.wsl:
        return "WSL without a GPU: Windows' NVIDIA driver brings it; a Linux driver must not be installed inside WSL"
    if around.tegra:
        return "an NVIDIA Jetson, whose GPU is not on the PCI bus and does not answer NVML"
    if around.pci_devices is None:
        return "no NVIDIA driver is loaded, and the PCI bus does not show itself"
    if around.pci_devices == 0:
        return "no NVIDIA device on the PCI bus"
    if around.nouveau:
        return "an NVIDIA device is on the PCI bus, but the nouveau driver holds it; NVIDIA's own is not loaded"
    return "an NVIDIA device is on the PCI bus, but the nvidia kernel module is not loaded"
