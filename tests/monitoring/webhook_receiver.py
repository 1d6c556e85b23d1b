"""A receiver of webhooks on a free port of loopback: keeps what it is sent, and answers as it is told to."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import NamedTuple

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


class Received(NamedTuple):
    path: str
    headers: dict[str, str]  # names in lower case
    body: bytes


class Receiver:
    """Where it is, what came, and the statuses that it answers with, one after another; the last one stays."""

    def __init__(self, *statuses: int) -> None:
        self.url, self.received, self.statuses = "", list[Received](), list(statuses or (200,))
        self.came = threading.Semaphore(0)  # one for each request
        self.may_answer = threading.Event()
        self.may_answer.set()

    def wait_for(self, requests: int) -> list[Received]:
        """What came, once so many came."""
        for _ in range(requests):
            assert self.came.acquire(timeout=20)
        return self.received


@contextmanager
def receiving(*statuses: int) -> Iterator[Receiver]:
    """A receiver that listens."""
    receiver = Receiver(*statuses)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            receiver.received.append(Received(self.path, headers, body))
            status = receiver.statuses.pop(0) if len(receiver.statuses) > 1 else receiver.statuses[0]
            receiver.came.release()
            receiver.may_answer.wait(20)
            self.close_connection = True
            self.send_response(status)
            if status in (301, 302, 307, 308):
                self.send_header("location", "/elsewhere")
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        receiver.url = f"http://127.0.0.1:{server.server_port}/hooks"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield receiver
        finally:
            receiver.may_answer.set()
            server.shutdown()
            thread.join()
