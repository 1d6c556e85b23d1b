"""Recipes differ from the experiment in what their names say, and each is one that could be run."""

from __future__ import annotations

from typing import Any

import pytest

from pipelines.recipes import recipes, ruled_out
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


def test_what_the_experiment_rules_out_is_told_with_the_reason_and_what_it_says_already_is_not() -> None:
    short = configured(student_training={"epochs": 2}, distillation={"temperature": {"start": 1.0}})
    told = dict(line.split(": distillation: ") for line in ruled_out(short))
    assert told["temperature 5 to 8"].startswith("the temperature would never move")
    assert told["stages: feature, attention, logits"] == "three stages need 3 epochs, student_training.epochs is 2"
    assert told.keys().isdisjoint(recipes(short))
    assert "temperature 1" not in told


def test_a_recipe_is_ruled_out_where_two_settings_exclude_one_another() -> None:
    (line,) = ruled_out(configured(distillation={"weights": "dynamic"}))
    assert line.startswith("MixUp, on terms of outputs: distillation.mixup: ")
    assert line.endswith("leave out weights: dynamic")


def test_the_default_experiment_rules_nothing_out() -> None:
    assert ruled_out(configured()) == ()
