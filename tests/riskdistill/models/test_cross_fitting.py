"""Cross-fitted trees: every training row is answered by trees that have not seen its block of time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from riskdistill.config import BoostedTreesConfig, TreeCandidate
from riskdistill.errors import TrainingError
from riskdistill.models.bins import Bins
from riskdistill.models.boosted_trees import BoostedTrees, Rows, fit_trees
from riskdistill.models.cross_fitting import BLOCKS, CrossFittedTrees, cross_fit

ROUNDS = 12
EAGER = TreeCandidate(num_leaves=31, learning_rate=0.5, feature_fraction=1.0, min_data_in_leaf=1, rounds=ROUNDS)
PLACES = np.arange(500)


def made(signal: float = 2.0) -> Rows:
    rng = np.random.default_rng(1)
    context = rng.normal(size=(len(PLACES), 4)).astype(np.float32)
    return context, signal * context[:, 0] + rng.normal(size=len(PLACES)) > 1


@pytest.fixture(scope="module")
def chosen() -> BoostedTrees:
    return fit_trees(made(), made(), BoostedTreesConfig(candidates=(EAGER,), early_stopping_rounds=ROUNDS), seed=3)


def fitted(chosen: BoostedTrees, train: Rows, **settings: object) -> CrossFittedTrees:
    return cross_fit(train, chosen, **{"seed": 3, "dataset": "d1"} | settings)


@pytest.mark.parametrize("number", range(BLOCKS))
def test_what_a_block_was_labelled_does_not_move_its_own_answers(chosen: BoostedTrees, number: int) -> None:
    context, label = made()
    before = fitted(chosen, (context, label))
    own = before.block == number
    after = fitted(chosen, (context, label ^ own))
    told, then = (trees.out_of_fold(context, PLACES) for trees in (before, after))
    np.testing.assert_array_equal(then[own], told[own])
    assert (then[~own] != told[~own]).mean() > 0.9


def test_trees_that_know_noise_by_heart_cannot_tell_it_out_of_fold(chosen: BoostedTrees) -> None:
    context, label = made(signal=0.0)
    trees = fitted(chosen, (context, label))
    assert roc_auc_score(label, trees.score_logits(context)) > 0.95  # four of five have seen the row
    assert 0.4 < roc_auc_score(label, trees.out_of_fold(context, PLACES)) < 0.6


def test_blocks_are_of_one_size_and_follow_time(chosen: BoostedTrees) -> None:
    block = fitted(chosen, made()).block
    assert (np.diff(block) >= 0).all()
    assert np.bincount(block).tolist() == [len(PLACES) // BLOCKS] * BLOCKS


def test_a_row_is_answered_by_its_place_and_a_made_one_by_all(chosen: BoostedTrees) -> None:
    train = made()
    trees = fitted(chosen, train)
    place = np.array([499, -1, 0, 250, -1])
    context = train[0][np.where(place >= 0, place, 7)]
    answers = trees.out_of_fold(context, place)
    np.testing.assert_array_equal(answers[[0, 2, 3]], trees.out_of_fold(train[0], PLACES)[[499, 0, 250]])
    np.testing.assert_array_equal(answers[[1, 4]], trees.score_logits(context)[[1, 4]])


def test_a_new_row_is_answered_by_the_mean(chosen: BoostedTrees) -> None:
    trees, context = fitted(chosen, made()), -made()[0]
    mean = sum(member.score_logits(context) for member in trees.members) / BLOCKS
    np.testing.assert_allclose(trees.score_logits(context), mean)


def test_members_kept_in_a_folder_are_used_again(chosen: BoostedTrees, tmp_path: Path) -> None:
    context, _ = train = made()
    heard: list[int] = []

    def fit() -> CrossFittedTrees:
        heard.clear()
        return fitted(chosen, train, folder=tmp_path, progress=lambda done, total: heard.append(done))

    first = fit()
    assert heard == list(range(1, BLOCKS * ROUNDS + 1))
    again = fit()
    assert heard == []
    np.testing.assert_array_equal(again.out_of_fold(context, PLACES), first.out_of_fold(context, PLACES))

    (tmp_path / "boosted_trees_3.txt").unlink()  # as after a stop
    (tmp_path / "boosted_trees_4.txt").write_text("damaged")
    resumed = fit()
    assert heard == list(range(3 * ROUNDS + 1, BLOCKS * ROUNDS + 1))
    np.testing.assert_array_equal(resumed.out_of_fold(context, PLACES), first.out_of_fold(context, PLACES))


@pytest.mark.parametrize("other", [{"dataset": "d2"}, {"seed": 4}])
def test_members_of_another_dataset_or_seed_are_not_used(
    chosen: BoostedTrees, tmp_path: Path, other: dict[str, object]
) -> None:
    fitted(chosen, made(), folder=tmp_path)
    heard: list[int] = []
    train = made(signal=0.5)
    kept = fitted(chosen, train, folder=tmp_path, progress=lambda done, total: heard.append(done), **other)
    assert len(heard) == BLOCKS * ROUNDS
    fresh = fitted(chosen, train, **other)
    np.testing.assert_array_equal(kept.score_logits(train[0]), fresh.score_logits(train[0]))


def test_all_laundering_in_one_block_is_refused(chosen: BoostedTrees) -> None:
    context, label = made()
    label[100:] = False
    with pytest.raises(TrainingError, match="in block 1 of 5"):
        fitted(chosen, (context, label))


def test_thresholds_are_those_of_all_members_and_serve_as_edges(chosen: BoostedTrees) -> None:
    context, _ = train = made()
    trees = fitted(chosen, train)
    thresholds = trees.thresholds()
    assert list(thresholds) == sorted(thresholds)
    for column, found in thresholds.items():
        each = [member.thresholds().get(column, np.empty(0)) for member in trees.members]
        np.testing.assert_array_equal(found, np.sort(np.concatenate(each)))
    bins = Bins.of_thresholds(context, thresholds, 40)
    inner = np.diff(bins.feature, prepend=-1) == 0  # the first edge of a feature is a quantile
    for column, edge in zip(bins.feature[inner], bins.lower[inner], strict=True):
        assert edge in thresholds[column].astype(np.float32)
    assert trees.parameters == sum(member.parameters for member in trees.members)
