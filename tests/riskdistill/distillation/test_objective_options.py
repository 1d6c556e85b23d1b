"""Every option of the student's objective on small random rows: one step, whole runs, and resumed runs."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_distillation import RELATION_HEADS, STUDENT_WIDTH, small_answers, small_objective
from small_training import small_rows, small_trainer

from riskdistill.config import DistillationConfig
from riskdistill.config.distillation import PRESETS
from riskdistill.distillation.objective import DistillationObjective
from riskdistill.distillation.stages import STAGES
from riskdistill.distillation.terms import RELATIONS_OF_EVERY, TERMS
from riskdistill.models.event_transformer import EventTransformer
from riskdistill.models.training import EpochLog, gradient_shares

ROWS = np.arange(32)
EVERY_TERM = {"terms": [{"name": name, "weight": 1.0} for name in TERMS]}
WEIGHTS = ("configured", "dynamic", "gradient_norms")


class KilledError(Exception):
    pass


def student() -> EventTransformer:
    return small_trainer().model.train(False)


def trained(objective: DistillationObjective, **config: Any) -> list[EpochLog]:
    return small_trainer(**config).run(objective).epochs


# ---- one step


@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("preset", [None, *PRESETS])
def test_a_step_of_every_preset_and_weighting_moves_student_and_objective(preset: str | None, weights: str) -> None:
    objective, model = small_objective({"preset": preset, "weights": weights}), student()
    terms = objective.loss(model, ROWS, 0)
    assert set(terms) == {term.name for term in objective.config.terms}
    torch.stack(list(terms.values())).sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters() if parameter.grad is not None)
    assert all(share > 0 for share in gradient_shares(model, objective.loss(model, ROWS, 0)).values())
    assert all(parameter.grad is not None for parameter in objective.parameters())


@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("size", [1, 2, 7])
def test_all_terms_together_take_batches_of_any_size(weights: str, size: int) -> None:
    temperature = {"schedule": "learned", "start": 2.0, "end": 8.0}
    objective = small_objective({**EVERY_TERM, "weights": weights, "temperature": temperature, "adversarial": 0.3})
    terms = objective.loss(student(), ROWS[:size], 0)
    assert set(terms) == {*TERMS, "adversarial"}
    assert all(term.isfinite() for term in terms.values())


def test_the_prior_shift_is_taken_off_the_teacher_s_logits() -> None:
    rows, answers = small_rows(), small_answers()
    config = DistillationConfig.model_validate({"preset": "soft_and_hard"})
    natural = dataclasses.replace(answers, logit=answers.logit - np.float32(4))
    shifted = DistillationObjective(rows, natural, config, epochs=1, label_smoothing=0.0, prior_shift=-4.0)
    np.testing.assert_allclose(shifted.teacher_logit, answers.logit, atol=1e-5)
    assert answers.checked == [rows.encoded]


def test_balanced_terms_have_their_configured_shares_of_the_trunk_s_gradient() -> None:
    objective, model = small_objective({"preset": "logits_and_attention", "weights": "gradient_norms"}), student()
    shares = gradient_shares(model.encoder, objective.loss(model, ROWS, 0))
    assert shares == pytest.approx({"logits": 0.7, "attention_relations": 0.3}, rel=1e-3)


def test_rows_that_the_teacher_is_unsure_of_are_left_to_the_labels() -> None:
    objective, model = small_objective({"preset": "soft_and_hard", "selection": {"confident": 0.2}}), student()
    unsure = np.argsort(np.abs(objective.teacher_logit))[:8]
    terms = objective.loss(model, unsure, 0)
    assert terms["logits"].item() == 0
    assert terms["labels"].item() > 0


def test_rows_without_label_or_typology_are_taught_by_the_teacher_alone() -> None:
    rows = small_rows()
    label, typology = rows.label.copy(), rows.typology.copy()
    label[:32], typology[:32] = np.nan, -1
    unlabelled = dataclasses.replace(rows, label=label, typology=typology)
    terms = small_objective(EVERY_TERM, rows=unlabelled).loss(student(), ROWS, 0)
    known = small_objective(EVERY_TERM).loss(student(), ROWS, 0)
    assert terms.pop("labels").item() == 0
    assert {name: term.item() for name, term in terms.items()} == {name: known[name].item() for name in terms}


@pytest.mark.parametrize("training", [True, False])
def test_an_attack_leaves_the_student_s_mode_as_it_was(training: bool) -> None:
    objective, model = small_objective({"adversarial": 0.5}), student().train(training)
    objective.loss(model, ROWS, 0)
    assert all(module.training is training for module in model.modules())


def test_an_attack_takes_its_share_and_finds_a_higher_loss() -> None:
    calm, attacked = (small_objective({"adversarial": share}).loss(student(), ROWS, 0) for share in (0.0, 0.25))
    plain = sum(term.item() for term in calm.values())
    assert sum(attacked[name].item() for name in calm) == pytest.approx(0.75 * plain, rel=1e-5)
    assert attacked["adversarial"].item() > 0.25 * plain


@pytest.mark.parametrize("progression", list(STAGES))
def test_stages_switch_terms_and_the_adversary(progression: str) -> None:
    objective, model = small_objective({**EVERY_TERM, "stages": progression, "adversarial": 0.2}), student()
    on = [set(objective.loss(model, ROWS, epoch)) for epoch in range(3)]
    assert on[0] != on[1] != on[2]
    assert ["adversarial" in names for names in on] == [False, False, True]


@pytest.mark.parametrize(
    ("config", "first"),
    [
        ({"stages": "feature_attention_logits", "preset": "feature_attention_logits"}, 6),
        ({"stages": "feature_attention_logits", **EVERY_TERM}, 0),  # labels are on in every stage
        ({"stages": "output_intermediate_adversarial", "adversarial": 0.2}, 0),
        ({"terms": [{"name": "feature", "weight": 1.0}, {"name": "ranking", "weight": 0.0, "end_weight": 1.0}]}, 1),
    ],
)
def test_the_score_counts_from_the_first_epoch_that_trains_it(config: dict[str, Any], first: int) -> None:
    assert small_objective(config, epochs=9).scored_from == first


# ---- whole runs


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("epochs", [6, 12])
def test_a_student_taught_in_stages_is_kept_from_an_epoch_that_trained_its_score(epochs: int, seed: int) -> None:
    """On these rows an untrained head ranks well enough by chance to use patience up, or to be kept."""
    name = "feature_attention_logits"
    objective = small_objective({"preset": name, "stages": name}, epochs)
    found = small_trainer(epochs=epochs, patience=3, seed=seed).run(objective)
    assert found.best_epoch >= objective.scored_from == epochs * 2 // 3
    assert all("logits" in entry.terms for entry in found.epochs[objective.scored_from :])


def test_a_curriculum_has_the_hardness_of_every_row() -> None:
    found = small_objective({}).difficulty()
    assert found.shape == (160,)
    assert ((found >= 0) & (found <= 1)).all()


def test_the_trainer_takes_the_rows_that_the_objective_draws() -> None:
    class Noting(DistillationObjective):
        seen: list[int]

        def draw(self, epoch: int, random: np.random.Generator) -> np.ndarray:
            return np.full(160, 7 + epoch)

        def loss(self, model: EventTransformer, rows: np.ndarray, epoch: int) -> dict[str, torch.Tensor]:
            self.seen.append((epoch, *sorted(set(rows.tolist()))))
            return super().loss(model, rows, epoch)

    config = DistillationConfig.model_validate({"terms": [{"name": "logits", "weight": 1.0}]})
    noting = Noting(small_rows(), small_answers(), config, epochs=2, label_smoothing=0.0)
    noting.seen = []
    trained(noting, epochs=2, batch_size=80)
    assert set(noting.seen) == {(0, 7), (1, 8)}


@pytest.mark.parametrize("by", ["entropy", "disagreement"])
def test_mined_epochs_have_more_of_the_hard_rows(by: str) -> None:
    objective = small_objective({"preset": "soft_and_hard", "mining": {"share": 1.0, "by": by}})
    objective.disagreement.copy_(torch.where(torch.arange(160) < 16, 1.0, 0.01))
    draws = np.concatenate([objective.draw(epoch, np.random.default_rng(epoch)) for epoch in range(20)])
    assert len(draws) == 20 * 160
    if by == "disagreement":
        assert (draws < 16).mean() > 0.8
    else:
        unsure = np.argsort(np.abs(objective.teacher_logit))[:40]
        assert np.isin(draws, unsure).mean() > 0.25


def test_what_the_objective_learns_moves_while_the_student_does() -> None:
    objective = small_objective({**EVERY_TERM, "weights": "dynamic", "temperature": {"schedule": "learned"}})
    before = copy.deepcopy(objective.state_dict())
    trained(objective, epochs=1, batch_size=40)
    after = objective.state_dict()
    learned = {name for name, _ in objective.named_parameters()}
    assert {name.split(".")[0] for name in learned} == {"terms", "learned_heat", "row_weights"}
    assert all(not torch.equal(before[name], after[name]) for name in learned)


@pytest.mark.parametrize("stop_at", [5, 8])
@pytest.mark.parametrize(
    "options",
    [
        {"preset": "soft_and_hard", "mining": {"share": 0.5, "by": "disagreement"}},
        {**EVERY_TERM, "weights": "dynamic", "temperature": {"schedule": "learned"}},
        {"preset": "feature_attention_logits", "weights": "gradient_norms", "stages": "feature_attention_logits"},
    ],
    ids=["mining", "dynamic", "balanced stages"],
)
def test_a_resumed_run_equals_the_uninterrupted_one(tmp_path: Path, options: dict[str, Any], stop_at: int) -> None:
    config = {"epochs": 3, "batch_size": 32}
    whole = trained(small_objective(options), **config)

    def stop(name: str, done: int, total: int, best: float) -> None:
        if done == stop_at:
            raise KilledError

    with pytest.raises(KilledError):
        small_trainer(tmp_path / "student.pt", stop, **config).run(small_objective(options))
    torch.manual_seed(99)
    resumed = small_trainer(tmp_path / "student.pt", **config).run(small_objective(options)).epochs
    assert [(entry.terms, entry.score) for entry in resumed] == [(entry.terms, entry.score) for entry in whole]


def test_the_small_setting_is_uneven() -> None:
    """Else these tests would not show that widths and heads may differ."""
    answers, size = small_answers(), student().config
    assert answers.embedding is not None
    assert answers.embedding.shape[1] != size.width == STUDENT_WIDTH
    assert size.heads != RELATION_HEADS


def test_relations_of_some_rows_are_on_the_average_those_of_all() -> None:
    rows = small_rows()
    objective = small_objective({"preset": "logits_and_attention"})
    model = small_trainer().model
    model.train(False)
    taken = np.flatnonzero(rows.encoded.events[:, :, 0].any(1))[: 16 * RELATIONS_OF_EVERY]
    value = objective.loss(model, taken, 0)["attention_relations"]
    turns = [np.roll(taken, -turn) for turn in range(RELATIONS_OF_EVERY)]
    parts = [objective.loss(model, turn, 0)["attention_relations"] for turn in turns]
    alone = [objective.loss(model, taken[row : row + 1], 0)["attention_relations"] for row in range(len(taken))]
    assert value == parts[0]
    torch.testing.assert_close(torch.stack(parts).mean(), torch.stack(alone).mean())
