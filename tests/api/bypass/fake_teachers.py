"""Teachers that misbehave, and a small HTTP server that speaks the Open Inference Protocol."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
from fake_serving import FakeBundle

from api.bypass.teachers import Answer
from riskdistill.features.encoded import Encoded
from riskdistill.models.onnx_model import Scored


def scored(score: float) -> Scored:
    return Scored(np.array([score]), np.array([score]), np.array([[0.1, score, 0.2]], np.float32))


def encoded(amount: float = 100.0) -> Encoded:
    return Encoded(np.array([[amount, 0.0]], np.float32), np.zeros((1, 2, 1), np.float32))


def fake_bundle(teacher: str = "ok") -> Any:
    """With its teacher loaded, as in a service that has been up for a while."""
    bundle = FakeBundle("a" * 16, teacher, 0.0, "f1")
    bundle.load_teacher()
    return bundle


class FakeTeacher:
    """Does what `behaviour` says: a score, an exception, or None for a hang until it is cancelled."""

    kind = "fake"

    def __init__(self) -> None:
        self.behaviour: float | Exception | None = 0.7
        self.asked = self.cancelled = 0

    def is_there(self, bundle: Any) -> bool:
        return bundle.teacher is not None

    async def ask(self, bundle: Any, encoded: Encoded) -> Answer:
        self.asked += 1
        if self.behaviour is None:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                self.cancelled += 1
                raise
        if isinstance(self.behaviour, Exception):
            raise self.behaviour
        assert self.behaviour is not None
        return Answer(scored(self.behaviour), "v1")

    async def close(self) -> None:
        pass


class Endpoint:
    """What an HTTP endpoint was asked, and what it answers."""

    def __init__(self) -> None:
        self.url = ""
        self.paths: list[str] = []
        self.headers: list[dict[str, str]] = []
        self.bodies: list[dict[str, Any]] = []
        self.status, self.answer = 200, b""
        self.before: Callable[[], object] = lambda: None

    def gives(self, **outputs: Any) -> None:
        """Answers with these outputs: a list, whose shape it states truly."""
        told = [
            {"name": name, "shape": list(np.shape(data)), "datatype": "FP64", "data": data}
            for name, data in outputs.items()
        ]
        self.answer = json.dumps({"model_name": "teacher", "model_version": "7", "outputs": told}).encode()


@contextmanager
def endpoint() -> Iterator[Endpoint]:
    """A server on loopback."""
    told = Endpoint()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            raw = self.rfile.read(int(self.headers["Content-Length"]))
            told.paths.append(self.path)
            told.headers.append(dict(self.headers))
            told.bodies.append(json.loads(raw))
            told.before()
            self.send_response(told.status)
            self.send_header("Content-Length", str(len(told.answer)))
            self.send_header("Location", "/elsewhere")
            self.end_headers()
            self.wfile.write(told.answer)

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            """A client that went away is what some tests are about."""

    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    told.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield told
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
