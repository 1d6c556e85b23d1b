"""Where the tiny world's periods begin."""

from __future__ import annotations

import pyarrow as pa
import pytest
import tiny

from riskdistill.dataset import split_points
from riskdistill.dataset.clock import microseconds


@pytest.fixture(scope="session")
def cuts(tiny_tables: tuple[pa.Table, pa.Table]) -> tuple[int, int]:
    """First row of validation and of test."""
    return split_points(microseconds(tiny_tables[0]), tiny.CONFIG.split)
