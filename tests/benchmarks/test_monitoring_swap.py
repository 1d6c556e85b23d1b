"""How long a swap took, from what a load saw of it."""

from __future__ import annotations

import json
from collections import Counter

import pytest
from http_load import Load
from monitoring_swap import judged

OLD, NEW = (json.dumps({"bundle_version": version}).encode() for version in ("old", "new"))


def seen(*answers: tuple[int, bytes]) -> Load:
    """Ten requests a second, each answered half a second after it fell due."""
    told = [(number, status, body) for number, (status, body) in enumerate(answers)]
    statuses = Counter(status for status, _ in answers)
    return Load(1.0, statuses, [0.5] * (len(answers) - statuses[0]), told)


def test_it_lasts_until_the_last_answer_of_the_withdrawn_bundle() -> None:
    found = judged(seen((200, OLD), (200, OLD), (200, NEW), (200, OLD), (200, NEW)), 10, 100.0, 100.2, "old")
    assert found.seconds == pytest.approx(0.6)  # due at 100.3, answered at 100.8
    assert (found.failed, found.before, found.after) == (0, 3, 2)


def test_refusals_and_broken_connections_are_failures_and_have_no_version() -> None:
    found = judged(seen((200, OLD), (0, b""), (503, b"{}"), (200, NEW)), 10, 100.0, 100.0, "old")
    assert (found.failed, found.before, found.after) == (2, 1, 1)
    assert found.seconds == pytest.approx(0.5)


@pytest.mark.parametrize("body", [OLD, NEW])
def test_a_load_that_saw_one_model_alone_measured_nothing(body: bytes) -> None:
    with pytest.raises(SystemExit, match="did not see both models"):
        judged(seen((200, body), (200, body)), 10, 100.0, 100.0, "old")
