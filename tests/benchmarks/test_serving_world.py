"""The traffic of the serving benchmark: as much as is wanted, in order, each payment once, none from the future."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from serving_world import BEGIN, World


@pytest.fixture
def world(tmp_path: Path) -> World:
    """Eight payments in seven days; the last four are sent."""
    days = pa.array([BEGIN + timedelta(days=number) for number in range(8)], pa.timestamp("us", "UTC"))
    table = pa.table({"tx_id": [f"tx-{number}" for number in range(8)], "timestamp": days})
    pq.write_table(table, tmp_path / "transactions.parquet")
    return World(tmp_path)


def test_few_payments_have_the_days_of_the_world(world: World) -> None:
    sent = world.bodies(8)
    days = [(datetime.fromisoformat(one["timestamp"]) - BEGIN).days for one in sent]
    assert days == [4, 5, 6, 7, 7, 8, 9, 10]


@pytest.mark.parametrize("payments", [1, 40_000, 30_000_000])
def test_traffic_of_any_length_is_in_order_and_ends_before_today(world: World, payments: int) -> None:
    sent = list(islice(world.traffic(payments), 1_000))
    stamps = [datetime.fromisoformat(one["timestamp"]) for one in sent]
    assert stamps == sorted(stamps)
    assert len({one["tx_id"] for one in sent}) == 1_000
    pace = (stamps[-1] - stamps[0]) / 1_000
    assert stamps[0] + pace * payments < datetime.now(UTC)
