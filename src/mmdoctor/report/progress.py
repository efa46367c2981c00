"""What is said while a plan runs: bars on a terminal, one line per finished step otherwise."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Optional, TextIO, Union

if TYPE_CHECKING:
    from rich.progress import TaskID

# Without a terminal, a long step is named after a while (ARCHITECTURE §8), and then says now and then that it is alive.
NAMED_SECONDS = 10.0
ALIVE_SECONDS = 30.0
# How much of a command line is shown; the whole one is in the run's log.
WIDEST = 110


class Log:
    """One line per stage and step, and a sign of life in between: for logs and pipes."""

    def __init__(self, stream: TextIO, named: float = NAMED_SECONDS, alive: float = ALIVE_SECONDS) -> None:
        self._stream = stream
        self._turn = threading.Lock()
        self._ended = threading.Event()
        self._named, self._alive = named, alive
        self._said = time.monotonic()
        self._running = self._last = self._files = ""
        self._began = self._said

    def __enter__(self) -> Log:
        threading.Thread(target=self._watch, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()

    def _watch(self) -> None:
        """Name what runs while nothing else is said: a command without output, too."""
        while not self._ended.wait(min(self._named, 1.0)):
            now = time.monotonic()
            long = self._named if self._said <= self._began else self._alive
            if self._running and now - max(self._said, self._began) >= long:
                last = self._files or self._last
                self._print(f"      … {self._running}, {now - self._began:.0f} s{': ' if last else ''}{last}")

    def _print(self, text: str) -> None:
        with self._turn:
            self._stream.write(text + "\n")
            self._stream.flush()
            self._said = time.monotonic()

    def info(self, text: str) -> None:
        """Something worth knowing that is no step."""
        self._print(f"      {text}")

    def stage(self, number: int, total: int, title: str) -> None:
        """A stage begins."""
        self._print(f"[{number}/{total}] {title}")
        self._begin(title)

    def step(self, command: str, why: str) -> None:
        """A command begins."""
        self._print(f"      $ {_short(command)}")
        if why:
            self._print(f"        {why}")
        self._begin(_short(command))

    def _begin(self, running: str) -> None:
        self._last = self._files = ""
        self._running, self._began = running, time.monotonic()

    def line(self, text: str) -> None:
        """A line of a command's output; the last one is shown with a sign of life."""
        self._last = text.strip()[:WIDEST]

    def progress(self, done: int, total: int, left: float) -> None:
        """A compile went on; `left` are the seconds that it will still take."""
        self._files = f"compiled {done} of {total} files, {_left(left)} left"
        if done == total:
            self._print(f"      compiled {total} files")

    def done(self, seconds: float) -> None:
        """The stage ended."""
        self._running = ""
        self._print(f"      done in {seconds:.1f} s")


class Bars:
    """The same on a terminal: a spinner with the last line of output, and a bar with the time left for a compile."""

    def __init__(self, stream: TextIO) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        self.console = Console(file=stream, highlight=False)
        columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(bar_width=30), TimeElapsedColumn())
        self.bars: Any = Progress(*columns, console=self.console, transient=True)
        self._task: Optional[TaskID] = None
        self._compiling = False

    def info(self, text: str) -> None:
        """Something worth knowing that is no step."""
        self.console.print(f"      {text}", markup=False)

    def stage(self, number: int, total: int, title: str) -> None:
        """A stage begins."""
        self._compiling = False
        self.console.print(f"[bold]\\[{number}/{total}][/] {title}")
        self._task = self.bars.add_task(title, total=None)

    def step(self, command: str, why: str) -> None:
        """A command begins."""
        self.console.print(f"      $ {_short(command)}", style="dim", markup=False)
        if why:
            self.console.print(f"        {why}", markup=False)

    def line(self, text: str) -> None:
        """A line of a command's output."""
        if self._task is not None and text.strip() and not self._compiling:
            self.bars.update(self._task, description=text.strip()[:70].replace("[", "\\["))

    def progress(self, done: int, total: int, left: float) -> None:
        """A compile went on; `left` are the seconds that it will still take."""
        if self._task is not None:
            self._compiling = done < total
            told = f"compiling {done}/{total}, {_left(left)} left"
            self.bars.update(self._task, completed=done, total=total, description=told)

    def done(self, seconds: float) -> None:
        """The stage ended."""
        if self._task is not None:
            self.bars.remove_task(self._task)
            self._task = None
        self.console.print(f"      done in {seconds:.1f} s", style="green")


def _short(command: str) -> str:
    return command if len(command) <= WIDEST else command[: WIDEST - 1] + "…"


def _left(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds > 90 else f"{seconds:.0f} s"


@contextmanager
def listener(stream: TextIO) -> Iterator[Union[Log, Bars]]:
    """Bars for a terminal, a log otherwise; the bars are cleared away at the end, also of a failure."""
    if not stream.isatty():
        with Log(stream) as log:
            yield log
        return
    bars = Bars(stream)
    with bars.bars:
        yield bars
