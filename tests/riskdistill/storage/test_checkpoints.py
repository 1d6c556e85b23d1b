"""What is committed moves from the write-ahead log into the database without a writer's help."""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from riskdistill.storage import checkpoints
from riskdistill.storage.checkpoints import checkpointing
from riskdistill.storage.database import open_database


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    made = open_database(f"sqlite:///{tmp_path}/some.db")
    with made.begin() as connection:
        connection.execute(text("CREATE TABLE some (one INTEGER)"))
    return made


def rows_in_the_file(folder: Path) -> int:
    """What somebody reads who has the file alone."""
    copy = folder / "copy.db"
    copy.write_bytes((folder / "some.db").read_bytes())
    connection = sqlite3.connect(f"file:{copy}?immutable=1", uri=True)
    try:
        return int(connection.execute("SELECT count(*) FROM some").fetchone()[0])
    except sqlite3.OperationalError:  # not even the table
        return 0
    finally:
        connection.close()


def test_what_was_committed_comes_into_the_file_while_others_read_and_write(engine: Engine, tmp_path: Path) -> None:
    with checkpointing(engine, every=0.001):
        for number in range(20):
            with engine.begin() as connection:
                connection.execute(text("INSERT INTO some VALUES (:one)"), {"one": number})
        limit = threading.Event()
        while rows_in_the_file(tmp_path) < 20:
            assert not limit.wait(0.001)
    with engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM some")).scalar() == 20


def test_a_checkpoint_that_fails_is_tried_again_and_ends_with_the_block(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries, twice = 0, threading.Event()

    def fail() -> None:
        nonlocal tries
        tries += 1
        if tries == 2:
            twice.set()
        raise sqlite3.OperationalError("disk I/O error")

    monkeypatch.setattr(engine, "raw_connection", fail)
    with checkpointing(engine, every=0.001):
        assert twice.wait(20)
    assert not [one for one in threading.enumerate() if one.name == "checkpoints"]


def test_a_database_in_memory_needs_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoints, "_run", lambda *_: pytest.fail("a thread was started"))
    with checkpointing(open_database("sqlite://")):
        pass
