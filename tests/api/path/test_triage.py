"""Who shall be looked at: what was drawn stands for the rest by the probability that is kept with it."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from fake_serving import body, settings_for
from fake_teachers import encoded, fake_bundle

from api.path.triage import Triager
from riskdistill.data.transaction import Transaction
from riskdistill.storage.decisions import Shadow

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def triager(folder: Path, **shares: float) -> Triager:
    nothing: Any = SimpleNamespace(match=lambda *_: None)
    return Triager(settings_for(folder, bundle=folder, **shares), nothing, "0123456789abcdef")


def beside(alerts: bool) -> Shadow:
    return Shadow(bundle_version="b" * 16, score=0.5, action="review" if alerts else "allow")


def test_what_the_model_beside_alone_alerts_on_is_drawn_at_a_share_of_its_own(tmp_path: Path) -> None:
    draws = triager(tmp_path, sample_share=0.002, shadow_sample_share=0.1)
    far, near = 0.01 * fake_bundle().thresholds.review, 0.5 * fake_bundle().thresholds.review
    chances = [
        draws.chance(fake_bundle(), score, shadow) for score in (far, near) for shadow in (None, beside(False))
    ]
    assert chances == pytest.approx([0.002, 0.002, 0.02, 0.02])
    assert {draws.chance(fake_bundle(), score, beside(True)) for score in (far, near)} == {0.1}


def test_a_share_beside_below_the_usual_one_lowers_nothing(tmp_path: Path) -> None:
    draws = triager(tmp_path, sample_share=0.3, shadow_sample_share=0.0)
    assert draws.chance(fake_bundle(), 0.0, beside(True)) == 0.3


def test_weighed_by_its_probability_the_sample_counts_what_was_let_pass(tmp_path: Path) -> None:
    draws = triager(tmp_path, sample_share=0.05, shadow_sample_share=0.4)
    payment, row = Transaction(**body("t")), encoded()
    others = np.random.default_rng(0).random(6_000) < 0.2
    counted = 0.0
    for number, alone in enumerate(others.tolist()):
        chance = draws.chance(fake_bundle(), 0.0, beside(alone))
        sent = payment.model_copy(update={"tx_id": f"t{number}"})
        told = draws.settle(row, sent, "low", None, chance, NOW)
        assert told.sample_share in (None, chance)
        counted += 0.0 if told.sample_share is None else 1 / told.sample_share
    deviation = np.sqrt(4_800 * 0.95 / 0.05 + 1_200 * 0.6 / 0.4)
    assert abs(counted - len(others)) < 4 * deviation


def test_alerts_are_no_sample(tmp_path: Path) -> None:
    draws = triager(tmp_path, sample_share=1.0)
    told = draws.settle(encoded(), Transaction(**body("t")), "medium", None, 1.0, NOW)
    assert (told.action, told.sample_share) == ("review", None)
