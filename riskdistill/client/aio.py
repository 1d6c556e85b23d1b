"""The client for asyncio."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Sequence
from types import TracebackType
from typing import Any, Self

import httpx

from riskdistill.client.answers import Answer, Readiness, checked, read, read_batch
from riskdistill.client.connection import MAX_BATCH, Connection, Payment, headers, many, one
from riskdistill.errors import ConflictError
from riskdistill.storage.decisions import Decision


class AsyncClient(Connection):
    """As `Client`, for asyncio. At most `concurrency` requests are under way; others wait their turn."""

    def __init__(self, url: str | None = None, *, concurrency: int = 16, **options: Any) -> None:
        super().__init__(url, concurrency=concurrency, **options)
        self._http = httpx.AsyncClient(**self._options)
        self._turns = asyncio.Semaphore(concurrency)  # httpx' own wait for a connection would time out

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes all connections."""
        await self._http.aclose()

    async def score(self, transaction: Payment) -> Answer:
        """See `Client.score`."""
        return read(Answer, await self._send("POST", "/v1/score", one(transaction)))

    async def score_batch(self, transactions: Sequence[Payment]) -> list[Answer | ConflictError]:
        """See `Client.score_batch`."""
        return read_batch(await self._send("POST", "/v1/score/batch", many(transactions)))

    async def score_many(
        self,
        transactions: Iterable[Payment] | AsyncIterable[Payment],
        *,
        batch: int = MAX_BATCH,
        in_flight: int = 1,
    ) -> AsyncIterator[Answer | ConflictError]:
        """Answers for any number of transactions, in their order; no more is taken than is under way.

        Args:
            batch: transactions of one request, at most MAX_BATCH.
            in_flight: requests under way at once. With more than one, a later batch may overtake an earlier one;
                where they share accounts, features then see the payments in the order in which they came.
        """
        under_way: deque[asyncio.Task[list[Answer | ConflictError]]] = deque()
        try:
            async for group in _groups(transactions, batch):
                if len(under_way) == in_flight:
                    for answer in await under_way.popleft():
                        yield answer
                under_way.append(asyncio.create_task(self.score_batch(group)))
            while under_way:
                for answer in await under_way.popleft():
                    yield answer
        finally:
            for task in under_way:
                task.cancel()
            await asyncio.gather(*under_way, return_exceptions=True)

    async def decision(self, decision_id: str) -> Decision:
        """See `Client.decision`."""
        return read(Decision, await self._send("GET", f"/v1/decisions/{decision_id}"))

    async def ready(self) -> Readiness:
        """See `Client.ready`."""
        try:
            return read(Readiness, checked(await self._http.get("/readyz")))
        except httpx.TransportError as error:
            raise self._unreachable(error, 1) from error

    async def _send(self, method: str, path: str, body: bytes | None = None) -> httpx.Response:
        async with self._turns:
            tries = 0
            while True:
                tries, response, failed = tries + 1, None, None
                try:
                    response = await self._http.request(method, path, content=body, headers=headers(body))
                except httpx.TransportError as error:
                    failed = error
                pause = self._pause(tries, response)
                if pause is None:
                    if response is None:
                        assert failed is not None
                        raise self._unreachable(failed, tries) from failed
                    return checked(response)
                await asyncio.sleep(pause)


async def _groups(
    transactions: Iterable[Payment] | AsyncIterable[Payment],
    size: int,
) -> AsyncIterator[list[Payment]]:
    group: list[Payment] = []
    async for transaction in _each(transactions):
        group.append(transaction)
        if len(group) == size:
            yield group
            group = []
    if group:
        yield group


async def _each(
    transactions: Iterable[Payment] | AsyncIterable[Payment],
) -> AsyncIterator[Payment]:
    if isinstance(transactions, AsyncIterable):
        async for transaction in transactions:
            yield transaction
    else:
        for transaction in transactions:
            yield transaction
