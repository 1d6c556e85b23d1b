"""The release log of a service, as its callers change it: each change enters the log of acts first."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from riskdistill import tracking
from riskdistill.storage.administrative_acts import ActLog
from riskdistill.storage.life_cycle import Kind, Move, Release
from riskdistill.storage.releases import ReleaseLog

_ACTS: Final[Mapping[Kind, str]] = {
    "transition": "release.changed",
    "approval": "release.approved",
    "hold": "release.held",
    "resume": "release.resumed",
}


class ReleaseDesk:
    """The log of releases at a `url`, from construction to `close`.

    Args:
        acts: told of every change before it takes effect.

    Raises:
        ConfigError: no log is there.
    """

    def __init__(self, url: str, acts: ActLog) -> None:
        self._acts = acts
        # not created: at a mistyped URL the service would wait for ever for a champion
        self.log = ReleaseLog(url, create=False, announce=self._enter)

    async def change(self, make: Callable[[ReleaseLog], Release]) -> Release:
        """Makes a change of the log; MLflow follows where the environment names one, and nobody waits for it."""
        release = await asyncio.to_thread(make, self.log)
        tracking.follow_aside(self.log)
        return release

    def close(self) -> None:
        """Lets go of the database."""
        self.log.close()

    def _enter(self, moves: Sequence[Move], actor: str, reason: str) -> None:
        for before, after, kind in moves:
            self._acts.append(
                actor=actor,
                act=_ACTS[kind],
                subject=after.release_id,
                details={
                    "before": None if before is None else before.state,
                    "after": after.state,
                    "share": after.share,
                    "bundle": after.bundle_version,
                    "reason": reason,
                },
            )
