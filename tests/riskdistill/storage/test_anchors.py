"""Anchors: a signed head kept elsewhere shows a tail that was cut, and one written anew."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from databases import execute
from filled_log import KEY, OTHER, filled, suppressed
from stored_decisions import make

from riskdistill.errors import AuditError, ConfigError
from riskdistill.storage.administrative_acts import ActLog
from riskdistill.storage.anchors import AnchorKey, anchors_for, anchors_of, checked, write_anchor
from riskdistill.storage.decisions import DecisionLog
from riskdistill.storage.suppressions import SuppressionList


def test_an_anchor_finds_a_tail_that_was_cut_and_one_that_was_written_anew(url: str) -> None:
    log = filled(url)
    anchor = write_anchor(log, KEY)
    assert anchor is not None
    assert anchor.sequence == 6
    assert write_anchor(log, KEY) is None  # nothing came since
    assert anchors_of(log) == [anchor]
    kept = checked([anchor], [KEY.public])
    assert log.verify(kept).entries == 6
    execute(url, "DELETE FROM decisions WHERE sequence > 4")
    assert log.verify().entries == 4  # the chain alone cannot tell
    with pytest.raises(AuditError, match="ends at entry 4, and an anchor or export was made of entry 6"):
        log.verify(kept)
    log.append([make(5, score=0.1), make(6)])
    with pytest.raises(AuditError, match=r"sequence 6: .*anchor"):
        log.verify(kept)


def test_an_anchor_that_was_changed_or_is_of_another_key_is_refused(url: str) -> None:
    log = filled(url, 2)
    anchor = write_anchor(log, KEY)
    assert anchor is not None
    for change in ({"hash": "0" * 64}, {"sequence": 1}, {"public_key": OTHER.public}, {"signature": "zz"}):
        with pytest.raises(AuditError, match="not signed by its key"):
            checked([anchor.model_copy(update=change)])
    with pytest.raises(AuditError, match="another key"):
        checked([anchor], [OTHER.public])
    contrary = OTHER.sign(anchor.sequence, "0" * 64, anchor.at)
    with pytest.raises(AuditError, match="different hashes"):
        checked([anchor, contrary])


def test_an_empty_log_has_no_anchor(url: str) -> None:
    log, suppressions = DecisionLog(url), SuppressionList(url)
    assert write_anchor(log, KEY) is None
    assert write_anchor(log, KEY, suppressions.journal) is None


def test_an_anchor_of_a_journal_finds_that_all_of_it_was_written_anew(
    url: str, new_database: Callable[[], str]
) -> None:
    log = filled(url, 2)
    anchor = write_anchor(log, KEY, suppressed(url, "payroll", "tax").journal)
    assert anchor is not None
    assert (anchor.log, anchor.sequence) == ("suppressions", 2)
    assert write_anchor(log, KEY, suppressed(url).journal) is None  # nothing came since
    assert (anchors_of(log), anchors_of(log, of="suppressions")) == ([], [anchor])
    kept = checked([anchor], [KEY.public], of="suppressions")
    assert suppressed(url).journal.verify(kept).entries == 2
    assert log.verify(checked([anchor])).entries == 2  # it is none of the decision log
    forged = suppressed(new_database(), "payroll", "other", "third")
    assert forged.journal.verify().entries == 3  # the chain alone cannot tell
    with pytest.raises(AuditError, match="entry 2 is not the entry that was there before"):
        forged.journal.verify(kept)


def test_an_anchor_of_one_log_cannot_be_made_one_of_another(url: str) -> None:
    log = filled(url, 2)
    for journal, other in ((None, "suppressions"), (suppressed(url, "tax").journal, "decisions")):
        anchor = write_anchor(log, KEY, journal)
        assert anchor is not None
        with pytest.raises(AuditError, match=f"of the log {other} is not signed by its key"):
            anchor.model_copy(update={"log": other}).check()


def test_two_act_logs_one_after_the_other_have_anchors_each_and_only_one_that_nobody_anchored_is_suspect(
    new_database: Callable[[], str],
) -> None:
    log, old, new = filled(new_database(), 2), ActLog(new_database()), ActLog(new_database())
    for acts, names in ((old, "abc"), (new, "de")):
        for name in names:
            acts.append(actor="ann", act="key.created", subject=name)
            assert write_anchor(log, KEY, acts.journal) is not None
    anchors = anchors_of(log, of="administrative_acts")
    assert [anchor.sequence for anchor in anchors] == [1, 1, 2, 2, 3]
    for acts, count in ((old, 3), (new, 2)):
        own, others = anchors_for(acts.journal, anchors)
        assert (len(own), len(others)) == (count, 5 - count)
        assert acts.journal.verify(checked(own, of="administrative_acts")).entries == count
    strange = ActLog(new_database())
    strange.append(actor="bob", act="key.created", subject="mine")
    assert anchors_for(strange.journal, anchors) == (anchors, [])
    own, _ = anchors_for(old.journal, anchors)
    with pytest.raises(AuditError, match="entry 1 is not the entry that was there before"):
        strange.journal.verify(checked(own, of="administrative_acts"))


def test_a_journal_beside_the_decisions_that_begins_anew_must_fit_the_anchors_from_before(url: str) -> None:
    log = filled(url, 2)
    anchor = write_anchor(log, KEY, suppressed(url, "payroll").journal)
    execute(url, "DELETE FROM suppressions")
    journal = suppressed(url, "other").journal
    own, others = anchors_for(journal, anchors_of(log, of="suppressions"))
    assert (own, others) == ([anchor], [])
    with pytest.raises(AuditError, match="entry 1 is not the entry that was there before"):
        journal.verify(checked(own, of="suppressions"))


def test_the_first_entry_that_an_anchor_states_is_signed_too(url: str) -> None:
    log = filled(url, 2)
    for journal in (None, suppressed(url, "tax").journal):
        anchor = write_anchor(log, KEY, journal)
        assert anchor is not None
        with pytest.raises(AuditError, match="not signed by its key"):
            anchor.model_copy(update={"origin": "0" * 64}).check()


@pytest.mark.parametrize("secret", ["", "11" * 31, "zz" * 32])
def test_a_key_that_is_none_is_refused_without_showing_it(secret: str) -> None:
    with pytest.raises(ConfigError, match="64 hexadecimal digits") as caught:
        AnchorKey(secret)
    assert caught.value.__cause__ is None
