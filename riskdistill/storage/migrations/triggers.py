"""Triggers that keep a table append-only, in the words of SQLite and of PostgreSQL.

Migrations are history: what is here stays as it is, and a later need gets a function of its own.
"""

from __future__ import annotations

from typing import Final

from alembic import op

_GUARD: Final = """
CREATE OR REPLACE FUNCTION riskdistill_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the % is append-only', TG_ARGV[0];
END $$
"""
_PRUNE_GUARD: Final = """
CREATE OR REPLACE FUNCTION riskdistill_delete_if_pruned() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    is_pruned boolean;
BEGIN
    EXECUTE format('SELECT EXISTS (SELECT 1 FROM %I.pruned_decisions WHERE sequence = $1 AND hash = $2)',
                   TG_TABLE_SCHEMA) INTO is_pruned USING OLD.sequence, OLD.hash;
    IF NOT is_pruned THEN
        RAISE EXCEPTION 'the decision log is append-only';
    END IF;
    RETURN OLD;
END $$
"""
_PRUNED_ENTRY_GUARD: Final = """
CREATE OR REPLACE FUNCTION riskdistill_delete_entry_if_pruned() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    is_pruned boolean;
BEGIN
    EXECUTE format('SELECT EXISTS (SELECT 1 FROM %I.%I WHERE sequence = $1 AND hash = $2)',
                   TG_TABLE_SCHEMA, 'pruned_' || TG_TABLE_NAME) INTO is_pruned USING OLD.sequence, OLD.hash;
    IF NOT is_pruned THEN
        RAISE EXCEPTION 'the % is append-only', TG_ARGV[0];
    END IF;
    RETURN OLD;
END $$
"""


def append_only(table: str, named: str) -> None:
    """No row of `table` is changed or deleted; the database's refusal calls it `named`."""
    if op.get_bind().dialect.name == "sqlite":
        for verb in ("update", "delete"):
            op.execute(
                f"CREATE TRIGGER {table}_no_{verb} BEFORE {verb.upper()} ON {table} "
                f"BEGIN SELECT RAISE(ABORT, 'the {named} is append-only'); END"
            )
    elif op.get_bind().dialect.name == "postgresql":
        op.execute(_GUARD)
        for verb, scope in (("update", "ROW"), ("delete", "ROW"), ("truncate", "STATEMENT")):
            op.execute(
                f"CREATE TRIGGER {table}_no_{verb} BEFORE {verb.upper()} ON {table} "
                f"FOR EACH {scope} EXECUTE FUNCTION riskdistill_append_only('{named}')"
            )


def allow_pruning_of_decisions() -> None:
    """A decision may be deleted once its sequence and hash are among the pruned."""
    if op.get_bind().dialect.name == "sqlite":
        op.execute("DROP TRIGGER decisions_no_delete")
        op.execute(
            "CREATE TRIGGER decisions_no_delete BEFORE DELETE ON decisions WHEN NOT EXISTS "
            "(SELECT 1 FROM pruned_decisions WHERE sequence = OLD.sequence AND hash = OLD.hash) "
            "BEGIN SELECT RAISE(ABORT, 'the decision log is append-only'); END"
        )
    elif op.get_bind().dialect.name == "postgresql":
        op.execute("DROP TRIGGER decisions_no_delete ON decisions")
        op.execute(_PRUNE_GUARD)
        op.execute(
            "CREATE TRIGGER decisions_no_delete BEFORE DELETE ON decisions "
            "FOR EACH ROW EXECUTE FUNCTION riskdistill_delete_if_pruned()"
        )


def allow_pruning(table: str, named: str) -> None:
    """A row of a journal may be deleted once its sequence and hash are in the table `pruned_…` beside it."""
    if op.get_bind().dialect.name == "sqlite":
        op.execute(f"DROP TRIGGER IF EXISTS {table}_no_delete")
        op.execute(
            f"CREATE TRIGGER {table}_no_delete BEFORE DELETE ON {table} WHEN NOT EXISTS "
            f"(SELECT 1 FROM pruned_{table} WHERE sequence = OLD.sequence AND hash = OLD.hash) "
            f"BEGIN SELECT RAISE(ABORT, 'the {named} is append-only'); END"
        )
    elif op.get_bind().dialect.name == "postgresql":
        op.execute(f"DROP TRIGGER IF EXISTS {table}_no_delete ON {table}")
        op.execute(_PRUNED_ENTRY_GUARD)
        op.execute(
            f"CREATE TRIGGER {table}_no_delete BEFORE DELETE ON {table} "
            f"FOR EACH ROW EXECUTE FUNCTION riskdistill_delete_entry_if_pruned('{named}')"
        )
