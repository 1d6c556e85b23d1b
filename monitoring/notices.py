"""What of the controller's looks is told to people: that something was done, or began, or ended; each of it once.

A controller looks every few seconds, and finds the same most of the time. Here an alarm is told when it begins, and
when it is over: the evidence for it is used up (`monitoring.evidence`), or another release is champion. The alarms
beside the controller's (`monitoring.alarms`) are told in the same way, each by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from monitoring.alarms import Alarm
from monitoring.rollback import Action, Verdict

Kind = Literal["rolled_back", "would_roll_back", "alarm_began", "alarm_ended"]
_ALARMED: Final[frozenset[Action]] = frozenset({"alarm", "held", "would_roll_back"})


class Notice(BaseModel):
    """One thing to tell.

    Attributes:
        about: why the alarm stood, or why the release was rolled back.
        verdict: of the look that told.
    """

    model_config = ConfigDict(frozen=True)

    kind: Kind
    at: AwareDatetime
    release_id: str | None
    about: str
    alarm_since: AwareDatetime | None = Field(default=None, description="where an alarm stood before")
    verdict: Verdict

    def body(self) -> dict[str, Any]:
        """As JSON tells it to others."""
        told = self.model_dump(mode="json", exclude={"verdict": {"measures"}})  # which the evidence has
        return {"type": f"monitor.{self.kind}", "timestamp": told["at"], "data": told}


class Notices:
    """Follows the verdicts of one controller.

    Args:
        clock: the time now, in UTC.
    """

    def __init__(self, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._clock = clock
        self._alarm: Notice | None = None  # how the one that stands was told last
        self._beside: dict[str, Notice] = {}  # how each of the others was told, by its detector

    @property
    def alarm(self) -> bool:
        """Whether an alarm stands."""
        return self._alarm is not None or bool(self._beside)

    def of(self, verdict: Verdict, beside: Sequence[Alarm] = ()) -> list[Notice]:
        """What is to be told after a look.

        Args:
            beside: the alarms of other detectors that stand now.
        """
        told = list(self._of_detectors(verdict, {alarm.detector: alarm for alarm in beside}))
        if self._alarm is not None and (verdict.action == "none" or verdict.release_id != self._alarm.release_id):
            told.append(self._ended(self._alarm, verdict))
            self._alarm = None
        if verdict.action == "rolled_back":
            told.append(self._notice("rolled_back", verdict, verdict.release_id, verdict.reason, self._alarm))
            self._alarm = None
        elif verdict.action in _ALARMED:
            kind: Kind = "would_roll_back" if verdict.action == "would_roll_back" else "alarm_began"
            if self._alarm is None or (kind == "would_roll_back" and self._alarm.kind == "alarm_began"):
                self._alarm = self._notice(kind, verdict, verdict.release_id, verdict.reason, self._alarm)
                told.append(self._alarm)
        return told

    def _of_detectors(self, verdict: Verdict, found: Mapping[str, Alarm]) -> Iterator[Notice]:
        for detector in sorted(self._beside.keys() - found.keys()):
            yield self._ended(self._beside.pop(detector), verdict)
        for detector in sorted(found.keys() - self._beside.keys()):
            about = f"{detector}: {found[detector].detail}"
            self._beside[detector] = self._notice("alarm_began", verdict, verdict.release_id, about)
            yield self._beside[detector]

    def _ended(self, began: Notice, verdict: Verdict) -> Notice:
        return self._notice("alarm_ended", verdict, began.release_id, began.about, began)

    def _notice(
        self, kind: Kind, verdict: Verdict, release_id: str | None, about: str, before: Notice | None = None
    ) -> Notice:
        return Notice(
            kind=kind,
            at=self._clock(),
            release_id=release_id,
            about=about,
            alarm_since=None if before is None else before.alarm_since or before.at,
            verdict=verdict,
        )
