"""Ids of decisions: UUIDs that begin with the time (version 7, RFC 9562), the rest random.

The index of the log is kept in their order. Random ids would each change another page of it, and all of these would
go through the write-ahead log; new ones all change the last. Entropy is drawn for many at a time.
"""

from __future__ import annotations

import os
import time
from typing import Final

_AT_A_TIME: Final = 1_024  # ids: asking the kernel costs more than the randomness
_BYTES: Final = 10  # of entropy for each
_VARIANT: Final = dict(zip("0123456789abcdef", "89ab" * 4, strict=True))


class DecisionIds:
    """Gives ids. Not to be shared with a forked process, which would give the same ones."""

    def __init__(self) -> None:
        self._entropy, self._at = b"", 0

    def next(self) -> str:
        """An id that nobody can guess: 74 bits of it are random."""
        if self._at == len(self._entropy):
            self._entropy, self._at = os.urandom(_BYTES * _AT_A_TIME), 0
        at, self._at = self._at, self._at + _BYTES
        when, drawn = f"{time.time_ns() // 1_000_000:012x}", self._entropy[at : self._at].hex()
        return f"{when[:8]}-{when[8:]}-7{drawn[:3]}-{_VARIANT[drawn[3]]}{drawn[4:7]}-{drawn[7:19]}"
