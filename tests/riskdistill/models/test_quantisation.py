"""Eight-bit networks: what is served in integers is what was trained to round, and no row depends on its batch."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import onnx
import pytest
import tiny
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from riskdistill.dataset import Dataset
from riskdistill.errors import EmptyInputError
from riskdistill.models.calibration import Calibrator
from riskdistill.models.event_transformer import EventTransformer
from riskdistill.models.label_objective import LabelObjective
from riskdistill.models.onnx_export import export_onnx
from riskdistill.models.onnx_model import OnnxScorer
from riskdistill.models.quantisation import QuantisedLinear, quantise
from riskdistill.models.training import Trainer, score_logits, validation_pr_auc


@pytest.fixture(scope="module")
def model(tiny_dataset: Dataset) -> EventTransformer:
    """Two layers, so that one of them is not the last."""
    return tiny.network(tiny_dataset, tiny.CONFIG.student.model_copy(update={"layers": 2}))


@pytest.fixture(scope="module")
def quantised(model: EventTransformer, tiny_dataset: Dataset) -> EventTransformer:
    judge = partial(validation_pr_auc, (tiny_dataset.validation.encoded, tiny_dataset.validation.label))
    return quantise(model, tiny_dataset.train.encoded.take(slice(0, 300)), judge)


@pytest.fixture(scope="module")
def served(quantised: EventTransformer, tiny_dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("int8") / "student.onnx"
    export_onnx(quantised, path, tiny_dataset.test.encoded)
    return path


@pytest.mark.parametrize("size", [0, 1, 5, 64])
def test_a_row_scores_alone_as_in_a_batch(served: Path, tiny_dataset: Dataset, size: int) -> None:
    scorer = OnnxScorer(served, Calibrator())
    batch = tiny_dataset.test.encoded.take(slice(0, size))
    together = scorer.score(batch).logit
    assert together.shape == (size,)
    for row in range(size):
        assert abs(scorer.score(batch.take(slice(row, row + 1))).logit[0] - together[row]) <= 1e-6


def test_integers_score_as_the_rounding_network(
    served: Path, quantised: EventTransformer, tiny_dataset: Dataset
) -> None:
    batch = tiny_dataset.test.encoded.take(slice(0, 300))
    logit = OnnxScorer(served, Calibrator()).score(batch).logit
    assert np.abs(logit - score_logits(quantised, batch)[0]).max() < 1e-2


def test_the_heavy_products_are_of_integers(served: Path) -> None:
    kinds = [node.op_type for node in onnx.load(served).graph.node]
    assert (
        kinds.count("MatMulInteger") == 2 + 4 + 2
    )  # the context's, the first layer's, the last one's feed-forward


def test_rounding_moves_scores_little(
    model: EventTransformer, quantised: EventTransformer, tiny_dataset: Dataset
) -> None:
    batch = tiny_dataset.test.encoded
    exact = score_logits(model, batch)[0]
    moved = np.abs(score_logits(quantised, batch)[0] - exact)
    assert 0 < moved.mean() < 0.1 * exact.std()


def test_the_better_range_rule_is_taken(model: EventTransformer, tiny_dataset: Dataset) -> None:
    asked: list[EventTransformer] = []

    def second_is_better(candidate: EventTransformer) -> float:
        asked.append(candidate)
        return float(len(asked) == 2)

    chosen = quantise(model, tiny_dataset.train.encoded.take(slice(0, 100)), second_is_better)
    assert len(asked) == 2
    assert chosen is asked[1]


def test_a_rounding_network_learns(quantised: EventTransformer, tiny_dataset: Dataset) -> None:
    validation = tiny_dataset.validation.encoded, tiny_dataset.validation.label
    before = {name: value.clone() for name, value in quantised.state_dict().items()}
    objective = LabelObjective(tiny_dataset.train, label_smoothing=0.05)
    config = tiny.CONFIG.training.model_copy(update={"epochs": 1})
    log = Trainer("int8", quantised, tiny_dataset.train, validation, config).run(objective)
    assert np.isfinite(log.best_score)
    after = log.model.state_dict()
    for name in ("context.0.weight", "context.4.low", "encoder.0.projection.high"):
        assert not torch.equal(before[name], after[name])
    log.model.load_state_dict(before)


def test_no_rows_to_calibrate_on_are_refused(model: EventTransformer, tiny_dataset: Dataset) -> None:
    with pytest.raises(EmptyInputError, match="calibrate"):
        quantise(model, tiny_dataset.train.encoded.take(slice(0, 0)), lambda _: 0.0)


@settings(max_examples=30)
@given(st.floats(-50, 0), st.floats(0.01, 50), st.integers(0, 2**32 - 1))
def test_inputs_within_the_range_round_to_the_next_step(low: float, high: float, seed: int) -> None:
    torch.manual_seed(seed)
    linear = nn.Linear(1, 1)
    nn.init.ones_(linear.weight)
    nn.init.zeros_(linear.bias)
    layer = QuantisedLinear(linear)
    with torch.no_grad():
        layer.low.fill_(low)
        layer.high.fill_(high)
        values = torch.rand(50, 1) * (high - low) + low
        step = (high - low) / 255
        assert (layer(values) - values).abs().max() <= 1.01 * step  # the zero of the grid is rounded too
        assert float(layer(torch.zeros(1, 1)).abs()) < 1e-6
