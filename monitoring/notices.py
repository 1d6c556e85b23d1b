"""What of the controller's looks is told to people: that something was done, or began, or ended; each of it once.

A controller looks every few seconds, and finds the same most of the time. Here an alarm is told when it begins, and
when it is over: the evidence for it is used up (`monitoring.evidence`), or another release is champion.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

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

    @property
    def alarm(self) -> bool:
        """Whether an alarm stands."""
        return self._alarm is not None

    def of(self, verdict: Verdict) -> list[Notice]:
        """What is to be told after a look."""
        told = []
        if self._alarm is not None and (verdict.action == "none" or verdict.release_id != self._alarm.release_id):
            told.append(self._notice("alarm_ended", verdict, self._alarm.release_id, self._alarm.about))
            self._alarm = None
        if verdict.action == "rolled_back":
            told.append(self._notice("rolled_back", verdict, verdict.release_id, verdict.reason))
            self._alarm = None
        elif verdict.action in _ALARMED:
            kind: Kind = "would_roll_back" if verdict.action == "would_roll_back" else "alarm_began"
            if self._alarm is None or (kind == "would_roll_back" and self._alarm.kind == "alarm_began"):
                self._alarm = self._notice(kind, verdict, verdict.release_id, verdict.reason)
                told.append(self._alarm)
        return told

    def _notice(self, kind: Kind, verdict: Verdict, release_id: str | None, about: str) -> Notice:
        before = self._alarm
        return Notice(
            kind=kind,
            at=self._clock(),
            release_id=release_id,
            about=about,
            alarm_since=None if before is None else before.alarm_since or before.at,
            verdict=verdict,
        )
