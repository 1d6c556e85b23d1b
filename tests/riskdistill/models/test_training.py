"""The training loop: nothing is lost by an interruption, and what cannot go on says so."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from numpy.typing import NDArray
from small_training import small_labels, small_rows, small_trainer
from torch import Tensor

from riskdistill.config import TrainingConfig
from riskdistill.dataset import Dataset
from riskdistill.errors import TrainingError
from riskdistill.models.event_transformer import EventTransformer
from riskdistill.models.label_objective import LabelObjective
from riskdistill.models.training import Trainer, Training, TrainingRows

CONFIG = TrainingConfig(epochs=4, batch_size=128, patience=4)
Change = Callable[[dict[str, Tensor], int], dict[str, Tensor]]


class KilledError(Exception):
    """Stands for the end of the process."""


class Watched(LabelObjective):
    """The label objective, with a hook that may change the terms, or raise, by epoch."""

    def __init__(self, rows: TrainingRows, change: Change = lambda terms, epoch: terms) -> None:
        super().__init__(rows, label_smoothing=0.05)
        self.change, self.epochs = change, list[int]()

    def loss(self, model: EventTransformer, rows: NDArray[np.int64], epoch: int) -> dict[str, Tensor]:
        self.epochs.append(epoch)
        return self.change(super().loss(model, rows, epoch), epoch)


@pytest.fixture(scope="module")
def rows(tiny_dataset: Dataset) -> TrainingRows:
    train = tiny_dataset.train
    return TrainingRows(train.encoded, train.label, train.typology, train.draw[:: len(train.draw) // 400])


def trainer(
    dataset: Dataset, rows: TrainingRows, config: TrainingConfig, checkpoint: Path | None = None
) -> Trainer:
    size = tiny.CONFIG.student.model_copy(update={"dropout": 0.2})  # so that the random state matters
    model = tiny.network(dataset, size)
    validation = dataset.validation.encoded, dataset.validation.label
    return Trainer("student", model, rows, validation, config, checkpoint=checkpoint)


def summary(training: Training) -> tuple[object, ...]:
    epochs = [(entry.epoch, entry.terms, entry.gradient_share, entry.score) for entry in training.epochs]
    return training.best_epoch, training.best_score, epochs


def test_a_run_killed_in_an_epoch_goes_on_to_the_same_result(
    tiny_dataset: Dataset, rows: TrainingRows, tmp_path: Path
) -> None:
    whole = trainer(tiny_dataset, rows, CONFIG).run(Watched(rows))

    def killed(terms: dict[str, Tensor], epoch: int) -> dict[str, Tensor]:
        if epoch == 2:
            raise KilledError
        return terms

    checkpoint = tmp_path / "student.pt"
    with pytest.raises(KilledError):
        trainer(tiny_dataset, rows, CONFIG, checkpoint).run(Watched(rows, killed))
    torch.manual_seed(12345)  # another process, another random state
    objective = Watched(rows)
    resumed = trainer(tiny_dataset, rows, CONFIG, checkpoint).run(objective)
    assert min(objective.epochs) == 2
    assert summary(resumed) == summary(whole)
    for name, tensor in whole.model.state_dict().items():
        assert torch.equal(tensor, resumed.model.state_dict()[name]), name
    assert list(tmp_path.iterdir()) == [checkpoint]


def test_a_finished_run_is_taken_from_its_checkpoint(
    tiny_dataset: Dataset, rows: TrainingRows, tmp_path: Path
) -> None:
    config = CONFIG.model_copy(update={"epochs": 1})
    first = trainer(tiny_dataset, rows, config, tmp_path / "x.pt").run(Watched(rows))
    again = Watched(rows)
    second = trainer(tiny_dataset, rows, config, tmp_path / "x.pt").run(again)
    assert again.epochs == []
    assert summary(first) == summary(second)


def test_training_stops_when_validation_no_longer_improves_and_keeps_the_best(
    tiny_dataset: Dataset, rows: TrainingRows
) -> None:
    config = TrainingConfig(epochs=30, batch_size=128, patience=2, learning_rate=1e-9)
    training = trainer(tiny_dataset, rows, config).run(Watched(rows))
    assert len(training.epochs) == training.best_epoch + 1 + config.patience < config.epochs
    assert training.best_score == max(entry.score for entry in training.epochs)
    assert not training.model.training


class InStages(LabelObjective):
    """Labels in stages of two, two and four epochs, of which the second says that it trains the score first."""

    begins, scored_from = (0, 2, 4), 2


def test_what_was_scored_before_the_score_was_trained_is_not_kept_and_every_stage_has_its_epochs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told = iter([0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2])
    trainer = small_trainer(epochs=8, patience=2)
    monkeypatch.setattr(trainer, "judge", lambda model: next(told))
    training = trainer.run(InStages(small_rows(), label_smoothing=0.0))
    assert (training.best_epoch, training.best_score) == (2, 0.7)
    assert len(training.epochs) == 6  # two epochs of the last stage were no better


def test_epochs_that_end_before_the_score_is_trained_are_refused() -> None:
    with pytest.raises(TrainingError, match="none of the 2 epochs of the small would train its score"):
        small_trainer(epochs=2).run(InStages(small_rows(), label_smoothing=0.0))


def test_patience_counts_from_the_best_epoch_of_the_last_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    told = iter([0.9, 0.8, 0.1, 0.2, 0.3, 0.2, 0.4, 0.1])
    trainer = small_trainer(epochs=8, patience=2)
    monkeypatch.setattr(trainer, "judge", lambda model: next(told))
    training = trainer.run(InStages(small_rows(), label_smoothing=0.0))
    assert (training.best_epoch, len(training.epochs)) == (6, 8)


def test_every_stage_has_a_learning_rate_of_its_own_that_rises_and_falls() -> None:
    trainer = small_trainer(epochs=8, patience=8, learning_rate=1.0, warmup=0.1)
    trainer._begin(InStages(small_rows(), label_smoothing=0.0))
    steps = trainer.steps_per_epoch
    rates = [trainer._rate(step) for step in range(8 * steps)]
    for first, last in ((0, 2), (2, 4), (4, 8)):
        stage = rates[first * steps : last * steps]
        top = stage.index(max(stage))
        assert max(stage) == 1.0
        assert stage[:top] == sorted(stage[:top])
        assert stage[top:] == sorted(stage[top:], reverse=True)
        assert stage[-1] < 0.02


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_ends_the_training(
    tiny_dataset: Dataset, rows: TrainingRows, value: float, tmp_path: Path
) -> None:
    def broken(terms: dict[str, Tensor], epoch: int) -> dict[str, Tensor]:
        return terms | {"labels": terms["labels"] * (value if epoch == 1 else 1.0)}

    checkpoint = tmp_path / "x.pt"
    with pytest.raises(TrainingError, match=r"loss of the student is (nan|inf) in epoch 1"):
        trainer(tiny_dataset, rows, CONFIG, checkpoint).run(Watched(rows, broken))
    stored = torch.load(checkpoint, weights_only=True)
    assert all(torch.isfinite(tensor).all() for tensor in stored["model"].values())


def test_gradient_shares_are_of_the_terms_and_sum_to_one(tiny_dataset: Dataset, rows: TrainingRows) -> None:
    def lopsided(terms: dict[str, Tensor], epoch: int) -> dict[str, Tensor]:
        return terms | {"labels": 100.0 * terms["labels"], "idle": 0.0 * terms["labels"]}

    config = CONFIG.model_copy(update={"epochs": 2})
    for entry in trainer(tiny_dataset, rows, config).run(Watched(rows, lopsided)).epochs:
        assert set(entry.gradient_share) == {"labels", "typology", "idle"}
        assert sum(entry.gradient_share.values()) == pytest.approx(1.0)
        assert entry.gradient_share["labels"] > 0.9
        assert entry.gradient_share["idle"] == 0


def test_progress_counts_every_step_once(tiny_dataset: Dataset, rows: TrainingRows) -> None:
    heard: list[tuple[int, int]] = []
    one = trainer(tiny_dataset, rows, CONFIG.model_copy(update={"epochs": 2}))
    one.progress = lambda name, done, total, best: heard.append((done, total))
    one.run(Watched(rows))
    total = 2 * one.steps_per_epoch
    assert heard == [(step, total) for step in range(1, total + 1)]


def test_training_learns_what_the_labels_say(tiny_dataset: Dataset, rows: TrainingRows) -> None:
    objective = LabelObjective(rows, label_smoothing=0.0)
    one = trainer(tiny_dataset, rows, TrainingConfig(epochs=20, batch_size=64, patience=20, learning_rate=1e-2))
    epochs = one.run(objective).epochs
    assert epochs[-1].terms["labels"] < 0.6 * epochs[0].terms["labels"]


def losses(dataset: Dataset, rows: TrainingRows, *, dropout: float = 0.2, **options: float) -> dict[str, float]:
    """Terms on every sixth row, of a network in training, from one random state."""
    model = tiny.network(dataset, tiny.CONFIG.student.model_copy(update={"dropout": dropout})).train()
    torch.manual_seed(3)
    terms = LabelObjective(rows, label_smoothing=0.0, **options).loss(model, rows.draw[::6], 0)
    return {name: float(term.detach()) for name, term in terms.items()}


def test_without_mixup_and_adversarial_examples_nothing_changes_to_the_last_bit(
    tiny_dataset: Dataset, rows: TrainingRows
) -> None:
    config = CONFIG.model_copy(update={"epochs": 2})
    plain = trainer(tiny_dataset, rows, config).run(LabelObjective(rows, label_smoothing=0.05))
    off = LabelObjective(rows, label_smoothing=0.05, mixup=0.0, adversarial=0.0)
    same = trainer(tiny_dataset, rows, config).run(off)
    assert summary(plain) == summary(same)
    for name, tensor in plain.model.state_dict().items():
        assert torch.equal(tensor, same.model.state_dict()[name]), name


def test_mixup_trains_towards_soft_labels(
    tiny_dataset: Dataset, rows: TrainingRows, monkeypatch: pytest.MonkeyPatch
) -> None:
    taught: list[Tensor] = []
    cross_entropy = torch.nn.functional.binary_cross_entropy_with_logits

    def seen(logit: Tensor, label: Tensor, weight: Tensor | None) -> Tensor:
        taught.append(label)
        return cross_entropy(logit, label, weight)

    monkeypatch.setattr(torch.nn.functional, "binary_cross_entropy_with_logits", seen)
    losses(tiny_dataset, rows)
    losses(tiny_dataset, rows, mixup=0.5)
    hard, soft = taught
    assert set(hard.tolist()) == {0.0, 1.0}
    assert ((soft > 0) & (soft < 1)).any()
    assert ((soft >= 0) & (soft <= 1)).all()


def test_adversarial_examples_are_harder_and_share_the_loss(tiny_dataset: Dataset, rows: TrainingRows) -> None:
    plain, half, only = (losses(tiny_dataset, rows, dropout=0.0, adversarial=share) for share in (0.0, 0.5, 1.0))
    for name, term in plain.items():
        assert half[name] == pytest.approx(0.5 * term)
        assert only[name] == 0.0
    assert only["adversarial"] > 1.001 * sum(plain.values())
    assert half["adversarial"] == pytest.approx(0.5 * only["adversarial"])


@pytest.mark.parametrize("options", [{"mixup": 0.3}, {"adversarial": 0.4}, {"mixup": 0.3, "adversarial": 0.4}])
def test_training_on_changed_rows_resumes_to_the_same_result(
    tiny_dataset: Dataset, rows: TrainingRows, tmp_path: Path, options: dict[str, float]
) -> None:
    objective = LabelObjective(rows, label_smoothing=0.05, **options)
    config = CONFIG.model_copy(update={"epochs": 2})
    whole = trainer(tiny_dataset, rows, config).run(objective)
    checkpoint = tmp_path / "student.pt"
    half = trainer(tiny_dataset, rows, config, checkpoint)
    half.progress = lambda name, done, total, best: _stop_after(half.steps_per_epoch, done)
    with pytest.raises(KilledError):
        half.run(objective)
    torch.manual_seed(12345)
    assert summary(trainer(tiny_dataset, rows, config, checkpoint).run(objective)) == summary(whole)


def _stop_after(steps: int, done: int) -> None:
    if done > steps:
        raise KilledError


def test_an_epoch_takes_other_rows_of_a_mix_that_is_larger() -> None:
    trainer = small_trainer(rows_per_epoch=20)
    assert len(trainer.rows.draw) > 40
    first, second = (trainer._order(small_labels(), epoch) for epoch in (0, 1))
    assert len(first) == len(second) == 20
    assert set(first) != set(second)
    assert set(first) <= set(trainer.rows.draw)
