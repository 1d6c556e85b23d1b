"""The release log: which bundle served when, who put it there, why, and on what figures.

A journal (`riskdistill.storage.journal`). The state of every release is a fold over the transitions,
so nothing is ever updated, and a change is visible to any other process at its next read. At most one release
is the champion, at most one is the previous champion, which the service keeps warm for a rollback, and at most one
is the canary, which decides for its share of the accounts. The service follows these three, and where there is no
canary, the newest shadow.

An approval is an entry of its own that leaves the state as it is. Where promotion needs approvals (four eyes), only
those of others than whoever promotes count. A hold is one, too: while it stands, the rollback controller does
nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import sqlalchemy as sa

from riskdistill.errors import AuditError, ReleaseError
from riskdistill.storage import life_cycle as life
from riskdistill.storage.journal import Entry, Journal
from riskdistill.storage.life_cycle import LIFE_CYCLE, OVER, Move, Release, Releases, Serving, State, Transition
from riskdistill.storage.verification import VerifyResult

__all__ = ["LIFE_CYCLE", "OVER", "Release", "ReleaseLog", "Serving", "State", "Transition"]

_Plan = Callable[[Releases, datetime], list[Move]]  # as it stands and the time now -> what to write
Announce = Callable[[Sequence[Move], str, str], None]


class ReleaseLog:
    """The log of release transitions at a database `url`. Safe to use from several threads and processes.

    Args:
        url: a SQLAlchemy URL.
        create: make the file and table if missing, and migrate older ones; readers pass False.
        announce: called before each change is written, with its moves, actor and reason; raises to prevent it.

    Raises:
        ConfigError: nothing opens at `url`, or it holds a log of a newer version (for a reader: of an older).
    """

    def __init__(self, url: str, *, create: bool = True, announce: Announce | None = None) -> None:
        self._announce = announce
        self.journal = Journal(url, "releases", "release log", create=create)

    def close(self) -> None:
        """Release the database's connections."""
        self.journal.close()

    def history(self) -> tuple[Transition, ...]:
        """All transitions, oldest first.

        Raises:
            UnavailableError: the database cannot be read now.
            AuditError: an entry is not what this log writes.
        """
        return _parse(self.journal.entries())

    def list(self) -> tuple[Release, ...]:
        """All releases as they stand now, oldest first."""
        return tuple(life.fold(self.history()).values())

    def get(self, release_id: str) -> Release:
        """The release of that id.

        Raises:
            NotFoundError: there is none.
        """
        return life.find(life.fold(self.history()), release_id)

    def champion(self) -> Release | None:
        """The release that decides now."""
        return life.holder(life.fold(self.history()), State.CHAMPION)

    def previous(self) -> Release | None:
        """The champion before this one, to which a rollback returns."""
        return life.holder(life.fold(self.history()), State.PREVIOUS)

    def challenger(self) -> Release | None:
        """The release that scores beside the champion: the canary, or else the newest shadow."""
        return life.challenger(life.fold(self.history()))

    def serving(self) -> Serving:
        """Champion, previous champion and challenger as they stand now, in one read."""
        releases = life.fold(self.history())
        return Serving(
            life.holder(releases, State.CHAMPION), life.holder(releases, State.PREVIOUS), life.challenger(releases)
        )

    def verify(self) -> VerifyResult:
        """Check the chain, see `Journal.verify`."""
        return self.journal.verify()

    def register(
        self,
        bundle_path: str | Path,
        bundle_version: str,
        *,
        actor: str,
        reason: str,
        evidence: Mapping[str, Any] | None = None,
        shadow: bool = False,
        against: str | None = None,
    ) -> Release:
        """Make a bundle known under a new release id. It decides nothing yet.

        Args:
            evidence: the figures that it is registered on.
            shadow: let it score beside the champion at once; both entries are written, or none.
            against: release id of the champion that the evidence compares it with.

        Raises:
            ReleaseError: the same bundle has a release that is not over, or another release is the champion by now.
        """

        def plan(releases: Releases, now: datetime) -> list[Move]:
            for release in releases.values():
                if release.bundle_version == bundle_version and release.state not in OVER:
                    raise ReleaseError(
                        f"bundle {bundle_version} is already release {release.release_id} ({release.state})",
                        where="release log",
                        mend=f"use {release.release_id}, or retire it first",
                    )
            champion = life.holder(releases, State.CHAMPION)
            if against is not None and (champion is None or champion.release_id != against):
                raise ReleaseError(
                    f"{champion.release_id if champion else 'no release'} is champion by now, not {against}",
                    where="release log",
                    mend="compare with the champion of now",
                )
            new = Release(
                release_id=f"r{len(releases) + 1}",
                bundle_path=str(Path(bundle_path).resolve()),
                bundle_version=bundle_version,
                state=State.REGISTERED,
                registered_at=now,
                changed_at=now,
            )
            return [Move(None, new), *([life.move(new, State.SHADOW, now)] if shadow else [])]

        return self._append(plan, actor, reason, evidence or {})

    def approve(self, release_id: str, *, actor: str, reason: str, evidence: Mapping[str, Any]) -> Release:
        """Record that `actor` agrees that the release may decide; its state stays.

        Raises:
            NotFoundError: no such release.
            ReleaseError: it is over, or the same actor approved it before.
        """

        def plan(releases: Releases, now: datetime) -> list[Move]:
            release = life.find(releases, release_id)
            if release.state in OVER or actor in release.approved_by:
                raise ReleaseError(
                    f"{release_id} is {release.state}"
                    if release.state in OVER
                    else f"{actor} has approved {release_id} already",
                    where="release log",
                    mend="once a person is enough, and only before it is over",
                )
            approved = release.model_copy(update={"approved_by": (*release.approved_by, actor)})
            return [Move(release, approved, "approval")]

        return self._append(plan, actor, reason, evidence)

    def stage(
        self,
        release_id: str,
        state: State,
        *,
        actor: str,
        reason: str,
        evidence: Mapping[str, Any],
        share: float = 0.0,
        approvals: int = 0,
    ) -> Release:
        """Make a release `State.SHADOW` or `State.CANARY`. A canary may be staged again, with another share.

        Args:
            share: of the accounts that a canary decides for, above 0 and below 1; a shadow has none.
            approvals: how many others must have approved a canary.

        Raises:
            NotFoundError: no such release.
            ReleaseError: the life cycle does not allow it, `state` is neither of the two, the share does not suit
                it, another release is the canary, or approvals are missing.
        """
        if state not in (State.SHADOW, State.CANARY):
            raise ReleaseError(f"{state} is not a stage", where=release_id, mend="use shadow or canary")
        if (0 < share < 1) != (state is State.CANARY):
            raise ReleaseError(
                f"a {state} cannot decide for a share of {share:g} of the accounts",
                where=release_id,
                mend="a canary needs a share above 0 and below 1, a shadow none",
            )

        def plan(releases: Releases, now: datetime) -> list[Move]:
            release, canary = life.find(releases, release_id), life.holder(releases, State.CANARY)
            if state is State.CANARY:
                life.require_approvals(release, actor, approvals)
                if canary is not None and canary.release_id != release_id:
                    raise ReleaseError(
                        f"{canary.release_id} is the canary",
                        where="release log",
                        mend=f"promote it, retire it, or put it back to {State.SHADOW} first",
                    )
            return [life.move(release, state, now, share)]

        return self._append(plan, actor, reason, evidence)

    def promote(
        self, release_id: str, *, actor: str, reason: str, evidence: Mapping[str, Any], approvals: int = 0
    ) -> Release:
        """Make a release the champion; the one until now becomes the previous, and the one before retires.

        Args:
            approvals: how many others than `actor` must have approved it.

        Raises:
            NotFoundError: no such release.
            ReleaseError: the life cycle does not allow it, or approvals are missing.
        """

        def plan(releases: Releases, now: datetime) -> list[Move]:
            target = life.find(releases, release_id)
            promotion = life.move(target, State.CHAMPION, now)
            life.require_approvals(target, actor, approvals)
            moves = []
            if (previous := life.holder(releases, State.PREVIOUS)) and previous != target:
                moves.append(life.move(previous, State.RETIRED, now))
            if champion := life.holder(releases, State.CHAMPION):
                moves.append(life.move(champion, State.PREVIOUS, now))
            return [*moves, promotion]

        return self._append(plan, actor, reason, evidence)

    def rollback(
        self, *, actor: str, reason: str, evidence: Mapping[str, Any], release_id: str | None = None
    ) -> Release:
        """Withdraw the champion and make the previous one champion again; return the one that serves now.

        Args:
            release_id: the champion that the evidence is about; the default is whichever serves now.

        Raises:
            ReleaseError: there is no previous champion, or `release_id` is not the champion any more.
        """

        def plan(releases: Releases, now: datetime) -> list[Move]:
            champion, previous = life.holder(releases, State.CHAMPION), life.holder(releases, State.PREVIOUS)
            if champion is None or previous is None:
                raise ReleaseError(
                    "there is no previous champion to return to",
                    where="release log",
                    mend="promote another release instead",
                )
            if release_id not in (None, champion.release_id):
                raise ReleaseError(
                    f"the champion is {champion.release_id} by now", where=str(release_id), mend="look again"
                )
            return [life.move(champion, State.ROLLED_BACK, now), life.move(previous, State.CHAMPION, now)]

        return self._append(plan, actor, reason, evidence)

    def withdraw(self, release_id: str, *, actor: str, reason: str, evidence: Mapping[str, Any]) -> Release:
        """Roll a canary back: the champion decides for its accounts again.

        Raises:
            NotFoundError: no such release.
            ReleaseError: it is no canary; a champion is withdrawn by `rollback`.
        """

        def plan(releases: Releases, now: datetime) -> list[Move]:
            release = life.find(releases, release_id)
            if release.state is not State.CANARY:
                raise ReleaseError(f"{release_id} is {release.state}", where="release log", mend="name the canary")
            return [life.move(release, State.ROLLED_BACK, now)]

        return self._append(plan, actor, reason, evidence)

    def retire(self, release_id: str, *, actor: str, reason: str, evidence: Mapping[str, Any]) -> Release:
        """End a release that does not decide: a champion is promoted over or rolled back instead.

        Raises:
            NotFoundError: no such release.
            ReleaseError: the life cycle does not allow it.
        """

        def plan(releases: Releases, now: datetime) -> list[Move]:
            return [life.move(life.find(releases, release_id), State.RETIRED, now)]

        return self._append(plan, actor, reason, evidence)

    def held(self) -> Transition | None:
        """The hold that stands: who keeps the rollback controller from acting, since when and why."""
        return life.held(self.history())

    def hold(self, *, actor: str, reason: str) -> Release:
        """Keep the rollback controller from acting until `resume`, whoever is champion; returns who is now.

        Raises:
            ReleaseError: a hold stands, or there is no champion.
        """
        return self._say("hold", actor, reason)

    def resume(self, *, actor: str, reason: str) -> Release:
        """End the hold that stands; returns the champion.

        Raises:
            ReleaseError: none stands.
        """
        return self._say("resume", actor, reason)

    def _say(self, kind: Literal["hold", "resume"], actor: str, reason: str) -> Release:
        # two that hold at the same moment are both kept: twice held is held
        if ((standing := self.held()) is not None) == (kind == "hold"):
            raise ReleaseError(
                "no hold stands" if standing is None else f"{standing.actor} holds all action already",
                where="release log",
                mend="see riskdistill release history",
            )

        def plan(releases: Releases, _now: datetime) -> list[Move]:
            champion = life.holder(releases, State.CHAMPION)
            if champion is None:
                raise ReleaseError("no release is champion", where="release log", mend="promote one first")
            return [Move(champion, champion, kind)]

        return self._append(plan, actor, reason, {})

    def _append(self, plan: _Plan, actor: str, reason: str, evidence: Mapping[str, Any]) -> Release:
        """Write the planned moves as one unit and return the last; plan anew if another writer came first."""
        if not actor.strip() or not reason.strip():
            raise ReleaseError("a transition needs an actor and a reason", where="release log")
        if self._announce is not None:  # planned first: what is refused is not announced
            self._announce(plan(life.fold(self.history()), datetime.now(UTC)), actor, reason)
        moves: list[Move] = []

        def bodies(connection: sa.Connection, sequence: int) -> list[str]:
            history, now = _parse(connection.execute(self.journal.query())), datetime.now(UTC)
            moves[:] = plan(life.fold(history), now)
            why = actor, reason, evidence
            return [life.told(number, one, now, why) for number, one in enumerate(moves, start=sequence)]

        self.journal.append(bodies)
        return moves[-1].after


def _parse(entries: Iterable[Entry | sa.Row[Any]]) -> tuple[Transition, ...]:
    try:
        return tuple(Transition(**json.loads(entry.body), hash=entry.hash) for entry in entries)
    except (TypeError, ValueError) as error:
        raise AuditError("an entry cannot be read", where="release log", mend="restore it from a copy") from error
