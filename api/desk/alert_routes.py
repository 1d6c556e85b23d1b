"""Routes of the alert queue, of what it misses, and of explanations."""

from __future__ import annotations

import asyncio
from typing import Annotated, Final

from fastapi import APIRouter, Query
from pydantic import AwareDatetime, BaseModel, Field

from api.desk.explanation import Explained, explained
from api.problems import REFUSALS, documented
from api.routes import Serving
from api.security.auth import ScopedRoute, needs
from riskdistill.errors import NotFoundError
from riskdistill.evaluation.recall_estimate import RecallEstimate
from riskdistill.storage.alert_queue import Queue
from riskdistill.storage.alerts import Kind
from riskdistill.storage.decisions import Band, Decision, StatedReason

MAX_BUDGET: Final = 1_000  # shown at once

alerts = APIRouter(
    prefix="/v1",
    tags=["alerts"],
    route_class=ScopedRoute,
    responses=documented(*REFUSALS),
)


class QueuedAlert(BaseModel):
    """One decision to review."""

    decision_id: str
    tx_id: str
    kind: Kind = Field(description="`sample`, or a `suppressed` alert that was drawn, serves the estimate")
    decided_at: AwareDatetime
    score: float
    band: Band
    at_risk_usd: float
    expected_value_usd: float = Field(description="score times amount at risk, less the cost of a review")
    typology: str | None
    reasons: tuple[StatedReason, ...]


class Alerts(BaseModel):
    """What to review today, the most valuable first."""

    budget: int = Field(description="transactions that can be reviewed a day")
    reviewed_today: int = Field(description="of the queue, since midnight UTC")
    alerts_waiting: int = Field(description="shown or not")
    samples_waiting: int
    alerts: list[QueuedAlert]


class ToExplain(BaseModel):
    """Which decision."""

    decision_id: str = Field(max_length=64, examples=["3f0c9a52-6a55-4d4e-9d0a-0d7f5b3f7c11"])


@alerts.get("/alerts", summary="The alert queue", dependencies=[needs("read")])
async def queue(service: Serving, limit: Annotated[int, Query(ge=1, le=MAX_BUDGET)] = 100) -> Alerts:
    """Alerts without a case, within what is left of today's budget; a tenth of its places is for samples."""
    budget, cost = service.settings.alert_budget, service.settings.review_cost_usd
    found, decisions = await asyncio.to_thread(_read, service, budget, limit)
    shown = [decisions[item.tx_id] for item in found.items if item.tx_id in decisions]
    kinds = {item.tx_id: item.kind for item in found.items}
    return Alerts(
        budget=budget,
        reviewed_today=found.reviewed_today,
        alerts_waiting=found.alerts_waiting,
        samples_waiting=found.samples_waiting,
        alerts=[_queued(decision, kinds[decision.tx_id], cost) for decision in shown],
    )


@alerts.get(
    "/alerts/estimate",
    summary="What share of the laundering is alerted, by reviewed samples",
    dependencies=[needs("read")],
)
async def estimate(
    service: Serving,
    since: Annotated[AwareDatetime | None, Query(description="decisions from then on; default: all")] = None,
) -> RecallEstimate:
    """With intervals of 95 %; see `riskdistill.evaluation.recall_estimate` for what they rest on."""
    return await asyncio.to_thread(service.parts.desk.queue.estimate, since)


@alerts.post(
    "/explain", summary="Why a decision is what it is", responses=documented(404), dependencies=[needs("read")]
)
async def explain(which: ToExplain, service: Serving) -> Explained:
    """The reasons as stored, and both models' own where the row that they saw was kept; says what it lacks."""
    decision = await asyncio.to_thread(service.parts.log.get, which.decision_id)
    if decision is None:
        raise NotFoundError("no decision has this id", mend="use the decision_id of a scoring answer")
    return await asyncio.to_thread(explained, decision, service.bundles.warm)


def _read(service: Serving, budget: int, limit: int) -> tuple[Queue, dict[str, Decision]]:
    found = service.parts.desk.queue.today(budget)
    found = found._replace(items=found.items[:limit])
    return found, service.parts.log.by_txs([item.tx_id for item in found.items])


def _queued(decision: Decision, kind: Kind, cost: float) -> QueuedAlert:
    at_risk = decision.at_risk_usd or 0.0
    return QueuedAlert(
        decision_id=decision.decision_id,
        tx_id=decision.tx_id,
        kind=kind,
        decided_at=decision.decided_at,
        score=decision.score,
        band=decision.band,
        at_risk_usd=at_risk,
        expected_value_usd=decision.score * at_risk - cost,
        typology=decision.typology,
        reasons=decision.reasons,
    )
