"""From the bytes of a plain request to transactions, and from decisions to the bytes of the answer, quickly.

What is accepted here, pydantic accepts as well and takes for the same (a test holds them together). Whatever is not
plainly right is not judged here: `None` says that the usual way through FastAPI is to be taken, which tells what is
wrong, or knows better.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta, Struct

from api.problems import problem
from api.schemas import MAX_BATCH, Answer
from riskdistill.data.currencies import CURRENCY_CODES
from riskdistill.data.schema import (
    EARLIEST,
    LATEST,
    MAX_AMOUNT,
    MAX_CLASS_LENGTH,
    MAX_FORMAT_LENGTH,
    MAX_ID_LENGTH,
    MAX_TALLY,
)
from riskdistill.data.transaction import Transaction, trusted
from riskdistill.errors import ConflictError
from riskdistill.storage.decisions import Decision

_Identifier = Annotated[str, Meta(min_length=1, max_length=MAX_ID_LENGTH)]
_Format = Annotated[str, Meta(min_length=1, max_length=MAX_FORMAT_LENGTH)]
_Amount = Annotated[float, Meta(ge=0, le=MAX_AMOUNT)]
_Balance = Annotated[float, Meta(ge=-MAX_AMOUNT, le=MAX_AMOUNT)]
_Tally = Annotated[float, Meta(ge=0, le=MAX_TALLY)]
_Class = Annotated[str, Meta(min_length=1, max_length=MAX_CLASS_LENGTH)]
_Country = Annotated[str, Meta(min_length=2, max_length=2)]
_IN_UTC: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{6})?(Z|\+00:00)", re.ASCII)
_CURRENCIES: Final = frozenset(CURRENCY_CODES)
_ANSWERED: Final = tuple(Answer.model_fields)


class _Body(Struct, forbid_unknown_fields=True, gc=False):
    """The fields of `Transaction`, in its order."""

    tx_id: _Identifier
    timestamp: str
    sender_account: _Identifier
    sender_bank: _Identifier
    receiver_account: _Identifier
    receiver_bank: _Identifier
    amount_paid: _Amount
    currency_paid: str
    amount_received: _Amount
    currency_received: str
    payment_format: _Format
    sender_country: _Country | None = None
    receiver_country: _Country | None = None
    sender_balance: _Balance | None = None
    receiver_balance: _Balance | None = None
    sender_tenure_days: _Tally | None = None
    receiver_tenure_days: _Tally | None = None
    sender_contact_changes: _Tally | None = None
    receiver_contact_changes: _Tally | None = None
    sender_class: _Class | None = None
    receiver_class: _Class | None = None


class _Bodies(Struct, forbid_unknown_fields=True):
    transactions: Annotated[list[_Body], Meta(min_length=1, max_length=MAX_BATCH)]


_one: Final = msgspec.json.Decoder(_Body).decode
_many: Final = msgspec.json.Decoder(_Bodies).decode
_encode: Final = msgspec.json.Encoder().encode


def read_transaction(body: bytes) -> Transaction | None:
    """The transaction in `body`; None if it is not plainly right."""
    try:
        return _transaction(_one(body))
    except (msgspec.MsgspecError, ValueError):
        return None


def read_batch(body: bytes) -> list[Transaction] | None:
    """The transactions in `body`; None if one is not plainly right."""
    try:
        read = [_transaction(one) for one in _many(body).transactions]
    except (msgspec.MsgspecError, ValueError):
        return None
    return None if None in read else read  # type: ignore[return-value]


def answer_bytes(decision: Decision) -> bytes:
    """As FastAPI writes `Answer.of(decision)`."""
    return _encode(_answer(decision))


def batch_bytes(outcomes: Sequence[tuple[str, Decision | ConflictError]], path: str) -> bytes:
    """As FastAPI writes a `BatchAnswer` of `outcomes`, each with its transaction's id."""
    results = [
        {"tx_id": tx_id, "decision": None, "problem": problem(outcome, path).model_dump()}
        if isinstance(outcome, ConflictError)
        else {"tx_id": tx_id, "decision": _answer(outcome), "problem": None}
        for tx_id, outcome in outcomes
    ]
    return _encode({"results": results})


def _transaction(body: _Body) -> Transaction | None:
    if not (
        _IN_UTC.fullmatch(body.timestamp)
        and body.currency_paid in _CURRENCIES
        and body.currency_received in _CURRENCIES
        and _is_plain(body.tx_id)
        and _is_plain(body.sender_account)
        and _is_plain(body.sender_bank)
        and _is_plain(body.receiver_account)
        and _is_plain(body.receiver_bank)
        and _is_plain(body.payment_format)
        and _is_country(body.sender_country)
        and _is_country(body.receiver_country)
        and (body.sender_class is None or _is_plain(body.sender_class))
        and (body.receiver_class is None or _is_plain(body.receiver_class))
    ):
        return None
    moment = datetime.fromisoformat(body.timestamp)  # its zone is `datetime.UTC`
    if not EARLIEST <= moment < LATEST:
        return None
    fields = msgspec.structs.asdict(body)
    fields["timestamp"] = moment
    return trusted(fields)


def _is_plain(text: str) -> bool:
    """Whether it is kept as it is: what prints is no control character and no half of a surrogate pair."""
    return text.isprintable() and text[0] != " " and text[-1] != " "


def _is_country(code: str | None) -> bool:
    return code is None or (code.isascii() and code.isalpha() and code.isupper())


def _answer(decision: Decision) -> dict[str, Any]:
    values = vars(decision)
    answer = {name: values[name] for name in _ANSWERED}
    if answer["reasons"]:
        answer["reasons"] = [reason.model_dump(mode="json") for reason in answer["reasons"]]
    return answer
