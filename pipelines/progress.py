"""Progress of long jobs on the terminal: one line a step, its bar, and what it is at."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)


class Step:
    """One bar. Every method returns at once and may be called as often as work goes on."""

    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress, self._task = progress, task

    def advance(self, amount: float) -> None:
        """So much more is done."""
        self._progress.advance(self._task, amount)

    def at(self, done: float, total: float | None = None, note: str | None = None) -> None:
        """So much is done in all; `note` stands behind the bar."""
        self._progress.update(self._task, completed=done, total=total)
        if note is not None:
            self._progress.update(self._task, note=note)

    def done(self, note: str = "") -> None:
        """The step is finished."""
        total = self._progress.tasks[self._progress.task_ids.index(self._task)].total
        self._progress.update(self._task, total=total or 1, completed=total or 1, note=note)
        self._progress.stop_task(self._task)


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
