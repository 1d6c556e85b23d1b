"""The same traffic by every way that it can take through the service: no score may depend on the way.

One by one and in batches of many sizes; through FastAPI's routes, as a request with an Idempotency-Key goes, in
place of the short way past them; and with the account state in Redis, in place of the process's own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from typing import Any, Final

import httpx
import numpy as np
from feature_data import Measurement
from numpy.typing import NDArray
from serving_breakable import AbsentError, RedisServer
from serving_process import Service
from serving_speed import Bench

from riskdistill.client import Answer, Client

SIZES: Final = {"all in batches of 256": [256], "in batches of 2 to 100": [2, 3, 31, 32, 33, 100]}
BAR: Final = 1e-6
Bodies = Sequence[dict[str, Any]]
Way = Callable[[str, str, Bodies], Mapping[str, float]]  # the service's URL, its key, what to send: scores by id


def same(bench: Bench) -> list[Measurement]:
    """Each way on a new state, beside the plain one: one by one on the short way, state in the process."""
    bodies = bench.world.bodies(500 if bench.quick else 4_000)
    plain = _scores(bench.service(), _in_sizes([1]), bodies)
    ways = {name: _in_sizes(sizes) for name, sizes in SIZES.items()} | {"by FastAPI's routes": _with_keys}
    rows = [_row(name, _scores(bench.service(), way, bodies), plain) for name, way in ways.items()]
    try:
        redis = RedisServer(bench.new_folder() / "redis")
    except AbsentError as error:
        return [*rows, Measurement("state in Redis", 0, "", detail=f"not tried: {error}")]
    with closing(redis):
        shared = _scores(bench.service(RISKDISTILL_STATE=redis.url), _in_sizes([1, 32]), bodies)
    return [*rows, _row("state in Redis", shared, plain)]


def _row(name: str, scores: NDArray[np.float64], plain: NDArray[np.float64]) -> Measurement:
    widest = float(np.abs(scores - plain).max())
    detail = f"{len(plain):,} transactions, beside one by one"
    return Measurement(f"{name}: widest difference of a score", widest, "", BAR, "lower", detail)


def _scores(service: Service, way: Way, bodies: Bodies) -> NDArray[np.float64]:
    with service.running() as server:
        found = way(server.url, service.key, bodies)
    return np.array([found[body["tx_id"]] for body in bodies])


def _in_sizes(sizes: Sequence[int]) -> Way:
    """Requests of so many transactions in turn; one alone goes to `/v1/score`."""

    def send(url: str, key: str, bodies: Bodies) -> dict[str, float]:
        found, at, turn = dict[str, float](), 0, 0
        with Client(url, api_key=key, timeout=60) as client:
            while at < len(bodies):
                part = bodies[at : at + sizes[turn % len(sizes)]]
                answers = [client.score(part[0])] if len(part) == 1 else client.score_batch(part)
                found |= {answer.tx_id: answer.score for answer in answers if isinstance(answer, Answer)}
                at, turn = at + len(part), turn + 1
        return found

    return send


def _with_keys(url: str, key: str, bodies: Bodies) -> dict[str, float]:
    found = dict[str, float]()
    with httpx.Client(base_url=url, headers={"X-API-Key": key}, timeout=60) as client:
        for body in bodies:
            answer = client.post("/v1/score", json=body, headers={"Idempotency-Key": body["tx_id"]})
            answer.raise_for_status()
            found[body["tx_id"]] = answer.json()["score"]
    return found
