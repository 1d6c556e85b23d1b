"""The alarms of `monitoring.alarms` on the logs of a service, beside the rollback controller that looks at them.

Silence, and what the newest drift report says, are judged at every look. What needs labels takes a while on a long
log, so a thread of its own does it, as often as the drills do, and the looks go on meanwhile.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NamedTuple

from monitoring.alarms import (
    HOUR,
    LABELS_EVERY,
    PERFORMANCE_EVERY,
    Alarm,
    Quiet,
    contradicted,
    drifted,
    worse,
)
from monitoring.drift import DriftReport
from monitoring.performance import Decided
from pipelines.performance import decided
from riskdistill.bundle import Bundle
from riskdistill.errors import RiskDistillError, UnavailableError
from riskdistill.storage.decisions import DecisionLog, Entry
from riskdistill.storage.releases import ReleaseLog

_logger = logging.getLogger(__name__)


class _Check(NamedTuple):
    ask: Callable[[Decided, int], Alarm | None]
    every: int  # microseconds


_OF_LABELS: Final = (_Check(contradicted, LABELS_EVERY), _Check(worse, PERFORMANCE_EVERY))


class LiveAlarms:
    """Follows a decision log; a `DecisionSource` for the controller, so that the log is read once.

    Args:
        releases: the release log.
        decisions: the decision log.
        labels: Parquet or CSV as `monitor performance` reads it; without it only silence is judged.
        clock: the time now, in UTC.
        drift: the newest drift report, if there is one.
    """

    def __init__(
        self,
        releases: ReleaseLog,
        decisions: DecisionLog,
        labels: Path | None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        drift: Callable[[], DriftReport | None] = lambda: None,
    ) -> None:
        self._releases, self._log, self._labels = releases, decisions, labels
        self._clock, self._drift = clock, drift
        self._quiet, self._has_read = Quiet(), False
        self._silence: Alarm | None = None
        self._drifting: Alarm | None = None
        self._release_id: str | None = None
        self._due = dict.fromkeys(_OF_LABELS, 0)
        self._found: dict[_Check, Alarm | None] = {}
        self._thread: threading.Thread | None = None

    def read(self, after_sequence: int = 0, limit: int | None = None) -> Iterator[Entry]:
        """As the log's own; notes when each decision was made."""
        self._has_read = True
        for entry in self._log.read(after_sequence, limit):
            self._quiet.add(_microseconds(entry.decision.decided_at))
            yield entry

    def standing(self, release_id: str | None) -> tuple[Alarm, ...]:
        """The alarms that stand after a look at the champion `release_id`."""
        now = _microseconds(self._clock())
        if release_id != self._release_id:  # what labels say of another one is over
            self._release_id, self._found, self._due = release_id, {}, dict.fromkeys(_OF_LABELS, 0)
            self._drifting = None
        if self._has_read:  # a look that could not read knows nothing of the traffic
            self._silence, self._has_read = self._quiet.alarm(now), False
        if self._labels is not None and release_id is not None and not self.is_measuring:
            self._check_labels(release_id, self._labels, now)
        try:
            self._drifting = self._drifted(release_id, now)
        except UnavailableError as error:  # what the last look found stands until one can tell
            _logger.warning("whose the drift report is cannot be told now: %s", error)
        found = (self._silence, self._drifting, *self._found.values())
        return tuple(alarm for alarm in found if alarm is not None)

    def _drifted(self, release_id: str | None, now: int) -> Alarm | None:
        """What a drift report says of the champion; one of another bundle's profile says nothing."""
        report = None if release_id is None else self._drift()
        if report is None or report.bundle != self._releases.get(str(release_id)).bundle_version:
            return None
        return drifted(report, now)

    @property
    def is_measuring(self) -> bool:
        """Whether labels are being checked at this moment."""
        return self._thread is not None and self._thread.is_alive()

    def _check_labels(self, release_id: str, labels: Path, now: int) -> None:
        """Begin the checks that are due."""
        due = [check for check in _OF_LABELS if now >= self._due[check]]
        if due:
            arguments = (due, release_id, labels, now)
            self._thread = threading.Thread(target=self._measure, args=arguments, name="labels", daemon=True)
            self._thread.start()

    def _measure(self, due: list[_Check], release_id: str, labels: Path, now: int) -> None:
        try:
            bundle = Bundle.load(Path(self._releases.get(release_id).bundle_path), teacher=False)
            rows = decided(self._log, labels, bundle)
            found = {check: check.ask(rows, now) for check in due}
            if release_id == self._release_id:
                self._found = {**self._found, **found}
                self._due.update((check, now + check.every) for check in due)
        except RiskDistillError as error:  # nothing decided yet, a file that is being written, a log that is away
            if release_id == self._release_id:
                self._due.update((check, now + HOUR) for check in due)
            _logger.warning("what labels say is not known, and is asked again in an hour: %s", error)


def _microseconds(time: datetime) -> int:
    return round(time.timestamp() * 1e6)
