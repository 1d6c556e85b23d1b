"""The database opens durable, refuses in one line what it cannot open, and makes no file for a reader."""

from __future__ import annotations

import traceback
from pathlib import Path

import pytest
from sqlalchemy import text

from riskdistill.errors import ConfigError
from riskdistill.storage.database import open_database, writing


def test_sqlite_is_opened_in_durable_wal_mode(tmp_path: Path) -> None:
    engine = open_database(f"sqlite:///{tmp_path}/log.db")
    with engine.connect() as connection:
        pragma = {
            name: connection.execute(text(f"PRAGMA {name}")).scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        }
    engine.dispose()
    assert pragma == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "busy_timeout": 5000}


def test_a_writing_transaction_keeps_other_writers_out_from_its_start(tmp_path: Path) -> None:
    engine = open_database(f"sqlite:///{tmp_path}/log.db")
    with writing(engine, "decisions"), engine.connect() as other:
        other.exec_driver_sql("PRAGMA busy_timeout = 0")
        with pytest.raises(Exception, match="locked"):
            other.execute(text("CREATE TABLE late (x)"))
    engine.dispose()


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("not a url", "URL"),
        ("nosuchengine://host/db", "nosuchengine"),
        ("sqlite:////no/such/folder/log.db", "folder"),
    ],
)
def test_a_url_that_cannot_be_opened_is_a_configuration_error(url: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        open_database(url)


def test_a_file_that_is_no_database_is_a_configuration_error(tmp_path: Path) -> None:
    (tmp_path / "log.db").write_bytes(b"this is a text file, and long enough to have a header" * 20)
    with pytest.raises(ConfigError, match="not a database"):
        open_database(f"sqlite:///{tmp_path}/log.db")


def test_a_reader_does_not_create_a_missing_database(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no database there"):
        open_database(f"sqlite:///{tmp_path}/log.db", create=False)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "url",
    [
        "nosuchengine://user:secret-word@host/db",
        "secret-word",
        "sqlite+pysqlite://user:pass/secret-word@host",
        "postgresql://user:pass@1:secret-word@host/db",
        "postgresql://user:pass@host:secret-word/db",
        "sqlite:////dev/null/log.db?password=secret-word",
    ],
)
def test_a_password_in_the_url_is_not_shown(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        open_database(url)
    assert "secret-word" not in "".join(traceback.format_exception(caught.value, chain=False))


@pytest.mark.filterwarnings("ignore:Query string argument")  # SQLite knows no password
def test_a_password_is_not_shown_where_nothing_opens(tmp_path: Path) -> None:
    (tmp_path / "log.db").write_bytes(b"this is a text file, and long enough to have a header" * 20)
    with pytest.raises(ConfigError, match="not a database") as caught:
        open_database(f"sqlite:///{tmp_path}/log.db?password=secret-word")
    assert "secret-word" not in str(caught.value)
