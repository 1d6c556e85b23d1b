"""An append-only, hash-chained list of entries in a table of its own: releases, acts, cases and suppressions.

One row is one entry: its place, its body (canonical JSON), and the digest that chains it to the entry before.
Several processes may append: who comes second to a place plans again. SQLite and PostgreSQL refuse to change a row
or to remove one. Of a journal beside a decision log old entries can go: place and hash stay in a table of their
own, and `riskdistill.storage.deletions` proves it. The decision log has a chain of its own kind.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final, NamedTuple

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from riskdistill.errors import AuditError, ConfigError, UnavailableError
from riskdistill.storage.acts import Act, Head
from riskdistill.storage.chain import GENESIS, link
from riskdistill.storage.database import cause_of, insert_many, open_database, writing
from riskdistill.storage.deletions import ENTRIES_ACT, Deleted, check_deletions
from riskdistill.storage.schema import LINES, LogName, prepare
from riskdistill.storage.tables import ACTS
from riskdistill.storage.verification import VerifyResult

PAGE: Final = 1_000  # entries checked at a time
_WRITE_ATTEMPTS: Final = 20  # only where a database locks less than SQLite can another writer come first
_READ_ATTEMPTS: Final = 5

Plan = Callable[
    [sa.Connection, int], Sequence[str]
]  # connection, first free place -> bodies to write; none: nothing


class Entry(NamedTuple):
    """An entry, its place counted from 1, and its digest."""

    sequence: int
    body: str
    hash: str


class Link(NamedTuple):
    """An entry as the chain has it; of a deleted one the body is None, and the act that deleted it is told."""

    sequence: int
    body: str | None
    hash: str
    tombstone: int | None = None


class Index(NamedTuple):
    """A table that repeats parts of the entries for queries.

    Attributes:
        table: has the column `sequence`, the place of the entry.
        rows: what it holds of the entry at a place.
    """

    table: sa.Table
    rows: Callable[[int, str], list[dict[str, Any]]]


class Journal:
    """A journal at a database `url`. Safe to use from several threads and processes.

    Args:
        url: a SQLAlchemy URL.
        log: which one.
        title: what errors call it.
        index: written in the transaction of every entry; None where nothing repeats it.
        prunable: old entries can be deleted; it is in the database of a decision log, which tells of that.
        create: make the file and tables if missing, and migrate older ones; readers pass False.

    Raises:
        ConfigError: nothing opens at `url`, or it holds a log of a newer version (for a reader: of an older).
    """

    def __init__(
        self,
        url: str,
        log: LogName,
        title: str,
        *,
        index: Index | None = None,
        prunable: bool = False,
        create: bool = True,
    ) -> None:
        self.log, self.title, self.prunable, self._index = log, title, prunable, index
        self._table = entries_table(log, sa.MetaData())
        self._pruned = pruned_table(log, sa.MetaData()) if prunable else None
        self._engine = open_database(url, create=create)
        try:
            prepare(self._engine, log, create=create)
        except ConfigError:
            self.close()
            raise

    def close(self) -> None:
        """Release the database's connections."""
        self._engine.dispose()

    def append(self, plan: Plan) -> list[Entry]:
        """Write what `plan` makes of the state of the database, in one transaction; gives what was written.

        Raises:
            UnavailableError: the database cannot be written now. Whatever `plan` raises passes.
        """
        for _ in range(_WRITE_ATTEMPTS):
            try:
                with self._usable(), writing(self._engine, self.log) as connection:
                    sequence, head = self._head(connection)
                    written = list(_chained(sequence, head, plan(connection, sequence + 1)))
                    if written:
                        self._insert(connection, written)
                return written
            except IntegrityError:  # another writer took the place
                continue
        raise UnavailableError("other writers always come first", where=self.title, mend="try again")

    def query(self, after: int = 0, limit: int | None = None) -> sa.Select[Any]:
        """Selects the columns of `Entry`, for a plan, from the entry after `after`, at most `limit`."""
        place = self._table.c.sequence
        return sa.select(self._table).where(place > after).order_by(place).limit(limit)

    def entries(self, after: int = 0, limit: int | None = None) -> list[Entry]:
        """Entries in order, from the one after `after`, at most `limit`.

        Raises:
            UnavailableError: the database cannot be read now.
        """
        return [Entry(*row) for row in self.fetch(self.query(after, limit))]

    def fetch(self, query: Any) -> list[Any]:
        """Rows of a query on the journal's database.

        Raises:
            UnavailableError: the database cannot be read now.
        """
        with self._usable(), self._engine.connect() as connection:
            return list(connection.execute(query).all())

    def is_there(self) -> bool:
        """Whether the database has the journal at all, empty or not."""
        with self._usable(), self._engine.connect() as connection:
            return sa.inspect(connection).has_table(self._table.name)

    def head(self) -> Head:
        """The newest entry now, deleted or not.

        Raises:
            UnavailableError: the database cannot be read now.
        """
        with self._usable(), self._engine.connect() as connection:
            return self._head(connection)

    def origin(self) -> str:
        """The hash of the first entry, deleted or not, which tells this log from others; empty where there is none.

        Raises:
            UnavailableError: the database cannot be read now.
        """
        first = self.fetch(self._links().order_by("sequence").limit(1))
        return str(first[0].hash) if first else ""

    def every(self) -> Iterator[Entry]:
        """All entries in order that were not deleted, a page at a time."""
        return (Entry(one.sequence, one.body, one.hash) for one in self.links() if one.body is not None)

    def links(self) -> Iterator[Link]:
        """The whole chain in order, a page at a time."""
        after = 0
        while page := self.fetch(self._links(after).order_by("sequence").limit(PAGE)):
            yield from (Link(*row) for row in page)
            after = page[-1].sequence

    def hashes(self, connection: sa.Connection, places: Sequence[int]) -> list[tuple[int, str]]:
        """Places and hashes, in order, of those entries at `places` that were not deleted."""
        place = self._table.c.sequence
        chosen = sa.select(place, self._table.c.hash).where(place.in_(places)).order_by(place)
        return [(row.sequence, row.hash) for row in connection.execute(chosen)]

    def prune(self, connection: sa.Connection, which: Sequence[tuple[int, str]], tombstone: int) -> None:
        """Deletes entries for good, in a transaction on this database that has written the act of it.

        Args:
            which: places and hashes, some.
            tombstone: the act's sequence in the decision log.
        """
        assert self._pruned is not None
        left = [{"sequence": place, "hash": hash, "tombstone": tombstone} for place, hash in which]
        insert_many(connection, self._pruned, left)
        gone = sa.select(self._pruned.c.sequence).where(self._pruned.c.tombstone == tombstone)
        for table in self.tables:
            connection.execute(sa.delete(table).where(table.c.sequence.in_(gone)))

    @property
    def tables(self) -> tuple[sa.Table, ...]:
        """What holds the bodies of entries, or parts of them."""
        return (self._table,) if self._index is None else (self._index.table, self._table)

    def verify(self, kept: Mapping[int, str] | None = None) -> VerifyResult:
        """Check every link, and that the index repeats the entries.

        It takes several reads; if entries were deleted between two of them, it begins anew.

        Args:
            kept: digests by place, known from elsewhere; a cut-off tail shows only against them.

        Raises:
            UnavailableError: the database cannot be read now, or entries are deleted all the time.
            AuditError: naming the first entry that was changed, removed, inserted or re-ordered.
        """
        for _ in range(_READ_ATTEMPTS):
            acts = self._acts_of_deletion()
            try:
                return self._verify(kept or {}, acts)
            except AuditError:
                if self._acts_of_deletion().keys() == acts.keys():
                    raise
        raise UnavailableError(
            "entries were deleted whenever it was read", where=self.title, mend="verify it when nobody prunes"
        )

    def _verify(self, kept: Mapping[int, str], acts: Mapping[int, Act]) -> VerifyResult:
        last, head, deleted = 0, GENESIS, Deleted()
        for entry in self.links():
            head = entry.hash if entry.body is None else link(head, entry.body)
            if (entry.sequence, entry.hash) != (last + 1, head):
                raise self._broken(last + 1, "is missing, was changed, or does not follow from the one before it")
            last += 1
            if entry.tombstone is not None:
                deleted.setdefault(entry.tombstone, []).append((last, head))
            if kept.get(last, head) != head:
                raise self._broken(last, "is not the entry that was there before")
        if cut := [place for place in kept if place > last]:
            raise self._broken(last + 1, f"is missing, and so are all up to entry {max(cut)}")
        if self._index is not None:
            self._check_index(self._index, last)
        return VerifyResult(last, head, check_deletions(self.log, deleted, acts))

    def _head(self, connection: sa.Connection) -> Head:
        newest = self._links().order_by(sa.desc("sequence")).limit(1)
        last = connection.execute(newest).first()
        return Head(last.sequence, last.hash) if last else Head(0, GENESIS)

    def _links(self, after: int = 0) -> sa.Select[Any] | sa.CompoundSelect[Any]:
        """Selects the columns of `Link`, in any order; one statement, so that what is pruned is in it once."""
        table, pruned = self._table, self._pruned
        nothing = sa.cast(sa.null(), sa.BigInteger).label("tombstone")
        kept = sa.select(table.c.sequence, table.c.body, table.c.hash, nothing).where(table.c.sequence > after)
        if pruned is None:
            return kept
        body = sa.cast(sa.null(), sa.Text).label("body")
        gone = sa.select(pruned.c.sequence, body, pruned.c.hash, pruned.c.tombstone).where(
            pruned.c.sequence > after
        )
        return sa.union_all(kept, gone)

    def _acts_of_deletion(self) -> dict[int, Act]:
        """By sequence, the acts in the decision log that deleted entries of journals."""
        with self._usable(), self._engine.connect() as connection:
            if not self.prunable or not sa.inspect(connection).has_table(ACTS.name):
                return {}
            rows = connection.execute(
                sa.select(ACTS.c.sequence, ACTS.c.body).where(ACTS.c.kind == ENTRIES_ACT)
            ).all()
        return {row.sequence: Act.model_validate_json(row.body) for row in rows}

    def _insert(self, connection: sa.Connection, written: Sequence[Entry]) -> None:
        connection.execute(sa.insert(self._table), [entry._asdict() for entry in written])
        if self._index is not None:
            rows = [row for entry in written for row in self._index.rows(entry.sequence, entry.body)]
            connection.execute(sa.insert(self._index.table), rows)

    def _check_index(self, index: Index, last: int) -> None:
        """Checks what the index has of entries up to `last`, which stay as they are, and that it has no others."""
        place, entries = index.table.c.sequence, self._table.c.sequence
        for first in range(0, last, PAGE):
            end = min(first + PAGE, last)
            kept = self.fetch(sa.select(index.table).where(place > first, place <= end))
            those = self.fetch(self.query(first).where(entries <= end))
            told = [row for one in those for row in index.rows(one.sequence, one.body)]
            differing = {frozenset(row._mapping.items()) for row in kept} ^ {frozenset(row.items()) for row in told}
            if differing:
                worst = min(dict(row)["sequence"] for row in differing)
                raise self._broken(worst, f"is not what the table {index.table.name} says of it")
        strange = sa.select(sa.func.min(place)).where(place.not_in(sa.select(entries)))
        if (worst := self.fetch(strange)[0][0]) is not None:
            raise self._broken(worst, f"is not there, and the table {index.table.name} tells of it")

    def _broken(self, sequence: int, fault: str) -> AuditError:
        return AuditError(
            f"entry {sequence} {fault}",
            where=f"{self.title}, entry {sequence}",
            mend=f"restore it from a copy; nothing from entry {sequence} on can be trusted",
        )

    @contextmanager
    def _usable(self) -> Iterator[None]:
        try:
            yield
        except IntegrityError:
            raise
        except SQLAlchemyError as error:
            raise UnavailableError(
                f"the {self.title} cannot be used: {cause_of(error)}",
                mend="check the database, then send the request again",
            ) from error


def entries_table(log: LogName, metadata: sa.MetaData) -> sa.Table:
    """The table of a journal."""
    return sa.Table(
        LINES[log].table,
        metadata,
        sa.Column("sequence", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("body", sa.Text, nullable=False),
        sa.Column("hash", sa.String(64), nullable=False, unique=True),
    )


def pruned_table(log: LogName, metadata: sa.MetaData) -> sa.Table:
    """What is left of deleted entries of a journal."""
    return sa.Table(
        f"pruned_{LINES[log].table}",
        metadata,
        sa.Column("sequence", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("hash", sa.String(64), nullable=False),
        sa.Column("tombstone", sa.BigInteger, nullable=False, index=True),  # the act's sequence in the decision log
    )


def _chained(sequence: int, head: str, bodies: Sequence[str]) -> Iterator[Entry]:
    for number, body in enumerate(bodies, start=sequence + 1):
        head = link(head, body)
        yield Entry(number, body, head)
