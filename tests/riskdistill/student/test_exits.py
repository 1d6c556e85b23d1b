"""Early exits: they learn from the end, leave within the tolerance, and a row's score is its own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from sklearn.metrics import average_precision_score

from riskdistill.config import ExitConfig
from riskdistill.dataset import Dataset
from riskdistill.errors import BundleDamagedError, TrainingError
from riskdistill.features import Encoded
from riskdistill.models.calibration import Calibrator
from riskdistill.models.early_exit import NEVER, EarlyExitScorer, ExitPolicy
from riskdistill.models.event_transformer import EventTransformer, EventTransformerConfig
from riskdistill.models.training import LabelObjective, Trainer
from riskdistill.student.exits import ExitObjective, choose_exits, exit_logits, export_exits, walk

CONFIG = ExitConfig(tolerance=0.01)


@pytest.fixture(scope="module")
def student(tiny_dataset: Dataset) -> EventTransformer:
    """Two layers with exits, trained for two epochs."""
    plain = tiny.network(tiny_dataset, tiny.CONFIG.student.model_copy(update={"layers": 2}))
    model = EventTransformer(EventTransformerConfig(**{**plain.config.to_dict(), "exits": True}))
    model.load_state_dict(plain.state_dict(), strict=False)
    objective = ExitObjective(LabelObjective(tiny_dataset.train, label_smoothing=0.0), CONFIG.weight)
    validation = tiny_dataset.validation.encoded, tiny_dataset.validation.label
    return (
        Trainer("exits", model, tiny_dataset.train, validation, tiny.CONFIG.student_training).run(objective).model
    )


@pytest.fixture(scope="module")
def policy(student: EventTransformer, tiny_dataset: Dataset) -> ExitPolicy:
    return choose_exits(student, (tiny_dataset.validation.encoded, tiny_dataset.validation.label), CONFIG)


@pytest.fixture(scope="module")
def forced(policy: ExitPolicy, student: EventTransformer, tiny_dataset: Dataset) -> ExitPolicy:
    """Rules by which some rows leave at every exit, whatever the training made of them."""
    logits, _ = exit_logits(student, tiny_dataset.test.encoded)
    limits = tuple(
        float(np.median(policy.calibrators[depth].log_odds(logits[:, depth]))) - 1e-3 for depth in range(2)
    )
    return policy.model_copy(update={"limits": limits, "short_history": -1})


@pytest.fixture(scope="module")
def scorer(
    student: EventTransformer,
    forced: ExitPolicy,
    tiny_dataset: Dataset,
    tmp_path_factory: pytest.TempPathFactory,
) -> EarlyExitScorer:
    folder = tmp_path_factory.mktemp("exits")
    export_exits(student, forced, folder, tiny_dataset.test.encoded)
    return EarlyExitScorer(folder)


def test_the_chosen_rules_cost_no_more_than_the_tolerance(
    student: EventTransformer, policy: ExitPolicy, tiny_dataset: Dataset
) -> None:
    label = tiny_dataset.validation.label
    logits, events = exit_logits(student, tiny_dataset.validation.encoded)
    log_odds = np.stack([c.log_odds(column) for c, column in zip(policy.calibrators, logits.T, strict=True)], 1)
    left, depths = walk(policy, log_odds, events)
    lost = average_precision_score(label, log_odds[:, -1]) - average_precision_score(label, left)
    assert lost <= CONFIG.tolerance
    assert depths.mean() <= 0.7 * 2  # at least 30 % of the layers are saved


def test_served_rows_leave_where_the_network_says(
    student: EventTransformer, forced: ExitPolicy, scorer: EarlyExitScorer, tiny_dataset: Dataset
) -> None:
    rows = tiny_dataset.test.encoded
    logits, events = exit_logits(student, rows)
    log_odds = np.stack([c.log_odds(column) for c, column in zip(forced.calibrators, logits.T, strict=True)], 1)
    expected, expected_depths = walk(forced, log_odds, events)
    scored, depths = scorer.score_with_depths(rows)
    assert set(depths) == {0, 1, 2}
    assert (depths == expected_depths).mean() > 0.99  # a row may lie on a limit
    same = depths == expected_depths
    np.testing.assert_allclose(scored.logit[same], expected[same], atol=1e-3)


@pytest.mark.parametrize("size", [0, 1, 5, 64])
def test_a_row_scores_alone_as_in_a_batch(scorer: EarlyExitScorer, tiny_dataset: Dataset, size: int) -> None:
    batch: Encoded = tiny_dataset.test.encoded.take(slice(0, size))
    together = scorer.score(batch)
    alone = [scorer.score(batch.take(slice(row, row + 1))) for row in range(size)]
    assert together.score.shape == (size,)
    assert together.typology.shape == (size, len(tiny_dataset.typologies))
    np.testing.assert_allclose([one.score[0] for one in alone], together.score, atol=1e-6)


def test_exits_do_not_move_the_end(student: EventTransformer, tiny_dataset: Dataset) -> None:
    objective = ExitObjective(LabelObjective(tiny_dataset.train, label_smoothing=0.0), 1.0)
    student.train(False)
    terms = objective.loss(student, tiny_dataset.train.draw[:64], 0)
    gradient = torch.autograd.grad(terms["exits"], [student.head.weight], allow_unused=True)[0]
    assert gradient is None or not gradient.any()


def test_short_histories_leave_by_their_own_limit() -> None:
    rules = ExitPolicy(calibrators=(Calibrator(),) * 2, limits=(NEVER,), short_history=1, short_limit=0.0)
    leaves = rules.leaves(0, np.array([-1.0, -1.0, 1.0]), np.array([1, 2, 0]))
    assert leaves.tolist() == [True, False, False]
    assert rules.leaves(1, np.zeros(3), np.zeros(3, np.int64)).all()


def test_a_network_without_exits_is_refused(tiny_dataset: Dataset) -> None:
    model = tiny.network(tiny_dataset, tiny.CONFIG.student)
    objective = ExitObjective(LabelObjective(tiny_dataset.train, label_smoothing=0.0), 1.0)
    with pytest.raises(TrainingError, match="no exits"):
        objective.loss(model, tiny_dataset.train.draw[:8], 0)


def test_a_folder_without_rules_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleDamagedError, match="early exits"):
        EarlyExitScorer(tmp_path)
