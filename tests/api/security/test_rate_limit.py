"""Token buckets never let more pass than their rate, and failures are limited by address."""

from __future__ import annotations

from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.security.rate_limit import ADDRESSES, FAILURES, FailureLimit, TokenBucket


class Clock:
    """Time that a test moves."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


steps = st.lists(st.tuples(st.floats(0, 3), st.integers(1, 256)), min_size=1, max_size=60)


@given(rate=st.floats(0.1, 1_000), steps=steps)
def test_no_span_of_time_sees_more_than_rate_bucket_and_one_batch(
    rate: float, steps: list[tuple[float, int]]
) -> None:
    clock = Clock()
    bucket = TokenBucket(rate, clock=clock)
    passed: list[tuple[float, int]] = []
    for pause, batch in steps:
        clock.now += pause
        if bucket.take() == 0:
            bucket.owe(batch - 1)
            passed.append((clock.now, batch))
    for first, (start, _) in enumerate(passed):
        total = 0
        for at, batch in passed[first:]:
            total += batch
            assert total <= bucket.capacity + rate * (at - start) + 255 + 1e-6


@given(rate=st.floats(0.1, 1_000), pauses=st.lists(st.floats(-1, 0.5), max_size=80))
def test_single_requests_stay_within_rate_and_bucket_even_if_the_clock_steps_back(
    rate: float, pauses: list[float]
) -> None:
    clock, latest, passed = Clock(), 1_000.0, 0
    bucket = TokenBucket(rate, clock=clock)
    for pause in pauses:
        clock.now += pause
        latest = max(latest, clock.now)
        passed += bucket.take() == 0
    assert passed <= bucket.capacity + rate * (latest - 1_000) + 1e-6


@given(rate=st.floats(0.1, 1_000), taken=st.integers(1, 2_000), owed=st.integers(0, 255))
def test_after_the_wait_that_it_names_a_request_passes(rate: float, taken: int, owed: int) -> None:
    clock = Clock()
    bucket = TokenBucket(rate, clock=clock)
    bucket.owe(owed)
    for _ in range(taken):
        wait = bucket.take()
        if wait > 0:
            clock.now += wait + 1e-6
            assert bucket.take() == 0


def test_the_headers_tell_what_is_left_and_when_all_is_back() -> None:
    clock = Clock()
    bucket = TokenBucket(10, clock=clock)
    assert bucket.headers() == (
        (b"ratelimit-policy", b'"caller";q=10;w=1'),
        (b"ratelimit", b'"caller";r=10;t=0'),
    )
    bucket.take()
    bucket.owe(29)
    assert bucket.headers()[1] == (b"ratelimit", b'"caller";r=0;t=3')
    assert bucket.take() == pytest.approx(2.1)
    slow = TokenBucket(0.25, clock=clock)
    assert slow.headers()[0][1] == b'"caller";q=1;w=4'


def test_an_address_has_some_failures_and_then_few() -> None:
    clock = Clock()
    limit = FailureLimit(clock)
    assert [limit.failed("10.0.0.1") for _ in range(FAILURES)] == [0] * FAILURES
    assert 0 < limit.failed("10.0.0.1") <= 3
    assert limit.failed("10.0.0.2") == 0
    clock.now += 3.001
    assert limit.failed("10.0.0.1") == 0
    assert ceil(limit.failed("10.0.0.1")) == 3


@pytest.mark.parametrize(
    ("one", "other", "together"),
    [
        ("2001:db8::1", "2001:db8::ffff:2", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("::ffff:10.0.0.1", "::ffff:10.0.0.2", False),
        ("::ffff:10.0.0.1", "10.0.0.1", True),
        ("fe80::1%eth0", "fe80::2%eth0", True),
        ("", "", True),
    ],
)
def test_an_ipv6_network_counts_as_one(one: str, other: str, together: bool) -> None:
    limit = FailureLimit(Clock())
    for _ in range(FAILURES):
        limit.failed(one)
    assert (limit.failed(other) > 0) == together


def test_no_more_addresses_are_remembered_than_stated() -> None:
    limit = FailureLimit(Clock())
    for _ in range(FAILURES):
        limit.failed("10.0.0.1")
    for number in range(ADDRESSES):
        limit.failed(f"host-{number}")
    assert len(limit._buckets) == ADDRESSES
    assert limit.failed("10.0.0.1") == 0  # forgotten
