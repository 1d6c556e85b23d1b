"""Four processes write one state in Redis at once: nothing is lost, and all is as one engine would have done it."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.synchronize import Barrier
from typing import Any, Final

import numpy as np
import pyarrow as pa
import redis
import xxhash
from feature_data import SETS, Library, Measurement
from numpy.typing import NDArray

from riskdistill.data.transaction import Transaction, transactions_from
from riskdistill.features import Encoded, FeatureEngine
from riskdistill.features.redis_state import RedisFeatureEngine

WRITERS: Final = 4
ROWS: Final = 100_000
QUICK_ROWS: Final = 5_000
NEXT: Final = 2_000  # transactions that both states are asked about in the end
DEADLINE: Final = 30.0  # seconds: the outside world's two accounts are in very many of these payments
_ready: Barrier  # of this writer's process


@dataclass(frozen=True)
class Written:
    """What one writer did.

    Attributes:
        sequence: int64 [n], the number of each commit in the one order of all.
        digest: uint64 [n], of the features and tokens that it got.
        microseconds: float64 [n], of each `observe`.
        start, end: seconds on the clock that all processes share.
        conflicts: commits that had to be computed again.
    """

    sequence: NDArray[np.int64]
    digest: NDArray[np.uint64]
    microseconds: NDArray[np.float64]
    start: float
    end: float
    conflicts: int


def shared_state(library: Library, url: str, quick: bool) -> list[Measurement]:
    """The first transactions of AMLGentex dealt out to four writers, who observe them one by one."""
    rows = QUICK_ROWS if quick else ROWS
    transactions = library["amlgentex"].transactions
    table = transactions.slice(0, rows)
    prefix = f"riskdistill-benchmark-{os.getpid()}"
    try:
        written = _write(table, url, prefix)
        order = np.concatenate([np.arange(writer, rows, WRITERS) for writer in range(WRITERS)])
        sequence = np.concatenate([one.sequence for one in written])
        order = order[np.argsort(sequence)]
        engine = FeatureEngine()
        serial = _digests(engine.encode(table.take(order)))
        live = np.concatenate([one.digest for one in written])[np.argsort(sequence)]
        asked = list(transactions_from(transactions.slice(rows, NEXT)))
        shared = RedisFeatureEngine(url, prefix=prefix)
        unlike = sum(_digest(shared.peek(one)) != _digest(engine.peek(one)) for one in asked)
        shared.close()
    finally:
        _remove(url, prefix)
    taken = np.concatenate([one.microseconds for one in written])
    speed = rows / (max(one.end for one in written) - min(one.start for one in written))
    conflicts = sum(one.conflicts for one in written)
    dealt = f"{rows:,} of {SETS['amlgentex']}, {WRITERS} writers"
    return [
        Measurement(
            "updates lost", rows - len(set(sequence.tolist())), "rows", 0, "lower", f"commits counted; {dealt}"
        ),
        Measurement("rows unlike the serial replay", int((live != serial).sum()), "rows", 0, "lower", "in any bit"),
        Measurement(
            "next features unlike it", unlike, "rows", 0, "lower", f"of {NEXT:,}, from the records in the end"
        ),
        Measurement(
            "speed of all writers", speed, "tx/s", detail=f"{conflicts:,} conflicts, one transaction a commit"
        ),
        Measurement("observe: median", float(np.median(taken)), "us"),
        Measurement("observe: 99th percentile", float(np.percentile(taken, 99)), "us"),
    ]


def _write(table: pa.Table, url: str, prefix: str) -> list[Written]:
    context = get_context("spawn")
    parts = [table.take(np.arange(writer, len(table), WRITERS)) for writer in range(WRITERS)]
    with ProcessPoolExecutor(WRITERS, context, _join, (context.Barrier(WRITERS),)) as pool:
        return list(pool.map(_writer, parts, [url] * WRITERS, [prefix] * WRITERS))


def _join(barrier: Barrier) -> None:
    global _ready  # a pool hands a barrier over in no other way
    _ready = barrier


def _writer(table: pa.Table, url: str, prefix: str) -> Written:
    transactions: Sequence[Transaction] = list(transactions_from(table))
    engine = RedisFeatureEngine(url, prefix=prefix, deadline=DEADLINE)
    engine.peek(transactions[0])  # compiles and connects
    digest = np.empty(len(transactions), np.uint64)
    sequence = np.empty(len(transactions), np.int64)
    taken = np.empty(len(transactions))
    _ready.wait()
    start = time.monotonic()
    for row, transaction in enumerate(transactions):
        before = time.perf_counter_ns()
        encoded = engine.observe(transaction)
        taken[row] = (time.perf_counter_ns() - before) / 1e3
        digest[row], sequence[row] = _digest(encoded), engine.sequence
    end = time.monotonic()
    engine.close()
    return Written(sequence, digest, taken, start, end, engine.conflicts)


def _digests(encoded: Encoded) -> NDArray[np.uint64]:
    rows = (encoded.take(slice(row, row + 1)) for row in range(len(encoded)))
    return np.fromiter(map(_digest, rows), np.uint64, len(encoded))


def _digest(encoded: Encoded) -> int:
    return xxhash.xxh3_64_intdigest(encoded.context.tobytes() + encoded.events.tobytes())


def _remove(url: str, prefix: str) -> None:
    client: Any = redis.Redis.from_url(url)
    names = list(client.scan_iter(f"{prefix}:*", count=1_000))
    for start in range(0, len(names), 1_000):
        client.unlink(*names[start : start + 1_000])
    client.close()
