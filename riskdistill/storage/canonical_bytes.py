"""The canonical JSON of transactions and decisions, several times as fast as by way of `canonical_json`.

The bytes are the same (a test holds them together): they are stored and hashed, and must not depend on who wrote
them. What is seldom (reasons, shadows) goes the plain way.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import msgspec
from pydantic import BaseModel

from riskdistill.data.transaction import Transaction
from riskdistill.storage.chain import canonical_json

if TYPE_CHECKING:
    from riskdistill.storage.decisions import Decision

_encode: Final = msgspec.json.Encoder(order="sorted").encode
_SIMPLE: Final = {str, int, bool, type(None)}  # the same in both spellings


def left_out_if_unknown(model: type[BaseModel]) -> frozenset[str]:
    """Names of the fields that a dump leaves out where they are None."""
    return frozenset(name for name, field in model.model_fields.items() if field.exclude_if is not None)


_OPTIONAL: Final = left_out_if_unknown(Transaction)


def transaction_bytes(transaction: Transaction) -> bytes:
    """`transaction` as `canonical_json` spells it, in UTF-8."""
    return _encode(
        {
            name: _exact(value) if type(value) is float else value
            for name, value in vars(transaction).items()
            if value is not None or name not in _OPTIONAL
        }
    )


def decision_bytes(decision: Decision) -> bytes:
    """`decision` as `canonical_json` spells it, in UTF-8."""
    fields = _simple(vars(decision))
    return _encode(fields) if fields else canonical_json(decision.model_dump(mode="json")).encode()


def _simple(values: Mapping[str, Any]) -> dict[str, Any] | None:
    """What the fast encoder spells as JSON's plain one does; None if a value is not so simple."""
    fields: dict[str, Any] = {}
    for name, value in values.items():
        kind = type(value)
        if kind in _SIMPLE:
            fields[name] = value
        elif kind is float:
            fields[name] = _exact(value)
        elif kind is Transaction:
            fields[name] = msgspec.Raw(transaction_bytes(value))
        elif (kind is datetime and value.tzinfo is UTC) or value == ():
            fields[name] = value
        else:
            return None
    return fields


def _exact(value: float) -> float | msgspec.Raw:
    """`value` such that its exponent, if it has one, is written as Python does it."""
    if 1e-4 <= value < 1e15 or value == 0:
        return value
    return msgspec.Raw(repr(value).encode())
