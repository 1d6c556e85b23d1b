"""The wire form of the Open Inference Protocol, version 2, over HTTP: what is asked and what is answered, as JSON.

A feature may be unknown, which is NaN. JSON has no such number; Triton and Python's servers read the token `NaN`,
and so does the teacher that this service lends. An answer that is not finite is refused.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field, ValidationError

from riskdistill.errors import TransactionError, UnavailableError
from riskdistill.features.encoded import Encoded
from riskdistill.features.spec import FeatureSpec
from riskdistill.models.onnx_model import NetworkScorer, Scored

MAX_ROWS: Final = 256  # of one request
FEATURES: Final = "features"  # parameter of a request: fingerprint of the features that were encoded
_UNKNOWN: Final = np.zeros((1, 0), np.float32)  # typology of an answer that states none
_MEND: Final = "send the tensors context and events, as the bundle's networks take them"


class Tensor(BaseModel):
    """A named array; `data` is flat in row-major order, or nested."""

    name: str = Field(max_length=64)
    shape: list[int] = Field(max_length=4)
    datatype: str = Field(examples=["FP32"])
    data: list[Any]


class InferRequest(BaseModel):
    """Rows to score."""

    parameters: dict[str, Any] = Field(default_factory=dict)
    inputs: list[Tensor] = Field(max_length=8)


class InferResponse(BaseModel):
    """What a model makes of them."""

    model_name: str
    model_version: str | None = None
    outputs: list[Tensor]


def tensor(name: str, values: NDArray[Any]) -> Tensor:
    """An array as a tensor of its precision."""
    kind = "FP32" if values.dtype == np.float32 else "FP64"
    return Tensor(name=name, shape=list(values.shape), datatype=kind, data=values.ravel().tolist())


def request_of(encoded: Encoded, parameters: Mapping[str, str]) -> bytes:
    """The body that asks about these rows."""
    inputs = [
        {"name": name, "shape": values.shape, "datatype": "FP32", "data": values.ravel().tolist()}
        for name, values in (("context", encoded.context), ("events", encoded.events))
    ]
    return json.dumps(
        {"parameters": dict(parameters), "inputs": inputs} if parameters else {"inputs": inputs}
    ).encode()


def rows_of(request: InferRequest, spec: FeatureSpec) -> Encoded:
    """The rows of a request for a model with these features.

    Raises:
        TransactionError: they are of other features, too many, or not of the shape that the model takes.
    """
    asked = request.parameters.get(FEATURES, spec.fingerprint)
    if asked != spec.fingerprint:
        raise TransactionError(
            f"the rows hold other features than {spec.fingerprint}",
            where=f"parameter {FEATURES}",
            mend="ask a service whose bundle has the same features",
        )
    found = {one.name: one for one in request.inputs}
    rows = found["context"].shape[:1] if "context" in found else []
    if not rows or not 1 <= rows[0] <= MAX_ROWS:
        raise TransactionError(f"not 1 to {MAX_ROWS} rows", where="input context", mend=_MEND)
    events = [2 * spec.events_per_party, len(spec.token_channels)]
    shapes = {"context": [rows[0], len(spec.context)], "events": [rows[0], *events]}
    arrays = {}
    for name, shape in shapes.items():
        if name not in found or found[name].shape != shape:
            raise TransactionError(f"not of shape {shape}", where=f"input {name}", mend=_MEND)
        try:
            with np.errstate(over="ignore"):
                arrays[name] = np.asarray(found[name].data, np.float32).reshape(shape)
        except (ValueError, TypeError, OverflowError) as error:
            raise TransactionError("its data are not as many numbers", where=f"input {name}", mend=_MEND) from error
        if np.isinf(arrays[name]).any():
            raise TransactionError("a number of it is infinite", where=f"input {name}", mend=_MEND)
    return Encoded(arrays["context"], arrays["events"])


def answer_of(
    raw: bytes, encoded: Encoded, teacher: NetworkScorer | None, typologies: int
) -> tuple[Scored, str | None]:
    """The scores of one row in a response's body (no typology where it states none), and the model's version.

    Args:
        raw: the body.
        encoded: the row that was asked about.
        teacher: the bundle's own, which completes a network's logits.
        typologies: how many there are.

    Raises:
        UnavailableError: it is no such response, or not a score of this row.
        BundleDamagedError: its logit is not a number.
    """
    try:
        response = InferResponse.model_validate_json(raw)
    except ValidationError as error:
        raise _refused("it is no response of the Open Inference Protocol") from error
    outputs = {one.name: one for one in response.outputs}
    if "score" in outputs:
        score = _numbers(outputs["score"], 1)
        if not 0 <= score[0] <= 1:
            raise _refused("its score is not a probability")
        typology = _kinds(outputs.get("typology"), typologies)
        return Scored(score, np.full(1, np.nan), typology), response.model_version
    if "logit" not in outputs:
        raise _refused("it has neither output score nor logit")
    if teacher is None:
        raise _refused("it gives a logit, and the bundle has no teacher to complete it")
    logit = _single(_numbers(outputs["logit"], 1))
    kinds = _kinds(outputs.get("typology_logits"), typologies)
    return teacher.finish(encoded, logit, kinds), response.model_version


def _kinds(output: Tensor | None, typologies: int) -> NDArray[np.float32]:
    return _UNKNOWN if output is None else _single(_numbers(output, typologies)[None])


def _single(values: NDArray[np.float64]) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):  # then it is infinite, and refused where it decides
        return values.astype(np.float32)


def _numbers(output: Tensor, size: int) -> NDArray[np.float64]:
    try:
        values = np.asarray(output.data, np.float64).ravel()
    except (ValueError, TypeError, OverflowError) as error:
        raise _refused(f"its {output.name} is not made of numbers") from error
    if values.size != size or int(np.prod(output.shape)) != size or not np.isfinite(values).all():
        raise _refused(f"its {output.name} is not {size} finite numbers")
    return values


def _refused(what: str) -> UnavailableError:
    return UnavailableError(f"the teacher's answer cannot be used: {what}", mend="check the endpoint")
