"""The routes: thin, from HTTP to the service and back. All of `/v1` needs a key or token with the route's scope."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Body, Depends, Path, Query, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST

from api.path import idempotency
from api.problems import REFUSALS, documented, problem
from api.schemas import TRANSACTION_EXAMPLE, Alive, Answer, Batch, BatchAnswer, BatchItem, Ready
from api.security.auth import ScopedRoute, caller_of, count_batch, needs
from api.service import Service
from riskdistill.data.transaction import Transaction
from riskdistill.errors import ConflictError, NotFoundError
from riskdistill.storage.administrative_acts import Act
from riskdistill.storage.decisions import Decision


def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


Serving = Annotated[Service, Depends(_service)]
operation = APIRouter(tags=["operation"])
v1 = APIRouter(
    prefix="/v1",
    route_class=ScopedRoute,
    responses=documented(*REFUSALS),
)


@v1.post(
    "/score",
    tags=["scoring"],
    summary="Decide on one transaction",
    dependencies=[needs("score")],
    responses=documented(409),
    openapi_extra=idempotency.OPENAPI,
)
async def score(
    transaction: Annotated[Transaction, Body(examples=[TRANSACTION_EXAMPLE])], request: Request, service: Serving
) -> Answer:
    """The same transaction sent again gets the stored decision; the same id with another body is refused."""
    (outcome,) = await _decide(request, service, [transaction])
    if isinstance(outcome, ConflictError):
        raise outcome
    return Answer.of(outcome)


@v1.post(
    "/score/batch",
    tags=["scoring"],
    summary="Decide on up to 256 transactions",
    dependencies=[needs("score")],
    responses=documented(409),
    openapi_extra=idempotency.OPENAPI,
)
async def score_batch(batch: Batch, request: Request, service: Serving) -> BatchAnswer:
    """A body that does not validate is refused as a whole; a conflict concerns its own item only."""
    count_batch(caller_of(request), len(batch.transactions))
    outcomes = await _decide(request, service, batch.transactions)
    results = [
        BatchItem(tx_id=transaction.tx_id, problem=problem(outcome, request.url.path))
        if isinstance(outcome, ConflictError)
        else BatchItem(tx_id=transaction.tx_id, decision=Answer.of(outcome))
        for transaction, outcome in zip(batch.transactions, outcomes, strict=True)
    ]
    return BatchAnswer(results=results)


async def _decide(
    request: Request, service: Service, transactions: Sequence[Transaction]
) -> list[Decision | ConflictError]:
    parts = service.parts
    key = idempotency.key_of(request.headers, request.scope["path"], caller_of(request).name)
    if key is None:
        return await parts.scorer.decide(transactions)
    fingerprint = idempotency.fingerprint_of(parts.scorer.request_hashes(transactions))
    async with parts.keys.held(key, fingerprint):
        return await parts.scorer.decide(transactions)


@v1.get(
    "/decisions/{decision_id}",
    tags=["decisions"],
    summary="The stored record of a decision",
    responses=documented(404),
    dependencies=[needs("read")],
)
async def decision(
    decision_id: Annotated[str, Path(max_length=64, examples=["3f0c9a52-6a55-4d4e-9d0a-0d7f5b3f7c11"])],
    service: Serving,
) -> Decision:
    """Account ids in it are pseudonyms."""
    found = await asyncio.to_thread(service.parts.log.get, decision_id)
    if found is None:
        raise NotFoundError("no decision has this id", mend="use the decision_id of a scoring answer")
    return found


@v1.get("/acts", tags=["administration"], summary="The log of administrative acts", dependencies=[needs("admin")])
async def acts(
    service: Serving,
    after: Annotated[int, Query(ge=0, le=2**53, description="sequence of the last act that is known")] = 0,
    limit: Annotated[int, Query(ge=1, le=1_000)] = 100,
) -> list[Act]:
    """In order, from the one after `after`. No act holds a secret."""
    return list(await asyncio.to_thread(service.parts.acts.read, after, limit))


@operation.get("/livez", summary="Whether the process answers")
async def livez() -> Alive:
    """Says nothing of readiness: restart the process only if this fails."""
    return Alive()


@operation.get("/readyz", summary="Whether transactions can be scored", responses=documented(503))
async def readyz(service: Serving) -> Ready:
    """503 until bundle and account state are up, and while the decision log cannot be written."""
    return service.ready()


@operation.get("/metrics", summary="Prometheus metrics", response_class=Response)
async def metrics(service: Serving) -> Response:
    """Text format; see `api.telemetry.metrics`."""
    service.measure()
    return Response(service.metrics.text(), media_type=CONTENT_TYPE_LATEST)
