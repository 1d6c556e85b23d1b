"""Labels: what is a verdict, what a placeholder, and which verdict was known at a moment."""

from __future__ import annotations

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st
from traffic_log import decide

from monitoring.labels import Outcome, first_verdict, verdict_at

DECISION = decide(0.9, 0.1)
PAID, DECIDED = DECISION.transaction.timestamp, DECISION.decided_at
DAY = timedelta(days=1)


def test_a_label_as_old_as_its_payment_is_a_placeholder_only_where_it_says_normal() -> None:
    assert verdict_at(DECISION, Outcome(False, PAID), DECIDED + DAY) is None
    assert verdict_at(DECISION, Outcome(True, PAID), DECIDED + DAY) is True
    assert verdict_at(DECISION, Outcome(False), DECIDED + DAY) is False, "a file without times holds verdicts"


def test_the_newest_verdict_that_is_known_holds() -> None:
    outcome = Outcome(False, DECIDED + DAY, again=True, again_at=DECIDED + 3 * DAY)
    seen = [verdict_at(DECISION, outcome, DECIDED + days * DAY) for days in (0, 1, 2, 3)]
    assert seen == [None, False, False, True]


@given(st.booleans(), st.none() | st.timedeltas(-900 * DAY, 900 * DAY))
def test_no_verdict_is_known_before_the_decision(laundering: bool, age: timedelta | None) -> None:
    told = first_verdict(DECISION, Outcome(laundering, None if age is None else DECIDED + age))
    assert told is None or (told.known_at > DECIDED and told.laundering == laundering)
