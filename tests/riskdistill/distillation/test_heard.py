"""A further teacher that answered some rows alone: its states teach there, beside the others', and nowhere else."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from small_distillation import RELATION_HEADS, STUDENT_WIDTH, small_answers
from small_training import small_rows, small_trainer

from riskdistill.config import DistillationConfig
from riskdistill.config.distillation import INSIDE
from riskdistill.distillation.objective import HEARD, DistillationObjective
from riskdistill.distillation.teacher_cache import Heard
from riskdistill.errors import DegenerateTermError

ASKED = np.arange(3, 160, 4)
WIDE = 20  # the further teacher's states


def heard(**changes: Any) -> Heard:
    """Of rows `ASKED`: what the first teacher says, but its states wider, and other relations and attention."""
    whole = small_answers()
    answers = dataclasses.replace(
        whole,
        **{name: part[ASKED] for name, part in vars(whole).items() if isinstance(part, np.ndarray)},
    )
    wider = np.random.default_rng(1).normal(size=(answers.hidden.shape[-1], WIDE)).astype(np.float32)
    others = {
        "hidden": (answers.hidden @ wider).astype(np.float16),
        "embedding": answers.embedding @ wider,
        "relations": answers.relations[:, ::-1].copy(),
        "attention": np.sqrt(answers.attention),
    }
    return Heard(ASKED, dataclasses.replace(answers, **{**others, **changes}))


def objective(config: dict[str, Any], told: Heard | None) -> DistillationObjective:
    torch.manual_seed(3)
    return DistillationObjective(
        small_rows(),
        dataclasses.replace(small_answers(), heard=told),
        DistillationConfig.model_validate({"relation_heads": RELATION_HEADS, **config}),
        epochs=3,
        label_smoothing=0.05,
        student_width=STUDENT_WIDTH,
    )


def terms(*names: str) -> dict[str, Any]:
    return {"terms": [{"name": name, "weight": 1.0} for name in names]}


EVERY = terms("logits", *INSIDE)


def values(made: DistillationObjective, rows: np.ndarray) -> dict[str, float]:
    model = small_trainer().model.train(False)
    return {name: term.item() for name, term in made.loss(model, rows, 0).items()}


def test_every_term_on_states_has_one_for_the_further_teacher_and_outputs_have_none() -> None:
    found = values(objective(EVERY, heard()), ASKED[:16])
    assert set(found) == {"logits", *INSIDE, *(f"{HEARD}{name}" for name in INSIDE)}
    assert all(found[f"{HEARD}{name}"] > 0 for name in INSIDE)


def test_rows_that_it_was_not_asked_about_learn_nothing_of_it_and_all_else_as_without_it() -> None:
    rows = np.setdiff1d(np.arange(160), ASKED)[:32]
    found, without = values(objective(EVERY, heard()), rows), values(objective(EVERY, None), rows)
    assert all(found[f"{HEARD}{name}"] == 0 for name in INSIDE)
    for name in ("logits", "attention_relations", "attention_maps"):  # adapters begin elsewhere
        assert found[name] == without[name]


@pytest.mark.parametrize("name", ["attention_relations", "attention_maps"])
def test_a_row_learns_of_it_what_it_would_of_a_first_teacher(name: str) -> None:
    """Rows that were not asked about count with none, as rows of a batch."""
    told = heard()
    whole = small_answers()
    part = {"attention_relations": "relations", "attention_maps": "attention"}[name]
    every = getattr(whole, part).copy()
    every[ASKED] = getattr(told.answers, part)
    first = DistillationObjective(
        small_rows(),
        dataclasses.replace(whole, **{part: every}),
        DistillationConfig.model_validate({"relation_heads": RELATION_HEADS, **terms("logits", name)}),
        epochs=3,
        label_smoothing=0.05,
    )
    made = objective(terms("logits", name), told)
    assert values(made, ASKED[:16])[f"{HEARD}{name}"] == pytest.approx(values(first, ASKED[:16])[name], rel=1e-5)
    half = np.concatenate([ASKED[:8], ASKED[:8] - 1])
    assert values(made, half)[f"{HEARD}{name}"] == pytest.approx(
        values(made, ASKED[:8])[f"{HEARD}{name}"] / 2, rel=1e-5
    )


def test_each_teacher_s_states_have_an_adapter_of_their_width_that_is_trained() -> None:
    made, model = objective(EVERY, heard()), small_trainer().model
    torch.stack(list(made.loss(model, ASKED[:16], 0).values())).sum().backward()
    for name in ("hidden_states", "feature"):
        own, further = (made.terms[f"{source}{name}"].adapter for source in ("", HEARD))
        assert (own.out_features, further.out_features) == (12, WIDE)
        assert all(adapter.weight.grad.abs().max() > 0 for adapter in (own, further))


def test_in_stages_it_is_heard_with_the_terms_of_the_same_name() -> None:
    made = objective({**EVERY, "stages": "feature_attention_logits"}, heard())
    model = small_trainer().model
    on = [set(made.loss(model, ASKED[:16], epoch)) for epoch in range(3)]
    both = [{source + name for source in ("", HEARD) for name in names} for names in (INSIDE[2:], INSIDE[:2])]
    assert on == [*both, {"logits"}]


def test_gradient_norms_are_balanced_over_its_terms_too() -> None:
    made = objective({**EVERY, "weights": "gradient_norms"}, heard())
    assert all(np.isfinite(list(values(made, ASKED[:16]).values())))


def test_states_that_teach_nothing_are_refused() -> None:
    flat = np.ones((len(ASKED), WIDE), np.float32)
    with pytest.raises(DegenerateTermError, match=r"term feature.*the same for every row"):
        objective(terms("logits", "feature"), heard(embedding=flat))
