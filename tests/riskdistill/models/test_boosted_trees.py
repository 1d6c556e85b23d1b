"""The boosted-tree baseline: chosen by validation, stored, and the same on every run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from riskdistill.config import BoostedTreesConfig, TreeCandidate
from riskdistill.errors import TrainingError, UnreadableFileError
from riskdistill.models.boosted_trees import BoostedTrees, Rows, fit_trees, load_booster

USELESS = TreeCandidate(num_leaves=2, learning_rate=1e-6, rounds=2)
USEFUL = TreeCandidate(num_leaves=8, learning_rate=0.2, feature_fraction=1.0, min_data_in_leaf=5, rounds=30)


def made(seed: int, count: int = 1_500) -> Rows:
    rng = np.random.default_rng(seed)
    context = rng.normal(size=(count, 4)).astype(np.float32)
    context[rng.random(context.shape) < 0.1] = np.nan
    label = np.nan_to_num(context[:, 0]) + np.nan_to_num(context[:, 1]) ** 2 + rng.normal(0, 0.3, count) > 3
    return context, label


def fitted(*candidates: TreeCandidate) -> BoostedTrees:
    config = BoostedTreesConfig(candidates=candidates, early_stopping_rounds=50)
    return fit_trees(made(1), made(2), config, seed=3)


@pytest.mark.parametrize("candidates", [(USELESS, USEFUL), (USEFUL, USELESS)])
def test_validation_chooses_the_candidate(candidates: tuple[TreeCandidate, ...]) -> None:
    trees = fitted(*candidates)
    context, label = made(2)
    assert trees.chosen == USEFUL
    assert trees.validation_pr_auc == pytest.approx(average_precision_score(label, trees.score_logits(context)))
    assert trees.validation_pr_auc > 0.6


def test_the_same_seed_gives_the_same_trees() -> None:
    context, _ = made(4)
    np.testing.assert_array_equal(fitted(USEFUL).score_logits(context), fitted(USEFUL).score_logits(context))


def test_stored_trees_score_as_before(tmp_path: Path) -> None:
    trees, (context, _) = fitted(USEFUL), made(4)
    trees.save(tmp_path / "trees.txt", dataset="d1")
    loaded = BoostedTrees(load_booster(tmp_path / "trees.txt", dataset="d1"), USEFUL, trees.validation_pr_auc)
    np.testing.assert_array_equal(loaded.score_logits(context), trees.score_logits(context))
    assert loaded.parameters == trees.parameters > 0
    assert [file.name for file in tmp_path.iterdir()] == ["trees.txt"]


def test_a_row_scores_alone_as_in_a_batch() -> None:
    trees, (context, _) = fitted(USEFUL), made(4)
    alone = [trees.score_logits(context[row : row + 1])[0] for row in range(20)]
    np.testing.assert_array_equal(alone, trees.score_logits(context)[:20])


def test_progress_ends_at_most_at_the_rounds_planned() -> None:
    heard: list[tuple[int, int]] = []
    config = BoostedTreesConfig(candidates=(USELESS, USEFUL), early_stopping_rounds=50)
    fit_trees(made(1), made(2), config, seed=3, progress=lambda done, total: heard.append((done, total)))
    assert {total for _, total in heard} == {32}
    assert [done for done, _ in heard] == sorted(done for done, _ in heard)
    assert heard[-1][0] <= 32


@pytest.mark.parametrize("content", [None, b"", b"not trees"])
def test_a_file_that_holds_no_trees_is_refused(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "trees.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UnreadableFileError, match=r"trees\.txt"):
        load_booster(path, dataset="d1")


def test_trees_of_another_dataset_are_refused(tmp_path: Path) -> None:
    trees = fitted(USEFUL)
    trees.save(tmp_path / "trees.txt", dataset="d1")
    with pytest.raises(TrainingError, match="trees of a dataset d1, not d2"):
        load_booster(tmp_path / "trees.txt", dataset="d2")
    trees.booster.save_model(str(tmp_path / "other.txt"))
    with pytest.raises(TrainingError, match="that is not named"):
        load_booster(tmp_path / "other.txt", dataset="d1")
