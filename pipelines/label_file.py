"""Labels that arrive while a champion is watched: a file that someone extends or replaces."""

from __future__ import annotations

import logging
from pathlib import Path

import pyarrow as pa

from riskdistill.data.source import read_rows
from riskdistill.errors import DataError, UnreadableFileError

_TRUTH = {"true": True, "1": True, "false": False, "0": False}
_logger = logging.getLogger(__name__)


class LabelFile:
    """What a file says of transactions; called, it answers with the newest state that could be read.

    Args:
        path: Parquet or CSV with the columns `tx_id` and `is_laundering`; others are left alone.

    Raises:
        DataError: the file cannot be used. Later than at the start that is a warning, and what was known stays.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read_at = self._changed_at()
        self._labels = _read(path)

    def __call__(self) -> dict[str, bool]:
        """Whether each labelled transaction is laundering, by its id; read again if the file has changed."""
        try:
            changed_at = self._changed_at()
            if changed_at != self._read_at:
                self._labels = _read(self._path)
                self._read_at = changed_at
        except DataError as error:  # half written, or being replaced: the next call tries again
            _logger.warning("labels as they were before: %s", error)
        return self._labels

    def _changed_at(self) -> int:
        try:
            return self._path.stat().st_mtime_ns
        except OSError as error:
            raise UnreadableFileError(f"cannot be read: {error}", where=str(self._path)) from error


def _read(path: Path) -> dict[str, bool]:
    labels: dict[str, bool] = {}
    for rows in read_rows(path, ("tx_id", "is_laundering")):
        ids = rows.table["tx_id"].cast(pa.string()).to_pylist()
        told = rows.table["is_laundering"].cast(pa.string()).to_pylist()
        for tx_id, text in zip(ids, told, strict=True):
            if tx_id is None or text is None or text.strip().lower() not in _TRUTH:
                raise DataError(
                    f"is_laundering of transaction {tx_id} is {text}",
                    where=str(path),
                    mend="name each transaction, and write true or false",
                )
            labels[tx_id] = _TRUTH[text.strip().lower()]
    return labels
