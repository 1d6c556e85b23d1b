"""Pruned students: smaller, of the same class, and close to what they were cut from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tiny
import torch

from riskdistill.dataset import Dataset
from riskdistill.errors import TrainingError
from riskdistill.models.event_transformer import EventTransformer
from riskdistill.models.training import LabelObjective, score_logits
from riskdistill.student.pruning import prune


def pruned(model: EventTransformer, dataset: Dataset, keep: float) -> EventTransformer:
    objective = LabelObjective(dataset.train, label_smoothing=0.05)
    return prune(model, objective, np.arange(min(512, len(dataset.train.encoded))), keep=keep)


def test_keeping_all_changes_nothing(tiny_run: tiny.TinyRun, tiny_dataset: Dataset) -> None:
    rows = tiny_dataset.test.encoded
    same = pruned(tiny_run.teacher, tiny_dataset, 1.0)
    np.testing.assert_array_equal(score_logits(same, rows)[0], score_logits(tiny_run.teacher, rows)[0])


def test_half_the_units_go_from_each_block(tiny_run: tiny.TinyRun, tiny_dataset: Dataset) -> None:
    before, after = tiny_run.teacher, pruned(tiny_run.teacher, tiny_dataset, 0.5)
    assert after.config.context_width == before.config.context_width // 2
    assert after.config.feedforward == before.config.feedforward / 2
    assert after.parameter_count() < 0.7 * before.parameter_count()


def test_units_without_effect_go_first(tiny_dataset: Dataset) -> None:
    model = tiny.network(tiny_dataset, tiny.CONFIG.teacher)
    with torch.no_grad():
        for layer in model.encoder:
            units = layer.feedforward[1].out_features
            layer.feedforward[3].weight[:, : units // 2] = 0
    half = pruned(model, tiny_dataset, 0.5)
    for small, large in zip(half.encoder, model.encoder, strict=True):
        units = large.feedforward[1].out_features
        torch.testing.assert_close(small.feedforward[1].weight, large.feedforward[1].weight[units // 2 :])
        torch.testing.assert_close(small.feedforward[3].weight, large.feedforward[3].weight[:, units // 2 :])


def test_a_pruned_student_is_saved_and_loaded(
    tiny_run: tiny.TinyRun, tiny_dataset: Dataset, tmp_path: Path
) -> None:
    half = pruned(tiny_run.student, tiny_dataset, 0.3)
    half.save_pretrained(tmp_path)
    loaded = EventTransformer.from_pretrained(tmp_path)
    rows = tiny_dataset.test.encoded
    np.testing.assert_array_equal(score_logits(loaded, rows)[0], score_logits(half, rows)[0])


@pytest.mark.parametrize("keep", [0.0, -1.0, 1.5])
def test_shares_that_make_no_sense_are_refused(tiny_run: tiny.TinyRun, tiny_dataset: Dataset, keep: float) -> None:
    with pytest.raises(TrainingError, match="keep"):
        pruned(tiny_run.student, tiny_dataset, keep)
