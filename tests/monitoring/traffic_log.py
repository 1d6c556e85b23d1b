"""Logs for the monitoring tests: two releases in a release log, and decisions that both models scored."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from monitoring.evidence import Expectation, RollbackPolicy
from monitoring.rollback import RollbackController
from riskdistill.data.transaction import Transaction
from riskdistill.storage.decisions import Action, Decision, DecisionLog, Shadow
from riskdistill.storage.releases import ReleaseLog

REVIEW = 0.5  # both models alert from this score on
GOOD, NEW = "good0000", "new00000"
Logs = tuple[ReleaseLog, DecisionLog]
EXPECTED = Expectation(REVIEW, alert_rate=0.02)
_NUMBERS = count(1)
_TRANSACTION = Transaction(
    tx_id="t",
    timestamp=datetime(2026, 1, 1, tzinfo=UTC),
    sender_account="a",
    sender_bank="b",
    receiver_account="c",
    receiver_bank="d",
    amount_paid=1.0,
    currency_paid="EUR",
    amount_received=1.0,
    currency_received="EUR",
    payment_format="wire",
)


def open_logs(folder: Path) -> tuple[ReleaseLog, DecisionLog]:
    """Both logs in one new database; `GOOD` was champion and is previous, `NEW` is champion."""
    url = f"sqlite:///{folder}/logs.db"
    releases, decisions = ReleaseLog(url), DecisionLog(url)
    for version in (GOOD, NEW):
        release = releases.register(f"bundles/{version}", version, actor="ann", reason="trained")
        releases.promote(release.release_id, actor="ann", reason="passed its gates", evidence={"pr_auc": 0.5})
    return releases, decisions


def decide(
    champion: float,
    previous: float | None = None,
    *,
    teacher: float | None = None,
    version: str = NEW,
    **changes: Any,
) -> Decision:
    """One decision now: the champion's score, the previous model's, and the teacher's if it was asked.

    Each is on a payment between accounts of its own, and drawn for review if it is let pass; `changes` are of the
    transaction.
    """
    final = champion if teacher is None else teacher
    number = f"d{next(_NUMBERS)}"
    return Decision(
        decision_id=number,
        tx_id=number,
        transaction=_TRANSACTION.model_copy(
            update={"tx_id": number, "sender_account": f"a{number}", "receiver_account": f"b{number}"} | changes
        ),
        request_hash="0" * 64,
        decided_at=datetime.now(UTC),
        score=final,
        student_score=champion,
        teacher_score=teacher,
        band="low" if final < REVIEW else "medium",
        action=_action(final),
        route="student" if teacher is None else "teacher",
        bundle_version=version,
        sample_share=1.0 if final < REVIEW else None,
        latency_ms=1.0,
        shadow=None if previous is None else Shadow(bundle_version=GOOD, score=previous, action=_action(previous)),
    )


def _action(score: float) -> Action:
    return "allow" if score < REVIEW else "review"


def traffic(rows: int, champion_only: float, previous_only: float, both: float, seed: int) -> list[Decision]:
    """Decisions in which the two models alert with these shares."""
    kinds = np.random.default_rng(seed).choice(
        4, rows, p=[champion_only, previous_only, both, 1 - champion_only - previous_only - both]
    )
    scores = ((0.9, 0.1), (0.1, 0.9), (0.9, 0.9), (0.1, 0.1))
    return [decide(*scores[kind]) for kind in kinds]


def controller(logs: Logs, expected: Expectation = EXPECTED, **policy: Any) -> RollbackController:
    """A controller that does not rest after a promotion, unless `policy` says so."""
    settings = RollbackPolicy(**({"cool_down": timedelta(0)} | policy))
    return RollbackController(*logs, settings, lambda release: expected)
