"""Which transaction ids may have been decided already: a Bloom filter in front of the decision log.

An id that was added is always known; a few in a thousand others are taken for known too, and then the log is
asked. So a new transaction is seldom looked up, whatever the log holds, at two bytes an id. Layers are added as ids
come, each twice as large as the last, so that nothing is ever built anew (Almeida et al., "Scalable Bloom filters",
2007).

Ids that another process stores meanwhile are not in it. The log's unique index finds those when the decision is
stored (`api.path.group_commit`).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import xxhash

FIRST_IDS: Final = 1 << 24  # of the first layer: 32 MiB, filled in a day of 194 new ids a second
_BITS: Final = 16  # for each id of a full layer
_PROBES: Final = 4
_HALF: Final = (1 << 64) - 1


class KnownIds:
    """Add ids, and ask whether one may have been added."""

    def __init__(self, tx_ids: Iterable[str] = ()) -> None:
        self._layers = [_Layer(FIRST_IDS)]
        for tx_id in tx_ids:
            self.add(tx_id)

    def __contains__(self, tx_id: str) -> bool:
        digest = xxhash.xxh3_128_intdigest(tx_id.encode())
        for layer in self._layers:  # noqa: SIM110 - `any` of a generator takes as long as the look-up
            if layer.holds(digest):
                return True
        return False

    def add(self, tx_id: str) -> None:
        """From now on, `tx_id` is known."""
        if self._layers[-1].room == 0:
            self._layers.append(_Layer(2 * self._layers[-1].capacity))
        self._layers[-1].add(xxhash.xxh3_128_intdigest(tx_id.encode()))


class _Layer:
    """A Bloom filter for `capacity` ids (a power of two), told by 128-bit digests."""

    def __init__(self, capacity: int) -> None:
        self.capacity = self.room = capacity
        self._bits = bytearray(capacity * _BITS // 8)
        self._mask = capacity * _BITS - 1

    def holds(self, digest: int) -> bool:
        bits, mask, step, at = self._bits, self._mask, digest >> 64 | 1, digest & _HALF
        for _ in range(_PROBES):
            place = at & mask
            if not bits[place >> 3] & 1 << (place & 7):
                return False
            at += step
        return True

    def add(self, digest: int) -> None:
        bits, mask, step, at = self._bits, self._mask, digest >> 64 | 1, digest & _HALF
        for _ in range(_PROBES):
            place = at & mask
            bits[place >> 3] |= 1 << (place & 7)
            at += step
        self.room -= 1
