"""Early exits: rows that leave cost nothing in PR-AUC, and no row's way depends on its batch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tiny
from hypothesis import given
from hypothesis import strategies as st

from riskdistill.dataset import Dataset
from riskdistill.errors import TrainingError
from riskdistill.models.calibration import Calibrator
from riskdistill.models.training import LabelObjective, Trainer, score_logits
from riskdistill.student.exit_export import export_exits
from riskdistill.student.exit_scorer import EarlyExitScorer, ExitRule, event_counts
from riskdistill.student.exits import ExitingStudent, choose_rule, fit_exits, logits_by_depth


@pytest.fixture(scope="module")
def student(tiny_dataset: Dataset) -> ExitingStudent:
    model = tiny.network(tiny_dataset, tiny.CONFIG.student.model_copy(update={"layers": 3}))
    validation = tiny_dataset.validation.encoded, tiny_dataset.validation.label
    objective = LabelObjective(tiny_dataset.train, label_smoothing=0.05)
    Trainer("student", model, tiny_dataset.train, validation, tiny.CONFIG.training).run(objective)
    return fit_exits(model, tiny_dataset.train.encoded)


@pytest.fixture(scope="module")
def scorer(
    student: ExitingStudent, tiny_dataset: Dataset, tmp_path_factory: pytest.TempPathFactory
) -> EarlyExitScorer:
    folder = tmp_path_factory.mktemp("exits")
    logits = logits_by_depth(student, tiny_dataset.test.encoded)
    bounds = [
        float(Calibrator()(np.quantile(column, share))) for column, share in zip(logits, (0.4, 0.6), strict=False)
    ]
    rule = ExitRule(calibrators=(Calibrator(),) * 3, bounds=tuple(bounds))
    export_exits(student, rule, folder, tiny_dataset.test.encoded)
    return EarlyExitScorer(folder, events_per_party=student.model.config.events_per_party)


def test_the_last_exit_is_the_network_itself(student: ExitingStudent, tiny_dataset: Dataset) -> None:
    rows = tiny_dataset.test.encoded
    np.testing.assert_allclose(logits_by_depth(student, rows)[-1], score_logits(student.model, rows)[0], atol=1e-5)


def test_earlier_exits_foretell_the_last(student: ExitingStudent, tiny_dataset: Dataset) -> None:
    logits = logits_by_depth(student, tiny_dataset.test.encoded)
    for column in logits[:-1]:
        assert np.corrcoef(column, logits[-1])[0, 1] > 0.8


def test_the_rule_keeps_pr_auc_and_saves_layers(student: ExitingStudent, tiny_dataset: Dataset) -> None:
    rows = tiny_dataset.validation
    rule, gain = choose_rule(student, rows.encoded, rows.label, shift=0.0)
    assert gain.pr_auc >= gain.full_pr_auc - 0.002
    assert 0 < gain.saved < 1
    none, nothing = choose_rule(student, rows.encoded, rows.label, shift=0.0, tolerance=-2.0)
    assert none.bounds == (-1.0, -1.0)
    assert none.short == -1
    assert nothing.saved == pytest.approx(0)
    assert rule != none


@pytest.mark.parametrize("size", [0, 1, 5, 64])
def test_a_row_leaves_alone_where_it_leaves_in_a_batch(
    scorer: EarlyExitScorer, tiny_dataset: Dataset, size: int
) -> None:
    batch = tiny_dataset.test.encoded.take(slice(0, size))
    together, layers = scorer.score(batch)
    assert together.score.shape == layers.shape == (size,)
    for row in range(size):
        alone, depth = scorer.score(batch.take(slice(row, row + 1)))
        assert abs(alone.score[0] - together.score[row]) <= 1e-6
        assert depth[0] == layers[row]


def test_segments_score_as_the_network_at_each_row_s_depth(
    scorer: EarlyExitScorer, student: ExitingStudent, tiny_dataset: Dataset
) -> None:
    batch = tiny_dataset.test.encoded
    scored, layers = scorer.score(batch)
    assert set(layers.tolist()) == {1, 2, 3}
    expected = logits_by_depth(student, batch)[layers - 1, np.arange(len(batch))]
    np.testing.assert_allclose(scored.logit, expected, atol=1e-4)
    np.testing.assert_allclose(scored.typology.sum(-1), 1, atol=1e-5)


def test_events_are_counted_as_far_as_the_student_reads(tiny_dataset: Dataset) -> None:
    rows = tiny_dataset.test.encoded
    assert event_counts(rows, 1).max() <= 2
    assert (event_counts(rows, 4) >= event_counts(rows, 1)).all()


@given(st.lists(st.tuples(st.floats(0, 1), st.integers(0, 9)), min_size=1), st.floats(-1, 1), st.integers(-1, 9))
def test_every_row_leaves_after_the_last_layer_and_short_ones_at_once(
    rows: list[tuple[float, int]], bound: float, short: int
) -> None:
    rule = ExitRule(calibrators=(Calibrator(),) * 2, bounds=(bound,), short=short)
    score, events = np.array([row[0] for row in rows]), np.array([row[1] for row in rows])
    assert rule.leaves(1, score, events).all()
    np.testing.assert_array_equal(rule.leaves(0, score, events), (score < bound) | (events <= short))


def test_a_student_of_one_layer_is_refused(tiny_run: tiny.TinyRun, tiny_dataset: Dataset) -> None:
    with pytest.raises(TrainingError, match="one layer"):
        fit_exits(tiny_run.student, tiny_dataset.train.encoded)


def test_the_rule_survives_its_file(scorer: EarlyExitScorer, tmp_path: Path) -> None:
    (tmp_path / "rule.json").write_text(scorer.rule.model_dump_json())
    assert ExitRule.model_validate_json((tmp_path / "rule.json").read_text()) == scorer.rule
