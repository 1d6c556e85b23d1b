"""Fixture strategy: every test that takes `url` runs on SQLite and on PostgreSQL, each time on an empty database.

On PostgreSQL that is a schema of its own, which is dropped after the test. What a test opened is closed for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from databases import ENGINES, closing_engines, new_url


@pytest.fixture(params=ENGINES)
def new_database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[], str]]:
    """Makes URLs of empty databases."""
    with closing_engines():
        yield from new_url(request.param, tmp_path)


@pytest.fixture
def postgresql_url(tmp_path: Path) -> Iterator[str]:
    """For what only PostgreSQL does."""
    with closing_engines():
        yield from (new() for new in new_url("postgresql", tmp_path))


@pytest.fixture
def url(new_database: Callable[[], str]) -> str:
    return new_database()
