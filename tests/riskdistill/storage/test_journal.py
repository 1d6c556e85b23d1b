"""A journal chains whatever it is given, in order, whoever writes; what was kept of it elsewhere finds a loss."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from databases import execute
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import MetaData

from riskdistill.errors import AuditError, UnavailableError
from riskdistill.storage import journal as module
from riskdistill.storage.chain import GENESIS, link
from riskdistill.storage.database import open_database
from riskdistill.storage.journal import Journal, entries_table


@pytest.fixture
def journal(url: str) -> Iterator[Journal]:
    made = Journal(url, "suppressions", "suppression log")
    yield made
    made.close()


def write(journal: Journal, *bodies: str) -> None:
    journal.append(lambda _connection, _sequence: bodies)


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lots=st.lists(st.lists(st.text(st.characters(exclude_characters="\0", codec="utf-8")), max_size=3)))
def test_what_was_written_in_lots_is_one_chain_in_order(
    tmp_path_factory: pytest.TempPathFactory, lots: list[list[str]]
) -> None:
    journal = Journal(f"sqlite:///{tmp_path_factory.mktemp('journal')}/log.db", "suppressions", "suppression log")
    for lot in lots:
        write(journal, *lot)
    bodies, head = [body for lot in lots for body in lot], GENESIS
    for body in bodies:
        head = link(head, body)
    assert [entry.body for entry in journal.entries()] == bodies
    assert journal.verify() == (len(bodies), head, 0)
    journal.close()


def test_a_plan_sees_the_place_that_its_first_entry_will_have(journal: Journal) -> None:
    write(journal, "a", "b")
    (entry,) = journal.append(lambda _connection, sequence: [f"place {sequence}"])
    assert (entry.sequence, entry.body) == (3, "place 3")
    assert journal.append(lambda _connection, _sequence: []) == []
    assert journal.verify().entries == 3


def test_a_plan_that_fails_leaves_nothing(journal: Journal) -> None:
    def fails(_connection: object, _sequence: int) -> list[str]:
        raise ValueError("no such thing")

    with pytest.raises(ValueError, match="no such thing"):
        journal.append(fails)
    assert journal.entries() == []


def test_what_was_kept_elsewhere_finds_a_cut_tail_and_one_written_anew(url: str, journal: Journal) -> None:
    write(journal, "a", "b", "c")
    kept = {3: journal.verify().head}
    assert journal.verify(kept).entries == 3
    execute(url, "DELETE FROM suppressions WHERE sequence > 1")
    assert journal.verify().entries == 1
    with pytest.raises(AuditError, match="entry 2 is missing, and so are all up to entry 3"):
        journal.verify(kept)
    write(journal, "b", "d")
    assert journal.verify().entries == 3
    with pytest.raises(AuditError, match="entry 3 is not the entry that was there before"):
        journal.verify(kept)


def test_more_entries_than_a_page_verify(url: str, journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PAGE", 2)
    write(journal, *"abcde")
    assert journal.verify().entries == 5
    execute(url, "UPDATE suppressions SET body = 'x' WHERE sequence = 5")
    with pytest.raises(AuditError, match="entry 5 is missing, was changed"):
        journal.verify()


def test_one_from_before_there_were_migrations_goes_on(url: str) -> None:
    engine, hash_of_a = open_database(url), link(GENESIS, "a")
    table = entries_table("suppressions", MetaData())
    with engine.begin() as connection:
        table.create(connection)
        connection.execute(table.insert(), {"sequence": 1, "body": "a", "hash": hash_of_a})
    journal = Journal(url, "suppressions", "suppression log")
    write(journal, "b")
    assert journal.verify() == (2, link(hash_of_a, "b"), 0)
    journal.close()


def test_a_database_without_it_is_told_from_an_empty_one(url: str) -> None:
    open_database(url).dispose()
    reader = Journal(url, "suppressions", "suppression log", create=False)
    assert not reader.is_there()
    with pytest.raises(UnavailableError, match="suppression log cannot be used"):
        reader.verify()
    Journal(url, "suppressions", "suppression log").close()
    assert reader.is_there()
    assert reader.verify() == (0, GENESIS, 0)
    reader.close()
