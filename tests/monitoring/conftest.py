"""Fixtures of the monitoring tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from traffic_log import Logs, open_logs


@pytest.fixture
def logs(tmp_path: Path) -> Iterator[Logs]:
    releases, decisions = open_logs(tmp_path)
    yield releases, decisions
    releases.close()
    decisions.close()
