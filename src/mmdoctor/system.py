"""The port to the machine: run a command under a deadline, stream a child's lines, look for a program.

Sole user of `subprocess`. Every child gets its own process group, so that a deadline or an interrupt ends it with all
that it started.
"""

from __future__ import annotations

import os
import queue
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Callable, NamedTuple, Optional

from mmdoctor.work import KILL, this_work

NOT_STARTED = 127
GRACE_SECONDS = 2.0


PIPE_BYTES = 60_000  # a pipe holds 64 KB (pipe(7)); a page less where it is not empty
# What was started ahead of being asked for, by its words.
_BEGUN: dict[tuple[tuple[str, ...], str], subprocess.Popen[str]] = {}


class Completed(NamedTuple):
    """How a command ended. `returncode` is negative for a signal, `NOT_STARTED` when the program could not be run."""

    returncode: int
    stdout: str
    stderr: str
    timed_out: bool
    duration_ms: float

    @property
    def ok(self) -> bool:
        """Whether the command ended by itself with 0."""
        return self.returncode == 0 and not self.timed_out


class Child:
    """A running command whose merged output is read line by line, each with a deadline of its own."""

    def __init__(
        self,
        argv: Sequence[str],
        *,
        env: Optional[Mapping[str, str]] = None,
        cwd: Optional[Path] = None,
        text: str = "",
    ) -> None:
        """Start `argv`; `text` goes to its standard input. Raises OSError when the program cannot be started."""
        self._process = _start(argv, env, cwd, subprocess.STDOUT)
        self._lines: queue.Queue[Optional[str]] = queue.Queue()
        threading.Thread(target=self._write, args=(text,), daemon=True).start()
        threading.Thread(target=self._read, daemon=True).start()

    @property
    def pid(self) -> int:
        """The number of the process and, on POSIX, of its group."""
        return self._process.pid

    def _write(self, text: str) -> None:
        stdin = self._process.stdin
        if stdin is not None:
            with suppress(OSError):  # a child that does not read its input is its own affair
                stdin.write(text)
            with suppress(OSError):
                stdin.close()

    def _read(self) -> None:
        stdout = self._process.stdout
        if stdout is not None:
            with suppress(ValueError, OSError):  # closed by kill()
                for line in stdout:
                    self._lines.put(line.rstrip("\r\n"))
        self._lines.put(None)

    def readline(self, deadline: float) -> Optional[str]:
        """The next line without its end, None at the end of output; TimeoutError after `deadline` seconds."""
        try:
            return self._lines.get(timeout=max(deadline, 0.0))
        except queue.Empty:
            raise TimeoutError from None

    def wait(self, deadline: float = 10.0) -> int:
        """The exit status (negative: a signal); the child is killed when it has not ended after `deadline` seconds."""
        try:
            return self._process.wait(deadline)
        except subprocess.TimeoutExpired:
            self.kill()
            return self._process.wait()

    def kill(self) -> None:
        """End the child and its whole process group: politely, then not."""
        _end(self._process)

    def __enter__(self) -> Child:
        return self

    def __exit__(
        self, kind: Optional[type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        self.kill()
        if self._process.stdout is not None:
            self._process.stdout.close()


def _start(
    argv: Sequence[str], env: Optional[Mapping[str, str]], cwd: Optional[Path], stderr: int
) -> subprocess.Popen[str]:
    return this_work().start(
        lambda: subprocess.Popen(
            list(argv),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            env=None if env is None else dict(env),
            cwd=cwd,
            start_new_session=os.name == "posix",
            text=True,
            encoding="utf-8",
            errors="replace",
        )
    )


def _end(process: subprocess.Popen[str]) -> None:
    """End a process with its group: asked first, then killed; killed at once when an interrupt comes meanwhile."""
    try:
        _signal(process, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(GRACE_SECONDS)
            if not _group_alive(process.pid):
                return
    except BaseException:
        _signal(process, KILL)
        raise
    _signal(process, KILL)
    with suppress(subprocess.TimeoutExpired):
        process.wait(GRACE_SECONDS)


def _signal(process: subprocess.Popen[str], sign: int) -> None:
    if os.name == "posix":
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, sign)
    elif process.poll() is None:
        process.terminate()


def _group_alive(group: int) -> bool:
    if os.name != "posix":
        return False
    try:
        os.killpg(group, 0)
    except OSError:
        return False
    return True


def run(
    argv: Sequence[str],
    *,
    deadline: float,
    env: Optional[Mapping[str, str]] = None,
    cwd: Optional[Path] = None,
    text: str = "",
    on_line: Optional[Callable[[str], None]] = None,
    on_start: Optional[Callable[[int], None]] = None,
    merge: bool = False,
) -> Completed:
    """Run `argv` to its end, at most `deadline` seconds, and say how it ended.

    `merge` puts stderr into stdout, in order; `on_line` sees each merged line as it comes, `on_start` the number of the
    process, which is that of its group, too. Never raises for a command
    that fails: a program that cannot be started has `returncode` NOT_STARTED and the reason in `stderr`.
    """
    start = time.perf_counter()
    if merge or on_line is not None or on_start is not None:
        return _run_merged(argv, deadline, env, cwd, text, on_line, on_start, start)
    begun = _BEGUN.pop((tuple(argv), text), None) if env is None and cwd is None else None
    try:
        process = this_work().start(lambda: begun) if begun else _start(argv, env, cwd, subprocess.PIPE)
    except OSError as error:
        return _not_started(error, start)
    timed_out = False
    try:
        stdout, stderr = process.communicate(None if begun else text, timeout=deadline)
    except subprocess.TimeoutExpired:
        timed_out = True
        _end(process)
        stdout, stderr = process.communicate()
    except BaseException:  # an interrupt must not leave the child behind
        _end(process)
        raise
    return Completed(
        returncode=process.returncode,
        stdout=stdout,
        stderr=stderr,
        timed_out=timed_out,
        duration_ms=(time.perf_counter() - start) * 1000,
    )


@contextmanager
def beginning(argv: Sequence[str], text: str) -> Iterator[None]:
    """Start a command that `run` is going to be asked for with just these words, and what it takes up then; meanwhile
    other things can be loaded. Nothing is started that cannot be, or whose `text` a pipe does not take at once; one
    that nobody asked for is ended."""
    key = (tuple(argv), text)
    if len(text.encode()) < PIPE_BYTES:
        with suppress(OSError):
            process = _BEGUN[key] = _start(argv, None, None, subprocess.PIPE)
            stdin, process.stdin = process.stdin, None
            if stdin is not None:
                with stdin:
                    stdin.write(text)
    try:
        yield
    finally:
        left = _BEGUN.pop(key, None)
        if left is not None:
            with left:  # closes its pipes
                _end(left)


def _run_merged(
    argv: Sequence[str],
    deadline: float,
    env: Optional[Mapping[str, str]],
    cwd: Optional[Path],
    text: str,
    on_line: Optional[Callable[[str], None]],
    on_start: Optional[Callable[[int], None]],
    start: float,
) -> Completed:
    lines: list[str] = []
    timed_out = False
    try:
        child = Child(argv, env=env, cwd=cwd, text=text)
    except OSError as error:
        return _not_started(error, start)
    with child:
        if on_start is not None:
            on_start(child.pid)
        while True:
            try:
                line = child.readline(deadline - (time.perf_counter() - start))
            except TimeoutError:
                timed_out = True
                child.kill()
                break
            if line is None:
                break
            lines.append(line)
            if on_line is not None:
                on_line(line)
        returncode = child.wait()
    return Completed(
        returncode=returncode,
        stdout="\n".join(lines),
        stderr="",
        timed_out=timed_out,
        duration_ms=(time.perf_counter() - start) * 1000,
    )


def _not_started(error: OSError, start: float) -> Completed:
    return Completed(
        returncode=NOT_STARTED,
        stdout="",
        stderr=str(error),
        timed_out=False,
        duration_ms=(time.perf_counter() - start) * 1000,
    )


def which(program: str, path: Optional[str] = None) -> Optional[str]:
    """The path of a program as the shell would find it, or None."""
    return shutil.which(program, path=path)


def read(path: Path) -> Optional[str]:
    """The text of a small file, or None when it is not there or not readable."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None


def uv_program() -> str:
    """The uv that came with mmdoctor, else the one on PATH."""
    from uv import find_uv_bin

    try:
        return str(find_uv_bin())
    except FileNotFoundError:
        return which("uv") or "uv"
