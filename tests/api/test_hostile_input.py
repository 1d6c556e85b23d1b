"""Whatever is sent, the answer is one that OpenAPI names, and neither it nor the log repeats an account id."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from hostile_bodies import CONTENT_TYPES, MARK, any_bodies, near_bodies
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from api.problems import MEDIA_TYPE, Problem
from api.schemas import Answer, BatchAnswer

pytestmark = pytest.mark.anyio
ANSWERS: dict[str, Any] = {"/v1/score": Answer, "/v1/score/batch": BatchAnswer}
PATHS = st.sampled_from(sorted(ANSWERS))
hostile = settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])


async def refused(app: FastAPI, client: httpx.AsyncClient, path: str, body: bytes, kind: str) -> bool:
    """Whether the body was refused; the answer is checked either way."""
    answer = await client.post(path, content=body, headers={"Content-Type": kind})
    promised = app.openapi()["paths"][path]["post"]["responses"]
    assert str(answer.status_code) in promised
    assert answer.headers["content-type"] in promised[str(answer.status_code)]["content"]
    if answer.status_code == 200:
        ANSWERS[path].model_validate_json(answer.content)
        return False
    assert answer.status_code < 500
    problem = Problem.model_validate_json(answer.content)
    assert (problem.status, answer.headers["content-type"]) == (answer.status_code, MEDIA_TYPE)
    assert MARK not in answer.text
    return True


@pytest.fixture(autouse=True)
def _quiet_log(caplog: pytest.LogCaptureFixture) -> Any:
    yield
    assert MARK not in caplog.text
    assert "Traceback" not in caplog.text


@hostile
@given(near=PATHS.flatmap(lambda path: st.tuples(st.just(path), near_bodies(path))))
async def test_what_is_nearly_a_transaction_is_decided_or_refused(
    app: FastAPI, client: httpx.AsyncClient, near: tuple[str, bytes]
) -> None:
    await refused(app, client, *near, "application/json")


@hostile
@given(body=any_bodies(), kind=st.sampled_from(CONTENT_TYPES), path=PATHS)
async def test_bytes_of_any_type_are_decided_or_refused(
    app: FastAPI, client: httpx.AsyncClient, body: bytes, kind: str, path: str
) -> None:
    is_refused = await refused(app, client, path, body, kind)
    assert is_refused or kind in CONTENT_TYPES[:2]


@pytest.mark.parametrize("field", ["currency_paid", "sender_country", "timestamp", "amount_paid"])
async def test_an_account_id_in_the_place_of_another_field_is_not_repeated(
    app: FastAPI, client: httpx.AsyncClient, field: str
) -> None:
    body = f'{{"{field}": "{MARK}"}}'.encode()
    assert await refused(app, client, "/v1/score", body, "application/json")
