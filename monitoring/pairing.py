"""What may be counted of two models side by side: votes that are independent, and pairs that are close in time.

An odd account sets off many alerts, so it has one vote a day. Two models that decide on different payments are
compared in pairs of neighbours in time, so that whatever moves (how much of the traffic is laundering, how busy the
service is) moves for both of a pair.
"""

from __future__ import annotations

from collections import deque
from typing import Final, Generic, TypeVar

KEPT: Final = 2  # days of votes: decisions come a little out of order, also around midnight

_Item = TypeVar("_Item")


class Votes:
    """Who has voted on which of the newest days."""

    def __init__(self) -> None:
        self._days: dict[int, set[str]] = {}

    def first(self, account: str, day: int) -> bool:
        """Whether this is the account's first vote of the day; one of a day that is forgotten is none.

        Args:
            day: its number, as of `datetime.toordinal`.
        """
        if day not in self._days:
            self._days[day] = set()
            for past in sorted(self._days)[:-KEPT]:
                del self._days[past]
        voted = self._days.get(day)
        if voted is None or account in voted:
            return False
        voted.add(account)
        return True


class Nearest(Generic[_Item]):
    """Pairs what the accused did with what the other did just before or after it.

    A newcomer takes the newest of those that wait, and the oldest is dropped for want of room: it is never paired
    with something far from it. If both sides do equally much, one in 2 `room` + 1 finds nobody.

    Args:
        room: how many may wait, of one side.
    """

    def __init__(self, room: int = 1) -> None:
        self._accused = False  # whose items wait
        self._waiting: deque[_Item] = deque(maxlen=room)

    def add(self, accused: bool, item: _Item) -> tuple[_Item, _Item] | None:
        """The pair that this completes, the accused's first; None: the item waits.

        Args:
            accused: whose item it is.
        """
        if not self._waiting or self._accused == accused:
            self._accused = accused
            self._waiting.append(item)
            return None
        other = self._waiting.pop()
        return (item, other) if accused else (other, item)
