"""SIGTERM to a real process: what is under way is answered, what is new is refused, and the log is whole."""

from __future__ import annotations

import json
import signal
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from databases import closing_engines, new_url
from fake_serving import KEY, body
from service_process import Running, serving, until
from serving_breakable import Line
from sqlalchemy import make_url

from riskdistill.bundle import Bundle
from riskdistill.storage.decisions import DecisionLog

pytestmark = pytest.mark.timeout(600)  # processes start slowly on a machine that is not ours alone


@pytest.fixture(autouse=True)
def _fake_bundles() -> None:
    """Nothing is faked here."""


def begin(service: Running, content: bytes) -> socket.socket:
    """A scoring request of which the last byte is not sent yet."""
    address = httpx.URL(service.url)
    connection = socket.create_connection((address.host, address.port), timeout=60)
    head = f"POST /v1/score HTTP/1.1\r\nHost: x\r\nX-API-Key: {KEY}\r\nContent-Type: application/json\r\n"
    connection.sendall(f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content[:-1])
    return connection


def answered(connection: socket.socket) -> tuple[int, dict[str, Any]]:
    received = b""
    while b"\r\n\r\n" not in received or not received.endswith(b"}"):
        piece = connection.recv(65_536)
        assert piece, received
        received += piece
    head, _, content = received.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(content)


def test_a_drain_answers_what_is_under_way_and_refuses_what_is_new(tmp_path: Path, tiny_bundle: Bundle) -> None:
    content = json.dumps(body("tx-under-way")).encode()
    with serving(tmp_path, tiny_bundle.path, drain_notice_seconds=2, drain_seconds=60) as service:
        under_way = begin(service, content)
        until(lambda: service.metric("riskdistill_requests_in_flight") == 1)
        with service.client() as client:
            service.process.send_signal(signal.SIGTERM)
            until(lambda: client.get("/readyz").status_code == 503)
            assert client.get("/livez").status_code == 200
            refused = client.post("/v1/score", json=body("tx-new"))
            assert refused.status_code == 503
            assert refused.headers["retry-after"] == "2"
            assert refused.headers["content-type"] == "application/problem+json"
            assert "stopping" in refused.json()["detail"]
        assert service.process.poll() is None  # it waits for the one
        under_way.sendall(content[-1:])
        status, decision = answered(under_way)
        under_way.close()
        assert (status, decision["tx_id"]) == (200, "tx-under-way")
        assert service.process.wait(60) == 0
    log = DecisionLog(f"sqlite:///{tmp_path}/state/decisions.db", create=False)
    assert [entry.decision.decision_id for entry in log.read()] == [decision["decision_id"]]
    assert log.verify().entries == 1
    log.close()


def test_a_drain_ends_at_its_limit_though_a_request_never_does(tmp_path: Path, tiny_bundle: Bundle) -> None:
    with serving(tmp_path, tiny_bundle.path, drain_notice_seconds=0, drain_seconds=2) as service:
        never_sent_whole = begin(service, json.dumps(body()).encode())
        until(lambda: service.metric("riskdistill_requests_in_flight") == 1)
        service.process.send_signal(signal.SIGTERM)
        assert service.process.wait(30) == 0
        never_sent_whole.close()


def test_a_second_signal_ends_a_drain_that_would_wait_longer(tmp_path: Path, tiny_bundle: Bundle) -> None:
    with serving(tmp_path, tiny_bundle.path, drain_notice_seconds=0, drain_seconds=600) as service:
        never_sent_whole = begin(service, json.dumps(body()).encode())
        until(lambda: service.metric("riskdistill_requests_in_flight") == 1)
        with service.client() as client:
            service.process.send_signal(signal.SIGTERM)
            until(lambda: client.get("/readyz").status_code == 503)
        service.process.send_signal(signal.SIGTERM)
        assert service.process.wait(60) == 0
        never_sent_whole.close()


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    """Of an empty PostgreSQL database."""
    with closing_engines():
        yield from (new() for new in new_url("postgresql", tmp_path))


@pytest.fixture
def line(url: str) -> Iterator[Line]:
    """The way to that database."""
    made = Line(make_url(url).port or 5432)
    yield made
    made.close()


def test_a_database_that_says_nothing_does_not_hold_up_the_end_for_ever(
    tmp_path: Path, tiny_bundle: Bundle, url: str, line: Line
) -> None:
    with behind(line, url, tmp_path, tiny_bundle) as service, ThreadPoolExecutor(1) as aside:
        with service.client() as client:
            acknowledged = client.post("/v1/score", json=body("tx-acknowledged")).json()
            line.go_silent()
            left = aside.submit(client.post, "/v1/score", json=body("tx-left"))
            until(lambda: service.metric("riskdistill_queue_depth") == 2)  # under way, and for the log
            service.process.send_signal(signal.SIGTERM)
            refused = left.result(60)
            assert (refused.status_code, refused.headers["content-type"]) == (503, "application/problem+json")
            assert "the service ends" in refused.json()["detail"]
        assert service.process.wait(60) == 75
        told = [json.loads(one) for one in service.log.read_text().splitlines() if '"held_up"' in one]
        assert [(one["under_way"], one["unstored"], one["level"]) for one in told] == [(1, 1, "error")]
    line.flow()
    check_kept(url, acknowledged)


def test_what_a_database_that_is_away_does_not_take_in_the_end_is_told(
    tmp_path: Path, tiny_bundle: Bundle, url: str, line: Line
) -> None:
    with behind(line, url, tmp_path, tiny_bundle) as service, service.client() as client:
        acknowledged = client.post("/v1/score", json=body("tx-acknowledged")).json()
        line.cut()
        assert client.post("/v1/score", json=body("tx-left")).status_code == 503
        service.process.send_signal(signal.SIGTERM)
        assert service.process.wait(60) == 75
        assert "1 decisions were never stored, nor answered" in service.log.read_text()
    check_kept(url, acknowledged)


@contextmanager
def behind(line: Line, url: str, folder: Path, bundle: Bundle) -> Iterator[Running]:
    """A service that reaches its database through `line`."""
    through = make_url(url).set(host="127.0.0.1", port=line.port).render_as_string(hide_password=False)
    told = {"database": through, "drain_notice_seconds": 0, "drain_seconds": 2, "log_format": "json"}
    with serving(folder, bundle.path, **told) as service:
        yield service


def check_kept(url: str, acknowledged: dict[str, Any]) -> None:
    """What was acknowledged is in the log, and nothing else but what may be sent again."""
    log = DecisionLog(url, create=False)
    stored = {entry.decision.tx_id: entry.decision.decision_id for entry in log.read()}
    assert stored.pop("tx-acknowledged") == acknowledged["decision_id"]
    assert set(stored) <= {"tx-left"}
    log.verify()
    log.close()
