"""What machine this is: memory and cores under the cgroup's limits, disk, C library, container, libGL."""

from __future__ import annotations

import hashlib
import math
import os
import platform
import re
import shlex
import shutil
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Literal, Optional, Union

from mmdoctor import system
from mmdoctor.model import Disk, Host, LoaderFolder, Text, Unknown, Value, YesNo

LDCONFIG_SECONDS = 10.0
LIBGL = "libGL.so.1"
MEMINFO = "proc/meminfo"
# Where the dynamic linker looks without being told (ld.so(8)), plus Debian's multiarch folders.
LINKER_FOLDERS = ("lib64", "usr/lib64", "lib", "usr/lib")
MULTIARCH = {"x86_64": "x86_64-linux-gnu", "aarch64": "aarch64-linux-gnu"}
LDCONFIG_ARCH = {"x86_64": "x86-64", "aarch64": "AArch64"}
# cgroup v1 writes "no limit" as the largest page-aligned 64-bit number.
NO_LIMIT = 1 << 60


class Limits(Value, frozen=True, kw_only=True):
    """What the control group leaves to this process; None where it sets no limit."""

    memory_bytes: Optional[int] = None
    memory_free_bytes: Optional[int] = None
    cpus: Optional[int] = None


def probe_host(
    where: Path,
    environ: Optional[Mapping[str, str]] = None,
    root: Path = Path("/"),
    caches: Optional[Mapping[str, Path]] = None,
) -> Host:
    """Look at this machine; `where` is the folder whose disk will hold the environment (it need not exist yet),
    `caches` are the other places that are written to, by what they are for.

    Sizes are bytes; memory and cores are those of the control group where it gives less than the machine.
    """
    environ = os.environ if environ is None else environ
    all_of_it, available = memory(root)
    limits = cgroup_limits(root)
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    total = _least(all_of_it, limits.memory_bytes)
    machine = machine_name(platform.machine())
    return Host(
        os=system_name(),
        os_name=os_name(root),
        machine=machine,
        glibc=_glibc(),
        cpu_count=_least(cores, limits.cpus),
        memory_total_bytes=total,
        memory_available_bytes=min(total, _least(available, limits.memory_free_bytes)),
        disk_free_bytes=disk_free(where),
        disks=tuple(
            Disk(what=what, path=str(path), free_bytes=disk_free(path))
            for what, path in {"the environment": where, **(caches or {})}.items()
        ),
        now=time.time(),
        container=container(root, environ),
        wsl=is_wsl(root),
        libgl=libgl(machine, environ, root),
        identity=identity(root),
    )


def memory(root: Path = Path("/")) -> tuple[int, int]:
    """The machine's memory and what of it is available, in bytes; on Linux as the kernel states it (proc(5))."""
    stated = dict(re.findall(r"^(MemTotal|MemAvailable):\s+(\d+) kB$", system.read(root / MEMINFO) or "", re.MULTILINE))
    if len(stated) == 2:
        return int(stated["MemTotal"]) * 1024, int(stated["MemAvailable"]) * 1024
    import psutil

    seen = psutil.virtual_memory()
    return seen.total, seen.available


def identity(root: Path = Path("/")) -> str:
    """A digest of what tells this machine from others: its machine-id(5), else its name. Neither is shown."""
    told = (system.read(root / "etc/machine-id") or "").strip() or platform.node()
    return hashlib.sha256(f"mmdoctor {told}".encode()).hexdigest()[:12]


def _least(value: int, limit: Optional[int]) -> int:
    return value if limit is None else min(value, limit)


def system_name() -> Literal["linux", "windows", "macos"]:
    """The operating system in our words; every Unix that is not macOS counts as Linux."""
    if sys.platform == "win32":
        return "windows"
    return "macos" if sys.platform == "darwin" else "linux"


def machine_name(raw: str) -> str:
    """`x86_64` or `aarch64` for what the systems call amd64, AMD64, arm64 …; anything else as it is."""
    name = raw.lower()
    return {"amd64": "x86_64", "x64": "x86_64", "arm64": "aarch64"}.get(name, name)


def os_name(root: Path = Path("/")) -> str:
    """The distribution's full name from os-release(5), or what Python knows of other systems."""
    for place in ("etc/os-release", "usr/lib/os-release"):
        name = parse_os_release(system.read(root / place) or "")
        if name:
            return name
    return platform.platform(terse=True)


def parse_os_release(text: str) -> Optional[str]:
    """PRETTY_NAME of an os-release file (shell quoting), or NAME, or None."""
    values = {}
    for line in text.splitlines():
        key, equals, value = line.strip().partition("=")
        if equals and not key.startswith("#"):
            try:
                values[key] = " ".join(shlex.split(value))
            except ValueError:  # an unclosed quote: take it as it stands
                values[key] = value
    return values.get("PRETTY_NAME") or values.get("NAME")


def _glibc() -> Text:
    if sys.platform != "linux":
        return None
    try:
        known = os.confstr("CS_GNU_LIBC_VERSION") or ""
    except (OSError, ValueError):  # musl knows no such name
        return None
    name, _, version = known.partition(" ")
    return version if name == "glibc" and version else None


def nearest(place: Path) -> Path:
    """The path itself, or its nearest parent that exists and may be looked at."""
    # Path.exists() raises where a folder on the way may not be searched.
    while not os.path.exists(place) and place != place.parent:  # noqa: PTH110
        place = place.parent
    return place


def disk_free(where: Path) -> Union[int, Unknown]:
    """Bytes that this user may still write below `where`, or below its nearest parent that exists."""
    place = nearest(where.absolute())
    try:
        return shutil.disk_usage(place).free
    except OSError as error:
        return Unknown(unknown=f"the disk of {place} does not say: {error.strerror or error}")


def container(root: Path = Path("/"), environ: Optional[Mapping[str, str]] = None) -> Optional[str]:
    """The kind of container this process is in (`docker`, `podman`, `kubernetes`, `lxc` …), or None."""
    if "KUBERNETES_SERVICE_HOST" in (environ or {}):
        return "kubernetes"
    if (root / "run/.containerenv").exists():
        return "podman"
    if (root / ".singularity.d").exists():
        return "singularity"
    declared = (system.read(root / "run/systemd/container") or "").strip()
    if declared:
        return declared
    if (root / ".dockerenv").exists():
        return "docker"
    groups = system.read(root / "proc/1/cgroup") or ""
    words = (("kubepods", "kubernetes"), ("docker", "docker"), ("libpod", "podman"), ("lxc", "lxc"))
    return next((name for word, name in words if re.search(rf"[/:-]{word}", groups)), None)


def is_wsl(root: Path = Path("/")) -> bool:
    """Whether the kernel is the one of the Windows Subsystem for Linux, which names Microsoft in its version."""
    return "microsoft" in (system.read(root / "proc/version") or "").lower()


# ------------------------------------------------------------------------------------------------------- cgroup


def cgroup_limits(root: Path = Path("/")) -> Limits:
    """The tightest memory and CPU limits on the way from this process's control group up to the root, v1 or v2."""
    groups = parse_cgroup(system.read(root / "proc/self/cgroup") or "")
    base = root / "sys/fs/cgroup"
    limits: list[int] = []
    free: list[int] = []
    cpus: list[int] = []
    for place in _upwards(base, groups.get("", "/")):
        _memory(place, ("memory.max", "memory.current", "inactive_file"), limits, free)
        quota, _, period = (system.read(place / "cpu.max") or "").partition(" ")
        _cpus(quota, period, cpus)
    for place in _upwards(base / "memory", groups.get("memory", "/")):
        _memory(place, ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"), limits, free)
    for place in _upwards(base / "cpu", groups.get("cpu", "/")):
        _cpus(system.read(place / "cpu.cfs_quota_us"), system.read(place / "cpu.cfs_period_us"), cpus)
    return Limits(
        memory_bytes=min(limits, default=None),
        memory_free_bytes=min(free, default=None),
        cpus=min(cpus, default=None),
    )


def parse_cgroup(text: str) -> dict[str, str]:
    """`/proc/PID/cgroup`: the path by controller; v2's has the empty name."""
    paths = {}
    for line in text.splitlines():
        parts = line.split(":", 2)
        if len(parts) == 3:
            for controller in parts[1].split(","):
                paths[controller] = parts[2]
    return paths


def _upwards(base: Path, group: str) -> Iterator[Path]:
    # Without a cgroup namespace a container sees the host's path but only its own tree: the root is always looked at.
    inner = PurePosixPath(group.lstrip("/"))
    for part in (inner, *inner.parents):
        yield base / part


def _memory(place: Path, names: tuple[str, str, str], limits: list[int], free: list[int]) -> None:
    limit, used, cache = names
    most = _number(system.read(place / limit))
    if most is None or most >= NO_LIMIT:
        return
    limits.append(most)
    current = _number(system.read(place / used))
    if current is not None:
        found = re.search(rf"^{cache} (\d+)$", system.read(place / "memory.stat") or "", re.MULTILINE)
        # The kernel gives inactive page cache back before it kills anything.
        free.append(max(0, most - current + (int(found[1]) if found else 0)))


def _cpus(quota: Optional[str], period: Optional[str], cpus: list[int]) -> None:
    spent, of = _number(quota), _number(period)  # "max" and -1, which say "no limit", are no numbers here
    if spent is not None and of:
        cpus.append(max(1, math.ceil(spent / of)))


def _number(text: Optional[str]) -> Optional[int]:
    text = (text or "").strip()
    return int(text) if text.isdigit() else None


# ------------------------------------------------------------------------------------------ the dynamic linker

# What torch's and NVIDIA's wheels bring along, or link to by a name that many programs bring too.
STACK_LIBRARIES = re.compile(
    r"lib(cudart|cublas|cublasLt|cudnn\w*|cufft|curand|cusolver|cusparse|cupti|nccl|nvrtc|nvJitLink|nvToolsExt|torch\w*|"
    r"c10\w*|stdc\+\+|gcc_s|gomp)\.so(\.[\d.]+)?$"
)


def loader_folders(environ: Mapping[str, str]) -> tuple[LoaderFolder, ...]:
    """The folders of LD_LIBRARY_PATH that hold libraries of the names that the stack loads, and LD_PRELOAD's files.

    An empty entry is the working directory (ld.so(8)).
    """
    if sys.platform != "linux":
        return ()
    found = []
    for folder in dict.fromkeys(re.split("[:;]", environ.get("LD_LIBRARY_PATH") or "/nonexistent")):
        try:
            names = sorted(file.name for file in Path(folder).iterdir() if STACK_LIBRARIES.match(file.name))
        except OSError:
            continue
        if names:
            found.append(LoaderFolder(variable="LD_LIBRARY_PATH", folder=folder or ".", libraries=tuple(names)))
    for path in re.split("[: ]", environ.get("LD_PRELOAD", "")):
        if path:
            place, _, name = path.rpartition("/")
            found.append(LoaderFolder(variable="LD_PRELOAD", folder=place, libraries=(name,)))
    return tuple(found)


# -------------------------------------------------------------------------------------------------------- libGL


def libgl(machine: str, environ: Mapping[str, str], root: Path = Path("/")) -> YesNo:
    """Whether the dynamic linker finds libGL.so.1: LD_LIBRARY_PATH, its default folders, then its cache."""
    if sys.platform != "linux":
        return Unknown(unknown=f"{LIBGL} is a library of Linux")
    told = [Path(folder) for folder in environ.get("LD_LIBRARY_PATH", "").split(":") if folder]
    default = [root / folder for folder in LINKER_FOLDERS]
    if machine in MULTIARCH:
        default += [folder / MULTIARCH[machine] for folder in default]
    if any((folder / LIBGL).exists() for folder in (*told, *default)):
        return True
    ldconfig = system.which("ldconfig", os.pathsep.join((environ.get("PATH", ""), "/sbin", "/usr/sbin")))
    if ldconfig is None:
        return Unknown(unknown="ldconfig, which lists the dynamic linker's libraries, is not there")
    listing = system.run([ldconfig, "-p"], deadline=LDCONFIG_SECONDS)
    if not listing.ok:
        why = "no answer in time" if listing.timed_out else listing.stderr.strip() or f"exit {listing.returncode}"
        return Unknown(unknown=f"`ldconfig -p` failed: {why}")
    return any(Path(path).exists() for path in parse_ldconfig(listing.stdout, LIBGL, machine))


def parse_ldconfig(text: str, name: str, machine: str) -> tuple[str, ...]:
    """The paths that `ldconfig -p` lists for a library name and this machine's architecture."""
    found = re.findall(rf"^\s*{re.escape(name)} \(([^)]*)\) => (.+)$", text, re.MULTILINE)
    arch = LDCONFIG_ARCH.get(machine)
    return tuple(path.strip() for flags, path in found if arch is None or arch in flags)
