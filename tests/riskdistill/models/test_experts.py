"""Experts are gated per transaction, by shares of one."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny
import torch
from hypothesis import given
from hypothesis import strategies as st

from riskdistill.dataset import Dataset
from riskdistill.models.event_transformer import EventTransformer
from riskdistill.models.experts import CHOSEN, MixtureOfExperts, balance, feed_forward
from riskdistill.models.label_objective import LabelObjective
from riskdistill.models.onnx_export import TOLERANCE, export_onnx


@given(st.integers(1, 6), st.integers(0, 5), st.integers(0, 2**31))
def test_gates_are_shares_of_the_best_two(experts: int, n: int, seed: int) -> None:
    torch.manual_seed(seed)
    gates = MixtureOfExperts(8, 16, experts).gates(torch.randn(n, 3, 8))
    torch.testing.assert_close(gates.sum(-1), torch.ones(n))
    assert ((gates > 0).sum(-1) <= min(CHOSEN, experts)).all()


@pytest.mark.parametrize("experts", [1, 4])
def test_experts_that_are_all_alike_are_the_plain_block(experts: int) -> None:
    torch.manual_seed(1)
    plain, mixture = feed_forward(8, 16), MixtureOfExperts(8, 16, experts)
    for expert in mixture.experts:
        expert.load_state_dict(plain.state_dict())
    hidden = torch.randn(5, 3, 8)
    torch.testing.assert_close(mixture(hidden), plain(hidden))


def test_balance_is_nothing_for_even_use_and_most_for_one_favourite() -> None:
    assert balance(torch.full((6, 4), 0.25)) == 0
    assert balance(torch.eye(4)) == 0
    assert balance(torch.eye(4)[[0, 0, 0]]) == pytest.approx(3.0)


@pytest.fixture(scope="module")
def model(tiny_dataset: Dataset) -> EventTransformer:
    return tiny.network(tiny_dataset, tiny.CONFIG.teacher.network.model_copy(update={"experts": 3}))


def test_only_a_mixture_in_training_adds_its_balance_to_the_loss(
    model: EventTransformer, tiny_dataset: Dataset
) -> None:
    plain = tiny.network(tiny_dataset, tiny.CONFIG.teacher.network)
    objective = LabelObjective(tiny_dataset.train, label_smoothing=0.0)
    rows = tiny_dataset.train.draw[:32]
    model.train()
    terms = objective.loss(model, rows, 0)
    assert 0 < terms["balance"] < 0.01 * model.config.experts
    terms["balance"].backward()
    gates = [layer.feedforward.gate[1].weight.grad for layer in model.encoder]
    assert all(grad is not None and grad.abs().sum() > 0 for grad in gates)
    model.train(False)
    assert "balance" not in objective.loss(model, rows, 0)
    assert "balance" not in objective.loss(plain, rows, 0)


def test_a_mixture_tells_its_gates_and_is_served_as_trained(
    model: EventTransformer, tiny_dataset: Dataset, tmp_path: Path
) -> None:
    rows = tiny_dataset.test.encoded
    assert export_onnx(model, tmp_path / "mixture.onnx", rows) <= TOLERANCE
    few = rows.take(slice(0, 9))
    told = model(torch.from_numpy(few.context), torch.from_numpy(few.events), output_layers=True)
    for view in told.layers:
        assert view.gates.shape == (9, 3)
        assert (view.gates == 0).any()
