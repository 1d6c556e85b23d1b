"""Tables come from migrations, an old log loses nothing, and a newer one is left alone."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from databases import execute
from sqlalchemy import MetaData, text
from stored_decisions import make

from riskdistill.errors import ConfigError
from riskdistill.storage import migrations
from riskdistill.storage.administrative_acts import ActLog
from riskdistill.storage.anchors import Anchor, AnchorKey, anchors_of, checked, write_anchor
from riskdistill.storage.cases import CASE_TRANSACTIONS, CaseLog
from riskdistill.storage.chain import GENESIS, canonical_json, link
from riskdistill.storage.database import open_database
from riskdistill.storage.decisions import DecisionLog
from riskdistill.storage.journal import entries_table, pruned_table
from riskdistill.storage.releases import ReleaseLog
from riskdistill.storage.schema import LINES, LogName
from riskdistill.storage.shadows import METADATA as SHADOWS
from riskdistill.storage.shadows import ShadowLog, _beside
from riskdistill.storage.suppressions import SuppressionList
from riskdistill.storage.tables import METADATA

KINDS: dict[LogName, type[Any]] = {
    "decisions": DecisionLog,
    "cases": CaseLog,
    "suppressions": SuppressionList,
    "shadows": ShadowLog,
    "releases": ReleaseLog,
    "administrative_acts": ActLog,
}
FIRST_VERSION = (
    "CREATE TABLE decisions (sequence INTEGER NOT NULL, decision_id TEXT NOT NULL, tx_id TEXT NOT NULL, "
    "decided_at TEXT NOT NULL, observed INTEGER NOT NULL, score FLOAT NOT NULL, action TEXT NOT NULL, "
    "route TEXT NOT NULL, bundle_version TEXT NOT NULL, body TEXT NOT NULL, previous_hash TEXT NOT NULL, "
    "hash TEXT NOT NULL, PRIMARY KEY (sequence), UNIQUE (decision_id), UNIQUE (tx_id))",
    *(
        f"CREATE INDEX ix_decisions_{column} ON decisions ({column})"
        for column in ("observed", "score", "action", "route", "bundle_version")
    ),
    *(
        f"CREATE TRIGGER decisions_no_{verb} BEFORE {verb} ON decisions "
        "BEGIN SELECT RAISE(ABORT, 'the decision log is append-only'); END"
        for verb in ("update", "delete")
    ),
)


def old_log(folder: Path) -> str:
    """A log as the first version wrote it: without migrations, bodies with sorted keys."""
    url, previous = f"sqlite:///{folder}/decisions.db", GENESIS
    engine = open_database(url)
    with engine.begin() as connection:
        for statement in FIRST_VERSION:
            connection.exec_driver_sql(statement)
        for number in range(1, 5):
            decision = make(number)
            body = canonical_json(decision.model_dump(mode="json"))
            at = decision.decided_at.isoformat(timespec="microseconds")
            row = (number, decision.decision_id, decision.tx_id, at, number, 0.25, "allow", "student")
            row += (decision.bundle_version, body, previous, link(previous, body))
            connection.exec_driver_sql(f"INSERT INTO decisions VALUES ({', '.join('?' * 12)})", row)
            previous = link(previous, body)
    engine.dispose()
    return url


def test_a_log_from_before_there_were_migrations_is_taken_over_whole(tmp_path: Path) -> None:
    url = old_log(tmp_path)
    with pytest.raises(ConfigError, match="audit migrate --decisions"):  # a reader changes nothing
        DecisionLog(url, create=False)
    log = DecisionLog(url)
    assert [entry.decision for entry in log.read()] == [make(number) for number in range(1, 5)]
    log.append([make(5)])
    assert log.verify().entries == 5
    log.close()
    again = DecisionLog(url, create=False)
    assert again.verify().entries == 5
    again.close()


@pytest.mark.parametrize("name", [name for name in LINES if name != "shadows"])
def test_a_log_of_a_newer_version_is_refused(url: str, name: LogName) -> None:
    kind = KINDS[name]
    kind(url).close()
    execute(url, f"UPDATE riskdistill_{name}_version SET version_num = '9999'")
    for create in (True, False):
        with pytest.raises(ConfigError, match=r"version 9999.*update riskdistill"):
            kind(url, create=create)


def metadata_of(name: LogName) -> MetaData:
    if name in ("decisions", "shadows"):
        return METADATA if name == "decisions" else SHADOWS
    metadata = MetaData()
    entries_table(name, metadata)
    if name in ("cases", "suppressions"):
        pruned_table(name, metadata)
    if name == "cases":
        CASE_TRANSACTIONS.to_metadata(metadata)
    return metadata


@pytest.mark.parametrize("name", LINES)
def test_the_migrations_make_the_tables_that_the_code_reads(url: str, name: LogName) -> None:
    KINDS[name](url).close()
    engine = open_database(_beside(url) if name == "shadows" else url)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"version_table": f"riskdistill_{name}_version"})
        assert compare_metadata(context, metadata_of(name)) == []
        assert context.get_current_revision() == LINES[name].newest
    engine.dispose()


def with_old_anchors(url: str, *further: str) -> Anchor:
    """A log with one anchor, its table of anchors as it was before journals had any."""
    log, key = DecisionLog(url), AnchorKey("11" * 32)
    log.append([make(1)])
    anchor = write_anchor(log, key)
    assert anchor is not None
    log.close()
    execute(
        url,
        "CREATE TABLE kept AS SELECT sequence, public_key, hash, at, signature FROM anchors",
        "DROP TABLE anchors",
        "CREATE TABLE anchors (sequence BIGINT NOT NULL, public_key TEXT NOT NULL, hash TEXT NOT NULL, "
        "at TEXT NOT NULL, signature TEXT NOT NULL, PRIMARY KEY (sequence, public_key))",
        "INSERT INTO anchors SELECT * FROM kept",
        "UPDATE riskdistill_decisions_version SET version_num = '0003'",
        *further,
    )
    return anchor


def test_anchors_from_before_journals_had_any_are_those_of_the_decision_log(url: str) -> None:
    anchor = with_old_anchors(url)
    with pytest.raises(ConfigError, match="audit migrate --decisions"):
        DecisionLog(url, create=False)
    log = DecisionLog(url)
    assert anchors_of(log) == [anchor]
    assert log.verify(checked([anchor])).entries == 1
    log.close()


def test_an_old_pod_anchors_on_while_a_new_one_has_migrated_and_what_was_granted_stays_granted(
    postgresql_url: str,
) -> None:
    anchor = with_old_anchors(postgresql_url, "GRANT INSERT ON anchors TO pg_monitor")
    log = DecisionLog(postgresql_url)
    [granted] = log.fetch(text("SELECT has_table_privilege('pg_monitor', 'anchors', 'INSERT')"))
    assert granted[0]
    columns = "sequence, public_key, hash, at, signature"
    execute(postgresql_url, f"INSERT INTO anchors ({columns}) SELECT 2, {columns[10:]} FROM anchors")
    assert anchors_of(log) == [anchor, anchor.model_copy(update={"sequence": 2})]


@pytest.mark.parametrize("name", LINES)
def test_the_newest_migration_is_the_one_that_readers_expect(name: LogName) -> None:
    folder = Path(str(migrations.__file__)).parent
    config = Config()
    config.set_main_option("script_location", str(folder))
    config.set_main_option("version_locations", str(folder / name))
    config.set_main_option("path_separator", "newline")
    assert ScriptDirectory.from_config(config).get_heads() == [LINES[name].newest]


def test_all_logs_live_in_one_database(url: str) -> None:
    logs = {name: kind(url) for name, kind in KINDS.items()}
    logs["decisions"].append([make(1)])
    logs["releases"].register("b", "v", actor="ann", reason="trained")
    logs["administrative_acts"].append(actor="ann", act="key.created", subject="payments")
    counts = [logs[name].verify().entries for name in ("decisions", "releases", "administrative_acts", "cases")]
    assert counts == [1, 1, 1, 0]


def test_several_processes_that_start_at_once_make_one_log(url: str) -> None:
    with ThreadPoolExecutor(3) as pool:
        logs = list(pool.map(DecisionLog, [url] * 3))
    for number, log in enumerate(logs):
        log.append([make(number)])
    assert logs[0].verify().entries == 3
