"""Times as whole microseconds, exactly."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from riskdistill.dataset.clock import DAY, HOUR, SECOND, clock_unit, microseconds, moment, on_the_clock

TIMES = st.datetimes(datetime(1990, 1, 1), datetime(2099, 12, 31), timezones=st.just(UTC))


@given(TIMES)
def test_a_moment_is_exact(time: datetime) -> None:
    table = pa.table({"timestamp": pa.array([time], pa.timestamp("us", "UTC"))})
    assert moment(microseconds(table)[0]) == time


@given(st.lists(st.integers(1, 10**6), min_size=1), st.sampled_from([SECOND, 60 * SECOND, HOUR, DAY]))
def test_the_unit_divides_every_time(times: list[int], unit: int) -> None:
    rows = np.array(times) * unit
    assert clock_unit(rows) >= unit
    assert not (rows % clock_unit(rows)).any()
    assert clock_unit(np.append(rows, 1)) == 1


def test_a_coarser_stamp_is_at_or_before_its_time(tiny_tables: tuple[pa.Table, pa.Table]) -> None:
    before, after = (microseconds(table) for table in (tiny_tables[0], on_the_clock(tiny_tables[0], DAY)))
    assert clock_unit(after) == DAY
    assert ((after <= before) & (before - after < DAY)).all()
