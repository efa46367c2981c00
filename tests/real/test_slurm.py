"""Slurm's own daemons on a machine of their own: a node whose environment breaks is drained, and comes back."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mmdoctor.apply.clone import clone
from mmdoctor.folders import cache_folder
from tests.real.containers import Machine, install_mmdoctor, machine, missing, rootfs, uv_binds

pytestmark = [pytest.mark.real, pytest.mark.skipif(bool(missing()), reason=missing())]

NODE = "node1"
MMDOCTOR = "/opt/mmdoctor/bin/mmdoctor"
ENV = "/opt/pose/venv"
SCRIPT = "/etc/slurm/mmdoctor-slurm"
# slurm.conf(5); what is left out is Debian's default.
SLURM_CONF = f"""\
ClusterName=lab
SlurmctldHost={NODE}
SlurmUser=slurm
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SlurmdSpoolDir=/var/lib/slurm/slurmd
StateSaveLocation=/var/lib/slurm/slurmctld
NodeName={NODE} CPUs=1 State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES State=UP
"""
INTERVAL_SECONDS = 5


class Slurm:
    """One machine that is controller and node."""

    def __init__(self, node: Machine, env: Path) -> None:
        self.node, self.env = node, env
        [self.extension] = env.glob("lib/python3*/site-packages/mmcv/_ext.*.so")
        self.away = env.parent / self.extension.name

    def configure(self, lines: str) -> None:
        self.node.write("/etc/slurm/slurm.conf", SLURM_CONF + lines)
        self.node.must("systemctl", "restart", "munge", "slurmctld", "slurmd")
        self.until("answer", lambda: self.state() in ("IDLE", "IDLE+DRAIN"))

    def show(self, field: str) -> str:
        lines = self.node.run("scontrol", "show", "node", NODE).stdout.splitlines()
        return next((line.strip().partition("=")[2] for line in lines if line.strip().startswith(f"{field}=")), "")

    def state(self) -> str:
        return (self.show("State").split() or ["no answer"])[0]

    def reason(self) -> str:
        return self.show("Reason")

    def submit(self) -> str:
        """A job that loads mmcv's ops; its number."""
        job = f"{ENV}/bin/python -c 'import mmcv.ops; print(mmcv.__version__)'"
        return self.node.must("sbatch", "--parsable", "--chdir=/tmp", "--output=/var/tmp/%j.out", "--wrap", job).strip()

    def job(self, number: str) -> str:
        words = self.node.must("scontrol", "show", "job", number).split()
        return next(word.partition("=")[2] for word in words if word.startswith("JobState="))

    def printed(self, number: str) -> str:
        self.until("a finished job", lambda: self.job(number) == "COMPLETED")
        return self.node.path(f"/var/tmp/{number}.out").read_text().strip()

    def look(self) -> str:
        """The health check as slurmd starts it; what it said. Once more where a busy machine did not let it end."""
        for _ in range(20):
            done = self.node.run("env", "-i", f"SLURMD_NODENAME={NODE}", SCRIPT)
            assert done.returncode == 0, done.stderr
            if not re.search(r"exit status (3|124|137)", done.stderr):
                break
        return done.stderr

    def until(self, what: str, holds: Callable[[], bool], deadline: float = 60) -> None:
        over = time.monotonic() + deadline
        while not holds():
            assert time.monotonic() < over, f"no {what}: {self.state()} {self.reason()}; {self.log()}"
            time.sleep(0.5)

    def log(self) -> str:
        return self.node.run("journalctl", "--no-pager", "-n", "60").stdout

    def break_it(self) -> None:
        self.extension.rename(self.away)

    def mend_it(self) -> None:
        self.away.rename(self.extension)


def base_bind(env: Path) -> tuple[str, ...]:
    """The interpreter that an environment stands on, for a machine; a system's own is there already."""
    base = Path(os.path.realpath(env / "bin" / "python")).parents[1]
    return () if base == Path("/usr") else (f"{base}:{base}",)


@pytest.fixture(scope="module")
def slurm(demo: Path, scratch: Path) -> Iterator[Slurm]:
    place = scratch / "slurm"
    place.mkdir()
    clone(demo, place / "venv")
    binds = (*base_bind(demo), *uv_binds(), f"{place}:/opt/pose", f"{cache_folder() / 'wheels'}:/opt/wheels")
    # The packages of both tests that want a Debian of this release (test_ansible), so that it is made once.
    root = rootfs("bookworm", "munge", "openssh-server", "slurm-wlm")
    with machine(root, scratch / NODE, network=True, binds=binds) as node:
        node.must("hostname", NODE)
        node.write("/etc/hosts", f"127.0.0.1 localhost {NODE}\n")
        assert install_mmdoctor(node) == MMDOCTOR
        yield Slurm(node, place / "venv")


def test_a_node_is_drained_and_comes_back(slurm: Slurm) -> None:
    slurm.extension.unlink()
    lines = slurm.node.must(MMDOCTOR, "hook", "slurm", "--env", ENV, "--install", "/etc/slurm")
    assert f"HealthCheckProgram={SCRIPT}" in lines
    slurm.configure(lines.replace("=300", f"={INTERVAL_SECONDS}").replace(f"Prolog={SCRIPT}", ""))
    slurm.until("drained node", lambda: "DRAIN" in slurm.state())
    assert re.match(r"mmdoctor:[A-Z]{3}\d{3}.* \[root@", slurm.reason())
    waiting = slurm.submit()
    assert slurm.look() == ""  # nothing has changed since, so nothing is done and said
    assert slurm.job(waiting) == "PENDING"

    heal = ("fix", "--env", ENV, "--pin", "mmcv==2.1.0", "--wheels", "/opt/wheels", "--apply", "--yes")
    slurm.node.must(MMDOCTOR, *heal)
    slurm.until("node in service", lambda: "DRAIN" not in slurm.state())
    assert slurm.printed(waiting) == "2.1.0"


def test_what_an_admin_drained_stays(slurm: Slurm) -> None:
    slurm.node.must("scontrol", "update", f"NodeName={NODE}", "State=DRAIN", "Reason=a new disk")
    for change in (slurm.break_it, slurm.mend_it):
        change()
        slurm.look()
        assert "DRAIN" in slurm.state()
        assert slurm.reason().startswith("a new disk [")
    slurm.node.must("scontrol", "update", f"NodeName={NODE}", "State=RESUME")


def test_an_mmdoctor_that_does_not_start_drains_nothing(slurm: Slurm) -> None:
    package = next(slurm.node.path("/opt/mmdoctor/lib").glob("python3*/site-packages/mmdoctor"))
    slurm.break_it()
    package.rename(package.with_name("gone"))
    try:
        assert "no verdict" in slurm.look()  # Python ends with 1, as a check with findings does
        assert "DRAIN" not in slurm.state()
    finally:
        package.with_name("gone").rename(package)
        slurm.mend_it()


def test_a_prolog_sends_the_job_back(slurm: Slurm) -> None:
    slurm.configure(f"Prolog={SCRIPT}\n")
    slurm.break_it()
    number = slurm.submit()
    slurm.until("drained node", lambda: "DRAIN" in slurm.state())
    assert slurm.reason().startswith("mmdoctor:")  # Slurm's own `Prolog error` does not replace it
    slurm.until("requeued job", lambda: slurm.job(number) == "PENDING")
    slurm.mend_it()
    assert "undrained" in slurm.look()
    slurm.node.must("scontrol", "release", number)
    slurm.node.must("scontrol", "update", f"JobId={number}", "StartTime=now")  # Slurm itself would wait two minutes
    assert slurm.printed(number) == "2.1.0"
