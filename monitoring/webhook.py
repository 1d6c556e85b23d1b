"""Tells notices to a URL, signed as the Standard Webhooks specification has it (https://www.standardwebhooks.com).

The receiver computes HMAC-SHA256 over `webhook-id.webhook-timestamp.body` with the shared secret, compares it with
`webhook-signature`, and refuses old timestamps; an id that it has seen is the same notice, sent again.

A thread of its own sends, one notice after another, each again after ever longer pauses until a status of 2xx says
that it was taken. So a receiver that is down, slow or wrong costs the controller nothing, and the log tells of it.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import logging
import threading
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from time import time
from typing import Final, NamedTuple
from uuid import uuid4

import httpx

from monitoring.notices import Notice
from riskdistill.errors import ConfigError

SECRET: Final = "RISKDISTILL_WEBHOOK_SECRET"
DEADLINE: Final = 5.0  # seconds for connecting, and for each wait for an answer
PAUSES: Final = (1.0, 4.0, 16.0, 64.0, 256.0)  # seconds before a notice is sent again
MOST: Final = 100  # notices that may wait
_LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})

_logger = logging.getLogger(__name__)


class _Message(NamedTuple):
    id: str
    about: str
    body: bytes


class Webhook:
    """A receiver of notices at `url`; has a thread of its own until `close`.

    Args:
        secret: as the specification writes it: `whsec_` and 24 to 64 bytes in base64.
        undelivered: called for each notice that the receiver did not take.
        deadline, pauses: see `DEADLINE` and `PAUSES`.

    Raises:
        ConfigError: the URL is neither of https nor of loopback, or the secret is none.
    """

    def __init__(
        self,
        url: str,
        secret: str,
        undelivered: Callable[[], object],
        *,
        deadline: float = DEADLINE,
        pauses: Sequence[float] = PAUSES,
    ) -> None:
        self._url, self._key = _checked(url), signing_key(secret)
        self._undelivered, self._deadline, self._pauses = undelivered, deadline, pauses
        self._waiting: SimpleQueue[_Message | None] = SimpleQueue()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._work, name="webhook", daemon=True)
        self._thread.start()

    def tell(self, notice: Notice) -> None:
        """Queues a notice; returns at once."""
        about = f"{notice.kind}: {notice.about}"
        message = _Message(f"msg_{uuid4().hex}", about, json.dumps(notice.body()).encode())
        if self._waiting.qsize() >= MOST:
            self._give_up(message, f"{MOST} others wait already")
        else:
            self._waiting.put(message)

    def close(self) -> None:
        """Sends what waits once more, and lets go of the receiver; waits for one deadline at most."""
        self._closing.set()
        self._waiting.put(None)
        self._thread.join(self._deadline)

    def _work(self) -> None:
        with httpx.Client(timeout=self._deadline, follow_redirects=False) as client:
            while (message := self._waiting.get()) is not None:
                self._deliver(client, message)

    def _deliver(self, client: httpx.Client, message: _Message) -> None:
        for pause in (*self._pauses, None):
            trouble = self._send(client, message)
            if trouble is None:
                return
            if pause is None or self._closing.is_set():
                break
            _logger.warning("the webhook did not take a notice (%s); again in %g s", trouble, pause)
            self._closing.wait(pause)
        self._give_up(message, trouble)

    def _send(self, client: httpx.Client, message: _Message) -> str | None:
        """What went wrong, if anything did. The answer's body is not read."""
        stamp = str(int(time()))
        headers = {
            "content-type": "application/json",
            "webhook-id": message.id,
            "webhook-timestamp": stamp,
            "webhook-signature": signature(self._key, message.id, stamp, message.body),
        }
        try:
            with client.stream("POST", self._url, content=message.body, headers=headers) as response:
                return None if response.is_success else f"status {response.status_code}"
        except httpx.HTTPError as error:
            return f"{type(error).__name__}: {error}"

    def _give_up(self, message: _Message, trouble: str) -> None:
        self._undelivered()
        _logger.error("the webhook did not take a notice (%s), and is not asked again: %s", trouble, message.about)


def signing_key(secret: str) -> bytes:
    """The key in a secret of the form `whsec_…`.

    Raises:
        ConfigError: it is none, or is too short to be safe.
    """
    try:
        key = base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not (secret.startswith("whsec_") and 24 <= len(key) <= 64):
        raise ConfigError(
            "the webhook needs a secret: whsec_ and 24 to 64 bytes in base64",
            where=SECRET,
            mend='set it to "whsec_$(openssl rand -base64 32)", here and at the receiver',
        )
    return key


def signature(key: bytes, message_id: str, timestamp: str, body: bytes) -> str:
    """The header `webhook-signature` of a message.

    Example:
        >>> key = signing_key("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
        >>> signature(key, "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", b'{"test": 2432232314}')
        'v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE='
    """
    digest = hmac.new(key, f"{message_id}.{timestamp}.".encode() + body, hashlib.sha256).digest()
    return f"v1,{base64.b64encode(digest).decode()}"


def _checked(url: str) -> httpx.URL:
    try:
        parts = httpx.URL(url)
    except httpx.InvalidURL:
        parts = httpx.URL()
    if not (parts.host and (parts.scheme == "https" or (parts.scheme == "http" and parts.host in _LOOPBACK))):
        raise ConfigError(
            "the address of a webhook is https://…, or http on loopback", where="--webhook", mend="correct it"
        )
    return parts
