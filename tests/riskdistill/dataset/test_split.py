"""The split: by time, whole timestamps, gaps that are as long as they say, and every row in one place."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from labelled_times import labels_of

from riskdistill.config import SplitConfig
from riskdistill.data.schema import NORMAL
from riskdistill.dataset import DAY, HOUR, Tables, split_points, split_rows
from riskdistill.dataset.clock import moment
from riskdistill.dataset.split import IMMATURE, LEFT_OUT, PURGED, TEST, TRAIN, VALIDATION, left_out
from riskdistill.errors import DataError

START = 1_700_000_000_000_000


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


@st.composite
def labelled(draw: st.DrawFn) -> tuple[np.typing.NDArray[np.int64], np.typing.NDArray[np.int64], list[str]]:
    """Times in hours over some weeks, when each label became known, and typologies."""
    hours = sorted(draw(st.lists(st.integers(0, 600), min_size=10, max_size=80)))
    late = draw(st.lists(st.integers(0, 200), min_size=len(hours), max_size=len(hours)))
    names = draw(st.lists(st.sampled_from([NORMAL, "cycle", "fan_in"]), min_size=len(hours), max_size=len(hours)))
    times = START + np.array(hours, np.int64) * HOUR
    return times, times + np.array(late, np.int64) * HOUR, names


@given(labelled(), st.floats(0, 6), st.floats(0, 1))
def test_no_row_is_in_two_parts_and_gaps_are_as_long_as_they_say(
    rows: tuple[np.typing.NDArray[np.int64], np.typing.NDArray[np.int64], list[str]], days: float, when: float
) -> None:
    times, known_at, names = rows
    labels = labels_of(known_at, names)
    try:
        first, second = split_points(times, SplitConfig())
        as_of = moment(int(times[first] + 1 + when * (times[second] - times[first] - 1)))
        split = split_rows(times, labels, SplitConfig(purge_days=days, as_of=as_of))
    except DataError:
        assume(False)
    part = split.named(np.zeros(len(times), np.bool_))
    assert Counter(part).keys() <= {TRAIN, PURGED, VALIDATION, IMMATURE, TEST}
    for name, of_part in split.parts():
        assert np.flatnonzero(part == name).tolist() == list(range(of_part.start, of_part.stop))
        assert of_part.start < of_part.stop
    train, validation, test = (times[of_part] for _, of_part in split.parts())
    gap = round(days * DAY)
    assert train[-1] < validation[0] - gap
    assert validation[-1] < test[0] - gap
    assert validation[-1] < split.built_at <= test[0]
    assert (split.validation.start, split.test.start) == (first, second)  # a gap moves no row that is judged


@given(labelled())
def test_validation_waits_until_most_labels_have_come(
    rows: tuple[np.typing.NDArray[np.int64], np.typing.NDArray[np.int64], list[str]],
) -> None:
    times, known_at, names = rows
    try:
        first, second = split_points(times, SplitConfig())
    except DataError:
        assume(False)
    split = split_rows(times, labels_of(known_at, names), SplitConfig())
    found = (np.array(names[:second]) != NORMAL) & (known_at[:second] <= times[second])
    waiting = int(np.quantile((known_at - times)[:second][found], 0.9)) if found.any() else 0
    half = first + (second - first + 1) // 2
    assert split.validation.stop >= half
    young = times[split.validation.stop - 1] >= times[second] - waiting
    assert not young or split.validation.stop == half


def test_without_a_gap_no_row_is_purged() -> None:
    times = START + np.arange(100, dtype=np.int64) * HOUR
    split = split_rows(times, labels_of(times, [NORMAL] * 100), SplitConfig())
    assert [len(range(100)[gap]) for gap in split.purged] == [0, 0]
    assert (split.train, split.validation, split.test) == (slice(0, 60), slice(60, 80), slice(80, 100))


@pytest.mark.parametrize(("days", "use"), [(0.9, "validate on"), (30, "learn from")])
def test_a_gap_that_leaves_nothing_is_refused(days: float, use: str) -> None:
    times = START + np.arange(100, dtype=np.int64) * HOUR
    with pytest.raises(DataError, match=f"leaves no rows to {use}"):
        split_rows(times, labels_of(times, [NORMAL] * 100), SplitConfig(purge_days=days))


@pytest.mark.parametrize("row", [0, 60, 81])
def test_labels_of_before_validation_or_after_the_test_begins_are_refused(row: int) -> None:
    times = START + np.arange(100, dtype=np.int64) * HOUR
    with pytest.raises(DataError, match=r"split\.as_of"):
        split_rows(times, labels_of(times, [NORMAL] * 100), SplitConfig(as_of=moment(int(times[row]))))


# ---- typologies left out


def tables(recorded: list[str], true: list[str] | None = None) -> Tables:
    times = START + np.arange(len(recorded), dtype=np.int64) * HOUR
    labels = labels_of(times, recorded)
    return Tables(labels, labels, None if true is None else labels_of(times, true))


@given(labelled())
def test_rows_are_left_out_of_training_and_validation_only(
    rows: tuple[np.typing.NDArray[np.int64], np.typing.NDArray[np.int64], list[str]],
) -> None:
    times, known_at, names = rows
    labels = labels_of(known_at, names)
    try:
        split = split_rows(times, labels, SplitConfig())
        out = left_out(Tables(labels, labels), split, ("cycle",))
    except DataError:
        assume(False)
    assert (split.named(out)[out] == LEFT_OUT).all()
    later = np.arange(len(times)) >= split.test.start
    np.testing.assert_array_equal(out, (np.array(names) == "cycle") & ~later)


def test_what_nobody_found_is_left_out_too_and_so_is_what_was_wrongly_found() -> None:
    true, recorded = [NORMAL] * 98 + ["cycle", NORMAL], [NORMAL] * 100
    true[3], recorded[5] = "cycle", "cycle"
    given_tables = tables(recorded, true)
    times = START + np.arange(100, dtype=np.int64) * HOUR
    split = split_rows(times, given_tables.labels, SplitConfig())
    assert np.flatnonzero(left_out(given_tables, split, ("cycle",))).tolist() == [3, 5]


def test_a_typology_that_the_test_has_not_is_refused() -> None:
    names = ["cycle"] * 50 + ["fan_in"] * 50
    times = START + np.arange(100, dtype=np.int64) * HOUR
    split = split_rows(times, labels_of(times, names), SplitConfig())
    with pytest.raises(DataError, match=r"no 'cycle' in the test period.*choose among fan_in"):
        left_out(tables(names), split, ("cycle",))
