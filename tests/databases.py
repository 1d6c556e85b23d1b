"""Empty databases for tests: SQLite files, and schemas of the PostgreSQL at RISKDISTILL_TEST_POSTGRES."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any, Final

import pytest
from sqlalchemy import Engine, create_engine, make_url, text
from sqlalchemy.exc import OperationalError

from riskdistill.storage import database
from riskdistill.storage.database import open_database

ENGINES: Final = ("sqlite", "postgresql")
POSTGRES: Final = os.environ.get("RISKDISTILL_TEST_POSTGRES", "postgresql+psycopg://root@127.0.0.1:5432/test")


def new_url(engine: str, folder: Path) -> Iterator[Callable[[], str]]:
    """Gives once what makes URLs of empty databases, and takes away in the end what it made."""
    if engine == "sqlite":
        number = count(1)
        yield lambda: f"sqlite:///{folder}/log-{next(number)}.db"
    else:
        yield from _schemas()


@contextmanager
def closing_engines() -> Iterator[None]:
    """Closes in the end what was opened meanwhile: a driver warns of connections that nobody closed."""
    opened: list[Engine] = []

    def create(*args: Any, **options: Any) -> Engine:
        opened.append(create_engine(*args, **options))
        return opened[-1]

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(database, "create_engine", create)
        yield
    for engine in opened:
        engine.dispose()


def _schemas() -> Iterator[Callable[[], str]]:
    server = create_engine(POSTGRES, isolation_level="AUTOCOMMIT", connect_args={"connect_timeout": 2})
    made: list[str] = []

    def new() -> str:
        made.append(f"test_{uuid.uuid4().hex}")
        with server.connect() as connection:
            connection.execute(text(f"CREATE SCHEMA {made[-1]}"))
        address = make_url(POSTGRES).update_query_dict({"options": f"-csearch_path={made[-1]}"})
        return address.render_as_string(hide_password=False)

    try:
        server.connect().close()
    except OperationalError as error:
        pytest.skip(f"no PostgreSQL answers at {POSTGRES}: {error.orig}")
    yield new
    with server.connect() as connection:
        for schema in made:
            connection.execute(text(f"DROP SCHEMA {schema} CASCADE"))
    server.dispose()


def execute(url: str, *statements: str) -> None:
    """Changes a log as somebody with all rights on its database could: without its triggers."""
    engine = open_database(url)
    with engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            tables = connection.execute(
                text("SELECT tablename FROM pg_tables WHERE schemaname = current_schema()")
            ).scalars()
            for table in tables.all():
                connection.execute(text(f"ALTER TABLE {table} DISABLE TRIGGER USER"))
        else:
            names = connection.execute(text("SELECT name FROM sqlite_master WHERE type = 'trigger'")).scalars()
            for name in names.all():
                connection.execute(text(f"DROP TRIGGER {name}"))
        for statement in statements:
            connection.execute(text(statement))
    engine.dispose()
