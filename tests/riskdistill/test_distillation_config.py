"""What a student learns from is refused where it would teach nothing, or says two things at once."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from riskdistill.config import DistillationConfig, ExperimentConfig, TermConfig
from riskdistill.config.distillation import DEGENERATE, INSIDE, PRESETS
from riskdistill.distillation.stages import STAGES
from riskdistill.distillation.terms import TERMS


def distillation(**options: Any) -> DistillationConfig:
    return DistillationConfig.model_validate(options)


def test_every_name_has_a_term_and_every_term_a_name() -> None:
    assert set(TermConfig.model_fields["name"].annotation.__args__) == set(TERMS)
    assert set(DistillationConfig.model_fields["preset"].annotation.__args__[0].__args__) == set(PRESETS)
    assert set(DistillationConfig.model_fields["stages"].annotation.__args__[0].__args__) == set(STAGES)


def test_by_default_labels_are_learned_beside_the_answers() -> None:
    assert [term.name for term in distillation().terms] == ["logits", "labels", "attention_relations", "typology"]


@pytest.mark.parametrize("name", list(DEGENERATE))
def test_a_term_that_two_classes_make_degenerate_is_refused_with_the_reason(name: str) -> None:
    with pytest.raises(ValidationError, match=f"{name} is degenerate: .*use ") as caught:
        distillation(terms=[{"name": name, "weight": 1.0}])
    assert DEGENERATE[name] in str(caught.value)


@pytest.mark.parametrize("preset", list(PRESETS))
def test_a_preset_stands_for_its_terms_and_survives_json(preset: str) -> None:
    config = distillation(preset=preset)
    assert config.terms == PRESETS[preset]
    assert DistillationConfig.model_validate_json(config.model_dump_json()) == config


@pytest.mark.parametrize("preset", list(PRESETS))
def test_a_preset_and_other_terms_are_refused(preset: str) -> None:
    with pytest.raises(ValidationError, match=f"preset {preset} and other terms are both stated"):
        distillation(preset=preset, terms=[{"name": "ranking", "weight": 1.0}])


@pytest.mark.parametrize(
    ("options", "mistake"),
    [
        ({"preset": "everything"}, "Input should be 'logits_and_attention'"),
        ({"preset": "soft_and_hard", "terms": [{"name": "logits"}]}, "weight"),
        ({"preset": "soft_and_hard", "terms": 3}, "terms"),
        ({"preset": ["soft_and_hard"]}, "preset"),
        ({"terms": [{"name": 3, "weight": 1.0}]}, "Input should be 'logits'"),
        ({"terms": [{"name": "logits", "weight": -1.0}]}, "greater than or equal to 0"),
        ({"terms": []}, "no term that trains the score"),
        ({"terms": [{"name": "logits", "weight": 0.0}]}, "no term that trains the score"),
        ({"terms": [{"name": "logits", "weight": 1.0, "end_weight": 0.0}]}, "ends with a weight above 0"),
        ({"terms": [{"name": name, "weight": 1.0} for name in (*INSIDE, "typology")]}, "add logits or labels or"),
        ({"terms": [{"name": "logits", "weight": 1.0, "form": "kl"}]}, "it has one only"),
        ({"terms": [{"name": "feature", "weight": 1.0, "form": "kl"}]}, "cosine, mse"),
        ({"terms": [{"name": "attention_maps", "weight": 1.0, "form": "cosine"}]}, "mse, kl"),
        (
            {"terms": [{"name": "logits", "weight": 1.0, "by_head": True}]},
            "only attention_maps are",
        ),
        ({"temperature": {"schedule": "rising", "start": 9.0}}, "8.0 is below the start 9.0"),
        ({"temperature": {"schedule": "annealed", "start": 5.0}}, "8.0 is above the start 5.0"),
        ({"temperature": {"schedule": "learned", "start": 1.0}}, "not between 1 and 8.0"),
        ({"temperature": {"start": 0.5}}, "greater than or equal to 1"),
        ({"stages": "output_intermediate_adversarial"}, "needs a share above 0"),
        ({"selection": {"confident": 0.0}}, "greater than 0"),
        ({"mining": {"share": 1.5}}, "less than or equal to 1"),
        ({"mixup": 0.2}, "leave out attention_relations"),
        ({"mixup": 0.2, "preset": "soft_and_hard", "weights": "dynamic"}, "leave out weights: dynamic"),
        (
            {"mixup": 0.2, "preset": "soft_and_hard", "mining": {"share": 0.3, "by": "disagreement"}},
            "leave out mining by: disagreement",
        ),
    ],
)
def test_a_mistake_is_named(options: dict[str, Any], mistake: str) -> None:
    with pytest.raises(ValidationError, match=mistake) as caught:
        distillation(**options)
    assert caught.value.error_count() == 1


@pytest.mark.parametrize(
    "options",
    [
        {"mixup": 0.2, "mining": {"share": 0.3, "by": "entropy"}},
        {"mixup": 0.2, "mining": {"share": 0.0, "by": "disagreement"}},
        {"mixup": 0.0, "weights": "dynamic", "mining": {"share": 0.3, "by": "disagreement"}},
    ],
)
def test_what_remembers_no_mixed_row_stands(options: dict[str, Any]) -> None:
    assert distillation(preset="soft_and_hard", **options).mixup == options["mixup"]


def test_a_term_may_begin_at_nothing() -> None:
    assert distillation(terms=[{"name": "logits", "weight": 0.0, "end_weight": 1.0}]).terms[0].end_weight == 1


def test_a_settled_loss_is_that_of_the_last_epoch_without_new_adapters() -> None:
    terms = [
        {"name": "logits", "weight": 0.7, "end_weight": 0.2},
        {"name": "labels", "weight": 0.5, "end_weight": 0.0},
        {"name": "feature", "weight": 1.0},
        {"name": "typology", "weight": 0.1},
    ]
    config = distillation(
        terms=terms, stages="feature_attention_logits", temperature={"schedule": "rising", "start": 2.0, "end": 6.0}
    )
    settled = config.settled()
    assert {term.name: (term.weight, term.end_weight) for term in settled.terms} == {
        "logits": (0.2, None),
        "typology": (0.1, None),
    }
    assert (settled.stages, settled.temperature.schedule, settled.temperature.start) == (None, "constant", 6.0)
    assert DistillationConfig.model_validate_json(settled.model_dump_json()) == settled


@pytest.mark.parametrize("preset", list(PRESETS))
def test_a_preset_settles_into_terms_that_stand_for_themselves(preset: str) -> None:
    settled = distillation(preset=preset).settled()
    assert settled.terms == tuple(term for term in PRESETS[preset] if term.name != "feature")
    assert DistillationConfig.model_validate_json(settled.model_dump_json()) == settled


def test_a_learned_temperature_settles_at_its_start() -> None:
    heat = distillation(temperature={"schedule": "learned", "start": 3.0}).settled().temperature
    assert (heat.schedule, heat.start) == ("constant", 3.0)


@pytest.mark.parametrize("model", ["teacher", "student"])
def test_relation_heads_divide_both_widths(model: str) -> None:
    with pytest.raises(ValidationError, match=f"relation_heads 4 does not divide the {model}'s width 6"):
        ExperimentConfig.model_validate({"name": "x", model: {"width": 6, "heads": 2}})


@pytest.mark.parametrize(
    ("terms", "mistake"),
    [
        (["logits", "attention_relations"], "the student reads 8 events.*text_teacher.events_per_party is 4"),
        (["logits", "labels"], None),
    ],
)
def test_a_text_teacher_tells_the_events_whose_states_the_student_learns(
    terms: list[str], mistake: str | None
) -> None:
    distilled = {"terms": [{"name": name, "weight": 1.0} for name in terms]}
    sections = {"name": "x", "text_teacher": {"events_per_party": 4}, "distillation": distilled}
    if mistake is None:
        assert ExperimentConfig.model_validate(sections).text_teacher
        return
    with pytest.raises(ValidationError, match=mistake):
        ExperimentConfig.model_validate(sections)


def test_heads_of_a_text_teacher_are_not_matched() -> None:
    terms = [{"name": "logits", "weight": 1.0}, {"name": "attention_maps", "weight": 0.5, "by_head": True}]
    with pytest.raises(ValidationError, match="heads of a text_teacher are not the student's"):
        ExperimentConfig.model_validate({"name": "x", "text_teacher": {}, "distillation": {"terms": terms}})


@pytest.mark.parametrize("heads", [2, 4])
def test_heads_are_matched_only_where_teacher_and_student_have_as_many(heads: int) -> None:
    terms = [{"name": "logits", "weight": 1.0}, {"name": "attention_maps", "weight": 0.5, "by_head": True}]
    sections = {"name": "x", "distillation": {"terms": terms}, "student": {"heads": heads}, "teacher": {"heads": 4}}
    if heads == 4:
        assert ExperimentConfig.model_validate(sections).distillation.settled().by_head
        return
    with pytest.raises(ValidationError, match=r"by_head: student.heads is 2, teacher.heads 4"):
        ExperimentConfig.model_validate(sections)
