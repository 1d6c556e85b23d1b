"""With a real, small bundle: a service lends its teacher, another asks it; the scores are the bundle's own."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
import pytest
import uvicorn
from fake_serving import KEY, running, settings_for
from fake_teachers import endpoint
from fastapi import FastAPI
from pydantic import SecretStr

from api.app import create_app
from api.bypass.open_inference import request_of
from api.service import Service
from riskdistill.bundle import Bundle
from riskdistill.data.transaction import transactions_from
from riskdistill.errors import UnavailableError
from riskdistill.features.encoded import Encoded

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def _fake_bundles() -> None:
    """Nothing is faked here."""


@pytest.fixture
def lender(tmp_path: Path, tiny_bundle: Bundle) -> Iterator[str]:
    """The URL of a whole service on a socket of loopback, with its teacher loaded."""
    settings = settings_for(tmp_path / "lender", bundle=tiny_bundle.path, teacher_deadline_ms=20_000)
    app = create_app(settings)
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error", lifespan="on"))
    thread = threading.Thread(target=server.run)
    thread.start()
    until = time.monotonic() + 60
    try:
        while not (server.started and _has_its_teacher(app)) and time.monotonic() < until:
            time.sleep(0.005)
        assert _has_its_teacher(app)
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


def _has_its_teacher(app: FastAPI) -> bool:
    service: Service = app.state.service
    try:
        return service.ready().teacher_state == "loaded"
    except UnavailableError:
        return False


@pytest.fixture
def rows(tiny_bundle: Bundle, tiny_tables: tuple[pa.Table, pa.Table]) -> Encoded:
    return tiny_bundle.engine().encode(tiny_tables[0].slice(0, 40))


def asking(tmp_path: Path, bundle: Bundle, kind: str, url: str) -> Any:
    """The application of a service that asks the teacher at `url` about everything."""
    path = tmp_path / "bypass.yaml"
    told = {"policies": {"amount_usd": 1e-9}, "teacher": {kind: {"url": url}, "calls_at_once": 2}}
    path.write_text(json.dumps(told))
    return create_app(
        settings_for(
            tmp_path / "asking",
            bundle=bundle.path,
            bypass=path,
            teacher_key=SecretStr(KEY),
            teacher_deadline_ms=20_000,
        )
    )


async def scores_by_teacher(app: Any, bundle: Bundle, traffic: pa.Table) -> list[dict[str, Any]]:
    async with running(app) as client:
        answers = []
        for transaction in transactions_from(traffic):
            said = (await client.post("/v1/score", json=transaction.model_dump(mode="json"))).json()
            answers.append((await client.get(f"/v1/decisions/{said['decision_id']}")).json())
    assert {answer["route"] for answer in answers} == {"teacher"}
    return answers


async def test_another_service_s_teacher_gives_the_bundle_s_own_scores(
    tmp_path: Path, tiny_bundle: Bundle, tiny_tables: tuple[pa.Table, pa.Table], rows: Encoded, lender: str
) -> None:
    assert np.isnan(rows.context).any()  # what is unknown gets there too
    app = asking(tmp_path, tiny_bundle, "riskdistill", lender)
    answers = await scores_by_teacher(app, tiny_bundle, tiny_tables[0].slice(0, 40))
    assert tiny_bundle.teacher is not None
    expected = tiny_bundle.teacher.score(rows).score
    assert [answer["score"] for answer in answers] == pytest.approx(list(expected), abs=1e-6)
    assert {answer["bypass"]["teacher_version"] for answer in answers} == {tiny_bundle.version}


@pytest.mark.parametrize("states_typology", [True, False])
async def test_a_plain_model_server_s_logit_becomes_the_bundle_s_own_score(
    states_typology: bool,
    tmp_path: Path,
    tiny_bundle: Bundle,
    tiny_tables: tuple[pa.Table, pa.Table],
    rows: Encoded,
) -> None:
    teacher = tiny_bundle.teacher
    assert teacher is not None
    network = getattr(teacher, "_event", teacher)
    with endpoint() as server:

        def compute() -> None:
            sent = {
                one["name"]: np.array(one["data"], np.float32).reshape(one["shape"])
                for one in server.bodies[-1]["inputs"]
            }
            logit, typology_logits = network._session.run(None, sent)
            kinds = {"typology_logits": typology_logits.tolist()} if states_typology else {}
            server.gives(logit=logit.tolist(), **kinds)

        server.before = compute
        app = asking(tmp_path, tiny_bundle, "open_inference", server.url)
        answers = await scores_by_teacher(app, tiny_bundle, tiny_tables[0].slice(0, 40))
    assert [answer["score"] for answer in answers] == pytest.approx(list(teacher.score(rows).score), abs=1e-6)


async def test_the_lender_refuses_who_has_no_key_and_rows_that_it_cannot_score(
    tiny_bundle: Bundle, rows: Encoded, lender: str
) -> None:
    def body(**changes: Any) -> dict[str, Any]:
        told: dict[str, Any] = json.loads(request_of(rows.take(slice(0, 1)), {}))
        return told | changes

    url = f"{lender}/v2/models/teacher/infer"
    async with httpx.AsyncClient(headers={"X-API-Key": KEY}) as client:
        whole = json.dumps(body())
        answer = await client.post(url, content=whole, headers={"Content-Type": "application/json"})
        assert answer.status_code == 200, answer.text
        assert [output["name"] for output in answer.json()["outputs"]] == ["score", "typology"]
        assert (await client.post(url, content=whole, headers={"X-API-Key": "none such"})).status_code == 401
        context, events = body()["inputs"]
        flat = {**context, "data": context["data"][:-1]}
        for wrong, says in (
            (body(parameters={"features": "0" * 16}), "other features"),
            (body(inputs=[context]), "input events"),
            (body(inputs=[events]), "input context"),
            (body(inputs=[{**context, "shape": [1, 1]}, events]), "input context"),
            (body(inputs=[{**context, "shape": [0]}, events]), "input context"),
            (body(inputs=[{**context, "shape": [10**6, *context["shape"][1:]]}, events]), "1 to 256 rows"),
            (body(inputs=[flat, events]), "as many numbers"),
            (body(inputs=[{**context, "data": ["x"] * len(context["data"])}, events]), "as many numbers"),
            (body(inputs=[]), "input context"),
            ({}, "inputs"),
        ):
            answer = await client.post(url, content=json.dumps(wrong), headers={"Content-Type": "application/json"})
            assert (answer.status_code, says in answer.text) == (422, True), answer.text
            assert answer.headers["content-type"] == "application/problem+json"
