"""Progress of long jobs: on a terminal one line a step, its bar, and what it is at; else a log, line by line.

A log (cron's mail, a container's output, a file) shows no bars: there a step is told when it begins and ends, and
each minute in which it says how far it is.
"""

from __future__ import annotations

from datetime import timedelta
from time import monotonic
from types import TracebackType
from typing import Final, Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)

EVERY: Final = 60.0  # seconds between two lines of a step that goes on, where no bar is drawn


class Step:
    """One bar, or its lines in a log. Every method returns at once and may be called as often as work goes on."""

    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress, self._task = progress, task
        self._told_at = monotonic()
        self._tell("begun")

    def advance(self, amount: float) -> None:
        """So much more is done."""
        self._progress.advance(self._task, amount)
        self._tell_again()

    def at(self, done: float, total: float | None = None, note: str | None = None) -> None:
        """So much is done in all; `note` stands behind the bar."""
        self._progress.update(self._task, completed=done, total=total)
        if note is not None:
            self._progress.update(self._task, note=note)
        self._tell_again()

    def done(self, note: str = "") -> None:
        """The step is finished."""
        total = self._now.total
        self._progress.update(self._task, total=total or 1, completed=total or 1, note=note)
        self._progress.stop_task(self._task)
        self._tell("done", after=True)

    @property
    def _now(self) -> Task:
        return self._progress.tasks[self._progress.task_ids.index(self._task)]

    def _tell_again(self) -> None:
        if monotonic() - self._told_at >= EVERY:
            now = self._now
            self._tell("under way" if not now.total else f"{now.completed / now.total:.0%}", after=True)

    def _tell(self, how_far: str, *, after: bool = False) -> None:
        if self._progress.disable:
            now, self._told_at = self._now, monotonic()
            since = f" after {timedelta(seconds=int(now.elapsed or 0))}" if after else ""
            note = now.fields["note"] and f": {now.fields['note']}"
            line = f"{now.description}, {how_far}{since}{note}"
            self._progress.console.print(line, markup=False, highlight=False, soft_wrap=True)


class Steps:
    """The bars of one job; a context manager."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True)
        self._progress = Progress(
            SpinnerColumn(finished_text="[green]✓"),
            TextColumn("{task.description:<22}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("[dim]{task.fields[note]}"),
            console=self.console,
            disable=not self.console.is_terminal,
        )

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Draw no more; what stands there stays."""
        self._progress.stop()

    def step(self, name: str, total: float | None = None) -> Step:
        """A new bar; `total` may be told later."""
        return Step(self._progress, self._progress.add_task(name, total=total, note=""))
