"""What is told of the looks: each alarm once when it begins and once when it ends, each rollback once."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitoring.alarms import Alarm
from monitoring.notices import Notice, Notices
from monitoring.rollback import Action, Verdict

ACTIONS = get_args(Action)


def verdict(action: Action, release_id: str | None = "r2", reason: str = "more_alerts") -> Verdict:
    return Verdict(action=action, reason=reason, release_id=release_id)


@pytest.mark.parametrize(
    ("looks", "told"),
    [
        ("none none", ""),
        ("waiting waiting", ""),
        ("alarm alarm alarm", "alarm_began"),
        ("alarm none none alarm", "alarm_began alarm_ended alarm_began"),
        ("alarm waiting alarm none", "alarm_began alarm_ended"),
        ("held held rolled_back none", "alarm_began rolled_back"),
        ("held alarm held none", "alarm_began alarm_ended"),
        ("rolled_back none", "rolled_back"),
        ("would_roll_back would_roll_back none", "would_roll_back alarm_ended"),
        ("held would_roll_back held would_roll_back", "alarm_began would_roll_back"),
    ],
)
def test_a_row_of_looks_is_told_once(looks: str, told: str) -> None:
    notices = Notices()
    found = [notice.kind for action in looks.split() for notice in notices.of(verdict(action))]  # type: ignore[arg-type]
    assert found == told.split()


def test_alarms_beside_the_controller_s_begin_and_end_each_by_itself() -> None:
    notices = Notices()
    silent, labels = (
        Alarm(at=datetime(2026, 3, 1, tzinfo=UTC), detector=name, detail="x") for name in ("volume", "labels")
    )
    beside = ((silent,), (silent, labels), (labels,), ())
    told = [[(one.kind, one.about) for one in notices.of(verdict("none"), found)] for found in beside]
    assert told == [
        [("alarm_began", "volume: x")],
        [("alarm_began", "labels: x")],
        [("alarm_ended", "volume: x")],
        [("alarm_ended", "labels: x")],
    ]
    assert not notices.alarm


def test_an_alarm_ends_when_another_release_is_champion_and_says_since_when_it_stood() -> None:
    now = [datetime(2026, 3, 1, tzinfo=UTC)]
    notices = Notices(lambda: now[0])
    (began,) = notices.of(verdict("alarm", reason="slow"))
    now[0] += timedelta(hours=1)
    ended, next_one = notices.of(verdict("held", "r3", reason="errors"))
    assert (began.kind, began.alarm_since, notices.alarm) == ("alarm_began", None, True)
    assert (ended.kind, ended.release_id, ended.about) == ("alarm_ended", "r2", "slow")
    assert ended.alarm_since == began.at
    assert (next_one.kind, next_one.release_id, next_one.about, next_one.alarm_since) == (
        "alarm_began",
        "r3",
        "errors",
        None,
    )


_VERDICTS = st.builds(verdict, st.sampled_from(ACTIONS), st.sampled_from(["r1", "r2", None]))


@given(st.lists(_VERDICTS, max_size=30))
def test_whatever_is_looked_at_beginnings_and_ends_alternate(looks: list[Verdict]) -> None:
    notices, standing = Notices(), False
    told: list[Notice] = []
    for look in looks:
        for notice in notices.of(look):
            if notice.kind == "alarm_ended":
                assert standing
                standing = False
            elif notice.kind == "rolled_back":
                standing = False
            else:
                assert not standing or notice.kind == "would_roll_back"
                standing = True
            told.append(notice)
        assert notices.alarm is standing
        assert notices.of(look) == [] or look.action == "rolled_back", "the same look again says nothing new"
    assert sum(one.kind == "rolled_back" for one in told) == sum(look.action == "rolled_back" for look in looks)
