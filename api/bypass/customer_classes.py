"""Which accounts a file puts into classes of customers that want the teacher; kept as pseudonyms only.

bank,account,class
BYLADEM1001,DE02120300000000202051,pep
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Final

from api.bypass.settings import CustomerClasses
from api.path.pseudonyms import Pseudonyms
from riskdistill.data import columns
from riskdistill.data.source import read_rows
from riskdistill.errors import DataError

_logger = logging.getLogger(__name__)
COLUMNS: Final = ("bank", "account", "class")
Account = tuple[str, str]  # bank and pseudonym


def accounts_of(settings: CustomerClasses | None, pseudonyms: Pseudonyms) -> frozenset[Account]:
    """The accounts of the chosen classes; none without a file. An account may have several classes.

    Raises:
        DataError: the file cannot be read, lacks a column, or a row of it lacks a value. Names the row, from 1.
    """
    if settings is None or settings.file is None:
        return frozenset()
    chosen: set[Account] = set()
    found: set[str] = set()
    for rows in read_rows(settings.file, COLUMNS):
        for malformed in rows.malformed:
            raise _wrong(settings.file, malformed.number, malformed.problem)
        values = [columns.text(rows.table[name]).to_pylist() for name in COLUMNS]
        for number, bank, account, kind in zip(rows.numbers.tolist(), *values, strict=True):
            if not (bank and account and kind):
                raise _wrong(settings.file, number, "bank, account or class is empty")
            if kind in settings.classes:
                found.add(kind)
                chosen.add((bank, pseudonyms.of(account)))
    for kind in sorted(settings.classes - found):
        _logger.warning("no account in %s is of class %r", settings.file, kind)
    return frozenset(chosen)


def _wrong(path: Path, row: int, what: str) -> DataError:
    return DataError(what, where=f"{path}, row {row}", mend=f"write {','.join(COLUMNS)}")
