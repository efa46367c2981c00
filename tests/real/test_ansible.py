"""The Ansible collection on three hosts by ssh: one healthy, one broken, one without an environment."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import pytest

from mmdoctor.apply.clone import clone
from mmdoctor.folders import cache_folder
from tests.real.conftest import Doctor, run, uv, versions
from tests.real.containers import Machine, copied, missing, must, rootfs
from tests.real.test_slurm import base_bind

WITHOUT = missing() or ("" if shutil.which("ssh-keygen") else "not installed: apt-get install openssh-client")
# By hand: three machines that mend themselves side by side are too much for the hour that CI has.
pytestmark = [pytest.mark.evidence, pytest.mark.skipif(bool(WITHOUT), reason=WITHOUT)]

CHECKOUT = Path(__file__).parents[2]
ENV = "opt/pose/venv"
PLAYBOOK = "mmdoctor.fleet.fleet"
# What --check must leave as it is. Elsewhere are logs, and what mmdoctor and uv remember of their last look.
WATCHED = ("opt", "etc", "usr", "srv", "home", "var/cache/mmdoctor/wheels", "var/cache/mmdoctor/shipped")


class Recap(NamedTuple):
    """Ansible's count of one host's tasks."""

    changed: int
    failed: int
    unreachable: int


class Fleet:
    """Three hosts, and a controller that knows them."""

    def __init__(self, folder: Path, roots: dict[str, Path]) -> None:
        self.folder, self.roots = folder, roots
        self.reports = folder / "reports"
        self.said = ""

    def play(self, *arguments: str) -> dict[str, Recap]:
        """Run the collection's playbook; the recap by host."""
        bin_folder = self.folder / "ansible" / "bin"
        settings = {
            "PATH": f"{bin_folder}:{os.environ['PATH']}",
            "PWD": str(self.folder),
            "ANSIBLE_HOME": str(self.folder / "home"),
            "ANSIBLE_COLLECTIONS_PATH": str(self.folder / "collections"),
            "ANSIBLE_HOST_KEY_CHECKING": "False",
            "ANSIBLE_NOCOLOR": "1",
        }
        argv = [str(bin_folder / "ansible-playbook"), "-i", str(self.folder / "hosts.yml"), PLAYBOOK, *arguments]
        done = subprocess.run(
            argv,
            capture_output=True,
            text=True,
            timeout=1800,
            env={**os.environ, **settings},
            cwd=self.folder,
            check=False,
        )
        self.said = done.stdout + done.stderr
        found = re.findall(
            r"^(\w+) +: ok=\d+ +changed=(\d+) +unreachable=(\d+) +failed=(\d+)", done.stdout, re.MULTILINE
        )
        assert len(found) == len(self.roots), self.said
        return {name: Recap(int(changed), int(failed), int(lost)) for name, changed, lost, failed in found}


def state(root: Path) -> dict[str, tuple[int, ...]]:
    """Every entry of what is watched: inode, mode, owner, size and time."""
    found = {}
    for top in WATCHED:
        for folder, folders, names in os.walk(root / top):
            for path in (folder, *(f"{folder}/{name}" for name in (*folders, *names))):
                seen = os.lstat(path)
                found[path] = (seen.st_ino, seen.st_mode, seen.st_uid, seen.st_size, seen.st_mtime_ns)
    return found


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def configure(root: Path, port: int, key: Path) -> None:
    """Let the controller in, on a port of its own: the hosts share one network."""
    (root / "etc/ssh/sshd_config.d/lab.conf").write_text(f"Port {port}\nListenAddress 127.0.0.1\n")
    (root / "root/.ssh").mkdir(mode=0o700, exist_ok=True)
    shutil.copy(f"{key}.pub", root / "root/.ssh/authorized_keys")
    if Path("/etc/pip.conf").exists():
        shutil.copy("/etc/pip.conf", root / "etc/pip.conf")


def share_uv_cache(root: Path) -> None:
    """uv's cache as the host's root has it, by hard links, so that neither the network nor the disk is asked twice."""
    cache = Path(uv("cache", "dir").strip())
    (root / "root/.cache").mkdir(exist_ok=True)
    if cache.stat().st_dev == root.stat().st_dev:
        must(["cp", "-al", str(cache), str(root / "root/.cache/uv")])


def headless(env: Path) -> None:
    """As a server has it: OpenCV without a GUI, since there is no OpenGL library."""
    version = versions(env).get("opencv-python")
    if version:
        python = str(env / "bin" / "python")
        uv("pip", "uninstall", "--quiet", "--python", python, "opencv-python")
        uv("pip", "install", "--quiet", "--no-deps", "--python", python, f"opencv-python-headless=={version}")


@pytest.fixture(scope="module")
def fleet(demo: Path, scratch: Path, doctor: Doctor) -> Iterator[Fleet]:
    folder = scratch / "fleet"
    folder.mkdir()
    uv("venv", "--quiet", "--python", sys.executable, str(folder / "ansible"))
    uv("pip", "install", "--quiet", "--python", str(folder / "ansible/bin/python"), "ansible-core>=2.15")
    galaxy = str(folder / "ansible/bin/ansible-galaxy")
    run(galaxy, "collection", "build", str(CHECKOUT / "deploy/ansible"), "--output-path", str(folder))
    [archive] = folder.glob("mmdoctor-fleet-*.tar.gz")
    run(galaxy, "collection", "install", "--offline", str(archive), "--collections-path", str(folder / "collections"))
    uv("build", "--quiet", "--wheel", "--out-dir", str(folder), str(CHECKOUT))
    [wheel] = folder.glob("mmdoctor-*.whl")
    doctor.json("wheels", "export", str(folder / "wheels"))
    key = folder / "key"
    must(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)])

    base = rootfs("bookworm", "munge", "openssh-server", "slurm-wlm")  # as test_slurm, so that it is made once
    hosts = {}
    with ExitStack() as stack:
        roots = {name: copied(base, folder / name) for name in ("web1", "web2", "web3")}
        for name, root in roots.items():
            port = free_port()
            configure(root, port, key)
            hosts[name] = {"ansible_port": port}
        for name in ("web1", "web2"):
            (roots[name] / ENV).parent.mkdir(parents=True)
            clone(demo, roots[name] / ENV)
            headless(roots[name] / ENV)
        uv(
            "pip",
            "install",
            "--quiet",
            "--no-deps",
            "--python",
            str(roots["web2"] / ENV / "bin/python"),
            "numpy==2.2.6",
        )
        share_uv_cache(roots["web3"])
        for root in roots.values():
            machine = Machine(root, network=True, binds=base_bind(demo))
            stack.callback(machine.stop)
            machine.start()
        common = {
            "ansible_host": "127.0.0.1",
            "ansible_user": "root",
            "ansible_ssh_private_key_file": str(key),
            "ansible_ssh_common_args": "-o UserKnownHostsFile=/dev/null",
            "ansible_python_interpreter": "/usr/bin/python3",
            "mmdoctor_env": f"/{ENV}",
            "mmdoctor_package": str(wheel),
            "mmdoctor_wheels": str(folder / "wheels"),
            "mmdoctor_fix_args": ["--pin", "mmcv==2.1.0"],
        }
        (folder / "hosts.yml").write_text(json.dumps({"all": {"hosts": hosts, "vars": common}}))
        yield Fleet(folder, roots)


def merged(doctor: Doctor, fleet: Fleet, status: int) -> dict[str, str]:
    """The state of each host by the merged reports."""
    files = sorted(map(str, fleet.reports.glob("*.json")))
    return {host["name"]: host["state"] for host in doctor.json("report", "merge", *files, status=status)["hosts"]}


def test_three_hosts(fleet: Fleet, doctor: Doctor) -> None:
    assert cache_folder().exists()
    looked = fleet.play()
    assert {recap.failed + recap.unreachable for recap in looked.values()} == {0}, fleet.said
    assert merged(doctor, fleet, 1) == {"web1": "healthy", "web2": "findings", "web3": "findings"}

    before = {name: state(root) for name, root in fleet.roots.items()}
    would = fleet.play("--check", "-e", "mmdoctor_fix=true")
    assert {name: recap.changed for name, recap in would.items()} == {"web1": 0, "web2": 1, "web3": 1}, fleet.said
    assert re.search(r"numpy +2\.2\.6 +→ +1\.26\.4", fleet.said), fleet.said
    for name, root in fleet.roots.items():
        after = state(root)
        assert {path for path in before[name] | after if before[name].get(path) != after.get(path)} == set()

    mended = fleet.play("-e", "mmdoctor_fix=true")
    assert mended == {"web1": Recap(0, 0, 0), "web2": Recap(1, 0, 0), "web3": Recap(1, 0, 0)}, fleet.said
    assert merged(doctor, fleet, 0) == dict.fromkeys(fleet.roots, "healthy")

    again = fleet.play("-e", "mmdoctor_fix=true")
    assert again == dict.fromkeys(fleet.roots, Recap(0, 0, 0)), fleet.said
