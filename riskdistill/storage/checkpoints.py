"""Copies SQLite's write-ahead log into the database beside those who write.

Left to them, one commit in hundreds would do it, and wait ten times as long as the others. A thread that copies
never comes to the end of a log that grows meanwhile, and only a log that was copied to its end is begun anew. So
once it is long, whoever writes copies the few pages that are left, between two of its commits. What is committed is
durable before as after; where this falls behind or fails, e.g. on a full disk, a commit does it as ever
(`riskdistill.storage.database`).
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Final

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

EVERY_SECONDS: Final = 0.1
LONG: Final = 2_000  # pages of the log


@contextmanager
def checkpointing(engine: Engine, every: float = EVERY_SECONDS) -> Iterator[Callable[[], None]]:
    """Inside, a thread does it so often; nothing where the database is no SQLite file.

    Gives what the writer is to call after its commits, once it has told of them.
    """
    if engine.dialect.name != "sqlite" or engine.url.database in (None, "", ":memory:"):
        yield lambda: None
        return
    over, is_long = threading.Event(), threading.Event()

    def run() -> None:
        while not over.wait(every):
            if _copied(engine) >= LONG:
                is_long.set()

    def finish() -> None:
        if is_long.is_set():
            is_long.clear()
            _copied(engine)

    thread = threading.Thread(target=run, name="checkpoints", daemon=True)
    thread.start()
    try:
        yield finish
    finally:
        over.set()
        thread.join()


def _copied(engine: Engine) -> int:
    """How many pages the log had, as far as can be copied now without waiting for anybody; 0 if none can."""
    with suppress(sqlite3.Error, SQLAlchemyError):
        connection = engine.raw_connection()  # outside any transaction
        try:
            _, pages, _ = connection.cursor().execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
            return int(pages)
        finally:
            connection.close()
    return 0
