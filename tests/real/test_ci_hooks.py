"""What `hook github`, `gitlab` and `k8s` write, run as their runners run it: each script in bash, with the runner's own
variables, and mmdoctor installed by it from this checkout; a pod's command in an image that is read-only."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
import yaml

from mmdoctor.hooks import k8s
from tests.real.conftest import Doctor

ROOT = Path(__file__).parents[2]
DEADLINE = 1800.0  # of a script that installs mmdoctor, on a machine that does other things too
# GitHub's `shell: bash`, and the flags that it gives.
BASH = ("bash", "--noprofile", "--norc", "-e", "-o", "pipefail", "-c")


class Runner:
    """A runner of GitHub Actions as far as a composite action's own steps see it."""

    def __init__(self, folder: Path) -> None:
        self.workspace = folder / "my repository"
        self.workspace.mkdir()
        for name in ("temp", "output", "summary"):
            (folder / name).mkdir() if name == "temp" else (folder / name).touch()
        self.output, self.summary = folder / "output", folder / "summary"
        self.environment = {
            **{name: value for name, value in os.environ.items() if name not in ("VIRTUAL_ENV", "CONDA_PREFIX")},
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "RUNNER_TEMP": str(folder / "temp"),
            "GITHUB_OUTPUT": str(self.output),
            "GITHUB_STEP_SUMMARY": str(self.summary),
        }

    def run(self, step: dict[str, Any], inputs: dict[str, str]) -> subprocess.CompletedProcess[str]:
        """A step of a composite action; the one expression that these use is evaluated."""
        given = {
            name: re.sub(r"\$\{\{ inputs\.([\w-]+) \}\}", lambda found: inputs[found[1]], value)
            for name, value in step.get("env", {}).items()
        }
        assert "${{" not in step["run"]
        argv = [*BASH, step["run"]]
        environment = {**self.environment, **given}
        return subprocess.run(
            argv, cwd=self.workspace, env=environment, capture_output=True, text=True, timeout=DEADLINE, check=False
        )


@pytest.mark.essential
def test_githubs_steps_run(doctor: Doctor, demo: Path, tmp_path: Path) -> None:
    runner = Runner(tmp_path)
    (runner.workspace / "requirements.txt").touch()
    done = doctor("hook", "github", "--mmdoctor", str(ROOT), "--env", "my venv", "--write", str(runner.workspace))
    assert done.returncode == 0, done.stderr
    workflow = yaml.safe_load((runner.workspace / ".github/workflows/mmdoctor.yml").read_text(encoding="utf-8"))
    action = yaml.safe_load((runner.workspace / ".github/actions/mmdoctor/action.yml").read_text(encoding="utf-8"))
    job = workflow["jobs"]["environment"]
    build = next(step for step in job["steps"] if "run" in step)
    built = runner.run({**build, "env": job["env"]}, {})
    assert built.returncode == 0, built.stderr
    install, check = action["runs"]["steps"]
    inputs = {name: row.get("default", "") for name, row in action["inputs"].items()}
    installed = runner.run(install, inputs)
    assert installed.returncode == 0, installed.stderr

    broken = runner.run(check, {**inputs, "env": "my venv"})
    assert broken.returncode == 1, broken.stderr
    assert broken.stdout.startswith("::error title=mmdoctor ")
    assert runner.output.read_text(encoding="utf-8") == "exit-code=1\n"
    assert "not healthy" in runner.summary.read_text(encoding="utf-8")
    reports = runner.workspace / "mmdoctor-report"
    before = json.loads((reports / "mmdoctor.json").read_text(encoding="utf-8"))
    assert json.loads((reports / "mmdoctor.sarif").read_text(encoding="utf-8"))["runs"][0]["results"]
    assert sorted(path.name for path in reports.iterdir()) == [
        f"mmdoctor.{kind}" for kind in ("html", "json", "sarif", "xml")
    ]

    (runner.workspace / "known.json").write_text(json.dumps(before), encoding="utf-8")
    known = runner.run(check, {**inputs, "env": "my venv", "baseline": "known.json", "depth": "quick"})
    assert known.returncode == 0, known.stdout + known.stderr
    healthy = runner.run(check, {**inputs, "env": str(demo), "fail-on": "fail"})
    assert healthy.returncode == 0, healthy.stdout + healthy.stderr
    wrong = runner.run(check, {**inputs, "env": "my venv", "depth": "$(touch broken)"})
    assert wrong.returncode == 2
    assert not (runner.workspace / "broken").exists()


@pytest.mark.essential
def test_gitlabs_script_runs(doctor: Doctor, tmp_path: Path) -> None:
    done = doctor("hook", "gitlab", "--mmdoctor", str(ROOT), "--env", "my venv")
    assert done.returncode == 0, done.stderr
    job = yaml.safe_load(done.stdout)["mmdoctor"]
    # GitLab's runner joins before_script and script into one; each line that fails ends it.
    script = "\n".join([*job["before_script"], *job["script"]])
    environment = {**doctor.environment, **job["variables"]}
    ran = subprocess.run(
        [*BASH, script], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=DEADLINE, check=False
    )
    assert ran.returncode == 1, ran.stdout + ran.stderr
    report = json.loads((tmp_path / job["artifacts"]["paths"][0]).read_text(encoding="utf-8"))
    failures = ET.parse(tmp_path / job["artifacts"]["reports"]["junit"]).getroot().get("failures")
    assert str(report["summary"]["fail"]) == failures != "0"
    assert all((tmp_path / path).exists() for path in job["artifacts"]["paths"])


# What the manifests promise a container: nothing writable but /tmp, no capability, HOME there.
CONFINED = """
mount --make-rprivate /
findmnt --noheadings --list --output TARGET --real | while read -r mount; do mount -o remount,bind,ro "$mount"; done
mount -t tmpfs none /tmp
if touch "$0" 2>/dev/null; then exit 99; fi
exec setpriv --bounding-set=-all --no-new-privs env -i PATH=/usr/bin:/bin HOME=/tmp "$@"
"""


@pytest.mark.essential
@pytest.mark.skipif(os.geteuid() != 0, reason="a read-only file system is mounted, which takes root")
def test_a_pods_command_runs_in_a_read_only_image(demo: Path) -> None:
    mmdoctor = str(Path(sys.executable).with_name("mmdoctor"))
    if mmdoctor.startswith("/tmp/"):
        pytest.skip("this checkout lies in /tmp, and a pod has one of its own there")
    init = yaml.safe_load(k8s.init_container("pose:1", str(demo), mmdoctor, "quick", 0))["spec"]["template"]["spec"]
    job = yaml.safe_load(k8s.job("pose", "pose:1", "/nothing/here", mmdoctor, "quick", 0))["spec"]
    (gate,), (look,) = init["initContainers"], job["template"]["spec"]["containers"]
    probe = subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False)
    if probe.returncode:
        pytest.skip("this machine gives no mount namespace")
    for container, wanted in ((gate, [0]), (look, job["podFailurePolicy"]["rules"][0]["onExitCodes"]["values"])):
        argv = ["unshare", "--mount", "sh", "-c", CONFINED, __file__, *container["command"]]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode in wanted, done.stdout + done.stderr
