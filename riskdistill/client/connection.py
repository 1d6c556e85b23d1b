"""What the clients share: how a request is sent, what is in it, and when it is sent again."""

from __future__ import annotations

import os
import random
from collections.abc import Mapping, Sequence
from typing import Any, Final

import httpx

from riskdistill.data.transaction import Transaction, parse_transaction
from riskdistill.errors import ConfigError, TransactionError, UnavailableError
from riskdistill.storage.canonical_bytes import transaction_bytes

Payment = Transaction | Mapping[str, Any]
MAX_BATCH: Final = 256  # transactions of one request
_AGAIN: Final = {429, 503}
_LONGEST_PAUSE: Final = 30.0  # seconds


class Connection:
    """What both clients share: what to send, what an answer means, and when to send again."""

    def __init__(
        self,
        url: str | None = None,
        *,
        api_key: str | None = None,
        token: str | None = None,
        timeout: float = 10.0,
        retries: int = 5,
        backoff: float = 0.1,
        concurrency: int = 16,
        transport: Any = None,
    ) -> None:
        """See `Client`."""
        url = url or os.environ.get("RISKDISTILL_URL")
        if not url:
            raise ConfigError("no address of a service", mend="give the url, or set RISKDISTILL_URL")
        if api_key is None and token is None:
            api_key, token = os.environ.get("RISKDISTILL_API_KEY"), os.environ.get("RISKDISTILL_TOKEN")
        if not api_key and not token:
            raise ConfigError("no credentials", where=url, mend="give api_key or token, or set RISKDISTILL_API_KEY")
        self.url, self._retries, self._backoff = url.rstrip("/"), retries, backoff
        self._options: dict[str, Any] = {
            "base_url": self.url,
            "headers": {"X-API-Key": api_key} if api_key else {"Authorization": f"Bearer {token}"},
            "timeout": timeout,
            "limits": httpx.Limits(max_connections=concurrency, max_keepalive_connections=concurrency),
            "transport": transport,
        }

    def _pause(self, tries: int, response: httpx.Response | None) -> float | None:
        """Seconds to wait after so many tries; None where the last one stands."""
        if tries > self._retries or (response is not None and response.status_code not in _AGAIN):
            return None
        pause = random.uniform(0, min(_LONGEST_PAUSE, self._backoff * 2**tries))  # all at once would fail again
        asked = "" if response is None else response.headers.get("retry-after", "")
        return max(pause, float(asked)) if asked.isdigit() else pause

    def _unreachable(self, error: httpx.TransportError, tries: int) -> UnavailableError:
        return UnavailableError(
            f"no answer after {tries} tries ({type(error).__name__}: {error})",
            where=self.url,
            mend="check the address, and that the service runs; sending again is safe",
        )


def headers(body: bytes | None) -> dict[str, str]:
    return {} if body is None else {"Content-Type": "application/json"}


def _valid(transaction: Payment) -> Transaction:
    return transaction if isinstance(transaction, Transaction) else parse_transaction(transaction)


def one(transaction: Payment) -> bytes:
    return transaction_bytes(_valid(transaction))


def many(transactions: Sequence[Payment]) -> bytes:
    if not 1 <= len(transactions) <= MAX_BATCH:
        raise TransactionError(f"a batch of {len(transactions)} transactions", mend=f"send 1 to {MAX_BATCH}")
    return b'{"transactions":[' + b",".join(map(one, transactions)) + b"]}"
