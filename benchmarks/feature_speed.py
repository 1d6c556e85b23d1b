"""How fast features come: replayed, one by one, at a hub, and after a start."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import Any, Final

import feature_peer
import numpy as np
import pyarrow as pa
from feature_data import ROOT, SETS, Data, Library, Measurement, payments
from feature_peer import Peer
from machine import one_core, timed
from numpy.typing import NDArray

from riskdistill.data.transaction import transactions_from
from riskdistill.features import FeatureEngine

PASSES: Final = 3
REPLAY_BARS: Final = {"amlgentex": 300_000.0, "amlsim": 200_000.0}
QUICK_ROWS: Final = 20_000  # of the peer, whose graph makes it slow
OBSERVED: Final = 20_000
WARM: Final = 500  # transactions observed before the clock runs
PEER_OBSERVED: Final = 2_000
HUB_PARTNERS: Final = 1_000_000
PEER_HUBS: Final = (10, 1_000, 10_000)  # counterparties
ORDINARY: Final = 64  # accounts, few enough to be as warm in the caches as the hub
HUB_BATCH: Final = 20_000
HUB_REPEATS: Final = 15
STARTS: Final = 5
FIRST_FEATURE: Final = """
from riskdistill.data.transaction import Transaction
from riskdistill.features import FeatureEngine
payment = Transaction(
    tx_id="1", timestamp="2026-01-01T00:00:00Z", sender_account="1", sender_bank="A", receiver_account="2",
    receiver_bank="B", amount_paid=10.0, currency_paid="EUR", amount_received=10.0, currency_received="EUR",
    payment_format="Wire",
)
FeatureEngine().observe(payment)
"""
IMPORTS: Final = FIRST_FEATURE.partition("payment =")[0]


def replay(library: Library, peer: Peer, quick: bool) -> list[Measurement]:
    """From the canonical Arrow table to features, by a new engine on one core; the peer beside it."""
    _seconds(library["amlworld"].transactions, tokens=True)  # compiles
    rows = []
    for data in library:
        name = SETS[data.name]
        for tokens, bar in ((False, REPLAY_BARS.get(data.name)), (True, None)):
            speeds = [len(data) / _seconds(data.transactions, tokens=tokens) for _ in range(PASSES)]
            what = "features and tokens" if tokens else "features"
            detail = f"best of {PASSES}; median {np.median(speeds):,.0f}; {len(data):,} rows, one core"
            rows.append(Measurement(f"{name}: {what}", max(speeds), "tx/s", bar, detail=detail))
        whole = not quick or len(data) <= QUICK_ROWS
        made = peer.features(data) if whole else feature_peer.transform(feature_peer.edges(data)[:QUICK_ROWS])
        detail = f"{feature_peer.SUMMARY}; {len(made.graph):,} rows, one pass"
        rows.append(Measurement(f"{name}: snapml", made.speed, "tx/s", detail=detail))
    return rows


def observe(library: Library) -> list[Measurement]:
    """One live transaction after the others: the last ones of AMLGentex, all before them replayed."""
    data = library["amlgentex"]
    history = len(data) - OBSERVED - WARM
    engine = FeatureEngine()
    engine.advance(data.transactions.slice(0, history))
    recent = list(transactions_from(data.transactions.slice(history)))
    peeked = timed(engine.peek, recent)[WARM:]
    observed = timed(engine.observe, recent)[WARM:]
    bars = {"observe": (10.0, 50.0), "peek": (None, None)}
    rows = []
    for name, taken in (("observe", observed), ("peek", peeked)):
        for figure, bar in zip((50, 99), bars[name], strict=True):
            what = "median" if figure == 50 else f"{figure}th percentile"
            detail = f"{len(taken):,} transactions of {SETS[data.name]}, features and tokens, gc on"
            microseconds = float(np.percentile(taken, figure))
            rows.append(Measurement(f"{name}: {what}", microseconds, "us", bar, "lower", detail))
    alone = _peer_alone(data)
    for figure, what in ((50, "median"), (99, "99th percentile")):
        detail = f"{len(alone):,} transactions, one a call, its window filled with batches before"
        rows.append(Measurement(f"snapml: {what}", float(np.percentile(alone, figure)), "us", detail=detail))
    return rows


def hub(quick: bool) -> list[Measurement]:
    """Payments to an account with a million counterparties against payments between ordinary accounts."""
    engine = FeatureEngine()
    partners = HUB_PARTNERS // 10 if quick else HUB_PARTNERS
    number_of_hub = partners  # the others are below it
    some = np.arange(ORDINARY)
    engine.advance(payments("hub", np.arange(partners), np.full(partners, number_of_hub)))
    warm, warmed = np.repeat(some, ORDINARY), np.tile(some, ORDINARY)
    engine.advance(payments("warm", warm, warmed, after=100_001.0))  # every ordinary ring is full
    senders = np.resize(some, HUB_BATCH)
    receivers = {"hub": np.full(HUB_BATCH, number_of_hub), "ordinary": np.roll(senders, 1)}
    alone: dict[str, list[float]] = {kind: [] for kind in receivers}
    batched: dict[str, list[float]] = {kind: [] for kind in receivers}
    for repeat in range(HUB_REPEATS):
        for number, (kind, to) in enumerate(receivers.items()):
            after = 101_000.0 + 4_000.0 * (2 * repeat + number)
            table = payments(f"{kind}-{repeat}", senders, to, after=after)
            half = HUB_BATCH // 2
            batched[kind].append(_seconds(table.slice(0, half), engine) / half * 1e6)
            alone[kind].append(float(np.median(timed(engine.observe, list(transactions_from(table.slice(half)))))))
    rows = []
    for way, taken in (("replayed", batched), ("one by one", alone)):
        ratios = np.array(taken["hub"]) / np.array(taken["ordinary"])  # each of two batches in a row
        at_hub, elsewhere = (float(np.median(taken[kind])) for kind in receivers)
        told = f"{at_hub:.2f} us against {elsewhere:.2f} us, medians of {HUB_REPEATS}; {partners:,} counterparties"
        rows.append(Measurement(f"hub / ordinary, {way}", float(np.median(ratios)), "x", 1.5, "lower", told))
    return [*rows, *_peer_hub()]


def start() -> list[Measurement]:
    """A new process to its first feature, the compiled kernels in numba's cache."""
    _run(FIRST_FEATURE)  # fills the cache
    taken = {what: [_run(code) for _ in range(STARTS)] for what, code in _started().items()}
    rows = []
    for what, seconds in taken.items():
        bar = 2.0 if what == "to the first feature" else None
        detail = f"median of {STARTS}; {min(seconds):.2f} to {max(seconds):.2f}"
        rows.append(Measurement(what, float(np.median(seconds)), "s", bar, "lower", detail))
    return rows


def _seconds(table: pa.Table, engine: FeatureEngine | None = None, *, tokens: bool = False) -> float:
    """How long one pass over a table takes, by a new engine unless one is given."""
    engine = engine or FeatureEngine()
    with one_core():
        started = time.perf_counter()
        for _ in engine.replay(table, tokens=tokens):
            pass
        return time.perf_counter() - started


def _peer_alone(data: Data) -> NDArray[np.float64]:
    """Microseconds of single transactions in the peer, whose graph holds the window before them."""
    stream = feature_peer.edges(data)
    begin = len(stream) - PEER_OBSERVED
    window = np.searchsorted(
        stream[:, feature_peer.EDGE - 1], stream[begin, feature_peer.EDGE - 1] - feature_peer.WINDOW
    )
    made = feature_peer.preprocessor()
    made.partial_fit(stream[window:begin])
    return _transformed(made, stream[begin:])


def _peer_hub() -> list[Measurement]:
    """The peer at accounts with ever more counterparties in its window."""
    taken = {partners: _peer_at(partners) for partners in PEER_HUBS}
    few = PEER_HUBS[0]
    return [
        Measurement(
            f"snapml: {partners:,} counterparties / {few}",
            seconds / taken[few],
            "x",
            detail=f"{seconds:,.0f} us against {taken[few]:,.0f} us, one transaction a call",
        )
        for partners, seconds in taken.items()
        if partners != few
    ]


def _peer_at(partners: int) -> float:
    """Median microseconds of payments to an account that others, so many, have paid within the window."""
    senders = 1 + np.arange(partners)
    made = feature_peer.preprocessor()
    constant = np.zeros((partners, 2)), np.ones(partners)  # receiver and seconds; dollars
    made.partial_fit(np.column_stack([senders, senders, *constant]))
    calls = np.arange(50)
    again = [partners + 1 + calls, np.resize(senders, 50), np.zeros(50), np.ones((50, 2))]
    return float(np.median(_transformed(made, np.column_stack(again).astype(np.float64))))


def _transformed(made: Any, stream: NDArray[np.float64]) -> NDArray[np.float64]:
    """Microseconds of every edge, one a call."""
    return timed(made.transform, np.split(stream, len(stream)))


def _started() -> dict[str, str]:
    return {
        "to the first feature": FIRST_FEATURE,
        "imports alone": IMPORTS,
        "Python alone": "pass",
        "snapml: import": "from snapml import GraphFeaturePreprocessor; GraphFeaturePreprocessor()",
    }


def _run(code: str) -> float:
    """Wall-clock seconds of a new Python process that runs `code`."""
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
    return time.perf_counter() - started
