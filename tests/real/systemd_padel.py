"""The padel stack on Debian bullseye: a machine with mmdoctor, a user, and the recipe's environment, from nothing."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.real.containers import Machine, install_mmdoctor, kept

HERE = Path(__file__).parent / "pose_service"
RELEASE = "bullseye"  # Python 3.9
PACKAGES = ("g++", "python3-dev")
USER = "pose"
HOME = "/var/lib/pose"
FOLDER = "/opt/padel/mmpose"
ENV = f"{FOLDER}/venv"
UNIT = "mmpose-service"
PORT = 8765
MINUTES = 60.0


def provision(node: Machine) -> str:
    """mmdoctor, the user, and the environment by the recipe `padel-service`; returns mmdoctor's path. mmcv is compiled
    once (6 minutes on two idle cores): its wheel is kept, with its proof, for the next machine."""
    mmdoctor = install_mmdoctor(node)
    node.must("useradd", "--system", "--create-home", "--home-dir", HOME, "--shell", "/usr/sbin/nologin", USER)
    node.must("install", "-d", "-o", USER, "-g", USER, "/opt/padel", FOLDER)
    wheels = kept() / "padel-wheels"
    inside = node.path(f"{HOME}/.cache/mmdoctor/wheels")
    if wheels.exists():
        shutil.copytree(wheels, inside)
        node.must("chown", "-R", f"{USER}:", f"{HOME}/.cache")
    fix = (mmdoctor, "fix", "--env", ENV, "--recipe", "padel-service", "--apply", "--yes")
    node.must(*fix, user=USER, deadline=60 * MINUTES)
    if not wheels.exists():
        shutil.copytree(inside, wheels)
    shutil.copy(HERE / "service.py", node.path(f"{FOLDER}/service.py"))
    shutil.copy(HERE / f"{UNIT}.service", node.path(f"/etc/systemd/system/{UNIT}.service"))
    node.must("systemctl", "daemon-reload")
    return mmdoctor
