"""An ensemble is no worse than its best member, weighs each transaction by itself, and is the same when read back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import log_loss

from riskdistill.errors import TrainingError, UnreadableFileError
from riskdistill.features import Encoded
from riskdistill.models.ensemble import EnsembleTeacher, Gate, load_gate, save_gate
from riskdistill.models.teacher import Answers, Wanted

ROWS = 4_000
NAMES = ("first", "second")


class Fixed:
    """A teacher that gives what it was made with."""

    def __init__(self, name: str, answers: Answers) -> None:
        self.name, self.answers, self.fingerprint = name, answers, f"{name:0>16}"

    def answer(self, encoded: Encoded, wanted: Wanted) -> Answers:
        return self.answers


def probability(odds: np.typing.NDArray[np.floating]) -> np.typing.NDArray[np.floating]:
    return 1 / (1 + np.exp(-odds))


def with_events(count: np.typing.NDArray[np.integer]) -> Encoded:
    """Rows with so many events of the eight that there may be."""
    events = (np.arange(8)[None, :] < count[:, None]).astype(np.float32)[:, :, None]
    return Encoded(np.zeros((len(count), 1), np.float32), events)


@pytest.fixture
def random() -> np.random.Generator:
    return np.random.default_rng(5)


def drawn(random: np.random.Generator) -> tuple[np.typing.NDArray[np.float64], np.typing.NDArray[np.bool_]]:
    odds = random.normal(-2, 2, 2 * ROWS)
    return odds, random.random(2 * ROWS) < probability(odds)


def loss_on_later_rows(
    logits: np.typing.NDArray[np.float64], encoded: Encoded, label: np.typing.NDArray[np.bool_]
) -> float:
    """Of a gate that was fitted on the earlier half."""
    gate = Gate.fit(NAMES, logits[:, :ROWS], encoded.take(slice(0, ROWS)), label[:ROWS])
    later = gate.combine(logits[:, ROWS:], encoded.take(slice(ROWS, None)))
    return float(log_loss(label[ROWS:], probability(later)))


@pytest.mark.parametrize("other", ["noise", "constant", "backwards"])
def test_a_useless_member_does_no_harm(random: np.random.Generator, other: str) -> None:
    odds, label = drawn(random)
    useless = {"noise": random.normal(size=len(odds)), "constant": np.full(len(odds), 3.0), "backwards": -odds / 9}
    encoded = with_events(random.integers(0, 9, len(odds)))
    alone = float(log_loss(label[ROWS:], probability(odds[ROWS:])))
    assert loss_on_later_rows(np.array([odds, useless[other]]), encoded, label) < alone + 0.003


def test_members_that_know_different_things_are_better_together(random: np.random.Generator) -> None:
    odds, label = drawn(random)
    seen = np.array([odds + random.normal(0, 2, len(odds)) for _ in NAMES])
    encoded = with_events(random.integers(0, 9, len(odds)))
    alone = [loss_on_later_rows(np.array([row, np.zeros_like(row)]), encoded, label) for row in seen]
    assert loss_on_later_rows(seen, encoded, label) < min(alone) - 0.01


def test_weights_follow_the_transaction_where_that_pays(random: np.random.Generator) -> None:
    """The second member knows nothing of accounts without history, the first nothing of the others."""
    odds, label = drawn(random)
    history = random.integers(0, 2, len(odds)) * 8
    noise = random.normal(size=(2, len(odds)))
    logits = np.array([np.where(history == 0, odds, noise[0]), np.where(history == 0, noise[1], odds)])
    gate = Gate.fit(NAMES, logits, with_events(history), label)
    assert gate.by_transaction
    assert gate.loss < gate.constant_loss
    moved = np.array([[-2.0, -1.0], [-2.0, -2.0]])  # two rows, told apart by the first member alone
    short, long = (np.ptp(gate.combine(moved, with_events(np.full(2, count)))) for count in (0, 8))
    assert short > 2 * long


def test_constant_weights_stand_where_the_transaction_tells_nothing(random: np.random.Generator) -> None:
    odds, label = drawn(random)
    seen = np.array([odds + random.normal(0, 1, len(odds)) for _ in NAMES])[:, :400]
    gate = Gate.fit(NAMES, seen, with_events(random.integers(0, 9, 400)), label[:400])
    assert bool(gate.by_transaction) == (gate.loss < gate.constant_loss)


def test_labels_of_one_kind_are_refused() -> None:
    with pytest.raises(TrainingError, match="laundering and normal rows"):
        Gate.fit(NAMES, np.zeros((2, 40)), with_events(np.zeros(40, int)), np.zeros(40, bool))


@pytest.fixture
def gate(random: np.random.Generator) -> Gate:
    odds, label = drawn(random)
    logits = np.array([odds, odds + random.normal(size=len(odds))])
    return Gate.fit(NAMES, logits, with_events(random.integers(0, 9, len(odds))), label)


def test_a_gate_is_the_same_when_read_back(gate: Gate, tmp_path: Path) -> None:
    save_gate(gate, tmp_path / "gate.json")
    assert load_gate(tmp_path / "gate.json") == gate
    (tmp_path / "gate.json").write_text("{}")
    with pytest.raises(UnreadableFileError, match="fit the ensemble again"):
        load_gate(tmp_path / "gate.json")
    with pytest.raises(UnreadableFileError):
        load_gate(tmp_path / "absent.json")


def test_what_one_member_knows_alone_comes_from_it(gate: Gate) -> None:
    logit = np.linspace(-3, 1, 6, dtype=np.float32)
    typologies, embedding = np.ones((6, 3), np.float32), np.full((6, 2), 7, np.float32)
    first = Fixed("first", Answers(logit, typologies))
    second = Fixed("second", Answers(logit[::-1].copy(), 2 * typologies, embedding=embedding))
    rows = with_events(np.arange(6))
    answers = EnsembleTeacher([first, second], gate).answer(rows, Wanted(2, 2, embedding=True))
    assert answers.typology_logits is typologies
    assert answers.embedding is embedding
    np.testing.assert_allclose(answers.logit, gate.combine(np.array([logit, logit[::-1]]), rows), rtol=1e-5)


def test_the_gate_is_of_these_members_in_this_order(gate: Gate) -> None:
    members = [Fixed(name, Answers(np.zeros(1, np.float32))) for name in NAMES]
    fingerprint = EnsembleTeacher(members, gate).fingerprint
    with pytest.raises(TrainingError, match="first, second, not second, first"):
        EnsembleTeacher(members[::-1], gate)
    members[0].fingerprint = "another"
    assert EnsembleTeacher(members, gate).fingerprint != fingerprint
