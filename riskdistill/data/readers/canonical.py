"""Files whose columns are the canonical ones: what `riskdistill simulate` writes and `riskdistill score` takes.

CSV, gzipped CSV or Parquet with the columns of `schema.TRANSACTIONS`; countries, balances and customer fields may
be absent, other columns are left alone. Times in CSV carry a UTC offset. What is known may stand in the same file
(`is_laundering`, and `typology`, `scheme_id`, `known_at` where there are such) or in a `labels.parquet` beside
`transactions.parquet`, matched by `tx_id`; a transaction that has no label there goes to quarantine. A simulator's
`truth.parquet` beside it is carried along in the same way, apart from the labels. Rows of one timestamp arrived in
the file's order.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa

from riskdistill.data import columns
from riskdistill.data.columns import Column, pc
from riskdistill.data.readers import mapping
from riskdistill.data.schema import LABELS, TRANSACTIONS
from riskdistill.data.source import column_names, locate, read_rows
from riskdistill.data.validate import Batch, SeenIds, canonicalise
from riskdistill.errors import DataError, EmptyInputError

TRANSACTIONS_FILE: Final = "transactions.parquet"
LABELS_FILE: Final = "labels.parquet"
TRUTH_FILE: Final = "truth.parquet"
_PLACES: Final = (TRANSACTIONS_FILE, "transactions.csv*")
_NEEDED: Final = tuple(entry.name for entry in TRANSACTIONS if not entry.nullable)
_LABELS: Final = tuple(name for name in LABELS.names if name != "tx_id")


def read(path: Path, *, labelled: bool = True, beside: Path | None = None) -> Iterator[Batch]:
    """Reads such a file, or the folder that holds it as `transactions.parquet` or `transactions.csv[.gz]`.

    Args:
        labelled: whether to read labels; without, none are looked for, and no row fails for its label.
        beside: the source that labels and truth lie beside, if not `path`; where it is gone, so are they.
    """
    file = locate(path, *_PLACES)
    present = column_names(file)
    own = [name for name in _LABELS if name in present] if labelled else []
    needed = (*_NEEDED, "is_laundering") if own else _NEEDED
    home = locate(beside, *_PLACES) if beside is not None and beside.exists() else file
    known = _known_beside(home, LABELS_FILE) if labelled and not own else None
    truth = _known_beside(home, TRUTH_FILE) if labelled else None
    optional = [name for name in TRANSACTIONS.names if name in present] + (own if known is None else [*_LABELS])
    spelled = mapping.ColumnMapping(columns={name: name for name in (*needed, *optional)})
    seen = SeenIds()
    for rows in read_rows(file, needed):
        ids = columns.text(pc.fill_null(rows.table["tx_id"].cast(pa.string()), ""))
        labels = {} if known is None else known.of(ids)
        draft = mapping.draft(replace(rows, table=_with_columns(rows.table, labels)), spelled)
        yield canonicalise(draft if truth is None else replace(draft, truth=truth.of(ids)), seen)


class _KnownLabels:
    """A table of labels, found by transaction id without the order of the two files mattering."""

    def __init__(self, labels: pa.Table, file: Path) -> None:
        hashes = columns.hash64(columns.text(pc.fill_null(labels["tx_id"].cast(pa.string()), "")))
        self._row = np.argsort(hashes, kind="stable")
        self._hashes = hashes[self._row]
        self._labels = labels
        if (self._hashes[1:] == self._hashes[:-1]).any():
            raise DataError("a transaction has several labels", where=str(file), mend="keep one for each tx_id")

    def of(self, ids: Column) -> dict[str, Column]:
        """What is known of the transactions `ids`: the columns of LABELS but the id, null where nothing is."""
        place = np.searchsorted(self._hashes, columns.hash64(ids)).clip(max=len(self._hashes) - 1)
        found = self._labels.take(self._row[place])
        same = pc.equal(columns.text(found["tx_id"]), ids)
        return {name: columns.only_where(same, found[name]) for name in _LABELS}


def _with_columns(table: pa.Table, more: dict[str, Column]) -> pa.Table:
    for name, column in more.items():
        table = table.append_column(name, column)
    return table


def read_labels(file: Path) -> pa.Table:
    """The labels in a Parquet file, in schema LABELS.

    Raises:
        DataError: absent columns, damaged, or a row that is no label.
    """
    try:
        return _labels_in(file).cast(LABELS)
    except EmptyInputError:
        return LABELS.empty_table()
    except (pa.ArrowException, ValueError) as error:
        raise DataError(
            f"not canonical labels: {error}", where=str(file), mend="take those that ingest or labels export wrote"
        ) from error


def _labels_in(file: Path) -> pa.Table:
    return pa.concat_tables(rows.table.select(LABELS.names) for rows in read_rows(file, LABELS.names))


def _known_beside(transactions: Path, name: str) -> _KnownLabels | None:
    """The labels in the file `name` beside `transactions.parquet`; None where it is not, or holds no row.

    Raises:
        DataError: absent columns, damaged, or several labels for one transaction.
    """
    file = transactions.with_name(name)
    if transactions.name != TRANSACTIONS_FILE or not file.is_file():
        return None
    try:
        labels = _labels_in(file)
    except EmptyInputError:
        return None
    if name == TRUTH_FILE and labels.schema.types != LABELS.types:
        raise DataError("its columns are not of the types of labels", where=str(file), mend="simulate again")
    return _KnownLabels(labels, file)
