"""The last published rate of a day or the fixed one, never a later one; and files of rates that cannot be right."""

from __future__ import annotations

import gzip
from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from riskdistill.data.currencies import CURRENCY_CODES, USD_PER_UNIT
from riskdistill.data.rates import LEAST, MOST, Rates
from riskdistill.errors import DataError, EmptyInputError, MissingColumnError, UnreadableFileError

DAY = 86_400
HEADER = "day,currency,usd_per_unit\n"
THREE = HEADER + "2026-01-05,EUR,1.2\n2026-01-02,EUR,1.1\n2026-01-02,GBP,1.3\n"
FRIDAY = int(datetime(2026, 1, 2, tzinfo=UTC).timestamp())

days = st.integers(-3, 30)
published = st.dictionaries(
    st.sampled_from([code for code in CURRENCY_CODES[:6] if code != "USD"]),
    st.dictionaries(days, st.floats(1e-6, 1e6), min_size=1, max_size=8),
)
moments = st.one_of(
    st.floats(-4 * DAY, 32 * DAY),
    days.map(lambda day: float(day * DAY)),
    days.map(lambda day: float(np.nextafter(day * DAY, -np.inf))),
)
asked = st.lists(st.tuples(st.integers(1, len(CURRENCY_CODES)), moments), max_size=40)


def in_file(folder: Path, text: str) -> Path:
    (folder / "rates.csv").write_text(text)
    return folder / "rates.csv"


def of_rows(rates: Rates, rows: list[tuple[int, float]]) -> list[float]:
    currency = np.array([number for number, _ in rows], np.uint8)
    worth: list[float] = rates.of_rows(currency, np.array([moment for _, moment in rows], np.float64)).tolist()
    return worth


@given(published=published, rows=asked)
def test_whole_columns_and_single_moments_agree_exactly(
    published: dict[str, dict[int, float]], rows: list[tuple[int, float]]
) -> None:
    rates = Rates(published)
    assert of_rows(rates, rows) == [rates.at(CURRENCY_CODES[number - 1], moment) for number, moment in rows]


@given(published=published, rows=asked)
def test_a_moment_has_the_last_rate_up_to_its_day_or_the_fixed_one(
    published: dict[str, dict[int, float]], rows: list[tuple[int, float]]
) -> None:
    rates = Rates(published)
    for number, moment in rows:
        code = CURRENCY_CODES[number - 1]
        before = {day: rate for day, rate in published.get(code, {}).items() if day * DAY <= moment}
        assert rates.at(code, moment) == (before[max(before)] if before else USD_PER_UNIT[code])


@given(published=published, later=published, cut=days, rows=asked)
def test_a_rate_that_is_published_later_changes_nothing_before_its_day(
    published: dict[str, dict[int, float]],
    later: dict[str, dict[int, float]],
    cut: int,
    rows: list[tuple[int, float]],
) -> None:
    both = {
        code: published.get(code, {}) | {day: rate for day, rate in later.get(code, {}).items() if day >= cut}
        for code in (*published, *later)
    }
    early = [(number, moment) for number, moment in rows if moment < cut * DAY]
    assert of_rows(Rates(both), early) == of_rows(Rates(published), early)


def test_fixed_rates_are_those_of_the_table_on_every_day() -> None:
    rates = Rates.fixed()
    everything = [(number, moment) for number in range(1, len(CURRENCY_CODES) + 1) for moment in (-1e9, 0.0, 4e9)]
    assert of_rows(rates, everything) == [USD_PER_UNIT[CURRENCY_CODES[number - 1]] for number, _ in everything]
    assert of_rows(rates, []) == []


def test_a_file_is_read_by_the_rule(tmp_path: Path) -> None:
    rates = Rates.read(in_file(tmp_path, THREE))
    assert [rates.at("EUR", FRIDAY + hours * 3600) for hours in (-1, 0, 23, 24, 71.9, 72)] == [
        USD_PER_UNIT["EUR"],
        *[1.1] * 4,
        1.2,
    ]
    assert rates.at("GBP", FRIDAY + 1e9) == 1.3
    assert rates.at("CHF", FRIDAY) == USD_PER_UNIT["CHF"]
    assert rates.at("USD", FRIDAY) == 1.0


def test_the_fingerprint_tells_rates_apart_and_not_files(tmp_path: Path) -> None:
    rates = Rates.read(in_file(tmp_path, THREE))
    (tmp_path / "sorted.csv.gz").write_bytes(gzip.compress("\n".join(sorted(THREE.split(), reverse=True)).encode()))
    table = {
        "usd_per_unit": [1.2, 1.1, 1.3, 1.0],
        "currency": ["EUR", "EUR", "GBP", "USD"],
        "day": [date(2026, 1, 5), date(2026, 1, 2), date(2026, 1, 2), date(2026, 1, 2)],
    }
    pq.write_table(pa.table(table), tmp_path / "dates.parquet")
    times = pa.array([datetime(day.year, day.month, day.day) for day in table["day"]], pa.timestamp("ns"))
    pq.write_table(pa.table(table | {"day": times}), tmp_path / "times.parquet")
    for name in ("sorted.csv.gz", "dates.parquet", "times.parquet"):
        assert Rates.read(tmp_path / name).fingerprint == rates.fingerprint
    other = Rates.read(in_file(tmp_path, THREE.replace("1.3", "1.4")))
    assert len({rates.fingerprint, other.fingerprint, Rates.fixed().fingerprint}) == 3
    assert Rates.fixed().fingerprint == Rates.fixed().fingerprint


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ("2026-01-02,EURO,1.1", "unknown currency 'EURO'; did you mean EUR?"),
        ("2026-01-02,,1.1", "unknown currency ''"),
        ("2026-01-06,EUR,0", "'0' is no rate (mend: give the US dollars for one unit, from 1e-09 to 1e+09)"),
        ("2026-01-06,EUR,-1", "'-1' is no rate"),
        ("2026-01-06,EUR,nan", "'nan' is no rate"),
        ("2026-01-06,EUR,inf", "'inf' is no rate"),
        ("2026-01-06,EUR,9e-10", "'9e-10' is no rate"),
        ("2026-01-06,EUR,1.1e9", "'1.1e9' is no rate"),
        ("2026-01-06,EUR,much", "'much' is no rate"),
        ("2026-01-06,EUR,", "'' is no rate"),
        ("2026-01-05,EUR,1.2", "EUR has a rate for that day already (mend: keep one of them)"),
        ("02.01.2026,EUR,1.2", "'02.01.2026' is no day (mend: write it as 2026-01-31)"),
        ("2026-01-02 10:00:00,EUR,1.2", "'2026-01-02 10:00:00' is no day"),
        (",EUR,1.2", "'' is no day"),
        ("2026-01-06,USD,1.01", "a US dollar is not worth 1.01"),
        ("2026-01-06,EUR", "row has 2 fields where the header has 3"),
    ],
)
def test_a_row_that_cannot_be_right_is_named_with_its_file_and_the_mend(
    tmp_path: Path, row: str, told: str
) -> None:
    file = in_file(tmp_path, f"{THREE}{row}\n")
    with pytest.raises(DataError) as caught:
        Rates.read(file)
    assert str(caught.value).startswith(f"{file}, row 4: {told}")
    assert caught.value.mend


@pytest.mark.parametrize(
    ("published", "told"),
    [
        ({"EURO": {3: 1.1}}, "rates: unknown currency 'EURO'; did you mean EUR? (mend: use its code"),
        ({"EURO": {}}, "rates: unknown currency 'EURO'"),
        ({"EUR": {3: 1.1, 4: 9e-10}}, "rates of EUR, day 4 since 1970: 9e-10 is no rate (mend: give the US"),
        ({"EUR": {3: 1.1 * MOST}}, "rates of EUR, day 3 since 1970: 1100000000.0 is no rate"),
        ({"EUR": {3: float("nan")}}, "nan is no rate"),
        ({"EUR": {3: float("inf")}}, "inf is no rate"),
        ({"USD": {3: 1.01}}, "rates of USD, day 3 since 1970: a US dollar is not worth 1.01"),
    ],
)
def test_rates_that_cannot_be_right_are_not_made(published: dict[str, dict[int, float]], told: str) -> None:
    with pytest.raises(DataError) as caught:
        Rates(published)
    assert told in str(caught.value)
    assert caught.value.mend


def test_the_least_and_the_largest_rate_and_a_dollar_of_one_are_taken() -> None:
    rates = Rates({"EUR": {0: LEAST, 1: MOST}, "USD": {0: 1.0}})
    assert [rates.at("EUR", 0.0), rates.at("EUR", float(DAY))] == [LEAST, MOST]
    assert rates.fingerprint == Rates({"EUR": {0: LEAST, 1: MOST}}).fingerprint


@pytest.mark.parametrize(
    ("text", "error", "told"),
    [
        ("day,currency\n2026-01-02,EUR\n", MissingColumnError, "no column 'usd_per_unit'"),
        (HEADER, EmptyInputError, "no rows"),
        ("", EmptyInputError, "empty"),
    ],
)
def test_a_file_without_rates_is_refused(tmp_path: Path, text: str, error: type[DataError], told: str) -> None:
    with pytest.raises(error, match=told):
        Rates.read(in_file(tmp_path, text))
    with pytest.raises(UnreadableFileError, match="No such file"):
        Rates.read(tmp_path / "absent.csv")
