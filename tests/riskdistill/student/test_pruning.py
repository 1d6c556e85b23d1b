"""Pruning: nothing leaves unasked, the least important leaves first, and the rest is really smaller."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tiny
import torch

from riskdistill.config import PruningConfig
from riskdistill.dataset import Dataset
from riskdistill.errors import TrainingError
from riskdistill.models.event_transformer import EventTransformer
from riskdistill.models.label_objective import LabelObjective
from riskdistill.models.onnx_export import export_onnx
from riskdistill.models.training import Trainer, score_logits
from riskdistill.student.pruning import Importance, importance, prune


@pytest.fixture(scope="module")
def model(tiny_dataset: Dataset) -> EventTransformer:
    return tiny.network(tiny_dataset, tiny.CONFIG.teacher.network)


@pytest.fixture(scope="module")
def measured(model: EventTransformer, tiny_dataset: Dataset) -> Importance:
    objective = LabelObjective(tiny_dataset.train, label_smoothing=0.0)
    return importance(model, objective, np.array_split(tiny_dataset.train.draw[:256], 2))


def test_keeping_everything_changes_nothing(
    model: EventTransformer, measured: Importance, tiny_dataset: Dataset
) -> None:
    rows = tiny_dataset.test.encoded
    kept = prune(model, measured, PruningConfig())
    assert kept.parameter_count() == model.parameter_count()
    np.testing.assert_array_equal(score_logits(kept, rows)[0], score_logits(model, rows)[0])


def test_what_is_left_is_smaller_and_can_be_stored_and_served(
    model: EventTransformer, measured: Importance, tiny_dataset: Dataset, tmp_path: Path
) -> None:
    rows = tiny_dataset.test.encoded
    pruned = prune(model, measured, PruningConfig(heads=0.5, feedforward=0.25, context=0.5))
    config = pruned.config
    assert (config.heads, config.attention_width, config.feedforward_width, config.context_width) == (2, 16, 16, 16)
    assert pruned.parameter_count() < 0.6 * model.parameter_count()
    export_onnx(pruned, tmp_path / "pruned.onnx", rows)
    pruned.save_pretrained(tmp_path / "pruned")
    loaded = EventTransformer.from_pretrained(tmp_path / "pruned")
    np.testing.assert_array_equal(score_logits(loaded, rows)[0], score_logits(pruned, rows)[0])


def test_a_part_that_does_nothing_leaves_first(model: EventTransformer, tiny_dataset: Dataset) -> None:
    idle = tiny.network(tiny_dataset, tiny.CONFIG.teacher.network)
    with torch.no_grad():
        for layer in idle.encoder:
            layer.output.weight[:, 8:16] = 0  # the second of four heads says nothing
            layer.feedforward[3].weight[:, ::2] = 0
        idle.context[4].weight[:, 5] = 0
    objective = LabelObjective(tiny_dataset.train, label_smoothing=0.0)
    measured = importance(idle, objective, [tiny_dataset.train.draw[:256]])
    assert (measured.heads.argmin(-1) == 1).all()
    assert (measured.feedforward[:, ::2] < measured.feedforward[:, 1::2].amin(-1, keepdim=True)).all()
    pruned = prune(idle, measured, PruningConfig(heads=0.75, feedforward=0.5))
    rows = tiny_dataset.test.encoded
    np.testing.assert_allclose(score_logits(pruned, rows)[0], score_logits(idle, rows)[0], atol=1e-5)


def test_the_smaller_network_trains_on(
    model: EventTransformer, measured: Importance, tiny_dataset: Dataset
) -> None:
    pruned = prune(model, measured, PruningConfig(heads=0.25, feedforward=0.1))
    validation = tiny_dataset.validation.encoded, tiny_dataset.validation.label
    config = tiny.CONFIG.student_training.model_copy(update={"epochs": 1})
    objective = LabelObjective(tiny_dataset.train, label_smoothing=0.0)
    before = score_logits(pruned, validation[0])[0]
    recovered = Trainer("pruned", pruned, tiny_dataset.train, validation, config).run(objective)
    assert np.abs(score_logits(recovered.model, validation[0])[0] - before).max() > 0


def test_importance_needs_rows(model: EventTransformer, tiny_dataset: Dataset) -> None:
    with pytest.raises(TrainingError, match="no rows"):
        importance(model, LabelObjective(tiny_dataset.train, label_smoothing=0.0), [])


def test_experts_are_not_pruned(tiny_dataset: Dataset) -> None:
    mixed = tiny.network(tiny_dataset, tiny.CONFIG.student.model_copy(update={"experts": 2}))
    with pytest.raises(TrainingError, match="mixture of experts"):
        importance(mixed, LabelObjective(tiny_dataset.train, label_smoothing=0.0), [])
