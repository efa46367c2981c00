"""A call with all that it runs, in threads and children: bounded, named while it lasts, and ended as a whole."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar, copy_context
from typing import TYPE_CHECKING, Any, Callable, Generic, Optional, TypeVar

if TYPE_CHECKING:
    from subprocess import Popen

T = TypeVar("T")
GRACE_SECONDS = 2.0
KILL = getattr(signal, "SIGKILL", signal.SIGTERM)


class OverdueError(Exception):
    """A call did not end within its time, and its children were ended; `doing` is what its threads were at."""

    def __init__(self, seconds: float, doing: Sequence[str]) -> None:
        super().__init__(f"not within {seconds:g} s")
        self.seconds = seconds
        self.doing = tuple(doing)


class Work:
    """What one call has running, in whatever threads: its children, and what each thread is at."""

    def __init__(self) -> None:
        self._turn = threading.Lock()
        self._children: set[Popen[str]] = set()
        self._ended = False
        self.doing: dict[int, str] = {}

    def start(self, begin: Callable[[], Popen[str]]) -> Popen[str]:
        """The child that `begin` starts. Raises InterruptedError when the call has been ended."""
        with self._turn:
            if self._ended:
                raise InterruptedError("this was ended, and starts nothing any more")
            self._children = {child for child in self._children if child.returncode is None}
            child = begin()
            self._children.add(child)
        return child

    def end(self) -> None:
        """Kill the children with all that they started; no other is started after this."""
        with self._turn:
            self._ended = True
            children = [child for child in self._children if child.returncode is None]
        for child in children:
            if os.name == "posix":
                with suppress(ProcessLookupError, PermissionError):
                    os.killpg(child.pid, KILL)
            else:
                child.kill()
        until = time.monotonic() + GRACE_SECONDS  # one that the kernel holds is beyond us
        while any(child.poll() is None for child in children) and time.monotonic() < until:
            time.sleep(0.01)


_WORK: ContextVar[Work] = ContextVar("work", default=Work())  # noqa: B039  the default is what no `within` bounds


def this_work() -> Work:
    """The work that this thread is a part of."""
    return _WORK.get()


@contextmanager
def doing(what: str) -> Iterator[Callable[[str], None]]:
    """Say what this thread is at meanwhile, for whoever has to name what hangs; yields a way to say the next thing."""
    threads, me = _WORK.get().doing, threading.get_ident()
    before = threads.get(me)
    threads[me] = what
    try:
        yield lambda next_one: threads.__setitem__(me, next_one)
    finally:
        if before is None:
            del threads[me]
        else:
            threads[me] = before


def within(seconds: Optional[float], call: Callable[[], T]) -> T:
    """What `call()` returns. It runs in a thread, since nothing ends a read from a dead disk or a call into a driver.

    After `seconds`, and on an interrupt at any time, its children are killed. Raises OverdueError then, with what each
    of its threads was at, and what the call raises.
    """
    work = Work()
    token = _WORK.set(work)
    background = Background(call)
    _WORK.reset(token)
    try:
        if background.ended(seconds):
            return background.result()
        at = tuple(dict.fromkeys(work.doing.copy().values()))
    except BaseException:
        work.end()
        raise
    work.end()
    raise OverdueError(seconds or 0.0, at)


class Background(Generic[T]):
    """A call that runs in a thread meanwhile; for what mostly waits for another process."""

    def __init__(self, call: Callable[..., T], *arguments: Any, **named: Any) -> None:
        """Begin `call(*arguments, **named)`."""
        self._values: list[T] = []
        self._error: Optional[BaseException] = None

        def work() -> None:
            try:
                self._values.append(call(*arguments, **named))
            except BaseException as error:  # noqa: BLE001  handed to whoever asks for the result
                self._error = error

        self._thread = threading.Thread(target=copy_context().run, args=(work,), daemon=True)
        self._thread.start()

    def ended(self, seconds: Optional[float]) -> bool:
        """Whether the call has ended, waited for at most `seconds`."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def result(self) -> T:
        """What the call returned, waited for; raises what it raised."""
        self._thread.join()
        if self._error is not None:
            raise self._error
        return self._values[0]
