"""What becomes of a decision for people: who may be spared looking at it, and who shall look at it.

- An alert that a suppression covers is allowed to pass, and says by which.
- Of what passes, a share is drawn into a sample, so that what the alerts miss can be estimated: ten times the share
  where the score is at least a tenth of the line, for most of what is missed lies there, and for suppressed alerts.
  Where the model beside would have alerted (the previous one, and the champion beside a canary), a share of its own
  is drawn: these are few, and without their verdicts nobody can compare the two models' false alerts. Each draw
  keeps its probability, by which estimates weigh it. Drawing is by a keyed hash of the transaction id: it can be
  repeated with the key, and not foreseen without it.
- Alerts and samples keep the row that the models saw, so that they can be explained later. Others would take ten
  times the room for what hardly anybody asks; RISKDISTILL_KEEP_FEATURES=all keeps them too.
"""

from __future__ import annotations

import hashlib
from datetime import datetime
from typing import Final, NamedTuple

from api.settings import ApiSettings
from riskdistill.bundle import ACTIONS, Bundle
from riskdistill.data.transaction import Transaction
from riskdistill.features.encoded import Encoded
from riskdistill.features.packed import pack
from riskdistill.storage.decisions import Action, Band, Shadow
from riskdistill.storage.suppressions import SuppressionList

NEAR: Final = 0.1  # of the line; from there on a score is near it
NEAR_TIMES: Final = 10  # as often as others are these drawn
_AMOUNT: Final = 0  # column of amount_usd; a test compares it with the specification


class Triage(NamedTuple):
    """What was settled on one decision; fields as in `Decision`."""

    action: Action
    suppression: str | None
    sample_share: float | None
    at_risk_usd: float | None
    features: str | None


def untriaged(band: Band) -> Triage:
    """What becomes of a decision on which nothing could be settled: the band's action."""
    return Triage(ACTIONS[band], None, None, None, None)


class Triager:
    """Settles the above for every decision, without waiting for anything.

    Args:
        settings: how much is sampled and kept.
        suppressions: what is in force.
        key: of the drawing; the pseudonym key serves.
    """

    def __init__(self, settings: ApiSettings, suppressions: SuppressionList, key: str) -> None:
        self._share, self._beside = settings.sample_share, settings.shadow_sample_share
        self._keep_all = settings.keep_features == "all"
        self._suppressions = suppressions
        # a key of its own, so that no draw tells anything of a pseudonym
        self._drawing = hashlib.blake2b(key=key.encode(), digest_size=8, person=b"below-the-line")

    def chance(self, bundle: Bundle, score: float, shadow: Shadow | None) -> float:
        """The probability by which a decision is drawn for review if it is let pass."""
        near = score >= NEAR * bundle.thresholds.review
        share = min(1.0, NEAR_TIMES * self._share) if near else self._share
        return share if shadow is None or shadow.action == "allow" else max(share, self._beside)

    def settle(
        self,
        encoded: Encoded,
        transaction: Transaction,
        band: Band,
        typology: str | None,
        chance: float,
        now: datetime,
    ) -> Triage:
        """What becomes of one decision, made at `now`; let pass, it is drawn for review by `chance`."""
        action, suppression = ACTIONS[band], None
        if band != "low":
            parties = transaction.sender_account, transaction.receiver_account
            suppression = self._suppressions.match(*parties, typology, band, now)
            if suppression is not None:
                action = "allow"
        share = None
        if action == "allow":
            share = chance if self._is_drawn(transaction.tx_id, chance) else None
        looked_at = band != "low" or share is not None
        return Triage(
            action,
            suppression,
            share,
            float(encoded.context[0, _AMOUNT]) if looked_at else None,
            pack(encoded) if looked_at or self._keep_all else None,
        )

    def _is_drawn(self, tx_id: str, chance: float) -> bool:
        drawing = self._drawing.copy()
        drawing.update(tx_id.encode())
        return int.from_bytes(drawing.digest(), "big") < chance * 2**64
