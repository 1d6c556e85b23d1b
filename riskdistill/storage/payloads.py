"""Requests as they came, with real account ids, kept encrypted beside their decisions; off unless a key is set.

AES-256-GCM with a random nonce each; what is sealed is bound to its decision's id, so that no payload can be put
under another decision. Several keys may be known: the first seals, all open, so that keys are rotated by
putting a new one in front, and the old one is given up once its payloads are deleted.
"""

from __future__ import annotations

import hashlib
import secrets
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from sqlalchemy import select

from riskdistill.errors import AuditError, ConfigError, NotFoundError
from riskdistill.storage.decisions import DecisionLog, SealedPayload
from riskdistill.storage.tables import DECISIONS, PAYLOADS

_NONCE_BYTES: Final = 12
_KEY_BYTES: Final = 32
READ_ACT: Final = "payload_read"


class PayloadKeys:
    """The keys that payloads are sealed and opened with.

    Args:
        secret: keys of 64 hexadecimal digits, separated by commas, the one that seals first.

    Raises:
        ConfigError: one is not that.
    """

    def __init__(self, secret: str) -> None:
        try:
            keys = [bytes.fromhex(key.strip()) for key in secret.split(",")]
        except ValueError:  # its message may quote a key
            keys = []
        if not keys or any(len(key) != _KEY_BYTES for key in keys):
            raise ConfigError(
                "a payload key must have 64 hexadecimal digits",
                where="RISKDISTILL_PAYLOAD_KEY",
                mend="make one with: openssl rand -hex 32",
            )
        self._ciphers = {_key_id(key): AESGCM(key) for key in keys}
        self._current = _key_id(keys[0])

    def seal(self, decision_id: str, payload: bytes) -> SealedPayload:
        """`payload`, to be opened under that decision only."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        sealed = self._ciphers[self._current].encrypt(nonce, payload, decision_id.encode())
        return SealedPayload(self._current, nonce + sealed)

    def open(self, decision_id: str, payload: SealedPayload) -> bytes:
        """What was sealed.

        Raises:
            ConfigError: its key is not among these.
            AuditError: it was changed, or is another decision's.
        """
        cipher = self._ciphers.get(payload.key_id)
        if cipher is None:
            raise ConfigError(
                f"the payload is sealed with key {payload.key_id}, which is not known here",
                where=f"decision {decision_id}",
                mend="add that key to RISKDISTILL_PAYLOAD_KEY, after a comma",
            )
        nonce, sealed = payload.sealed[:_NONCE_BYTES], payload.sealed[_NONCE_BYTES:]
        try:
            return cipher.decrypt(nonce, sealed, decision_id.encode())
        except InvalidTag as error:
            raise AuditError(
                "the payload was changed, or is another decision's", where=f"decision {decision_id}"
            ) from error


def read_payload(log: DecisionLog, keys: PayloadKeys, decision_id: str, *, actor: str, reason: str) -> str:
    """The request behind a decision; that it was read, by whom and why, becomes an act of the log first.

    Raises:
        NotFoundError: no payload is kept for this decision.
        AuditError: no actor or reason; or what is stored was changed.
    """
    rows = log.fetch(
        select(PAYLOADS.c.key_id, PAYLOADS.c.sealed)
        .join(DECISIONS, DECISIONS.c.sequence == PAYLOADS.c.sequence)
        .where(DECISIONS.c.decision_id == decision_id)
    )
    if not rows:
        raise NotFoundError(
            f"no payload is kept for decision {decision_id}", mend="payloads are kept from when a key is set"
        )
    opened = keys.open(decision_id, SealedPayload(rows[0].key_id, bytes(rows[0].sealed)))
    log.record(READ_ACT, actor=actor, reason=reason, details={"decision_id": decision_id})
    return opened.decode()


def _key_id(key: bytes) -> str:
    return hashlib.sha256(b"riskdistill payload key\n" + key).hexdigest()[:12]
