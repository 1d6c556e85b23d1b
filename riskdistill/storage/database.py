"""Opens the database that holds the logs, so that what is committed survives a loss of power.

SQLite is the default (one file, one writer at a time); any other SQLAlchemy URL is passed through.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from riskdistill.errors import ConfigError

BUSY_TIMEOUT_MS: Final = 5_000  # how long a writer waits for another process's transaction
_WRITES: Final = "riskdistill_writes"


def open_database(url: str, *, create: bool = True) -> Engine:
    """Engine for a SQLAlchemy `url` such as `sqlite:///state/decisions.db`, checked by one connection.

    Args:
        url: where the database is. `sqlite://` is in memory, for examples: each thread sees its own.
        create: make a missing SQLite file. Readers such as an audit pass False, so that a mistyped path is
            an error and not an empty log.

    Raises:
        ConfigError: the URL does not parse, its driver is not installed, or nothing opens there.
    """
    try:
        address = make_url(url)
        _check_file(address, create)
        engine = create_engine(address, pool_pre_ping=True)
    except (ArgumentError, ModuleNotFoundError) as error:
        raise ConfigError(
            f"the database URL cannot be used: {error}", mend="write it as sqlite:///path/to/file.db"
        ) from error
    except ValueError:  # not chained: it quotes a piece of the URL, which may be one of the password
        raise ConfigError(
            "the database URL cannot be used: its port is not a number",
            mend="write it as engine://user:password@host:port/name, with %-codes for signs in the password",
        ) from None
    if address.get_backend_name() == "sqlite":
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
    try:
        engine.connect().close()
    except SQLAlchemyError as error:
        engine.dispose()
        place = address.set(query={}).render_as_string(hide_password=True)  # a query may hold a password too
        cause = getattr(error, "orig", None) or error
        raise ConfigError(
            f"the database does not open: {cause}", where=place, mend="check the path and its permissions"
        ) from error
    return engine


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """A transaction that holds SQLite's write lock from its first statement.

    What it reads is therefore still true when it writes; without that, two processes could chain to one head.
    """
    with engine.connect().execution_options(**{_WRITES: True}) as connection, connection.begin():
        yield connection


def _check_file(address: URL, create: bool) -> None:
    if address.get_backend_name() != "sqlite" or address.database in (None, "", ":memory:"):
        return
    path = Path(str(address.database))
    if not create and not path.is_file():
        raise ConfigError("no database there", where=str(path), mend="check the path")
    if create and not path.parent.is_dir():
        raise ConfigError("the database's folder does not exist", where=str(path.parent), mend="create it")


def _prepare_sqlite(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # the driver's own BEGIN comes too late; `_begin_sqlite` sends it
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
    cursor.execute("PRAGMA journal_mode = WAL")
    cursor.execute("PRAGMA synchronous = FULL")  # in WAL mode NORMAL may lose the last commits with the power
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    writes = connection.get_execution_options().get(_WRITES, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
