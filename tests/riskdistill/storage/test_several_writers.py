"""Several writers on one log, and a server that goes away and comes back."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import sqlalchemy as sa
from databases import closing_engines, new_url
from sqlalchemy import text
from stored_decisions import make

from riskdistill.errors import ConflictError, UnavailableError
from riskdistill.storage.acts import NEWEST
from riskdistill.storage.database import open_database
from riskdistill.storage.decisions import DecisionLog


def test_writers_at_the_same_time_make_one_chain(url: str) -> None:
    logs = [DecisionLog(url) for _ in range(4)]

    def write(writer: int) -> None:
        for lot in range(5):
            logs[writer].append([make(100 * writer + 10 * lot + one) for one in range(3)])

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(4)))
    assert logs[0].verify().entries == 60
    assert len({entry.decision.tx_id for entry in logs[0].read()}) == 60


def test_of_two_writers_with_the_same_transaction_one_is_told(url: str) -> None:
    logs, start = [DecisionLog(url) for _ in range(2)], threading.Barrier(2)

    def write(writer: int) -> bool:
        start.wait(10)
        try:
            logs[writer].append([make(1, decision_id=f"of-{writer}")])
        except ConflictError:
            return False
        return True

    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(write, range(2))) == [False, True]
    assert logs[0].verify().entries == 1


@pytest.fixture
def postgresql(tmp_path: Path) -> Iterator[str]:
    with closing_engines():
        yield from (new() for new in new_url("postgresql", tmp_path))


def test_connections_that_the_server_closed_are_replaced(postgresql: str) -> None:
    log, other = DecisionLog(postgresql), open_database(postgresql)
    log.append([make(1)])
    with log.engine.connect() as idle:
        process = idle.execute(text("SELECT pg_backend_pid()")).scalar()
    with other.connect() as connection:
        connection.execute(text("SELECT pg_terminate_backend(:process)"), {"process": process})
    log.append([make(2)])
    assert log.verify().entries == 2


def test_a_connection_lost_in_the_middle_of_an_append_stores_nothing_and_says_so(postgresql: str) -> None:
    log, other = DecisionLog(postgresql), open_database(postgresql)

    def lose(connection: sa.Connection, _cursor: object, statement: str, *_: object) -> None:
        if statement == NEWEST:
            process = connection.execute(text("SELECT pg_backend_pid()")).scalar()
            with other.connect() as operator:
                operator.execute(text("SELECT pg_terminate_backend(:process)"), {"process": process})

    sa.event.listen(log.engine, "after_cursor_execute", lose)
    with pytest.raises(UnavailableError, match="the database does not answer"):
        log.append([make(1)])
    sa.event.remove(log.engine, "after_cursor_execute", lose)
    log.append([make(1)])
    assert log.verify().entries == 1


def test_a_server_that_is_away_is_told_without_its_address(
    postgresql: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = DecisionLog(postgresql)
    log.engine.dispose()
    gone = log.engine.url.set(host="127.0.0.1", port=1)
    away = sa.create_engine(gone)
    monkeypatch.setattr(log, "engine", away)
    with pytest.raises(UnavailableError) as caught:
        log.append([make(1)])
    assert "the database does not answer" in str(caught.value)
    assert "127.0.0.1" not in str(caught.value)
    away.dispose()


def test_commits_are_on_disk_before_they_are_told(postgresql: str) -> None:
    log = DecisionLog(postgresql)
    with log.writing() as connection:
        assert connection.execute(text("SHOW synchronous_commit")).scalar() == "on"
        assert connection.execute(text("SHOW transaction_isolation")).scalar() == "read committed"
