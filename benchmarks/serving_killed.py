"""kill -9 at full load, again and again: what was acknowledged is in the log, once, and state is a replay of it."""

from __future__ import annotations

import asyncio
import json
import random
import threading
from typing import Final

import numpy as np
import pyarrow.parquet as pq
from feature_data import Measurement
from http_load import Load, closed
from serving_process import ServerProcess, Service, driving
from serving_speed import CONNECTIONS, Bench

from api.path.pseudonyms import Pseudonyms, key_from_file
from riskdistill.bundle import Bundle
from riskdistill.client import Answer, AsyncClient
from riskdistill.data.transaction import to_table
from riskdistill.storage.decisions import DecisionLog

ROWS: Final = 1_500  # sent in each round, at most
SOONEST: Final = 0.2  # seconds after which the server is killed
LATEST: Final = 2.0


def killed(bench: Bench, times: int, database: str | None = None) -> list[Measurement]:
    """Kill it so many `times`; `database` is the URL of the decision log, SQLite's file by default."""
    settings = {"RISKDISTILL_DATABASE": database} if database else {}
    service = bench.service(**settings)
    bodies = bench.world.bodies(ROWS * times)
    requests = bench.world.singles(ROWS * times, service.key)
    chance, acknowledged, unlike, dead = random.Random(7), dict[str, str](), 0, 0
    for turn in range(times):
        mine = slice(turn * ROWS, (turn + 1) * ROWS)
        server = service.start()
        with driving():
            load = _until_killed(server, requests[mine], chance.uniform(SOONEST, LATEST))
        dead += load.statuses[0]
        for number, status, body in load.answers:
            if status == 200:
                acknowledged[bodies[mine][number]["tx_id"]] = json.loads(body)["decision_id"]
        with service.running() as server:  # clients send again what they sent
            for answer in asyncio.run(_again(server, service, bodies[mine])):
                known = acknowledged.setdefault(answer.tx_id, answer.decision_id)
                unlike += known != answer.decision_id
    log = DecisionLog(service.log_url, create=False)
    stored = {entry.decision.tx_id: entry.decision.decision_id for entry in log.read()}
    entries = log.verify().entries
    lost = sum(stored.get(tx_id) != decision_id for tx_id, decision_id in acknowledged.items())
    widest = _beside_replay(bench, service, log)
    log.close()
    name = "PostgreSQL" if database else "SQLite"
    detail = f"{times} kills, {dead:,} requests cut off, {len(acknowledged):,} decisions"
    return [
        Measurement(f"{name}: acknowledged decisions lost", lost, "", 0, "lower", detail),
        Measurement(f"{name}: transactions decided twice", entries - len(stored) + unlike, "", 0, "lower"),
        Measurement(f"{name}: scores unlike a replay's, widest", widest, "", 1e-6, "lower", "of all decisions"),
    ]


def _until_killed(server: ServerProcess, requests: list[bytes], seconds: float) -> Load:
    timer = threading.Timer(seconds, server.kill)
    timer.start()
    load = closed(server.port, requests, CONNECTIONS, LATEST, keep=True)
    timer.join()
    return load


async def _again(server: ServerProcess, service: Service, bodies: list[dict[str, object]]) -> list[Answer]:
    async with AsyncClient(server.url, api_key=service.key, timeout=60) as client:
        return [answer async for answer in client.score_many(bodies) if isinstance(answer, Answer)]


def _beside_replay(bench: Bench, service: Service, log: DecisionLog) -> float:
    """The widest difference between a stored score and that of a replay of history and log, without any restart."""
    pseudonyms = Pseudonyms(key_from_file(service.state / "pseudonym.key", make=False))
    bundle = Bundle.load(bench.world.bundle())
    engine = bundle.engine()
    engine.advance(pseudonyms.table(pq.read_table(bench.world.history)))
    decisions = list(log.in_state_order())
    rows = engine.encode(to_table(decision.transaction for decision in decisions))
    stored = np.array([decision.student_score for decision in decisions])
    return float(np.abs(bundle.student.score_all(rows).score - stored).max())
