"""The service on a real socket in this process, as `serve` runs it, while another thread visits it."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from fake_serving import settings_for
from ports import free_port

from api.server import serve

Seen = TypeVar("Seen")


def while_serving(visit: Callable[[int], Seen], state_dir: Path, **settings: Any) -> Seen:
    """What `visit` returns, given the port of a service that answers; an interrupt ends it then."""
    chosen = settings_for(state_dir, port=free_port(), **settings)
    seen: list[Seen] = []
    over = threading.Event()

    def go() -> None:
        try:
            while not over.is_set() and not _answers(chosen.port):
                over.wait(0.005)
            seen.append(visit(chosen.port))
        finally:
            if not over.is_set():  # it would end the tests
                os.kill(os.getpid(), signal.SIGINT)

    visitor = threading.Thread(target=go)
    visitor.start()
    try:
        serve(chosen)
    finally:
        over.set()
    visitor.join()
    return seen[0]


def _answers(port: int) -> bool:
    """Whether somebody says anything there, be it that TLS is spoken; the socket listens long before."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
            connection.sendall(b"GET /livez HTTP/1.0\r\n\r\n")
            connection.recv(1)
    except OSError:
        return False
    return True
