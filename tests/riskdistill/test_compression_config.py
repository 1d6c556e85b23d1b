"""What cannot be done to a student together, or not to this one, is refused before anything is trained."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from riskdistill.config import CompressionConfig, ExperimentConfig, PruningConfig
from riskdistill.config.student import kept_parts

BY_HEAD = {"terms": [{"name": "logits", "weight": 1.0}, {"name": "attention_maps", "weight": 0.5, "by_head": True}]}


def experiment(compression: dict[str, Any], **sections: Any) -> ExperimentConfig:
    return ExperimentConfig.model_validate({"name": "x", "compression": compression, **sections})


def test_by_default_nothing_is_compressed() -> None:
    assert ExperimentConfig(name="x").compression == CompressionConfig(
        pruning=PruningConfig(), int8=False, early_exits=False
    )


@pytest.mark.parametrize(
    "compression",
    [
        {"pruning": {"heads": 0.5, "feedforward": 0.5}, "int8": True},
        {"pruning": {"context": 0.25}, "early_exits": True},
    ],
)
def test_what_goes_together_is_accepted_and_survives_json(compression: dict[str, Any]) -> None:
    config = experiment(compression, student={"layers": 2})
    assert ExperimentConfig.model_validate_json(config.model_dump_json()) == config


@pytest.mark.parametrize(
    ("compression", "sections", "mistake"),
    [
        ({"int8": True, "early_exits": True}, {}, "int8 is asked for too.*choose one"),
        ({"early_exits": True}, {"student": {"layers": 1}}, "student.layers is 1"),
        ({"pruning": {"heads": 0.5}}, {"student": {"experts": 2}}, "student.experts is 2"),
        (
            {"pruning": {"heads": 0.75}},
            {"student": {"width": 24}},
            "leaves 3 of 4 heads, 18 wide together, which distillation.relation_heads 4 does not divide",
        ),
        ({"pruning": {"heads": 0.5}}, {"distillation": BY_HEAD}, "need all of the student's heads"),
        ({"pruning": {"heads": 0.0}}, {}, "greater than 0"),
        ({"pruning": {"context": 1.5}}, {}, "less than or equal to 1"),
        ({"int8": "yes"}, {}, "valid boolean"),
        ({"fp16": True}, {}, "not permitted"),
    ],
)
def test_a_mistake_is_named(compression: dict[str, Any], sections: dict[str, Any], mistake: str) -> None:
    with pytest.raises(ValidationError, match=mistake) as caught:
        experiment(compression, **sections)
    assert caught.value.error_count() == 1


def test_heads_that_no_relation_is_cut_from_may_be_any() -> None:
    config = experiment(
        {"pruning": {"heads": 0.75}},
        student={"width": 24},
        distillation={"terms": [{"name": "logits", "weight": 1.0}]},
    )
    assert config.compression.pruning.heads == 0.75


@pytest.mark.parametrize(("share", "parts", "kept"), [(1.0, 4, 4), (0.75, 4, 3), (0.7, 10, 7), (0.01, 4, 1)])
def test_a_share_of_the_parts_is_kept_and_one_at_least(share: float, parts: int, kept: int) -> None:
    assert kept_parts(share, parts) == kept
