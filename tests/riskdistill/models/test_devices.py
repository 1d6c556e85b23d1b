"""Precisions, accumulation and processes change how a step is computed and not what it is."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from small_training import small_labels, small_trainer
from torch import Tensor

from riskdistill.errors import TrainingError
from riskdistill.models.training import Trainer, score_logits


def trained(**config: object) -> dict[str, Tensor]:
    return small_trainer(**config).run(small_labels()).model.state_dict()


def distance(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    return max(float((one[name] - other[name]).abs().max()) for name in one)


def test_bf16_stays_near_fp32_and_keeps_fp32_weights() -> None:
    exact, rough = trained(), trained(precision="bf16")
    assert 0 < distance(exact, rough) < 0.02
    assert all(tensor.dtype == exact[name].dtype for name, tensor in rough.items())


def test_each_training_has_its_own_precision() -> None:
    before = trained()
    trained(precision="bf16")
    assert distance(before, trained()) == 0


@pytest.mark.skipif(torch.cuda.is_available(), reason="fp16 works on this machine's GPU")
def test_fp16_without_a_gpu_is_refused() -> None:
    with pytest.raises(TrainingError, match="cannot train in fp16 here"):
        small_trainer(precision="fp16")


def test_accumulated_batches_make_the_step_of_one_large_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.nn.functional, "dropout", lambda values, *args, **more: values)
    monkeypatch.setattr(torch.nn.functional, "dropout1d", lambda values, *args, **more: values)
    large, small = trained(batch_size=32), trained(batch_size=8, accumulation=4)
    assert distance(large, small) < 1e-4
    assert distance(large, trained(batch_size=8)) > 1e-3


def test_an_accumulated_step_counts_once() -> None:
    trainer: Trainer = small_trainer(batch_size=8, accumulation=4)
    assert trainer.steps_per_epoch == 5
    told = trainer.run(small_labels())
    assert 0.1 < told.epochs[0].terms["labels"] < 1.5  # a mean, not a sum of batches


def test_a_trained_network_scores_on_the_cpu() -> None:
    trainer = small_trainer()
    model = trainer.run(small_labels()).model
    assert model.device.type == "cpu"
    logits, _ = score_logits(model, trainer.rows.encoded)
    assert np.isfinite(logits).all()
