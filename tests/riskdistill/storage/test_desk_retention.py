"""Old cases and suppressions go for good, what is in use stays, and the logs prove who deleted what."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from databases import execute
from hypothesis import given
from hypothesis import strategies as st
from made_decisions import PAID, decided
from sqlalchemy import Connection, text
from sqlalchemy.exc import DatabaseError
from stored_decisions import make

from riskdistill.errors import AuditError, ConfigError, NotFoundError, UnavailableError
from riskdistill.storage import desk_retention, journal
from riskdistill.storage.cases import CaseLog, Finding, Outcome
from riskdistill.storage.database import open_database
from riskdistill.storage.decisions import DecisionLog
from riskdistill.storage.desk_retention import _untied, prune_desk
from riskdistill.storage.export import export
from riskdistill.storage.export_check import JournalCheck, check_export
from riskdistill.storage.journal import Entry, Link, Plan
from riskdistill.storage.suppressions import SuppressionList, Target
from riskdistill.storage.verification import as_text, pruned_digest

WHO = {"actor": "ann", "reason": "five years are over"}
DAY = timedelta(days=1)
CUT = PAID + 10 * DAY


class Desk:
    """All that is beside one another in a decision log's database."""

    def __init__(self, url: str) -> None:
        self.log, self.cases, self.suppressions = DecisionLog(url), CaseLog(url), SuppressionList(url)
        self.log.append([make(1)])
        self.journals = self.cases.journal, self.suppressions.journal

    def case(self, day: int, *tx_ids: str, known: int | None = None, outcome: Outcome = "laundering") -> str:
        """Id of a case recorded and known so many days after the payment."""
        finding = Finding(tx_ids, outcome, PAID + (day if known is None else known) * DAY, note=f"note of {day}")
        return self.cases.record(
            finding, decided=decided(*tx_ids), typologies=(), actor="payments", now=PAID + day * DAY
        ).case_id

    def suppress(self, day: int, until: int) -> str:
        return self.suppressions.add(
            Target(typology="cycle"),
            owner="ops",
            reason=f"reason of {day}",
            expires_at=PAID + until * DAY,
            actor="ann",
            now=PAID + day * DAY,
        ).suppression_id

    def prune(self, before: datetime = CUT) -> dict[str, int]:
        return dict(prune_desk(self.log, self.journals, before, **WHO))

    def close(self) -> None:
        for part in (self.log, self.cases, self.suppressions):
            part.close()


@pytest.fixture
def desk(url: str) -> Iterator[Desk]:
    made = Desk(url)
    yield made
    made.close()


def test_old_cases_go_with_their_labels_and_the_journal_verifies_and_goes_on(desk: Desk) -> None:
    old, young = desk.case(1, "a", "b"), desk.case(20, "c")
    before = desk.cases.verify()
    assert desk.prune() == {"cases": 1, "suppressions": 0}
    assert desk.prune() == {"cases": 0, "suppressions": 0}  # nothing is left, and no act says so
    with pytest.raises(NotFoundError):
        desk.cases.get(old)
    assert [case.case_id for case in desk.cases.list()] == [young]
    assert desk.cases.labels(PAID + 30 * DAY)["tx_id"].to_pylist() == ["c"]
    [(_, act)] = desk.log.acts("entries_pruned")
    assert (act.actor, act.reason, act.details["log"], act.details["entries"]) == (*WHO.values(), "cases", 1)
    assert desk.log.verify().entries == 2
    result = desk.cases.journal.verify({before.entries: before.head})
    assert (result.entries, result.pruned) == (2, 1)
    assert desk.case(21, "d") == "c3"
    assert desk.cases.verify().entries == 3


def test_a_journal_of_which_all_is_deleted_goes_on_from_its_last_hash(desk: Desk) -> None:
    desk.case(1, "a")
    head = desk.cases.verify().head
    desk.prune()
    assert (desk.cases.list(), desk.cases.verify().head, desk.cases.journal.head().hash) == ([], head, head)
    assert desk.case(20, "b") == "c2"
    assert desk.cases.verify()[::2] == (2, 1)


def test_many_go_in_lots_each_with_its_act(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(desk_retention, "CHUNK", 2)
    for number in range(5):
        desk.case(1, f"tx-{number}")
    assert desk.prune()["cases"] == 5
    assert [act.details["entries"] for _, act in desk.log.acts("entries_pruned")] == [2, 2, 1]
    assert desk.cases.verify()[::2] == (5, 5)


def test_a_case_stays_as_long_as_a_younger_one_on_its_payments(desk: Desk) -> None:
    """What the younger found was known before the older: without the older it would make the label."""
    desk.case(1, "a", "b")
    desk.case(2, "b", "c", known=2)
    desk.case(20, "c", known=1, outcome="false_alert")
    before = desk.cases.labels(PAID + 30 * DAY)
    desk.case(3, "d")
    assert desk.prune()["cases"] == 1
    assert desk.cases.labels(PAID + 30 * DAY).equals(before)


def test_a_case_stays_though_the_younger_one_comes_as_pruning_begins(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    writing = desk.log.writing

    def late() -> AbstractContextManager[Connection]:
        if len(desk.cases.list()) == 1:
            desk.case(20, "a")
        return writing()

    monkeypatch.setattr(desk.log, "writing", late)
    desk.case(1, "a", "b")
    assert desk.prune()["cases"] == 0


def test_pruning_waits_for_who_records_a_case(postgresql_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    desk, recording, go_on = Desk(postgresql_url), Event(), Event()
    desk.case(1, "a")
    append = desk.cases.journal.append

    def held_up(plan: Plan) -> list[Entry]:
        def planned(connection: Connection, sequence: int) -> Sequence[str]:
            recording.set()
            assert go_on.wait(60)
            return plan(connection, sequence)

        return append(planned)

    monkeypatch.setattr(desk.cases.journal, "append", held_up)
    waiting = text(
        "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted "
        "AND (classid::bigint << 32 | objid::bigint) = hashtextextended(current_schema() || '.cases', 0)"
    )
    with ThreadPoolExecutor(2) as aside:
        recorded = aside.submit(desk.case, 20, "a")
        assert recording.wait(60)
        pruned = aside.submit(desk.prune)
        while not (pruned.done() or desk.log.fetch(waiting)[0][0]):
            pass
        go_on.set()
        assert (pruned.result(60)["cases"], recorded.result(60)) == (0, "c2")
    desk.close()


def test_two_who_prune_at_once_delete_everything_once(url: str, desk: Desk) -> None:
    for number in range(20):
        desk.case(1, f"tx-{number}")
    others = DecisionLog(url), CaseLog(url)
    with ThreadPoolExecutor(2) as both:
        pairs = ((desk.log, desk.cases), others)
        told = both.map(lambda pair: prune_desk(pair[0], [pair[1].journal], CUT, **WHO), pairs)
        assert sorted(one["cases"] for one in told) == [0, 20]
    assert desk.cases.verify()[::2] == (20, 20)


@given(
    cases=st.lists(st.sets(st.sampled_from("abcdef"), min_size=1, max_size=2), max_size=8),
    kept=st.sets(st.sampled_from("abcdef")),
)
def test_what_goes_shares_no_payment_with_what_stays(cases: Sequence[set[str]], kept: set[str]) -> None:
    gone = _untied(dict(enumerate(cases)), set(kept))
    stays = kept.union(*(found for place, found in enumerate(cases) if place not in gone))
    assert all(not cases[place] & stays for place in gone)
    if not kept:
        assert len(gone) == len(cases)


def test_suppressions_go_when_their_end_is_past_and_what_is_in_force_stays(desk: Desk) -> None:
    desk.suppress(1, until=5)
    lasting = desk.suppress(2, until=300)
    taken_back = desk.suppress(3, until=8)
    desk.suppressions.remove(taken_back, reason="a mistake", actor="ann", now=PAID + 4 * DAY)
    assert desk.prune()["suppressions"] == 3
    assert [change.entry.suppression_id for change in desk.suppressions.history()] == [lasting]
    reader = SuppressionList(str(desk.log.engine.url.render_as_string(hide_password=False)), create=False)
    assert [entry.suppression_id for entry in reader.active(PAID + 4 * DAY)] == [lasting]
    reader.close()
    result = desk.suppressions.verify()
    assert (result.entries, result.pruned) == (4, 3)
    assert desk.suppress(20, until=30) == "s5"


@pytest.mark.parametrize(
    ("statement", "says"),
    [
        ("UPDATE pruned_cases SET hash = 'ff' WHERE sequence = 1", "no act 2 in the decision log"),
        ("UPDATE pruned_cases SET hash = 'ff' WHERE sequence = 2", "entry 3 is missing, was changed"),
        ("UPDATE pruned_cases SET tombstone = 1 WHERE sequence = 1", "no act 1 in the decision log"),
        ("DELETE FROM pruned_cases WHERE sequence = 1", "entry 1 is missing"),
        ("DELETE FROM acts", "no act 2 in the decision log"),
        ("UPDATE acts SET body = replace(body, 'cases', 'suppressions')", "no act 2 in the decision log"),
    ],
)
def test_what_pruning_left_cannot_be_changed_unseen(url: str, desk: Desk, statement: str, says: str) -> None:
    desk.case(1, "a"), desk.case(2, "b"), desk.case(20, "c")
    desk.prune()
    execute(url, statement)
    with pytest.raises(AuditError, match=says):
        desk.cases.verify()


def test_an_entry_deleted_under_an_act_that_deleted_others_is_found(url: str, desk: Desk) -> None:
    desk.case(1, "a"), desk.case(20, "b"), desk.case(21, "c")
    desk.prune()
    execute(
        url,
        "INSERT INTO pruned_cases (sequence, hash, tombstone) "
        "SELECT sequence, hash, 2 FROM cases WHERE sequence = 2",
        "DELETE FROM cases WHERE sequence = 2",
        "DELETE FROM case_transactions WHERE sequence = 2",
    )
    with pytest.raises(AuditError, match="no act 2 in the decision log deleted just these"):
        desk.cases.verify()


def test_what_the_index_keeps_of_a_deleted_case_is_found(url: str, desk: Desk) -> None:
    desk.case(1, "a"), desk.case(20, "b")
    desk.prune()
    execute(url, "UPDATE case_transactions SET sequence = 1")
    with pytest.raises(AuditError, match="case_transactions"):
        desk.cases.verify()


@pytest.mark.parametrize("details", ["its own", {}])
def test_an_act_that_says_it_deleted_what_is_still_there_is_found(
    desk: Desk, tmp_path: Path, details: dict[str, Any] | str
) -> None:
    desk.case(1, "a"), desk.suppress(1, until=300)
    [entry] = desk.cases.journal.every()
    if isinstance(details, str):
        count, digest = pruned_digest([(entry.sequence, entry.hash)])
        details = {"log": "cases", "before": as_text(CUT), "entries": count, "digest": digest}
    desk.log.record("entries_pruned", **WHO, details=details)
    says = "act 2 in the decision log (says that entries were deleted|does not say what it deleted)"
    with pytest.raises(AuditError, match=says):
        desk.cases.verify()
    if details:
        assert desk.suppressions.verify().entries == 1
    with pytest.raises(AuditError, match=says):
        export(desk.log, tmp_path / "out", journals=desk.journals)


def pruned_while_read(desk: Desk, monkeypatch: pytest.MonkeyPatch, times: int) -> None:
    """Prunes after the first entry that a check reads, and makes a new old case, so many times."""
    links, left = desk.cases.journal.links, list(range(times))

    def read() -> Iterator[Link]:
        found = links()
        yield next(found)
        if left:
            desk.case(1, f"more-{left.pop()}")
            desk.prune()
        yield from found

    monkeypatch.setattr(journal, "PAGE", 1)
    monkeypatch.setattr(desk.cases.journal, "links", read)


def test_a_check_beside_a_prune_raises_no_false_alarm(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.case(1, "a"), desk.case(1, "b")
    pruned_while_read(desk, monkeypatch, 1)
    assert desk.cases.verify()[::2] == (3, 3)


def test_a_check_ends_though_pruning_does_not(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.case(1, "a")
    pruned_while_read(desk, monkeypatch, 100)
    with pytest.raises(UnavailableError, match="deleted whenever it was read"):
        desk.cases.verify()


@pytest.mark.parametrize("table", ["cases", "suppressions", "pruned_cases", "pruned_suppressions"])
def test_the_database_refuses_to_delete_without_proof(url: str, desk: Desk, table: str) -> None:
    for day in (1, 20):
        desk.case(day, f"tx-{day}")
        desk.suppress(day, until=day + 1)
    desk.prune()
    engine = open_database(url)
    with engine.connect() as connection, pytest.raises(DatabaseError, match="append-only"):
        connection.execute(text(f"DELETE FROM {table}"))
    engine.dispose()


def test_deleted_notes_are_gone_from_the_sqlite_files(tmp_path: Path) -> None:
    desk = Desk(f"sqlite:///{tmp_path}/decisions.db")
    desk.case(1, "a"), desk.case(20, "b")
    desk.suppress(1, until=2), desk.suppress(20, until=30)
    desk.prune()
    held = b"".join(path.read_bytes() for path in tmp_path.glob("decisions.db*"))
    desk.close()
    for kind in (b"note of ", b"reason of "):
        assert kind + b"20" in held
        assert kind + b'1"' not in held


def test_nothing_goes_without_a_name_a_reason_and_a_time_that_is_past(desk: Desk) -> None:
    desk.case(1, "a")
    for changed in ({"actor": " "}, {"reason": ""}):
        with pytest.raises(AuditError, match="an actor and a reason"):
            prune_desk(desk.log, desk.journals, CUT, **WHO | changed)
    with pytest.raises(ConfigError, match="not past"):
        desk.prune(datetime.now(CUT.tzinfo) + DAY)
    assert len(desk.cases.list()) == 1


def test_an_export_proves_what_was_deleted_of_journals_as_far_as_it_has_the_act(desk: Desk, tmp_path: Path) -> None:
    desk.case(1, "a"), desk.case(20, "b")
    desk.prune()
    export(desk.log, tmp_path / "whole", journals=desk.journals)
    found = check_export(tmp_path / "whole").journals
    assert found == {"cases": JournalCheck(1, 0, 0), "suppressions": JournalCheck(0, 0, 0)}
    desk.log.append([make(2)])
    export(desk.log, tmp_path / "later", journals=desk.journals, after=2)
    assert check_export(tmp_path / "later").journals["cases"] == JournalCheck(0, 1, 0)
