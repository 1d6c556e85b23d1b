"""The wire form: what was encoded is what arrives, and no body whatever gets past the checks."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from fake_teachers import encoded
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from pydantic import ValidationError

from api.bypass.open_inference import InferRequest, InferResponse, Tensor, answer_of, request_of, rows_of, tensor
from riskdistill.errors import TransactionError, UnavailableError
from riskdistill.features.encoded import Encoded

SPEC: Any = SimpleNamespace(fingerprint="f1", context=range(3), events_per_party=1, token_channels=range(2))
NUMBERS = st.floats(width=32, allow_infinity=False)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=12,
)


@given(context=arrays.arrays(np.float32, (2, 3), elements=NUMBERS), events=arrays.arrays(np.float32, (2, 2, 2)))
def test_what_was_encoded_arrives_to_the_bit(context: Any, events: Any) -> None:
    events = np.nan_to_num(events)
    rows = rows_of(InferRequest.model_validate_json(request_of(Encoded(context, events), {"features": "f1"})), SPEC)
    np.testing.assert_array_equal(rows.context, context)
    np.testing.assert_array_equal(rows.events, events)


@given(data=st.lists(JSON, max_size=4), shape=st.lists(st.integers(), max_size=3), parameters=JSON)
def test_a_request_of_anything_is_rows_or_refused(data: list[Any], shape: list[int], parameters: Any) -> None:
    inputs = [
        {"name": "context", "shape": [1, 3], "datatype": "FP32", "data": data},
        {"name": "events", "shape": shape, "datatype": "FP32", "data": data},
    ]
    for second in (inputs[1], {**inputs[1], "shape": [1, 2, 2]}):
        try:
            request = InferRequest.model_validate({"parameters": parameters, "inputs": [inputs[0], second]})
            rows = rows_of(request, SPEC)
        except (TransactionError, ValidationError):
            continue
        assert rows.context.shape == (1, 3)
        assert rows.events.shape == (1, 2, 2)


@pytest.mark.parametrize("number", [float("inf"), -float("inf"), 1e300])
def test_a_number_that_is_infinite_is_refused(number: float) -> None:
    context = Tensor(name="context", shape=[1, 3], datatype="FP32", data=[1, number, 2])
    events = Tensor(name="events", shape=[1, 2, 2], datatype="FP32", data=[0, 0, 0, 0])
    with pytest.raises(TransactionError, match="infinite"):
        rows_of(InferRequest(inputs=[context, events]), SPEC)


@given(
    outputs=st.dictionaries(st.sampled_from(["score", "logit", "typology", "other"]), st.lists(JSON, max_size=3))
)
def test_a_response_of_anything_is_a_probability_or_refused(outputs: dict[str, list[Any]]) -> None:
    told = [
        {"name": name, "shape": [len(data)], "datatype": "FP64", "data": data} for name, data in outputs.items()
    ]
    raw = json.dumps({"model_name": "t", "outputs": told}).encode()
    try:
        scored, _ = answer_of(raw, encoded(), None, 3)
    except UnavailableError:
        return
    assert 0 <= scored.score[0] <= 1


@given(st.binary(max_size=200))
def test_random_bytes_are_no_response(raw: bytes) -> None:
    with pytest.raises(UnavailableError):
        answer_of(raw, encoded(), None, 3)


def test_what_one_service_answers_the_other_reads() -> None:
    outputs = [tensor("score", np.array([0.1])), tensor("typology", np.array([[0.2, 0.3, 0.5]], np.float32))]
    raw = InferResponse(model_name="teacher", model_version="v", outputs=outputs).model_dump_json().encode()
    scored, version = answer_of(raw, encoded(), None, 3)
    assert (scored.score[0], version) == (0.1, "v")
    np.testing.assert_array_equal(scored.typology, np.array([[0.2, 0.3, 0.5]], np.float32))
