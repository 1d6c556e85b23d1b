"""Copies SQLite's write-ahead log into the database beside those who write.

Left to them, one commit in hundreds would do it, and wait ten times as long as the others. What is committed is
durable before as after; where this falls behind or fails, e.g. on a full disk, a commit does it as ever
(`riskdistill.storage.database`).
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

EVERY_SECONDS: Final = 0.1


@contextmanager
def checkpointing(engine: Engine, every: float = EVERY_SECONDS) -> Iterator[None]:
    """Inside, a thread does it so often; nothing where the database is no SQLite file."""
    if engine.dialect.name != "sqlite" or engine.url.database in (None, "", ":memory:"):
        yield
        return
    over = threading.Event()
    thread = threading.Thread(target=_run, args=(engine, every, over), name="checkpoints", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _run(engine: Engine, every: float, over: threading.Event) -> None:
    while not over.wait(every):
        with suppress(sqlite3.Error, SQLAlchemyError):
            connection = engine.raw_connection()  # outside any transaction
            try:
                connection.cursor().execute("PRAGMA wal_checkpoint(PASSIVE)")  # waits for nobody, and nobody for it
            finally:
                connection.close()
