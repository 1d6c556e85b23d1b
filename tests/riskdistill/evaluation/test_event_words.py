"""Event tokens in words: what happened, when, with whom, and never a word for what did not happen."""

from __future__ import annotations

import re

import numpy as np
import pytest
import tiny
from hypothesis import given
from hypothesis import strategies as st

from riskdistill.dataset import Dataset
from riskdistill.errors import DataError
from riskdistill.evaluation.event_words import event_words
from riskdistill.features import FeatureSpec

SPEC = FeatureSpec(events_per_party=2)


def events(token: int, **channels: float) -> np.ndarray:
    """A payment with one event, at the given token."""
    row = np.zeros((4, len(SPEC.token_channels)), np.float32)
    for name, value in channels.items():
        row[token, SPEC.token_channels.index(name)] = value
    return row


def one(token: int = 0, *, flow: int = -1, usd: float = 9_450, seconds: float = 10_800, **marks: float) -> str:
    row = events(token, flow=flow, log_usd=np.log1p(usd), log_age=np.log1p(seconds), **marks)
    return event_words(row, SPEC)[token]


@pytest.mark.parametrize(
    ("told", "words"),
    [
        (one(first_contact=1), "sender 3 h ago: sent 9,450 to a new counterparty"),
        (one(flow=1), "sender 3 h ago: received 9,450 from a known counterparty"),
        (one(1, shared_peer=1), "sender 3 h ago: sent 9,450 to a shared counterparty"),
        (one(is_other_party=1, shared_peer=1, first_contact=1), "sender 3 h ago: sent 9,450 to the receiver"),
        (one(2, flow=1, is_other_party=1), "receiver 3 h ago: received 9,450 from the sender"),
        (one(3, usd=1_234_567, seconds=0), "receiver just before: sent 1,234,567 to a known counterparty"),
    ],
)
def test_an_event_is_told_as_it_was(told: str, words: str) -> None:
    assert told == words


@pytest.mark.parametrize(
    ("seconds", "age"), [(59, "just before"), (60, "1 min"), (3_600, "1 h"), (86_400, "1 d"), (864_000, "10 d")]
)
def test_an_age_has_the_largest_unit_that_it_fills(seconds: float, age: str) -> None:
    assert one(seconds=seconds).startswith(f"sender {age}")


@given(st.lists(st.sampled_from([-1, 0, 1]), min_size=4, max_size=4))
def test_only_events_have_words(flows: list[int]) -> None:
    row = np.zeros((4, len(SPEC.token_channels)), np.float32)
    row[:, 0] = flows
    assert [bool(words) for words in event_words(row, SPEC)] == [flow != 0 for flow in flows]


def test_words_have_the_amounts_that_the_engine_read(tiny_dataset: Dataset) -> None:
    encoded, spec = tiny_dataset.test.encoded, tiny_dataset.spec
    row = encoded.events[(encoded.events[:, :, 0] != 0).sum(1).argmax()]
    told = event_words(row, spec)
    assert len(told) == 2 * tiny.CONFIG.features.events_per_party
    for words, log_usd in zip(told, row[:, 1], strict=True):
        amounts = [float(found.replace(",", "")) for found in re.findall(r"(?:sent|received) ([\d,]+)", words)]
        assert amounts == ([pytest.approx(np.expm1(log_usd), abs=0.51)] if words else [])


def test_events_of_another_specification_are_refused() -> None:
    with pytest.raises(DataError, match="is due"):
        event_words(events(0), FeatureSpec(events_per_party=3))
