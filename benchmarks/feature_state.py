"""What accounts cost in memory, how fast their state is saved and restored, and whether live equals replay."""

from __future__ import annotations

import gc
import os
import resource
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
from feature_data import SETS, Data, Library, Measurement, payments
from machine import one_core, timed
from numpy.typing import NDArray

from riskdistill.data.transaction import transactions_from
from riskdistill.features import Encoded, FeatureEngine
from riskdistill.features.record import ACCOUNT

ACCOUNTS: Final = 1_000_000
PIECE: Final = 50_000  # payments made at a time, so that the tables do not count as the accounts' memory
ROUNDS: Final = 2
NEXT: Final = 20_000  # transactions whose features a restored engine is asked for
PAGE: Final = resource.getpagesize()
QUICK_SHARE: Final = 10  # one in so many rows and accounts


def memory(quick: bool) -> list[Measurement]:
    """A million accounts, each paying and paid once and then once more, in a process of its own."""
    return _alone(partial(_memory, ACCOUNTS // QUICK_SHARE if quick else ACCOUNTS))


def snapshot(folder: Path, quick: bool) -> list[Measurement]:
    """The same million accounts saved, restored by other engines, and all asked for the next features."""
    return _alone(partial(_snapshot, ACCOUNTS // QUICK_SHARE if quick else ACCOUNTS, folder / "accounts.snapshot"))


def equality(library: Library, quick: bool) -> list[Measurement]:
    """The last fifth observed one by one against a replay of everything: rows that differ in any bit."""
    return [row for data in library for row in _equality(data, QUICK_SHARE if quick else 1)]


def _alone(measure: Callable[[], list[Measurement]]) -> list[Measurement]:
    """Measure in a new process, whose memory holds nothing else."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(measure).result()


def _memory(accounts: int) -> list[Measurement]:
    FeatureEngine().advance(payments("compile", np.arange(PIECE), np.arange(1, PIECE + 1)))
    engine = FeatureEngine()
    before = _resident()
    taken = [_load(engine, accounts, number) for number in range(ROUNDS)]
    grown = _resident() - before
    each, computed = grown / len(engine), ACCOUNT.itemsize
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1_024 / 2**30
    loaded = f"{len(engine):,} accounts"
    detail = f"resident memory grew by {grown / 2**30:.2f} GiB, process's peak {peak:.2f} GiB; {loaded}"
    rows = [
        Measurement("bytes of an account", each, "bytes", 4_096, "lower", detail),
        Measurement("of which its record", computed, "bytes", detail="computed"),
        Measurement("of which its index", each - computed, "bytes", detail="the rest"),
    ]
    for what, seconds in zip(("new accounts", "known accounts"), taken, strict=True):
        detail = f"{accounts:,} payments, {seconds:.1f} s, {loaded} in all"
        rows.append(Measurement(f"replay: {what}", accounts / seconds, "tx/s", detail=detail))
    following = list(transactions_from(next(_pieces(accounts, ROUNDS)).slice(0, NEXT)))
    observed = timed(engine.observe, following)
    for figure in (50, 99):
        detail = f"{NEXT:,} transactions, each of two accounts that no cache holds"
        what = f"observe: {figure}th percentile"
        rows.append(Measurement(what, float(np.percentile(observed, figure)), "us", detail=detail))
    return rows


def _snapshot(accounts: int, path: Path) -> list[Measurement]:
    engine, restored = FeatureEngine(), FeatureEngine()
    for number in range(ROUNDS):
        _load(engine, accounts, number)
    started = time.perf_counter()
    engine.save(path)
    seconds = {"save": time.perf_counter() - started}
    for what in ("restore, file not in memory", "restore"):
        if what != "restore":
            _forget(path)
        started = time.perf_counter()
        restored.restore(path)
        seconds[what] = time.perf_counter() - started
    detail = f"{len(restored):,} accounts, {path.stat().st_size / 2**30:.2f} GiB"
    following = next(_pieces(accounts, ROUNDS)).slice(0, NEXT)
    differing = _differing(engine.encode(following), restored.encode(following))
    path.unlink()
    return [
        *(Measurement(what, taken, "s", 10.0, "lower", detail) for what, taken in seconds.items()),
        Measurement("next features that differ", differing, "rows", 0, "lower", f"of {NEXT:,}, in any bit"),
    ]


def _forget(path: Path) -> None:
    """Drop a file, which is on the disk already, from the system's page cache."""
    with path.open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _equality(data: Data, share: int) -> list[Measurement]:
    table = data.transactions.slice(0, len(data) // share)
    rows = len(table)
    history = rows * 4 // 5
    replayed = FeatureEngine().encode(table, tokens=np.arange(rows) >= history)
    replayed = Encoded(replayed.context[history:], replayed.events)
    engine = FeatureEngine()
    engine.advance(table.slice(0, history))
    live = Encoded.concat([engine.observe(one) for one in transactions_from(table.slice(history))])
    detail = f"of {len(live):,} after {history:,}; context and tokens, in any bit"
    return [
        Measurement(f"{SETS[data.name]}: rows that differ", _differing(replayed, live), "rows", 0, "lower", detail)
    ]


def _differing(one: Encoded, other: Encoded) -> int:
    """Rows of which any bit of the context or of the tokens differs."""
    assert len(one) == len(other)
    pairs = (one.context, other.context), (one.events, other.events)
    unlike = [(_bits(left) != _bits(right)).any(axis=1) for left, right in pairs]
    return int((unlike[0] | unlike[1]).sum())


def _bits(numbers: NDArray[np.float32]) -> NDArray[np.uint32]:
    return np.ascontiguousarray(numbers).view(np.uint32).reshape(len(numbers), -1)


def _load(engine: FeatureEngine, accounts: int, number: int) -> float:
    """Seconds that one round of payments takes, the making of its tables not counted."""
    seconds = 0.0
    for table in _pieces(accounts, number):
        with one_core():
            started = time.perf_counter()
            engine.advance(table)
            seconds += time.perf_counter() - started
    return seconds


def _pieces(accounts: int, number: int) -> Iterator[pa.Table]:
    """One round of payments, in tables of PIECE rows: every account pays once and is paid once, in random order."""
    random = np.random.default_rng(number)
    senders, receivers = random.permutation(accounts), random.permutation(accounts)
    for start in range(0, accounts, PIECE):
        part = slice(start, start + PIECE)
        after = 0.1 * (number * accounts + start)
        yield payments(f"{number}-{start}", senders[part], receivers[part], after=after)


def _resident() -> int:
    """Bytes of memory that this process holds."""
    gc.collect()
    pa.default_memory_pool().release_unused()
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE
