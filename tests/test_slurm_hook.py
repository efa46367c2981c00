"""The Slurm script as slurmd starts it, beside an scontrol that answers as 22.05 does and keeps the node in a file.

What Slurm itself makes of it: tests/real/test_slurm.py.
"""

from __future__ import annotations

import os
import pwd
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Optional

import pytest

from mmdoctor.errors import UsageError
from mmdoctor.hooks.slurm import install, script
from tests.conftest import command
from tests.test_cli import HEALTHY, NATURAL

# As scontrol 22.05.8 printed it, cut down.
SCONTROL = """\
#!/bin/sh
cd "$(dirname "$0")" || exit 1
echo "$*" >> calls
case $1 in
show)
    printf 'NodeName=n1 Arch=x86_64\\n   State=%s ThreadsPerCore=1\\n   Partitions=all\\n' "$(cat state)"
    if [ -s reason ]; then printf '   Reason=%s [root@2026-11-21T21:07:29]\\n' "$(cat reason)"; fi ;;
update)
    case $3 in
    State=DRAIN) echo IDLE+DRAIN > state; echo "${4#Reason=}" > reason ;;
    State=UNDRAIN) echo IDLE > state; : > reason ;;
    esac ;;
esac
"""


class Node:
    """A node with an mmdoctor that looks at recorded facts, or that is another program."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.scontrol = self._program("scontrol", SCONTROL)
        self.set("IDLE", "")
        self.sees(HEALTHY)

    def _program(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.write_text(text, encoding="utf-8")
        path.chmod(0o755)
        return path

    def sees(self, facts: str) -> None:
        """mmdoctor's real check, on recorded facts in place of an environment that is not here."""
        check = f'exec "{sys.executable}" -m mmdoctor check --facts "{facts}"'
        self.runs(f'echo "$@" > "{self.folder}/asked"\n{check}')

    def runs(self, command: str) -> None:
        self._program("mmdoctor", f"#!/bin/sh\n{command}\n")

    def set(self, state: str, reason: str) -> None:
        (self.folder / "state").write_text(state)
        (self.folder / "reason").write_text(reason)

    def look(
        self, *, env: str = "/opt/my env/it's", job: Optional[str] = None, strict: bool = False, seconds: int = 60
    ) -> tuple[int, str, list[str]]:
        """The script once: its exit status, what it said, and its calls of scontrol. `seconds` in place of its own
        five, since a machine that runs tests may be busy."""
        text = script(str(self.folder / "mmdoctor"), env, str(self.scontrol), cached="600", strict=strict)
        assert "timeout -k 1 5 " in text
        text = text.replace("timeout -k 1 5 ", f"timeout -k 1 {seconds} ")
        path = install(text.replace("/run/mmdoctor/", f"{self.folder}/run/"), self.folder)
        (self.folder / "calls").write_text("")
        bare = {"SLURMD_NODENAME": "n1", **({"SLURM_JOB_ID": job} if job else {})}
        done = subprocess.run([str(path)], env=bare, capture_output=True, text=True, timeout=120, check=False)
        return done.returncode, done.stderr, (self.folder / "calls").read_text().splitlines()

    @property
    def drain(self) -> tuple[str, str]:
        return (self.folder / "state").read_text().strip(), (self.folder / "reason").read_text().strip()


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


def test_a_healthy_node_asks_the_controller_once_and_then_never(node: Node) -> None:
    assert node.look() == (0, "", ["show node n1"])
    assert node.look() == (0, "", [])
    asked = (node.folder / "asked").read_text().strip()
    assert asked == "check --quick --cached 600 --deadline 4 --env /opt/my env/it's"


def test_what_is_broken_drains_once_by_its_roots_and_healing_undrains(node: Node) -> None:
    node.look()
    node.sees(NATURAL)
    status, said, calls = node.look()
    state, reason = node.drain
    assert (status, state) == (0, "IDLE+DRAIN")
    assert reason == "mmdoctor:TVN001,XTC001,MCV004 torchvision 0.28.0+cu130 does not belong to torch 2.13.0+cpu"
    assert reason in said
    assert len(calls) == 2
    assert node.look() == (0, "", ["show node n1"])
    node.sees(HEALTHY)
    status, said, calls = node.look()
    assert calls == ["show node n1", "update NodeName=n1 State=UNDRAIN"]
    assert "healthy again" in said
    assert node.look() == (0, "", [])


def test_another_fault_is_another_reason(node: Node) -> None:
    node.set("MIXED+DRAIN", "mmdoctor:OCV001 something of yesterday")
    node.sees(NATURAL)
    assert node.look()[2][1].startswith("update NodeName=n1 State=DRAIN Reason=mmdoctor:TVN001")


@pytest.mark.parametrize(("facts", "reason"), [(NATURAL, "not mmdoctor: a new disk"), (HEALTHY, "Prolog error")])
def test_somebody_elses_drain_is_not_touched(node: Node, facts: str, reason: str) -> None:
    node.set("IDLE+DRAIN", reason)
    node.sees(facts)
    assert node.look() == (0, "", ["show node n1"])
    assert node.drain == ("IDLE+DRAIN", reason)


@pytest.mark.parametrize(
    "command",
    [
        "exit 3",
        "exit 70",
        "kill -SEGV $$",
        "echo 'Traceback (most recent call last):' >&2; exit 1",  # a Python that does not start
        "sleep 60",
        "exec /gone",
    ],
)
def test_no_verdict_changes_nothing_unless_asked(node: Node, command: str) -> None:
    node.runs(command)
    status, said, calls = node.look(job="7", seconds=1)
    assert (status, calls) == (0, [])
    assert "no verdict on /opt/my env/it's (exit status" in said
    assert node.drain == ("IDLE", "")
    assert node.look(job="7", strict=True, seconds=1)[0] == 1
    assert node.drain[1].startswith("mmdoctor:undetermined")


def test_a_prolog_fails_only_where_the_environment_is_broken(node: Node) -> None:
    assert node.look(job="7")[0] == 0
    node.sees(NATURAL)
    assert node.look(job="7")[0] == 1
    assert node.drain[0] == "IDLE+DRAIN"
    node.scontrol.unlink()  # a controller that does not answer
    assert node.look(job="7")[0] == 1
    assert node.look()[0] == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_it_looks_as_the_environments_owner() -> None:
    with tempfile.TemporaryDirectory() as place:  # which the owner may enter, unlike pytest's own
        Path(place).chmod(0o755)
        node = Node(Path(place))
        env = Path(place) / "env"
        env.mkdir()
        os.chown(env, 65534, 65534)
        node.runs('echo "FAIL  WHO001  a title"; echo "      $(id -u) $(id -G) $HOME"; exit 1')
        node.look(env=str(env))
        assert node.drain[1] == "mmdoctor:WHO001 65534 65534 " + pwd.getpwuid(65534).pw_dir


def test_installed_it_is_executable_and_named_in_slurm_conf(tmp_path: Path) -> None:
    done = command("hook", "slurm", "--env", str(tmp_path), "--install", str(tmp_path), "--cached", "10m")
    assert done.returncode == 0
    assert f"HealthCheckProgram={tmp_path}/mmdoctor-slurm" in done.stdout.splitlines()
    assert os.access(tmp_path / "mmdoctor-slurm", os.X_OK)
    printed = command("hook", "slurm", "--env", str(tmp_path), "--cached", "10m").stdout
    assert "\ncached=600\n" in printed
    assert command("hook", "slurm", "--env", str(tmp_path), "--install", "/nowhere").returncode == 2
    with pytest.raises(UsageError, match="one line"):
        script("/usr/bin/mmdoctor", "/opt/a\nb", "scontrol", cached="600")
