"""Real processes: deadlines end the whole group, big output does not hang, a missing program is a value."""

from __future__ import annotations

import sys
import time

import pytest

from mmdoctor import system


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
