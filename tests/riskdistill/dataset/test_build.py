"""The dataset: split by time, mixed as configured, labelled as known then, and blind to what it must not see."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import tiny
from numpy.typing import NDArray

from riskdistill.augmentation import Perturbed, perturb
from riskdistill.config import ExperimentConfig
from riskdistill.data.schema import LABELS, NORMAL
from riskdistill.dataset import DAY, Dataset, build_dataset, replay, split_points, synthetic
from riskdistill.errors import DataError
from riskdistill.features import FeatureEngine

Tables = tuple[pa.Table, pa.Table]


def configured(**sections: Any) -> ExperimentConfig:
    return ExperimentConfig.model_validate({**tiny.CONFIG.model_dump(), **sections})


def microseconds(table: pa.Table, name: str = "timestamp") -> NDArray[np.int64]:
    return np.asarray(table[name].cast(pa.int64()).to_numpy())


@pytest.fixture(scope="module")
def cuts(tiny_tables: Tables) -> tuple[int, int]:
    return split_points(microseconds(tiny_tables[0]), tiny.CONFIG.split)


# ---- the split


def test_periods_follow_one_another_and_hold_every_row(tiny_dataset: Dataset, tiny_tables: Tables) -> None:
    whole = tiny_tables[0].num_rows
    waiting = whole - len(tiny_dataset.train_label) - len(tiny_dataset.validation) - len(tiny_dataset.test)
    assert 0 <= waiting <= len(tiny_dataset.validation)  # rows whose labels are too young
    assert tiny_dataset.train_span[0] <= tiny_dataset.train_span[1] < tiny_dataset.validation.start
    assert tiny_dataset.validation.start <= tiny_dataset.validation.end < tiny_dataset.test.start
    assert len(tiny_dataset.train_context) == len(tiny_dataset.train_label)


# ---- evaluation at natural prevalence


def test_evaluation_rows_are_those_of_a_plain_replay(
    tiny_dataset: Dataset, tiny_tables: Tables, cuts: tuple[int, int]
) -> None:
    """Every row once, with the features that it really had: no synthetic row has touched them."""
    first, second = cuts
    mature = first + len(tiny_dataset.validation)
    plain = FeatureEngine(tiny_dataset.spec).encode(tiny_tables[0])
    for period, rows in ((tiny_dataset.validation, slice(first, mature)), (tiny_dataset.test, slice(second, None))):
        np.testing.assert_array_equal(period.encoded.context, plain.context[rows])
        np.testing.assert_array_equal(period.encoded.events, plain.events[rows])
    np.testing.assert_array_equal(tiny_dataset.train_context, plain.context[:first])
    truth = tiny_tables[1]["is_laundering"].to_numpy()
    np.testing.assert_array_equal(tiny_dataset.test.label, truth[second:])
    assert tiny_dataset.test.typology.tolist() == tiny_tables[1]["typology"].to_pylist()[second:]


def test_training_rows_have_the_tokens_of_their_own_row(
    tiny_dataset: Dataset, tiny_tables: Tables, cuts: tuple[int, int]
) -> None:
    plain = FeatureEngine(tiny_dataset.spec).encode(tiny_tables[0].slice(0, cuts[0]))
    place = {row.tobytes(): number for number, row in enumerate(plain.context)}
    encoded, found = tiny_dataset.train.encoded, 0
    for context, events in zip(encoded.context, encoded.events, strict=True):
        if (number := place.get(context.tobytes())) is not None:
            np.testing.assert_array_equal(events, plain.events[number])
            found += 1
    assert found > 0.9 * len(encoded)  # the rest are synthetic


# ---- the mix


@pytest.mark.parametrize("mix", [(0.85, 0.10, 0.05), (0.6, 0.25, 0.15), (0.8, 0.2, 0.0)])
def test_the_mix_has_the_configured_shares(tiny_tables: Tables, mix: tuple[float, float, float]) -> None:
    normal, laundering, synthetic = mix
    wanted = {"normal": normal, "laundering": laundering, "synthetic": synthetic, "max_rows": 1_000}
    built = build_dataset(*tiny_tables, configured(mix=wanted))
    draw, label = built.train.draw, built.train.label
    real = int(built.train_label.sum()) + round(1_000 * normal)  # the real rows come first, synthetic ones after
    is_made, is_bad = draw >= real, label[draw] == 1
    counts = np.array([(~is_made & ~is_bad).sum(), (~is_made & is_bad).sum(), is_made.sum()])
    size = round(1_000 * normal) / normal
    np.testing.assert_allclose(counts, size * np.array(mix), atol=1)
    assert set(draw.tolist()) == set(range(len(label)))  # every row is learned from
    assert built.mixed_prevalence == pytest.approx(is_bad.mean())
    assert built.prevalence == pytest.approx(built.train_label.mean())


def test_laundering_rows_are_drawn_equally_often(tiny_tables: Tables) -> None:
    mix = {"normal": 0.5, "laundering": 0.4, "synthetic": 0.1, "max_rows": 2_000}
    built = build_dataset(*tiny_tables, configured(mix=mix))
    real = int(built.train_label.sum()) + 1_000
    times_drawn = np.bincount(built.train.draw)[:real][built.train.label[:real] == 1]
    assert times_drawn.sum() == 800
    assert times_drawn.max() - times_drawn.min() <= 1


def test_typologies_are_named_with_normal_first(tiny_dataset: Dataset) -> None:
    assert tiny_dataset.typologies[0] == NORMAL
    assert len(set(tiny_dataset.typologies)) == len(tiny_dataset.typologies)
    assert ((tiny_dataset.train.typology > 0) == (tiny_dataset.train.label == 1)).all()
    assert tiny_dataset.train.typology.max() < len(tiny_dataset.typologies)


def test_synthetic_rows_are_made_from_and_placed_in_the_training_period_only(
    tiny_tables: Tables, monkeypatch: pytest.MonkeyPatch, cuts: tuple[int, int]
) -> None:
    replayed: list[pa.Table] = []

    class Recording(FeatureEngine):
        def encode(self, transactions: pa.Table, **options: Any) -> Any:
            replayed.append(transactions)
            return super().encode(transactions, **options)

    retold: list[Perturbed] = []

    def recording(*arguments: Any) -> Perturbed:
        retold.append(perturb(*arguments))
        return retold[-1]

    monkeypatch.setattr(replay, "FeatureEngine", Recording)
    monkeypatch.setattr(synthetic, "perturb", recording)
    build_dataset(*tiny_tables, tiny.CONFIG)
    real, merged = replayed
    first = cuts[0]
    assert real.equals(tiny_tables[0])
    assert merged.num_rows > first
    times = microseconds(merged)
    assert (np.diff(times) >= 0).all()
    assert times[-1] < microseconds(real)[first]
    known, happened = set(real["tx_id"].to_pylist()[:first]), merged["tx_id"].to_pylist()
    made = [tx_id for tx_id in happened if tx_id not in known]
    assert made
    assert retold[0].replaced.to_pylist()
    # what a copy was made of does not happen beside it
    assert known - set(happened) == set(retold[0].replaced.to_pylist())


def test_validation_ends_where_labels_are_too_young(tiny_tables: Tables, cuts: tuple[int, int]) -> None:
    transactions, labels = tiny_tables
    at_once = labels.set_column(
        LABELS.get_field_index("known_at"), LABELS.field("known_at"), transactions["timestamp"]
    )
    assert len(build_dataset(transactions, at_once, tiny.CONFIG).validation) == cuts[1] - cuts[0]
    assert len(build_dataset(transactions, labels, tiny.CONFIG).validation) < cuts[1] - cuts[0]


def test_synthetic_rows_are_stamped_as_coarsely_as_the_source(
    tiny_tables: Tables, monkeypatch: pytest.MonkeyPatch
) -> None:
    transactions, labels = tiny_tables
    times = microseconds(transactions)
    days = pa.array(times - times % DAY, pa.int64()).cast(pa.timestamp("us", "UTC"))
    daily = transactions.set_column(1, transactions.schema.field("timestamp"), days)
    merged: list[pa.Table] = []

    class Recording(FeatureEngine):
        def encode(self, transactions: pa.Table, **options: Any) -> Any:
            merged.append(transactions)
            return super().encode(transactions, **options)

    monkeypatch.setattr(replay, "FeatureEngine", Recording)
    build_dataset(daily, labels, tiny.CONFIG)
    assert not (microseconds(merged[1]) % DAY).any()
    place = np.array(["~" in tx_id for tx_id in merged[1]["tx_id"].to_pylist()])
    within = np.concatenate([np.linspace(0, 1, len(day)) for day in np.split(place, _new_days(merged[1]))])
    assert abs(within[place].mean() - 0.5) < 0.1  # not after the real rows of their day


def _new_days(transactions: pa.Table) -> Any:
    return np.flatnonzero(np.diff(microseconds(transactions))) + 1


# ---- labels as known


def test_labels_are_those_known_when_the_model_is_built(
    tiny_dataset: Dataset, tiny_tables: Tables, cuts: tuple[int, int]
) -> None:
    first, second = cuts
    labels = tiny_tables[1]
    built_at = microseconds(tiny_tables[0])[second]
    known = labels["is_laundering"].to_numpy() & (microseconds(labels, "known_at") <= built_at)
    np.testing.assert_array_equal(tiny_dataset.train_label, known[:first])
    mature = first + len(tiny_dataset.validation)
    np.testing.assert_array_equal(tiny_dataset.validation.label, known[first:mature])
    assert known[:second].sum() < labels["is_laundering"].to_numpy()[:second].sum()  # some came too late
    assert ((tiny_dataset.validation.typology == NORMAL) == ~tiny_dataset.validation.label).all()


# ---- leakage


def test_labels_and_ids_never_reach_the_features(tiny_dataset: Dataset, tiny_tables: Tables) -> None:
    transactions, labels = tiny_tables
    rng = np.random.default_rng(0)
    shuffled = labels.take(pa.array(rng.permutation(labels.num_rows)))
    ids = pa.array([f"id {number}" for number in rng.permutation(labels.num_rows)])
    renamed = transactions.set_column(0, transactions.schema.field("tx_id"), ids)
    told = shuffled.set_column(0, labels.schema.field("tx_id"), ids)
    built = build_dataset(renamed, told, tiny.CONFIG)
    assert not np.array_equal(built.train_label, tiny_dataset.train_label)
    np.testing.assert_array_equal(built.train_context, tiny_dataset.train_context)
    for one, other in ((built.validation, tiny_dataset.validation), (built.test, tiny_dataset.test)):
        np.testing.assert_array_equal(one.encoded.context, other.encoded.context)
        np.testing.assert_array_equal(one.encoded.events, other.encoded.events)


# ---- identity


def test_the_same_input_gives_the_same_dataset(tiny_dataset: Dataset, tiny_tables: Tables) -> None:
    transactions, labels = tiny_tables
    pieces = pa.concat_tables([transactions.slice(0, 7), transactions.slice(7)])
    again = build_dataset(pieces, labels, tiny.CONFIG)
    assert again.fingerprint == tiny_dataset.fingerprint
    np.testing.assert_array_equal(again.train.draw, tiny_dataset.train.draw)
    np.testing.assert_array_equal(again.train.encoded.context, tiny_dataset.train.encoded.context)
    np.testing.assert_array_equal(again.train.encoded.events, tiny_dataset.train.encoded.events)


def test_the_fingerprint_follows_input_and_configuration(tiny_dataset: Dataset, tiny_tables: Tables) -> None:
    transactions, labels = tiny_tables
    column = transactions.schema.get_field_index("amount_paid")
    amounts = transactions["amount_paid"].to_numpy().copy()
    amounts[11] += 0.01
    dearer = transactions.set_column(column, transactions.schema.field(column), pa.array(amounts))
    flipped = pc.invert(labels["is_laundering"].slice(0, 1)).combine_chunks()
    relabelled = labels.set_column(
        1, labels.schema.field(1), pa.chunked_array([flipped, *labels["is_laundering"].slice(1).chunks])
    )
    found = {
        tiny_dataset.fingerprint,
        build_dataset(dearer, labels, tiny.CONFIG).fingerprint,
        build_dataset(transactions, relabelled, tiny.CONFIG).fingerprint,
        build_dataset(transactions, labels, configured(seed=8)).fingerprint,
        build_dataset(transactions, labels, configured(features={"events_per_party": 9})).fingerprint,
        build_dataset(transactions, labels, configured(perturbations=[{"name": "delay"}])).fingerprint,
    }
    assert len(found) == 6
    larger = configured(training={"epochs": 9})
    assert build_dataset(transactions, labels, larger).fingerprint == tiny_dataset.fingerprint


def test_progress_counts_the_rows_of_both_replays(tiny_tables: Tables, cuts: tuple[int, int]) -> None:
    heard: list[int] = []
    build_dataset(*tiny_tables, tiny.CONFIG, progress=heard.append)
    assert sum(heard) >= tiny_tables[0].num_rows + cuts[0]


# ---- refusals


@pytest.mark.parametrize("period", ["training", "validation", "test"])
def test_a_period_without_known_laundering_is_refused(
    tiny_tables: Tables, cuts: tuple[int, int], period: str
) -> None:
    transactions, labels = tiny_tables
    first, second = cuts
    start, end = {"training": (0, first), "validation": (first, second), "test": (second, labels.num_rows)}[period]
    flags = labels["is_laundering"].to_numpy().copy()
    flags[start:end] = False
    clean = labels.set_column(1, labels.schema.field(1), pa.array(flags))
    with pytest.raises(DataError, match=f"no laundering is known in the {period} period"):
        build_dataset(transactions, clean, tiny.CONFIG)


def test_missing_or_misplaced_labels_are_refused(tiny_tables: Tables) -> None:
    transactions, labels = tiny_tables
    with pytest.raises(DataError, match="rows of labels for"):
        build_dataset(transactions, labels.slice(1), tiny.CONFIG)
    with pytest.raises(DataError, match="not in the order"):
        build_dataset(transactions, labels.take(pa.array(np.arange(labels.num_rows)[::-1])), tiny.CONFIG)
