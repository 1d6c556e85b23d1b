"""Recipes differ from the experiment in what their names say, and each is one that could be run."""

from __future__ import annotations

from typing import Any

import pytest

from pipelines.recipes import recipes
from riskdistill.config import ExperimentConfig


def configured(**sections: Any) -> ExperimentConfig:
    return ExperimentConfig.model_validate({"name": "x", **sections})


def test_one_thing_is_changed_and_the_rest_of_the_experiment_stays() -> None:
    config = configured(
        distillation={"relation_heads": 2, "temperature": {"start": 3.0}}, student={"width": 30, "heads": 2}
    )
    found = recipes(config)
    assert all(one.student == config.student for one in found.values())
    assert all(one.distillation.relation_heads == 2 for one in found.values())
    without = found["without labels"].distillation
    assert without == config.distillation.model_copy(update={"terms": without.terms})
    assert {term.name for term in config.distillation.terms} - {term.name for term in without.terms} == {"labels"}
    assert found["temperature 1"].distillation.terms == config.distillation.terms


def test_recipes_differ_from_one_another_and_from_the_experiment() -> None:
    config = configured()
    every = [config, *recipes(config).values()]
    assert len({one.model_dump_json() for one in every}) == len(every)


@pytest.mark.parametrize(
    ("sections", "absent"),
    [
        ({"student_training": {"epochs": 2}}, "stages: feature, attention, logits"),
        ({"student_training": {"epochs": 3}}, "temperature 5 to 8"),
        ({"distillation": {"temperature": {"start": 1.0}}}, "temperature 1"),
        ({"distillation": {"preset": "soft_and_hard"}}, "without typology"),
        ({"distillation": {"answers": "unseen_trees"}}, "answers out of fold"),
    ],
)
def test_what_the_experiment_rules_out_or_says_already_is_no_recipe(sections: dict[str, Any], absent: str) -> None:
    assert absent not in recipes(configured(**sections))
    assert "with hidden states" in recipes(configured(**sections))
