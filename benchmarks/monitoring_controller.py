"""Harm found by the whole controller, decision by decision, as `monitoring.rollback` reads a log and acts on it.

Unlike in `monitoring_harm` nothing is counted beforehand: accounts repeat, schemes are of several payments, and
who is looked at depends on what serves. The stream is dense: as many alerts a look as 50 payments a second give,
and few payments beside them; the teacher is asked about all. Labels come a week after their payments; the traffic
of that week is left out, as nothing new is to be learnt from it. Where errors are watched too, a healthy day of the
previous model comes before.

Where only the champion's alerts are reviewed, nobody looks at what the previous model alone would have raised, but
laundering among it may surface by itself. A sample of what is let pass gives outcomes that do not depend on that.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import numpy as np
from feature_data import Measurement
from monitoring_harm import BLIND, DIMENSIONS, FAILING, HEALTHY, PRECISE, SHARES, World
from monitoring_rules import NEVER, middle, proportion, spread

from monitoring.evidence import STEP, Expectation, RollbackPolicy
from monitoring.labels import Outcome
from monitoring.rollback import RollbackController
from riskdistill.data.transaction import Transaction
from riskdistill.storage.decisions import Decision, Entry, Shadow
from riskdistill.storage.releases import ReleaseLog

LOOKS: Final = 96  # with decisions, and as many with their labels
ALERTS: Final = 0.3  # share of the payments that each model alerts on
DENSE: Final[dict[str, Any]] = {
    "payments": 250,
    "laundering": 0.12,
}  # 75 alerts a look, 21 of them laundering where 70 % is found
ASKING: Final[dict[str, Any]] = {"payments": 500, "laundering": 0.12}  # every payment wants the teacher
KINDS: Final = ("both", "champion", "previous", "neither")  # who alerts
ACCOUNTS: Final = 20_000
LATE: Final = timedelta(days=7)  # labels
REVIEW: Final = 0.5  # the score from which there is an alert
SLOW: Final = 0.05  # share of the decisions that take long
HOURLY: Final = 6_000  # decisions of the previous model: as many as of a champion that all ask the teacher
EARLY: Final = datetime(2025, 1, 1, tzinfo=UTC)
WHO: Final[dict[str, Any]] = {"actor": "benchmark", "reason": "harm"}


@dataclass(frozen=True)
class Review:
    """Whose outcomes become known, beside those of the champion's alerts.

    Attributes:
        sample: share of what is let pass that is drawn for review.
        surfaces: share of the laundering in what is let pass that comes to light by itself.
    """

    sample: float
    surfaces: float = 0.0


ALIKE, SAMPLED, SURFACING, BLINDLY = Review(1.0), Review(0.1, 0.5), Review(0.0, 0.5), Review(0.0)


@dataclass
class Stream:
    """A decision log that grows look by look, and what becomes known of it."""

    entries: list[Entry]
    ends: list[int] = field(default_factory=list)  # how many entries are there after each look
    labels: list[dict[str, Outcome]] = field(default_factory=list)  # of each look
    until: int = 0

    def read(self, after_sequence: int = 0, limit: int | None = None) -> Iterator[Entry]:
        """As `riskdistill.storage.decisions.DecisionLog` does."""
        end = self.until if limit is None else min(self.until, after_sequence + limit)
        return islice(self.entries, after_sequence, end)

    def add(self, decisions: list[Decision], labels: dict[str, Outcome]) -> None:
        """One look's."""
        first = len(self.entries) + 1
        self.entries += [Entry(first + place, decision) for place, decision in enumerate(decisions)]
        self.ends.append(len(self.entries))
        self.labels.append(labels)


def controller(quick: bool) -> list[Measurement]:
    """Looks to the rollback, from the beginning of harm or of its labels; and how often healthy champions are."""
    runs = 10 if quick else 100
    healthy, precise, blind = (replace(world, **DENSE) for world in (HEALTHY, PRECISE, BLIND))
    failing = replace(FAILING, **ASKING)
    rows = [_healthy(replace(healthy, scheme=4), runs)]
    for name, world, review, bar in (
        ("error rate 2 to 3 %, 500 decisions a look", failing, ALIKE, 9.0),
        ("alert precision - 20 %, both models' alerts reviewed", precise, ALIKE, 10.0),
        ("  laundering in schemes of 4", replace(precise, scheme=4), ALIKE, None),
        ("  the champion's reviewed, a tenth of all else; half of the missed surfaces", precise, SAMPLED, None),
        ("  the champion's reviewed; half of the missed surfaces", precise, SURFACING, None),
        ("  the champion's reviewed; nothing surfaces", precise, BLINDLY, None),
        ("recall - 10 points, both models' alerts reviewed", blind, ALIKE, None),
        ("  the champion's reviewed; half of the missed surfaces", blind, SURFACING, None),
        ("  the champion's reviewed; nothing surfaces", blind, BLINDLY, None),
    ):
        begins = 0 if world is failing else LOOKS  # with the labels
        looks = np.array([rolled_back(world, review, begins, seed) for seed in range(runs)])
        rows.append(Measurement(name, middle(looks), "looks", bar, "lower", spread(looks)))
    return rows


def _healthy(world: World, runs: int) -> Measurement:
    wrong = sum(rolled_back(world, ALIKE, 0, seed) != NEVER for seed in range(runs))
    low, high = proportion(wrong, runs)
    detail = f"{wrong} of {runs} runs of {2 * LOOKS} looks, schemes of 4; 95 % {low:.1%} to {high:.1%}"
    return Measurement("healthy champions rolled back", 100 * wrong / runs, "%", detail=detail)


def rolled_back(world: World, review: Review, begins: int, seed: int) -> int:
    """Which look after look `begins` rolls back; NEVER if none does. Labels begin after look `LOOKS`."""
    with TemporaryDirectory() as folder, closing(ReleaseLog(f"sqlite:///{folder}/releases.db")) as releases:
        for version in ("previous", "champion"):
            release = releases.register(Path(folder) / version, version, **WHO)
            release = releases.promote(release.release_id, **WHO, evidence={})
        draw = np.random.default_rng(seed)
        stream = Stream([] if begins else _before(draw))
        _fill(stream, world, review, release.changed_at, draw)
        segments = {f"{name}={value}": ALERTS for name in DIMENSIONS for value in range(len(SHARES))}
        expected, now = Expectation(REVIEW, ALERTS, segments), [release.changed_at]
        watched = RollbackController(
            releases, stream, RollbackPolicy(labels=True), lambda _: expected, lambda: now[0]
        )
        told: dict[str, Outcome] = {}
        for number in range(max(begins - 1, 0), 2 * LOOKS):  # the last one before sees all that was decided
            place, late = number % LOOKS, number >= LOOKS
            now[0] = release.changed_at + (place + 1) * STEP + (LATE if late else timedelta(0))
            stream.until = stream.ends[-1 if late else place]
            told |= stream.labels[place] if late else {}
            if watched.look(told).action == "rolled_back":
                return number + 1 - begins
    return NEVER


def _fill(stream: Stream, world: World, review: Review, start: datetime, draw: np.random.Generator) -> None:
    """Add the champion's looks from `start` on, and what becomes known of them."""
    for number in range(LOOKS):
        decisions, labels = [], dict[str, Outcome]()
        payments = _payments(world, draw)
        seen, surfaced = draw.random(len(payments)) < review.sample, draw.random(len(payments)) < review.surfaces
        failed, slow = draw.random(len(payments)) < world.errors, draw.random(len(payments)) < SLOW
        at = start + number * STEP + STEP / 2
        for place, (kind, laundering, paid) in enumerate(payments):
            champion = kind in ("both", "champion")
            drawn = bool(seen[place]) and not champion
            decision = _decision(
                f"{number}-{place}",
                paid,
                at,
                0.9 if champion else 0.1,
                failed=bool(failed[place]),
                latency_ms=50.0 if slow[place] else 1.0,
                sample_share=review.sample if drawn else None,
                shadow=_SHADOWS[kind in ("both", "previous")],
            )
            decisions.append(decision)
            if champion or (kind == "previous" and (drawn or (laundering and surfaced[place]))):
                labels[decision.tx_id] = Outcome(laundering, at + LATE)
        stream.add(decisions, labels)


def _payments(world: World, draw: np.random.Generator) -> list[tuple[str, bool, Transaction]]:
    """One look's: who alerts, whether it is laundering, the payment. A scheme has its own accounts and one fate."""
    found = np.array([world.both, world.champion, world.previous])
    schemes = draw.poisson(world.payments * world.laundering / world.scheme)
    fates = draw.choice(KINDS, schemes, p=[*found, 1 - found.sum()])
    own = [_paid(draw, number) for number in draw.integers(ACCOUNTS, 2**62, schemes).tolist()]
    rows = [(str(fate), True, paid) for fate, paid in zip(fates, own, strict=True) for _ in range(world.scheme)]
    false = (ALERTS - world.laundering * (found[0] + found[1:])) / (1 - world.laundering)
    shares = [0.6 * false.min(), *(false - 0.6 * false.min())]
    rest = draw.choice(KINDS, max(world.payments - len(rows), 0), p=[*shares, 1 - sum(shares)])
    known = _accounts()
    places = draw.integers(len(known), size=len(rest))
    return rows + [(str(kind), False, known[place]) for kind, place in zip(rest, places.tolist(), strict=True)]


@cache
def _accounts() -> tuple[Transaction, ...]:
    """One payment of each account, for payments that are not laundering."""
    draw = np.random.default_rng(0)
    return tuple(_paid(draw, number) for number in range(ACCOUNTS))


def _paid(draw: np.random.Generator, account: int) -> Transaction:
    bank, channel, country = draw.choice(len(SHARES), 3, p=SHARES).tolist()
    return Transaction.model_construct(  # what the controller reads of it
        timestamp=EARLY,
        sender_account=f"s{account}",
        receiver_account=f"r{account}",
        sender_bank=str(bank),
        payment_format=str(channel),
        sender_country=str(country),
    )


_SHADOWS: Final = {
    alerts: Shadow(bundle_version="previous", score=0.9 if alerts else 0.1, action="review" if alerts else "allow")
    for alerts in (False, True)
}


def _decision(tx_id: str, paid: Transaction, at: datetime, score: float, *, failed: bool, **told: Any) -> Decision:
    alerts = score >= REVIEW
    return Decision.model_construct(  # of valid parts; checking them would take most of the time
        **{"bundle_version": "champion"} | told,
        decision_id=tx_id,
        tx_id=tx_id,
        transaction=paid,
        decided_at=at,
        score=score,
        student_score=score,
        teacher_score=None if failed else score,
        band="medium" if alerts else "low",
        action="review" if alerts else "allow",
        route="student_degraded" if failed else "teacher",
        route_reason="teacher_late" if failed else "above_threshold",
    )


def _before(draw: np.random.Generator) -> list[Entry]:
    """A day of the previous model, hour by hour."""
    paid, entries = _accounts()[0], list[Entry]()
    odds = np.outer([1 - HEALTHY.errors, HEALTHY.errors], [1 - SLOW, SLOW]).ravel()
    for hour in range(24):
        at = EARLY + timedelta(hours=hour)
        kinds = [
            _decision("before", paid, at, 0.1, failed=failed, latency_ms=latency, bundle_version="previous")
            for failed in (False, True)
            for latency in (1.0, 50.0)
        ]
        for kind in draw.choice(len(kinds), HOURLY, p=odds).tolist():
            entries.append(Entry(len(entries) + 1, kinds[kind]))
    return entries
