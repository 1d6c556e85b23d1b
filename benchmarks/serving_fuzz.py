"""Hostile requests to the real service: none may break it, and each answer must be one that OpenAPI promises.

Schemathesis makes requests to every operation from the OpenAPI document, some as it says and some not; Hypothesis
makes bodies that are nearly transactions, and bytes of any kind. An admin key opens all doors. The requests are the
same each time, so that what is found is found again. They come one after another and nothing is broken, so a 503 is
a fault too, but for the one limit that a single request can exceed: the teacher's deadline, on the route that lends
it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from math import ceil
from typing import Any, Final
from unittest import SkipTest

import httpx
import schemathesis
from feature_data import Measurement
from hostile_bodies import CONTENT_TYPES, MARK, any_bodies, near_bodies
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from schemathesis import APIOperation, Case, GenerationMode
from serving_judge import Judge
from serving_process import ServerProcess, driving
from serving_speed import Bench

from api.security.key_file import SCOPES, KeyFile

CASES: Final = 10_000
QUICK_CASES: Final = 1_000
FROM_SCHEMA: Final = 0.6  # share of the cases, dealt out to the operations
ANY_BYTES: Final = 0.1
SHOWN: Final = 3  # examples of a kind of fault in the table
SCORING: Final = ("/v1/score", "/v1/score/batch")
TEACHER_SECONDS: Final = 60.0  # to load it: it is behind /readyz
FAULTS: Final = {
    "5xx but 503": "server error",
    "503 that no documented limit explains": "unavailable",
    "tracebacks in answers and log": "traceback",
    "account ids and secrets in problem documents and log": "leak",
    "problems that are no problem document": "no problem document",
    "statuses that OpenAPI does not name": "undocumented",
    "answers unlike their schema": "schema",
}


def fuzz(bench: Bench) -> list[Measurement]:
    """All cases against one service; the bar is that nothing is found."""
    folder, cases = bench.new_folder(), QUICK_CASES if bench.quick else CASES
    keys, _, secret = KeyFile().create("fuzz", SCOPES, by="benchmark", expires=None, rate=None)
    keys.write(folder / "keys.json")
    service = bench.service(RISKDISTILL_KEYS=str(folder / "keys.json"))
    judge = Judge((MARK, secret, service.key))
    with service.running() as server, driving():
        _wait_for_teacher(server)
        _send_all(server, secret, judge, cases)
        is_ready = httpx.get(f"{server.url}/readyz", timeout=60).status_code == 200
    judge.look_through(server.log.read_text(), "the service's log")
    return [*_rows(judge), Measurement("ready afterwards", is_ready, "", 1, "higher")]


def _rows(judge: Judge) -> list[Measurement]:
    statuses = ", ".join(f"{count:,} x {status}" for status, count in sorted(judge.cases.items()))
    total = Measurement("requests", judge.cases.total(), "", detail=statuses)
    rows = [total, Measurement("503 because the teacher was late or busy", judge.limited, "")]
    for name, kind in FAULTS.items():
        found = judge.found.get(kind, [])
        rows.append(Measurement(name, len(found), "", 0, "lower", "; ".join(found[:SHOWN])))
    return rows


def _wait_for_teacher(server: ServerProcess) -> None:
    """Returns when it can be lent; where it does not come, each request for it is a fault."""
    until = time.monotonic() + TEACHER_SECONDS
    while time.monotonic() < until:
        if httpx.get(f"{server.url}/readyz", timeout=60).json()["teacher"]:
            return
        time.sleep(0.1)


def _send_all(server: ServerProcess, key: str, judge: Judge, cases: int) -> None:
    headers = {"X-API-Key": key}
    schema = schemathesis.openapi.from_url(f"{server.url}/openapi.json")
    operations = [result.ok() for result in schema.get_all_operations()]
    each = int(cases * FROM_SCHEMA / len(operations) / len(GenerationMode))
    for operation in operations:
        for mode in GenerationMode:
            _from_schema(operation, mode, each, headers, judge)
    with httpx.Client(base_url=server.url, headers=headers, timeout=60) as client:
        taking = [one for one in operations if one.method.upper() == "POST"]
        for operation in taking:
            _bytes(operation, int(cases * ANY_BYTES / len(taking)), client, judge)
        left = cases - judge.cases.total()
        for operation in taking:
            if operation.path in SCORING:
                _near(operation, ceil(left / len(SCORING)), client, judge)


def _from_schema(
    operation: APIOperation[Any, Any, Any, Any],
    mode: GenerationMode,
    cases: int,
    headers: dict[str, str],
    judge: Judge,
) -> None:
    def send(case: Case) -> None:
        judge.see(operation, case.call(headers=headers), case.as_curl_command())

    try:
        _run(send, cases, case=operation.as_strategy(generation_mode=mode))
    except (SkipTest, Unsatisfiable):
        """An operation without parameters has no request that contradicts them."""


def _bytes(operation: APIOperation[Any, Any, Any, Any], cases: int, client: httpx.Client, judge: Judge) -> None:
    def send(body: bytes, kind: str) -> None:
        answer = client.post(operation.path, content=body, headers={"Content-Type": kind})
        judge.see(operation, answer, (kind, body))

    _run(send, cases, body=any_bodies(), kind=st.sampled_from(CONTENT_TYPES))


def _near(operation: APIOperation[Any, Any, Any, Any], cases: int, client: httpx.Client, judge: Judge) -> None:
    def send(body: bytes) -> None:
        answer = client.post(operation.path, content=body, headers={"Content-Type": "application/json"})
        judge.see(operation, answer, body)

    _run(send, cases, body=near_bodies(operation.path))


def _run(send: Callable[..., None], cases: int, **strategies: st.SearchStrategy[Any]) -> None:
    told = settings(
        max_examples=cases,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    told(given(**strategies)(send))()
