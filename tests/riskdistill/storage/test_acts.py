"""Acts: what was done to the decision log is an entry of it, and cannot be changed unseen."""

from __future__ import annotations

import pytest
from databases import execute
from filled_log import WHO, filled
from stored_decisions import make

from riskdistill.errors import AuditError


def test_an_act_is_an_entry_between_decisions(url: str) -> None:
    log = filled(url, 2)
    assert log.record("key_rotated", actor="ann", reason="yearly", details={"key": "k2"}) == 3
    log.append([make(3)])
    assert [entry.sequence for entry in log.read()] == [1, 2, 4]
    assert log.verify().entries == log.head().sequence == 4
    [(sequence, act)] = log.acts()
    assert (sequence, act.kind, act.actor, act.details) == (3, "key_rotated", "ann", {"key": "k2"})
    assert log.acts("other") == []
    with pytest.raises(AuditError, match="actor and a reason"):
        log.record("key_rotated", actor=" ", reason="yearly", details={})


@pytest.mark.parametrize(
    ("statement", "says"),
    [
        ("UPDATE acts SET body = replace(body, 'ann', 'bob')", "sequence 3: hash mismatch"),
        ("UPDATE acts SET kind = 'nothing'", "sequence 3: columns differ"),
        ("DELETE FROM acts", "sequence gap, 3 is missing"),
    ],
)
def test_a_changed_act_breaks_the_chain(url: str, statement: str, says: str) -> None:
    log = filled(url, 2)
    log.record("key_rotated", **WHO, details={})
    log.append([make(3)])
    execute(url, statement)
    with pytest.raises(AuditError, match=says):
        log.verify()
