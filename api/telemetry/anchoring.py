"""Signs the heads of the decision log and of the journals from time to time, and once more when the service stops.

Each anchor is kept with the decision log, and as a line of `anchors.jsonl` in the state folder: ship that file to
whoever shall be able to tell that no log was rewritten. An anchor that fails is logged, and made at the next turn.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path

from api.telemetry import logs
from riskdistill.storage.anchors import AnchorKey, write_anchor
from riskdistill.storage.decisions import DecisionLog
from riskdistill.storage.journal import Journal

_logger = logs.logger(__name__)


class Anchoring:
    """Anchors `log` and `journals` every so many `seconds`, from `start` to `close`.

    Args:
        log: what is anchored, and where anchors are kept.
        journals: what is anchored too, each by itself: one that is away holds up no other.
        key: what signs.
        file: where each anchor is added as a line.
        seconds: between two anchors; without a new entry there is none.
    """

    def __init__(
        self, log: DecisionLog, journals: Sequence[Journal], key: AnchorKey, file: Path, seconds: float
    ) -> None:
        self._log, self._journals, self._key, self._file, self._seconds = log, journals, key, file, seconds
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begins to anchor."""
        _logger.info("anchors of the logs are signed by %s", self._key.public)
        self._task = asyncio.create_task(self._run())

    async def close(self) -> None:
        """Anchors what came last, and ends."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._anchor()

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._seconds)
            await self._anchor()

    async def _anchor(self) -> None:
        for journal in (None, *self._journals):
            try:
                await asyncio.to_thread(self._write, journal)
            except Exception as error:  # an optional part: the service goes on
                title = "decision log" if journal is None else journal.title
                _logger.error("the %s could not be anchored: %s", title, logs.about(error))

    def _write(self, journal: Journal | None) -> None:
        anchor = write_anchor(self._log, self._key, journal)
        if anchor is None:
            return
        with self._file.open("a", encoding="utf-8") as file:
            file.write(anchor.model_dump_json() + "\n")
            file.flush()
            os.fsync(file.fileno())
