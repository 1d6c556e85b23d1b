"""What one socket may take before anybody is known to be behind it: a place, some time and some memory.

uvicorn has options near these, and none that does: `limit_concurrency` lets silent sockets stay, and once they fill
it, refuses the requests of everybody else; `timeout_keep_alive` begins after a first answer and ends with the next
byte; `h11_max_incomplete_event_size` is not for its faster parser. Bodies have their deadline in
`api.security.deadline`.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_HEAD_BYTES: Final = 64 << 10  # of a request's line and headers
_TYPE: Final = b"Content-Type: application/problem+json\r\nConnection: close\r\n"
_FULL: Final = b'{"title":"Too many connections","status":503,"detail":"all places are taken (mend: try again)"}'
_LONG: Final = b'{"title":"Request headers are too large","status":431,"detail":"there are over 64 KiB of them"}'


class Connection(HttpToolsProtocol):
    """One client's connection; the arguments that are not named here are uvicorn's.

    Args:
        most: connections of this process; a further one is answered 503 and closed, those that are open stay.
        seconds: for a request's line and headers to come, from connecting or from the first byte of a later one.
    """

    def __init__(self, *, most: int, seconds: float, **others: Any) -> None:
        super().__init__(**others)
        self._most, self._seconds, self._head_bytes = most, seconds, 0
        self._due: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Takes the place, if there is one."""
        super().connection_made(transport)
        if len(self.connections) > self._most:
            self._refuse(b"503 Service Unavailable\r\nRetry-After: 1", _FULL)
        else:
            self._due = self.loop.call_later(self._seconds, transport.abort)

    def data_received(self, data: bytes) -> None:
        """Takes what has come, which is to be a whole head soon."""
        self._head_bytes += len(data)
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:
            return  # a body, or a request behind one that is not answered yet
        if self._head_bytes > MAX_HEAD_BYTES:
            self._refuse(b"431 Request Header Fields Too Large", _LONG)
        elif self._due is None:
            self._due = self.loop.call_later(self._seconds, self.transport.abort)

    def on_headers_complete(self) -> None:
        """Called by the parser: the head is whole."""
        self._head_bytes = 0
        self._stop()
        super().on_headers_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """Gives the place back."""
        self._stop()
        super().connection_lost(exc)

    def _stop(self) -> None:
        if self._due is not None:
            self._due.cancel()
            self._due = None

    def _refuse(self, status: bytes, problem: bytes) -> None:
        length = str(len(problem)).encode()
        self.transport.write(b"HTTP/1.1 %s\r\n%sContent-Length: %s\r\n\r\n%s" % (status, _TYPE, length, problem))
        self.transport.close()
