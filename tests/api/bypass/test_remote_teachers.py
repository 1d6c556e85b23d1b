"""A teacher behind HTTP is asked by the Open Inference Protocol, and believed only where its answer is a score."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_teachers import Endpoint, encoded, endpoint, fake_bundle
from pydantic import SecretStr

from api.bypass.settings import OpenInference, RiskDistill
from api.bypass.teachers import MAX_ANSWER_BYTES, RemoteTeacher
from riskdistill.errors import ConfigError, UnavailableError
from riskdistill.features.encoded import Encoded

pytestmark = pytest.mark.anyio
TYPOLOGY = [0.2, 0.7, 0.1]


@pytest.fixture
def server() -> Iterator[Endpoint]:
    with endpoint() as told:
        told.gives(score=[0.75])
        yield told


@pytest.fixture
async def teacher(server: Endpoint) -> AsyncIterator[RemoteTeacher]:
    settings = OpenInference(url=server.url, model="event-teacher")
    teacher = RemoteTeacher(settings, SecretStr("a-secret-key"), 2, deadline=5.0)
    yield teacher
    await teacher.close()


async def test_the_row_is_sent_whole_with_what_is_unknown_in_it(teacher: RemoteTeacher, server: Endpoint) -> None:
    context = np.array([[0.1, np.nan, -3e30]], np.float32)
    events = np.arange(8, dtype=np.float32).reshape(1, 2, 4)
    await teacher.ask(fake_bundle(), Encoded(context, events))
    assert server.paths == ["/v2/models/event-teacher/infer"]
    (body,) = server.bodies
    assert list(body) == ["inputs"]  # nothing but the tensors: no id, no account
    sent = {one["name"]: np.array(one["data"], np.float32).reshape(one["shape"]) for one in body["inputs"]}
    np.testing.assert_array_equal(sent["context"], context)
    np.testing.assert_array_equal(sent["events"], events)
    assert {one["datatype"] for one in body["inputs"]} == {"FP32"}
    assert server.headers[0]["Authorization"] == "Bearer a-secret-key"


async def test_a_score_is_taken_as_it_is(teacher: RemoteTeacher, server: Endpoint) -> None:
    server.gives(score=[[0.75]], typology=[TYPOLOGY])
    scored, version = await teacher.ask(fake_bundle(), encoded())
    assert (scored.score[0], version) == (0.75, "7")
    np.testing.assert_allclose(scored.typology, [TYPOLOGY], rtol=1e-6)
    server.gives(score=[0.75])
    assert (await teacher.ask(fake_bundle(), encoded())).scored.typology.size == 0


async def test_a_logit_is_completed_by_the_bundle_s_own_teacher(teacher: RemoteTeacher, server: Endpoint) -> None:
    server.gives(logit=[-1.5], typology_logits=[[0.0, 1.0, 2.0]])
    bundle, row = fake_bundle(), encoded()
    asked: list[Any] = []
    bundle.teacher.finish = lambda *arguments: asked.append(arguments) or "finished"
    assert (await teacher.ask(bundle, row)).scored == "finished"
    ((found, logit, typology_logits),) = asked
    assert found is row
    np.testing.assert_array_equal(logit, np.array([-1.5], np.float32))
    np.testing.assert_array_equal(typology_logits, np.array([[0, 1, 2]], np.float32))
    with pytest.raises(UnavailableError, match="no teacher to complete it"):
        await teacher.ask(fake_bundle("none"), row)


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"no JSON",
        b"[]",
        b"{}",
        b'{"model_name": "t", "outputs": []}',
        *(
            json.dumps({"model_name": "t", "outputs": [output]}).encode()
            for output in (
                {"name": "score", "shape": [1], "datatype": "FP64", "data": [float("nan")]},
                {"name": "score", "shape": [1], "datatype": "FP64", "data": [float("inf")]},
                {"name": "score", "shape": [1], "datatype": "FP64", "data": [1.01]},
                {"name": "score", "shape": [1], "datatype": "FP64", "data": [-0.01]},
                {"name": "score", "shape": [2], "datatype": "FP64", "data": [0.1, 0.2]},
                {"name": "score", "shape": [2], "datatype": "FP64", "data": [0.1]},
                {"name": "score", "shape": [1], "datatype": "FP64", "data": []},
                {"name": "score", "shape": [1], "datatype": "FP64", "data": ["high"]},
                {"name": "score", "shape": [1], "datatype": "FP64", "data": [None]},
                {"name": "score", "shape": [1], "datatype": "FP64", "data": [{"a": 1}]},
                {"name": "score", "shape": [1], "datatype": "FP64", "data": [[0.1], [0.2, 0.3]]},
                {"name": "score", "shape": [1], "datatype": "FP64", "data": [10**400]},
                {"name": "logit", "shape": [1], "datatype": "FP32", "data": [float("nan")]},
                {"name": "logit", "shape": [0], "datatype": "FP32", "data": []},
                {"name": "probability", "shape": [1], "datatype": "FP32", "data": [0.5]},
            )
        ),
    ],
)
async def test_what_is_no_score_of_the_row_is_refused(
    teacher: RemoteTeacher, server: Endpoint, answer: bytes
) -> None:
    server.answer = answer
    with pytest.raises(UnavailableError):
        await teacher.ask(fake_bundle(), encoded())


async def test_a_typology_of_another_size_is_refused(teacher: RemoteTeacher, server: Endpoint) -> None:
    server.gives(score=[0.75], typology=[0.5, 0.5])
    with pytest.raises(UnavailableError, match="typology is not 3 finite numbers"):
        await teacher.ask(fake_bundle(), encoded())


@pytest.mark.parametrize("status", [302, 401, 404, 500, 503])
async def test_another_status_is_no_answer_and_redirects_are_not_followed(
    teacher: RemoteTeacher, server: Endpoint, status: int
) -> None:
    server.status = status
    with pytest.raises(UnavailableError, match=str(status)):
        await teacher.ask(fake_bundle(), encoded())
    assert len(server.paths) == 1


async def test_an_answer_without_end_is_not_read_to_it(teacher: RemoteTeacher, server: Endpoint) -> None:
    server.answer = b" " * (MAX_ANSWER_BYTES + 1)
    with pytest.raises(UnavailableError, match="too long"):
        await teacher.ask(fake_bundle(), encoded())


async def test_a_server_that_is_not_there_or_hangs_is_no_answer_and_tells_no_key(
    server: Endpoint, caplog: pytest.LogCaptureFixture
) -> None:
    may_answer = threading.Event()
    server.before = lambda: may_answer.wait(20)
    key = SecretStr("a-secret-key")
    nobody = "http://127.0.0.1:1"
    for url, deadline, error in ((server.url, 0.05, TimeoutError), (nobody, 20.0, UnavailableError)):
        teacher = RemoteTeacher(OpenInference(url=url), key, 1, deadline)
        with caplog.at_level(logging.DEBUG), pytest.raises(error) as caught:
            await teacher.ask(fake_bundle(), encoded())
        await teacher.close()
        assert "a-secret-key" not in f"{caught.value}{caplog.text}"
    may_answer.set()


async def test_another_riskdistill_is_told_which_features_the_row_holds(server: Endpoint) -> None:
    teacher = RemoteTeacher(RiskDistill(url=server.url), None, 1, deadline=5.0)
    assert teacher.kind == "riskdistill"
    await teacher.ask(fake_bundle(), encoded())
    await teacher.close()
    assert server.paths == ["/v2/models/teacher/infer"]
    assert server.bodies[0]["parameters"] == {"features": "f1"}
    assert "Authorization" not in server.headers[0]


def test_a_file_of_authorities_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("not a certificate")
    for name in ("ca.pem", "absent.pem"):
        settings = OpenInference(url="https://teacher.example", ca_file=tmp_path / name)
        with pytest.raises(ConfigError, match=name):
            RemoteTeacher(settings, None, 1, deadline=1.0)
