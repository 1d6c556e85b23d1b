"""The client for threads."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Self

import httpx

from riskdistill.client.answers import Answer, Readiness, checked, read, read_batch
from riskdistill.client.connection import MAX_BATCH, Connection, Payment, headers, many, one
from riskdistill.errors import ConflictError
from riskdistill.storage.decisions import Decision


class Client(Connection):
    """A client for threads, which may share it; a context manager.

    Args:
        url: of the service; default: RISKDISTILL_URL.
        api_key, token: an API key or an OIDC bearer token; default: RISKDISTILL_API_KEY or RISKDISTILL_TOKEN.
        timeout: seconds for connecting, and for each wait for an answer.
        retries: how often a request is sent again; 0 for never.
        backoff: seconds within which it is sent again the first time; doubled each time.
        concurrency: connections at most; more requests wait for one of them.
        transport: of httpx, in place of the network.

    Raises:
        ConfigError: there is no address, or no credentials.
    """

    def __init__(self, url: str | None = None, **options: Any) -> None:
        super().__init__(url, **options)
        self._http = httpx.Client(**self._options)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes all connections."""
        self._http.close()

    def score(self, transaction: Payment) -> Answer:
        """The durable decision on one transaction.

        Raises:
            TransactionError: it is not valid; ConflictError: its id was used with another body.
            AuthenticationError: the credentials are not accepted, or not enough.
            UnavailableError: the service is not there, or too busy, after all retries.
        """
        return read(Answer, self._send("POST", "/v1/score", one(transaction)))

    def score_batch(self, transactions: Sequence[Payment]) -> list[Answer | ConflictError]:
        """As `score`, for up to MAX_BATCH in one request; a conflict stands in the place of its transaction."""
        return read_batch(self._send("POST", "/v1/score/batch", many(transactions)))

    def score_many(
        self, transactions: Iterable[Payment], *, batch: int = MAX_BATCH
    ) -> Iterator[Answer | ConflictError]:
        """As `score_batch`, for any number, batch after batch; takes no more of them than it has answers for."""
        group: list[Payment] = []
        for transaction in transactions:
            group.append(transaction)
            if len(group) == batch:
                yield from self.score_batch(group)
                group = []
        if group:
            yield from self.score_batch(group)

    def decision(self, decision_id: str) -> Decision:
        """The stored record. Raises NotFoundError: there is none of that id."""
        return read(Decision, self._send("GET", f"/v1/decisions/{decision_id}"))

    def ready(self) -> Readiness:
        """What is served. Raises UnavailableError, without a retry: transactions cannot be scored now."""
        try:
            return read(Readiness, checked(self._http.get("/readyz")))
        except httpx.TransportError as error:
            raise self._unreachable(error, 1) from error

    def _send(self, method: str, path: str, body: bytes | None = None) -> httpx.Response:
        tries = 0
        while True:
            tries, response, failed = tries + 1, None, None
            try:
                response = self._http.request(method, path, content=body, headers=headers(body))
            except httpx.TransportError as error:
                failed = error
            pause = self._pause(tries, response)
            if pause is None:
                if response is None:
                    assert failed is not None
                    raise self._unreachable(failed, tries) from failed
                return checked(response)
            time.sleep(pause)
