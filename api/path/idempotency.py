"""The header `Idempotency-Key` (IETF draft-ietf-httpapi-idempotency-key-header), beside the ids of transactions.

| the key was used | the answer |
|---|---|
| never | as without it |
| with the same body | the same: the transactions' stored decisions |
| with another body, or at another route | 422 |
| by a request that is under way in this process | 409 |

A key is claimed, durably, before anything is decided, so it also holds after a restart and for other processes on
the same log, and for KEPT. A request that was refused keeps its claim: send what is corrected under a new key. Keys
are a caller's own, whichever of its secrets or tokens it sends: what is stored is a digest of the key, the route
and the caller's name, and of the body after pseudonymisation. Claims that wait together share a commit.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any, Final

from starlette.datastructures import Headers

from riskdistill.errors import InFlightError, KeyReusedError, RequestError
from riskdistill.storage.decisions import DecisionLog
from riskdistill.storage.idempotency import claim

KEPT: Final = timedelta(days=1)
HEADER: Final = "idempotency-key"
OPENAPI: Final[dict[str, Any]] = {
    "parameters": [
        {
            "name": "Idempotency-Key",
            "in": "header",
            "required": False,
            "description": "A name of your own for this request, e.g. a UUID in quotes: sent again with the same "
            "body it gets the same answer, with another body 422, and 409 while the first is under way. "
            "Kept for a day.",
            "schema": {"type": "string", "minLength": 1, "maxLength": 257},
            "example": '"8e03978e-40d5-43dd-bc93-6894a57f9324"',
        }
    ]
}
_KEY: Final = re.compile(r"[\x21-\x7e]{1,255}")


class IdempotencyKeys:
    """Who may go on under which key. One per process, on one event loop."""

    def __init__(self, log: DecisionLog) -> None:
        self._log = log
        self._under_way: dict[str, str] = {}
        self._waiting: list[tuple[str, str, asyncio.Future[str]]] = []
        self._claiming: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="idempotency-keys")

    @asynccontextmanager
    async def held(self, key: str, fingerprint: str) -> AsyncIterator[None]:
        """Holds `key`, as `key_of` gives it, for a request with that `fingerprint` while it is answered.

        Raises:
            KeyReusedError: the key was used with another body.
            InFlightError: a request with the same key and body is under way.
            UnavailableError: the claim cannot be stored now.
        """
        if (other := self._under_way.get(key)) is not None:
            if other != fingerprint:
                raise _reused()
            raise InFlightError(
                "a request with this Idempotency-Key is under way",
                mend="wait for its answer, or send it again later",
            )
        self._under_way[key] = fingerprint
        try:
            if await self._claim(key, fingerprint) != fingerprint:
                raise _reused()
            yield
        finally:
            del self._under_way[key]

    async def close(self) -> None:
        """Ends the thread."""
        if self._claiming is not None:
            await self._claiming
        self._thread.shutdown()

    async def _claim(self, key: str, fingerprint: str) -> str:
        claimed: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._waiting.append((key, fingerprint, claimed))
        if self._claiming is None:
            self._claiming = asyncio.create_task(self._run())
        return await claimed

    async def _run(self) -> None:
        while self._waiting:
            group, self._waiting = self._waiting, []
            wanted = {key: fingerprint for key, fingerprint, _ in group}
            loop = asyncio.get_running_loop()
            try:
                held = await loop.run_in_executor(self._thread, claim, self._log, wanted, KEPT)
            except Exception as error:
                for *_, claimed in group:
                    if not claimed.done():
                        claimed.set_exception(error)
                continue
            for key, _, claimed in group:
                if not claimed.done():
                    claimed.set_result(held[key])
        self._claiming = None


def key_of(headers: Headers, path: str, caller: str) -> str | None:
    """What the key of a request by the caller of that name is known by; None if it carries none.

    Raises:
        RequestError: the header is empty, too long, or holds blanks.
    """
    given = headers.get(HEADER)
    if given is None:
        return None
    key = given.removeprefix('"').removesuffix('"')
    if not _KEY.fullmatch(key):
        raise RequestError(
            "the Idempotency-Key must have 1 to 255 visible ASCII characters",
            where="header Idempotency-Key",
            mend="send a UUID in quotes",
        )
    return _digest([caller, path, key])


def fingerprint_of(request_hashes: Sequence[str]) -> str:
    """What tells the bodies of two requests apart, from the hashes of their transactions."""
    return _digest(request_hashes)


def _digest(parts: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _reused() -> KeyReusedError:
    return KeyReusedError(
        "the Idempotency-Key was used with another body", mend="send the same body again, or use a new key"
    )
