"""A real Redis for the tests that need one: database 15 of this machine's, each test under prefixes of its own."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from redis_records import URL
from small_engines import SMALL

from riskdistill.features.redis_state import RedisFeatureEngine


@pytest.fixture(scope="module")
def server() -> Iterator[redis.Redis]:
    client = redis.Redis.from_url(URL, socket_connect_timeout=1)
    try:
        client.ping()
    except redis.ConnectionError as error:
        pytest.skip(f"no Redis answers at {URL}: {error}")
    yield client
    client.close()


@pytest.fixture
def prefixes(server: redis.Redis) -> Iterator[Callable[[], str]]:
    """New prefixes, each of an empty state; all are removed in the end."""
    made: list[str] = []

    def new() -> str:
        made.append(f"test-{uuid.uuid4().hex}")
        return made[-1]

    yield new
    for prefix in made:
        if names := list(server.scan_iter(f"{prefix}:*", count=1_000)):
            server.delete(*names)


@pytest.fixture
def prefix(prefixes: Callable[[], str]) -> str:
    return prefixes()


@pytest.fixture
def new_engine(prefix: str) -> Iterator[Callable[..., RedisFeatureEngine]]:
    """Engines of one prefix."""
    made: list[RedisFeatureEngine] = []

    def new(**options: Any) -> RedisFeatureEngine:
        made.append(RedisFeatureEngine(URL, SMALL, prefix=prefix, **options))
        return made[-1]

    yield new
    for engine in made:
        engine.close()
