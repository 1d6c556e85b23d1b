"""The judge of hostile requests: which 503 is a fault, and which is the teacher's deadline."""

from __future__ import annotations

import json
from types import SimpleNamespace

import httpx
import pytest
from serving_judge import LENDS_TEACHER, Judge


def refused(path: str, detail: str) -> Judge:
    """A judge who saw one 503."""
    judge = Judge(secrets=())
    operation = SimpleNamespace(
        label=f"POST {path}",
        path=path,
        definition=SimpleNamespace(raw={"responses": {"503": {}}}),
        validate_response=lambda _answer: None,
    )
    document = {"type": "urn:riskdistill:problem:unavailable", "status": 503, "detail": detail}
    judge.see(operation, httpx.Response(503, content=json.dumps(document)), b"{}")  # type: ignore[arg-type]
    return judge


@pytest.mark.parametrize(
    ("path", "detail"),
    [
        ("/v1/score", "the decision log does not answer (mend: send the request again in a moment)"),
        ("/v1/score", "the teacher is late (mend: ask again later)"),
        (LENDS_TEACHER, "the bundle has no teacher that is loaded (mend: wait)"),
        (LENDS_TEACHER, "there was no answer within 5 s (mend: send the request again in a moment)"),
    ],
)
def test_a_503_that_no_documented_limit_explains_is_a_fault(path: str, detail: str) -> None:
    judge = refused(path, detail)
    assert (judge.limited, list(judge.found)) == (0, ["unavailable"])


@pytest.mark.parametrize(
    "detail",
    ["the teacher is late (mend: ask again later)", "the teacher has enough to do (mend: ask again later)"],
)
def test_a_teacher_that_is_lent_beyond_its_deadline_is_counted_and_no_fault(detail: str) -> None:
    judge = refused(LENDS_TEACHER, detail)
    assert (judge.limited, judge.found) == (1, {})
