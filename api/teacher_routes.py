"""The bundle's teacher, lent to other riskdistill services by the Open Inference Protocol.

It is stateless: it scores encoded rows and touches neither account state nor the decision log, so the service that
asks stays the only one that decides and records. A key is needed, as for `/v1`. It answers from its own bundle's
teacher only, whatever it asks itself, so two services that name each other make no circle.
"""

from __future__ import annotations

from fastapi import APIRouter

from api.bypass.open_inference import InferRequest, InferResponse, rows_of, tensor
from api.problems import REFUSALS, documented
from api.routes import Serving
from api.security.auth import ScopedRoute, needs
from riskdistill.errors import BundleDamagedError, TransactionError

v2 = APIRouter(
    prefix="/v2/models/teacher",
    tags=["teacher"],
    route_class=ScopedRoute,
    responses=documented(*REFUSALS),
)


@v2.post("/infer", summary="What the bundle's teacher makes of encoded transactions", dependencies=[needs("score")])
async def infer(request: InferRequest, service: Serving) -> InferResponse:
    """Open Inference Protocol, version 2: inputs `context` and `events`; outputs `score` and `typology`.

    Scores are calibrated probabilities. 503 where the teacher is not there, busy, or late.
    """
    bypass, warm = service.parts.bypass, service.bundles.warm
    assert warm is not None  # the parts came up with it
    bundle = warm.bundle
    try:
        scored = await bypass.lend(bundle, rows_of(request, bundle.spec))
    except BundleDamagedError as error:  # of rows that no engine encoded
        raise TransactionError(
            "the network gives no number for these rows",
            where="inputs",
            mend="send rows as the engine encodes them",
        ) from error
    outputs = [tensor("score", scored.score), tensor("typology", scored.typology)]
    return InferResponse(model_name="teacher", model_version=bundle.version, outputs=outputs)
