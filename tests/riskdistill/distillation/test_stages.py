"""Progressive distillation: every third of the epochs has its terms, and none is left without any."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from riskdistill.distillation.stages import ADVERSARIAL, STAGES, active, begins, stage
from riskdistill.distillation.terms import TERMS

NAMES = [*TERMS, ADVERSARIAL]


@given(st.integers(1, 60))
def test_stages_follow_one_another_in_thirds_of_nearly_one_length(epochs: int) -> None:
    found = [stage(epoch, epochs) for epoch in range(epochs)]
    assert found == sorted(found)
    lengths = [found.count(third) for third in range(3)]
    assert max(lengths) - min(lengths) <= 1


@given(st.integers(1, 60), st.sampled_from([None, *STAGES]))
def test_a_stage_begins_where_another_ended(epochs: int, progression: str | None) -> None:
    found = begins(progression, epochs)
    assert found[0] == 0
    changes = [epoch for epoch in range(1, epochs) if stage(epoch, epochs) != stage(epoch - 1, epochs)]
    assert list(found[1:]) == (changes if progression else [])


def test_without_a_progression_all_is_on() -> None:
    assert active(NAMES, None, 0, 9) == NAMES


def test_the_output_comes_first_then_what_is_inside_then_the_adversary() -> None:
    first, second, third = (set(active(NAMES, "output_intermediate_adversarial", epoch, 3)) for epoch in range(3))
    assert first == {"logits", "labels", "typology", "batch_correlation", "ranking"}
    assert second == set(TERMS)
    assert third == set(NAMES)


def test_features_come_first_then_attention_then_logits() -> None:
    found = [active(NAMES, "feature_attention_logits", epoch, 3) for epoch in range(3)]
    assert found[0] == ["labels", "hidden_states", "feature"]
    assert found[1] == ["labels", "attention_relations", "attention_maps"]
    assert found[2] == ["logits", "labels", "typology", "batch_correlation", "ranking", ADVERSARIAL]


@pytest.mark.parametrize("progression", list(STAGES))
def test_every_term_is_on_in_some_stage(progression: str) -> None:
    assert {name for epoch in range(3) for name in active(NAMES, progression, epoch, 3)} == set(NAMES)


@given(st.sets(st.sampled_from(list(TERMS)), min_size=1), st.sampled_from(list(STAGES)), st.integers(0, 8))
def test_no_stage_is_without_a_term(names: set[str], progression: str, epoch: int) -> None:
    on = active([*sorted(names), ADVERSARIAL], progression, epoch, 9)
    assert set(on) - {ADVERSARIAL}
    assert set(on) <= {*names, ADVERSARIAL}
