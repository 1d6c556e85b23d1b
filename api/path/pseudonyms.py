"""Account ids become keyed hashes before anything is computed or stored.

Equal ids have equal pseudonyms, so features do not change; without the key nobody can get back to the id by
trying all account numbers. (Keyed BLAKE2b, RFC 7693, 128 bits.)
"""

from __future__ import annotations

import hashlib
import secrets
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from api.security.secret_files import read_secret, write_secret
from riskdistill.data.transaction import Transaction, trusted
from riskdistill.errors import ConfigError

DIGEST_BYTES: Final = 16
MIN_KEY_LENGTH: Final = 16  # characters
MAX_KEY_LENGTH: Final = 64  # BLAKE2b takes no longer key


class Pseudonyms:
    """Pseudonyms under one `key`.

    Raises:
        ConfigError: the key is too short or too long.
    """

    def __init__(self, key: str) -> None:
        secret = key.encode()
        if not MIN_KEY_LENGTH <= len(secret) <= MAX_KEY_LENGTH:
            raise ConfigError(
                f"the pseudonym key must have {MIN_KEY_LENGTH} to {MAX_KEY_LENGTH} bytes",
                where="pseudonym key",
                mend="make one with: openssl rand -hex 32",
            )
        self._keyed = hashlib.blake2b(key=secret, digest_size=DIGEST_BYTES)

    def of(self, account: str) -> str:
        """The pseudonym of an account id: 32 hexadecimal digits."""
        digest = self._keyed.copy()
        digest.update(account.encode())
        return digest.hexdigest()

    def transaction(self, transaction: Transaction) -> Transaction:
        """`transaction` with pseudonyms for both account ids."""
        sender, receiver = self.of(transaction.sender_account), self.of(transaction.receiver_account)
        return trusted({**vars(transaction), "sender_account": sender, "receiver_account": receiver})

    def table(self, transactions: pa.Table) -> pa.Table:
        """A canonical table with pseudonyms for the account ids; each distinct id is hashed once."""
        for side in ("sender_account", "receiver_account"):
            accounts: list[Any] = transactions[side].to_pylist()
            names = {account: self.of(account) for account in set(accounts)}
            column = pa.array([names[account] for account in accounts], pa.string())
            place = transactions.schema.get_field_index(side)
            transactions = transactions.set_column(place, transactions.schema.field(side), column)
        return transactions


def key_from_file(path: Path, *, make: bool) -> str:
    """The pseudonym key kept at `path`; a new one is made there if it is missing and `make` allows.

    Raises:
        ConfigError: the file is missing although decisions were made under it, or others can read it.
    """
    if not path.exists():
        if not make:
            raise ConfigError(
                "the pseudonym key of this decision log is missing; a new one would not match its accounts",
                where=str(path),
                mend="restore the file, or set RISKDISTILL_PSEUDONYM_KEY to its content",
            )
        write_secret(path, secrets.token_hex(32))
    return read_secret(path).strip()
