"""Real processes: deadlines end the whole group, big output does not hang, a missing program is a value."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Optional

import pytest

from mmdoctor import ahead, system


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def test_output_and_status() -> None:
    done = system.run(python("import sys; print('out'); print('err', file=sys.stderr); sys.exit(3)"), deadline=20)
    assert (done.returncode, done.stdout, done.stderr, done.ok) == (3, "out\n", "err\n", False)


def test_much_on_both_pipes_does_not_hang() -> None:
    code = "import sys; sys.stderr.write('e' * 500000); sys.stdout.write('o' * 500000)"
    done = system.run(python(code), deadline=20)
    assert (len(done.stdout), len(done.stderr)) == (500000, 500000)


@pytest.mark.parametrize("merge", [False, True])
def test_a_deadline_ends_what_the_child_started(merge: bool) -> None:
    child = "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])"
    code = f"import subprocess, sys, time; {child}; time.sleep(60)"
    start = time.monotonic()
    done = system.run(python(code), deadline=0.5, merge=merge)
    assert done.timed_out
    assert time.monotonic() - start < 10


def test_a_program_that_is_not_there() -> None:
    for merge in (False, True):
        done = system.run(["/nonexistent/program"], deadline=1, merge=merge)
        assert done.returncode == system.NOT_STARTED
        assert "No such file" in done.stderr


def test_lines_come_as_they_are_written() -> None:
    seen: list[str] = []
    system.run(python("print('a'); print('b')"), deadline=20, on_line=seen.append)
    assert seen == ["a", "b"]


def test_a_line_that_does_not_come() -> None:
    with system.Child(python("import time; print('first', flush=True); time.sleep(60)")) as child:
        assert child.readline(20) == "first"
        with pytest.raises(TimeoutError):
            child.readline(0.2)


def test_a_signal_is_a_negative_status() -> None:
    done = system.run(python("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)"), deadline=20)
    assert done.returncode == -11


def test_what_was_begun_ahead_is_taken_up() -> None:
    argv, text = [sys.executable, "-", "asked"], "import os, sys; print(os.getpid(), sys.argv[1])"
    with system.beginning(argv, text):
        [begun] = system._BEGUN.values()
        done = system.run(argv, deadline=20, text=text)
        other = system.run(argv, deadline=20, text=text)
    assert done.stdout == f"{begun.pid} asked\n"
    assert other.ok
    assert other.stdout != done.stdout


def test_what_was_begun_ahead_and_not_asked_for_is_ended() -> None:
    with system.beginning([sys.executable, "-"], "import time; time.sleep(60)"):
        [begun] = system._BEGUN.values()
    assert begun.poll() is not None
    assert not system._BEGUN


def test_what_cannot_be_begun_ahead_is_said_when_it_is_asked_for() -> None:
    with system.beginning(["/nonexistent/program"], ""):
        assert system.run(["/nonexistent/program"], deadline=1).returncode == system.NOT_STARTED


@pytest.mark.parametrize(
    ("arguments", "env"),
    [
        ("check --quick --env /srv/env", "/srv/env"),
        ("check --env=/srv/env --format json --quick", "/srv/env"),
        ("check --env /srv/env", None),
        ("check --quick", None),
        ("check --quick --env", None),
        ("check --quick --env /srv/env --env /other", None),
        ("check --quick --env /srv/env --facts f.json", None),
        ("check --quick --env /srv/env --pretend=gpu=none", None),
        ("fix --quick --env /srv/env", None),
    ],
)
def test_a_target_is_asked_ahead_only_where_it_is_going_to_be(arguments: str, env: Optional[str]) -> None:
    assert ahead.environment(arguments.split()) == (Path(env) if env else None)
