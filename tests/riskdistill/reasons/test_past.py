"""Facts of past payments are those that the tokens tell."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from riskdistill.errors import DataError
from riskdistill.features import Encoded, FeatureSpec
from riskdistill.features.packed import pack, unpack
from riskdistill.reasons.past import FACTS, past_facts

SPEC = FeatureSpec(events_per_party=16)
ONES = Encoded(np.ones((1, 2), np.float32), np.ones((1, 1, 1), np.float32))
HOUR, DAY = 3_600.0, 86_400.0


class Event(NamedTuple):
    """One token: the amount is above 0 for money received."""

    amount: float
    age: float
    peer: int = 1
    first: bool = False


def events_of(sender: list[Event], receiver: list[Event], pays_now: float = 100.0) -> np.ndarray:
    tokens = np.zeros((32, len(SPEC.token_channels)), np.float32)
    column = {name: number for number, name in enumerate(SPEC.token_channels)}
    for start, events in ((0, sender), (16, receiver)):
        for place, event in enumerate(sorted(events, key=lambda one: one.age)):
            token = tokens[start + place]
            token[column["flow"]] = np.sign(event.amount)
            token[column["log_usd"]] = np.log1p(abs(event.amount))
            token[column["log_usd_ratio"]] = np.log1p(abs(event.amount)) - np.log1p(pays_now)
            token[column["log_age"]] = np.log1p(event.age)
            token[column["first_contact"]] = event.first
            token[column["peer"]] = event.peer
    return tokens


def test_a_mule_is_told_as_an_investigator_would() -> None:
    received = [Event(100, 3 * DAY - hour * HOUR, peer=hour % 12 + 1, first=hour < 12) for hour in range(14)]
    told = past_facts(events_of([], [*received, Event(-1_344, 3 * DAY - 15 * HOUR, peer=20)]), SPEC, "receiver")
    assert told["receiver_past_new_received"] == told["receiver_past_received"] == 14
    assert told["receiver_past_new_payers"] == told["receiver_past_payers"] == 12
    assert told["receiver_past_new_span"] == pytest.approx(3 * DAY, rel=1e-4)
    assert told["receiver_past_sent_on"] == pytest.approx(0.96, abs=1e-3)
    assert told["receiver_past_sent_on_within"] == pytest.approx(15 * HOUR, rel=1e-3)


def test_the_payment_that_is_scored_counts_as_sent_by_the_sender_only() -> None:
    events = [Event(200, 90 * 60.0)]
    told = past_facts(events_of(events, events, pays_now=100.0), SPEC, "sender")
    assert told["sender_past_sent_on"] == pytest.approx(0.5, abs=1e-4)
    assert told["sender_past_sent_on_within"] == pytest.approx(90 * 60.0, rel=1e-4)
    told = past_facts(events_of(events, events, pays_now=100.0), SPEC, "receiver")
    assert told["receiver_past_sent_on"] == 0
    assert np.isnan(told["receiver_past_sent_on_within"])


def test_money_that_passes_through_is_not_told_apart_from_what_lay_there_before() -> None:
    lay_there, passed = Event(5_000, 20 * DAY), [Event(300, 2 * HOUR), Event(-300, HOUR)]
    told = past_facts(events_of([], [lay_there, *passed]), SPEC, "receiver")
    assert told["receiver_past_sent_on_within"] == pytest.approx(HOUR, rel=1e-3)
    assert told["receiver_past_sent_on"] == pytest.approx(300 / 5_300, rel=1e-3)


def test_a_party_without_a_past_has_nothing_to_tell() -> None:
    told = past_facts(events_of([], []), SPEC, "sender")
    assert told["sender_past_received"] == told["sender_past_sent"] == 0
    assert np.isnan([told["sender_past_received_span"], told["sender_past_sent_on"]]).all()


@given(
    st.lists(
        st.builds(
            Event,
            amount=st.floats(-1e6, 1e6).filter(lambda amount: abs(amount) > 0.01),
            age=st.floats(0, 1e7),
            peer=st.integers(1, 5),
            first=st.booleans(),
        ),
        max_size=16,
    )
)
def test_counts_and_shares_keep_their_bounds(events: list[Event]) -> None:
    for party in ("sender", "receiver"):
        told = past_facts(events_of(events, events), SPEC, party)
        named = {name.removeprefix(f"{party}_past_"): value for name, value in told.items()}
        assert {*told} == {fact.name for fact in FACTS if fact.name.startswith(party)}
        assert named["received"] + named["sent"] == len(events)
        assert named["new_payers"] <= named["payers"] <= named["received"]
        assert named["new_payers"] <= named["new_received"] <= named["received"]
        assert np.isnan(named["sent_on"]) == (named["received"] == 0)
        assert np.isnan(named["sent_on"]) or 0 <= named["sent_on"] <= 1 + 1e-9


@given(st.integers(1, 300), st.integers(1, 8), st.integers(0, 2**32 - 1))
def test_a_kept_row_comes_back_to_the_bit(features: int, tokens: int, seed: int) -> None:
    numbers = np.random.default_rng(seed)
    context = numbers.normal(size=(1, features)).astype(np.float32)
    context[0, 0] = np.nan
    kept = Encoded(context, numbers.normal(size=(1, tokens, 13)).astype(np.float32))
    again = unpack(pack(kept))
    assert again.context.tobytes() == kept.context.tobytes()
    assert again.events.tobytes() == kept.events.tobytes()
    assert again.events.shape == kept.events.shape


@pytest.mark.parametrize(
    "text",
    ["", "not base64!", "AAAA", pack(ONES)[:-8]],
)
def test_what_is_no_kept_row_is_refused(text: str) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        unpack(text)
