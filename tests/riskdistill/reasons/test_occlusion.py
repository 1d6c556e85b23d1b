"""Reasons: the same for the same row, the strongest first, few, and about what raised the score."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from riskdistill.bundle import Bundle
from riskdistill.dataset import Dataset
from riskdistill.features import Encoded, FeatureSpec
from riskdistill.models.calibration import Calibrator
from riskdistill.reasons import MATERIAL, Catalogue, explain
from riskdistill.student.exit_scorer import NEVER, EarlyExitScorer, ExitRule, event_counts

SPEC = FeatureSpec(events_per_party=2)
TYPICAL = 1.0
CHANNELS = len(SPEC.token_channels)


class Additive:
    """A student whose logit is a sum of the features, weighted by name, and of the sender's events."""

    def __init__(self, **weights: float) -> None:
        self.weights = np.array([weights.get(name, 0.0) for name in SPEC.names])

    def score(self, encoded: Encoded) -> Any:
        events = np.abs(encoded.events[:, :, 0]) @ np.array([0.3, 0.1, 0.0, 0.0])
        return SimpleNamespace(logit=np.nan_to_num(encoded.context) @ self.weights + events)


class Exiting(EarlyExitScorer):
    """Such a student whose rows with few events leave with a logit of 0."""

    def __init__(self) -> None:
        self.rule = ExitRule(events_per_party=2, calibrators=(Calibrator(),) * 2, bounds=(NEVER,), short=2)

    def score(self, encoded: Encoded) -> Any:
        short = event_counts(encoded, 2) <= self.rule.short
        return SimpleNamespace(logit=np.where(short, 0.0, Additive(amount_usd=1.0).score(encoded).logit))


def made(student: Any = None, **weights: float) -> Bundle:
    typical = np.full(len(SPEC.names), TYPICAL, np.float32)
    bundle = SimpleNamespace(spec=SPEC, student=student or Additive(**weights), typical=typical)
    return cast(Bundle, bundle)


def row(events: int = 0, **values: float) -> Encoded:
    """Typical but for `values`; the first so many events of each party are there."""
    context = np.array([[values.get(name, TYPICAL) for name in SPEC.names]], np.float32)
    tokens = np.zeros((1, 4, CHANNELS), np.float32)
    for place in range(events):
        tokens[0, [place, 2 + place], 0] = 1.0
        tokens[0, [place, 2 + place], 1] = np.log1p(50.0)
        tokens[0, [place, 2 + place], -1] = 1.0 + place
    return Encoded(context, tokens)


def test_the_strongest_group_comes_first_in_words_with_its_values() -> None:
    found = explain(
        made(amount_usd=0.001, sender_in_count_7d=0.5, pair_count=-1.0),
        row(amount_usd=9_450, sender_in_count_7d=14, sender_in_peers_7d=12, pair_count=0, below_limit=1),
    )
    assert [(reason.code, reason.effect) for reason in found.reasons] == [
        ("amount", 9.449),
        ("sender activity", 6.5),
        ("pair", 1.0),
    ]
    assert [reason.text for reason in found.reasons] == [
        "pays 9,450 USD, just below 1,000, 3,000 or 10,000",
        "the sender received 14 payments from 12 accounts in 7 days, 1 USD in all",
        "first payment from this sender to this receiver",
    ]
    assert found.facts["sender_in_count_7d"] == 14
    assert found.facts["amount_usd"] == 9_450
    assert found.catalogue == Catalogue.of(SPEC).version


def test_of_a_group_s_sentences_the_one_is_told_whose_features_moved_the_score_most() -> None:
    values = {"sender_in_count_7d": 14.0, "sender_out_count_1d": 9.0}
    of_day = explain(made(sender_in_count_7d=0.1, sender_out_count_1d=0.5), row(**values))
    of_week = explain(made(sender_in_count_7d=0.5, sender_out_count_1d=0.1), row(**values))
    assert of_day.reasons[0].text.startswith("the sender sent 9 payments to 1 account in 1 day")
    assert of_week.reasons[0].text.startswith("the sender received 14 payments from 1 account in 7 days")


def test_what_lowers_the_score_or_hardly_moves_it_is_no_reason() -> None:
    found = explain(made(amount_usd=-1.0, hour=0.5 * MATERIAL), row(amount_usd=5, hour=2))
    assert (found.reasons, found.past, found.facts) == ((), (), {})


def test_past_payments_are_told_each_with_its_own_effect_the_strongest_first() -> None:
    found = explain(made(), row(events=2))
    assert [(reason.code, reason.effect) for reason in found.reasons] == [("sender events", 0.4)]
    assert found.reasons[0].text.startswith("the sender received 2 payments")
    assert [(one.code, one.effect) for one in found.past] == [("sender event 1", 0.3), ("sender event 2", 0.1)]
    assert found.past[0].text == "sender just before: received 50 from a known counterparty"


def test_a_row_does_not_leave_early_because_its_events_were_taken_away() -> None:
    bundle = made(Exiting())
    found = explain(bundle, row(events=2, amount_usd=21))
    assert {reason.code: reason.effect for reason in found.reasons} == {"amount": 20.0, "sender events": 0.4}
    assert cast(Any, bundle.student).rule.short == 2


def test_another_model_on_the_same_features_can_be_asked() -> None:
    found = explain(made(amount_usd=1.0), row(amount_usd=3, hour=3), model=Additive(hour=1.0))  # type: ignore[arg-type]
    assert [(reason.code, reason.effect) for reason in found.reasons] == [("calendar", 2.0)]


@pytest.mark.parametrize("limit", [0, 1, 2, 3])
def test_there_are_at_most_as_many_as_asked_for(limit: int) -> None:
    values = {"amount_usd": 3.0, "hour": 3.0, "pair_count": 3.0, "cycle_hops": 3.0}
    found = explain(made(**dict.fromkeys(values, 1.0)), row(events=2, **values), limit)
    assert len(found.reasons) == limit
    assert len(found.past) == min(limit, 2)


def test_equal_effects_keep_the_order_of_the_specification() -> None:
    values = {"pair_count": 3.0, "amount_usd": 3.0, "hour": 3.0}
    found = explain(made(**dict.fromkeys(values, 1.0)), row(**values))
    assert [reason.code for reason in found.reasons] == ["amount", "calendar", "pair"]


def test_a_group_of_which_nothing_can_be_told_in_a_sentence_names_its_feature() -> None:
    everything = dict.fromkeys(("self_transfer", "same_bank", "cross_currency", "cross_border"), 0.0)
    found = explain(made(payment_format=1.0), row(payment_format=7, **everything))
    assert found.reasons[0].text == "hash bucket of the payment format: 7 (typically 1)"
    unknown = dict.fromkeys(("sender_balance", "receiver_balance"), np.nan)
    missing = dict.fromkeys(("sender_balance_share", "receiver_balance_share"), np.nan)
    found = explain(made(sender_balance=-1.0), row(**unknown, **missing))
    assert [reason.text for reason in found.reasons] == ["nothing is known of: balance"]


def test_a_real_bundle_explains_each_row_alike_every_time(tiny_bundle: Bundle, tiny_dataset: Dataset) -> None:
    again = Bundle.load(tiny_bundle.path, teacher=False)
    test = tiny_dataset.test.encoded
    order = np.argsort(-tiny_bundle.student.score(test).score)
    explained = 0
    for number in order[:20]:
        one = test.take(np.array([number]))
        before = one.context.copy(), one.events.copy()
        found = explain(tiny_bundle, one)
        assert found == explain(again, one)
        for told in (found.reasons, found.past):
            assert len(told) <= 3
            assert [reason.effect for reason in told] == sorted((reason.effect for reason in told), reverse=True)
            assert all(reason.effect >= MATERIAL and reason.text and "nan" not in reason.text for reason in told)
        assert {reason.code for reason in found.reasons} <= {
            *tiny_bundle.spec.groups,
            "sender events",
            "receiver events",
        }
        assert not any(np.isnan(value) for value in found.facts.values())
        np.testing.assert_array_equal(one.context, before[0])
        np.testing.assert_array_equal(one.events, before[1])
        explained += bool(found.reasons)
    assert explained > 10
