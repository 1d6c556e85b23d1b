"""Four processes write one state in Redis at once: nothing is lost, and all is as one engine would have done it.

The writers take the batches of a stream in turns and commit them as they can. What they did is then replayed in the
order of their commits by one engine in memory; every row's features and tokens and every record are compared.
"""

from __future__ import annotations

import tempfile
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import redis
import xxhash
from feature_data import SETS, Library, Measurement
from numpy.typing import NDArray

from riskdistill.data.transaction import transactions_from
from riskdistill.features import Encoded, FeatureEngine, snapshot
from riskdistill.features.redis_state import RedisFeatureEngine

WRITERS: Final = 4
ROWS: Final = 100_000
QUICK_ROWS: Final = 5_000
BATCHES: Final = (1, 64)  # transactions of a commit
DEADLINE: Final = 30.0  # seconds: the outside world's two accounts are in very many of these payments
PAGE: Final = 1_000  # records read at a time
_ready: Barrier  # of this writer's process


@dataclass(frozen=True)
class Written:
    """What one writer did.

    Attributes:
        sequence: int64 [commits], their numbers in the one order of all.
        digests: uint64 [rows], of the features and tokens that it got.
        microseconds: float64 [commits], of each `observe_many`.
        start, end: seconds on the clock that all processes share.
        conflicts: how often a commit had to be computed again.
    """

    sequence: NDArray[np.int64]
    digests: NDArray[np.uint64]
    microseconds: NDArray[np.float64]
    start: float
    end: float
    conflicts: int


def shared_state(library: Library, url: str, quick: bool) -> list[Measurement]:
    """The first transactions of AMLGentex dealt out to four writers, one by one and in batches."""
    table = library["amlgentex"].transactions.slice(0, QUICK_ROWS if quick else ROWS).combine_chunks()
    return [row for batch in BATCHES for row in measure(url, table, batch)]


def measure(url: str, table: pa.Table, batch: int, writers: int = WRITERS) -> list[Measurement]:
    """Let `writers` processes write all rows of `table` to a new state, `batch` rows a commit."""
    with _new_state(url) as prefix:
        written = _write(table, url, prefix, batch, writers)
        records = _stored(url, prefix)
    sequence = np.concatenate([one.sequence for one in written])
    digests = np.concatenate([one.digests for one in written])
    starts = np.concatenate([np.arange(writer * batch, len(table), writers * batch) for writer in range(writers)])
    rows = np.concatenate([np.arange(start, min(start + batch, len(table))) for start in starts])
    commit_of_row = np.repeat(sequence, np.minimum(batch, len(table) - starts))
    order = np.argsort(commit_of_row, kind="stable")  # of a commit, its rows stay in their order
    serial, expected = _replayed(table.take(rows[order]))
    unlike = sum(records.get(key) != expected.get(key) for key in records.keys() | expected.keys())
    taken = np.concatenate([one.microseconds for one in written])
    speed = len(table) / (max(one.end for one in written) - min(one.start for one in written))
    conflicts = sum(one.conflicts for one in written)
    dealt = f"{len(table):,} rows of {SETS['amlgentex']}, {writers} writers"
    what = f"batches of {batch}" if batch > 1 else "one by one"
    lost = abs(len(starts) - int(sequence.max())) + len(starts) - len(set(sequence.tolist()))
    return [
        Measurement(
            f"{what}: commits lost", lost, "", 0, "lower", f"of {len(starts):,}, by their numbers; {dealt}"
        ),
        Measurement(
            f"{what}: rows unlike the serial replay",
            int((digests[order] != serial).sum()),
            "",
            0,
            "lower",
            "in any bit",
        ),
        Measurement(f"{what}: records unlike it", unlike, "", 0, "lower", f"of {len(expected):,}, in any byte"),
        Measurement(f"{what}: speed of all writers", speed, "tx/s", detail=f"{conflicts:,} conflicts"),
        Measurement(f"{what}: a commit, median", float(np.median(taken)), "us", better="lower"),
        Measurement(f"{what}: 99th percentile", float(np.percentile(taken, 99)), "us", better="lower"),
    ]


def _write(table: pa.Table, url: str, prefix: str, batch: int, writers: int) -> list[Written]:
    context = get_context("spawn")
    with ProcessPoolExecutor(writers, context, _join, (context.Barrier(writers),)) as pool:
        asked = [pool.submit(_writer, table, url, prefix, batch, slice(n, None, writers)) for n in range(writers)]
        return [work.result() for work in asked]


def _join(barrier: Barrier) -> None:
    global _ready  # a pool hands a barrier over in no other way
    _ready = barrier


def _writer(table: pa.Table, url: str, prefix: str, batch: int, mine: slice) -> Written:
    """Write those of all batches that are this writer's."""
    starts = range(0, len(table), batch)[mine]
    batches = [list(transactions_from(table.slice(start, batch))) for start in starts]
    engine = RedisFeatureEngine(url, prefix=prefix, deadline=DEADLINE)
    engine.peek(batches[0][0])  # compiles and connects
    digests = []
    sequence = np.empty(len(batches), np.int64)
    taken = np.empty(len(batches))
    _ready.wait()
    start = time.monotonic()
    for number, transactions in enumerate(batches):
        before = time.perf_counter_ns()
        encoded = engine.observe_many(transactions)
        taken[number] = (time.perf_counter_ns() - before) / 1e3
        digests.append(_digests(encoded))
        sequence[number] = engine.sequence
    end = time.monotonic()
    engine.close()
    return Written(sequence, np.concatenate(digests), taken, start, end, engine.conflicts)


def _replayed(table: pa.Table) -> tuple[NDArray[np.uint64], dict[int, bytes]]:
    """Digests of all rows, and every record by account key, of one engine in memory."""
    engine = FeatureEngine()
    digests = np.concatenate([_digests(encoded) for encoded in engine.replay(table, batch_rows=PAGE)])
    with tempfile.TemporaryDirectory() as folder:
        engine.save(Path(folder) / "records")
        records, header = snapshot.read(Path(folder) / "records")
    return digests, {int(record["key"]): record.tobytes() for record in records[1 : header.accounts + 1]}


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


def _digests(encoded: Encoded) -> NDArray[np.uint64]:
    """A hash of each row's context and tokens."""
    rows = zip(encoded.context, encoded.events, strict=True)
    hashed = (xxhash.xxh3_64_intdigest(context.tobytes() + events.tobytes()) for context, events in rows)
    return np.fromiter(hashed, np.uint64, len(encoded))


@contextmanager
def _new_state(url: str) -> Iterator[str]:
    """The prefix of a state that nobody else has, removed in the end."""
    prefix = f"riskdistill-benchmark-{uuid.uuid4().hex}"
    try:
        yield prefix
    finally:
        client: Any = redis.Redis.from_url(url)
        for name in client.scan_iter(f"{prefix}:*", count=PAGE):
            client.unlink(name)
        client.close()
