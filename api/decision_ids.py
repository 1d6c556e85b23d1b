"""Ids of decisions: random UUIDs (version 4, RFC 9562), from entropy that is drawn for many at a time."""

from __future__ import annotations

import os
import uuid
from typing import Final

_AT_A_TIME: Final = 64  # ids: asking the kernel costs more than the randomness


class DecisionIds:
    """Gives ids. Not to be shared with a forked process, which would give the same ones."""

    def __init__(self) -> None:
        self._entropy, self._at = b"", 0

    def next(self) -> str:
        """An id that nobody can guess."""
        if self._at == len(self._entropy):
            self._entropy, self._at = os.urandom(16 * _AT_A_TIME), 0
        drawn = self._entropy[self._at : self._at + 16]
        self._at += 16
        return str(uuid.UUID(bytes=drawn, version=4))
