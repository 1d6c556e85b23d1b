"""The records of states in Redis and in memory, and what happens to them at an awkward moment."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis
from payment_histories import Payment
from small_engines import engine_after

from riskdistill.features import redis_state, snapshot

URL = "redis://127.0.0.1:6379/15"


def stored(server: redis.Redis, prefix: str) -> dict[int, bytes]:
    """Every record under a prefix, by account key."""
    names = list(server.scan_iter(f"{prefix}:account:*", count=1_000))
    return {int(name.rpartition(b":")[2], 16): bytes(server.get(name))[8:] for name in names}


def in_memory(rows: list[Payment], path: Path) -> dict[int, bytes]:
    """Every record of an engine in memory that observed `rows`, by account key."""
    engine = engine_after(rows)
    engine.save(path)
    records, header = snapshot.read(path)
    return {int(record["key"]): record.tobytes() for record in records[1 : header.accounts + 1]}


def saved(rows: list[Payment], folder: Path, position: int = 0) -> Path:
    engine = engine_after(rows)
    engine.save(folder / "snapshot", position=position)
    return folder / "snapshot"


def after_page(monkeypatch: pytest.MonkeyPatch, page: int, act: Callable[[], object]) -> None:
    """Let `act` happen after so many pages of the next seeding; those of what it drops count."""
    fill = redis_state.RedisFeatureEngine._fill
    left = [page]

    def interrupted(*arguments: Any) -> None:
        fill(*arguments)
        left[0] -= 1
        if left[0] == 0:
            monkeypatch.setattr(redis_state.RedisFeatureEngine, "_fill", fill)
            act()
            monkeypatch.setattr(redis_state.RedisFeatureEngine, "_fill", interrupted)

    monkeypatch.setattr(redis_state.RedisFeatureEngine, "_fill", interrupted)


def interfere(monkeypatch: pytest.MonkeyPatch, act: Callable[[], object], times: int = 1) -> None:
    """Let `act` happen between the reading and the commit of each of the next `times` steps."""
    step = redis_state.update.replay
    left = [times]

    def interrupted(*arguments: Any) -> None:
        if left[0] > 0:
            left[0] -= 1
            monkeypatch.setattr(redis_state.update, "replay", step)
            act()
            monkeypatch.setattr(redis_state.update, "replay", interrupted)
        step(*arguments)

    monkeypatch.setattr(redis_state.update, "replay", interrupted)
