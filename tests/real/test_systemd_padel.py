"""The story of the padel service, on Debian bullseye with Python 3.9, under a real systemd: see `docs/systemd.md`.

From nothing, beside a dozen other jobs on two cores: half an hour, and mmcv's compile, whose wheel is kept. 10 GB of
disk meanwhile.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.real.containers import Machine, machine, missing, rootfs, uv_binds
from tests.real.systemd_padel import ENV, PACKAGES, PORT, RELEASE, UNIT, USER, provision

pytestmark = pytest.mark.evidence
ASK = "import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1], timeout=60).read().decode())"


class Padel:
    """The machine of the story; what its commands say goes into a transcript, for the page."""

    def __init__(self, on: Machine, mmdoctor: str) -> None:
        self.on, self.mmdoctor = on, mmdoctor
        self.transcript: list[str] = []

    def say(self, *argv: str, status: int = 0) -> str:
        done = self.on.run(*argv)
        shown = " ".join(argv).replace(self.mmdoctor, "mmdoctor")
        self.transcript.append(f"$ {shown}\n{done.stdout}{done.stderr}")
        assert done.returncode == status, self.transcript[-1]
        return done.stdout + done.stderr

    def ask(self, path: str) -> Any:
        return json.loads(self.on.must("/usr/bin/python3", "-c", ASK, f"http://127.0.0.1:{PORT}{path}"))

    def serves(self, seconds: float = 300) -> Any:
        """What /healthz says, waited for."""
        over = time.monotonic() + seconds
        while self.on.run("/usr/bin/python3", "-c", ASK, f"http://127.0.0.1:{PORT}/healthz").returncode:
            assert time.monotonic() < over, self.journal()
            time.sleep(1)
        return self.ask("/healthz")

    def show(self, name: str) -> str:
        return self.on.must("systemctl", "show", UNIT, f"--property={name}", "--value").strip()

    def until(self, name: str, *values: str, seconds: float = 300) -> None:
        over = time.monotonic() + seconds
        while self.show(name) not in values:
            assert time.monotonic() < over, f"{name}={self.show(name)}: {self.journal()}"
            time.sleep(1)

    def journal(self) -> str:
        return self.on.must("journalctl", "--no-pager", "--unit", UNIT, "--unit", f"mmdoctor-heal-{UNIT}")

    def upgrade_numpy(self) -> None:
        """What somebody does one day."""
        pip = (f"{ENV}/bin/python", "-m", "pip", "install", "--quiet", "--upgrade", "numpy")
        self.on.must(*pip, user=USER)
        shown = self.on.must(f"{ENV}/bin/python", "-c", "import numpy; print(numpy.__version__)", user=USER)
        self.transcript.append(f"$ {' '.join(pip)}\nnumpy {shown}")


@pytest.fixture
def padel(tmp_path: Path) -> Iterator[Padel]:
    if missing():
        pytest.skip(missing())
    with machine(rootfs(RELEASE, *PACKAGES), tmp_path / "padel", network=True, binds=uv_binds()) as on:
        story = Padel(on, provision(on))
        yield story
        if "MMDOCTOR_TRANSCRIPT" in os.environ:
            Path(os.environ["MMDOCTOR_TRANSCRIPT"]).write_text("\n".join(story.transcript), encoding="utf-8")


def test_the_story(padel: Padel) -> None:
    hook = (padel.mmdoctor, "hook", "systemd", UNIT)
    status = ("systemctl", "status", "--no-pager", "--full", UNIT)
    padel.say("systemctl", "start", UNIT)
    assert padel.serves()["versions"]["numpy"] == "1.21.6"
    keypoints = padel.ask("/pose")
    assert len(keypoints["keypoints"]) == 17

    # Somebody upgrades numpy. Nothing happens, until the service is restarted; then it dies again and again.
    padel.upgrade_numpy()
    assert padel.ask("/pose") == keypoints
    padel.say("systemctl", "restart", UNIT)  # says nothing: it was started
    padel.until("NRestarts", "2")
    assert "numpy.dtype size changed" in padel.journal()
    padel.on.must("systemctl", "stop", UNIT)

    # With the gate it does not start, and says why.
    padel.say(*hook, "--env", ENV, "--install")
    padel.say("systemctl", "start", UNIT, status=1)
    padel.until("ActiveState", "failed")
    shown = padel.say(*status, status=3)
    assert "NPY001" in shown
    assert "numpy 2.0.2 is installed" in shown
    errors = padel.say("journalctl", "--no-pager", "--output=cat", "--priority=err", "--unit", UNIT)
    assert f"mmdoctor fix --env {ENV}" in errors
    assert padel.show("NRestarts") == "5"
    padel.say("systemctl", "start", UNIT, status=1)  # the start limit, until somebody resets it

    # With heal it repairs itself, from the caches of the environment's owner, and serves as before.
    padel.say(*hook, "--env", ENV, "--mode", "heal", "--recipe", "padel-service", "--install")
    padel.say("systemctl", "reset-failed", UNIT)
    padel.say("systemctl", "start", UNIT)
    assert padel.serves()["versions"]["numpy"] == "1.21.6"
    assert padel.ask("/pose") == keypoints
    padel.say(*status)
    assert json.loads(padel.on.must("cat", f"/run/mmdoctor-{UNIT}/mmdoctor-ready.json"))["ok"] is True

    # Stop, start, reboot: and it heals while the machine boots, too.
    padel.say("systemctl", "stop", UNIT)
    assert padel.on.run("cat", f"/run/mmdoctor-{UNIT}/mmdoctor-ready.json").returncode != 0
    padel.say("systemctl", "start", UNIT)
    assert padel.serves()
    padel.on.must("systemctl", "enable", UNIT)
    padel.upgrade_numpy()
    padel.on.reboot(seconds=1200)  # the boot waits for the repair
    assert padel.serves()["versions"]["numpy"] == "1.21.6"
    assert padel.ask("/pose") == keypoints

    # Without the hook all is as it was before it.
    padel.say(*hook, "--remove")
    assert not list(padel.on.path("/etc/systemd/system").rglob("*mmdoctor*"))
    padel.say("systemctl", "restart", UNIT)
    assert padel.serves()
    assert padel.show("DropInPaths") == ""
    assert "mmdoctor" not in padel.on.must("ls", "/run")
