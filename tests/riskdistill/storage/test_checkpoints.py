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
    except sqlite3.DatabaseError:  # not even the table, or half of a page
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


@pytest.mark.parametrize(("long", "copies"), [(0, 1), (10**9, 0)])
def test_the_writer_copies_what_is_left_of_a_long_log_once(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, long: int, copies: int
) -> None:
    copied, by, looked = checkpoints._copied, list[str](), threading.Semaphore(0)

    def spy(engine: Engine) -> int:
        by.append(threading.current_thread().name)
        if by[-1] == "checkpoints":
            looked.release()
        return copied(engine)

    monkeypatch.setattr(checkpoints, "LONG", long)
    monkeypatch.setattr(checkpoints, "_copied", spy)
    with checkpointing(engine, every=0.001) as finish:
        looked.acquire()
        looked.acquire()  # what the first look found is known by now
        finish()
    assert len([one for one in by if one != "checkpoints"]) == copies


def test_a_log_that_was_copied_to_its_end_is_begun_anew(engine: Engine, tmp_path: Path) -> None:
    def written() -> bytes:
        with engine.begin() as connection:
            connection.execute(text("INSERT INTO some VALUES (1)"))
        return (tmp_path / "some.db-wal").read_bytes()[16:24]  # drawn anew whenever it is begun

    drawn = written()
    assert written() == drawn
    assert checkpoints._copied(engine) > 0
    assert written() != drawn


def test_a_writer_that_cannot_finish_a_checkpoint_goes_on(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(engine, "raw_connection", fail)
    assert checkpoints._copied(engine) == 0


def test_a_database_in_memory_needs_none() -> None:
    with checkpointing(open_database("sqlite://")) as finish:
        assert not [one for one in threading.enumerate() if one.name == "checkpoints"]
        finish()
