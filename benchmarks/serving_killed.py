"""kill -9 at full load, again and again: what was acknowledged is in the log, once, and state is a replay of it."""

from __future__ import annotations

import asyncio
import json
import random
import threading
from contextlib import closing
from itertools import islice
from typing import Any, Final

import numpy as np
import pyarrow.parquet as pq
from feature_data import Measurement
from http_load import Load, closed, post
from serving_breakable import AbsentError, PostgresServer
from serving_process import ServerProcess, Service, driving
from serving_speed import CONNECTIONS, Bench

from api.path.account_state import StateSource
from api.path.pseudonyms import Pseudonyms, key_from_file
from riskdistill.bundle import Bundle
from riskdistill.client import Answer, AsyncClient
from riskdistill.data.transaction import Transaction, to_table
from riskdistill.storage.decisions import DecisionLog

ROWS: Final = 10_000  # at hand for each kill: more than are answered until LATEST
SOONEST: Final = 0.2  # seconds of full load after which the server is killed
LATEST: Final = 1.0
FOREVER: Final = 60.0  # seconds: the kill ends the load, not this
PROBES: Final = 1_000  # transactions whose features are compared


def killed(bench: Bench, times: int) -> list[Measurement]:
    """Kill it so many `times` on either database."""
    rows = _killed(bench, "SQLite", times)
    try:
        server = PostgresServer()
    except AbsentError as error:
        return [*rows, Measurement("PostgreSQL", 0, "", detail=f"not tried: {error}")]
    with closing(server):
        return rows + _killed(bench, "PostgreSQL", times, RISKDISTILL_DATABASE=server.url())


def _killed(bench: Bench, name: str, times: int, **settings: str) -> list[Measurement]:
    """Whoever comes up again is sent once more what the one before was sent, then is under full load and killed."""
    service, traffic, chance = bench.service(**settings), bench.world.traffic(), random.Random(7)
    acknowledged, sent, cut, unlike = dict[str, str](), list[dict[str, Any]](), list[int](), 0
    for _ in range(times):
        bodies = list(islice(traffic, ROWS))
        requests = [post("/v1/score", json.dumps(body).encode(), service.key) for body in bodies]
        server = service.start()
        unlike += _unlike(server, service, sent, acknowledged)
        with driving():
            load = _until_killed(server, requests, chance.uniform(SOONEST, LATEST))
        cut.append(load.statuses[0])
        sent = [bodies[number] for number, _, _ in load.answers]
        for number, status, body in load.answers:
            if status == 200:
                acknowledged[bodies[number]["tx_id"]] = json.loads(body)["decision_id"]
    with service.running() as server:
        unlike += _unlike(server, service, sent, acknowledged)
    log = DecisionLog(service.log_url, create=False)
    stored = {entry.decision.tx_id: entry.decision.decision_id for entry in log.read()}
    entries = log.verify().entries
    lost = sum(stored.get(tx_id) != decision_id for tx_id, decision_id in acknowledged.items())
    widest, features = _beside_replay(bench, service, log, list(islice(traffic, PROBES)))
    log.close()
    detail = f"{times} kills after {SOONEST:g} to {LATEST:g} s of full load, {len(acknowledged):,} decisions"
    cuts = f"{sum(cut):,} requests cut off, of {CONNECTIONS} at once"
    return [
        Measurement(f"{name}: fewest requests that a kill cut", min(cut), "", 1, detail=cuts),
        Measurement(f"{name}: acknowledged decisions lost", lost, "", 0, "lower", detail),
        Measurement(f"{name}: transactions decided twice", entries - len(stored) + unlike, "", 0, "lower"),
        Measurement(f"{name}: scores unlike a replay's, widest", widest, "", 1e-6, "lower", "of all decisions"),
        Measurement(f"{name}: features unlike a replay's", features, "", 0, "lower", f"{PROBES:,} transactions"),
    ]


def _until_killed(server: ServerProcess, requests: list[bytes], seconds: float) -> Load:
    timer = threading.Timer(seconds, server.kill)
    timer.start()
    load = closed(server.port, requests, CONNECTIONS, FOREVER, keep=True)
    timer.join()
    return load


def _unlike(
    server: ServerProcess, service: Service, bodies: list[dict[str, Any]], acknowledged: dict[str, str]
) -> int:
    """Clients send `bodies` again: how many get another decision than was acknowledged; the others are from now."""
    answers = asyncio.run(_again(server, service, bodies))
    return sum(acknowledged.setdefault(one.tx_id, one.decision_id) != one.decision_id for one in answers)


async def _again(server: ServerProcess, service: Service, bodies: list[dict[str, Any]]) -> list[Answer]:
    async with AsyncClient(server.url, api_key=service.key, timeout=60) as client:
        return [answer async for answer in client.score_many(bodies) if isinstance(answer, Answer)]


def _beside_replay(
    bench: Bench, service: Service, log: DecisionLog, probes: list[dict[str, Any]]
) -> tuple[float, int]:
    """Beside a replay of history and log in one piece: what was scored between the kills, and the state after them.

    Gives the widest difference of a score, and how many of the `probes` have other features in the recovered state.
    """
    pseudonyms = Pseudonyms(key_from_file(service.state / "pseudonym.key", make=False))
    bundle = Bundle.load(bench.world.bundle())
    replay = bundle.engine()
    replay.advance(pseudonyms.table(pq.read_table(bench.world.history)))
    decisions = list(log.in_state_order())
    scores = bundle.student.score_all(replay.encode(to_table(one.transaction for one in decisions))).score
    recovered, _ = StateSource(bundle.engine, bench.world.history, log, pseudonyms).build()
    following = to_table(pseudonyms.transaction(Transaction.model_validate(body)) for body in probes)
    expected, found = replay.encode(following), recovered.encode(following)
    differ = ~np.isclose(expected.context, found.context, rtol=0, atol=0, equal_nan=True).all(axis=1)
    differ |= (expected.events != found.events).any(axis=(1, 2))
    widest = np.abs(scores - np.array([one.student_score for one in decisions])).max()
    return float(widest), int(differ.sum())
