"""The evidence of one release: what it is, who let it decide and on which figures, what it decided, how it ended.

A function of the release log, the decision log and the bundle alone, so that a reviewer can make it again and
compare. It holds no account and no payment.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final

import sqlalchemy as sa
from pydantic import BaseModel, ConfigDict, Field

from monitoring.audit import ChainCheck
from monitoring.shadow import ShadowWindow, compare
from riskdistill.bundle import Bundle, Thresholds
from riskdistill.evaluation.gates import RETRAINING, Gate
from riskdistill.storage.acts import Head
from riskdistill.storage.decisions import DecisionLog, within
from riskdistill.storage.life_cycle import Release, State, Transition, fold, holder
from riskdistill.storage.releases import ReleaseLog
from riskdistill.storage.shadows import ShadowScore
from riskdistill.storage.tables import DECISIONS

DECIDING: Final = (State.CANARY, State.CHAMPION)


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True)


class BundleFacts(_Record):
    """What a bundle says of itself."""

    name: str
    version: str
    created_at: datetime
    dataset: str
    features: str
    typologies: tuple[str, ...]
    parameters: dict[str, int]
    thresholds: Thresholds
    model_card: str = Field(description="Markdown")


class Spell(_Record):
    """A time in which the release decided.

    Attributes:
        share: of the accounts that were meant for it; 1 for a champion.
        end: None while it lasts.
        decisions: by its bundle, of `all_decisions` that are in the log of that time; None without a log.
    """

    state: State
    share: float
    start: datetime
    end: datetime | None
    decisions: int | None = None
    all_decisions: int | None = None


class Rollback(_Record):
    """How the release was withdrawn.

    Attributes:
        restored: the release that decided again.
        followed_seconds: from then to its bundle's last decision; None without a log, or where none came after.
    """

    at: datetime
    actor: str
    reason: str
    evidence: dict[str, Any]
    restored: str | None
    followed_seconds: float | None = None


class ReleaseReport(_Record):
    """The evidence of one release, JSON-able.

    Attributes:
        release: as it stands after all of the log.
        history: every entry about it, oldest first.
        gates: what it was registered on, where a retraining made it.
        replaced, replaced_by: the champions before and after it; None where there is none.
        shadow: windows in which it and the champion scored the same payments.
        decision_log: its newest entry when the report was made; None where no log was given.
    """

    release: Release
    bundle: BundleFacts
    history: tuple[Transition, ...]
    gates: tuple[Gate, ...]
    judged_on: dict[str, Any] | None
    replaced: str | None
    replaced_by: str | None
    spells: tuple[Spell, ...]
    rollback: Rollback | None
    shadow: tuple[ShadowWindow, ...]
    release_log: ChainCheck
    decision_log: Head | None


def release_report(
    releases: ReleaseLog,
    release_id: str,
    bundle: Bundle,
    decisions: DecisionLog | None = None,
    scores: Sequence[ShadowScore] = (),
    width: timedelta = timedelta(days=1),
) -> ReleaseReport:
    """Gather the evidence.

    Args:
        bundle: that of the release, verified.
        decisions: for what it decided.
        scores: its shadow scores.
        width: of a window of them.

    Raises:
        NotFoundError: there is no such release.
        AuditError: the release log does not verify: nothing can be said.
        UnavailableError: a log cannot be read now.
    """
    checked = releases.verify()
    history = releases.history()[: checked.entries]
    mine = tuple(step for step in history if step.release_id == release_id)
    retraining: dict[str, Any] = next(
        (step.evidence[RETRAINING] for step in mine if RETRAINING in step.evidence), {}
    )
    champions = [step for step in history if step.after is State.CHAMPION and step.said is None]
    promotions = [step for step in champions if step.release_id == release_id]
    later = [step for step in champions if promotions and step.sequence > promotions[-1].sequence]
    return ReleaseReport(
        release=releases.get(release_id),
        bundle=_facts(bundle),
        history=mine,
        gates=tuple(Gate.model_validate(gate) for gate in retraining.get("gates", ())),
        judged_on=retraining.get("judged_on"),
        replaced=_champion_before(history, promotions[0]) if promotions else None,
        replaced_by=later[0].release_id if later else None,
        spells=tuple(_counted(spell, bundle.version, decisions) for spell in _spells(mine)),
        rollback=_rollback(history, mine, decisions),
        shadow=compare(scores, width),
        release_log=ChainCheck(entries=checked.entries, head=checked.head),
        decision_log=decisions.head() if decisions is not None else None,
    )


def _facts(bundle: Bundle) -> BundleFacts:
    manifest = bundle.manifest
    return BundleFacts(
        name=manifest.name,
        version=bundle.version,
        created_at=manifest.created_at,
        dataset=manifest.dataset_fingerprint,
        features=manifest.feature_fingerprint,
        typologies=manifest.typologies,
        parameters=manifest.parameters,
        thresholds=bundle.thresholds,
        model_card=(bundle.path / "model_card.md").read_text(encoding="utf-8"),
    )


def _champion_before(history: Sequence[Transition], promotion: Transition) -> str | None:
    """Who was champion before the unit of moves that a promotion was written in; one unit has one time."""
    champion = holder(fold(step for step in history if step.at < promotion.at), State.CHAMPION)
    return champion.release_id if champion else None


def _spells(mine: Sequence[Transition]) -> list[Spell]:
    """When the release decided, from its own moves."""
    moves = [step for step in mine if step.kind == "transition"]
    ends = [step.at for step in moves[1:]]
    return [
        Spell(
            state=step.after,
            share=step.share if step.after is State.CANARY else 1.0,
            start=step.at,
            end=ends[place] if place < len(ends) else None,
        )
        for place, step in enumerate(moves)
        if step.after in DECIDING
    ]


def _counted(spell: Spell, version: str, decisions: DecisionLog | None) -> Spell:
    """The spell with what was decided in it."""
    if decisions is None:
        return spell
    own = sa.func.count().filter(DECISIONS.c.bundle_version == version).label("own")
    query = sa.select(sa.func.count().label("everything"), own).where(within(spell.start, spell.end))
    found = decisions.fetch(query)[0]
    return spell.model_copy(update={"decisions": found.own, "all_decisions": found.everything})


def _rollback(
    history: Sequence[Transition], mine: Sequence[Transition], decisions: DecisionLog | None
) -> Rollback | None:
    withdrawn = next((step for step in mine if step.after is State.ROLLED_BACK), None)
    if withdrawn is None:
        return None
    champion = holder(fold(step for step in history if step.at <= withdrawn.at), State.CHAMPION)
    followed = None
    if decisions is not None:
        last = sa.select(sa.func.max(DECISIONS.c.decided_at))
        late = within(withdrawn.at, None), DECISIONS.c.bundle_version == withdrawn.bundle_version
        if (text := decisions.fetch(last.where(*late))[0][0]) is not None:
            followed = (datetime.fromisoformat(text) - withdrawn.at).total_seconds()
    return Rollback(
        at=withdrawn.at,
        actor=withdrawn.actor,
        reason=withdrawn.reason,
        evidence=withdrawn.evidence,
        restored=champion.release_id if champion else None,
        followed_seconds=followed,
    )
