"""One canonical transaction as an object: what the scoring service takes and what a table row becomes.

`Transaction` keeps exactly the columns of `schema.TRANSACTIONS` and the rules of `validate`, which checks
whole tables: both read their limits from `schema`, and a test holds them together. A transaction that was
made is valid: times are UTC, ids are trimmed and not empty, amounts are finite and plausible.

What is not known of the accounts (balances, customer fields) is left out of a dump: a transaction that does not
use these fields reads and hashes as it did before there were any, so that stored request hashes still hold.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Final

import pyarrow as pa
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from riskdistill.data.currencies import CODE_BY_NAME, CURRENCY_CODES
from riskdistill.data.schema import (
    EARLIEST,
    LATEST,
    MAX_AMOUNT,
    MAX_CLASS_LENGTH,
    MAX_FORMAT_LENGTH,
    MAX_ID_LENGTH,
    MAX_TALLY,
    MAX_YEAR,
    MIN_YEAR,
    TRANSACTIONS,
)
from riskdistill.errors import TransactionError
from riskdistill.trusted import Trusted

OFFSET_EXAMPLE: Final = "add a UTC offset, e.g. 2026-01-01T00:00:00Z"
_STARTS_WITH_DATE: Final = re.compile(r"\s*\d{4}-\d{2}-\d{2}")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_SURROGATE: Final = re.compile(r"[\ud800-\udfff]")
_NAME_LIKE: Final = re.compile(r"[A-Za-z .-]{0,32}")
_COUNTRY: Final = re.compile(r"[A-Z]{2}")
_ROWS_AT_A_TIME: Final = 8192


def nearest_currencies(value: str) -> list[str]:
    """Up to three known codes that `value` may have meant, nearest first: by code, then by name.

    >>> nearest_currencies("EURO")
    ['EUR']
    >>> nearest_currencies("US Dollars")
    ['USD']
    """
    by_name = {name.casefold(): code for name, code in CODE_BY_NAME.items()}
    named = difflib.get_close_matches(value.casefold(), list(by_name), n=3, cutoff=0.7)
    coded = difflib.get_close_matches(value.upper(), CURRENCY_CODES, n=3, cutoff=0.6)
    return list(dict.fromkeys([by_name[name] for name in named] + coded))[:3]


def unknown_currency(value: str) -> str:
    """The message for a currency that is not known: names the nearest codes, or some where none is near."""
    near = nearest_currencies(value)
    hint = f"did you mean {' or '.join(near)}?" if near else f"known codes: {', '.join(CURRENCY_CODES)}"
    return f"unknown currency{_quoted(value)}; {hint}"


def _quoted(value: str) -> str:
    """` 'value'` where it may be a misspelt name; nothing of what has digits, as an account id out of place has."""
    return f" {value!r}" if _NAME_LIKE.fullmatch(value) else ""


def _currency(value: str) -> str:
    if value not in CURRENCY_CODES:
        raise ValueError(unknown_currency(value))
    return value


def _is_written_out(value: object) -> object:
    """Refuses numbers, which pydantic would take for seconds or milliseconds by their size."""
    if isinstance(value, datetime) or (isinstance(value, str) and _STARTS_WITH_DATE.match(value)):
        return value
    raise ValueError("timestamp must be an ISO 8601 text with an offset, e.g. 2026-01-01T00:00:00Z")


def _utc(value: datetime) -> datetime:
    if value.tzinfo is None or value.utcoffset() is None:
        raise ValueError(f"timestamp {value.isoformat()} has no time zone; {OFFSET_EXAMPLE}")
    if not EARLIEST <= value < LATEST:
        raise ValueError(f"timestamp {value.isoformat()} is not between {MIN_YEAR} and {MAX_YEAR}")
    return value.astimezone(UTC)


def _text(limit: int) -> AfterValidator:
    def check(value: str) -> str:
        value = value.strip()
        if not value:
            raise ValueError("must not be empty; send the source's own id or name")
        if len(value) > limit:
            raise ValueError(f"is {len(value)} characters long; at most {limit} are kept, send a shorter one")
        if _CONTROL.search(value):
            raise ValueError("holds control characters; send printable text")
        if _SURROGATE.search(value):  # JSON can write half a character, which no UTF-8 text holds, Arrow's neither
            raise ValueError("holds half of a surrogate pair; send whole characters")
        return value

    return AfterValidator(check)


def _country(value: str | None) -> str | None:
    if value is not None and not _COUNTRY.fullmatch(value):
        raise ValueError(f"country{_quoted(value)} is not an ISO 3166 code of two capitals, e.g. GB")
    return value


Identifier = Annotated[str, Field(strict=True), _text(MAX_ID_LENGTH)]
Amount = Annotated[float, Field(strict=True, ge=0, le=MAX_AMOUNT, allow_inf_nan=False)]
Balance = Annotated[float, Field(strict=True, ge=-MAX_AMOUNT, le=MAX_AMOUNT, allow_inf_nan=False)]
CustomerClass = Annotated[str, Field(strict=True), _text(MAX_CLASS_LENGTH)]
Tally = Annotated[float, Field(strict=True, ge=0, le=MAX_TALLY, allow_inf_nan=False)]
Currency = Annotated[str, Field(strict=True), AfterValidator(_currency)]
Timestamp = Annotated[datetime, BeforeValidator(_is_written_out), AfterValidator(_utc)]
Country = Annotated[str | None, Field(strict=True), AfterValidator(_country)]


def _if_known(description: str) -> Any:
    return Field(default=None, description=description, exclude_if=lambda value: value is None)


class Transaction(BaseModel):
    """One movement of money, valid by construction. An account is known by (bank, account)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    tx_id: Identifier = Field(description="The source's own id: the same id twice is the same transaction")
    timestamp: Timestamp = Field(description="When the money moved, with a UTC offset; kept as UTC")
    sender_account: Identifier
    sender_bank: Identifier
    receiver_account: Identifier
    receiver_bank: Identifier
    amount_paid: Amount = Field(description="What left the sender, in units of `currency_paid`")
    currency_paid: Currency = Field(description="ISO 4217 code; XBT and XET for coins")
    amount_received: Amount = Field(description="What reached the receiver, in units of `currency_received`")
    currency_received: Currency = Field(description="ISO 4217 code; XBT and XET for coins")
    payment_format: Annotated[str, Field(strict=True), _text(MAX_FORMAT_LENGTH)] = Field(
        description="How it was paid, in the source's words: Wire, ACH, Cheque, …"
    )
    sender_country: Country = Field(default=None, description="ISO 3166 alpha-2, where known")
    receiver_country: Country = Field(default=None, description="ISO 3166 alpha-2, where known")
    sender_balance: Balance | None = _if_known("Just before the payment, in units of `currency_paid`, where known")
    receiver_balance: Balance | None = _if_known(
        "Just before the payment, in units of `currency_received`, where known"
    )
    sender_tenure_days: Tally | None = _if_known("Days since the sender became a customer, where known")
    receiver_tenure_days: Tally | None = _if_known("Days since the receiver became a customer, where known")
    sender_contact_changes: Tally | None = _if_known(
        "How often the sender changed its phone number, e-mail or address so far, where known"
    )
    receiver_contact_changes: Tally | None = _if_known(
        "How often the receiver changed its phone number, e-mail or address so far, where known"
    )
    sender_class: CustomerClass | None = _if_known("Which kind of customer the sender is, e.g. retail, where known")
    receiver_class: CustomerClass | None = _if_known("Which kind of customer the receiver is, where known")


trusted: Final = Trusted(Transaction)


def describe(error: ValidationError) -> str:
    """All mistakes that `error` lists, on one line, each with its field."""
    mistakes = []
    for found in error.errors(include_url=False, include_context=False):
        field = ".".join(str(part) for part in found["loc"])
        message = found["msg"].removeprefix("Value error, ")
        mistakes.append(f"{field}: {message}" if field else message)
    return "; ".join(mistakes)


def parse_transaction(payload: Mapping[str, Any], *, where: str = "") -> Transaction:
    """The transaction that `payload` describes.

    Args:
        payload: canonical field names and their values.
        where: the file and row or the request, for the message.

    Raises:
        TransactionError: naming every field that is wrong, not only the first.
    """
    try:
        return Transaction.model_validate(payload)
    except ValidationError as error:
        raise TransactionError(describe(error), where=where, mend="correct the fields named") from error


def transactions_from(table: pa.Table) -> Iterator[Transaction]:
    """The rows of a canonical table, one by one and in order; a few thousand are held at a time.

    Raises:
        TransactionError: at the first row that is not canonical, naming the row (0-based).
    """
    row = 0
    for batch in table.to_batches(max_chunksize=_ROWS_AT_A_TIME):
        for payload in batch.to_pylist():
            yield parse_transaction(payload, where=f"row {row}")
            row += 1


def to_table(transactions: Iterable[Transaction]) -> pa.Table:
    """A table with the schema `schema.TRANSACTIONS`, rows in the order given; empty for none."""
    return pa.Table.from_pylist([entry.model_dump() for entry in transactions], schema=TRANSACTIONS)
