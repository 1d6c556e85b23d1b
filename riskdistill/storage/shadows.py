"""What a challenger makes of the transactions that the champion decides on, and the other way round in a canary.

Written off the reply path, so it may lack some transactions, and it decides nothing: the decision log stays the
source of truth, and a challenger's score can be made again from it. So it has no chain, and old scores go
without proof. Beside a SQLite decision log it lies in a file of its own, so that its writes never keep a decision
waiting.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal

import sqlalchemy as sa
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from riskdistill.errors import ConfigError, UnavailableError
from riskdistill.storage.database import (
    cause_of,
    database_folder,
    delete_for_good,
    open_database,
    overwrite,
    writing,
)
from riskdistill.storage.schema import prepare

PAGE: Final = 1_000
_LOT: Final = 5_000  # scores deleted at a time: whoever stores new ones waits no longer
FILE: Final = "shadows.db"

METADATA: Final = sa.MetaData()
_SHADOWS: Final = sa.Table(
    "shadow_scores",
    METADATA,
    # given by the database, rising
    sa.Column("number", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
    sa.Column("decided_at", sa.Text, nullable=False, index=True),  # ISO 8601, UTC, microseconds: sorts as text
    sa.Column("challenger_release", sa.Text, nullable=False, index=True),
    sa.Column("body", sa.Text, nullable=False),
)


class ShadowScore(BaseModel):
    """One transaction as both students see it; scores are calibrated, an alert is a score from `review` on.

    Attributes:
        decided_by: whose score went into the decision.
        champion_us, challenger_us: microseconds that each took for a row alone; None where it was not timed.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    tx_id: str
    decided_at: AwareDatetime
    decided_by: Literal["champion", "challenger"]
    challenger_release: str
    champion_version: str
    challenger_version: str
    champion_score: float = Field(ge=0, le=1)
    challenger_score: float = Field(ge=0, le=1)
    champion_alert: bool
    challenger_alert: bool
    champion_us: float | None = None
    challenger_us: float | None = None


class ShadowLog:
    """The shadow scores beside the decision log at `url`. Safe to use from several threads.

    Args:
        url: of the decision log.
        create: make what is missing; readers pass False.

    Raises:
        ConfigError: nothing opens there, or what is there is of a newer version (for a reader: of an older).
    """

    def __init__(self, url: str, *, create: bool = True) -> None:
        self._engine = open_database(_beside(url), create=create)
        try:
            prepare(self._engine, "shadows", create=create)
        except ConfigError:
            self._engine.dispose()
            raise

    def append(self, scores: Sequence[ShadowScore]) -> None:
        """Store all of `scores` in one transaction.

        Raises:
            UnavailableError: the database cannot be written now.
        """
        rows = [
            {
                "decided_at": _as_text(score.decided_at),
                "challenger_release": score.challenger_release,
                "body": score.model_dump_json(),
            }
            for score in scores
        ]
        try:
            with writing(self._engine, "shadows") as connection:
                connection.execute(sa.insert(_SHADOWS), rows)
        except SQLAlchemyError as error:
            raise _unavailable(error) from error

    def read(self, release_id: str, since: datetime | None = None) -> Iterator[ShadowScore]:
        """The scores of one challenger, in the order in which they were stored.

        Args:
            since: decided then or later.

        Raises:
            UnavailableError: the database cannot be read now.
        """
        after = 0
        chosen = sa.select(_SHADOWS.c.number, _SHADOWS.c.body).where(_SHADOWS.c.challenger_release == release_id)
        if since is not None:
            chosen = chosen.where(_SHADOWS.c.decided_at >= _as_text(since))
        while True:
            rows = self._fetch(chosen.where(_SHADOWS.c.number > after).order_by(_SHADOWS.c.number).limit(PAGE))
            for row in rows:
                yield ShadowScore.model_validate_json(row.body)
            if len(rows) < PAGE:
                return
            after = rows[-1].number

    def count(self, before: datetime) -> int:
        """How many scores are of what was decided before a time.

        Raises:
            UnavailableError: the database cannot be read now.
        """
        older = _SHADOWS.c.decided_at < _as_text(before)
        return int(self._fetch(sa.select(sa.func.count()).select_from(_SHADOWS).where(older))[0][0])

    def prune(self, before: datetime) -> None:
        """Deletes the scores of what was decided before a time, some thousand at once, and takes them off the disk.

        Raises:
            UnavailableError: the database cannot be written now.
        """
        number = _SHADOWS.c.number
        lot = sa.select(number).where(_SHADOWS.c.decided_at < _as_text(before)).order_by(number).limit(_LOT)
        deleted = _LOT
        try:
            while deleted == _LOT:
                with writing(self._engine, "shadows") as connection:
                    delete_for_good(connection)
                    deleted = connection.execute(sa.delete(_SHADOWS).where(number.in_(lot))).rowcount
            overwrite(self._engine, (_SHADOWS,))
        except SQLAlchemyError as error:
            raise _unavailable(error) from error

    def is_there(self) -> bool:
        """Whether the database has the table at all, empty or not.

        Raises:
            UnavailableError: the database cannot be read now.
        """
        try:
            with self._engine.connect() as connection:
                return sa.inspect(connection).has_table(_SHADOWS.name)
        except SQLAlchemyError as error:
            raise _unavailable(error) from error

    def close(self) -> None:
        """Release the database's connections."""
        self._engine.dispose()

    def _fetch(self, query: sa.Select[Any]) -> Sequence[sa.Row[Any]]:
        try:
            with self._engine.connect() as connection:
                return connection.execute(query).all()
        except SQLAlchemyError as error:
            raise _unavailable(error) from error


def shadows_if_any(url: str) -> ShadowLog | None:
    """The shadow scores beside the decision log at `url`, opened as it is; None where no challenger ever scored.

    Raises:
        ConfigError, UnavailableError: see `ShadowLog`.
    """
    folder = database_folder(url)
    if folder is not None and not (folder / FILE).is_file():
        return None
    log = ShadowLog(url, create=False)
    if log.is_there():
        return log
    log.close()
    return None


def _beside(url: str) -> str:
    """Where the shadow scores of a decision log are."""
    address = make_url(url)
    if address.get_backend_name() != "sqlite" or address.database in (None, "", ":memory:"):
        return url
    place = str(Path(str(address.database)).with_name(FILE))
    return address.set(database=place).render_as_string(hide_password=False)


def _as_text(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="microseconds")


def _unavailable(error: SQLAlchemyError) -> UnavailableError:
    return UnavailableError(f"the shadow scores cannot be used: {cause_of(error)}", mend="check the database")
