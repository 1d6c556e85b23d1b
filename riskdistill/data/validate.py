"""Canonical checks on whole columns: good rows go on, the others go aside with a reason. None vanishes.

The rules are those of `transaction.Transaction`, which checks one transaction; the limits of both are in
`schema`. `canonical` applies the same rules to tables that no reader made. A reason reads
`<field> <problem>: <the source's own spelling>` and names the first rule broken.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from riskdistill.data.columns import Column, hash64, pc
from riskdistill.data.currencies import CURRENCY_CODES
from riskdistill.data.schema import (
    CUSTOMER_CLASSES,
    EARLIEST,
    LABELS,
    LATEST,
    MAX_CLASS_LENGTH,
    MAX_FORMAT_LENGTH,
    MAX_ID_LENGTH,
    MAX_YEAR,
    MIN_YEAR,
    QUARANTINE,
    RANGES,
    TIMESTAMP,
    TRANSACTIONS,
)
from riskdistill.data.source import Rows
from riskdistill.data.transaction import OFFSET_EXAMPLE, nearest_currencies

TEXT_LIMITS: Final = {
    "tx_id": MAX_ID_LENGTH,
    "sender_account": MAX_ID_LENGTH,
    "sender_bank": MAX_ID_LENGTH,
    "receiver_account": MAX_ID_LENGTH,
    "receiver_bank": MAX_ID_LENGTH,
    "payment_format": MAX_FORMAT_LENGTH,
}
CURRENCIES: Final = ("currency_paid", "currency_received")
COUNTRIES: Final = ("sender_country", "receiver_country")
_CODES: Final = pa.array(CURRENCY_CODES)
SHOWN: Final = 60  # characters of a value in a reason; `raw` holds it whole

Flags = npt.NDArray[np.bool_]
Rule = tuple[str, str, Column]  # problem, mend, and whether each value breaks the rule: bool[n] without nulls


@dataclass(frozen=True)
class Batch:
    """A stretch of a source in canonical form.

    Attributes:
        transactions: schema TRANSACTIONS, in the source's order.
        labels: schema LABELS, one for each transaction in the same order, or empty where the source has none.
        rejected: schema QUARANTINE.
        numbers: int64[n], the row of the source that each transaction was.
        columns: the source's own.
        truth: schema LABELS, what a simulator knows to be true of each transaction; empty where nobody does. Never
            mixed into `labels`, and for evaluation only.
        set_up: rows of the source that are no traffic (opening balances).
        coarse: as `Draft.coarse`.
    """

    transactions: pa.Table
    labels: pa.Table
    rejected: pa.Table
    numbers: npt.NDArray[np.int64]
    columns: tuple[str, ...]
    truth: pa.Table = field(default_factory=LABELS.empty_table)
    set_up: int = 0
    coarse: bool = False

    @property
    def rows_read(self) -> int:
        return int(self.transactions.num_rows + self.rejected.num_rows + self.set_up)

    def only(self, kept: Flags) -> Batch:
        """The batch with those of its transactions, labels and truth for which `kept` (bool[n]) is true."""
        return replace(
            self,
            transactions=_kept_rows(self.transactions, kept),
            labels=_kept_rows(self.labels, kept),
            numbers=self.numbers[kept],
            truth=_kept_rows(self.truth, kept),
        )


@dataclass(frozen=True)
class Draft:
    """What a reader made of some rows, unchecked: null where it could not read a value.

    Attributes:
        rows: the rows as the source has them.
        transactions: canonical column → values, of the canonical type. In an optional column null is "not known"
            and NaN is a number that the reader could not read.
        labels: `is_laundering`, `typology`, `scheme_id` and perhaps `known_at`; nothing for a source without
            labels. Without `known_at`, a label counts as known when its transaction happened.
        origin: canonical column → the source columns that it was made from, for the reasons.
        truth: as `labels`, all four columns, null for a transaction whose truth is missing; nothing for a source
            without truth.
        set_up: rows that the reader left out because they are no traffic.
        coarse: the source stamps by the day or the hour and does not say what came first within it, so that the
            order of such rows must not be used (see `order`).
    """

    rows: Rows
    transactions: Mapping[str, Column]
    labels: Mapping[str, Column]
    origin: Mapping[str, tuple[str, ...]]
    truth: Mapping[str, Column] = field(default_factory=dict)
    set_up: int = 0
    coarse: bool = False


@dataclass
class SeenIds:
    """The ids met so far, as 64-bit hashes in sorted runs of doubling length: 8 bytes an id.

    Two different ids share a hash once in some 10^7 files of a million rows; the later row would then stand
    in quarantine as a duplicate, where it can be seen.
    """

    _runs: list[npt.NDArray[np.uint64]] = field(default_factory=list)

    def repeats(self, ids: Column) -> Flags:
        """bool[n]: true for an id that came before, in `ids` or in an earlier call."""
        hashes = hash64(ids)
        fresh, first = np.unique(hashes, return_index=True)
        repeated = np.ones(len(hashes), dtype=np.bool_)
        repeated[first] = False
        for run in self._runs:
            place = np.minimum(np.searchsorted(run, hashes), len(run) - 1)
            repeated |= run[place] == hashes
        self._add(fresh)
        return repeated

    def _add(self, run: npt.NDArray[np.uint64]) -> None:
        while self._runs and len(self._runs[-1]) <= len(run):
            run = np.union1d(self._runs.pop(), run)
        if len(run):
            self._runs.append(run)


def canonicalise(draft: Draft, seen: SeenIds | None = None) -> Batch:
    """Parts the rows of `draft` into canonical ones and rejected ones.

    Args:
        draft: what a reader made of a stretch of its source.
        seen: the ids of earlier stretches, to find duplicates; None where ids were made from row numbers.
    """
    count = len(draft.rows.numbers)
    broken = np.full(count, -1, dtype=np.int16)
    rules: list[tuple[str, str]] = []
    for name, problem, bad in _broken_rules(draft):
        if pc.any(bad).as_py():
            broken[(broken < 0) & bad.to_numpy(zero_copy_only=False)] = len(rules)
            rules.append((name, problem))
    if seen is not None:
        usable = np.flatnonzero(broken < 0)
        repeated = seen.repeats(draft.transactions["tx_id"].take(pa.array(usable)))
        broken[usable[repeated]] = len(rules)
        rules.append(("tx_id", "is a duplicate of an earlier row's"))
    good = broken < 0
    fields, labels, truth = (_only(known, good) for known in (draft.transactions, draft.labels, draft.truth))
    return Batch(
        _transactions(fields, int(good.sum())),
        _labels(fields, labels),
        _rejected(draft, broken, rules),
        draft.rows.numbers[good],
        tuple(draft.rows.table.column_names),
        _labels(fields, truth),
        draft.set_up,
        draft.coarse,
    )


def _kept_rows(table: pa.Table, kept: Flags) -> pa.Table:
    """The rows of `table` that are kept; a table without rows has none to lose."""
    return table if not table.num_rows or kept.all() else table.filter(pa.array(kept))


def _only(columns: Mapping[str, Column], kept: Flags) -> Mapping[str, Column]:
    mask = pa.array(kept)
    return columns if kept.all() else {name: column.filter(mask) for name, column in columns.items()}


def _transactions(fields: Mapping[str, Column], count: int) -> pa.Table:
    columns = {entry.name: fields.get(entry.name, pa.nulls(count, entry.type)) for entry in TRANSACTIONS}
    return pa.table(columns, schema=TRANSACTIONS)


def _labels(fields: Mapping[str, Column], known: Mapping[str, Column]) -> pa.Table:
    """`known` (labels or truth) as a table, whose times are the transactions' own where it has none."""
    if not known:
        return LABELS.empty_table()
    columns = {"tx_id": fields["tx_id"], "known_at": fields["timestamp"], **known}
    return pa.table({name: columns[name] for name in LABELS.names}, schema=LABELS)


def _broken_rules(draft: Draft) -> Iterator[tuple[str, str, Column]]:
    """(field, problem, bool[n] without nulls) for every rule."""
    fields = draft.transactions
    for name, limit in TEXT_LIMITS.items():
        yield from _of(name, text_rules(fields[name], limit))
    yield from _of("timestamp", time_rules(fields["timestamp"]))
    for name in RANGES:
        if name in fields:
            yield from _number_rules(name, fields[name])
    for name in CURRENCIES:
        yield from _of(name, currency_rules(fields[name]))
    for name in COUNTRIES:
        if name in fields:
            yield from _of(name, country_rules(fields[name]))
    for name in CUSTOMER_CLASSES:
        if name in fields:
            yield from _of(name, class_rules(fields[name]))
    if draft.labels:
        yield "is_laundering", "is neither yes nor no", pc.is_null(draft.labels["is_laundering"])
    if "known_at" in draft.labels:
        yield from _of("known_at", time_rules(draft.labels["known_at"]))
    if draft.truth:
        yield "tx_id", "has no truth", pc.is_null(draft.truth["is_laundering"])


def _of(name: str, rules: Iterator[Rule]) -> Iterator[tuple[str, str, Column]]:
    return ((name, problem, bad) for problem, _, bad in rules)


def text_rules(column: Column, limit: int) -> Iterator[Rule]:
    """Of an id, a bank or a format, which the reader has trimmed: something, at most `limit` characters, printable.

    Args:
        column: text; null counts as empty.
    """
    length = pc.utf8_length(column)
    yield "is empty", "give the source's own id or name", pc.fill_null(pc.equal(length, 0), True)
    yield f"is longer than {limit} characters", "shorten it", _holds(pc.greater(length, limit))
    if pc.all(pc.ascii_is_printable(column)).as_py() is False:  # a tenth of the cost of the search
        control = pc.match_substring_regex(column, r"[\x00-\x1f\x7f]")
        yield "holds control characters", "give printable text", _holds(control)


def class_rules(column: Column) -> Iterator[Rule]:
    """Of classes of customers, which the reader has trimmed: as `text_rules`, or null where not known."""
    unknown = pc.is_null(column)
    for problem, mend, bad in text_rules(column, MAX_CLASS_LENGTH):
        yield problem, f"{mend}; null where it is not known", pc.and_not(bad, unknown)


def time_rules(column: Column) -> Iterator[Rule]:
    """Of times of type TIMESTAMP: there, and within the years that `schema` allows."""
    yield "cannot be read as a time in UTC", OFFSET_EXAMPLE, pc.is_null(column)
    early = pc.less(column, pa.scalar(EARLIEST, TIMESTAMP))
    late = pc.greater_equal(column, pa.scalar(LATEST, TIMESTAMP))
    mend = "correct it, or leave the row out"
    yield f"is not between {MIN_YEAR} and {MAX_YEAR}", mend, _holds(pc.or_(early, late))


def currency_rules(column: Column) -> Iterator[Rule]:
    """Of currencies: one of `CURRENCY_CODES`."""
    unknown = pc.invert(pc.is_in(column, value_set=_CODES))
    yield "is not a known currency", f"use one of {', '.join(CURRENCY_CODES)}", unknown


def country_rules(column: Column) -> Iterator[Rule]:
    """Of countries: two capitals, or null where not known."""
    two_capitals = pc.match_substring_regex(column, r"^[A-Z]{2}$")
    bad = pc.invert(pc.fill_null(two_capitals, True))
    yield "is not an ISO 3166 code of two capitals", "give the code, e.g. GB; null where it is not known", bad


def _number_rules(name: str, column: Column) -> Iterator[tuple[str, str, Column]]:
    least, most = RANGES[name]
    if TRANSACTIONS.field(name).nullable:
        yield name, "is not a finite number", pc.invert(pc.fill_null(pc.is_finite(column), True))
    else:
        yield name, "is not a number", pc.is_null(column)
        yield name, "is not finite", pc.invert(pc.fill_null(pc.is_finite(column), True))
    yield name, f"is below {least:g}" if least else "is negative", _holds(pc.less(column, least))
    yield name, f"is above {most:g}", _holds(pc.greater(column, most))


def _holds(mask: Column) -> Column:
    return pc.fill_null(mask, False)


def _rejected(draft: Draft, broken: npt.NDArray[np.int16], rules: list[tuple[str, str]]) -> pa.Table:
    entries: list[dict[str, Any]] = []
    bad = np.flatnonzero(broken >= 0)
    for position, raw in zip(bad.tolist(), draft.rows.table.take(bad).to_pylist(), strict=True):
        name, problem = rules[broken[position]]
        value = _spelling(draft, name, position, raw)
        reason = f"{name} {problem}: {value[:SHOWN]!r}"
        entries.append(
            {
                "source_row": int(draft.rows.numbers[position]),
                "reason": reason + _mend(name, value),
                "raw": json.dumps(raw, default=str, ensure_ascii=False),
            }
        )
    for row in draft.rows.malformed:
        raw_line = json.dumps({"line": row.text}, ensure_ascii=False)
        reason = f"{row.problem}: {row.text[:SHOWN]!r}"
        entries.append({"source_row": row.number, "reason": reason, "raw": raw_line})
    return pa.Table.from_pylist(entries, schema=QUARANTINE).sort_by("source_row")


def _mend(name: str, value: str) -> str:
    """What may have been meant, to go behind a reason; empty where nothing is near."""
    if name.startswith("currency_"):
        near = nearest_currencies(value)
        return f"; did you mean {' or '.join(near)}?" if near else ""
    if name in ("timestamp", "known_at"):
        with suppress(ValueError):
            return f"; {OFFSET_EXAMPLE}" if datetime.fromisoformat(value).tzinfo is None else ""
    return ""


def _spelling(draft: Draft, name: str, position: int, raw: Mapping[str, Any]) -> str:
    """What the source wrote for the canonical field `name`; the canonical value where it wrote nothing."""
    if name in draft.origin:
        return " ".join("" if raw[column] is None else str(raw[column]) for column in draft.origin[name])
    made = draft.transactions.get(name, draft.labels.get(name))
    return "" if made is None else str(made[position].as_py())
