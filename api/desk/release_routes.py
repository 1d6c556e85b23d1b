"""Routes of releases: what `riskdistill release` does on the command line, but for registering a bundle.

The actor of a change is the name of the caller's key, or the subject of its token: nobody can sign for another.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Annotated

from fastapi import APIRouter, Path, Query
from pydantic import BaseModel, ConfigDict, Field

from api.problems import REFUSALS, documented
from api.routes import Serving
from api.schemas import Words
from api.security.auth import Calling, ScopedRoute, needs
from api.service import Service
from riskdistill import releasing
from riskdistill.releasing import ReleaseStory
from riskdistill.storage.life_cycle import Release, Transition
from riskdistill.storage.releases import ReleaseLog

ReleaseId = Annotated[str, Path(max_length=32, examples=["r2"])]

releases = APIRouter(
    prefix="/v1/releases",
    tags=["releases"],
    route_class=ScopedRoute,
    responses=documented(*REFUSALS, 404),
)
changes = APIRouter(
    prefix="/v1/releases",
    tags=["releases"],
    route_class=ScopedRoute,
    responses=documented(*REFUSALS, 404, 409),
    dependencies=[needs("admin")],
)


class Change(BaseModel):
    """Why a release is changed."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"reason": "report of 3 May"}]})

    reason: Words = Field(description="kept in the log: name no person and no account in it")


class CanaryChange(Change):
    """A canary, or another share for it."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"reason": "a week of shadow", "share": 0.05}]})

    share: float = Field(gt=0, lt=1, description="of the sending accounts that it decides for")


class Rollback(Change):
    """What is put back."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"reason": "too many alerts", "canary": False}]})

    canary: bool = Field(False, description="withdraw the canary; the champion stays")


@releases.get("", summary="All releases and their states", dependencies=[needs("operate")])
async def list_releases(service: Serving) -> list[Release]:
    """Oldest first."""
    return list(await asyncio.to_thread(service.releases.log.list))


@releases.get("/history", summary="Every change of a release", dependencies=[needs("operate")])
async def history(
    service: Serving,
    after: Annotated[int, Query(ge=0, le=2**53, description="sequence of the last entry that is known")] = 0,
    limit: Annotated[int, Query(ge=1, le=1_000)] = 100,
) -> list[Transition]:
    """In order, from the one after `after`: when, who, what, why, and on which figures."""
    entries = await asyncio.to_thread(service.releases.log.history)
    return [entry for entry in entries if entry.sequence > after][:limit]


@releases.get("/hold", summary="The hold that stands", dependencies=[needs("operate")])
async def held(service: Serving) -> Transition | None:
    """Who keeps the rollback controller from acting, since when and why; null where nobody does."""
    return await asyncio.to_thread(service.releases.log.held)


@releases.get("/{release_id}", summary="One release with its history", dependencies=[needs("operate")])
async def show(release_id: ReleaseId, service: Serving) -> ReleaseStory:
    """As it stands, with every entry about it and the figures behind them."""
    return await asyncio.to_thread(releasing.story, service.releases.log, release_id)


@changes.post("/rollback", summary="Put the previous release back")
async def roll_back(asked: Rollback, caller: Calling, service: Serving) -> Release:
    """Needs nobody's approval. Answers with the champion of now, or with the canary that was withdrawn."""
    return await _changed(
        service,
        lambda log: releasing.roll_back(log, actor=caller.name, reason=asked.reason, canary=asked.canary),
    )


@changes.post("/hold", summary="Keep the rollback controller from acting")
async def hold(asked: Change, caller: Calling, service: Serving) -> Release:
    """Until somebody resumes, whoever is champion. Answers with the champion."""
    return await _changed(service, lambda log: log.hold(actor=caller.name, reason=asked.reason))


@changes.post("/resume", summary="Let the rollback controller act again")
async def resume(asked: Change, caller: Calling, service: Serving) -> Release:
    """Ends the hold that stands. Answers with the champion."""
    return await _changed(service, lambda log: log.resume(actor=caller.name, reason=asked.reason))


@changes.post("/{release_id}/approve", summary="Say that a release may decide")
async def approve(release_id: ReleaseId, asked: Change, caller: Calling, service: Serving) -> Release:
    """Its state stays. Whoever promotes it must have another name."""
    return await _changed(
        service, lambda log: releasing.approve(log, release_id, actor=caller.name, reason=asked.reason)
    )


@changes.post("/{release_id}/shadow", summary="Let a release score beside the champion")
async def shadow(release_id: ReleaseId, asked: Change, caller: Calling, service: Serving) -> Release:
    """It decides nothing. A canary goes back to this."""
    return await _changed(
        service, lambda log: releasing.shadow(log, release_id, actor=caller.name, reason=asked.reason)
    )


@changes.post("/{release_id}/canary", summary="Let a release decide for a share of the accounts")
async def canary(release_id: ReleaseId, asked: CanaryChange, caller: Calling, service: Serving) -> Release:
    """Always the same accounts; a larger share keeps them. Approvals as for a promotion."""
    return await _changed(
        service,
        lambda log: releasing.canary(
            log,
            release_id,
            share=asked.share,
            actor=caller.name,
            reason=asked.reason,
            approvals=service.settings.release_approvals,
        ),
    )


@changes.post("/{release_id}/promote", summary="Make a release the champion")
async def promote(release_id: ReleaseId, asked: Change, caller: Calling, service: Serving) -> Release:
    """The one before it stays warm. As many others as `RISKDISTILL_RELEASE_APPROVALS` says have approved it."""
    return await _changed(
        service,
        lambda log: releasing.promote(
            log,
            release_id,
            actor=caller.name,
            reason=asked.reason,
            approvals=service.settings.release_approvals,
        ),
    )


@changes.post("/{release_id}/retire", summary="End a release that does not decide")
async def retire(release_id: ReleaseId, asked: Change, caller: Calling, service: Serving) -> Release:
    """Its bundle stays where it is kept."""
    return await _changed(
        service, lambda log: releasing.retire(log, release_id, actor=caller.name, reason=asked.reason)
    )


async def _changed(service: Service, make: Callable[[ReleaseLog], Release]) -> Release:
    """Changes the log; this worker follows before the answer, and others at their next look."""
    release = await service.releases.change(make)
    await service.bundles.catch_up()
    return release
