"""The act log: acts are kept in order, and tampering is named."""

from __future__ import annotations

import math
import os
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import sqlalchemy as sa

from riskdistill.errors import AuditError, ConfigError, UnavailableError
from riskdistill.storage.administrative_acts import ActLog
from riskdistill.storage.chain import GENESIS

POSTGRESQL = os.environ.get("RISKDISTILL_TEST_POSTGRESQL", "postgresql+psycopg://root@127.0.0.1:5432/test")
MADE = {"actor": "ann", "act": "key.created", "subject": "payments"}


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/acts.db"


def test_acts_are_kept_in_order_with_who_what_and_when(url: str) -> None:
    log = ActLog(url)
    assert log.verify() == (0, GENESIS, 0)
    first = log.append(**MADE, details={"scopes": ["score"], "rate": None})
    second = log.append(actor="bob", act="key.revoked", subject="payments")
    assert log.read() == (first, second)
    assert (first.sequence, first.actor, first.details) == (1, "ann", {"scopes": ["score"], "rate": None})
    assert first.at.tzinfo is not None
    assert log.read(after=1) == (second,)
    assert log.read(limit=1) == (first,)
    assert log.verify() == (2, second.hash, 0)
    assert ActLog(url, create=False).read() == (first, second)


@pytest.mark.parametrize("field", ["actor", "act", "subject"])
def test_an_act_needs_all_of_its_names(url: str, field: str) -> None:
    with pytest.raises(ConfigError, match="needs an actor"):
        ActLog(url).append(**MADE | {field: " "})


@pytest.mark.parametrize("value", [math.nan, object()])
def test_details_are_json(url: str, value: object) -> None:
    log = ActLog(url)
    with pytest.raises(ConfigError, match="details cannot be stored"):
        log.append(**MADE, details={"x": value})
    assert log.read() == ()


@pytest.mark.parametrize(
    "tampering",
    [
        "UPDATE administrative_acts SET body = replace(body, 'ann', 'eve') WHERE sequence = 2",
        "DELETE FROM administrative_acts WHERE sequence = 2",
        "UPDATE administrative_acts SET sequence = 9 WHERE sequence = 2",
        "UPDATE administrative_acts SET hash = 'x' WHERE sequence = 2",
    ],
)
def test_tampering_is_forbidden_and_named(url: str, tampering: str) -> None:
    log = ActLog(url)
    for _ in range(3):
        log.append(**MADE)
    engine = sa.create_engine(url)
    with pytest.raises(sa.exc.IntegrityError, match="append-only"), engine.begin() as connection:
        connection.exec_driver_sql(tampering)
    with engine.begin() as connection:
        for verb in ("update", "delete"):
            connection.exec_driver_sql(f"DROP TRIGGER administrative_acts_no_{verb}")
        connection.exec_driver_sql(tampering)
    engine.dispose()
    with pytest.raises(AuditError, match="entry 2 is missing, was changed"):
        log.verify()


def test_writers_of_several_threads_make_one_chain(url: str) -> None:
    ActLog(url).close()

    def write(number: int) -> None:
        log = ActLog(url)
        log.append(**MADE, details={"number": number})
        log.close()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(12)))
    log = ActLog(url)
    assert log.verify().entries == 12
    assert {act.details["number"] for act in log.read()} == set(range(12))


def test_a_log_that_is_not_there_is_not_made_by_a_reader(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no database there"):
        ActLog(f"sqlite:///{tmp_path}/none.db", create=False)


def test_a_database_without_the_log_says_so(url: str) -> None:
    sa.create_engine(url).connect().close()
    log = ActLog(url, create=False)
    with pytest.raises(UnavailableError, match="act log cannot be used"):
        log.read()


@pytest.fixture
def postgresql() -> Iterator[str]:
    """A URL with a schema of its own, dropped at the end."""
    schema = f"acts_{uuid.uuid4().hex[:12]}"
    try:
        engine = sa.create_engine(POSTGRESQL, connect_args={"connect_timeout": 3})
        with engine.begin() as connection:
            connection.exec_driver_sql(f"CREATE SCHEMA {schema}")
    except (sa.exc.SQLAlchemyError, ModuleNotFoundError) as error:
        if os.environ.get("RISKDISTILL_REQUIRE_SERVICES") == "1":
            raise
        pytest.skip(f"no PostgreSQL to test with: {error}")
    yield f"{POSTGRESQL}?options=-csearch_path%3D{schema}"
    with engine.begin() as connection:
        connection.exec_driver_sql(f"DROP SCHEMA {schema} CASCADE")
    engine.dispose()


def test_it_lives_in_postgresql_too(postgresql: str) -> None:
    with ThreadPoolExecutor(4) as pool:
        logs = list(pool.map(ActLog, [postgresql] * 4))
        list(pool.map(lambda log: [log.append(**MADE) for _ in range(3)], logs))
    assert logs[0].verify().entries == 12
    for log in logs:
        log.close()
