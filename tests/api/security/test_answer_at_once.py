"""Where an answer at once would be wrong, it is left to uvicorn: on a transport that keeps what is written."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState

from api.security.connections import ANSWER, Connection

pytestmark = pytest.mark.anyio
HEADERS = [(b"content-length", b"2"), (b"content-type", b"text/plain")]
REQUEST = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


class _Transport(asyncio.Transport):
    def __init__(self) -> None:
        super().__init__({"sockname": ("127.0.0.1", 80), "peername": ("127.0.0.1", 81)})
        self.written, self.closed = b"", False

    def write(self, data: Any) -> None:
        self.written += data

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass


class _Served:
    """A connection whose requests are answered when they may be, and how each was."""

    def __init__(self) -> None:
        self.may, self.at_once, self.transport = asyncio.Event(), list[bool](), _Transport()
        config = uvicorn.Config(self._app, interface="asgi3", lifespan="off", log_config=None, server_header=False)
        config.load()
        given = {"config": config, "server_state": ServerState(), "app_state": {}}
        self.connection = Connection(most=1, seconds=60, **given)
        self.connection.connection_made(self.transport)

    async def _app(self, scope: Any, _receive: Any, send: Any) -> None:
        await self.may.wait()
        self.at_once.append(scope["extensions"][ANSWER]["answer"](HEADERS, b"ok"))
        if not self.at_once[-1]:
            await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
            await send({"type": "http.response.body", "body": b"ok"})

    async def answered(self) -> bytes:
        self.may.set()
        while self.connection.tasks:
            await asyncio.sleep(0)
        return self.transport.written


async def test_it_is_what_uvicorn_writes() -> None:
    at_once, usual = _Served(), _Served()
    at_once.connection.data_received(REQUEST)
    usual.connection.data_received(REQUEST)
    usual.connection.cycle.waiting_for_100_continue = True  # so it is left to uvicorn
    assert await at_once.answered() == await usual.answered()
    assert (at_once.at_once, usual.at_once) == ([True], [False])
    at_once.connection.data_received(REQUEST)
    assert (await at_once.answered()).count(b"HTTP/1.1 200 OK") == 2
    for one in (at_once, usual):
        one.connection.connection_lost(None)


async def test_a_service_that_stops_ends_the_connection_with_the_answer() -> None:
    served = _Served()
    served.connection.data_received(REQUEST)
    served.connection.shutdown()
    assert b"connection: close\r\n" in await served.answered()
    assert served.transport.closed
    assert served.at_once == [False]
    served.connection.connection_lost(None)


async def test_a_client_that_does_not_read_is_waited_for() -> None:
    served = _Served()
    served.connection.data_received(REQUEST)
    served.connection.pause_writing()
    served.may.set()
    for _ in range(5):
        await asyncio.sleep(0)
    assert served.transport.written == b""
    served.connection.resume_writing()
    assert (await served.answered()).endswith(b"ok")
    assert served.at_once == [False]
    served.connection.connection_lost(None)


async def test_nothing_is_written_to_a_client_that_went_away() -> None:
    served = _Served()
    served.connection.data_received(REQUEST)
    served.connection.connection_lost(None)
    assert await served.answered() == b""
