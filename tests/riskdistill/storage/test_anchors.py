"""Anchors: a signed head that is kept elsewhere shows a tail that was cut, and one that was written anew."""

from __future__ import annotations

import pytest
from databases import execute
from filled_log import KEY, filled
from stored_decisions import make

from riskdistill.errors import AuditError, ConfigError
from riskdistill.storage.anchors import AnchorKey, anchors_of, checked, write_anchor
from riskdistill.storage.decisions import DecisionLog

OTHER = AnchorKey("22" * 32)


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
    assert write_anchor(DecisionLog(url), KEY) is None


@pytest.mark.parametrize("secret", ["", "11" * 31, "zz" * 32])
def test_a_key_that_is_none_is_refused_without_showing_it(secret: str) -> None:
    with pytest.raises(ConfigError, match="64 hexadecimal digits") as caught:
        AnchorKey(secret)
    assert caught.value.__cause__ is None
