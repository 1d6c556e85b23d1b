"""Labels that arrive while a champion is watched: a file that someone extends or replaces."""

from __future__ import annotations

import logging
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

from monitoring.labels import Outcome
from riskdistill.data.source import read_rows
from riskdistill.errors import DataError, UnreadableFileError

_TRUTH = {"true": True, "1": True, "false": False, "0": False}
_logger = logging.getLogger(__name__)


class LabelFile:
    """What a file says of transactions; called, it answers with the newest state that could be read.

    Args:
        path: Parquet or CSV with the columns `tx_id`, `is_laundering` and, where it is known, `known_at`; others
            are left alone.

    Raises:
        DataError: the file cannot be used. Later than at the start that is a warning, and what was known stays.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read_at = self._changed_at()
        self._labels = read_outcomes(path)

    def __call__(self) -> dict[str, Outcome]:
        """What the file says of each transaction, by its id; read again if the file has changed."""
        try:
            changed_at = self._changed_at()
            if changed_at != self._read_at:
                self._labels = read_outcomes(self._path)
                self._read_at = changed_at
        except DataError as error:  # half written, or being replaced: the next call tries again
            _logger.warning("labels as they were before: %s", error)
        return self._labels

    def _changed_at(self) -> int:
        try:
            return self._path.stat().st_mtime_ns
        except OSError as error:
            raise UnreadableFileError(f"cannot be read: {error}", where=str(self._path)) from error


def read_outcomes(path: Path) -> dict[str, Outcome]:
    """The labels of a file by transaction id, with the column `known_at` where it has one.

    Raises:
        DataError: the file cannot be used, or a row is none.
    """
    outcomes: dict[str, Outcome] = {}
    for rows in read_rows(path, ("tx_id", "is_laundering")):
        ids = rows.table["tx_id"].cast(pa.string()).to_pylist()
        told = rows.table["is_laundering"].cast(pa.string()).to_pylist()
        since: list[datetime | None] = [None] * len(ids)
        if "known_at" in rows.table.column_names:
            since = _instants(rows.table["known_at"], path)
        for tx_id, text, known_at in zip(ids, told, since, strict=True):
            if tx_id is None or text is None or text.strip().lower() not in _TRUTH:
                raise DataError(
                    f"is_laundering of transaction {tx_id} is {text}",
                    where=str(path),
                    mend="name each transaction, and write true or false",
                )
            verdict, before = _TRUTH[text.strip().lower()], outcomes.get(tx_id)
            outcomes[tx_id] = (
                Outcome(verdict, known_at) if before is None else before._replace(again=verdict, again_at=known_at)
            )
    return outcomes


def _instants(column: pa.ChunkedArray[Any], path: Path) -> list[datetime | None]:
    try:
        return column.cast(pa.timestamp("us", "UTC")).to_pylist()  # type: ignore[no-any-return]
    except pa.ArrowInvalid as error:
        raise DataError(
            f"known_at cannot be read: {error}", where=str(path), mend="write it as 2026-01-01T00:00:00Z"
        ) from error
