"""Routes of cases and suppressions: what investigators found, and what they need not look at for a while.

Who told it is in the logs by the name of the key or the subject of the token, which nobody else can use: a name
that a body told would prove nothing.
"""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, Final

from fastapi import APIRouter, Path, Query
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints

from api.problems import REFUSALS, documented
from api.routes import Serving
from api.schemas import Words
from api.security.auth import Calling, ScopedRoute, needs
from api.service import Service
from riskdistill.data.schema import MAX_ID_LENGTH
from riskdistill.errors import CaseError, NotFoundError
from riskdistill.storage.cases import Case, Finding, Outcome
from riskdistill.storage.decisions import Decision
from riskdistill.storage.suppressions import Suppression, Target

MAX_TRANSACTIONS: Final = 256  # of one case
Name = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=100)]
TxId = Annotated[str, StringConstraints(min_length=1, max_length=MAX_ID_LENGTH)]
_CASE_EXAMPLE: Final[dict[str, Any]] = {
    "tx_ids": ["2026-03-01-000042"],
    "outcome": "laundering",
    "typology": "fan_in",
    "note": "mule account, confirmed by the bank",
    "known_at": "2026-03-09T16:00:00Z",
}
_SUPPRESSION_EXAMPLE: Final[dict[str, Any]] = {
    "target": {"account": "0123456789abcdef0123456789abcdef"},
    "owner": "payments team",
    "reason": "payroll account, reviewed in March",
    "expires_at": "2026-06-01T00:00:00Z",
}

cases = APIRouter(
    prefix="/v1",
    tags=["cases"],
    route_class=ScopedRoute,
    responses=documented(*REFUSALS),
)
suppressions = APIRouter(
    prefix="/v1",
    tags=["suppressions"],
    route_class=ScopedRoute,
    responses=documented(*REFUSALS),
)


class NewCase(BaseModel):
    """A finding on a decision's transaction, or on several transactions."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [_CASE_EXAMPLE]})

    tx_ids: list[TxId] = Field(default_factory=list, max_length=MAX_TRANSACTIONS)
    decision_id: str | None = Field(None, max_length=64, description="in place of tx_ids")
    outcome: Outcome
    typology: str | None = Field(None, max_length=64, description="of laundering; `unlisted` if left out")
    is_new_typology: bool = Field(False, description="no model was taught it yet: a retraining will be")
    note: Words | None = Field(None, description="kept as it is: name no person and no account in it")
    known_at: AwareDatetime = Field(description="when the outcome became known; not in the future")


class Cases(BaseModel):
    """A page of cases; `next_after` is where the next page begins, None where this was the last."""

    cases: list[Case]
    next_after: int | None


class NewSuppression(BaseModel):
    """What shall pass without review until `expires_at`."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [_SUPPRESSION_EXAMPLE]})

    target: Target
    owner: Name = Field(description="who answers for it")
    reason: Words
    expires_at: AwareDatetime = Field(description="when it lapses by itself; within 366 days")
    covers_high: bool = Field(False, description="whether what would be held passes too")


class Suppressions(BaseModel):
    """Those in force."""

    suppressions: list[Suppression]


@cases.post(
    "/cases", summary="Record the outcome of a case", responses=documented(404, 409), dependencies=[needs("label")]
)
async def record_case(new: NewCase, service: Serving, caller: Calling) -> Case:
    """A later `known_at` supersedes what was known before; the same case told twice is recorded once.

    Its `actor` is the name of the caller's key, or the subject of the token.
    """
    return await asyncio.to_thread(_record, service, new, caller.name)


@cases.get("/cases", summary="Cases in the order in which they were recorded", dependencies=[needs("label")])
async def list_cases(
    service: Serving,
    after: Annotated[int, Query(ge=0, le=2**62, description="start after case number")] = 0,
    limit: Annotated[int, Query(ge=1, le=1_000)] = 100,
) -> Cases:
    """All findings ever recorded, superseded ones too."""
    page = await asyncio.to_thread(service.parts.desk.cases.list, after, limit)
    return Cases(cases=page, next_after=after + limit if len(page) == limit else None)


@suppressions.post(
    "/suppressions", summary="Let alerts pass without review for a while", dependencies=[needs("operate")]
)
async def add_suppression(new: NewSuppression, service: Serving, caller: Calling) -> Suppression:
    """Such alerts are still decided, recorded and counted; their action is `allow`.

    `added_by` is the name of the caller's key, or the subject of the token.
    """
    if new.target.typology is not None:
        _require_typology(service, new.target.typology)
    return await asyncio.to_thread(
        service.parts.desk.suppressions.add,
        new.target,
        owner=new.owner,
        reason=new.reason,
        expires_at=new.expires_at,
        covers_high=new.covers_high,
        actor=caller.name,
    )


@suppressions.get("/suppressions", summary="Suppressions in force", dependencies=[needs("operate")])
async def list_suppressions(service: Serving) -> Suppressions:
    """Those that have not lapsed, oldest first."""
    await asyncio.to_thread(service.parts.desk.suppressions.refresh)
    return Suppressions(suppressions=service.parts.desk.suppressions.active())


@suppressions.delete(
    "/suppressions/{suppression_id}",
    summary="Take a suppression back",
    responses=documented(404),
    dependencies=[needs("operate")],
)
async def remove_suppression(
    suppression_id: Annotated[str, Path(max_length=32, examples=["s1"])],
    reason: Annotated[Words, Query()],
    service: Serving,
    caller: Calling,
) -> Suppression:
    """It is over at once; the log keeps who removed it and why."""
    return await asyncio.to_thread(
        service.parts.desk.suppressions.remove, suppression_id, reason=reason, actor=caller.name
    )


def _record(service: Service, new: NewCase, actor: str) -> Case:
    parts = service.parts
    if bool(new.tx_ids) == (new.decision_id is not None):
        raise CaseError("a case is of tx_ids or of a decision_id", where="body", mend="name one of the two")
    decided: dict[str, Decision] = {}
    if new.decision_id is not None:
        decision = parts.log.get(new.decision_id)
        if decision is None:
            raise NotFoundError("no decision has this id", mend="use the decision_id of a scoring answer")
        decided = {decision.tx_id: decision}
    else:
        decided = parts.log.by_txs(new.tx_ids)
    finding = Finding(new.tx_ids or list(decided), new.outcome, new.known_at, typology=new.typology, note=new.note)
    typologies = None if new.is_new_typology else _typologies(service)
    return parts.desk.cases.record(finding, decided=decided, typologies=typologies, actor=actor)


def _typologies(service: Service) -> tuple[str, ...]:
    warm = service.bundles.warm
    assert warm is not None  # the parts came up with it
    return warm.bundle.typologies


def _require_typology(service: Service, typology: str) -> None:
    known = _typologies(service)
    if typology not in known:
        raise CaseError("no such typology", where="target.typology", mend=f"use one of {', '.join(known)}")
