"""The life of a release: its states, which moves between them are allowed, and how a log of moves tells it.

    registered → shadow → canary → champion → previous → retired
                             └────────┴─→ rolled back

Pure: the log that keeps the moves is `riskdistill.storage.releases`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any, Final, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict

from riskdistill.errors import NotFoundError, ReleaseError
from riskdistill.storage.chain import canonical_json


class State(StrEnum):
    """Where a release stands in its life."""

    REGISTERED = "registered"  # known, scores nothing
    SHADOW = "shadow"  # scores beside the champion and decides nothing
    CANARY = "canary"  # decides for a share of the accounts
    CHAMPION = "champion"  # decides
    PREVIOUS = "previous"  # the champion before this one: scores beside it, warm for a rollback
    RETIRED = "retired"  # over, in good standing
    ROLLED_BACK = "rolled_back"  # over, withdrawn on evidence


LIFE_CYCLE: Final[Mapping[State | None, frozenset[State]]] = {
    None: frozenset({State.REGISTERED}),
    State.REGISTERED: frozenset({State.SHADOW, State.CANARY, State.CHAMPION, State.RETIRED}),
    State.SHADOW: frozenset({State.CANARY, State.CHAMPION, State.RETIRED}),
    State.CANARY: frozenset({State.SHADOW, State.CHAMPION, State.RETIRED, State.ROLLED_BACK}),
    State.CHAMPION: frozenset({State.PREVIOUS, State.ROLLED_BACK}),
    State.PREVIOUS: frozenset({State.CHAMPION, State.RETIRED}),
    State.RETIRED: frozenset(),
    State.ROLLED_BACK: frozenset(),
}
OVER: Final = frozenset(state for state, following in LIFE_CYCLE.items() if not following)
Kind = Literal["transition", "approval", "hold", "resume"]
_SAID: Final[Mapping[Kind, str]] = {"approval": "approved", "hold": "action held", "resume": "action resumed"}


class Release(BaseModel):
    """One bundle's life as it stands now. Times are UTC.

    Attributes:
        share: of the accounts that a canary decides for; 0 in every other state.
        approved_by: who approved it, in the order in which they did.
    """

    model_config = ConfigDict(frozen=True)

    release_id: str
    bundle_path: str
    bundle_version: str
    state: State
    registered_at: datetime
    changed_at: datetime
    share: float = 0.0
    approved_by: tuple[str, ...] = ()


class Transition(BaseModel):
    """One entry of the log: a release went from `before` (None: unknown until now) to `after`.

    Attributes:
        kind: all but a transition leave the release where it is. A hold keeps the rollback controller from acting,
            whoever is champion, and is an entry of the champion of then.
        share: of the accounts that a canary decides for from then on.
    """

    model_config = ConfigDict(frozen=True)

    sequence: int
    release_id: str
    bundle_path: str
    bundle_version: str
    before: State | None
    after: State
    actor: str
    reason: str
    evidence: dict[str, Any]
    at: datetime
    kind: Kind = "transition"  # logs of before approvals name none
    share: float = 0.0
    hash: str

    @property
    def said(self) -> str | None:
        """What was said of the release, where it stays as it is."""
        return _SAID.get(self.kind)


class Serving(NamedTuple):
    """The releases that a service follows."""

    champion: Release | None
    previous: Release | None
    challenger: Release | None


class Move(NamedTuple):
    """A release as it was (None: unknown until now) and as it shall be."""

    before: Release | None
    after: Release
    kind: Kind = "transition"


Releases = Mapping[str, Release]


def told(sequence: int, move: Move, at: datetime, why: tuple[str, str, Mapping[str, Any]]) -> str:
    """A move as the log keeps it: canonical JSON of every field of `Transition` but the hash.

    Args:
        why: actor, reason and evidence.

    Raises:
        ReleaseError: the evidence holds what JSON does not.
    """
    (actor, reason, evidence), (before, after, kind) = why, move
    try:
        return canonical_json(
            {
                "sequence": sequence,
                "release_id": after.release_id,
                "bundle_path": after.bundle_path,
                "bundle_version": after.bundle_version,
                "before": before.state if before else None,
                "after": after.state,
                "actor": actor,
                "reason": reason,
                "evidence": dict(evidence),
                "at": at.isoformat(),
                "kind": kind,
                "share": after.share,
            }
        )
    except (TypeError, ValueError) as error:
        raise ReleaseError(
            f"the evidence cannot be stored: {error}",
            where=after.release_id,
            mend="use JSON values and finite numbers",
        ) from error


def fold(history: Iterable[Transition]) -> dict[str, Release]:
    """The releases as they stand after all of `history`, oldest first."""
    releases: dict[str, Release] = {}
    for entry in history:
        known = releases.get(entry.release_id)
        if known is not None and entry.kind == "approval":
            releases[entry.release_id] = known.model_copy(update={"approved_by": (*known.approved_by, entry.actor)})
        if entry.kind != "transition":
            continue
        releases[entry.release_id] = Release(
            release_id=entry.release_id,
            bundle_path=entry.bundle_path,
            bundle_version=entry.bundle_version,
            state=entry.after,
            registered_at=known.registered_at if known else entry.at,
            changed_at=entry.at,
            share=entry.share,
            approved_by=known.approved_by if known else (),
        )
    return releases


def held(history: Iterable[Transition]) -> Transition | None:
    """The hold that stands after all of `history`, if one does."""
    last = None
    for entry in history:
        if entry.kind in ("hold", "resume"):
            last = entry
    return last if last is not None and last.kind == "hold" else None


def find(releases: Releases, release_id: str) -> Release:
    """The release of that id.

    Raises:
        NotFoundError: there is none.
    """
    if release_id not in releases:
        raise NotFoundError(f"there is no release {release_id!r}", where="release log", mend="list the releases")
    return releases[release_id]


def holder(releases: Releases, state: State) -> Release | None:
    """The first release in that state."""
    return next((release for release in releases.values() if release.state is state), None)


def challenger(releases: Releases) -> Release | None:
    """The canary, or else the newest shadow."""
    shadows = [release for release in releases.values() if release.state is State.SHADOW]
    newest = max(shadows, key=lambda release: release.changed_at, default=None)
    return holder(releases, State.CANARY) or newest


def require_approvals(release: Release, actor: str, needed: int) -> None:
    """Four eyes: whoever acts does not count.

    Raises:
        ReleaseError: fewer than `needed` others have approved it.
    """
    others = sorted(set(release.approved_by) - {actor})
    if len(others) < needed:
        raise ReleaseError(
            f"{release.release_id} has {len(others)} of {needed} approvals by others than {actor}",
            where="release log",
            mend=f"let another person look at it: riskdistill release approve {release.release_id}",
        )


def move(release: Release, state: State, now: datetime, share: float = 0.0) -> Move:
    """A release in another state, or a canary with another share of the accounts.

    Raises:
        ReleaseError: the life cycle does not allow it.
    """
    staged_again = release.state is state is State.CANARY and release.share != share
    if state not in LIFE_CYCLE[release.state] and not staged_again:
        allowed = ", ".join(sorted(LIFE_CYCLE[release.state]))
        mend = f"from {release.state} a release may become: {allowed}"
        raise ReleaseError(
            f"release {release.release_id} is {release.state} and cannot become {state}",
            where="release log",
            mend=mend if allowed else f"{release.state} is a release's end: register its bundle anew",
        )
    return Move(release, release.model_copy(update={"state": state, "changed_at": now, "share": share}))
