"""The dataset: split by time, labelled as known then, judged by the truth, and blind to what it must not see."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import tiny
from hypothesis import given, settings
from hypothesis import strategies as st

from riskdistill.data.schema import LABELS, NORMAL
from riskdistill.dataset import Dataset, Period, build_dataset, periods_to_judge
from riskdistill.dataset.clock import microseconds
from riskdistill.errors import DataError
from riskdistill.features import Encoded, FeatureEngine
from riskdistill.simulator import Simulated

Tables = tuple[pa.Table, pa.Table]


# ---- the split


def test_periods_follow_one_another_and_hold_every_row(tiny_dataset: Dataset, tiny_tables: Tables) -> None:
    whole = tiny_tables[0].num_rows
    waiting = whole - len(tiny_dataset.train_label) - len(tiny_dataset.validation) - len(tiny_dataset.test)
    assert 0 <= waiting <= len(tiny_dataset.validation)  # rows whose labels are too young
    assert tiny_dataset.train_span[0] <= tiny_dataset.train_span[1] < tiny_dataset.validation.start
    assert tiny_dataset.validation.start <= tiny_dataset.validation.end < tiny_dataset.test.start
    assert len(tiny_dataset.train_context) == len(tiny_dataset.train_label)


halved = st.lists(st.booleans(), max_size=12).map(lambda drawn: np.array(drawn, np.bool_))


def period(label: np.ndarray) -> Period:
    places = np.arange(len(label), dtype=np.float32)
    typology, scheme = (
        np.where(label, name, other).astype(object) for name, other in (("cycle", NORMAL), ("s", None))
    )
    encoded = Encoded(places[:, None], places[:, None, None])
    return Period(encoded, label, typology, scheme, 1_000_000 * np.arange(len(label)))


@given(label=halved)
def test_halves_are_the_earlier_and_the_later_rows_and_both_know_laundering(label: np.ndarray) -> None:
    whole, middle = period(label), len(label) // 2
    if not (label[:middle].any() and label[middle:].any()):
        with pytest.raises(DataError, match="half of the validation"):
            whole.halves()
        return
    earlier, later = whole.halves()
    assert (len(earlier), len(later)) == (middle, len(label) - middle)
    assert earlier.encoded.context.max() < later.encoded.context.min()
    together = Encoded.concat([earlier.encoded, later.encoded])
    np.testing.assert_array_equal(together.context, whole.encoded.context)
    np.testing.assert_array_equal(together.events, whole.encoded.events)
    np.testing.assert_array_equal([*earlier.label, *later.label], label)
    assert [*earlier.typology, *later.typology] == whole.typology.tolist()
    assert [*earlier.scheme, *later.scheme] == whole.scheme.tolist()
    assert whole.start == earlier.start <= earlier.end < later.start <= later.end == whole.end


@pytest.mark.parametrize(("label", "half"), [([True, True, False, False], "later"), ([False, True], "earlier")])
def test_the_half_without_laundering_is_named(label: list[bool], half: str) -> None:
    with pytest.raises(DataError, match=f"{half} half of the validation"):
        period(np.array(label)).halves()


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


@pytest.mark.parametrize("left_out", [[], ["unlisted"]])
def test_rows_of_the_mix_name_their_place_in_the_training_period(
    tiny_world: Simulated, left_out: list[str]
) -> None:
    tables = tiny_world.transactions, tiny_world.labels
    config = tiny.configured(split={"leave_out": left_out})
    built = build_dataset(*tables, config, truth=tiny_world.truth)
    place, train = built.mixed_from, built.train
    real = place >= 0
    assert (place[~real] == -1).all()
    assert real.tolist() == sorted(real, reverse=True)  # synthetic rows come last
    assert (~real).sum() == built.synthetic.num_rows > 0
    assert (np.diff(place[real]) > 0).all()  # in order of time, each once
    np.testing.assert_array_equal(train.encoded.context[real], built.train_context[place[real]])
    np.testing.assert_array_equal(train.label[real] == 1, built.train_label[place[real]])


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


def test_validation_ends_where_labels_are_too_young(tiny_tables: Tables, cuts: tuple[int, int]) -> None:
    transactions, labels = tiny_tables
    at_once = labels.set_column(
        LABELS.get_field_index("known_at"), LABELS.field("known_at"), transactions["timestamp"]
    )
    assert len(build_dataset(transactions, at_once, tiny.CONFIG).validation) == cuts[1] - cuts[0]
    assert len(build_dataset(transactions, labels, tiny.CONFIG).validation) < cuts[1] - cuts[0]


def test_the_truth_is_what_the_test_is_judged_by_and_nothing_else_sees_it(
    tiny_world: Simulated, tiny_dataset: Dataset, cuts: tuple[int, int]
) -> None:
    truth = tiny_world.truth
    built = build_dataset(tiny_world.transactions, tiny_world.labels, tiny.CONFIG, truth=truth)
    true = truth["is_laundering"].to_numpy()[cuts[1] :]
    np.testing.assert_array_equal(built.test.label, true)
    assert built.test.typology.tolist() == truth["typology"].to_pylist()[cuts[1] :]
    assert true.sum() > tiny_dataset.test.label.sum()  # the bank has not found all of it
    assert_learns_alike(built, tiny_dataset)
    np.testing.assert_array_equal(built.validation.label, tiny_dataset.validation.label)
    assert built.fingerprint != tiny_dataset.fingerprint


def test_finished_models_are_judged_on_the_same_periods(tiny_world: Simulated, tiny_dataset: Dataset) -> None:
    tables = tiny_world.transactions, tiny_world.labels
    built = build_dataset(*tables, tiny.CONFIG, truth=tiny_world.truth)
    engine = FeatureEngine(built.spec)
    judged = periods_to_judge(*tables, engine, tiny.CONFIG.split, truth=tiny_world.truth)
    for one, other in zip(judged, (built.validation, built.test), strict=True):
        np.testing.assert_array_equal(one.encoded.context, other.encoded.context)
        np.testing.assert_array_equal(one.encoded.events, other.encoded.events)
        np.testing.assert_array_equal(one.label, other.label)
        assert one.typology.tolist() == other.typology.tolist()
        assert (one.start, one.end) == (other.start, other.end)


# ---- typologies that only the test has


def test_a_left_out_typology_is_in_the_test_alone(tiny_world: Simulated) -> None:
    tables, name = (tiny_world.transactions, tiny_world.labels), "unlisted"
    whole = build_dataset(*tables, tiny.CONFIG, truth=tiny_world.truth)
    built = build_dataset(*tables, tiny.configured(split={"leave_out": [name]}), truth=tiny_world.truth)
    assert name in whole.typologies
    assert name not in built.typologies  # neither by label nor by a graft or a copy
    assert name not in built.validation.typology
    true = np.array(tiny_world.truth["typology"].to_pylist()) == name
    gone = built.parts == "left_out"
    assert (true & (tiny_world.labels["typology"].to_numpy(zero_copy_only=False) == NORMAL) & gone).any()
    assert not np.isin(built.parts[true], ("train", "validation")).any()
    learned = whole.parts[gone] == "train"
    assert len(built.train_label) == len(whole.train_label) - learned.sum()
    np.testing.assert_array_equal(
        built.train_context, whole.train_context[built.parts[whole.parts == "train"] == "train"]
    )
    # what a model is judged on is the same
    np.testing.assert_array_equal(built.test.encoded.context, whole.test.encoded.context)
    np.testing.assert_array_equal(built.test.encoded.events, whole.test.encoded.events)
    assert built.test.typology.tolist() == whole.test.typology.tolist()
    assert name in built.test.typology


def test_rows_keep_their_events_where_others_are_left_out(tiny_world: Simulated) -> None:
    tables = tiny_world.transactions, tiny_world.labels
    config = tiny.configured(split={"leave_out": ["unlisted"], "purge_days": 1.0})
    built = build_dataset(*tables, config, truth=tiny_world.truth)
    plain = FeatureEngine(built.spec).encode(tiny_world.transactions)
    assert "left_out" in built.parts[built.parts != "train"]
    for name, period in (("validation", built.validation), ("test", built.test)):
        rows = built.parts == name
        np.testing.assert_array_equal(period.encoded.context, plain.context[rows])
        np.testing.assert_array_equal(period.encoded.events, plain.events[rows])


# ---- leakage


def assert_learns_alike(one: Dataset, other: Dataset) -> None:
    """Bit for bit the same rows to learn from."""
    for mine, its in (
        (one.train.encoded.context, other.train.encoded.context),
        (one.train.encoded.events, other.train.encoded.events),
        (one.train.label, other.train.label),
        (one.train.typology, other.train.typology),
        (one.train.draw, other.train.draw),
        (one.train_context, other.train_context),
        (one.train_label, other.train_label),
    ):
        np.testing.assert_array_equal(mine, its)
    assert one.typologies == other.typologies
    assert (one.prevalence, one.train_span) == (other.prevalence, other.train_span)


@settings(max_examples=15)
@given(seed=st.integers(0, 2**32 - 1))
def test_another_future_changes_no_row_that_is_learned_from(
    tiny_world: Simulated, tiny_dataset: Dataset, cuts: tuple[int, int], seed: int
) -> None:
    """What comes after the training period, what is found after the model is built, and all of the truth."""
    rng = np.random.default_rng(seed)
    (first, second), transactions, labels = cuts, tiny_world.transactions, tiny_world.labels
    order = np.append(np.arange(first), rng.permutation(np.arange(first, len(transactions))))
    for name in ("sender_account", "receiver_account", "amount_paid", "amount_received", "payment_format"):
        at = transactions.schema.get_field_index(name)
        moved = transactions[name].take(order)
        transactions = transactions.set_column(at, transactions.schema.field(name), moved)
    built_at = microseconds(transactions)[second]
    later = (microseconds(labels, "known_at") > built_at) | (np.arange(len(labels)) >= first)
    bad = labels["is_laundering"].to_numpy()
    bad = np.where(later, rng.random(len(bad)) < 0.1, bad)
    typology = np.where(bad & later, "fan_in", labels["typology"].to_numpy(zero_copy_only=False))
    columns = {"is_laundering": bad, "typology": np.where(bad, typology, NORMAL)}
    other = pa.table([columns.get(name, labels[name]) for name in LABELS.names], LABELS)
    truth = other.set_column(1, LABELS.field(1), pa.array(rng.random(len(bad)) < 0.5))
    built = build_dataset(transactions, other, tiny.CONFIG, truth=truth)
    assert_learns_alike(built, tiny_dataset)
    assert not np.array_equal(built.test.encoded.context, tiny_dataset.test.encoded.context)


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
        build_dataset(transactions, labels, tiny.configured(seed=8)).fingerprint,
        build_dataset(transactions, labels, tiny.configured(features={"events_per_party": 9})).fingerprint,
        build_dataset(transactions, labels, tiny.configured(perturbations=[{"name": "delay"}])).fingerprint,
    }
    assert len(found) == 6
    larger = tiny.configured(training={"epochs": 9})
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
