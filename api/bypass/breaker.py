"""A circuit breaker: a teacher that does not answer is left alone for a while, then tried with one call."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import Final, Literal

from api.bypass.settings import BreakerSettings

State = Literal["closed", "open", "half_open"]
STATES: Final[tuple[State, ...]] = ("closed", "open", "half_open")


class CircuitBreaker:
    """Closed, it lets every call pass; open, none; half open, the one that tries.

    What comes of a call that began in an earlier state says nothing of this one, and is not counted.

    Args:
        settings: when it opens, and for how long.
        changed: told of every new state.
        clock: seconds.
    """

    def __init__(
        self,
        settings: BreakerSettings,
        changed: Callable[[State], None] = lambda _: None,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._settings, self._changed, self._clock = settings, changed, clock
        self.state: State = "closed"
        self._era = 0  # goes on with every change of state
        self._failures, self._opened = 0, 0.0
        changed(self.state)

    def allows(self) -> bool:
        """Whether a call may begin now."""
        if self.state == "open":
            return self._clock() - self._opened >= self._settings.pause_seconds
        return self.state == "closed"

    def begin(self) -> int:
        """Notes that an allowed call begins; `end` wants the number that this gives."""
        if self.state == "open":
            self._enter("half_open")
        return self._era

    def end(self, era: int, *, answered: bool) -> None:
        """Notes what came of the call that `begin` gave this number."""
        if era != self._era:
            return
        self._failures = 0 if answered else self._failures + 1
        if answered and self.state == "half_open":
            self._enter("closed")
        elif self.state == "half_open" or self._failures >= self._settings.failures:
            self._opened = self._clock()
            self._enter("open")

    def _enter(self, state: State) -> None:
        self.state, self._failures = state, 0
        self._era += 1
        self._changed(state)
