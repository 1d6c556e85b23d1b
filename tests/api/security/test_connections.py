"""Sockets that say nothing, half of something or too much go, and cannot take the places of others for long."""

from __future__ import annotations

import gc
import json
import socket
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import Any

import httpx
import pytest
from fake_serving import KEY, body
from serving_here import while_serving

from api.security.connections import Connection

REQUEST = b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n"
HEAD = b"POST /v1/score HTTP/1.1\r\nHost: a\r\nX-API-Key: %s\r\nContent-Type: application/json\r\n" % KEY.encode()


@pytest.fixture
def visited(tmp_path: Path, bundle: Path) -> Callable[..., Any]:
    """What a function of the port sees, while a service serves whose deadline is short."""

    def visit(see: Callable[[int], Any], **settings: Any) -> Any:
        return while_serving(see, tmp_path / "state", **({"bundle": bundle, "deadline_ms": 200} | settings))

    return visit


@contextmanager
def connected(port: int) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        yield connection


def score(tx_id: str, head: bytes = HEAD) -> bytes:
    """A plain request."""
    sent = json.dumps(body(tx_id)).encode()
    return head + b"Content-Length: %d\r\n\r\n" % len(sent) + sent


def whole(connection: socket.socket) -> tuple[list[bytes], dict[str, Any]]:
    """The next answer: its lines but for the date, and what is in it."""
    said = b""
    while b"\r\n\r\n" not in said:
        said += connection.recv(1)
    lines = [line for line in said.split(b"\r\n") if line and not line.lower().startswith(b"date:")]
    length = next(int(line.split(b": ")[1]) for line in lines if line.startswith(b"content-length: "))
    content = b""
    while len(content) < length:
        content += connection.recv(length - len(content))
    return lines, json.loads(content)


def wait_until_ready(port: int) -> None:
    while httpx.get(f"http://127.0.0.1:{port}/readyz").status_code != 200:
        pass


def rest(connection: socket.socket) -> bytes:
    """All that still comes until the other side ends it."""
    said = b""
    try:
        while piece := connection.recv(10_000):
            said += piece
    except ConnectionResetError:
        pass
    return said


def drip(connection: socket.socket, drop: bytes) -> bytes:
    """What came until the other side ended it, while drops are sent."""
    connection.settimeout(0.02)
    give_up, said = monotonic() + 20, b""
    while monotonic() < give_up:
        try:
            connection.sendall(drop)
            if not (piece := connection.recv(10_000)):
                return said
            said += piece
        except TimeoutError:
            continue
        except OSError:
            return said
    raise AssertionError("it stayed open")


@pytest.mark.parametrize("sent", [b"", b"\r\n", b"GET /livez HTTP/1.1\r\nHost: a"])
@pytest.mark.parametrize("before", [b"", REQUEST])
def test_a_socket_that_sends_no_whole_head_is_ended(
    visited: Callable[..., Any], before: bytes, sent: bytes
) -> None:
    def visit(port: int) -> tuple[bytes, float]:
        with connected(port) as connection:
            connection.sendall(before)
            said = connection.recv(10_000) if before else b""
            began = monotonic()
            if sent:
                connection.sendall(sent)
                return said + rest(connection), monotonic() - began
            return (said, 0) if before else (rest(connection), monotonic() - began)

    said, seconds = visited(visit)
    assert said.startswith(b"HTTP/1.1 200 ") == bool(before)
    assert seconds < 4  # uvicorn's own timer of idle connections is five


@pytest.mark.parametrize(
    ("head", "drop", "answer"),
    [
        (b"GET /livez HTTP/1.1\r\nX-Long: ", b"x", b""),
        (HEAD + b"Content-Length: 1000000\r\n\r\n", b" ", b"HTTP/1.1 408 "),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n", b"HTTP/1.1 408 "),
    ],
)
def test_a_head_or_a_body_in_drops_is_ended(
    visited: Callable[..., Any], head: bytes, drop: bytes, answer: bytes
) -> None:
    def visit(port: int) -> bytes:
        with connected(port) as connection:
            connection.sendall(head)
            return drip(connection, drop)

    assert visited(visit)[: len(answer) or None] == answer


def test_a_head_without_end_is_refused(visited: Callable[..., Any]) -> None:
    def visit(port: int) -> bytes:
        with connected(port) as connection:
            connection.sendall(b"GET /livez HTTP/1.1\r\nX-Long: " + b"x" * (64 << 10))
            return rest(connection)

    assert visited(visit, deadline_ms=20_000).startswith(b"HTTP/1.1 431 ")


def test_where_all_places_are_taken_a_further_connection_is_refused_and_the_others_are_served(
    visited: Callable[..., Any],
) -> None:
    def visit(port: int) -> tuple[int, bytes, int]:
        url = f"http://127.0.0.1:{port}"
        with httpx.Client(base_url=url) as client:
            client.get("/livez")
            with connected(port) as silent, connected(port) as refused:
                said = rest(refused)
                served = client.get("/livez").status_code
                silent.close()
            with httpx.Client(base_url=url) as other:  # the place is free again
                while (answer := other.get("/livez")).status_code == 503:
                    pass
        return served, said, answer.status_code

    served, said, again = visited(visit, deadline_ms=20_000, max_connections=2)
    assert said.startswith(b"HTTP/1.1 503 ")
    assert b"Retry-After: 1" in said
    assert (served, again) == (200, 200)


@pytest.mark.parametrize("ends", [HEAD + b"Connection: close\r\n", HEAD.replace(b"HTTP/1.1", b"HTTP/1.0")])
def test_an_answer_at_once_is_the_one_that_uvicorn_would_send(
    visited: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, ends: bytes
) -> None:
    """It sends the second, after which the connection ends."""
    answer, went = Connection.answer, list[bool]()
    monkeypatch.setattr(Connection, "answer", lambda *given: went.append(answer(*given)) or went[-1])

    def visit(port: int) -> tuple[Any, Any, bytes]:
        wait_until_ready(port)
        with connected(port) as connection:
            connection.sendall(score("tx-1"))
            at_once = whole(connection)
            connection.sendall(score("tx-1", ends))
            return at_once, whole(connection), rest(connection)

    at_once, usual, after = visited(visit, deadline_ms=20_000)
    assert at_once[0][0] == b"HTTP/1.1 200 OK"
    assert [*at_once[0], b"connection: close"] == usual[0]
    assert at_once[1] == usual[1]
    assert after == b""
    assert went == [True, False]


@pytest.mark.parametrize("sizes", [[3], [1, 2], [2, 1]])
def test_requests_sent_before_the_answers_come_are_answered_in_their_order(
    visited: Callable[..., Any], sizes: list[int]
) -> None:
    """However many of them were sent together."""

    def visit(port: int) -> list[str]:
        wait_until_ready(port)
        requests = [score(f"tx-{number}") for number in range(sum(sizes))]
        with connected(port) as connection:
            for size in sizes:
                connection.sendall(b"".join(requests[:size]))
                del requests[:size]
            return [whole(connection)[1]["tx_id"] for _ in range(sum(sizes))]

    assert visited(visit, deadline_ms=20_000) == [f"tx-{number}" for number in range(sum(sizes))]


def test_a_caller_that_goes_away_before_its_answer_harms_nobody(visited: Callable[..., Any]) -> None:
    def visit(port: int) -> dict[str, Any]:
        wait_until_ready(port)
        for number in range(5):
            with connected(port) as connection:
                connection.sendall(score(f"tx-{number}"))
        with connected(port) as connection:
            connection.sendall(score("tx-0"))
            return whole(connection)[1]

    assert visited(visit, deadline_ms=20_000)["tx_id"] == "tx-0"


def test_a_connection_that_ended_is_forgotten_without_a_search_for_cycles(
    visited: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    made, seen = Connection.connection_made, list[weakref.ref[Connection]]()

    def connection_made(self: Connection, transport: Any) -> None:
        seen.append(weakref.ref(self))
        made(self, transport)

    def visit(port: int) -> bool:
        wait_until_ready(port)
        gc.disable()
        try:
            with connected(port) as connection:
                connection.sendall(score("tx-1"))
                whole(connection)
            give_up = monotonic() + 20
            while any(one() is not None for one in seen) and monotonic() < give_up:
                httpx.get(f"http://127.0.0.1:{port}/livez")
                seen.pop()  # of this very request
        finally:
            gc.enable()
        return all(one() is None for one in seen)

    monkeypatch.setattr(Connection, "connection_made", connection_made)
    assert visited(visit, deadline_ms=20_000)
