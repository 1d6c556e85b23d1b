"""Teachers behind one gate: a bad one does no harm, and weights by transaction stand only where they win."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, log_loss

from riskdistill.errors import TrainingError, UnreadableFileError
from riskdistill.features import Encoded
from riskdistill.models.ensemble import EnsembleTeacher, Gate, load_gate, save_gate
from riskdistill.models.teacher import Answers, Wanted

PAIR = ("first", "second")
WANTED = Wanted(student_events=1, relation_heads=1)


@dataclass(frozen=True)
class Made:
    """Rows [n] with none or all of eight events, and two members' log-odds [2, n]."""

    encoded: Encoded
    label: np.ndarray
    logits: np.ndarray


def made(seed: int, noise: tuple[float, float], with_events: tuple[float, float] | None = None) -> Made:
    """Members that see the truth through noise; `with_events`: through another one where there are events."""
    rng, n = np.random.default_rng(seed), 2_000
    truth = rng.normal(-2, 3, n)
    present = rng.random(n) < 0.5
    spread = np.where(present, np.array(with_events or noise)[:, None], np.array(noise)[:, None])
    events = np.zeros((n, 8, 12), np.float32)
    events[present, :, 0] = 1
    return Made(
        Encoded(truth[:, None].astype(np.float32), events),
        rng.random(n) < 1 / (1 + np.exp(-truth)),
        truth + spread * rng.normal(size=(2, n)),
    )


def fit(rows: Made) -> Gate:
    return Gate.fit(PAIR, rows.logits, rows.encoded, rows.label)


def out_of_fold(gate: Gate) -> float:
    assert gate.kept_loss is not None
    return gate.kept_loss


# ---- what the gate decides


@pytest.mark.parametrize("seed", range(3))
def test_a_member_that_is_noise_does_no_harm(seed: int) -> None:
    rows, unseen = made(seed, (0.3, 1.0)), made(seed + 10, (0.3, 1.0))
    for each, random in ((rows, 20 + seed), (unseen, 30 + seed)):
        each.logits[1] = np.random.default_rng(random).normal(0, 4, len(each.label))
    alone = Gate.fit(PAIR[:1], rows.logits[:1], rows.encoded, rows.label)
    both = fit(rows)
    assert out_of_fold(both) <= out_of_fold(alone) + 0.003
    told = both.combine(unseen.logits, unseen.encoded)
    assert average_precision_score(unseen.label, told) >= (
        average_precision_score(unseen.label, unseen.logits[0]) - 0.005
    )


def test_two_members_with_errors_of_their_own_are_better_than_either() -> None:
    rows = made(1, (2.0, 2.0))
    each = [Gate.fit(PAIR[:1], rows.logits[[number]], rows.encoded, rows.label) for number in range(2)]
    assert out_of_fold(fit(rows)) < min(map(out_of_fold, each)) - 0.01


def test_weights_by_transaction_stand_where_members_are_reliable_on_other_rows() -> None:
    noise = {"noise": (0.1, 6.0), "with_events": (6.0, 0.1)}
    gate, unseen = fit(made(1, **noise)), made(2, **noise)
    assert gate.by_transaction
    assert gate.loss < gate.constant_loss
    constant = gate.model_copy(update={"by_transaction": ()})
    told, flat = (1 / (1 + np.exp(-g.combine(unseen.logits, unseen.encoded))) for g in (gate, constant))
    assert log_loss(unseen.label, told) < log_loss(unseen.label, flat)


@settings(max_examples=8)
@given(seed=st.integers(0, 1_000), noise=st.floats(0.5, 4.0))
def test_weights_by_transaction_stand_only_where_they_win_out_of_fold(seed: int, noise: float) -> None:
    gate = fit(made(seed, (noise, noise)))
    assert bool(gate.by_transaction) == (gate.loss < gate.constant_loss)


def test_no_loss_is_told_where_laundering_lies_in_one_block_of_time() -> None:
    rows = made(1, (1.0, 1.0))
    early = rows.label & (np.arange(len(rows.label)) < len(rows.label) // 4)
    gate = Gate.fit(PAIR, rows.logits, rows.encoded, early)
    assert gate.loss is gate.constant_loss is gate.kept_loss is None
    assert not gate.by_transaction


def test_a_row_is_combined_alone_as_in_a_batch() -> None:
    rows = made(1, (0.1, 6.0), (6.0, 0.1))
    gate = fit(rows)
    alone = [gate.combine(rows.logits[:, [n]], rows.encoded.take(slice(n, n + 1)))[0] for n in range(20)]
    np.testing.assert_allclose(alone, gate.combine(rows.logits, rows.encoded)[:20])
    assert gate.combine(rows.logits[:, :0], rows.encoded.take(slice(0, 0))).shape == (0,)


def test_labels_of_one_kind_are_refused() -> None:
    rows = made(1, (1.0, 1.0))
    with pytest.raises(TrainingError, match="laundering and normal rows"):
        Gate.fit(PAIR, rows.logits, rows.encoded, np.zeros_like(rows.label))


# ---- the gate's file


@pytest.fixture(scope="module")
def gate() -> Gate:
    return fit(made(1, (0.1, 6.0), (6.0, 0.1)))


def test_a_gate_is_read_as_it_was_written(gate: Gate, tmp_path: Path) -> None:
    save_gate(gate, tmp_path / "gate.json")
    assert load_gate(tmp_path / "gate.json") == gate
    assert [file.name for file in tmp_path.iterdir()] == ["gate.json"]


@pytest.mark.parametrize("content", [None, b"", b"{", b"\xff\xfe", b"[]", b"{}"])
def test_a_file_that_holds_no_gate_is_refused(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "gate.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UnreadableFileError, match=r"gate\.json"):
        load_gate(path)


@pytest.mark.parametrize(
    "change",
    [
        {"weights": [1.0]},
        {"weights": [1.0, float("nan")]},
        {"calibrators": []},
        {"by_transaction": [[0.0, 0.0]]},
        {"members": ["first"]},
        {"unknown": 1},
    ],
)
def test_a_damaged_gate_is_refused(gate: Gate, tmp_path: Path, change: dict[str, object]) -> None:
    (tmp_path / "gate.json").write_text(json.dumps(gate.model_dump() | change))
    with pytest.raises(UnreadableFileError, match=r"gate\.json"):
        load_gate(tmp_path / "gate.json")


# ---- the ensemble as a teacher


@dataclass(frozen=True)
class Fixed:
    """A teacher that answers what it was given."""

    name: str
    answers: Answers = field(repr=False)
    fingerprint: str = "0" * 16

    def answer(self, encoded: Encoded, wanted: Wanted) -> Answers:
        return self.answers


def test_the_ensemble_answers_with_its_gate_and_what_its_members_know(gate: Gate) -> None:
    rows = made(3, (1.0, 1.0))
    first, second = (row.astype(np.float32) for row in rows.logits)
    known = np.ones((len(first), 3), np.float32)
    members = [
        Fixed("first", Answers(first, typology_logits=known)),
        Fixed("second", Answers(second, typology_logits=2 * known, embedding=known)),
    ]
    told = EnsembleTeacher(members, gate).answer(rows.encoded, WANTED)
    np.testing.assert_allclose(told.logit, gate.combine(np.array([first, second]), rows.encoded), rtol=1e-6)
    assert told.typology_logits is known  # of the first that knows it
    assert told.embedding is known


def test_the_fingerprint_follows_members_and_gate(gate: Gate) -> None:
    nothing = Answers(np.zeros(0, np.float32))
    members = [Fixed(name, nothing) for name in PAIR]
    other = [members[0], Fixed("second", nothing, "1" * 16)]
    lighter = gate.model_copy(update={"weights": (0.1, 0.2)})
    found = {EnsembleTeacher(*told).fingerprint for told in ((members, gate), (other, gate), (members, lighter))}
    assert len(found) == 3
    assert EnsembleTeacher(members, gate).fingerprint in found


def test_members_in_another_order_than_the_gate_s_are_refused(gate: Gate) -> None:
    members = [Fixed(name, Answers(np.zeros(0, np.float32))) for name in reversed(PAIR)]
    with pytest.raises(TrainingError, match="fitted for first, second, not second, first"):
        EnsembleTeacher(members, gate)
