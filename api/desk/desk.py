"""What investigators work with: cases, suppressions and the alert queue, in the decision log's database."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from api.telemetry import logs
from riskdistill.storage.alert_queue import AlertQueue
from riskdistill.storage.cases import CaseLog
from riskdistill.storage.suppressions import SuppressionList

_logger = logs.logger(__name__)


class Desk:
    """The three at the `url` of a decision log that exists, from construction to `close`.

    Raises:
        ConfigError: nothing opens at `url`.
    """

    def __init__(self, url: str) -> None:
        self.cases = CaseLog(url)
        self.suppressions = SuppressionList(url)
        self.queue = AlertQueue(url)
        self._following: asyncio.Task[None] | None = None

    def follow(self, seconds: float) -> None:
        """Begins to look every so many `seconds` for suppressions that other processes added or removed."""
        self._following = asyncio.create_task(self._follow(seconds))

    async def close(self) -> None:
        """Lets go of the database."""
        if self._following is not None:
            self._following.cancel()
            with suppress(asyncio.CancelledError):
                await self._following
        for part in (self.cases, self.suppressions, self.queue):
            part.close()

    async def _follow(self, seconds: float) -> None:
        while True:
            await asyncio.sleep(seconds)
            try:
                await asyncio.to_thread(self.suppressions.refresh)
            except Exception as error:
                _logger.warning("suppressions as they were before: %s", logs.about(error))
