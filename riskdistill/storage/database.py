"""Opens the database that holds the logs, so that what is committed survives a loss of power.

SQLite is the default (one file, one writer at a time); PostgreSQL serves several writers (`pip install
'riskdistill[postgres]'`, psycopg 3). Any other SQLAlchemy URL is passed through, with no promise.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from time import monotonic, sleep
from typing import Any, Final

from sqlalchemy import Connection, Engine, Table, create_engine, event, insert, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError

from riskdistill.errors import ConfigError, UnavailableError

BUSY_TIMEOUT_MS: Final = 5_000  # how long a writer waits for another process's transaction
STATEMENT_TIMEOUT_MS: Final = 30_000  # PostgreSQL: no statement of ours takes as long
_CONNECT_SECONDS: Final = 5  # PostgreSQL: then the server counts as away
_IDLE_SECONDS: Final = 5  # PostgreSQL: without a byte, before the line is probed
_AGAIN_SECONDS: Final = 0.01
_CHECKPOINT_PAGES: Final = 8_000  # SQLite: a commit that finds so many waits for a checkpoint, see `checkpoints`
_WRITES: Final = "riskdistill_writes"


def open_database(url: str, *, create: bool = True) -> Engine:
    """Engine for a SQLAlchemy `url` such as `sqlite:///state/decisions.db`, checked by one connection.

    Args:
        url: where the database is. `sqlite://` is in memory, for examples: each thread sees its own.
        create: make a missing SQLite file. Readers such as an audit pass False, so that a mistyped path is
            an error and not an empty log.

    Raises:
        ConfigError: the URL does not parse, its driver is not installed, or nothing opens there.
        UnavailableError: the server there does not answer now.
    """
    try:
        address = _with_driver(make_url(url))
        _check_file(address, create)
        engine = create_engine(address, hide_parameters=True, **_options(address))
    except (ArgumentError, ModuleNotFoundError) as error:
        raise ConfigError(
            f"the database URL cannot be used: {error}",
            mend="write it as sqlite:///path/to/file.db, or as postgresql://user@host/name with "
            "riskdistill[postgres] installed",
        ) from error
    except ValueError:  # not chained: it quotes a piece of the URL, which may be one of the password
        raise ConfigError(
            "the database URL cannot be used: its port is not a number",
            mend="write it as engine://user:password@host:port/name, with %-codes for signs in the password",
        ) from None
    if address.get_backend_name() == "sqlite":
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
    elif address.get_backend_name() == "postgresql":
        event.listen(engine, "connect", _prepare_postgresql)
    try:
        engine.connect().close()
    except SQLAlchemyError as error:
        engine.dispose()
        place = address.set(query={}).render_as_string(hide_password=True)  # a query may hold a password too
        kind = UnavailableError if _is_away(error) else ConfigError
        raise kind(
            f"the database does not open: {cause_of(error)}", where=place, mend="check the address and the rights"
        ) from error
    return engine


def database_folder(url: str) -> Path | None:
    """The folder of the SQLite file at a SQLAlchemy `url`; None where the database is no such file.

    Raises:
        ConfigError: the URL does not parse.
    """
    try:
        address = make_url(url)
    except ArgumentError as error:
        raise ConfigError(
            f"the database URL cannot be used: {error}", mend="write it as sqlite:///path/to/file.db"
        ) from error
    if address.get_backend_name() != "sqlite" or address.database in (None, "", ":memory:"):
        return None
    return Path(str(address.database)).resolve().parent


@contextmanager
def writing(engine: Engine, log: str, patience_ms: int = BUSY_TIMEOUT_MS) -> Iterator[Connection]:
    """A transaction that holds the write lock of `log` from its first statement.

    What it reads is therefore still true when it writes; without that, two processes could chain to one head.
    SQLite has one lock for the whole file. In PostgreSQL it is an advisory lock of that name in that schema, so
    that a writer needs no right beyond INSERT; readers never wait.

    Args:
        patience_ms: PostgreSQL: how long to wait for the lock; at most `STATEMENT_TIMEOUT_MS`.
    """
    with engine.connect().execution_options(**{_WRITES: True}) as connection, connection.begin():
        if engine.dialect.name == "postgresql" and patience_ms != BUSY_TIMEOUT_MS:
            connection.exec_driver_sql(f"SET LOCAL lock_timeout = {patience_ms}")
        lock(connection, log)
        yield connection


def lock(connection: Connection, log: str) -> None:
    """Takes the write lock of `log`, until the transaction ends; SQLite's one lock is taken by `writing`.

    Whoever needs several takes that of the decision log first, or two could wait for each other.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(_LOCK, {"log": log})


def insert_many(connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Inserts `rows`, which all have the same columns in the same order.

    PostgreSQL takes them as one COPY, at a quarter of the CPU of inserts; SQLite as tuples, at three quarters.
    """
    columns, values = ", ".join(rows[0]), [tuple(row.values()) for row in rows]
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql(_insert_of(table.name, *rows[0]), values)
        return
    if connection.dialect.driver != "psycopg":
        connection.execute(insert(table), rows)
        return
    driver: Any = connection.dialect.loaded_dbapi
    command = f"COPY {table.name} ({columns}) FROM STDIN"
    try:
        with connection.connection.cursor() as cursor, cursor.copy(command) as copy:  # type: ignore[attr-defined]
            for row in values:
                copy.write_row(row)
    except driver.Error as error:  # as SQLAlchemy would have raised it
        raise DBAPIError.instance(command, None, error, driver.Error, dialect=connection.dialect) from error


Inserts = Iterable[tuple[Table, Sequence[Mapping[str, Any]]]]


def insert_after(engine: Engine, log: str, newest: str, make: Callable[[Sequence[Any]], Inserts]) -> None:
    """One durable transaction that reads, under the write lock of `log`, and inserts what follows from that.

    SQLite is asked through its driver, at half of the processor time: this is what every commit does.

    Args:
        newest: the query.
        make: gives tables with their rows, which have the same columns in the same order, for what it read.
    """
    if engine.dialect.name != "sqlite":
        with writing(engine, log) as connection:
            for table, rows in make(connection.exec_driver_sql(newest).all()):
                if rows:
                    insert_many(connection, table, rows)
        return
    try:
        pooled = engine.raw_connection()
        try:
            driver: Any = pooled.driver_connection
            driver.execute("BEGIN IMMEDIATE")
            for table, rows in make(driver.execute(newest).fetchall()):
                if rows:
                    driver.executemany(_insert_of(table.name, *rows[0]), [tuple(row.values()) for row in rows])
            driver.execute("COMMIT")
        finally:
            pooled.close()  # rolls back what is not committed
    except sqlite3.Error as error:  # as SQLAlchemy would have raised it
        raise DBAPIError.instance(None, None, error, sqlite3.Error, dialect=engine.dialect) from error


@lru_cache(maxsize=64)
def _insert_of(table: str, *columns: str) -> str:
    return f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})"


def delete_for_good(connection: Connection) -> None:
    """Lets what is deleted from now on in a transaction leave nothing in the file."""
    if connection.dialect.name == "sqlite":
        connection.execute(text("PRAGMA secure_delete = ON"))  # zeros where the rows were


def overwrite(engine: Engine, tables: Sequence[Table]) -> None:
    """Takes what was deleted from `tables` off the disk; copies and backups are their keeper's."""
    if engine.dialect.name == "sqlite":
        connection = engine.raw_connection()
        connection.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)")  # pages from before are in the journal
        connection.close()
    elif engine.dialect.name == "postgresql":
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as server:
            server.execute(text("SET statement_timeout = 0"))
            for table in tables:
                server.execute(text(f"VACUUM {table.name}"))
            server.invalidate()  # with its setting


def cause_of(error: SQLAlchemyError) -> str:
    """What the database said, on one line; that it is away, without telling where it should be."""
    return "the database does not answer" if _is_away(error) else _said(error).partition("\n")[0]


def _is_away(error: SQLAlchemyError) -> bool:
    """Whether it is the server that is missing, and not a right or a table."""
    lost = ("connection failed", "connection is bad")
    return isinstance(error, DBAPIError) and (error.connection_invalidated or _said(error).startswith(lost))


def _said(error: SQLAlchemyError) -> str:
    return str(getattr(error, "orig", None) or error).strip()


_LOCK: Final = text("SELECT pg_advisory_xact_lock(hashtextextended(current_schema() || '.' || :log, 0))")


def _with_driver(address: URL) -> URL:
    return address.set(drivername="postgresql+psycopg") if address.drivername == "postgresql" else address


def _options(address: URL) -> dict[str, Any]:
    if address.get_backend_name() != "postgresql":
        return {}
    # whoever waited for the lock must then see what the one before it wrote, whatever the server's default is
    options: dict[str, Any] = {"isolation_level": "READ COMMITTED", "pool_pre_ping": True}
    if address.drivername == "postgresql+psycopg":
        # a server that vanished while we wait for its answer is found by probes of the idle line
        probes = {"keepalives_idle": _IDLE_SECONDS, "keepalives_interval": 1}
        given = {"connect_timeout": _CONNECT_SECONDS, "tcp_user_timeout": BUSY_TIMEOUT_MS, **probes}
        options["connect_args"] = {name: value for name, value in given.items() if name not in address.query}
    return options


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
    _use_write_ahead_log(cursor)
    cursor.execute("PRAGMA synchronous = FULL")  # in WAL mode NORMAL may lose the last commits with the power
    cursor.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.close()


def _use_write_ahead_log(cursor: Any) -> None:
    """Has the file keep a write-ahead log; SQLite itself does not wait for another who opens a new file."""
    until = monotonic() + BUSY_TIMEOUT_MS / 1e3
    while True:
        try:
            cursor.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or monotonic() > until:
                raise
            sleep(_AGAIN_SECONDS)


def _prepare_postgresql(connection: Any, _record: object) -> None:
    connection.autocommit = True  # or a rollback would take the settings back
    cursor = connection.cursor()
    cursor.execute(
        f"SET synchronous_commit = on; SET lock_timeout = {BUSY_TIMEOUT_MS}; "
        f"SET statement_timeout = {STATEMENT_TIMEOUT_MS}; SET client_min_messages = warning"
    )
    cursor.close()
    connection.autocommit = False


def _begin_sqlite(connection: Connection) -> None:
    writes = connection.get_execution_options().get(_WRITES, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
