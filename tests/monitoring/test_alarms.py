"""The alarms that ask for a person; `test_drills` has each of them find its fault in a stream."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from monitoring.alarms import HOUR, SILENCE, WEEK, Quiet

WEEKS = st.lists(st.integers(1, 6 * HOUR), min_size=60, max_size=200)


def listened(gaps: list[int]) -> tuple[Quiet, int]:
    """Who has heard decisions with these gaps between them, and when the last one was."""
    quiet, now = Quiet(), 0
    quiet.add(now)
    for gap in gaps:
        now += gap
        quiet.add(now)
    return quiet, now


def test_a_silence_alarms_once_it_is_three_times_as_long_as_any_before() -> None:
    quiet, last = listened([HOUR] * (8 * 24))
    assert quiet.alarm(last + SILENCE * HOUR) is None
    found = quiet.alarm(last + SILENCE * HOUR + 1)
    assert found is not None
    assert (found.detector, found.detail) == (
        "volume",
        "nothing for 3.0 hours; the longest that is usual is 1.0",
    )


def test_before_a_week_of_traffic_nobody_knows_what_is_usual() -> None:
    assert Quiet().alarm(WEEK) is None
    quiet, last = listened([HOUR] * (7 * 24 - 1))
    assert quiet.alarm(last + WEEK) is None


def test_a_silence_that_alarmed_is_not_usual_afterwards() -> None:
    quiet, last = listened([HOUR] * (8 * 24) + [20 * HOUR] + [HOUR] * 5)
    assert quiet.alarm(last + 4 * HOUR) is not None


def test_what_is_longer_but_did_not_alarm_is_usual_from_then_on() -> None:
    quiet, last = listened([HOUR] * (8 * 24) + [2 * HOUR])
    assert quiet.alarm(last + 4 * HOUR) is None


@given(WEEKS)
def test_decisions_of_several_workers_may_come_in_another_order(gaps: list[int]) -> None:
    """One that comes late neither makes a silence nor ends one."""
    one, last = listened(gaps)
    other, _ = listened(gaps)
    other.add(last - min(gaps[-1], HOUR))
    for later in range(0, WEEK, 6 * HOUR):
        assert one.alarm(last + later) == other.alarm(last + later)
