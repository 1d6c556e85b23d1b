"""What a unit of each currency is worth in US dollars, as of a day: fixed, or read from a file of published rates.

    day,currency,usd_per_unit
    2026-01-02,EUR,1.1738
    2026-01-05,EUR,1.1691

The rule: a transaction takes the last rate that was published on or before its day in UTC; a rate holds from the
first second of its day. Before a currency's first published day, and for a currency that the file does not list,
the fixed rate of `currencies` holds. A later rate is never used, so what is published tomorrow changes nothing of
today. A dollar is a dollar, and a rate outside `LEAST` to `MOST` is a mistake: it would make features infinite.
"""

from __future__ import annotations

import hashlib
import json
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from riskdistill.data import columns
from riskdistill.data.columns import Column, pc
from riskdistill.data.currencies import CURRENCY_CODES, USD_PER_UNIT
from riskdistill.data.source import Rows, read_rows
from riskdistill.data.transaction import unknown_currency
from riskdistill.errors import DataError

COLUMNS: Final = ("day", "currency", "usd_per_unit")
SECONDS_A_DAY: Final = 86_400
LEAST: Final = 1e-9  # US dollars per unit; the fixed rates lie between 0.002 and 30,000
MOST: Final = 1e9
Published = Mapping[str, Mapping[int, float]]  # currency code -> day since 1970 -> US dollars per unit


class Rates:
    """US dollars per unit of each currency, as of a day. Does not change.

    Args:
        published: rates by currency and day; those of `currencies` stand for all others.

    Raises:
        DataError: a currency that is not known, a rate outside `LEAST` to `MOST`, or a dollar that is not worth
            one. Names the currency and the day.

    Attributes:
        fingerprint: 16 hex digits over all rates; equal for equal rates, in whatever order or format they came.
    """

    def __init__(self, published: Published) -> None:
        for code, of_days in published.items():
            if code not in USD_PER_UNIT:
                raise DataError(unknown_currency(code), where="rates", mend="use its code, or leave it out")
            for day, rate in of_days.items():
                if wrong := _mistake(code, rate, rate):
                    raise DataError(wrong[0], where=f"rates of {code}, day {day} since 1970", mend=wrong[1])
        # for each currency the seconds at which a rate begins to hold, and the rates, the fixed one first
        self._steps: dict[str, tuple[list[float], list[float]]] = {}
        for code in CURRENCY_CODES:
            days = sorted(published.get(code, {}).items()) if code != "USD" else []
            starts = [float(day * SECONDS_A_DAY) for day, _ in days]
            self._steps[code] = starts, [USD_PER_UNIT[code], *(rate for _, rate in days)]
        self._fixed = np.array([0.0, *USD_PER_UNIT.values()])
        self._arrays = [
            (number, np.array(starts), np.array(rates))
            for number, (starts, rates) in enumerate(self._steps.values(), start=1)
            if starts
        ]
        told = json.dumps(self._steps, sort_keys=True)
        self.fingerprint: Final = hashlib.sha256(told.encode()).hexdigest()[:16]

    @staticmethod
    def fixed() -> Rates:
        """The rates of `currencies`, for every day."""
        return Rates({})

    @staticmethod
    def read(path: Path | None) -> Rates:
        """The rates of a CSV, gzipped CSV or Parquet file with the columns `COLUMNS`, rows in any order.

        Without a file, the fixed ones.

        A day is a date (in CSV `2026-01-31`); a currency is one of `CURRENCY_CODES`.

        Raises:
            DataError: the file cannot be read or lacks a column or rows; a row whose day, currency or rate is no
                such thing, or that comes twice, or a dollar that is not worth one. Names the file and the row,
                counted from 1, a header not counted.
        """
        if path is None:
            return Rates.fixed()
        published: dict[str, dict[int, float]] = {code: {} for code in CURRENCY_CODES}
        for rows in read_rows(path, COLUMNS):
            for number, day, code, rate in _read(rows, path):
                if day in published[code]:
                    raise _wrong(path, number, f"{code} has a rate for that day already", "keep one of them")
                published[code][day] = rate
        return Rates(published)

    def known_on(self, day: int) -> str:
        """16 hex digits over the rates that hold up to a day, counted from 1970; a later rate changes nothing."""
        holding = {
            code: (starts[: bisect_right(starts, float(day * SECONDS_A_DAY))], rates)
            for code, (starts, rates) in self._steps.items()
        }
        told = json.dumps({code: (starts, rates[: len(starts) + 1]) for code, (starts, rates) in holding.items()})
        return hashlib.sha256(told.encode()).hexdigest()[:16]

    def of_rows(self, currency: NDArray[np.uint8], seconds: NDArray[np.float64]) -> NDArray[np.float64]:
        """float64 [n]: what a unit was worth in each row.

        Args:
            currency: [n], 1 + the index in `CURRENCY_CODES`.
            seconds: [n], since 1970 in UTC.
        """
        worth = self._fixed[currency]
        for number, starts, rates in self._arrays:
            rows = np.flatnonzero(currency == number)
            worth[rows] = rates[np.searchsorted(starts, seconds[rows], side="right")]
        return worth

    def at(self, currency_code: str, seconds: float) -> float:
        """What a unit was worth at one moment, in seconds since 1970 in UTC; exactly as `of_rows` has it."""
        starts, rates = self._steps[currency_code]
        return rates[bisect_right(starts, seconds)]


def _read(rows: Rows, path: Path) -> Iterator[tuple[int, int, str, float]]:
    """Number, day since 1970, currency and rate of each row."""
    for malformed in rows.malformed:
        raise _wrong(path, malformed.number, malformed.problem, "write day,currency,usd_per_unit")
    days = _days(rows.table["day"]).to_pylist()
    codes = columns.text(rows.table["currency"]).to_pylist()
    rates = columns.number(rows.table["usd_per_unit"]).to_pylist()
    for place, (number, day, code, rate) in enumerate(zip(rows.numbers.tolist(), days, codes, rates, strict=True)):
        if day is None:
            found = rows.table["day"][place].as_py()
            raise _wrong(path, number, f"{found!r} is no day", "write it as 2026-01-31")
        if code not in USD_PER_UNIT:
            raise _wrong(path, number, unknown_currency(code or ""), "use its code, or leave the row out")
        if wrong := _mistake(code, rate, rows.table["usd_per_unit"][place].as_py()):
            raise _wrong(path, number, *wrong)
        yield number, day, code, rate


def _mistake(code: str, rate: float | None, spelled: object) -> tuple[str, str] | None:
    """What cannot be right in a rate that the source spells so, and the mend; None where nothing is wrong."""
    if rate is None or not LEAST <= rate <= MOST:  # not for NaN either
        return f"{spelled!r} is no rate", f"give the US dollars for one unit, from {LEAST:g} to {MOST:g}"
    if code == "USD" and rate != 1:
        return f"a US dollar is not worth {rate}", "give US dollars per unit of the others"
    return None


def _days(column: Column) -> Column:
    """Days since 1970; null where there is none, or a time within it."""
    typed = pa.types.is_date(column.type) or pa.types.is_timestamp(column.type)
    times: Any = column.cast(pa.timestamp("us"), safe=False) if typed else columns.naive_time(column)
    dates = times.cast(pa.date32(), safe=False)
    whole = pc.equal(dates.cast(pa.timestamp("us")), times)
    return columns.only_where(whole, dates).cast(pa.int32())


def _wrong(path: Path, row: int, what: str, mend: str) -> DataError:
    return DataError(what, where=f"{path}, row {row}", mend=mend)
