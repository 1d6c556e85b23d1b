"""What one socket may take before anybody is known to be behind it: a place, some time and some memory.

uvicorn has options near these, and none that does: `limit_concurrency` lets silent sockets stay, and once they fill
it, refuses the requests of everybody else; `timeout_keep_alive` begins after a first answer and ends with the next
byte; `h11_max_incomplete_event_size` is not for its faster parser. Bodies have their deadline in
`api.security.deadline`.

And a way to answer at once, as an extension of ASGI: uvicorn sends head and body apart, each a call of the kernel
and a packet that wakes the caller, and looks through every header for what would break it, which the headers of a
score cannot. That is a tenth of the processor time of a request whose answer is ready.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_HEAD_BYTES: Final = 64 << 10  # of a request's line and headers
ANSWER: Final = "riskdistill.answer"  # among a scope's extensions: has `Connection.answer` under "answer"
Answer = Callable[[Iterable[tuple[bytes, bytes]], bytes], bool]
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
        self._extensions: dict[str, dict[object, object]] = {ANSWER: {"answer": self.answer}}

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

    def on_message_begin(self) -> None:
        """Called by the parser: another request begins."""
        super().on_message_begin()
        self.scope["extensions"] = self._extensions

    def on_headers_complete(self) -> None:
        """Called by the parser: the head is whole."""
        self._head_bytes = 0
        self._stop()
        super().on_headers_complete()

    def answer(self, headers: Iterable[tuple[bytes, bytes]], body: bytes) -> bool:
        """Answers the request under way with 200, in one packet; False: it is to be answered as any other.

        Args:
            headers: of known names, and values without a line's end; the length of `body` is among them.
            body: all of it; the request is one whose answer has a body.
        """
        cycle = self.cycle
        if (
            self.pipeline  # `cycle` is of one that waits
            or cycle.response_started
            or cycle.waiting_for_100_continue
            or cycle.disconnected
            or not cycle.keep_alive
            or self.flow.write_paused
        ):
            return False
        lines = [b"%s: %s\r\n" % header for header in (*self.server_state.default_headers, *headers)]
        cycle.response_started = cycle.response_complete = True
        self.transport.write(b"".join((b"HTTP/1.1 200 OK\r\n", *lines, b"\r\n", body)))
        cycle.message_event.set()
        cycle.on_response()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """Gives the place back."""
        self._stop()
        self._extensions.clear()  # they lead back here, and the collector of cycles seldom comes
        super().connection_lost(exc)

    def _stop(self) -> None:
        if self._due is not None:
            self._due.cancel()
            self._due = None

    def _refuse(self, status: bytes, problem: bytes) -> None:
        length = str(len(problem)).encode()
        self.transport.write(b"HTTP/1.1 %s\r\n%sContent-Length: %s\r\n\r\n%s" % (status, _TYPE, length, problem))
        self.transport.close()
