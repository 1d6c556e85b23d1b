"""Periods by time: none overlaps another, gaps are kept, and no row is left out but for a reason."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from riskdistill.config import SplitConfig
from riskdistill.data.schema import LABELS, NORMAL, TIMESTAMP
from riskdistill.dataset import split_points, split_rows
from riskdistill.dataset.clock import DAY, microseconds, moment
from riskdistill.dataset.labels import Tables
from riskdistill.dataset.split import Split, left_out
from riskdistill.errors import DataError
from riskdistill.simulator import Simulated

START = datetime(2026, 1, 1, tzinfo=UTC)


def at(days: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.int64(START.timestamp() * 1e6) + np.asarray(days, np.int64) * DAY


def labels_of(times: NDArray[np.int64], delays: list[int]) -> pa.Table:
    """Laundering in the rows whose delay in days is above 0."""
    bad = np.array(delays) > 0
    columns = {
        "tx_id": [str(row) for row in range(len(times))],
        "is_laundering": bad,
        "typology": np.where(bad, "cycle", NORMAL),
        "scheme_id": [None] * len(times),
        "known_at": pa.array(times + np.maximum(delays, 0) * DAY).cast(TIMESTAMP),
    }
    return pa.table(columns, LABELS)


@st.composite
def histories(draw: st.DrawFn) -> tuple[NDArray[np.int64], pa.Table, SplitConfig]:
    days = np.sort(draw(st.lists(st.integers(0, 60), min_size=10, max_size=80)))
    delays = draw(st.lists(st.integers(-9, 9), min_size=len(days), max_size=len(days)))
    purge = float(draw(st.integers(0, 10)))
    as_of = draw(st.none() | st.integers(0, 60).map(lambda day: START + timedelta(days=day)))
    return at(days), labels_of(at(days), delays), SplitConfig(purge_days=purge, as_of=as_of)


@given(st.lists(st.integers(0, 30), min_size=1, max_size=200), st.floats(0.05, 0.9), st.floats(0.05, 0.9))
def test_the_split_keeps_the_order_and_never_cuts_a_timestamp(
    times: list[int], train: float, validation: float
) -> None:
    rows = np.sort(times)
    shares = np.array([train, validation, 0.3]) / (train + validation + 0.3)
    split = SplitConfig(train=shares[0], validation=shares[1], test=1 - shares[0] - shares[1])
    try:
        first, second = split_points(rows, split)
    except DataError:
        return
    assert 0 < first < second < len(rows)
    assert rows[first - 1] < rows[first]
    assert rows[second - 1] < rows[second]
    most = max(Counter(times).values())
    assert abs(first - shares[0] * len(rows)) <= most
    assert abs(second - (shares[0] + shares[1]) * len(rows)) <= most


@pytest.mark.parametrize("times", [[], [5], [5, 5], [5] * 100, [1] * 99 + [2]])
def test_a_history_without_three_periods_is_refused(times: list[int]) -> None:
    with pytest.raises(DataError, match="give a longer history"):
        split_points(np.array(times, np.int64), SplitConfig())


@given(histories())
def test_no_row_is_in_two_parts_and_gaps_are_kept(history: tuple[NDArray[np.int64], pa.Table, SplitConfig]) -> None:
    times, labels, config = history
    try:
        split = split_rows(times, labels, config)
    except DataError:
        return
    within = np.zeros(len(times), np.int64)
    for _, part in split.parts():
        assert part.start < part.stop
        within[part] += 1
    assert within.max() == 1
    gap = config.purge_days * DAY
    for before, after in ((split.train, split.validation), (split.validation, split.test)):
        assert times[before.stop - 1] < times[after.start] - gap or gap == 0
        assert times[before.stop - 1] < times[after.start]
    assert split.test == slice(split_points(times, config)[1], len(times))  # with a gap and without
    assert times[split.train.stop - 1] < split.trained_until <= times[split.validation.start]
    assert times[split.validation.stop - 1] < split.built_at <= times[split.test.start]


@given(histories())
def test_every_row_has_a_part_or_a_reason(history: tuple[NDArray[np.int64], pa.Table, SplitConfig]) -> None:
    times, labels, config = history
    try:
        split = split_rows(times, labels, config)
    except DataError:
        return
    out = np.zeros(len(times), np.bool_)
    out[0] = True
    names = split.named(out)
    assert names[0] == "left_out"
    assert set(names) <= {"train", "validation", "test", "purged", "immature", "left_out"}
    for name, part in split.parts():
        assert (names == name).sum() == part.stop - part.start - out[part].sum()
    if not config.purge_days:
        assert "purged" not in names


def test_a_gap_takes_the_end_of_the_earlier_period() -> None:
    times = at(np.arange(100))
    labels = labels_of(times, [0] * 100)
    whole, purged = (split_rows(times, labels, SplitConfig(purge_days=days)) for days in (0.0, 5.0))
    assert (whole.train, whole.validation, whole.test) == (slice(0, 60), slice(60, 80), slice(80, 100))
    assert (purged.train, purged.validation, purged.test) == (slice(0, 55), slice(60, 75), slice(80, 100))
    assert purged.purged == (slice(55, 60), slice(75, 80))


def test_validation_waits_for_labels_as_of_their_date() -> None:
    times = at(np.arange(100))
    labels = labels_of(times, [3 if row % 2 else 0 for row in range(100)])
    assert split_rows(times, labels, SplitConfig()).validation == slice(60, 77)
    earlier = split_rows(times, labels, SplitConfig(as_of=START + timedelta(days=75)))
    assert moment(earlier.built_at) == START + timedelta(days=75)
    assert earlier.validation == slice(60, 72)


@pytest.mark.parametrize(
    ("fields", "where"),
    [
        ({"as_of": START}, "split.as_of"),
        ({"as_of": START + timedelta(days=60)}, "split.as_of"),
        ({"as_of": START + timedelta(days=81)}, "split.as_of"),
        ({"purge_days": 20.0}, "split.purge_days"),
        ({"purge_days": 60.0}, "split.purge_days"),
    ],
)
def test_an_impossible_date_or_gap_is_refused(fields: dict[str, Any], where: str) -> None:
    times = at(np.arange(100))
    with pytest.raises(DataError) as refused:
        split_rows(times, labels_of(times, [0] * 100), SplitConfig(**fields))
    assert refused.value.where == where
    assert refused.value.mend


# ---- typologies that only the test has


@pytest.fixture(scope="module")
def world(tiny_world: Simulated) -> Tables:
    return Tables(tiny_world.transactions, tiny_world.labels, tiny_world.truth)


@pytest.fixture(scope="module")
def periods(world: Tables) -> Split:
    return split_rows(microseconds(world.transactions), world.labels, SplitConfig())


def test_left_out_rows_are_those_of_the_typology_found_or_not(world: Tables, periods: Split) -> None:
    out = left_out(world, periods, ("trade",))
    assert not out[periods.test].any()
    expected = np.zeros(len(out), np.bool_)
    typologies, schemes = [], []
    for labels in (world.labels, world.judged_by):
        typologies.append(np.array(labels["typology"].to_pylist()))
        schemes.append(np.array(labels["scheme_id"].to_pylist(), object))
        named = typologies[-1] == "trade"
        expected |= named | np.isin(schemes[-1].astype(str), [name for name in schemes[-1][named] if name])
    before = np.arange(len(out)) < periods.test.start
    unfound = (typologies[1] == "trade") & (typologies[0] == NORMAL)
    assert (unfound & before).any()  # and out all the same
    assert out.tolist() == (expected & before).tolist()
    assert not left_out(world, periods, ()).any()


@pytest.mark.parametrize("name", ["sonata", NORMAL])
def test_a_typology_that_the_test_lacks_is_refused(world: Tables, periods: Split, name: str) -> None:
    with pytest.raises(DataError, match=f"no '{name}' in the test period") as refused:
        left_out(world, periods, ("unlisted", name))
    assert "structuring" in str(refused.value.mend)
