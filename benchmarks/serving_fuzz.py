"""Hostile requests to the real service: none may break it, and each answer must be one that OpenAPI promises.

Schemathesis makes requests to every operation from the OpenAPI document, some as it says and some not; Hypothesis
makes bodies that are nearly transactions, and bytes of any kind. An admin key opens all doors. The requests are the
same each time, so that what is found is found again. They come one after another and nothing is broken, so a 503 is
a fault too, but for the one limit that a single request can exceed: the teacher's deadline, on the route that lends
it.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
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
from schemathesis.core.failures import FailureGroup
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
LENDS_TEACHER: Final = "/v2/models/teacher/infer"
TEACHER_LIMITS: Final = ("the teacher is late", "the teacher has enough to do")  # a late call keeps its place
FAULTS: Final = {
    "5xx but 503": "server error",
    "503 that no documented limit explains": "unavailable",
    "tracebacks in answers and log": "traceback",
    "account ids and secrets in problem documents and log": "leak",
    "problems that are no problem document": "no problem document",
    "statuses that OpenAPI does not name": "undocumented",
    "answers unlike their schema": "schema",
}


@dataclass
class Judge:
    """Looks at answers and keeps what is wrong with them.

    Attributes:
        secrets: what no answer to a bad request may hold.
        cases: how many answers it saw, by status.
        limited: how many 503 are of the teacher's deadline.
        found: what was wrong, by kind.
    """

    secrets: tuple[str, ...]
    cases: Counter[int] = field(default_factory=Counter)
    limited: int = 0
    found: dict[str, list[str]] = field(default_factory=dict)

    def see(self, operation: APIOperation[Any, Any, Any, Any], answer: Any, sent: object) -> None:
        """One answer (of httpx or Schemathesis) to what was `sent` to `operation`."""
        status, text = answer.status_code, answer.content.decode("utf-8", "replace")
        self.cases[status] += 1
        what = f"{operation.label} {status}: {str(sent)[:200]!r} -> {text[:300]!r}"
        if status >= 500 and status != 503:
            self._add("server error", what)
        if status == 503:
            if operation.path == LENDS_TEACHER and any(limit in text for limit in TEACHER_LIMITS):
                self.limited += 1
            else:
                self._add("unavailable", what)
        if str(status) not in operation.definition.raw["responses"]:
            self._add("undocumented", what)
        if status >= 400:
            if not _is_problem(text):
                self._add("no problem document", what)
            self.look_through(text, what)
        try:
            operation.validate_response(answer)
        except FailureGroup as failures:
            self._add("schema", f"{what}: {'; '.join(str(one) for one in failures.exceptions)[:300]}")

    def look_through(self, text: str, what: str) -> None:
        """Whether `text` gives something away."""
        if "Traceback" in text:
            self._add("traceback", what)
        if any(secret in text for secret in self.secrets):
            self._add("leak", what)

    def _add(self, kind: str, what: str) -> None:
        self.found.setdefault(kind, []).append(what)


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


def _is_problem(text: str) -> bool:
    try:
        document = json.loads(text)
    except ValueError:
        return False
    return isinstance(document, dict) and str(document.get("type", "")).startswith("urn:riskdistill:problem:")
