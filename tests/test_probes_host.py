"""The host probe: limits of control groups, container, system name and libGL, on small file trees."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Optional

import pytest

from mmdoctor.model import LoaderFolder, Unknown
from mmdoctor.probes import host
from mmdoctor.probes.host import Limits

GIB = 1 << 30
linux = pytest.mark.skipif(sys.platform != "linux", reason="asks Linux's dynamic linker")


def tree(root: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content, encoding="utf-8")
    return root


@pytest.mark.parametrize(
    ("files", "limits"),
    [
        pytest.param({}, Limits(), id="no control groups"),
        pytest.param(
            {
                "proc/self/cgroup": "0::/\n",
                "sys/fs/cgroup/memory.max": f"{4 * GIB}\n",
                "sys/fs/cgroup/memory.current": f"{3 * GIB}\n",
                "sys/fs/cgroup/memory.stat": f"anon 7\ninactive_file {GIB}\nactive_file 9\n",
                "sys/fs/cgroup/cpu.max": "150000 100000\n",
            },
            Limits(memory_bytes=4 * GIB, memory_free_bytes=2 * GIB, cpus=2),
            id="v2: page cache counts as free, a part of a core rounds up",
        ),
        pytest.param(
            {
                "proc/self/cgroup": "0::/a.slice/b.service\n",
                "sys/fs/cgroup/a.slice/b.service/memory.max": "max\n",
                "sys/fs/cgroup/a.slice/b.service/cpu.max": "max 100000\n",
                "sys/fs/cgroup/a.slice/memory.max": f"{2 * GIB}\n",
                "sys/fs/cgroup/a.slice/cpu.max": "50000 100000\n",
            },
            Limits(memory_bytes=2 * GIB, memory_free_bytes=None, cpus=1),
            id="v2: a parent's limit holds, less than a core is one",
        ),
        pytest.param(
            {
                "proc/self/cgroup": "9:name=systemd:/\n4:memory:/docker/abc\n1:cpu,cpuacct:/docker/abc\n",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": f"{8 * GIB}\n",
                "sys/fs/cgroup/memory/memory.usage_in_bytes": f"{9 * GIB}\n",
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "400000\n",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            },
            Limits(memory_bytes=8 * GIB, memory_free_bytes=0, cpus=4),
            id="v1 in a container that names the host's path",
        ),
        pytest.param(
            {
                "proc/self/cgroup": "4:memory:/\n1:cpu:/\n",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            },
            Limits(),
            id="v1 without limits",
        ),
    ],
)
def test_cgroup_limits(files: dict[str, str], limits: Limits, tmp_path: Path) -> None:
    assert host.cgroup_limits(tree(tmp_path, files)) == limits


@pytest.mark.parametrize(
    ("files", "environ", "kind"),
    [
        ({}, {}, None),
        ({".dockerenv": ""}, {}, "docker"),
        ({"run/.containerenv": ""}, {}, "podman"),
        ({"run/systemd/container": "systemd-nspawn\n"}, {}, "systemd-nspawn"),
        ({".singularity.d/runscript": ""}, {}, "singularity"),
        ({".dockerenv": ""}, {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, "kubernetes"),
        ({"proc/1/cgroup": "0::/kubepods.slice/kubepods-pod1.slice/cri-containerd-1.scope\n"}, {}, "kubernetes"),
        ({"proc/1/cgroup": "4:memory:/docker/0123\n"}, {}, "docker"),
        ({"proc/1/cgroup": "4:memory:/lxc/web\n"}, {}, "lxc"),
        ({"proc/1/cgroup": "0::/init.scope\n"}, {}, None),
    ],
)
def test_container(files: dict[str, str], environ: dict[str, str], kind: Optional[str], tmp_path: Path) -> None:
    assert host.container(tree(tmp_path, files), environ) == kind


@pytest.mark.parametrize(
    ("version", "wsl"),
    [
        ("Linux version 5.15.153.1-microsoft-standard-WSL2 (root@941d701f84f1) (gcc 11.2.0)\n", True),
        ("Linux version 4.4.0-19041-Microsoft (Microsoft@Microsoft.com) (gcc version 5.4.0)\n", True),
        ("Linux version 6.8.0-45-generic (buildd@lcy02-amd64-115) (gcc 13.2.0)\n", False),
    ],
)
def test_wsl(version: str, wsl: bool, tmp_path: Path) -> None:
    assert host.is_wsl(tree(tmp_path, {"proc/version": version})) is wsl


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ('NAME="Ubuntu"\nPRETTY_NAME="Ubuntu 22.04.4 LTS"\n', "Ubuntu 22.04.4 LTS"),
        ("# made by hand\nNAME=Alpine\\ Linux\n", "Alpine Linux"),
        ('PRETTY_NAME="Open\n', '"Open'),
        ("", None),
    ],
)
def test_os_release(text: str, name: Optional[str]) -> None:
    assert host.parse_os_release(text) == name


def test_os_name_falls_back_to_the_second_place(tmp_path: Path) -> None:
    assert host.os_name(tree(tmp_path, {"usr/lib/os-release": "PRETTY_NAME=Void\n"})) == "Void"
    assert host.os_name(tmp_path / "nothing")


@pytest.mark.parametrize(
    ("raw", "name"), [("AMD64", "x86_64"), ("x86_64", "x86_64"), ("arm64", "aarch64"), ("ppc64le", "ppc64le")]
)
def test_machine_name(raw: str, name: str) -> None:
    assert host.machine_name(raw) == name


def test_each_disk_that_is_written_to_says_its_room(tmp_path: Path) -> None:
    seen = host.probe_host(tmp_path / "env", {}, caches={"uv's cache": tmp_path / "not" / "there" / "yet"})
    assert [disk.what for disk in seen.disks] == ["the environment", "uv's cache"]
    assert all(isinstance(disk.free_bytes, int) and disk.free_bytes > 0 for disk in seen.disks)
    assert abs(time.time() - (seen.now or 0)) < 60


@linux
def test_where_the_loader_is_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = tree(
        tmp_path / "cuda", {"libcudart.so.12": "", "libnvJitLink.so.12.0.76": "", "libcuda.so": "", "notes": ""}
    )
    here = tree(tmp_path / "here", {"libstdc++.so.6": ""})
    none = tree(tmp_path / "none", {"libjpeg.so.8": ""})
    monkeypatch.chdir(here)
    environ = {"LD_LIBRARY_PATH": f"{cuda}:{none}:/nonexistent::{cuda}", "LD_PRELOAD": "/opt/libjemalloc.so.2"}
    assert host.loader_folders(environ) == (
        folder("LD_LIBRARY_PATH", str(cuda), "libcudart.so.12", "libnvJitLink.so.12.0.76"),
        folder("LD_LIBRARY_PATH", ".", "libstdc++.so.6"),
        folder("LD_PRELOAD", "/opt", "libjemalloc.so.2"),
    )
    assert host.loader_folders({}) == host.loader_folders({"LD_LIBRARY_PATH": ""}) == ()


def folder(variable: str, place: str, *libraries: str) -> LoaderFolder:
    return LoaderFolder(variable=variable, folder=place, libraries=libraries)


LDCONFIG = """\
3 libs found in cache `/etc/ld.so.cache'
\tlibGLU.so.1 (libc6,x86-64) => /lib/x86_64-linux-gnu/libGLU.so.1
\tlibGL.so.1 (libc6,x86-64) => /lib/x86_64-linux-gnu/libGL.so.1
\tlibGL.so.1 (libc6) => /lib/i386-linux-gnu/libGL.so.1
Cache generated by: ldconfig (Debian GLIBC 2.36-9+deb12u10) stable release version 2.36
"""


def test_ldconfig_lists_by_name_and_architecture() -> None:
    assert host.parse_ldconfig(LDCONFIG, "libGL.so.1", "x86_64") == ("/lib/x86_64-linux-gnu/libGL.so.1",)
    assert host.parse_ldconfig(LDCONFIG, "libGL.so.1", "aarch64") == ()
    assert host.parse_ldconfig(LDCONFIG, "libGLU.so.1", "x86_64")
    assert host.parse_ldconfig(LDCONFIG, "libGLX.so.0", "x86_64") == ()


def ldconfig(folder: Path, body: str) -> dict[str, str]:
    tree(folder, {"ldconfig": f"#!/bin/sh\n{body}\n"})
    (folder / "ldconfig").chmod(0o755)
    return {"PATH": str(folder)}


@linux
def test_libgl_from_path_default_folder_and_cache(tmp_path: Path) -> None:
    none = ldconfig(tmp_path / "bin", "exit 0")
    root = tree(tmp_path / "root", {"etc/empty": ""})
    assert host.libgl("x86_64", none, root) is False
    mine = tree(tmp_path / "mine", {"libGL.so.1": ""})
    assert host.libgl("x86_64", {**none, "LD_LIBRARY_PATH": f"/nonexistent:{mine}"}, root) is True
    line = rf'printf "\tlibGL.so.1 (libc6,x86-64) => {mine}/libGL.so.1\n"'
    assert host.libgl("x86_64", ldconfig(tmp_path / "bin2", line), root) is True
    gone = r'printf "\tlibGL.so.1 (libc6,x86-64) => /nonexistent/libGL.so.1\n"'
    assert host.libgl("x86_64", ldconfig(tmp_path / "bin3", gone), root) is False
    tree(root, {"usr/lib/x86_64-linux-gnu/libGL.so.1": ""})
    assert host.libgl("x86_64", none, root) is True


@linux
def test_libgl_that_could_not_be_asked_is_unknown(tmp_path: Path) -> None:
    seen = host.libgl("x86_64", ldconfig(tmp_path, "echo no cache >&2; exit 1"), tmp_path / "root")
    assert seen == Unknown(unknown="`ldconfig -p` failed: no cache")


def test_disk_of_a_folder_that_is_not_there_yet(tmp_path: Path) -> None:
    free = host.disk_free(tmp_path / "not" / "yet")
    assert isinstance(free, int)
    assert free > 0


def test_this_machine(tmp_path: Path) -> None:
    seen = host.probe_host(tmp_path / "env")
    assert seen.cpu_count >= 1
    assert 0 < seen.memory_available_bytes <= seen.memory_total_bytes
    assert seen.machine == host.machine_name(seen.machine)
    assert seen.os_name
