"""The ways of distilling that a study compares: the experiment's own with one thing left out, added or changed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from pydantic import ValidationError

from riskdistill.config import ExperimentConfig, TermConfig
from riskdistill.config.distillation import INSIDE, PRESETS
from riskdistill.distillation.terms import TERMS
from riskdistill.yaml_file import explained

FULL: Final = "as configured"
NONE: Final = "no teacher"
ADDED_WEIGHT: Final = 0.3  # of a term that the experiment does not have

# What is changed, by section. Where the experiment says the same already, nothing is compared.
_CHANGES: Final[dict[str, dict[str, dict[str, Any]]]] = {
    "temperature 1": {"distillation": {"temperature": {"start": 1.0}}},
    "temperature 5 to 8": {
        "distillation": {"temperature": {"schedule": "rising", "start": 5.0, "end": 8.0, "after_epoch": 3}}
    },
    "temperature 5 to 1": {
        "distillation": {"temperature": {"schedule": "annealed", "start": 5.0, "end": 1.0, "after_epoch": 0}}
    },
    "temperature learned": {"distillation": {"temperature": {"schedule": "learned"}}},
    "dynamic weights": {"distillation": {"weights": "dynamic"}},
    "gradient norms balanced": {"distillation": {"weights": "gradient_norms"}},
    "answers out of fold": {"distillation": {"answers": "unseen_trees"}},
    "surest half of each class": {"distillation": {"selection": {"confident": 0.5}}},
    "hard rows mined by entropy": {"distillation": {"mining": {"share": 0.3}}},
    "hard rows mined by disagreement": {"distillation": {"mining": {"share": 0.3, "by": "disagreement"}}},
    "adversarial rows": {"distillation": {"adversarial": 0.2}},
    "easy rows first": {"student_training": {"curriculum": "easy_first"}},
}


def recipes(config: ExperimentConfig) -> dict[str, ExperimentConfig]:
    """Every recipe that this experiment allows, by name; `ruled_out` tells the others."""
    found = {name: changed for name, changed in _tried(config) if isinstance(changed, ExperimentConfig)}
    return {name: changed for name, changed in found.items() if changed != config}


def ruled_out(config: ExperimentConfig) -> tuple[str, ...]:
    """The recipes that the experiment's epochs, widths or other settings rule out, each with the reason."""
    errors = {name: found for name, found in _tried(config) if isinstance(found, ValidationError)}
    return tuple(line for name, error in errors.items() for line in explained(error, {(): name}, ExperimentConfig))


def _tried(config: ExperimentConfig) -> Iterator[tuple[str, ExperimentConfig | ValidationError]]:
    """Every recipe by name: the changed experiment, or why there cannot be one."""
    for name, changes in (_of_terms(config) | _CHANGES).items():
        sections = config.model_dump()
        for section, values in changes.items():
            sections[section] = {**sections[section], **values}
        try:
            yield name, ExperimentConfig.model_validate(sections)
        except ValidationError as error:
            yield name, error


def _of_terms(config: ExperimentConfig) -> dict[str, dict[str, dict[str, Any]]]:
    """Each configured term left out, each other one added, and what needs terms of its own."""
    own = {term.name: term for term in config.distillation.terms}
    chosen: dict[str, tuple[TermConfig, ...]] = {}
    if len(own) > 1:
        chosen["logits alone"] = (TermConfig(name="logits", weight=1.0),)
        chosen |= {
            f"without {_words(name)}": tuple(term for term in own.values() if term.name != name) for name in own
        }
    for name in TERMS:
        if name not in own:
            added = TermConfig.model_validate({"name": name, "weight": ADDED_WEIGHT})
            chosen[f"with {_words(name)}"] = (*own.values(), added)
    chosen["from logits to labels"] = (
        TermConfig(name="logits", weight=0.9, end_weight=0.3),
        TermConfig(name="labels", weight=0.1, end_weight=0.7),
    )
    found = {name: {"distillation": _terms(terms)} for name, terms in chosen.items()}
    outer = tuple(term for term in own.values() if term.name not in INSIDE)
    staged = {"stages": "feature_attention_logits", **_terms(PRESETS["feature_attention_logits"])}
    last = {"stages": "output_intermediate_adversarial", "adversarial": 0.2}
    return found | {
        "MixUp, on terms of outputs": {"distillation": {"mixup": 0.2, **_terms(outer)}},
        "stages: feature, attention, logits": {"distillation": staged},
        "stages: output, intermediate, adversarial": {"distillation": last},
    }


def _terms(terms: tuple[TermConfig, ...]) -> dict[str, Any]:
    return {"preset": None, "terms": [term.model_dump() for term in terms]}


def _words(name: str) -> str:
    return name.replace("_", " ")
