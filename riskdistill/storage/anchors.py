"""Anchors: signed statements of what the head of a decision log, or of a journal, was at a time.

Whoever keeps an anchor apart from the database can tell later that the log still holds what it held then, and
that nothing was cut off its end or written anew. The signature (Ed25519, RFC 8032) says that it was the service who
wrote it. Anchors of all logs are kept in the decision log's database, wherever the journals are. Of releases
and acts there may be several logs, one after the other: an anchor of a journal also states its first entry, which
tells them apart.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError
from sqlalchemy import insert, select

from riskdistill.errors import AuditError, ConfigError, UnreadableFileError
from riskdistill.storage.chain import canonical_json
from riskdistill.storage.decisions import DecisionLog
from riskdistill.storage.journal import Journal
from riskdistill.storage.schema import LogName
from riskdistill.storage.tables import ANCHORS
from riskdistill.storage.verification import as_text

_DOMAIN: Final = b"riskdistill anchor 1\n"  # a signature under it means nothing elsewhere
_MEND: Final = "make one with: openssl rand -hex 32"


class Anchor(BaseModel):
    """The head of a log at a time: entry number `sequence`, which so many entries led to, had this `hash`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    log: LogName = "decisions"
    origin: str = Field("", description="hash of a journal's entry 1; empty: of the decision log")
    sequence: int = Field(ge=0)
    hash: str
    at: AwareDatetime
    public_key: str = Field(description="Ed25519, 64 hexadecimal digits")
    signature: str = Field(
        description="of the domain and the canonical JSON of sequence, hash, at, and a journal's log and origin; "
        "hexadecimal"
    )

    def check(self) -> None:
        """Raises AuditError if the signature is not one of this key under these figures."""
        try:
            key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(self.public_key))
            key.verify(bytes.fromhex(self.signature), _told(self))
        except (InvalidSignature, ValueError) as error:
            raise AuditError(
                f"the anchor of entry {self.sequence} of the log {self.log} is not signed by its key",
                where=f"anchor of {as_text(self.at)}",
                mend="get the anchors again from whoever keeps them",
            ) from error


class AnchorKey:
    """What signs anchors.

    Args:
        secret: 64 hexadecimal digits.

    Raises:
        ConfigError: it is not that.
    """

    def __init__(self, secret: str) -> None:
        try:
            self._key = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(secret.strip()))
        except ValueError:  # not chained: it may quote the key
            raise ConfigError(
                "the anchor key must have 64 hexadecimal digits", where="anchor key", mend=_MEND
            ) from None

    @property
    def public(self) -> str:
        """The public key, which anchors are checked with."""
        return self._key.public_key().public_bytes_raw().hex()

    def sign(self, sequence: int, hash: str, at: datetime, log: LogName = "decisions", origin: str = "") -> Anchor:
        """The anchor of a head; see `Anchor`."""
        unsigned = Anchor(
            log=log, origin=origin, sequence=sequence, hash=hash, at=at, public_key=self.public, signature=""
        )
        return unsigned.model_copy(update={"signature": self._key.sign(_told(unsigned)).hex()})


def write_anchor(log: DecisionLog, key: AnchorKey, journal: Journal | None = None) -> Anchor | None:
    """Signs the head as it is now, keeps that with the decision log, and gives it.

    Args:
        journal: whose head; None: the decision log's.

    Returns:
        None where there is no entry, or this key has signed this head already.

    Raises:
        UnavailableError: a database cannot be used now.
    """
    name: LogName = "decisions" if journal is None else journal.log
    head, origin = (journal or log).head(), "" if journal is None else journal.origin()
    mine = select(ANCHORS.c.sequence).where(
        ANCHORS.c.log == name,
        ANCHORS.c.origin == origin,
        ANCHORS.c.sequence == head.sequence,
        ANCHORS.c.public_key == key.public,
    )
    if head.sequence == 0 or log.fetch(mine):
        return None
    anchor = key.sign(*head, at=datetime.now(UTC), log=name, origin=origin)
    with log.writing() as connection:
        if connection.execute(mine).first() is None:  # another process may have the same key
            connection.execute(insert(ANCHORS), [anchor.model_dump() | {"at": as_text(anchor.at)}])
    return anchor


def anchors_of(log: DecisionLog, after: int = 0, *, of: LogName = "decisions") -> list[Anchor]:
    """The anchors kept with the decision log, of entries after a sequence, oldest first.

    Args:
        of: of which log, or of all journals of that name.
    """
    rows = log.fetch(
        select(ANCHORS)
        .where(ANCHORS.c.log == of, ANCHORS.c.sequence > after)
        .order_by(ANCHORS.c.sequence, ANCHORS.c.origin, ANCHORS.c.public_key)
    )
    return [Anchor.model_validate(dict(row._mapping)) for row in rows]


def anchors_for(journal: Journal, anchors: Iterable[Anchor]) -> tuple[list[Anchor], list[Anchor]]:
    """Of `anchors`, those that a journal must agree with, and those of other logs of its name.

    Where a journal can be one after another, its own anchors are those that state its first entry. If none does, it
    must agree with all of its name, for it may be the one that was anchored, written anew.
    """
    named = [anchor for anchor in anchors if anchor.log == journal.log]
    if journal.prunable:  # it is in the decision log's database, the only one of its name
        return named, []
    origin = journal.origin()
    own = [anchor for anchor in named if anchor.origin == origin]
    return (own, [anchor for anchor in named if anchor.origin != origin]) if own else (named, [])


def read_anchors(path: Path) -> list[Anchor]:
    """The anchors in a file, one JSON object a line.

    Raises:
        UnreadableFileError: it is absent or not that.
    """
    try:
        return [Anchor.model_validate_json(line) for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError, ValidationError) as error:
        raise UnreadableFileError(
            f"not a file of anchors ({type(error).__name__})",
            where=str(path),
            mend="take anchors.jsonl of an export",
        ) from error


def checked(
    anchors: Iterable[Anchor], public_keys: Sequence[str] = (), *, of: LogName = "decisions"
) -> dict[int, str]:
    """The hash by sequence that those of `anchors` state that are of one log, their signatures verified.

    Args:
        anchors: from whom the log is compared with.
        public_keys: if given, only these are trusted.
        of: which log.

    Raises:
        AuditError: one is not signed, is of another key, or two of them contradict each other.
    """
    kept: dict[int, str] = {}
    for anchor in anchors:
        if anchor.log != of:
            continue
        anchor.check()
        if public_keys and anchor.public_key not in public_keys:
            raise AuditError(
                f"the anchor of entry {anchor.sequence} is signed by another key: {anchor.public_key}",
                mend="ask the service's operator which keys signed, and since when",
            )
        if kept.setdefault(anchor.sequence, anchor.hash) != anchor.hash:
            raise AuditError(f"two anchors of entry {anchor.sequence} state different hashes")
    return kept


def _told(anchor: Anchor) -> bytes:
    told: dict[str, Any] = {"sequence": anchor.sequence, "hash": anchor.hash, "at": as_text(anchor.at)}
    if anchor.log != "decisions":  # their anchors are older than those of journals, and stay valid
        told["log"] = anchor.log
    if anchor.origin:
        told["origin"] = anchor.origin
    return _DOMAIN + canonical_json(told).encode()
