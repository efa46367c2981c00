"""What is said while a plan runs: bars on a terminal, one line per finished step otherwise."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Optional, TextIO, Union

if TYPE_CHECKING:
    from rich.progress import TaskID

# Without a terminal, a long step says once in a while that it is alive (ARCHITECTURE §8: after 10 s name what runs).
ALIVE_SECONDS = 30.0
# How much of a command line is shown; the whole one is in the run's log.
WIDEST = 110


class Log:
    """One line per stage and step, and a sign of life in between: for logs and pipes."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._said = time.monotonic()
        self._running = ""
        self._began = self._said

    def _print(self, text: str) -> None:
        self._stream.write(text + "\n")
        self._stream.flush()
        self._said = time.monotonic()

    def info(self, text: str) -> None:
        """Something worth knowing that is no step."""
        self._print(f"      {text}")

    def stage(self, number: int, total: int, title: str) -> None:
        """A stage begins."""
        self._running, self._began = title, time.monotonic()
        self._print(f"[{number}/{total}] {title}")

    def step(self, command: str, why: str) -> None:
        """A command begins."""
        self._print(f"      $ {_short(command)}")
        if why:
            self._print(f"        {why}")

    def line(self, text: str) -> None:
        """A line of a command's output; only its being there is shown, now and then."""
        if time.monotonic() - self._said > ALIVE_SECONDS:
            self._print(f"      … {self._running}, {time.monotonic() - self._began:.0f} s: {text.strip()[:WIDEST]}")

    def progress(self, done: int, total: int) -> None:
        """A compile went on."""
        if time.monotonic() - self._said > ALIVE_SECONDS or done == total:
            elapsed = time.monotonic() - self._began
            self._print(f"      compiled {done} of {total} files, {elapsed:.0f} s, {_left(elapsed, done, total)} left")

    def done(self, seconds: float) -> None:
        """The stage ended."""
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
        self._began = time.monotonic()

    def info(self, text: str) -> None:
        """Something worth knowing that is no step."""
        self.console.print(f"      {text}", markup=False)

    def stage(self, number: int, total: int, title: str) -> None:
        """A stage begins."""
        self._began = time.monotonic()
        self.console.print(f"[bold]\\[{number}/{total}][/] {title}")
        self._task = self.bars.add_task(title, total=None)

    def step(self, command: str, why: str) -> None:
        """A command begins."""
        self.console.print(f"      $ {_short(command)}", style="dim", markup=False)
        if why:
            self.console.print(f"        {why}", markup=False)

    def line(self, text: str) -> None:
        """A line of a command's output."""
        if self._task is not None and text.strip():
            self.bars.update(self._task, description=text.strip()[:70].replace("[", "\\["))

    def progress(self, done: int, total: int) -> None:
        """A compile went on."""
        if self._task is not None:
            left = _left(time.monotonic() - self._began, done, total)
            self.bars.update(
                self._task, completed=done, total=total, description=f"compiling {done}/{total}, {left} left"
            )

    def done(self, seconds: float) -> None:
        """The stage ended."""
        if self._task is not None:
            self.bars.remove_task(self._task)
            self._task = None
        self.console.print(f"      done in {seconds:.1f} s", style="green")


def _short(command: str) -> str:
    return command if len(command) <= WIDEST else command[: WIDEST - 1] + "…"


def _left(elapsed: float, done: int, total: int) -> str:
    """The time left, from the mean of what is done: mmcv's files are many and alike."""
    seconds = elapsed / max(done, 1) * (total - done)
    return f"{seconds / 60:.0f} min" if seconds > 90 else f"{seconds:.0f} s"


@contextmanager
def listener(stream: TextIO) -> Iterator[Union[Log, Bars]]:
    """Bars for a terminal, a log otherwise; the bars are cleared away at the end, also of a failure."""
    if not stream.isatty():
        yield Log(stream)
        return
    bars = Bars(stream)
    with bars.bars:
        yield bars
