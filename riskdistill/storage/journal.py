"""An append-only, hash-chained list of entries in a table of its own: what cases and suppressions are kept in.

One row is one entry: its place, its canonical JSON, and the digest that chains it to the entry before. Several
processes may append: who comes second to a place plans again. SQLite and PostgreSQL refuse to change a row
or to remove one.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from riskdistill.errors import AuditError, UnavailableError
from riskdistill.storage.chain import GENESIS, canonical_json, link
from riskdistill.storage.database import open_database, writing
from riskdistill.storage.verification import VerifyResult

_WRITE_ATTEMPTS: Final = 20  # only where a database locks less than SQLite can another writer come first

Payload = dict[str, Any]
Plan = Callable[[sa.Connection, int], Payload | None]  # connection, place -> what to write; None: nothing
Index = Callable[[sa.Connection, int, Payload], None]  # repeats parts of an entry in tables made for queries


class Journal:
    """The journal `name` at a database `url`. Safe to use from several threads and processes.

    Args:
        url: a SQLAlchemy URL.
        name: of its table.
        index: called in the transaction of every entry; None where nothing repeats it.
        tables: made beside the journal, such as those that `index` fills.
        create: make the file and tables if missing; readers pass False.

    Raises:
        ConfigError: nothing opens at `url`.
    """

    def __init__(
        self,
        url: str,
        name: str,
        *,
        index: Index | None = None,
        tables: Iterable[sa.Table] = (),
        create: bool = True,
    ) -> None:
        self.name, self._index = name, index
        self.engine = open_database(url, create=create)
        self._table = sa.Table(
            name,
            sa.MetaData(),
            sa.Column("sequence", sa.BigInteger, primary_key=True, autoincrement=False),
            sa.Column("body", sa.Text, nullable=False),
            sa.Column("hash", sa.String(64), nullable=False, unique=True),
        )
        if create:
            with self._usable(), writing(self.engine, self.name) as connection:
                _make(connection, [self._table, *tables])
                _forbid_changes(connection, name)

    def close(self) -> None:
        """Releases the database's connections."""
        self.engine.dispose()

    def append(self, plan: Plan) -> Payload | None:
        """Writes what `plan` makes of the state of the database, in one transaction; gives what was written.

        Raises:
            UnavailableError: the database cannot be written now. Whatever `plan` raises passes.
        """
        for _ in range(_WRITE_ATTEMPTS):
            try:
                with self._usable(), writing(self.engine, self.name) as connection:
                    newest = connection.execute(
                        sa.select(self._table).order_by(self._table.c.sequence.desc()).limit(1)
                    ).first()
                    sequence, head = (newest.sequence + 1, newest.hash) if newest else (1, GENESIS)
                    payload = plan(connection, sequence)
                    if payload is None:
                        return None
                    body = canonical_json(payload)
                    row = {"sequence": sequence, "body": body, "hash": link(head, body)}
                    connection.execute(sa.insert(self._table), row)
                    if self._index is not None:
                        self._index(connection, sequence, payload)
                return payload
            except IntegrityError:  # another writer took the place
                continue
        raise UnavailableError("other writers always come first", where=self.name, mend="try again")

    def entries(self, after: int = 0, limit: int | None = None) -> list[tuple[int, Payload]]:
        """Entries with their places, from the one after `after`, at most `limit`.

        Raises:
            UnavailableError: the database cannot be read now.
        """
        place = self._table.c.sequence
        rows = self.fetch(sa.select(self._table).where(place > after).order_by(place).limit(limit))
        return [(row.sequence, json.loads(row.body)) for row in rows]

    def fetch(self, query: Any) -> list[Any]:
        """Rows of a query on the journal's database.

        Raises:
            UnavailableError: the database cannot be read now.
        """
        with self._usable(), self.engine.connect() as connection:
            return list(connection.execute(query).all())

    def verify(self) -> VerifyResult:
        """Checks every link; keep the head elsewhere, for a cut-off tail shows only against it.

        Raises:
            AuditError: naming the first entry that was changed, removed, inserted or re-ordered.
        """
        head, rows = GENESIS, self.fetch(sa.select(self._table).order_by(self._table.c.sequence))
        for expected, row in enumerate(rows, start=1):
            head = link(head, row.body)
            if (row.sequence, row.hash) != (expected, head):
                raise AuditError(
                    f"entry {expected} is missing, was changed, or does not follow from the one before it",
                    where=f"{self.name}, entry {expected}",
                    mend=f"restore it from a copy; nothing from entry {expected} on can be trusted",
                )
        return VerifyResult(len(rows), head)

    @contextmanager
    def _usable(self) -> Iterator[None]:
        try:
            yield
        except IntegrityError:
            raise
        except SQLAlchemyError as error:
            cause = getattr(error, "orig", None) or error
            raise UnavailableError(
                f"the {self.name} cannot be used: {cause}", mend="check the database, then send the request again"
            ) from error


def _make(connection: sa.Connection, tables: Iterable[sa.Table]) -> None:
    if connection.dialect.name == "postgresql":  # two that make one table at once would fail
        connection.exec_driver_sql("SELECT pg_advisory_xact_lock(7236873)")
    for table in tables:
        table.create(connection, checkfirst=True)


def _forbid_changes(connection: sa.Connection, name: str) -> None:
    refusal = f"{name} is append-only"
    if connection.dialect.name == "sqlite":
        for verb in ("UPDATE", "DELETE"):
            connection.exec_driver_sql(
                f"CREATE TRIGGER IF NOT EXISTS {name}_no_{verb.lower()} BEFORE {verb} ON {name} "
                f"BEGIN SELECT RAISE(ABORT, '{refusal}'); END"
            )
    elif connection.dialect.name == "postgresql":
        connection.exec_driver_sql(
            f"CREATE OR REPLACE FUNCTION {name}_refuse() RETURNS trigger LANGUAGE plpgsql AS "
            f"$$ BEGIN RAISE EXCEPTION '{refusal}'; END $$"
        )
        connection.exec_driver_sql(
            f"CREATE OR REPLACE TRIGGER {name}_no_change BEFORE UPDATE OR DELETE OR TRUNCATE ON {name} "
            f"FOR EACH STATEMENT EXECUTE FUNCTION {name}_refuse()"
        )


def as_payload(fields: Mapping[str, Any]) -> Payload:
    """A copy without what is None, so that a field that comes later changes no older entry's spelling."""
    return {name: value for name, value in fields.items() if value is not None}
