"""The stream of the controller's benchmark: harm is found where outcomes tell of it, and only there."""

from __future__ import annotations

from dataclasses import replace

import monitoring_controller
import pytest
from monitoring_controller import ALIKE, BLINDLY, DENSE, rolled_back
from monitoring_harm import PRECISE
from monitoring_rules import NEVER

LOOKS = 12
WORSE = replace(PRECISE, **DENSE)


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """An hour of decisions."""
    monkeypatch.setattr(monitoring_controller, "LOOKS", LOOKS)


def test_a_less_precise_champion_is_rolled_back_once_labels_of_both_models_come() -> None:
    assert 1 <= rolled_back(WORSE, ALIKE, LOOKS, seed=0) <= LOOKS


def test_nothing_is_shown_where_only_the_champions_alerts_are_known() -> None:
    assert rolled_back(WORSE, BLINDLY, LOOKS, seed=0) == NEVER
