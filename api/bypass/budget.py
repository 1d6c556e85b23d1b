"""How often the teacher may be asked: token buckets over time, and over the traffic itself."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic

from api.bypass.settings import BudgetSettings


class TokenBucket:
    """Gives at most `burst` tokens and `rate` more for each unit that `clock` goes on; never more in any stretch.

    It starts full.
    """

    def __init__(self, rate: float, burst: int, clock: Callable[[], float]) -> None:
        self._rate, self._burst, self._clock = rate, burst, clock
        self._tokens, self._filled = float(burst), clock()

    def has_one(self) -> bool:
        """Whether a token is there now."""
        now = self._clock()
        self._tokens = min(self._burst, self._tokens + max(0.0, now - self._filled) * self._rate)
        self._filled = max(now, self._filled)
        return self._tokens >= 1

    def take(self) -> None:
        """Takes a token that is there."""
        self._tokens -= 1


class Budget:
    """One process's budget: a bucket that time fills and one that the transactions fill, where they are set."""

    def __init__(self, settings: BudgetSettings, clock: Callable[[], float] = monotonic) -> None:
        self._transactions = 0
        self._buckets = []
        if settings.share is not None:
            self._buckets.append(TokenBucket(settings.share, settings.burst, lambda: self._transactions))
        if settings.per_second is not None:
            self._buckets.append(TokenBucket(settings.per_second, settings.burst, clock))

    def saw_one(self) -> None:
        """Counts a transaction, whether it wants the teacher or not."""
        self._transactions += 1

    def take(self) -> bool:
        """Whether one more call is within the budget; if so, it is taken from it."""
        if not all([bucket.has_one() for bucket in self._buckets]):  # noqa: C419 - all of them are filled
            return False
        for bucket in self._buckets:
            bucket.take()
        return True
