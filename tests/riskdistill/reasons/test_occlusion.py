"""Reasons: the same for the same row, the strongest first, few, and about what raised the score."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from riskdistill.bundle import Bundle
from riskdistill.dataset import Dataset
from riskdistill.explain import MATERIAL, reasons
from riskdistill.features import Encoded, Feature
from riskdistill.models.calibration import Calibrator
from riskdistill.student.exit_scorer import NEVER, EarlyExitScorer, ExitRule, event_counts

SPEC = SimpleNamespace(
    events_per_party=1,
    groups={"amount": (0,), "activity": (1, 2), "pair": (3,)},
    context=(
        Feature(name="amount", group="amount", unit="USD", meaning="amount paid"),
        Feature(name="count", group="activity", unit="payments", meaning="payments today"),
        Feature(name="gap", group="activity", unit="seconds", meaning="time since the last"),
        Feature(name="is_new", group="pair", unit="flag", meaning="first payment between the two"),
    ),
)


class Additive:
    """A student whose logit is a sum of the features, weighted, and of the events' flows."""

    def __init__(self, *weights: float) -> None:
        self.weights = np.array(weights)

    def score(self, encoded: Encoded) -> Any:
        flows = encoded.events[:, :, 0] @ np.array([0.3, 0.0])
        return SimpleNamespace(logit=np.nan_to_num(encoded.context) @ self.weights + flows)


def made(*weights: float) -> Bundle:
    bundle = SimpleNamespace(
        spec=SPEC,
        student=Additive(*weights),
        typical=np.array([10, 2, 60, 0], np.float32),
        spread=np.array([5, 1, 0, 0], np.float32),
    )
    return cast(Bundle, bundle)


def row(*values: float) -> Encoded:
    return Encoded(np.array([values], np.float32), np.zeros((1, 2, 12), np.float32))


class Exiting(EarlyExitScorer):
    """Such a student whose rows with few events leave with a logit of 0."""

    def __init__(self) -> None:
        self.rule = ExitRule(events_per_party=1, calibrators=(Calibrator(),) * 2, bounds=(NEVER,), short=1)

    def score(self, encoded: Encoded) -> Any:
        short = event_counts(encoded, 1) <= self.rule.short
        scored = Additive(1.0, 0.0, 0.0, 0.0).score(encoded)
        return SimpleNamespace(logit=np.where(short, 0.0, scored.logit))


def test_a_row_does_not_leave_early_because_its_events_were_taken_away() -> None:
    bundle = made()
    bundle.student = Exiting()
    events = np.zeros((1, 2, 12), np.float32)
    events[0, :, 0] = 1.0
    found = reasons(bundle, Encoded(np.array([[30, 9, 65, 1]], np.float32), events))
    assert {reason.code: reason.effect for reason in found} == {"amount": 20.0, "sender events": 0.3}
    assert bundle.student.rule.short == 1


def test_the_strongest_group_comes_first_with_the_figure_that_stands_out() -> None:
    found = reasons(made(0.1, 0.5, 0.0, 1.0), row(30, 9, 65, 1))
    assert [reason.code for reason in found] == ["activity", "amount", "pair"]
    assert [reason.effect for reason in found] == pytest.approx([3.5, 2.0, 1.0])
    assert found[0].text == "payments today: 9 payments (typically 2 payments)"
    assert found[1].text == "amount paid: 30 USD (typically 10 USD)"
    assert found[2].text == "first payment between the two: yes (typically no)"


def test_what_lowers_the_score_or_hardly_moves_it_is_no_reason() -> None:
    assert reasons(made(-0.1, 0.0, 0.0, 0.5 * MATERIAL), row(30, 9, 60, 1)) == []


def test_recent_events_can_be_a_reason() -> None:
    encoded = row(10, 2, 60, 0)
    encoded.events[0, :, 0] = 1.0
    found = reasons(made(0, 0, 0, 0), encoded)
    assert [(reason.code, reason.effect) for reason in found] == [("sender events", 0.3)]
    assert found[0].text == "the order and amounts of the sender's recent payments"


@pytest.mark.parametrize("limit", [0, 1, 2, 3])
def test_there_are_at_most_as_many_as_asked_for(limit: int) -> None:
    assert len(reasons(made(0.1, 0.5, 0.0, 1.0), row(30, 9, 60, 1), limit)) == limit


def test_equal_effects_keep_one_order() -> None:
    found = reasons(made(1.0, 1.0, 0.0, 1.0), row(11, 3, 60, 1))
    assert [reason.code for reason in found] == ["amount", "activity", "pair"]


def test_what_is_missing_is_called_none_and_surprises_least() -> None:
    found = reasons(made(0.0, 1.0, 0.0, 0.0), row(10, 4, np.nan, 0))
    assert found[0].text == "payments today: 4 payments (typically 2 payments)"


def test_a_real_bundle_explains_each_row_alike_every_time(tiny_bundle: Bundle, tiny_dataset: Dataset) -> None:
    again = Bundle.load(tiny_bundle.path, teacher=False)
    test = tiny_dataset.test.encoded
    order = np.argsort(-tiny_bundle.student.score(test).score)
    explained = 0
    for number in order[:20]:
        one = test.take(np.array([number]))
        before = one.context.copy(), one.events.copy()
        found = reasons(tiny_bundle, one)
        assert found == reasons(again, one)
        assert len(found) <= 3
        assert [reason.effect for reason in found] == sorted((reason.effect for reason in found), reverse=True)
        assert all(reason.effect >= MATERIAL and reason.text and "nan" not in reason.text for reason in found)
        codes = {*tiny_bundle.spec.groups, "sender events", "receiver events"}
        assert {reason.code for reason in found} <= codes
        np.testing.assert_array_equal(one.context, before[0])
        np.testing.assert_array_equal(one.events, before[1])
        explained += bool(found)
    assert explained > 10
