"""`check` as a gate: exit codes row by row, deadlines that name what they hit, verdicts kept and doubted, /healthz."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Callable, Optional

import jsonschema
import msgspec
import pytest
from msgspec.structs import replace

import mmdoctor
from mmdoctor import marks
from mmdoctor.cli.looking import reported
from mmdoctor.matrix import load_matrix, matrix_file
from mmdoctor.matrix_model import Matrix
from mmdoctor.model import Facts, Gpu, GpuDevice
from mmdoctor.report import healthz
from tests.conftest import DATA, Machine, import_of, quick
from tests.test_probes_target import Make, make, put, site_packages  # noqa: F401  a fixture

SCHEMAS = Path(mmdoctor.__file__).parent / "schemas"
HANG = "import time\ntime.sleep(77)\n"
Check = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    settings = {key: value for key, value in os.environ.items() if key not in ("VIRTUAL_ENV", "CONDA_PREFIX")}
    return {**settings, "MMDOCTOR_CACHE": str(tmp_path / "cache"), "PYTHONDONTWRITEBYTECODE": "1"}


def argv(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "mmdoctor", "check", *arguments]


@pytest.fixture
def check(environment: dict[str, str]) -> Check:
    def run(*arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            argv(*arguments),
            capture_output=True,
            text=True,
            timeout=60,
            env={**environment, **settings},
            check=False,
        )
        assert "Traceback" not in done.stderr
        return done

    return run


def running(env: Path) -> list[str]:
    """The processes whose command line names this environment."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            line = (process / "cmdline").read_bytes()
        except OSError:
            continue
        if str(env).encode() in line and b"mmdoctor" not in line:
            found.append(line.decode(errors="replace"))
    return found


def gone(env: Path) -> bool:
    """Whether its processes are gone, which the kernel may take a moment for."""
    until = time.monotonic() + 5
    while running(env) and time.monotonic() < until:
        time.sleep(0.05)
    return not running(env)


# ------------------------------------------------------------------------------------------------------- exit codes


def test_exit_0_1_and_2(check: Check) -> None:
    assert check("--facts", str(DATA / "machines/healthy-cpu.json")).returncode == 0
    assert check("--facts", str(DATA / "machines/natural-breakage.json")).returncode == 1
    for wrong in (
        ("--cached", "soon", "--env", "x"),
        ("--cached", "1h", "--facts", str(DATA / "machines/healthy-cpu.json")),
        ("--wait", "1", "--facts", str(DATA / "machines/healthy-cpu.json")),
        ("--deadline", "0", "--env", "x"),
    ):
        done = check(*wrong)
        assert (done.returncode, done.stdout) == (2, ""), wrong


def test_exit_3_a_deadline_names_what_it_hit_and_leaves_nobody_behind(check: Check, make: Make) -> None:  # noqa: F811
    env = make({"torch": HANG, "mmpose": ""})
    start = time.monotonic()
    done = check("--env", str(env), "--deadline", "4", "--format", "json")
    report = json.loads(done.stdout)
    jsonschema.validate(report, json.loads((SCHEMAS / "report.json").read_text()))
    found = {finding["id"]: finding for finding in report["findings"]}
    assert found["RUN001"]["detail"] == "the deadline of 4 s ended the look while importing torch"
    assert found["RUN001"]["severity"] == "error"
    assert found["MML003"]["status"] == "skip"  # nothing that was not tried passes
    # This environment lacks half the stack, which was seen before the deadline: findings weigh more than what is open.
    assert done.returncode == 1
    assert gone(env)
    assert time.monotonic() - start < 20


def test_exit_3_where_nothing_else_was_found(check: Check, make: Make) -> None:  # noqa: F811
    env = make({}, HANG)
    done = check("--env", str(env), "--quick", "--deadline", "2", "--format", "json")
    assert done.returncode == 3
    report = json.loads(done.stdout)
    assert [(f["id"], f["detail"]) for f in report["findings"]] == [
        ("RUN001", "the deadline of 2 s ended the look while asking the interpreter")
    ]
    assert gone(env)


def test_exit_70_when_mmdoctor_itself_fails(environment: dict[str, str]) -> None:
    """A report that cannot be written is no healthy environment."""
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    with Path("/dev/full").open("w") as full:
        for facts in ("healthy-cpu", "natural-breakage"):
            line = argv("--facts", str(DATA / f"machines/{facts}.json"))
            done = subprocess.run(line, stdout=full, stderr=subprocess.PIPE, env=environment, timeout=60, check=False)
            assert done.returncode == 70
            assert b"No space left" in done.stderr


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM])
def test_exit_130_takes_its_children_along(environment: dict[str, str], make: Make, sign: signal.Signals) -> None:  # noqa: F811
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's `&` has it ignored, and children inherit that
    env = make({"torch": HANG})
    line = argv("--env", str(env))
    process = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment)
    until = time.monotonic() + 30
    while not any(" straight " in one.replace("\0", " ") for one in running(env)):
        assert time.monotonic() < until
        time.sleep(0.05)
    process.send_signal(sign)
    _, stderr = process.communicate(timeout=20)
    assert process.returncode == 130
    assert stderr.endswith(b"mmdoctor: interrupted\n")
    assert gone(env)


# ---------------------------------------------------------------------------------------------------------- cached


def aged(done: subprocess.CompletedProcess[str]) -> Optional[float]:
    """How old the verdict is, None where it is new; every one here is about the same findings."""
    report = json.loads(done.stdout)
    jsonschema.validate(report, json.loads((SCHEMAS / "report.json").read_text()))
    assert done.returncode == 1
    return None if report["cached"] is None else float(report["cached"]["age_seconds"])


def test_the_last_verdict_is_said_again_until_something_changes(check: Check, make: Make, tmp_path: Path) -> None:  # noqa: F811
    env = make({"numpy": "", "mmcv": ""})
    site = site_packages(env)
    extension = put(site / "mmcv" / "_ext.so", "compiled")
    settle(env)
    ask = ("--env", str(env), "--quick", "--cached", "1h", "--format", "json")
    assert aged(check(*ask)) is None
    for _ in range(2):
        done = check(*ask)
        assert (aged(done) or -1) >= 0
        assert done.stderr == ""
    assert "nothing that decides it has changed since (--cached)" in check(*ask[:-1], "text").stdout
    changes: dict[str, Callable[[], Any]] = {
        "a compiled module in place": lambda: extension.write_text("compileD"),
        "an upgrade": lambda: (site / "numpy-1.0.dist-info").rename(site / "numpy-2.0.dist-info"),
        "an install": lambda: put(site / "colorama-1.0.dist-info" / "METADATA", "Name: colorama\nVersion: 1.0\n"),
        "an uninstall": (site / "numpy" / "__init__.py").unlink,
    }
    for what, change in changes.items():
        change()
        settle(env)
        done = check(*ask)
        assert aged(done) is None, what
        assert "what the environment holds changed" in done.stderr, what
        assert aged(check(*ask)) is not None, what
    assert aged(check(*ask, LD_LIBRARY_PATH="/opt/other")) is None  # another question
    assert aged(check(*ask[:3], "--cached", "0s", *ask[5:])) is None  # too old
    kept = next((tmp_path / "cache").glob("kept-*"))
    for file in kept.glob("*quick.json"):
        file.write_bytes(file.read_bytes()[:1000])
    for file in kept.glob("*=*.json"):
        file.write_text("{")
    assert aged(check(*ask)) is None  # damaged: doubted, and no error
    assert not list(kept.glob(".draft-*"))


def settle(env: Path) -> None:
    """Let what was just written be older than the look that follows."""
    newest = max(path.lstat().st_mtime for path in env.rglob("*"))
    time.sleep(max(0.0, newest + 0.05 - time.time()))


def test_a_quick_verdict_does_not_stand_for_a_full_one(check: Check, make: Make) -> None:  # noqa: F811
    env = make({"numpy": ""})
    settle(env)
    ask = ("--env", str(env), "--cached", "1h", "--format", "json")
    assert aged(check(*ask, "--quick")) is None
    assert aged(check(*ask)) is None
    done = check(*ask, "--quick")
    assert aged(done) is not None
    assert json.loads(done.stdout)["facts"]["quick"] is False  # the full one, which says more


def test_an_open_verdict_is_not_kept_and_takes_the_older_one_away(check: Check, make: Make) -> None:  # noqa: F811
    env = make({"numpy": ""})
    ask = ("--env", str(env), "--quick", "--cached", "1h")
    settle(env)
    check(*ask)
    hook = put(site_packages(env) / "sitecustomize.py", HANG)
    assert check(*ask, "--deadline", "2").returncode == 3
    hook.unlink()
    settle(env)
    assert "there is no verdict on it yet" in check(*ask).stderr


def test_where_nothing_can_be_kept_it_goes_on_and_says_so(check: Check, make: Make, tmp_path: Path) -> None:  # noqa: F811
    env = make({"numpy": ""})
    settle(env)
    (tmp_path / "file").write_text("")
    done = check("--env", str(env), "--quick", "--cached", "1h", MMDOCTOR_CACHE=str(tmp_path / "file" / "cache"))
    assert done.returncode == 1
    assert "this verdict is not kept" in done.stderr


def test_what_another_user_may_have_written_is_not_read(tmp_path: Path) -> None:
    folder = str(tmp_path / "kept")
    marks.write(folder, "mine.json", b"{}")
    mine = Path(folder, "mine.json")
    assert (marks.read(str(mine)), mine.stat().st_mode & 0o777) == (b"{}", 0o600)
    mine.chmod(0o622)
    assert marks.read(str(mine)) is None
    mine.chmod(0o600)
    (tmp_path / "link.json").symlink_to(mine)
    assert marks.read(str(tmp_path / "link.json")) is None
    Path(folder).chmod(0o777)
    with pytest.raises(PermissionError):
        marks.write(folder, "theirs.json", b"{}")
    if os.geteuid() == 0:
        os.chown(mine, 12345, 12345)
        assert marks.read(str(mine)) is None


def test_the_folder_of_what_is_kept_does_not_grow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(marks, "KEPT_MOST", 3)
    folder = tmp_path / "kept"
    for number in range(6):
        marks.write(str(folder), f"{number}.json", b"{}")
        os.utime(folder / f"{number}.json", (number, time.time() - 60 + number))
    draft = put(folder / ".draft-1-killed", "")
    os.utime(draft, (0, 0))
    marks.write(str(folder), "last.json", b"{}")
    assert sorted(path.name for path in folder.iterdir()) == ["4.json", "5.json", "last.json"]


def test_the_matrix_is_the_same_from_what_was_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MMDOCTOR_CACHE", str(tmp_path))
    from_yaml = load_matrix(matrix_file())
    assert load_matrix() == from_yaml
    [kept] = tmp_path.glob("kept-*/matrix-*.json")
    assert load_matrix() == from_yaml
    kept.write_text("{}")
    assert load_matrix() == from_yaml


# ------------------------------------------------------------------------------------------------------------ wait


def test_wait_looks_again_and_says_each_change(check: Check, make: Make) -> None:  # noqa: F811
    env = make({"numpy": ""})
    done = check("--env", str(env), "--quick", "--wait", "2")
    assert done.returncode == 1
    said = [line for line in done.stderr.splitlines() if "not healthy" in line]
    assert len(said) == 1  # two looks or three, one verdict
    assert "looking again for" in said[0]


# --------------------------------------------------------------------------------------------------------- healthz


def payload(facts: Facts, matrix: Matrix) -> dict[str, Any]:
    report = reported(facts, matrix, 1.0)
    value: dict[str, Any] = json.loads(healthz.render(report))
    jsonschema.validate(value, json.loads((SCHEMAS / "health.json").read_text()))
    # Every field that is null is one that says why, or is known not to be there.
    known = {"cached", "gpu_device", "gpu_driver", "mmcv_cuda", "torch_cuda"}
    assert {name for name, field in value.items() if field is None} - known <= set(value["unknown"]), value
    return value


def test_healthz_of_what_is_healthy_and_what_is_not(machine: Machine, matrix: Matrix) -> None:
    healthy = payload(machine("healthy-cpu"), matrix)
    assert (healthy["status"], healthy["http_status"], healthy["findings"]) == ("ok", 200, [])
    assert (healthy["cuda_available"], healthy["mmcv_version"], healthy["mmpose_version"]) == (False, "2.1.0", "1.3.2")
    assert healthy["mmcv_cuda"] is None
    assert "mmcv_cuda" not in healthy["unknown"]  # compiled for the CPU, which is known
    broken = payload(machine("natural-breakage"), matrix)
    assert (broken["status"], broken["http_status"]) == ("broken", 503)
    assert any(line.startswith("XTC001") for line in broken["findings"])
    # What is null has its reason, and nothing that nobody looked at is said to be so.
    looked = payload(quick(machine("healthy-cpu")), matrix)
    assert looked["cuda_available"] is None
    assert looked["unknown"]["cuda_available"] == "torch was not imported: the look was quick"
    late = payload(replace(quick(machine("healthy-cpu")), unfinished="the deadline of 2 s ended the look"), matrix)
    assert (late["status"], late["http_status"]) == ("unknown", 503)
    assert late["findings"] == ["RUN001 the look came to its end: the deadline of 2 s ended the look"]


def test_healthz_on_a_gpu(machine: Machine, matrix: Matrix) -> None:
    device = GpuDevice(name="NVIDIA H200", compute_capability="9.0", memory_bytes=1 << 37)
    gpu = Gpu(driver="550.144.03", source="nvml", cuda_ceiling="12.4", devices=(device,), reason=None)
    facts = replace(machine("healthy-cpu"), gpu=gpu)
    torch, ops = facts.imported("torch"), facts.imported("mmcv.ops")
    assert torch is not None
    assert ops is not None
    facts = import_of(facts, "torch", "ok", data={**torch.data, "cuda_available": "True"})
    facts = import_of(facts, "mmcv.ops", "ok", data={**ops.data, "compiling_cuda": "12.1"})
    seen = payload(facts, matrix)
    assert (seen["cuda_available"], seen["gpu_device"], seen["mmcv_cuda"]) == (True, "NVIDIA H200", "12.1")
    assert seen["gpu_driver"] == "550.144.03"


def test_healthz_replays(check: Check) -> None:
    done = check("--facts", str(DATA / "machines/healthy-cpu.json"), "--format", "healthz")
    assert done.returncode == 0
    value = json.loads(done.stdout)
    assert msgspec.json.decode(done.stdout, type=dict)["http_status"] == value["http_status"] == 200
