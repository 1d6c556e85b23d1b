"""One decision explained from the logs: who scored it, with what, on what, and why.

Where the bundle is at hand, account state is rebuilt to just before the transaction, its features are computed
again, and the student scores them again: if that gives the stored score, these are the values it was made on.
"""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict
from rich.console import Console
from rich.table import Column, Table
from sqlalchemy import select

from riskdistill.bundle import Bundle, Thresholds
from riskdistill.data.rates import Rates
from riskdistill.errors import BundleError, ConfigError, NotFoundError, StateError
from riskdistill.features import FeatureEngine
from riskdistill.storage.anchors import anchors_of
from riskdistill.storage.decisions import Decision, DecisionLog
from riskdistill.storage.releases import ReleaseLog, State, Transition
from riskdistill.storage.tables import DECISIONS, PAYLOADS

REPRODUCED = 1e-6  # scores no further apart are the same
_SHOWN = 12  # features printed; --json has all


class Sources(NamedTuple):
    """Where the parts of an explanation are, as far as they are known."""

    bundles: Path | None
    history: Path | None
    pseudonym_key: Path | None
    rates: Path | None


class FeatureValue(BaseModel):
    """A feature of the transaction; `typical` is the median of the bundle's reference period; None: none."""

    name: str
    meaning: str
    unit: str
    value: float | None
    typical: float | None
    distance: float  # from the typical value, in interquartile ranges


class Explanation(BaseModel):
    """What the logs tell of one decision; a part that is not known is None, and `unknown` says why."""

    model_config = ConfigDict(frozen=True)

    decision: Decision
    sequence: int
    hash: str
    anchored_at: datetime | None  # the first anchor that covers it
    payload_kept: bool
    promotion: Transition | None
    bundle_path: str | None
    thresholds: Thresholds | None
    score_again: float | None  # the student's, on the features computed again
    features: tuple[FeatureValue, ...]  # the least usual first
    unknown: tuple[str, ...]

    @property
    def reproduced(self) -> bool:
        """Whether the student gives the stored score again."""
        return self.score_again is not None and abs(self.score_again - self.decision.student_score) <= REPRODUCED


def explained(decision_id: str, log: DecisionLog, releases: ReleaseLog | None, sources: Sources) -> Explanation:
    """All that is known of a decision.

    Raises:
        NotFoundError: the log has no such decision.
        UnavailableError: a log cannot be read now.
    """
    rows = log.fetch(
        select(DECISIONS.c.sequence, DECISIONS.c.hash, DECISIONS.c.body, PAYLOADS.c.key_id)
        .join(PAYLOADS, PAYLOADS.c.sequence == DECISIONS.c.sequence, isouter=True)
        .where(DECISIONS.c.decision_id == decision_id)
    )
    if not rows:
        raise NotFoundError(f"no decision {decision_id}", mend="copy the id from the answer; it may be pruned")
    decision, unknown = Decision.model_validate_json(rows[0].body), list[str]()
    promotion = _promotion(releases, decision)
    if promotion is None:
        unknown.append("release: " + ("none promoted this bundle before" if releases else "give --releases"))
    bundle = None
    try:
        bundle = _bundle(decision, promotion, sources.bundles)
        if bundle is None:
            unknown.append("thresholds and features: give --bundle-store with the bundle that served")
    except BundleError as error:
        unknown.append(f"thresholds and features: {error}")
    score: float | None = None
    features: tuple[FeatureValue, ...] = ()
    if bundle is not None:
        try:
            score, features = _again(bundle, decision, log, sources)
        except (StateError, ConfigError) as error:
            unknown.append(f"features: {error}")
    covering = [anchor.at for anchor in anchors_of(log, rows[0].sequence - 1)]
    return Explanation(
        decision=decision,
        sequence=rows[0].sequence,
        hash=rows[0].hash,
        anchored_at=covering[0] if covering else None,
        payload_kept=rows[0].key_id is not None,
        promotion=promotion,
        bundle_path=str(bundle.path) if bundle else None,
        thresholds=bundle.thresholds if bundle else None,
        score_again=score,
        features=features,
        unknown=tuple(unknown),
    )


def _promotion(releases: ReleaseLog | None, decision: Decision) -> Transition | None:
    """What made the bundle champion, the last time before the decision."""
    history = releases.history() if releases else ()
    made = [step for step in history if step.after is State.CHAMPION and step.said is None]
    before = [step for step in made if step.at <= decision.decided_at]
    return before[-1] if before and before[-1].bundle_version == decision.bundle_version else None


def _bundle(decision: Decision, promotion: Transition | None, store: Path | None) -> Bundle | None:
    """The bundle that decided, checksums verified; None where it is not at hand."""
    places = [store / decision.bundle_version, store] if store else []
    places += [Path(promotion.bundle_path)] if promotion else []
    for place in places:
        if (place / "manifest.json").is_file():
            bundle = Bundle.load(place, teacher=False)
            if bundle.version == decision.bundle_version:
                return bundle
    return None


def engine_before(bundle: Bundle, decision_id: str, log: DecisionLog, sources: Sources) -> FeatureEngine:
    """Account state just before the transaction of a decision was seen.

    Raises:
        ConfigError: the pseudonym key cannot be used.
        StateError: the history lacks what was pruned from the log.
        UnreadableFileError: the history cannot be read.
    """
    from api.path.account_state import rebuild
    from api.path.pseudonyms import Pseudonyms
    from api.security.secret_files import read_secret

    key = os.environ.get("RISKDISTILL_PSEUDONYM_KEY", "")
    if sources.pseudonym_key is not None:
        key = read_secret(sources.pseudonym_key).strip()
    if sources.history is None:
        key = "0" * 16  # nothing is pseudonymised: the log is already
    engine = bundle.engine(Rates.read(sources.rates))
    rebuild(engine, sources.history, log, Pseudonyms(key), until=decision_id)
    return engine


def _again(
    bundle: Bundle, decision: Decision, log: DecisionLog, sources: Sources
) -> tuple[float, tuple[FeatureValue, ...]]:
    encoded = engine_before(bundle, decision.decision_id, log, sources).peek(decision.transaction)
    score = float(bundle.student.score(encoded).score[0])
    return score, _features(bundle, encoded.context[0])


def _features(bundle: Bundle, row: np.ndarray[tuple[int], np.dtype[np.float32]]) -> tuple[FeatureValue, ...]:
    spread = np.where(bundle.spread > 0, bundle.spread, 1.0)
    distances = np.nan_to_num(np.abs(row - bundle.typical) / spread)
    return tuple(
        FeatureValue(
            name=bundle.spec.names[column],
            meaning=bundle.spec.context[column].meaning,
            unit=bundle.spec.context[column].unit,
            value=_number(row[column]),
            typical=_number(bundle.typical[column]),
            distance=float(distances[column]),
        )
        for column in np.argsort(-distances, kind="stable")
    )


def _number(value: np.float32) -> float | None:
    return None if np.isnan(value) else float(value)


def printed(found: Explanation, console: Console) -> None:
    """Prints an explanation as two tables: the decision, and its least usual features."""
    decision = found.decision
    table = Table("what", Column("of this decision", overflow="fold"), show_header=False)
    for name, told in _told(found):
        table.add_row(name, told)
    console.print(table)
    if found.features:
        whole = Column("feature", overflow="fold")  # a name is copied from it
        features = Table(whole, "value", "typically", "meaning", title="least usual features")
        for one in found.features[:_SHOWN]:
            features.add_row(one.name, _shown(one.value), _shown(one.typical), f"{one.meaning} [{one.unit}]")
        console.print(features)
    for reason in found.unknown:
        console.print(f"not known: {reason}", soft_wrap=True, highlight=False, markup=False)
    if found.score_again is not None and not found.reproduced:
        console.print(
            f"scored again the student gives {found.score_again:.6f}, not {decision.student_score:.6f}: these are "
            "not the features it saw. Give the --history (and --rates) that the service started on.",
            soft_wrap=True,
            highlight=False,
        )


def _told(found: Explanation) -> list[tuple[str, str]]:
    decision, promotion, thresholds = found.decision, found.promotion, found.thresholds
    scores = f"{decision.score:.6f}; student {decision.student_score:.6f}"
    if decision.teacher_score is not None:
        scores += f", teacher {decision.teacher_score:.6f}"
    told = [
        ("transaction", f"{decision.tx_id}, decided {decision.decided_at:%Y-%m-%d %H:%M:%S} UTC"),
        ("outcome", f"{decision.action} (band {decision.band})"),
        ("score", scores),
        ("route", f"{decision.route} ({decision.route_reason.replace('_', ' ')})"),
        ("bundle", f"{decision.bundle_version}" + (f", {found.bundle_path}" if found.bundle_path else "")),
    ]
    if promotion:
        when = f"{promotion.at:%Y-%m-%d %H:%M}"
        told.append(
            ("release", f"{promotion.release_id}, promoted by {promotion.actor} on {when}: {promotion.reason}")
        )
    if thresholds:
        told.append(("thresholds", ", ".join(f"{name} {value}" for name, value in thresholds)))
    told += [("reason", f"{reason.text} ({reason.effect:+.2f})") for reason in decision.reasons]
    if decision.typology:
        told.append(("likely typology", decision.typology))
    if found.reproduced:
        told.append(("scored again", "the same score, on the features below"))
    anchor = f"anchored {found.anchored_at:%Y-%m-%d %H:%M:%S}" if found.anchored_at else "not anchored yet"
    told.append(("in the log", f"entry {found.sequence}, hash {found.hash}, {anchor}"))
    told.append(("request", "kept, encrypted" if found.payload_kept else "not kept"))
    return told


def _shown(value: float | None) -> str:
    return "none" if value is None else f"{value:,.6g}"
