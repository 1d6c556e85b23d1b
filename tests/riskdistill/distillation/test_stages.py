"""Which terms are on in which epoch."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from riskdistill.distillation.stages import ADVERSARIAL, STAGES, active
from riskdistill.distillation.terms import TERMS


def test_without_stages_every_term_is_always_on() -> None:
    assert active(["logits", ADVERSARIAL], None, 0, 9) == ["logits", ADVERSARIAL]


def test_outputs_come_first_then_what_is_inside_then_the_adversary() -> None:
    names = ["logits", "attention_relations", "labels", ADVERSARIAL]
    thirds = [active(names, "output_intermediate_adversarial", epoch, 6) for epoch in range(6)]
    assert thirds[:2] == [["logits", "labels"]] * 2
    assert thirds[2:4] == [["logits", "attention_relations", "labels"]] * 2
    assert thirds[4:] == [names] * 2


def test_features_attention_and_logits_follow_one_another() -> None:
    names = ["feature", "attention_maps", "logits"]
    assert [active(names, "feature_attention_logits", epoch, 3) for epoch in range(3)] == [
        ["feature"],
        ["attention_maps"],
        ["logits"],
    ]


def test_a_stage_of_which_no_term_is_configured_leaves_all_on() -> None:
    assert active(["logits", ADVERSARIAL], "feature_attention_logits", 0, 3) == ["logits"]


@given(
    st.lists(st.sampled_from([*TERMS]), min_size=1, unique=True),
    st.sampled_from([*STAGES]),
    st.integers(1, 12),
    st.data(),
)
def test_something_is_always_taught(names: list[str], stages: str, epochs: int, data: st.DataObject) -> None:
    epoch = data.draw(st.integers(0, epochs - 1))
    on = active([*names, ADVERSARIAL], stages, epoch, epochs)
    assert set(on) - {ADVERSARIAL}
    assert set(on) <= {*names, ADVERSARIAL}


def test_every_term_but_the_labels_has_a_stage() -> None:
    for stages in STAGES.values():
        assert set().union(*stages) - {ADVERSARIAL} == set(TERMS) - {"labels"}
