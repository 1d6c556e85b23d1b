"""The alignment phase: the threshold is natural traffic's, and each term pulls where the business wants it."""

from __future__ import annotations

import numpy as np
import pytest
import tiny
import torch
from hypothesis import given
from hypothesis import strategies as st

from riskdistill.config import AlignmentConfig
from riskdistill.dataset import Dataset
from riskdistill.errors import TrainingError
from riskdistill.models.alignment import AlignmentObjective, Feedback, Traffic, threshold
from riskdistill.models.label_objective import LabelObjective
from riskdistill.models.training import TrainingRows, gradient_shares

TRAFFIC = Traffic(natural=0.01, mixed=0.3, budget=0.05)


def objective(rows: TrainingRows, feedback: Feedback | None = None, **config: float) -> AlignmentObjective:
    labels = LabelObjective(rows, label_smoothing=0.0)
    return AlignmentObjective(rows, labels, AlignmentConfig(**config), TRAFFIC, feedback)


def verdicts(rows: TrainingRows, verdict: float) -> Feedback:
    taken = rows.encoded.take(rows.draw[:16])
    return Feedback(taken, np.full(16, verdict, np.float32), np.linspace(1, 2, 16, dtype=np.float32))


def test_every_term_teaches_the_network_and_can_be_left_out(tiny_dataset: Dataset) -> None:
    rows = tiny_dataset.train
    model = tiny.network(tiny_dataset, tiny.CONFIG.student)
    batch = rows.draw[:: len(rows.draw) // 128]
    terms = objective(rows, verdicts(rows, 1.0)).loss(model, batch, 0)
    assert set(terms) == {"labels", "typology", "recall", "cost", "feedback"}
    assert all(share > 0 for share in gradient_shares(model, terms).values())
    assert set(objective(rows, recall=0.0, labels=0.0).loss(model, batch, 0)) == {"cost"}


@given(st.integers(0, 2**31), st.floats(0.01, 0.9))
def test_the_threshold_leaves_the_budget_of_natural_traffic_above_it(seed: int, budget: float) -> None:
    random = torch.Generator().manual_seed(seed)
    logit = torch.randn(200, generator=random, dtype=torch.float64)
    weight = Traffic(0.01, 0.3, budget).weights((torch.rand(200, generator=random) < 0.3).double())
    at = threshold(logit, weight, budget)
    above, from_it = (float(weight[rows].sum() / weight.sum()) for rows in (logit > at, logit >= at))
    assert above <= budget + 1e-9
    assert from_it >= budget - 1e-9


def pulled(loss: torch.Tensor, logit: torch.Tensor) -> list[float]:
    (gradient,) = torch.autograd.grad(loss, logit)
    return gradient.tolist()


def test_recall_and_cost_raise_laundering_and_lower_the_rest(tiny_dataset: Dataset) -> None:
    one = objective(tiny_dataset.train)
    logit = torch.tensor([2.0, -1.0, 1.0, -3.0], requires_grad=True)
    label = torch.tensor([1.0, 1.0, 0.0, 0.0])
    for term in (one._recall, one._cost):
        up, also_up, down, also_down = pulled(term(logit, label), logit)
        assert max(up, also_up) < 0 < min(down, also_down)


def test_a_dearer_miss_is_worth_more_alerts(tiny_dataset: Dataset) -> None:
    """Moving all scores up pays when misses are dear, and does not when they are cheap."""
    slopes = []
    for miss_cost in (2.0, 1_000.0):
        logit = torch.zeros(10, requires_grad=True)
        label = torch.tensor([1.0] * 3 + [0.0] * 7)
        slopes.append(sum(pulled(objective(tiny_dataset.train, miss_cost=miss_cost)._cost(logit, label), logit)))
    assert slopes[0] > 0 > slopes[1]


def test_the_threshold_follows_the_scores_and_is_kept_with_the_objective(tiny_dataset: Dataset) -> None:
    one, label = objective(tiny_dataset.train), torch.tensor([1.0, 0.0, 0.0])
    one._recall(torch.tensor([1.0, 2.0, 3.0]), label)
    first = float(one.running)
    one._recall(torch.tensor([11.0, 12.0, 13.0]), label)
    assert float(one.running) == pytest.approx(first + 1.0)
    other = objective(tiny_dataset.train)
    other.load_state_dict(one.state_dict())
    assert float(other.running) == float(one.running)


def test_verdicts_outvote_what_the_network_thought(tiny_dataset: Dataset) -> None:
    rows, config = tiny_dataset.train, {"labels": 0.0, "recall": 0.0, "cost": 0.0}
    scores = []
    for verdict in (0.0, 1.0):
        model = tiny.network(tiny_dataset, tiny.CONFIG.student.model_copy(update={"dropout": 0.0}))
        feedback = verdicts(rows, verdict)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
        for _ in range(5):
            terms = objective(rows, feedback, **config).loss(model, rows.draw[:16], 0)
            optimizer.zero_grad()
            terms["feedback"].backward()
            optimizer.step()
        context, events = (torch.from_numpy(part) for part in vars(feedback.rows).values())
        scores.append(model(context, events).logit.mean().item())
    assert scores[0] < scores[1]


@pytest.mark.parametrize("share", [0.0, 1.0, -0.1])
def test_a_share_of_traffic_that_cannot_be_is_refused(share: float) -> None:
    with pytest.raises(TrainingError, match="budget must lie between 0 and 1"):
        Traffic(natural=0.01, mixed=0.3, budget=share)
