"""The release log: which bundle served when, who put it there, why, and on what figures.

Append-only and hash-chained like the decision log. The state of every release is a fold over the transitions,
so nothing is ever updated, and a change is visible to any other process at its next read. At most one release
is the champion and at most one is the previous champion, which the service keeps warm for a rollback. The service
follows these two states and no other: shadow and canary are kept for whoever drives such a rollout from outside.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa
from pydantic import BaseModel, ConfigDict
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from riskdistill.errors import AuditError, ConfigError, NotFoundError, ReleaseError, UnavailableError
from riskdistill.storage.chain import GENESIS, canonical_json, link
from riskdistill.storage.database import cause_of, open_database, writing
from riskdistill.storage.schema import prepare
from riskdistill.storage.verification import VerifyResult

_WRITE_ATTEMPTS: Final = 20  # only where a database locks less than SQLite can another writer come first


class State(StrEnum):
    """Where a release stands in its life."""

    REGISTERED = "registered"  # known, scores nothing
    SHADOW = "shadow"  # meant to score beside the champion; the service does not
    CANARY = "canary"  # meant to decide for a share of the accounts; the service does not
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


class Release(BaseModel):
    """One bundle's life as it stands now. Times are UTC."""

    model_config = ConfigDict(frozen=True)

    release_id: str
    bundle_path: str
    bundle_version: str
    state: State
    registered_at: datetime
    changed_at: datetime


class Transition(BaseModel):
    """One entry of the log: a release went from `before` (None: unknown until now) to `after`."""

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
    hash: str


_METADATA: Final = sa.MetaData()
_TRANSITIONS: Final = sa.Table(
    "release_transitions",
    _METADATA,
    sa.Column("sequence", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("body", sa.Text, nullable=False),  # canonical JSON: every field of Transition but the hash
    sa.Column("hash", sa.String(64), nullable=False, unique=True),
)

_EVERYTHING: Final = sa.select(_TRANSITIONS).order_by(_TRANSITIONS.c.sequence)

_Releases = Mapping[str, Release]
_Move = tuple[Release | None, Release]  # as it was, as it shall be
_Plan = Callable[[_Releases, datetime], list[_Move]]  # as it stands and the time now -> what to write


class ReleaseLog:
    """The log of release transitions at a database `url`. Safe to use from several threads and processes.

    Args:
        url: a SQLAlchemy URL.
        create: make the file and table if missing, and migrate older ones; readers pass False.

    Raises:
        ConfigError: nothing opens at `url`, or it holds a log of a newer version (for a reader: of an older).
    """

    def __init__(self, url: str, *, create: bool = True) -> None:
        self._engine = open_database(url, create=create)
        try:
            prepare(self._engine, "releases", create=create)
        except ConfigError:
            self._engine.dispose()
            raise

    def close(self) -> None:
        """Release the database's connections."""
        self._engine.dispose()

    def history(self) -> tuple[Transition, ...]:
        """All transitions, oldest first.

        Raises:
            UnavailableError: the database cannot be read now.
            AuditError: an entry is not what this log writes.
        """
        return _parse(self._rows())

    def list(self) -> tuple[Release, ...]:
        """All releases as they stand now, oldest first."""
        return tuple(_fold(self.history()).values())

    def get(self, release_id: str) -> Release:
        """The release of that id.

        Raises:
            NotFoundError: there is none.
        """
        return _find(_fold(self.history()), release_id)

    def champion(self) -> Release | None:
        """The release that decides now."""
        return _holder(_fold(self.history()), State.CHAMPION)

    def previous(self) -> Release | None:
        """The champion before this one, to which a rollback returns."""
        return _holder(_fold(self.history()), State.PREVIOUS)

    def verify(self) -> VerifyResult:
        """Check every link; keep the head elsewhere, for a cut-off tail shows only against it.

        Raises:
            AuditError: an entry was changed, removed, inserted or re-ordered; names the first such.
        """
        head, rows = GENESIS, self._rows()
        for expected, row in enumerate(rows, start=1):
            head = link(head, row.body)
            if (row.sequence, row.hash) != (expected, head):
                raise AuditError(
                    f"entry {expected} is missing, was changed, or does not follow from the one before it",
                    where=f"release log, entry {expected}",
                    mend=f"restore the log from a copy; nothing from entry {expected} on can be trusted",
                )
        return VerifyResult(len(rows), head)

    def _rows(self) -> Sequence[sa.Row[Any]]:
        try:
            with self._engine.connect() as connection:
                return connection.execute(_EVERYTHING).all()
        except SQLAlchemyError as error:
            raise _unavailable(error) from error

    def register(self, bundle_path: str | Path, bundle_version: str, *, actor: str, reason: str) -> Release:
        """Make a bundle known under a new release id. It serves nothing yet.

        Raises:
            ReleaseError: the same bundle has a release that is not over.
        """

        def plan(releases: _Releases, now: datetime) -> list[_Move]:
            for release in releases.values():
                if release.bundle_version == bundle_version and release.state not in OVER:
                    raise ReleaseError(
                        f"bundle {bundle_version} is already release {release.release_id} ({release.state})",
                        where="release log",
                        mend=f"use {release.release_id}, or retire it first",
                    )
            return [
                (
                    None,
                    Release(
                        release_id=f"r{len(releases) + 1}",
                        bundle_path=str(Path(bundle_path).resolve()),
                        bundle_version=bundle_version,
                        state=State.REGISTERED,
                        registered_at=now,
                        changed_at=now,
                    ),
                )
            ]

        return self._append(plan, actor, reason, {})

    def stage(
        self, release_id: str, state: State, *, actor: str, reason: str, evidence: Mapping[str, Any]
    ) -> Release:
        """Record a release as `State.SHADOW` or `State.CANARY`; what serves stays as it is.

        Raises:
            NotFoundError: no such release.
            ReleaseError: the life cycle does not allow it, or `state` is neither of the two.
        """
        if state not in (State.SHADOW, State.CANARY):
            raise ReleaseError(f"{state} is not a stage", where=release_id, mend="use shadow or canary")

        def plan(releases: _Releases, now: datetime) -> list[_Move]:
            return [_move(_find(releases, release_id), state, now)]

        return self._append(plan, actor, reason, evidence)

    def promote(self, release_id: str, *, actor: str, reason: str, evidence: Mapping[str, Any]) -> Release:
        """Make a release the champion; the one until now becomes the previous, and the one before retires.

        Raises:
            NotFoundError: no such release.
            ReleaseError: the life cycle does not allow it.
        """

        def plan(releases: _Releases, now: datetime) -> list[_Move]:
            target = _find(releases, release_id)
            promotion = _move(target, State.CHAMPION, now)
            moves = []
            if (previous := _holder(releases, State.PREVIOUS)) and previous != target:
                moves.append(_move(previous, State.RETIRED, now))
            if champion := _holder(releases, State.CHAMPION):
                moves.append(_move(champion, State.PREVIOUS, now))
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

        def plan(releases: _Releases, now: datetime) -> list[_Move]:
            champion, previous = _holder(releases, State.CHAMPION), _holder(releases, State.PREVIOUS)
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
            return [_move(champion, State.ROLLED_BACK, now), _move(previous, State.CHAMPION, now)]

        return self._append(plan, actor, reason, evidence)

    def retire(self, release_id: str, *, actor: str, reason: str, evidence: Mapping[str, Any]) -> Release:
        """End a release that does not decide: a champion is promoted over or rolled back instead.

        Raises:
            NotFoundError: no such release.
            ReleaseError: the life cycle does not allow it.
        """

        def plan(releases: _Releases, now: datetime) -> list[_Move]:
            return [_move(_find(releases, release_id), State.RETIRED, now)]

        return self._append(plan, actor, reason, evidence)

    def _append(self, plan: _Plan, actor: str, reason: str, evidence: Mapping[str, Any]) -> Release:
        """Write the planned moves as one unit and return the last; plan anew if another writer came first."""
        if not actor.strip() or not reason.strip():
            raise ReleaseError("a transition needs an actor and a reason", where="release log")
        for _ in range(_WRITE_ATTEMPTS):
            try:
                with writing(self._engine, "releases") as connection:
                    history = _parse(connection.execute(_EVERYTHING).all())
                    sequence, head = (history[-1].sequence, history[-1].hash) if history else (0, GENESIS)
                    moves = plan(_fold(history), datetime.now(UTC))
                    rows = []
                    for number, (before, after) in enumerate(moves, start=sequence + 1):
                        body = _body(number, before, after, actor, reason, evidence)
                        head = link(head, body)
                        rows.append({"sequence": number, "body": body, "hash": head})
                    connection.execute(sa.insert(_TRANSITIONS), rows)
                return moves[-1][1]
            except IntegrityError:  # another writer took the sequence
                continue
            except SQLAlchemyError as error:
                raise _unavailable(error) from error
        raise UnavailableError("other writers always come first", where="release log", mend="try again")


def _body(
    sequence: int,
    before: Release | None,
    after: Release,
    actor: str,
    reason: str,
    evidence: Mapping[str, Any],
) -> str:
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
                "at": after.changed_at.isoformat(),
            }
        )
    except (TypeError, ValueError) as error:
        raise ReleaseError(
            f"the evidence cannot be stored: {error}",
            where=after.release_id,
            mend="use JSON values and finite numbers",
        ) from error


def _parse(rows: Iterable[sa.Row[Any]]) -> tuple[Transition, ...]:
    try:
        return tuple(Transition(**json.loads(row.body), hash=row.hash) for row in rows)
    except (TypeError, ValueError) as error:
        raise AuditError("an entry cannot be read", where="release log", mend="restore it from a copy") from error


def _unavailable(error: SQLAlchemyError) -> UnavailableError:
    return UnavailableError(
        f"the release log cannot be used: {cause_of(error)}", where="release log", mend="check the database"
    )


def _fold(history: Iterable[Transition]) -> dict[str, Release]:
    releases: dict[str, Release] = {}
    for entry in history:
        known = releases.get(entry.release_id)
        releases[entry.release_id] = Release(
            release_id=entry.release_id,
            bundle_path=entry.bundle_path,
            bundle_version=entry.bundle_version,
            state=entry.after,
            registered_at=known.registered_at if known else entry.at,
            changed_at=entry.at,
        )
    return releases


def _find(releases: _Releases, release_id: str) -> Release:
    if release_id not in releases:
        raise NotFoundError(f"there is no release {release_id!r}", where="release log", mend="list the releases")
    return releases[release_id]


def _holder(releases: _Releases, state: State) -> Release | None:
    return next((release for release in releases.values() if release.state is state), None)


def _move(release: Release, state: State, now: datetime) -> _Move:
    if state not in LIFE_CYCLE[release.state]:
        allowed = ", ".join(sorted(LIFE_CYCLE[release.state])) or "nothing: it is over"
        raise ReleaseError(
            f"release {release.release_id} is {release.state} and cannot become {state}",
            where="release log",
            mend=f"from {release.state} a release may become: {allowed}",
        )
    return release, release.model_copy(update={"state": state, "changed_at": now})
