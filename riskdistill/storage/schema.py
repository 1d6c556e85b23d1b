"""Brings a log's tables to the version that this code reads and writes, or says why it cannot.

Each log has its own line of migrations and its own version table, so that several may live in one database. A log
from before there were migrations is taken over as it stands. A reader changes nothing.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Final, Literal, NamedTuple

from sqlalchemy import Connection, Engine, inspect, text
from sqlalchemy.exc import SQLAlchemyError

from riskdistill.errors import ConfigError
from riskdistill.storage.database import STATEMENT_TIMEOUT_MS, cause_of, writing

LogName = Literal["decisions", "cases", "suppressions", "shadows", "releases", "administrative_acts"]
_FOLDER: Final = Path(__file__).parent / "migrations"
_logger = logging.getLogger(__name__)


class _Line(NamedTuple):
    newest: str  # a test compares it with the migrations; so readers need not load Alembic
    table: str  # there since the first migration
    option: str  # of `audit migrate`


LINES: Final[dict[LogName, _Line]] = {
    "decisions": _Line("0004", "decisions", "--decisions"),
    "cases": _Line("0002", "cases", "--decisions"),
    "suppressions": _Line("0002", "suppressions", "--decisions"),
    "shadows": _Line("0001", "shadow_scores", "--decisions"),
    "releases": _Line("0001", "release_transitions", "--releases"),
    "administrative_acts": _Line("0001", "administrative_acts", "--acts"),
}


def prepare(engine: Engine, log: LogName, *, create: bool) -> None:
    """Migrates the tables of `log` if `create` allows; else checks that this version can read them.

    An empty database passes the check: it is unavailable as soon as it is used.

    Raises:
        ConfigError: the log is of a newer version, or of an older one and may not be changed.
    """
    try:
        found = _found(engine, log)
        if found is not None and found > LINES[log].newest:
            raise ConfigError(
                f"the {log} log is of schema version {found}, this version knows {LINES[log].newest}",
                mend="update riskdistill on this machine",
            )
        if create and found != LINES[log].newest:
            _migrate(engine, log)
        elif found is not None and found < LINES[log].newest:
            raise ConfigError(
                f"the {log} log is of schema version {found}, this version reads {LINES[log].newest}",
                mend=f"migrate it first: riskdistill audit migrate {LINES[log].option} URL (it loses nothing)",
            )
    except SQLAlchemyError as error:
        raise ConfigError(
            f"the tables of the {log} log cannot be prepared: {cause_of(error)}",
            mend="check that the database answers and allows to make tables",
        ) from error


def _found(engine: Engine, log: LogName) -> str | None:
    """The log's schema version; 0001 where it is from before there were migrations, None where it is not there."""
    with engine.connect() as connection:
        return _version(connection, log)


def _version(connection: Connection, log: LogName) -> str | None:
    if inspect(connection).has_table(_version_table(log)):
        found = connection.execute(text(f"SELECT version_num FROM {_version_table(log)}")).scalar()
        return None if found is None else str(found)
    return "0001" if inspect(connection).has_table(LINES[log].table) else None


def _migrate(engine: Engine, log: LogName) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(_FOLDER).replace("%", "%%"))
    config.set_main_option("version_locations", str(_FOLDER / log).replace("%", "%%"))
    config.set_main_option("path_separator", "newline")
    # of several processes that start at once, one migrates, and the others wait for as long as that may take
    with writing(engine, f"{log}.schema", STATEMENT_TIMEOUT_MS) as connection:
        config.attributes |= {"connection": connection, "version_table": _version_table(log)}
        found = _version(connection, log)
        if found is not None and not inspect(connection).has_table(_version_table(log)):
            command.stamp(config, found)
        command.upgrade(config, "head")
    if found != LINES[log].newest:  # which another process may have brought about meanwhile
        _logger.info("the %s log: tables of version %s (before: %s)", log, LINES[log].newest, found or "none")


def _version_table(log: LogName) -> str:
    return f"riskdistill_{log}_version"
