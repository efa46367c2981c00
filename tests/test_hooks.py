"""The systemd drop-in: its text, its escapes, and systemd's own opinion of it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from mmdoctor import system
from mmdoctor.errors import UsageError
from mmdoctor.hooks.systemd import drop_in, drop_in_path, escape, unit_name

DATA = Path(__file__).parent / "data" / "hooks"
ANALYZE = shutil.which("systemd-analyze")


def test_drop_in_is_the_golden_one() -> None:
    text = drop_in("mmpose-service", "/usr/local/bin/mmdoctor", "/opt/padel/mmpose/venv", 30)
    assert text == (DATA / "50-mmdoctor.conf").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("unit", "name"),
    [
        ("mmpose-service", "mmpose-service"),
        ("mmpose-service.service", "mmpose-service"),
        ("worker@", "worker@"),
        ("worker@gpu-0.service", "worker@gpu-0"),
        (r"dev-disk\x2d1", r"dev-disk\x2d1"),
        ("pose.v1", "pose.v1"),
    ],
)
def test_unit_name(unit: str, name: str) -> None:
    assert unit_name(unit) == name
    assert drop_in_path(unit) == f"/etc/systemd/system/{name}.service.d/50-mmdoctor.conf"


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
        ("/opt/my venv", '"/opt/my venv"'),
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
    ("mmdoctor", "env", "deadline", "words"),
    [
        ("mmdoctor", "/opt/venv", 30, "absolute"),
        ("/usr/bin/mmdoctor", "venv", 30, "absolute"),
        ("/usr/bin/mmdoctor", "/opt/venv\nExecStartPre=/bin/rm", 30, "one line"),
        ("/usr/bin/mmdoctor", "/opt/venv", 0, "1 to 80"),
        ("/usr/bin/mmdoctor", "/opt/venv", 90, "1 to 80"),
    ],
)
def test_what_is_refused(mmdoctor: str, env: str, deadline: int, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        drop_in("pose", mmdoctor, env, deadline)


def verify(folder: Path, text: str) -> str:
    """What systemd says against a minimal unit with this drop-in; it exits 0 even for lines that it ignores."""
    (folder / "pose.service.d").mkdir()
    (folder / "pose.service").write_text("[Service]\nExecStart=/bin/true\n", encoding="utf-8")
    (folder / "pose.service.d/50-mmdoctor.conf").write_text(text, encoding="utf-8")
    done = system.run([str(ANALYZE), "verify", str(folder / "pose.service")], deadline=60, merge=True)
    said = [line for line in done.stdout.splitlines() if str(folder) in line or "pose.service" in line]
    assert done.ok or said, done.stdout
    return "\n".join(said)


@pytest.mark.essential
@pytest.mark.skipif(ANALYZE is None, reason="systemd-analyze is not installed (Debian: apt-get install systemd)")
@pytest.mark.parametrize("env", ["/opt/padel/mmpose/venv", '/opt/a b/50%/$HOME/it\'s "q"\\x;'])
def test_systemd_accepts_it(env: str, tmp_path: Path) -> None:
    assert verify(tmp_path, drop_in("pose", "/usr/local/bin/mmdoctor", env, 30)) == ""


@pytest.mark.essential
@pytest.mark.skipif(ANALYZE is None, reason="systemd-analyze is not installed (Debian: apt-get install systemd)")
def test_systemd_would_say_so(tmp_path: Path) -> None:
    assert "quoting" in verify(tmp_path, '[Service]\nExecStartPre=/usr/bin/timeout "open\n')
