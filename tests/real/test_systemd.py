"""The systemd hook under a real systemd: a Debian machine in a container, with the provisioned environment in it.

The long story, with a real service, is `test_systemd_padel.py`.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.real.conftest import uv, versions
from tests.real.containers import Machine, install_mmdoctor, machine, missing, must, rootfs, uv_binds

pytestmark = pytest.mark.real
RELEASE = "bookworm"
ENV = "/opt/pose/venv"
WORKS, BREAKS = "numpy==1.26.4", "numpy==2.2.6"  # the provisioned stack's binaries are of NumPy 1
AWKWARD = '/opt/it\'s "50%" of $HOME\\x é;'
MMDOCTOR = "/opt/mmdoctor/bin/mmdoctor"


class Node:
    """The machine, its environment, and services that say `served` when they start from it."""

    def __init__(self, on: Machine) -> None:
        self.on = on
        self.env = on.path(ENV)

    def install(self, requirement: str) -> None:
        uv("pip", "install", "--quiet", "--python", str(self.env / "bin/python"), requirement)

    def headless(self) -> None:
        """The OpenCV for a machine without OpenGL."""
        opencv = versions(self.env).get("opencv-python")
        if opencv:
            uv("pip", "uninstall", "--quiet", "--python", str(self.env / "bin/python"), "opencv-python")
            self.install(f"opencv-python-headless=={opencv}")

    def unit(self, name: str, *lines: str, user: str = "pose") -> None:
        text = ["[Service]", f"User={user}", "ExecStart=/bin/sh -c 'echo served; exec sleep 1000'", *lines, ""]
        self.on.write(f"/etc/systemd/system/{name}.service", "\n".join(text))
        self.on.must("systemctl", "daemon-reload")

    def hook(self, name: str, *arguments: str, env: str = ENV, status: int = 0) -> str:
        """`mmdoctor hook systemd`; both its outputs."""
        done = self.on.run(MMDOCTOR, "hook", "systemd", name, "--env", env, *arguments)
        assert done.returncode == status, done.stdout + done.stderr
        return done.stdout + done.stderr

    def start(self, name: str) -> str:
        """Empty where `systemctl start` succeeds, else what it says, and the journal."""
        done = self.on.run("systemctl", "start", name)
        return f"{done.stderr}{self.journal(name)}" if done.returncode else ""

    def show(self, name: str, *properties: str) -> str:
        """The values of some properties, between blanks."""
        shown = self.on.must("systemctl", "show", name, f"--property={','.join(properties)}").splitlines()
        values = dict(line.split("=", 1) for line in shown)
        return " ".join(values[name] for name in properties)

    def journal(self, *names: str) -> str:
        units = [word for name in names for word in ("--unit", name)]
        return self.on.must("journalctl", "--no-pager", "--output=cat", *units)

    def settled(self, name: str, seconds: float = 120) -> str:
        """The state of a unit once it neither starts nor waits for its restart."""
        over = time.monotonic() + seconds
        while (state := self.show(name, "ActiveState")) == "activating":
            assert time.monotonic() < over, self.journal(name)
            time.sleep(0.3)
        return state

    def drop_ins(self) -> set[str]:
        return {str(path) for path in self.on.path("/etc/systemd/system").rglob("*mmdoctor*")}


@pytest.fixture(scope="module")
def node(demo: Path, scratch: Path) -> Iterator[Node]:
    if missing():
        pytest.skip(missing())
    release = dict(line.split("=", 1) for line in Path("/etc/os-release").read_text().splitlines() if "=" in line)
    if release.get("VERSION_CODENAME") != RELEASE:
        pytest.skip(f"the environment was built on {release.get('PRETTY_NAME')}, and runs only there")
    prefix = (demo / "bin/python").resolve().parents[1]  # the Python that the environment stands on
    binds = (*uv_binds(), *(() if prefix == Path("/usr") else (f"{prefix}:{prefix}",)))
    with machine(rootfs(RELEASE), scratch / "node", network=True, binds=binds) as on:
        must(["mkdir", "-p", str(on.path(ENV).parent)])
        must(["cp", "-al", str(demo), str(on.path(ENV))])
        on.must("chmod", "711", "/root")  # a Python below it is for everybody
        on.must("useradd", "--system", "--create-home", "--home-dir", "/var/lib/pose", "pose")
        assert install_mmdoctor(on) == MMDOCTOR
        made = Node(on)
        made.headless()
        yield made


@pytest.fixture(autouse=True)
def healthy(node: Node) -> None:
    """Each test begins with an environment that works, whatever the one before left."""
    node.install(WORKS)


def test_gate(node: Node) -> None:
    """It lets a healthy environment through, stops a broken one, says why, and Restart=always comes to an end."""
    node.unit("gated", "Restart=always")
    node.hook("gated", "--install")
    assert node.on.run("systemd-analyze", "verify", "gated.service").stderr == ""
    assert node.start("gated") == ""
    ready = "/run/mmdoctor-gated/mmdoctor-ready.json"
    assert json.loads(node.on.must("cat", ready))["ok"] is True
    assert node.on.must("stat", "--format=%U", ready).strip() == "pose"
    assert node.show("gated", "StatusText").startswith("mmdoctor: healthy")
    node.on.must("systemctl", "stop", "gated")
    assert node.on.run("cat", ready).returncode != 0

    node.install(BREAKS)
    assert node.start("gated") != ""
    assert node.settled("gated") == "failed"
    assert node.show("gated", "NRestarts") == "5"  # StartLimitBurst=
    assert "Start request repeated too quickly" in node.journal("gated")
    assert node.journal("gated").count("served") == 1  # when it was healthy
    said = node.on.run("systemctl", "status", "--no-pager", "--full", "gated").stdout  # 3: it does not run
    assert "FAIL NPY001" in said
    assert "NumPy 1" in said
    assert "fix: mmdoctor fix --apply" in said
    assert node.on.run("cat", ready).returncode != 0
    errors = node.on.must("journalctl", "--no-pager", "--output=cat", "--unit=gated", "--priority=err")
    assert "FAIL NPY001" in errors
    assert f"mmdoctor fix --env {ENV}" in errors

    node.install(WORKS)
    node.on.must("systemctl", "reset-failed", "gated")
    assert node.start("gated") == ""
    node.on.must("systemctl", "stop", "gated")
    node.hook("gated", "--remove")
    assert not node.drop_ins()
    assert node.show("gated", "DropInPaths", "NeedDaemonReload") == " no"


def test_condition(node: Node) -> None:
    """A broken environment skips the start: not failed, not restarted."""
    node.unit("conditional", "Restart=always")
    node.hook("conditional", "--mode", "condition", "--install")
    node.install(BREAKS)
    assert node.start("conditional") == ""
    time.sleep(2)
    assert node.show("conditional", "ActiveState", "NRestarts") == "inactive 0"
    assert "FAIL NPY001" in node.journal("conditional")
    node.install(WORKS)
    assert node.start("conditional") == ""
    assert node.show("conditional", "ActiveState") == "active"
    node.on.must("systemctl", "stop", "conditional")


def test_heal(node: Node) -> None:
    """A start waits for the repair, from the caches, without a network; root's environment only where that is asked."""
    node.unit("healed")
    assert "as root" in node.hook("healed", "--mode", "heal", "--install", status=4)
    assert not [name for name in node.drop_ins() if "healed" in name]
    node.hook("healed", "--mode", "heal", "--heal-as-root", "--install")
    node.install(BREAKS)
    assert node.start("healed") == "", node.journal("healed", "mmdoctor-heal-healed")
    assert node.show("healed", "ActiveState") == "active"
    assert "numpy 2.2.6 → 1.26.4" in node.journal("mmdoctor-heal-healed").replace("  ", " ")
    # A healthy environment: nobody repairs anything.
    before = node.journal("mmdoctor-heal-healed").count("is ready, proven")
    node.on.must("systemctl", "restart", "healed")
    assert node.journal("mmdoctor-heal-healed").count("is ready, proven") == before == 1
    node.on.must("systemctl", "stop", "healed")
    # From heal to gate: the unit that heals goes; then all goes.
    node.hook("healed", "--install")
    assert not [name for name in node.drop_ins() if "heal-" in name]
    node.hook("healed", "--remove")
    assert not [name for name in node.drop_ins() if "healed" in name]


@contextmanager
def interpreter(node: Node, script: str) -> Iterator[None]:
    """Another program in the interpreter's place."""
    python = node.env / "bin/python"
    target = python.readlink()
    python.unlink()
    python.write_text(script)
    python.chmod(0o755)
    yield
    python.unlink()
    python.symlink_to(target)


def test_what_hangs_is_named_before_systemd_ends_it(node: Node) -> None:
    node.unit("hanging", "TimeoutStartSec=25")
    assert "--deadline 15" in node.hook("hanging", "--deadline", "20", "--install", status=2)
    node.hook("hanging", "--deadline", "5", "--install")
    with interpreter(node, "#!/bin/sh\nexec sleep 600\n"):
        began = time.monotonic()
        assert node.start("hanging") != ""
        assert time.monotonic() - began < 20
    assert node.show("hanging", "ActiveState", "Result") == "failed exit-code"  # not systemd's `timeout`
    said = node.journal("hanging")
    assert "the deadline of 5 s ended the look while" in said
    assert "served" not in said
    assert node.on.run("pgrep", "--full", "sleep 600").returncode == 1


DISASTERS = {
    "a bug": "echo 'def diagnose(*_): raise KeyError(1)' >> {package}/checks/__init__.py",
    "a broken package": "mv {package}/model.py {package}/gone.py",
    "killed": "echo 'import os; os.kill(os.getpid(), 9)' >> {package}/checks/__init__.py",
    "a segmentation fault": "echo 'import os; os.kill(os.getpid(), 11)' >> {package}/checks/__init__.py",
    "gone": "mv {command} {command}.gone",
}


@pytest.mark.parametrize("mode", ["gate", "condition"])
def test_a_crash_of_mmdoctor_lets_nothing_start(node: Node, mode: str, tmp_path: Path) -> None:
    package = next(node.on.path("/opt/mmdoctor/lib").glob("python3*/site-packages/mmdoctor"))
    command = node.on.path(MMDOCTOR)
    shutil.copytree(package, tmp_path / "package")
    shutil.copy2(command, tmp_path / "command")
    name = f"crash-{mode}"
    node.unit(name)
    node.hook(name, "--mode", mode, "--install")
    outcomes = {}
    for disaster, how in DISASTERS.items():
        must(["sh", "-c", how.format(package=package, command=command)])
        node.start(name)
        outcomes[disaster] = node.show(name, "ActiveState")
        assert "served" not in node.journal(name), disaster
        shutil.rmtree(package)
        shutil.copytree(tmp_path / "package", package)
        shutil.copy2(tmp_path / "command", command)
        node.on.run("systemctl", "reset-failed", name)
    abnormal = {"killed", "a segmentation fault"}
    expected = {d: "failed" if mode == "gate" or d in abnormal else "inactive" for d in DISASTERS}
    assert outcomes == expected
    assert node.start(name) == ""
    assert "served" in node.journal(name)
    node.on.must("systemctl", "stop", name)


def test_awkward_paths_templates_and_the_units_own_settings(node: Node) -> None:
    node.on.must("ln", "-s", ENV, AWKWARD)
    node.unit("many@", "RuntimeDirectory=many", "NotifyAccess=all")
    node.hook("many@", "--install", env=AWKWARD)
    assert node.start("many@one") == ""
    ready = json.loads(node.on.must("cat", "/run/many/mmdoctor-ready.json"))
    assert ready["target"]["prefix"] in (AWKWARD, ENV)
    assert node.show("many@one", "NotifyAccess", "RuntimeDirectory") == "all many"
    node.on.must("systemctl", "stop", "many@one")
    node.hook("many@", "--remove")
    assert not [name for name in node.drop_ins() if "many" in name]


def test_what_is_refused(node: Node) -> None:
    node.unit("lenient", "SuccessExitStatus=1 SIGKILL")
    assert "counts 1, KILL as success" in node.hook("lenient", "--install", status=4)
    node.unit("rootly", "PermissionsStartOnly=yes")
    assert "as root" in node.hook("rootly", "--install", status=4)
    assert "there is lenient" in node.hook("lenent", "--install", status=2)
    node.unit("plain")
    theirs = "/etc/systemd/system/plain.service.d/50-mmdoctor.conf"
    node.on.write(theirs, "[Service]\nNice=5\n")
    for action in ("--install", "--remove"):
        assert "mmdoctor did not write it" in node.hook("plain", action, status=4)
    assert node.on.path(theirs).read_text() == "[Service]\nNice=5\n"
    node.on.path(theirs).unlink()
    done = node.on.run(MMDOCTOR, "hook", "systemd", "plain", "--env", ENV, "--install", user="pose")
    assert done.returncode == 2
    assert "cannot write /etc/systemd/system: Permission denied" in done.stderr
    node.on.must("chmod", "700", "/opt/mmdoctor")  # as pipx does it, below /root
    assert "cannot take the look" in node.hook("plain", "--install", status=2)
    node.on.must("chmod", "755", "/opt/mmdoctor")
    assert "has no hook" in node.hook("plain", "--remove")
