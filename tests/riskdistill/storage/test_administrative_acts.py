"""The act log: acts are kept in order, and tampering is named."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from databases import execute
from sqlalchemy.exc import DatabaseError

from riskdistill.errors import AuditError, ConfigError, UnavailableError
from riskdistill.storage.administrative_acts import ActLog
from riskdistill.storage.chain import GENESIS
from riskdistill.storage.database import open_database

MADE = {"actor": "ann", "act": "key.created", "subject": "payments"}


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
    engine = open_database(url)
    with pytest.raises(DatabaseError, match="append-only"), engine.begin() as connection:
        connection.exec_driver_sql(tampering)
    execute(url, tampering)
    with pytest.raises(AuditError, match="entry 2 is missing, was changed"):
        log.verify()


def test_a_log_that_is_not_there_is_not_made_by_a_reader(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no database there"):
        ActLog(f"sqlite:///{tmp_path}/none.db", create=False)


def test_a_database_without_the_log_says_so(url: str) -> None:
    open_database(url).dispose()
    log = ActLog(url, create=False)
    with pytest.raises(UnavailableError, match="act log cannot be used"):
        log.read()


def test_several_that_start_at_once_make_one_chain(url: str) -> None:
    with ThreadPoolExecutor(4) as pool:
        logs = list(pool.map(ActLog, [url] * 4))
        list(pool.map(lambda log: [log.append(**MADE) for _ in range(3)], logs))
    assert logs[0].verify().entries == 12
