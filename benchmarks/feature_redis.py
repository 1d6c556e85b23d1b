"""Several writer processes on one state in Redis: how fast, how often they collide, and whether anything is lost.

Writers take the batches of the stream in turns and commit them as they can. What they did is then replayed in the
order of their commits by one engine in memory, and every feature and every record is compared.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from threading import Barrier
from typing import Any, Final

import numpy as np
import pyarrow as pa
import redis
import xxhash
from feature_data import SETS, Library, Measurement
from machine import timed
from numpy.typing import NDArray

from riskdistill.data.transaction import transactions_from
from riskdistill.features import Encoded, FeatureEngine, snapshot
from riskdistill.features.redis_state import RedisFeatureEngine

URL: Final = "redis://127.0.0.1:6379/15"
WRITERS: Final = 4
BATCH: Final = 64
ROWS: Final = 100_000
QUICK_ROWS: Final = 10_000
ALONE: Final = 5_000  # transactions observed one by one
WARM: Final = 500  # of them before the clock runs
DEADLINE: Final = 60.0  # of a step: what is measured is how long it takes
PAGE: Final = 1_000  # records read at a time


@dataclass(frozen=True)
class Work:
    """What one writer did.

    Attributes:
        sequence: int64 [batches], the place of each of its commits.
        digests: for each batch, 16 bytes a row over its context and tokens.
        conflicts: commits that came too late and were computed again.
        started, ended: seconds of the system's monotonic clock.
    """

    sequence: NDArray[np.int64]
    digests: list[bytes]
    conflicts: int
    started: float
    ended: float


@dataclass(frozen=True)
class Outcome:
    """What the writers did together, and how it compares with the replay in memory.

    Attributes:
        seconds: from the first start to the last commit.
        conflicts: commits that came too late and were computed again.
        features: rows whose context or tokens differ in any bit.
        records: accounts whose record differs in any byte, or that only one side has.
        accounts: how many there are in memory.
    """

    seconds: float
    conflicts: int
    features: int
    records: int
    accounts: int


def shared(library: Library, folder: Path, quick: bool) -> list[Measurement]:
    """Four writers on AMLGentex from its first row on, then one that takes transactions one by one."""
    data = library["amlgentex"]
    rows = QUICK_ROWS if quick else ROWS
    table = data.transactions.slice(0, rows)
    found = measure(URL, table, folder)
    setting = f"{WRITERS} processes, batches of {BATCH}, Redis on the same machine"
    compared = f"{rows:,} rows of {SETS[data.name]}, {found.accounts:,} accounts"
    commits = -(-rows // BATCH)
    each = found.conflicts / commits
    measured = [
        Measurement("writers together", rows / found.seconds, "tx/s", detail=f"{compared}; {setting}"),
        Measurement("conflicts of a commit", each, "", detail=f"{found.conflicts:,} in {commits:,} commits"),
        Measurement("rows that differ", found.features, "rows", 0, "lower", "from the serial replay, in any bit"),
        Measurement(
            "records that differ", found.records, "records", 0, "lower", "from the serial replay, in any byte"
        ),
    ]
    alone = _alone(table.slice(0, ALONE))
    for figure, what in ((50, "median"), (99, "99th percentile")):
        detail = f"{len(alone):,} transactions, one writer, features and tokens"
        measured.append(Measurement(f"observe: {what}", float(np.percentile(alone, figure)), "us", detail=detail))
    return measured


def measure(url: str, table: pa.Table, folder: Path, writers: int = WRITERS) -> Outcome:
    """Let processes write all rows of `table` to a new state, and compare it with the replay of what they did.

    Args:
        folder: for a snapshot of the replay.
    """
    table = table.combine_chunks()
    with _state(url) as prefix:
        context = get_context("spawn")
        with context.Manager() as manager, ProcessPoolExecutor(writers, mp_context=context) as pool:
            together = manager.Barrier(writers)
            asked = [pool.submit(_write, url, prefix, table, n, writers, together) for n in range(writers)]
            works = [work.result() for work in asked]
        records = _stored(url, prefix)
    starts = np.concatenate([np.arange(n * BATCH, len(table), writers * BATCH) for n in range(writers)])
    order = np.argsort(np.concatenate([work.sequence for work in works]))
    digests = [digest for work in works for digest in work.digests]
    replayed, expected = _replayed(table, starts[order], folder / "replayed.snapshot")
    return Outcome(
        seconds=max(work.ended for work in works) - min(work.started for work in works),
        conflicts=sum(work.conflicts for work in works),
        features=_unlike(b"".join(digests[number] for number in order), replayed),
        records=sum(records.get(key) != expected.get(key) for key in records.keys() | expected.keys()),
        accounts=len(expected),
    )


def _write(url: str, prefix: str, table: pa.Table, number: int, writers: int, together: Barrier) -> Work:
    """Write every batch that is this writer's turn."""
    mine = range(number * BATCH, len(table), writers * BATCH)
    batches = [list(transactions_from(table.slice(start, BATCH))) for start in mine]
    engine = RedisFeatureEngine(url, prefix=prefix, deadline=DEADLINE)
    engine.peek(batches[0][0])  # connects and compiles
    sequence, digests = np.empty(len(batches), np.int64), []
    together.wait()
    started = time.monotonic()
    for place, batch in enumerate(batches):
        digests.append(_digests(engine.observe_many(batch)))
        sequence[place] = engine.sequence
    return Work(sequence, digests, engine.conflicts, started, time.monotonic())


def _digests(encoded: Encoded) -> bytes:
    """16 bytes a row: a hash of its context and its tokens."""
    rows = zip(encoded.context, encoded.events, strict=True)
    return b"".join(xxhash.xxh3_128_digest(context.tobytes() + events.tobytes()) for context, events in rows)


def _unlike(one: bytes, other: bytes) -> int:
    """Rows whose digests differ."""
    left, right = (np.frombuffer(digests, np.uint64).reshape(-1, 2) for digests in (one, other))
    return int((left != right).any(axis=1).sum())


def _replayed(table: pa.Table, starts: NDArray[np.int64], path: Path) -> tuple[bytes, dict[int, bytes]]:
    """Digests and records of an engine in memory that observes the batches in this order."""
    order = np.concatenate([np.arange(start, min(start + BATCH, len(table))) for start in starts])
    engine = FeatureEngine()
    digests = b"".join(map(_digests, engine.replay(table.take(order), batch_rows=PAGE)))
    engine.save(path)
    records, header = snapshot.read(path)
    found = {int(record["key"]): record.tobytes() for record in records[1 : header.accounts + 1]}
    path.unlink()
    return digests, found


def _stored(url: str, prefix: str) -> dict[int, bytes]:
    """Every record in Redis by account key, without the number of its commit."""
    client: Any = redis.Redis.from_url(url)
    names = sorted(set(client.scan_iter(f"{prefix}:account:*", count=PAGE)))
    found = {}
    for start in range(0, len(names), PAGE):
        page = names[start : start + PAGE]
        for name, value in zip(page, client.mget(page), strict=True):
            found[int(name.rpartition(b":")[2], 16)] = value[8:]
    client.close()
    return found


def _alone(table: pa.Table) -> NDArray[np.float64]:
    """Microseconds of each transaction, one by one on a state that nobody else writes."""
    with _state(URL) as prefix:
        engine = RedisFeatureEngine(URL, prefix=prefix)
        taken = timed(engine.observe, list(transactions_from(table)))[WARM:]
        engine.close()
    return taken


@contextmanager
def _state(url: str) -> Iterator[str]:
    """The prefix of a new state, removed afterwards."""
    prefix = f"benchmark-{uuid.uuid4().hex}"
    try:
        yield prefix
    finally:
        client = redis.Redis.from_url(url)
        for name in client.scan_iter(f"{prefix}:*", count=PAGE):
            client.unlink(name)
        client.close()
