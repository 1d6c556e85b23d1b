"""The load generator: what it counts where a server answers, and where it goes away."""

from __future__ import annotations

import socket
from collections import Counter
from threading import Thread

from http_load import Load, closed, post

ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


def _answering(listener: socket.socket, answers: int) -> None:
    """Answers so many requests of one connection, and goes away when it has the next."""
    connection, _ = listener.accept()
    for _ in range(answers):
        connection.recv(65_536)
        connection.sendall(ANSWER)
    connection.recv(65_536)
    connection.close()
    listener.close()


def test_a_request_that_a_dying_server_cuts_is_counted_apart_from_those_answered() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    server = Thread(target=_answering, args=(listener, 3))
    server.start()
    load = closed(port, [post("/v1/score", b"{}", "key")] * 10, connections=1, seconds=30, keep=True)
    server.join()
    assert load.statuses == Counter({200: 3, 0: 1})
    assert load.answers == [(0, 200, b"ok"), (1, 200, b"ok"), (2, 200, b"ok"), (3, 0, b"")]


def test_runs_in_a_row_count_as_one() -> None:
    whole = Load.of([Load(1.0, Counter({200: 2}), [0.1, 0.3]), Load(3.0, Counter({200: 1, 503: 1}), [0.2, 0.4])])
    assert (whole.seconds, whole.statuses, whole.rate) == (4.0, Counter({200: 3, 503: 1}), 0.75)
    assert whole.percentile(0.5) == 250.0
