"""The systemd hook: its text, its rules, its escapes, its files, and systemd's own opinion of it.

What systemd does with it is in tests/real/test_systemd.py.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
from pathlib import Path

import pytest
from msgspec.structs import replace

from mmdoctor import system
from mmdoctor.__main__ import _run
from mmdoctor.errors import RefusedError, UndeterminedError, UsageError
from mmdoctor.hooks.readiness import tell_systemd
from mmdoctor.hooks.systemd import (
    HEAL_SCRIPT,
    MARK,
    Hook,
    Service,
    deadline_of,
    drop_in_path,
    endless,
    escape,
    files,
    healing_path,
    unit_name,
)
from mmdoctor.hooks.systemd_here import install, remove, seconds, service_of
from tests.conftest import DATA, golden

ANALYZE = shutil.which("systemd-analyze")
HOOK = Hook(unit="mmpose-service", mode="gate", mmdoctor="/opt/mmdoctor/bin/mmdoctor", env="/opt/padel/mmpose/venv")
HEAL = replace(HOOK, mode="heal", healer="pose", recipe="padel-service", environment={"UV_CACHE_DIR": "/srv/$x 5%"})
SERVICE = Service(restart="always", restart_seconds=5, notify_access="none")
AWKWARD = '/opt/a b/50%/$HOME/it\'s "q"\\x;é'


@pytest.mark.parametrize("hook", [HOOK, replace(HOOK, mode="condition"), HEAL], ids=lambda hook: hook.mode)
def test_the_files_are_the_golden_ones(hook: Hook) -> None:
    golden(f"hooks/{hook.mode}.txt", "\n".join(files(hook, SERVICE).values()))


@pytest.mark.parametrize(
    ("unit", "name", "healing"),
    [
        ("mmpose-service", "mmpose-service", "mmdoctor-heal-mmpose-service"),
        ("worker@", "worker@", "mmdoctor-heal-worker"),
        ("worker@gpu-0.service", "worker@gpu-0", "mmdoctor-heal-worker-gpu-0"),
        (r"dev-disk\x2d1", r"dev-disk\x2d1", r"mmdoctor-heal-dev-disk\x2d1"),
        ("pose.v1", "pose.v1", "mmdoctor-heal-pose.v1"),
    ],
)
def test_unit_name(unit: str, name: str, healing: str) -> None:
    assert unit_name(unit) == name
    assert drop_in_path(unit) == f"/etc/systemd/system/{name}.service.d/50-mmdoctor.conf"
    assert healing_path(unit) == f"/etc/systemd/system/{healing}.service"


@pytest.mark.parametrize(
    "unit", ["", ".service", "a b", "../evil", "pose/x", "backup.timer", "é", "a\nb", "x" * 250, "@"]
)
def test_what_is_no_unit_name(unit: str) -> None:
    with pytest.raises(UsageError) as caught:
        unit_name(unit)
    assert repr(unit) in caught.value.what
    assert caught.value.hint


@pytest.mark.parametrize(
    ("word", "escaped"),
    [
        ("/opt/venv", "/opt/venv"),
        ("/opt/50%", "/opt/50%%"),
        ("/opt/$HOME", "/opt/$$HOME"),
        ("/opt/${HOME} x", '"/opt/$${HOME} x"'),
        ('/opt/"q"', '"/opt/\\"q\\""'),
        ("/opt/it's", '"/opt/it\'s"'),
        ("/opt/a\\b", '"/opt/a\\\\b"'),
        ("/opt/é", '"/opt/é"'),
        (";", '";"'),
        ("", '""'),
    ],
)
def test_escape(word: str, escaped: str) -> None:
    assert escape(word) == escaped


@pytest.mark.parametrize(
    ("hook", "service", "words"),
    [
        (replace(HOOK, mmdoctor="mmdoctor"), SERVICE, "absolute"),
        (replace(HOOK, env="/opt/venv\nExecStartPre=/bin/rm"), SERVICE, "one line"),
        (replace(HEAL, environment={"UV_CACHE_DIR": "/x\nUser=root"}), SERVICE, "one line"),
        (replace(HOOK, deadline=60), Service(start_seconds=45), "TimeoutStartSec= of mmpose-service is 45 s"),
        (HOOK, Service(start_seconds=12), "TimeoutStartSec= of mmpose-service is 12 s"),
        (HOOK, Service(success=("143", "3")), "counts 3 as success"),
        (HOOK, Service(success=("SIGKILL",)), "counts SIGKILL as success"),
        (HOOK, Service(user="pose", permissions_start_only=True), "as root"),
    ],
)
def test_what_is_refused(hook: Hook, service: Service, words: str) -> None:
    with pytest.raises((UsageError, RefusedError), match=words) as caught:
        files(hook, service)
    assert caught.value.hint


def test_the_units_own_settings_decide() -> None:
    def text(**settings: object) -> str:
        return files(HOOK, replace(SERVICE, **settings))[drop_in_path(HOOK.unit)]

    assert "StartLimitIntervalSec=226\n" in text()  # 5 * (30 + 10 + 5), and one
    assert "StartLimit" not in text(restart="no")
    assert "StartLimit" not in text(interval=600.0)
    assert "StartLimit" not in text(interval=None)  # infinity
    assert "StartLimit" not in text(interval=0.0)
    assert endless(replace(SERVICE, interval=0.0))
    assert endless(replace(SERVICE, burst=0))
    assert "NotifyAccess=exec" in text(notify_access="main")
    assert "NotifyAccess=" not in text(notify_access="all")
    assert "NotifyAccess=" not in text(notify_access="")  # not known: nothing is narrowed
    assert "\nRuntimeDirectory=" not in text(runtime_directories=("pose", "x"))
    assert "--ready /run/pose/mmdoctor-ready.json" in text(runtime_directories=("pose", "x"))
    assert deadline_of(HOOK, Service(start_seconds=25)) == 15
    assert deadline_of(HOOK, Service(start_seconds=None)) == 30
    assert deadline_of(replace(HOOK, deadline=300), Service(start_seconds=None)) == 300


def test_what_systemctl_shows_is_read() -> None:
    found = {
        "User": "pose",
        "Restart": "always",
        "RestartUSec": "1min 30s",
        "TimeoutStartUSec": "infinity",
        "StartLimitIntervalUSec": "0",
        "StartLimitBurst": "5",
        "NotifyAccess": "main",
        "RuntimeDirectory": "bar/baz foo",
        "SuccessExitStatus": "1 3 KILL",
        "DynamicUser": "no",
    }
    assert service_of(found, "[Service]\n# PermissionsStartOnly=yes\n") == Service(
        user="pose",
        restart="always",
        restart_seconds=90,
        start_seconds=None,
        interval=0,
        notify_access="main",
        runtime_directories=("bar/baz", "foo"),
        success=("1", "3", "KILL"),
    )
    assert service_of(found, "[Service]\nPermissionsStartOnly = true\n").permissions_start_only
    growing = {**found, "RestartSteps": "5", "RestartMaxDelayUSec": "5min"}
    assert service_of(growing, "").restart_seconds == 300
    assert [seconds(text) for text in ("100ms", "10s", "1h 2min", "3d", "infinity")] == [0.1, 10, 3720, 259200, None]
    with pytest.raises(UndeterminedError, match="soon"):
        seconds("soon")


def test_a_second_hook_is_made_from_the_unit_as_it_is_without_the_first() -> None:
    first = files(HOOK, SERVICE)
    text = "\n\n".join(f"# {path}\n{text}" for path, text in {"/etc/x.service": "[Service]\n", **first}.items())
    merged = {
        "Restart": "always",
        "RestartUSec": "5s",
        "StartLimitIntervalUSec": "3min 46s",
        "StartLimitBurst": "5",
        "NotifyAccess": "exec",
        "RuntimeDirectory": "mmdoctor-mmpose-service",
    }
    assert files(HOOK, service_of(merged, text)) == first


def test_only_what_is_broken_is_healed(tmp_path: Path) -> None:
    """The shell's part of the healing, with a program in mmdoctor's place that ends as it is told."""
    program = tmp_path / "my doctor"
    program.write_text('#!/bin/sh\necho "$@" >>"$0.log"\n[ "$1" = fix ] || exit "$CHECK"\nexit 5\n', encoding="utf-8")
    program.chmod(0o755)
    argv = ["/bin/sh", "-c", HEAL_SCRIPT, "mmdoctor", str(program), "30", AWKWARD, "padel-service"]
    for found, outcome in ((0, 0), (3, 3), (70, 70), (1, 5)):
        assert system.run(argv, deadline=20, env={**os.environ, "CHECK": str(found)}).returncode == outcome
    looked, fixed = (
        f"check --quick --format journal --deadline 30 --env {AWKWARD}",
        (f"fix --apply --yes --offline --no-build --recipe padel-service --env {AWKWARD}"),
    )
    assert (tmp_path / "my doctor.log").read_text(encoding="utf-8").splitlines() == [looked] * 4 + [fixed]


def test_installed_whole_and_removed_without_a_trace(tmp_path: Path) -> None:
    def present() -> dict[str, str]:
        return {str(p.relative_to(tmp_path)): p.read_text() for p in tmp_path.rglob("*") if p.is_file()}

    gate, heal = files(HOOK, SERVICE), files(HEAL, SERVICE)
    install(HEAL, heal, tmp_path)
    assert present() == {path[1:]: text for path, text in heal.items()}
    install(HOOK, gate, tmp_path)  # another mode: what the first one had besides is gone
    assert present() == {path[1:]: text for path, text in gate.items()}
    ready = tmp_path / "run/mmdoctor-mmpose-service/mmdoctor-ready.json"
    ready.parent.mkdir(parents=True)
    ready.touch()
    other = tmp_path / "run/mmdoctor-mmpose-service-2"
    other.mkdir()
    assert remove(HOOK.unit, tmp_path) == [str(tmp_path / path[1:]) for path in gate]
    assert present() == {}
    assert other.exists()
    assert not list((tmp_path / "etc/systemd/system").iterdir())
    assert remove(HOOK.unit, tmp_path) == []
    install(HOOK, files(HOOK, replace(SERVICE, runtime_directories=("pose",))), tmp_path)
    ready = tmp_path / "run/pose/mmdoctor-ready.json"
    ready.parent.mkdir()
    ready.touch()
    remove(HOOK.unit, tmp_path)
    assert not list(ready.parent.iterdir())  # the folder is the service's


def test_a_file_of_somebody_elses_stays(tmp_path: Path) -> None:
    theirs = tmp_path / drop_in_path(HOOK.unit)[1:]
    theirs.parent.mkdir(parents=True)
    theirs.write_text("[Service]\nNice=5\n", encoding="utf-8")
    for call in (lambda: install(HEAL, files(HEAL, SERVICE), tmp_path), lambda: remove(HOOK.unit, tmp_path)):
        with pytest.raises(RefusedError, match="did not write it"):
            call()
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == [theirs]
    assert MARK not in theirs.read_text(encoding="utf-8")


def test_a_look_leaves_its_verdict_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The readiness file is there after a look that passed, and never else; systemd hears of each verdict."""
    ready = tmp_path / "ready.json"

    def look(facts: str) -> tuple[int, str]:
        ready.write_text("of an earlier look", encoding="utf-8")
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
            (tmp_path / "notify").unlink(missing_ok=True)
            systemd.bind(str(tmp_path / "notify"))
            systemd.setblocking(False)
            code = _run(["check", "--facts", facts, "--format", "journal", "--notify", "--ready", str(ready)])
            try:
                return code, systemd.recv(2000).decode()
            except BlockingIOError:
                return code, ""

    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    code, status = look(str(DATA / "machines/natural-breakage.json"))
    assert code == 1
    assert status.startswith("STATUS=mmdoctor: FAIL ")
    assert not ready.exists()
    code, status = look(str(DATA / "machines/healthy-cpu.json"))
    assert code == 0
    assert status.startswith("STATUS=mmdoctor: healthy: ")
    assert json.loads(ready.read_text(encoding="utf-8"))["ok"] is True
    assert look("/no/such/facts.json") == (2, "")
    assert not ready.exists()


def test_status_goes_to_an_abstract_socket_too(monkeypatch: pytest.MonkeyPatch) -> None:
    address = f"@mmdoctor-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(address.replace("@", "\0"))
        monkeypatch.setenv("NOTIFY_SOCKET", address)
        tell_systemd("mmdoctor: not healthy: é")
        assert systemd.recv(1000).decode() == "STATUS=mmdoctor: not healthy: é"
    monkeypatch.delenv("NOTIFY_SOCKET")
    tell_systemd("nobody is there, and nothing is wrong with that")


def verify(folder: Path, texts: dict[str, str]) -> str:
    """What systemd says of a minimal unit with these files; it exits 0 even for lines that it ignores."""
    for path, text in texts.items():
        file = folder / path.partition("/system/")[2]
        file.parent.mkdir(exist_ok=True)
        file.write_text(text.replace(HOOK.mmdoctor, "/bin/true"), encoding="utf-8")
    (folder / "mmpose-service.service").write_text("[Service]\nExecStart=/bin/true\n", encoding="utf-8")
    argv = [str(ANALYZE), "verify", str(folder / "mmpose-service.service")]
    environment = {**os.environ, "SYSTEMD_UNIT_PATH": f"{folder}:"}
    done = system.run(argv, deadline=60, merge=True, env=environment)
    said = [line for line in done.stdout.splitlines() if str(folder) in line or "mmpose-service" in line]
    assert done.ok or said, done.stdout
    return "\n".join(said)


@pytest.mark.skipif(ANALYZE is None, reason="systemd-analyze is not installed (Debian: apt-get install systemd)")
@pytest.mark.parametrize("hook", [HOOK, replace(HOOK, mode="condition"), HEAL], ids=lambda hook: hook.mode)
def test_systemd_accepts_it(hook: Hook, tmp_path: Path) -> None:
    assert verify(tmp_path, files(replace(hook, env=AWKWARD), SERVICE)) == ""


@pytest.mark.skipif(ANALYZE is None, reason="systemd-analyze is not installed (Debian: apt-get install systemd)")
def test_systemd_would_say_so(tmp_path: Path) -> None:
    broken = {drop_in_path(HOOK.unit): '[Service]\nExecStartPre=/bin/true "open\n'}
    assert "quoting" in verify(tmp_path, broken)
