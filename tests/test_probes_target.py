"""Real interpreters of bare venvs, made sick on purpose: each becomes a finding within its deadline."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
import time
import venv
from pathlib import Path
from typing import Callable, Optional

import pytest

import mmdoctor
from mmdoctor.probes.imports import probe_imports, steps_for
from mmdoctor.probes.target import probe_target

Make = Callable[..., Path]
TORCH = """
__version__ = "1.0"
class version:
    cuda = None
class cuda:
    is_available = staticmethod(lambda: False)
"""
CRASH = "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)"


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """A venv with hand-made packages: module name → source; and a sitecustomize."""

    def build(packages: Optional[dict[str, str]] = None, sitecustomize: str = "") -> Path:
        env = tmp_path / "env"
        venv.create(env, with_pip=False, symlinks=True)
        site = next(env.glob("lib/python*/site-packages"))
        for name, source in (packages or {}).items():
            (site / name).mkdir()
            (site / name / "__init__.py").write_text(source)
            info = site / f"{name}-1.0.dist-info"
            info.mkdir()
            (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
            (info / "RECORD").write_text(f"{name}/__init__.py,,\n{name}-1.0.dist-info/METADATA,,\n")
        if sitecustomize:
            (site / "sitecustomize.py").write_text(sitecustomize)
        return env

    return build


def check(env: Path, *options: str) -> tuple[int, dict[str, dict[str, object]], str]:
    argv = [sys.executable, "-m", "mmdoctor", "check", "--env", str(env), "--format", "json", *options]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    findings = {finding["id"]: finding for finding in json.loads(done.stdout)["findings"]}
    return done.returncode, findings, done.stderr


def test_a_bare_venv_answers(make: Make) -> None:
    target = probe_target(make({"torch": "__version__ = '1.0'"}), is_env=True)
    assert target.state == "present"
    assert target.kind == "venv"
    assert target.python == ".".join(map(str, sys.version_info[:3]))
    assert target.version("torch") == "1.0"
    assert steps_for(target) == ("torch",)


@pytest.mark.parametrize("script", sorted(Path(mmdoctor.__file__).parent.rglob("inside_*.py")), ids=lambda p: p.name)
def test_what_runs_in_the_target_is_python_3_7(script: Path) -> None:
    ast.parse(script.read_text(), feature_version=(3, 7))


def test_missing_files_and_leftovers_are_seen(make: Make) -> None:
    env = make({"mmdet": ""})
    site = next(env.glob("lib/python*/site-packages"))
    (site / "mmdet" / "__init__.py").unlink()
    (site / "~umpy").mkdir()
    target = probe_target(env, is_env=True)
    assert target.distributions[0].missing_files == ("mmdet/__init__.py",)
    assert target.leftovers == ("~umpy",)


def test_a_folder_on_pythonpath_shadows(make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    env = make({"mmcv": ""})
    (tmp_path / "work" / "mmcv").mkdir(parents=True)
    (tmp_path / "work" / "mmcv" / "__init__.py").write_text("")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "work"))
    assert probe_target(env, is_env=True).shadowed == (f"mmcv: {tmp_path / 'work' / 'mmcv'}",)


def test_a_hanging_sitecustomize_is_named(make: Make) -> None:
    target = probe_target(make(sitecustomize="import time; time.sleep(60)"), is_env=True, deadline=1.0)
    assert target.state == "broken"
    assert "sitecustomize" in str(target.problem)


def test_a_crash_at_start_is_named(make: Make) -> None:
    target = probe_target(make(sitecustomize=CRASH), is_env=True)
    assert "signal 11" in str(target.problem)


def test_a_dead_link_is_named(make: Make) -> None:
    env = make()
    python = env / "bin" / "python"
    python.unlink()
    python.symlink_to("/nonexistent/python3")
    assert "/nonexistent/python3, which is gone" in str(probe_target(env, is_env=True).problem)


def test_a_folder_without_interpreter_is_broken_an_empty_one_absent(tmp_path: Path) -> None:
    assert probe_target(tmp_path, is_env=True).state == "absent"
    (tmp_path / "file").write_text("")
    assert probe_target(tmp_path, is_env=True).state == "broken"


def test_a_fresh_process_follows_each_failure(make: Make) -> None:
    sources = {
        "torch": TORCH,
        "torchvision": "raise RuntimeError('operator torchvision::nms does not exist')",
        "mmengine": "",
        "mmdet": CRASH,
        "mmpose": "import sys; assert 'torchvision' not in sys.modules",
    }
    python = make(sources) / "bin" / "python"
    results = {result.module: result for result in probe_imports(str(python), tuple(sources))}
    assert [result.status for result in results.values()] == ["ok", "error", "ok", "crash", "ok"]
    assert results["torchvision"].packages == ("torchvision",)
    assert results["mmdet"].signal == 11


def test_what_imports_torch_is_skipped_when_torch_hangs(make: Make) -> None:
    env = make({"torch": "import time; time.sleep(60)", "cv2": "", "mmdet": "import torch"})
    start = time.monotonic()
    results = probe_imports(str(env / "bin" / "python"), ("torch", "cv2", "mmdet"), deadline=1.0)
    assert [result.status for result in results] == ["timeout", "ok", "skipped"]
    assert time.monotonic() - start < 15


@pytest.mark.skipif(not Path("/proc").exists(), reason="looks for left processes in /proc")
def test_a_killed_import_leaves_no_process(make: Make) -> None:
    child = "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(77)'])"
    env = make({"torch": f"import subprocess, sys, time; {child}; time.sleep(60)"})
    probe_imports(str(env / "bin" / "python"), ("torch",), deadline=1.0)
    time.sleep(0.2)
    lines = [_read(path) for path in Path("/proc").glob("[0-9]*/cmdline")]
    assert [line for line in lines if str(env).encode() in line and b"sleep(77)" in line] == []


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


@pytest.mark.parametrize(
    ("packages", "sitecustomize", "finding", "cause"),
    [
        ({"torch": "import time; time.sleep(60)"}, "", "TRC001", "torch-install-broken"),
        ({"torch": CRASH}, "", "TRC001", "torch-install-broken"),
        ({}, CRASH, "ENV001", "interpreter-broken"),
    ],
    ids=["hang-at-torch", "segfault-at-torch", "crash-at-start"],
)
def test_check_makes_it_a_finding(
    make: Make, packages: dict[str, str], sitecustomize: str, finding: str, cause: str
) -> None:
    status, findings, stderr = check(make(packages, sitecustomize), "--deadline", "2")
    assert status == 1
    assert findings[finding]["status"] == "fail"
    assert findings[finding]["cause"] == cause
    assert "Traceback" not in stderr


def test_check_hangs_no_longer_than_its_deadline_on_a_hook_at_torch(make: Make) -> None:
    hook = (
        "import sys, time\n"
        "class Hang:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'torch':\n"
        "            time.sleep(60)\n"
        "sys.meta_path.insert(0, Hang())\n"
    )
    start = time.monotonic()
    status, findings, _ = check(make({"torch": "", "mmdet": "import torch"}, hook), "--deadline", "2")
    assert status == 1
    assert "hangs" in str(findings["TRC001"]["detail"])
    assert findings["MML002"]["status"] == "skip"
    assert findings["MML002"]["caused_by"] == ["TRC001"]
    assert time.monotonic() - start < 30


def test_check_of_nothing(tmp_path: Path) -> None:
    status, findings, stderr = check(tmp_path / "nowhere")
    assert status == 1
    assert list(findings) == ["ENV001"]
    assert "Traceback" not in stderr
    assert not os.path.lexists(tmp_path / "nowhere")
