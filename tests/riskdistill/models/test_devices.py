"""Precisions, accumulation and processes change how a step is computed and not what it is."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import small_training
import torch
from small_training import small_labels, small_trainer
from torch import Tensor

from riskdistill.errors import TrainingError
from riskdistill.models.training import Trainer, score_logits


def trained(**config: object) -> dict[str, Tensor]:
    return small_trainer(**config).run(small_labels()).model.state_dict()


def distance(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    return max(float((one[name] - other[name]).abs().max()) for name in one if one[name].numel())


def test_bf16_stays_near_fp32_and_keeps_fp32_weights() -> None:
    exact, rough = trained(), trained(precision="bf16")
    assert 0 < distance(exact, rough) < 0.02
    assert all(tensor.dtype == exact[name].dtype for name, tensor in rough.items())


def test_each_training_has_its_own_precision() -> None:
    before = trained()
    trained(precision="bf16")
    assert distance(before, trained()) == 0


def test_fp16_works_on_a_gpu_and_is_refused_without_one() -> None:
    if torch.cuda.is_available():
        assert 0 < distance(trained(), trained(precision="fp16")) < 0.02
        return
    with pytest.raises(TrainingError, match="fp16 needs a GPU"):
        small_trainer(precision="fp16")


def test_accumulated_batches_make_the_step_of_one_large_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.nn.functional, "dropout", lambda values, *args, **more: values)
    monkeypatch.setattr(torch.nn.functional, "dropout1d", lambda values, *args, **more: values)
    large, small = trained(epochs=1, batch_size=32), trained(epochs=1, batch_size=8, accumulation=4)
    assert 20 * distance(large, small) < distance(large, trained(epochs=1, batch_size=8))


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


def test_two_processes_train_one_network_and_the_main_one_tells_of_it(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2", "ACCELERATE_USE_CPU": "true"}
    processes = [
        subprocess.Popen(
            [sys.executable, "-P", small_training.__file__, str(tmp_path), "epochs=1"],
            env=os.environ | where | {"RANK": rank, "LOCAL_RANK": rank},
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in ("0", "1")
    ]
    try:
        told = [process.communicate(timeout=250)[0].split() for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0]
    assert told == [[str(step) for step in range(1, 11)], []]
    one, other = (torch.load(tmp_path / f"weights-{rank}.pt", weights_only=True) for rank in (0, 1))
    assert distance(one, other) == 0
    assert distance(one, trained(epochs=1)) > 0  # each of them took its half of the rows
