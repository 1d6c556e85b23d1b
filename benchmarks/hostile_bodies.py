"""Hypothesis strategies of bodies that no scoring service wants: nearly transactions, or nothing like one.

Those that are near hold MARK in each account id, so that it shows wherever one is repeated.
"""

from __future__ import annotations

import json
from typing import Any, Final

from hypothesis import strategies as st

MARK: Final = "acct-c0ffee"
TRANSACTION: Final[dict[str, Any]] = {
    "tx_id": "tx-1",
    "timestamp": "2025-03-01T09:30:00Z",
    "sender_account": f"{MARK}-sender",
    "sender_bank": "BANK1",
    "receiver_account": f"{MARK}-receiver",
    "receiver_bank": "BANK2",
    "amount_paid": 9450.0,
    "currency_paid": "EUR",
    "amount_received": 9450.0,
    "currency_received": "EUR",
    "payment_format": "wire",
}
OPTIONAL: Final = (
    "sender_country",
    "receiver_country",
    "sender_balance",
    "receiver_balance",
    "sender_tenure_days",
    "receiver_tenure_days",
    "sender_contact_changes",
    "receiver_contact_changes",
    "sender_class",
    "receiver_class",
)
CONTENT_TYPES: Final = (
    "application/json",
    'application/json; charset="utf-8"',
    "application/json; charset=utf-16",
    "application/problem+json",
    "application/x-www-form-urlencoded",
    "multipart/form-data; boundary=x",
    "text/plain",
    "application/xml",
    "application/octet-stream",
    "nonsense",
    "",
)
_DEEP: Final = 20_000
_RAW: Final = (  # JSON text that `json.dumps` does not write
    "NaN",
    "-Infinity",
    "1e999",
    "-0",
    "9" * 400,
    "1e-400",
    '"\\ud800"',
    '"\\udfff\\ud800"',
    '"\\u0000"',
    "[" * _DEEP + "]" * _DEEP,
    '{"a":' * _DEEP + "1" + "}" * _DEEP,
    '"' + "x" * 100_000 + '"',
    "01",
    "+1",
    "'x'",
    "",
)
_near_texts = st.sampled_from(
    (
        "",
        " ",
        "\u202eevil",
        "a\nb",
        "\x7f",
        "x" * 129,
        "é" * 128,
        "\U0001f4b0" * 128,
        "EURO",
        "eur",
        "2025-02-30T00:00:00Z",
        "2025-03-01T09:30:00",
        "0000-01-01T00:00:00Z",
        "9999-12-31T23:59:59.999999-23:59",
        "2025-03-01T09:30:60Z",
        "１２",
        "null",
        f"{MARK}\x00",
        MARK * 40,
        "'; DROP TABLE decisions; --",
        "${jndi:ldap://x}",
        "../../etc/passwd",
        "%s%n{0}",
    )
)
_scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(exclude_categories=()), max_size=20),
    _near_texts,
)
_values = st.recursive(
    _scalars,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*TRANSACTION, "x"]), inner, max_size=3)
    ),
    max_leaves=6,
).map(json.dumps)
_texts = st.one_of(_values, st.sampled_from(_RAW))
_names = st.one_of(st.sampled_from([*TRANSACTION, *OPTIONAL]), st.text(max_size=8))


@st.composite
def near_transactions(draw: st.DrawFn) -> str:
    """JSON text of a transaction with up to three faults: values, or keys that are missing, new or there twice."""
    number = draw(st.integers(0, 10**6))
    fields = [(name, json.dumps(value)) for name, value in (TRANSACTION | {"tx_id": f"tx-{number}"}).items()]
    for _ in range(draw(st.integers(0, 3))):
        act = draw(st.sampled_from(("change", "drop", "add")))
        if act == "add" or not fields:
            fields.append((draw(_names), draw(_texts)))
        else:
            at = draw(st.integers(0, len(fields) - 1))
            name, _ = fields.pop(at)
            if act == "change":
                fields.insert(at, (name, draw(_texts)))
    return "{" + ", ".join(f"{json.dumps(name)}: {text}" for name, text in fields) + "}"


def near_bodies(path: str) -> st.SearchStrategy[bytes]:
    """Bodies for a scoring route: for one transaction, or for a batch of them."""
    if not path.endswith("/batch"):
        return near_transactions().map(_bytes)
    several = st.lists(near_transactions(), max_size=4).map(", ".join)
    batches = st.one_of(
        several.map(lambda all_of_them: f'{{"transactions": [{all_of_them}]}}'), near_transactions()
    )
    return batches.map(_bytes)


def any_bodies() -> st.SearchStrategy[bytes]:
    """Random bytes, JSON texts of anything, and transactions that are cut off or in another encoding."""
    whole = json.dumps(TRANSACTION)
    return st.one_of(
        st.binary(max_size=200),
        _texts.map(_bytes),
        st.integers(0, len(whole)).map(lambda end: whole[:end].encode()),
        st.sampled_from(("utf-16", "utf-8-sig", "utf-32-le")).map(whole.encode),
        st.binary(max_size=20).map(lambda more: whole.encode() + more),
    )


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
