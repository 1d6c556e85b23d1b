"""How much a caller may ask for: token buckets, one per key and one per address that fails to authenticate.

A bucket holds one second's worth of tokens and fills at its rate. A request passes while a whole token is there and
takes it; a batch then also owes a token for each further transaction, so the bucket may go below zero and the next
request waits until the debt is paid. Over any time `t` no more than `rate * t` plus one bucket plus one batch pass,
and a large batch is never starved by small requests. Buckets live in the process: with several workers each has
its own.
"""

from __future__ import annotations

import ipaddress
from collections import OrderedDict
from collections.abc import Callable
from math import ceil
from time import monotonic
from typing import Final

Clock = Callable[[], float]  # seconds; only differences count

FAILURES: Final = 20  # failed authentications that one address has at once
FAILURES_PER_SECOND: Final = 1 / 3  # and then
ADDRESSES: Final = 4_096  # remembered; the one that failed longest ago goes first


class TokenBucket:
    """`rate` tokens a second, at most `capacity` at once (default: one second's worth, at least one)."""

    __slots__ = ("_at", "_clock", "_policy", "_tokens", "capacity", "rate")

    def __init__(self, rate: float, capacity: float | None = None, clock: Clock = monotonic) -> None:
        self.rate, self.capacity = rate, max(1.0, rate) if capacity is None else capacity
        window = ceil(self.capacity / rate)
        self._policy = b"ratelimit-policy", f'"caller";q={int(self.capacity)};w={window}'.encode()
        self._clock, self._tokens, self._at = clock, self.capacity, clock()

    def take(self) -> float:
        """Takes one token and returns 0, or takes none and returns the seconds until one is there."""
        self._fill()
        if self._tokens >= 1.0:
            self._tokens -= 1.0
            return 0.0
        return (1.0 - self._tokens) / self.rate

    def owe(self, tokens: int) -> None:
        """Takes `tokens` more for a request that has passed already, below zero if need be."""
        self._fill()
        self._tokens -= tokens

    def headers(self) -> tuple[tuple[bytes, bytes], ...]:
        """`RateLimit-Policy`, and `RateLimit`: what is left, and the seconds until the bucket is full again."""
        self._fill()
        left = int(self._tokens) if self._tokens > 0 else 0
        state = b'"caller";r=%d;t=%d' % (left, ceil((self.capacity - self._tokens) / self.rate))
        return self._policy, (b"ratelimit", state)

    def _fill(self) -> None:
        now = self._clock()
        if now > self._at:  # a clock that stands or steps back fills nothing
            self._tokens = min(self.capacity, self._tokens + (now - self._at) * self.rate)
            self._at = now


class FailureLimit:
    """A bucket of failed authentications for each client address; an IPv6 address counts as its /64 network.

    It protects against floods, not against guessing: secrets are too long to guess. So it never refuses a valid
    key, and a client with a wrong one cannot shut out others behind the same address.
    """

    def __init__(self, clock: Clock = monotonic) -> None:
        self._clock = clock
        self._buckets: OrderedDict[str, TokenBucket] = OrderedDict()

    def failed(self, address: str) -> float:
        """Notes a failure; returns 0 within the limit of `address`, and beyond it the seconds to wait."""
        origin = _origin(address)
        bucket = self._buckets.pop(origin, None) or TokenBucket(FAILURES_PER_SECOND, FAILURES, self._clock)
        self._buckets[origin] = bucket
        if len(self._buckets) > ADDRESSES:
            self._buckets.popitem(last=False)
        return bucket.take()


def _origin(address: str) -> str:
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:  # a socket of the file system has no address
        return address
    if isinstance(parsed, ipaddress.IPv6Address):
        return str(parsed.ipv4_mapped or ipaddress.IPv6Address(int(parsed) >> 64 << 64))
    return address
