"""Signs the head of the decision log from time to time, and once more when the service stops.

Each anchor is kept with the log, and as a line of `anchors.jsonl` in the state folder: ship that file to whoever
shall be able to tell that the log was not rewritten. An anchor that fails is logged, and made at the next turn.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from api.telemetry import logs
from riskdistill.storage.anchors import AnchorKey, write_anchor
from riskdistill.storage.decisions import DecisionLog

_logger = logs.logger(__name__)


class Anchoring:
    """Anchors `log` every so many `seconds`, from `start` to `close`.

    Args:
        log: what is anchored.
        key: what signs.
        file: where each anchor is added as a line.
        seconds: between two anchors; without a new entry there is none.
    """

    def __init__(self, log: DecisionLog, key: AnchorKey, file: Path, seconds: float) -> None:
        self._log, self._key, self._file, self._seconds = log, key, file, seconds
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begins to anchor."""
        _logger.info("anchors of the decision log are signed by %s", self._key.public)
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
        try:
            await asyncio.to_thread(self._write)
        except Exception as error:  # an optional part: the service goes on
            _logger.error("the decision log could not be anchored: %s", logs.about(error))

    def _write(self) -> None:
        anchor = write_anchor(self._log, self._key)
        if anchor is None:
            return
        with self._file.open("a", encoding="utf-8") as file:
            file.write(anchor.model_dump_json() + "\n")
            file.flush()
            os.fsync(file.fileno())
