"""Early exits: rows that leave cost nothing in PR-AUC, and no row's way depends on its batch."""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import tiny
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from riskdistill.dataset import Dataset
from riskdistill.errors import BundleDamagedError, BundleIncompatibleError, TrainingError
from riskdistill.models.calibration import Calibrator
from riskdistill.models.label_objective import LabelObjective
from riskdistill.models.training import Trainer, score_logits
from riskdistill.student import exit_export, exit_scorer
from riskdistill.student.exit_export import export_exits
from riskdistill.student.exit_scorer import RULE_FILE, EarlyExitScorer, ExitRule, event_counts, segment_file
from riskdistill.student.exits import ExitingStudent, choose_rule, fit_exits, logits_by_depth


@pytest.fixture(scope="module")
def student(tiny_dataset: Dataset) -> ExitingStudent:
    model = tiny.network(tiny_dataset, tiny.CONFIG.student.model_copy(update={"layers": 3}))
    validation = tiny_dataset.validation.encoded, tiny_dataset.validation.label
    objective = LabelObjective(tiny_dataset.train, label_smoothing=0.05)
    Trainer("student", model, tiny_dataset.train, validation, tiny.CONFIG.training).run(objective)
    return fit_exits(model, tiny_dataset.train.encoded)


@pytest.fixture(scope="module")
def served(student: ExitingStudent, tiny_dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Segments and a rule by which some rows leave at every exit."""
    folder = tmp_path_factory.mktemp("exits")
    logits = logits_by_depth(student, tiny_dataset.test.encoded)
    bounds = [
        float(Calibrator()(np.quantile(column, share))) for column, share in zip(logits, (0.4, 0.6), strict=False)
    ]
    read = student.model.config.events_per_party
    rule = ExitRule(events_per_party=read, calibrators=(Calibrator(),) * 3, bounds=tuple(bounds))
    assert export_exits(student, rule, folder, tiny_dataset.test.encoded) < 1e-4
    return folder


@pytest.fixture(scope="module")
def scorer(served: Path) -> EarlyExitScorer:
    return EarlyExitScorer(served, Calibrator())


@pytest.fixture
def copied(served: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    return Path(shutil.copytree(served, tmp_path / "copied"))


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
    together, layers = scorer.score_by_layers(batch)
    assert together.score.shape == layers.shape == (size,)
    for row in range(size):
        alone, depth = scorer.score_by_layers(batch.take(slice(row, row + 1)))
        assert abs(alone.score[0] - together.score[row]) <= 1e-6
        assert depth[0] == layers[row]


def test_segments_score_as_the_network_at_each_row_s_depth(
    scorer: EarlyExitScorer, student: ExitingStudent, tiny_dataset: Dataset
) -> None:
    batch = tiny_dataset.test.encoded
    scored, layers = scorer.score_by_layers(batch)
    assert set(layers.tolist()) == {1, 2, 3}
    expected = logits_by_depth(student, batch)[layers - 1, np.arange(len(batch))]
    np.testing.assert_allclose(scored.logit, expected, atol=1e-4)
    np.testing.assert_allclose(scored.typology.sum(-1), 1, atol=1e-5)
    np.testing.assert_allclose(scorer.score_all(batch).logit, scored.logit, atol=1e-6)


def test_rows_of_all_exits_answer_on_one_scale_which_one_calibrator_corrects(
    copied: Path, scorer: EarlyExitScorer, student: ExitingStudent, tiny_dataset: Dataset
) -> None:
    batch = tiny_dataset.test.encoded
    exits = tuple(Calibrator(slope=1.0 + depth, intercept=-depth) for depth in range(3))
    # bounds in the first exits' scores, moved so that the same rows leave
    bounds = [float(exit_(logit_of(bound))) for exit_, bound in zip(exits, scorer.rule.bounds, strict=False)]
    rule = scorer.rule.model_copy(update={"calibrators": exits, "bounds": tuple(bounds)})
    (copied / RULE_FILE).write_text(rule.model_dump_json())
    overall = Calibrator(slope=0.5, intercept=0.1)
    scored, layers = EarlyExitScorer(copied, overall).score_by_layers(batch)
    logits = logits_by_depth(student, batch)
    expected = np.stack([exit_.log_odds(column) for exit_, column in zip(exits, logits, strict=True)])
    assert set(layers.tolist()) == {1, 2, 3}
    np.testing.assert_allclose(scored.logit, expected[layers - 1, np.arange(len(batch))], atol=5e-4)
    np.testing.assert_array_equal(scored.score, overall(scored.logit))


def test_what_is_saved_is_told_of_the_layers_that_rows_went_through(
    scorer: EarlyExitScorer, tiny_dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exit_scorer, "ROWS_AT_A_TIME", 50)
    _, layers = scorer.score_by_layers(tiny_dataset.test.encoded)
    assert scorer.layers_saved(tiny_dataset.test.encoded) == pytest.approx(1 - layers.mean() / 3)


def logit_of(score: float) -> NDArray[np.float64]:
    return np.array(np.log(score / (1 - score)))


def test_an_export_that_differs_is_refused(
    student: ExitingStudent,
    scorer: EarlyExitScorer,
    tiny_dataset: Dataset,
    copied: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The segments of `copied` stay, and the head of its last exit is another's."""
    monkeypatch.setattr(exit_export, "write_onnx", lambda *_: None)
    other = copy.deepcopy(student)
    with torch.no_grad():
        other.exits[-1].bias += 1e-3
    export_exits(student, scorer.rule, copied, tiny_dataset.test.encoded)
    with pytest.raises(TrainingError, match="differs from PyTorch"):
        export_exits(other, scorer.rule, copied, tiny_dataset.test.encoded)


def test_segments_of_another_dataset_are_refused(served: Path, student: ExitingStudent) -> None:
    fingerprint = student.model.config.dataset_fingerprint
    EarlyExitScorer(served, Calibrator(), dataset=fingerprint)
    with pytest.raises(BundleIncompatibleError, match=f"{fingerprint}, not another"):
        EarlyExitScorer(served, Calibrator(), dataset="another")


def test_the_provider_computes_every_segment(served: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, int, str]] = []
    open_session = exit_scorer.open_session

    def opened(path: Path, threads: int, provider: str, dataset: str) -> Any:
        asked.append((path.name, threads, provider))
        return open_session(path, threads, dataset=dataset)

    monkeypatch.setattr(exit_scorer, "open_session", opened)
    EarlyExitScorer(served, Calibrator(), threads=2, provider="cuda")
    assert asked == [(segment_file(depth), 2, "cuda") for depth in range(3)]


def test_what_is_no_number_is_no_score(copied: Path, tiny_dataset: Dataset) -> None:
    last = copied / segment_file(2)
    model = onnx.load(last)
    for weights in model.graph.initializer:
        if onnx.numpy_helper.to_array(weights).dtype == np.float32:
            broken = np.full(tuple(weights.dims), np.nan, np.float32)
            weights.CopyFrom(onnx.numpy_helper.from_array(broken, weights.name))
    onnx.save(model, last)
    with pytest.raises(BundleDamagedError, match="not a number"):
        EarlyExitScorer(copied, Calibrator()).score(tiny_dataset.test.encoded)


@pytest.mark.parametrize(
    ("change", "mistake"),
    [
        ({"bounds": [0.5]}, "3 depths need one bound fewer, there are 1"),
        ({"bounds": [0.5, float("nan")]}, "finite number"),
        ({"calibrators": [{}], "bounds": []}, "at least 2 items"),
        ({"events_per_party": 0}, "greater than or equal to 1"),
        ({"longest": 3}, "not permitted"),
    ],
)
def test_a_rule_that_is_none_is_refused(copied: Path, change: dict[str, Any], mistake: str) -> None:
    told = json.loads((copied / RULE_FILE).read_text()) | change
    (copied / RULE_FILE).write_text(json.dumps(told))
    with pytest.raises(BundleDamagedError, match=mistake) as caught:
        EarlyExitScorer(copied, Calibrator())
    assert RULE_FILE in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", [RULE_FILE, segment_file(1)])
@pytest.mark.parametrize("content", [None, b"", b"{"])
def test_a_file_that_is_absent_or_damaged_is_named(copied: Path, name: str, content: bytes | None) -> None:
    (copied / name).unlink()
    if content is not None:
        (copied / name).write_bytes(content)
    with pytest.raises(BundleDamagedError, match=name):
        EarlyExitScorer(copied, Calibrator())


def test_events_are_counted_as_far_as_the_student_reads(tiny_dataset: Dataset) -> None:
    rows = tiny_dataset.test.encoded
    assert event_counts(rows, 1).max() <= 2
    assert (event_counts(rows, 4) >= event_counts(rows, 1)).all()


@given(st.lists(st.tuples(st.floats(0, 1), st.integers(0, 9)), min_size=1), st.floats(-1, 1), st.integers(-1, 9))
def test_every_row_leaves_after_the_last_layer_and_short_ones_at_once(
    rows: list[tuple[float, int]], bound: float, short: int
) -> None:
    rule = ExitRule(events_per_party=4, calibrators=(Calibrator(),) * 2, bounds=(bound,), short=short)
    score, events = np.array([row[0] for row in rows]), np.array([row[1] for row in rows])
    assert rule.leaves(1, score, events).all()
    np.testing.assert_array_equal(rule.leaves(0, score, events), (score < bound) | (events <= short))


def test_a_student_of_one_layer_is_refused(tiny_run: tiny.TinyRun, tiny_dataset: Dataset) -> None:
    with pytest.raises(TrainingError, match="one layer"):
        fit_exits(tiny_run.student, tiny_dataset.train.encoded)


def test_the_rule_survives_its_file(scorer: EarlyExitScorer, tmp_path: Path) -> None:
    (tmp_path / "rule.json").write_text(scorer.rule.model_dump_json())
    assert ExitRule.read(tmp_path / "rule.json") == scorer.rule


def test_the_heads_of_the_exits_count_as_parameters(student: ExitingStudent) -> None:
    heads = 2 * (student.model.config.width + 1) * (1 + len(student.model.config.typologies))
    assert student.parameter_count() == student.model.parameter_count() + heads
