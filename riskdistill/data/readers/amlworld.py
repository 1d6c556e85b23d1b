"""IBM's AMLworld (HI-Small and its siblings): transactions as CSV, laundering patterns as a text file.

The patterns file repeats the laundering transactions of each scheme under a heading that names its shape. A
transaction is known there by all its fields, so both sides are brought to one spelling: bank ids lose their
leading zeros (some publications lost them in the transactions only), times are cut to the minute. The same
row can stand in a file twice: each listing is spent once. Laundering without a pattern is UNLISTED. Times are
UTC. There is no date at which laundering became known: the transaction's own time stands for it.

Stamped by the minute; rows of one minute keep the published order. It tells next to nothing of the label: the
ROC-AUC of a row's place within its minute is 0.501 on 36,595 rows of HI-Small (0.513 among the pairs of a minute).

Altman et al., "Realistic Synthetic Financial Transactions for Anti-Money Laundering Models", NeurIPS 2023.
"""

from __future__ import annotations

import re
from collections import defaultdict, deque
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from riskdistill.data import columns
from riskdistill.data.columns import Column, pc
from riskdistill.data.currencies import CODE_BY_NAME
from riskdistill.data.source import locate, open_text, read_rows
from riskdistill.data.validate import Batch, Draft, canonicalise
from riskdistill.errors import UnreadableFileError

ORIGIN: Final[dict[str, tuple[str, ...]]] = {
    "timestamp": ("Timestamp",),
    "sender_bank": ("From Bank",),
    "sender_account": ("Account",),
    "receiver_bank": ("To Bank",),
    "receiver_account": ("Account.1",),
    "amount_received": ("Amount Received",),
    "currency_received": ("Receiving Currency",),
    "amount_paid": ("Amount Paid",),
    "currency_paid": ("Payment Currency",),
    "payment_format": ("Payment Format",),
    "is_laundering": ("Is Laundering",),
}
_PLACES: Final = ("*_Trans.csv*", "*_Trans.parquet")
_KEY: Final = tuple(name for name in ORIGIN if name != "is_laundering")  # the patterns file has this order
_DISTINCT: Final = ("sender_account", "receiver_account", "amount_received", "amount_paid")
_REPEATED: Final = [name for field, (name,) in ORIGIN.items() if field not in _DISTINCT]
_HEADING: Final = re.compile(r"BEGIN LAUNDERING ATTEMPT - ([A-Z-]+)")

Key = tuple[Any, ...]
Schemes = defaultdict[Key, deque[tuple[str, str]]]  # transaction → (typology, scheme), in file order


def read(path: Path, *, beside: Path | None = None) -> Iterator[Batch]:
    """Reads `*_Trans.csv[.gz]`, with the `*_Patterns.txt[.gz]` that lies beside it, if one does.

    Args:
        beside: the source that the patterns lie beside, if not `path`.
    """
    file = locate(path, *_PLACES)
    schemes = _read_schemes(file if beside is None else locate(beside, *_PLACES))
    for rows in read_rows(file, [name for names in ORIGIN.values() for name in names], repeated=_REPEATED):
        raw = {field: rows.table[names[0]] for field, names in ORIGIN.items()}
        made = {
            "tx_id": columns.row_ids("amlworld", rows.numbers),
            "timestamp": columns.by_distinct(columns.utc_time, raw["timestamp"]),
            "amount_received": columns.number(raw["amount_received"]),
            "amount_paid": columns.number(raw["amount_paid"]),
            "currency_received": columns.by_distinct(columns.currency, raw["currency_received"]),
            "currency_paid": columns.by_distinct(columns.currency, raw["currency_paid"]),
            "sender_bank": columns.by_distinct(_without_leading_zeros, raw["sender_bank"]),
            "receiver_bank": columns.by_distinct(_without_leading_zeros, raw["receiver_bank"]),
            "sender_account": columns.text(raw["sender_account"]),
            "receiver_account": columns.text(raw["receiver_account"]),
            "payment_format": columns.by_distinct(columns.text, raw["payment_format"]),
        }
        laundering = columns.by_distinct(columns.flag, raw["is_laundering"])
        yield canonicalise(Draft(rows, made, _labels(made, laundering, schemes), ORIGIN))


def _labels(made: dict[str, Column], laundering: Column, schemes: Schemes) -> dict[str, Column]:
    """Labels of one stretch; the listings that it used are taken out of `schemes`."""
    count = len(laundering)
    shape: list[str | None] = [None] * count
    scheme: list[str | None] = [None] * count
    positions = pc.indices_nonzero(pc.fill_null(laundering, False))
    listed = pa.table({name: made[name] for name in _KEY}).take(positions)
    for position, key in zip(positions.to_pylist(), _keys(listed), strict=True):
        if schemes.get(key):
            shape[position], scheme[position] = schemes[key].popleft()
    return {
        "is_laundering": laundering,
        "typology": columns.typology(laundering, pa.array(shape, pa.string())),
        "scheme_id": pa.array(scheme, pa.string()),
    }


def _keys(table: pa.Table) -> Iterator[Key]:
    cells = [table[name].to_pylist() for name in _KEY]
    minutes = [time and time.replace(second=0) for time in cells[0]]
    return zip(minutes, *cells[1:], strict=True)


def _without_leading_zeros(banks: Column) -> Column:
    return pc.replace_substring_regex(columns.text(banks), r"^0+(.)", r"\1")


def _read_schemes(transactions: Path) -> Schemes:
    """The patterns file beside `transactions`; nothing where there is none.

    Raises:
        UnreadableFileError: naming the line that is not as published.
    """
    schemes: Schemes = defaultdict(deque)
    stem = transactions.name.split("_Trans.")[0]
    beside = [transactions.with_name(f"{stem}_Patterns.txt{suffix}") for suffix in ("", ".gz")]
    file = next((path for path in beside if path.is_file()), None)
    if file is None:
        return schemes
    shape, attempt = "", 0
    with open_text(file) as lines:
        for number, line in enumerate(lines, start=1):
            heading = _HEADING.match(line)
            if heading:
                shape, attempt = heading[1].lower().replace("-", "_"), attempt + 1
            elif line.strip() and not line.startswith("END "):
                try:
                    schemes[_listed_key(line)].append((shape, f"{shape}-{attempt}"))
                except ValueError as error:
                    raise UnreadableFileError(
                        f"not a transaction: {line.strip()[:80]!r}",
                        where=f"{file}:{number}",
                        mend="use the patterns file as published, or take it away",
                    ) from error
    return schemes


def _listed_key(line: str) -> Key:
    """The key of one transaction line of the patterns file; ValueError where it is not one."""
    time, from_bank, sender, to_bank, receiver, received, to_unit, paid, from_unit, kind, _ = (
        cell.strip() for cell in line.split(",")
    )
    return (
        datetime.fromisoformat(time.replace("/", "-")).replace(tzinfo=UTC, second=0),
        from_bank.lstrip("0") or "0",
        sender,
        to_bank.lstrip("0") or "0",
        receiver,
        float(received),
        CODE_BY_NAME.get(to_unit, to_unit),
        float(paid),
        CODE_BY_NAME.get(from_unit, from_unit),
        kind,
    )
