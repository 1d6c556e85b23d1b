"""Which bodies are decided on, and what tells two of them apart."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from riskdistill.data.transaction import Transaction
from riskdistill.errors import ConflictError, TransactionError
from riskdistill.storage.canonical_bytes import transaction_bytes
from riskdistill.storage.decisions import Decision

AHEAD: Final = timedelta(days=1)  # clocks differ, and some payments are dated tomorrow


def check_stamps(transactions: Sequence[Transaction], now: datetime) -> None:
    """An account's clock never goes back: one stamp from far ahead would stop it, and age all that it has seen.

    Raises:
        TransactionError: one is stamped more than `AHEAD` after `now`.
    """
    for transaction in transactions:
        if transaction.timestamp > now + AHEAD:
            raise TransactionError(
                f"it is stamped {transaction.timestamp.isoformat()}, more than a day after now",
                where=f"transaction {transaction.tx_id}",
                mend="correct the timestamp, or send it on its day",
            )


def request_hash(transaction: Transaction) -> str:
    """SHA-256 hex digest that tells two bodies apart; of the pseudonymised form, so it gives nothing away."""
    return hashlib.sha256(transaction_bytes(transaction)).hexdigest()


def same_body(transaction: Transaction, digest: str, outcome: Decision | Exception) -> Decision | ConflictError:
    """The decision, if it is on the body of that `digest`; else the conflict. Raises what is an error."""
    if isinstance(outcome, Exception):
        raise outcome
    if outcome.request_hash == digest:
        return outcome
    return ConflictError(
        f"transaction {transaction.tx_id} was decided with another body",
        where=f"decision {outcome.decision_id}",
        mend="send the same body again, or give the new transaction an id of its own",
    )
