"""Several teachers as one: calibrated, and weighted for each transaction by how far each of them can be relied on.

    log-odds(x) = b + Σ_m  l_m(x) · (w_m + Σ_k u_mk · r_k(x))

`l_m` are the members' calibrated log-odds, `r_k` what tells of their reliability on a transaction: how sure each
is, how far they disagree, how much history there is. It is stacking (Wolpert, "Stacked generalization", 1992) with
feature-weighted members (Sill et al., "Feature-weighted linear stacking", 2009); `u` is drawn towards 0. Whether
the weights by transaction earn their place is decided out of fold; constant weights stand where they do not.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from riskdistill.errors import TrainingError, UnreadableFileError
from riskdistill.features import Encoded
from riskdistill.models.calibration import Calibrator

if TYPE_CHECKING:  # it brings PyTorch, which serving does without
    from riskdistill.models.teacher import Answers, Teacher, Wanted

FOLDS: Final = 4  # blocks of time in which weights by transaction are compared with constant ones
RIDGE: Final = 1.0  # against weights that leave the mean of the members, in rows of evidence
_SCALE: Final = 0.1  # brings log-odds, and their differences, to the size of a weight

Logits = NDArray[np.floating]  # [members, n]


class Gate(BaseModel):
    """What was fitted: calibrators of the members, and their weights.

    Attributes:
        members: names, in the order of the logits.
        weights: w, one for each member.
        by_transaction: u, [members][reliabilities]; empty where constant weights stand.
        reach: the largest value of each reliability that was seen; weights do not move beyond it.
        loss, constant_loss: log loss out of fold, with and without weights by transaction; None where that
            cannot be told.
        event_shift: of a served ensemble: brings its event transformer's logits to natural prevalence.
        files: of a served ensemble: its members' files, and the SHA-256 of each.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    members: tuple[str, ...]
    calibrators: tuple[Calibrator, ...]
    intercept: float
    weights: tuple[float, ...]
    by_transaction: tuple[tuple[float, ...], ...] = ()
    reach: tuple[float, ...] = ()
    loss: float | None = None
    constant_loss: float | None = None
    event_shift: float = 0.0
    files: dict[str, str] = {}

    @model_validator(mode="after")
    def _one_of_each(self) -> Gate:
        """NumPy would stretch a single weight over all members without a word."""
        due = len(self.members)
        if {len(self.calibrators), len(self.weights), len(self.by_transaction) or due} != {due}:
            raise ValueError("each member needs a calibrator and weights")
        return self

    @classmethod
    def fit(cls, members: Sequence[str], logits: Logits, encoded: Encoded, label: NDArray[np.bool_]) -> Gate:
        """Fit on rows that no member was fitted on, in order of time.

        Args:
            logits: [members, n], at natural prevalence.

        Where laundering lies in a single block of time, nothing can be decided out of fold: weights are constant.

        Raises:
            TrainingError: labels of one kind only.
        """
        from sklearn.metrics import log_loss

        block = np.arange(len(label)) * FOLDS // max(1, len(label))
        if len(np.unique(block[label])) == 1:
            return _fit(members, logits, encoded, label, varying=False)
        losses = []
        for varying in (True, False):
            answers = np.empty(len(label))
            for number in range(FOLDS):
                rest, held = block != number, block == number
                part = _fit(members, logits[:, rest], encoded.take(rest), label[rest], varying)
                answers[held] = part.combine(logits[:, held], encoded.take(held))
            losses.append(float(log_loss(label, _probability(answers))))
        chosen = _fit(members, logits, encoded, label, losses[0] < losses[1])
        return chosen.model_copy(update={"loss": losses[0], "constant_loss": losses[1]})

    @property
    def kept_loss(self) -> float | None:
        """Log loss out of fold of the weights that stand."""
        return self.loss if self.by_transaction else self.constant_loss

    def combine(self, logits: Logits, encoded: Encoded) -> NDArray[np.float64]:
        """Log-odds [n] of the ensemble from its members' [members, n]."""
        calibrated = _calibrated(self.calibrators, logits)
        weight = np.asarray(self.weights)[:, None]
        if self.by_transaction:
            known = np.minimum(_reliability(calibrated, encoded), np.asarray(self.reach)[:, None])
            weight = weight + np.asarray(self.by_transaction) @ known
        return np.asarray(self.intercept + (weight * calibrated).sum(0))


class EnsembleTeacher:
    """Teachers behind one gate; what only some of them know comes from the first of them that knows it.

    Args:
        members: in the order in which the gate was fitted.
    """

    def __init__(self, members: Sequence[Teacher], gate: Gate, name: str = "ensemble") -> None:
        if tuple(member.name for member in members) != gate.members:
            raise TrainingError(
                f"the gate was fitted for {', '.join(gate.members)}, "
                f"not {', '.join(member.name for member in members)}",
                mend="fit it again",
            )
        self.members, self.gate, self.name = tuple(members), gate, name
        told = "".join(member.fingerprint for member in members) + gate.model_dump_json()
        self.fingerprint = hashlib.sha256(told.encode()).hexdigest()[:16]

    def answer(self, encoded: Encoded, wanted: Wanted) -> Answers:
        """See `Teacher`."""
        return self.together([member.answer(encoded, wanted) for member in self.members], encoded)

    def together(self, answers: Sequence[Answers], encoded: Encoded) -> Answers:
        """The ensemble's answers from its members', in their order."""
        logits = np.array([each.logit for each in answers])
        parts = {name: part for each in reversed(answers) for name, part in each.parts().items()}
        return type(answers[0])(**parts | {"logit": self.gate.combine(logits, encoded).astype(np.float32)})


def save_gate(gate: Gate, path: Path) -> None:
    """Write a gate as JSON, atomically."""
    temporary = path.with_suffix(".tmp")
    temporary.write_text(gate.model_dump_json(indent=1), encoding="utf-8")
    temporary.replace(path)


def load_gate(path: Path) -> Gate:
    """Read what `save_gate` wrote.

    Raises:
        UnreadableFileError: it is absent or damaged.
    """
    try:
        return Gate.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, ValidationError) as error:
        raise UnreadableFileError(str(error), where=str(path), mend="fit the ensemble again") from error


def _fit(members: Sequence[str], logits: Logits, encoded: Encoded, label: NDArray[np.bool_], varying: bool) -> Gate:
    """A gate on all rows given; `varying`: with weights by transaction."""
    from scipy.optimize import minimize

    calibrators = tuple(Calibrator.fit(row, label) for row in logits)
    calibrated = _calibrated(calibrators, logits)
    columns = [calibrated]
    if varying:
        columns += [calibrated * reliability for reliability in _reliability(calibrated, encoded)]
    design = np.concatenate(columns)
    count = len(calibrated)
    start = np.concatenate([[0.0], np.full(count, 1 / count), np.zeros(len(design) - count)])
    found = minimize(_loss(design, label, start), start, jac=True, method="L-BFGS-B").x
    by_transaction = found[1 + count :].reshape(-1, count).T
    return Gate(
        members=tuple(members),
        calibrators=calibrators,
        intercept=float(found[0]),
        weights=tuple(found[1 : 1 + count].tolist()),
        by_transaction=tuple(map(tuple, by_transaction.tolist())) if varying else (),
        reach=tuple(_reliability(calibrated, encoded).max(1).tolist()) if varying else (),
    )


def _loss(
    design: NDArray[np.float64], label: NDArray[np.bool_], start: NDArray[np.float64]
) -> Callable[[NDArray[np.float64]], tuple[float, NDArray[np.float64]]]:
    """Log loss, with a ridge around the mean of the members, and its gradient."""

    def value(weights: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        odds = weights[0] + weights[1:] @ design
        away = weights - start
        residual = _probability(odds) - label
        loss = np.logaddexp(0, odds).sum() - odds[label].sum() + RIDGE * (away[1:] ** 2).sum()
        gradient = np.concatenate([[residual.sum()], design @ residual + 2 * RIDGE * away[1:]])
        return float(loss), gradient

    return value


def _calibrated(calibrators: Sequence[Calibrator], logits: Logits) -> NDArray[np.float64]:
    return np.array([calibrator.log_odds(row) for calibrator, row in zip(calibrators, logits, strict=True)])


def _reliability(calibrated: NDArray[np.float64], encoded: Encoded) -> NDArray[np.float64]:
    """[reliabilities, n]: how sure each member is, how far they disagree, how many events there are."""
    present = (encoded.events[:, :, 0] != 0).sum(1)
    apart = calibrated.max(0) - calibrated.min(0)
    return np.vstack([_SCALE * np.abs(calibrated), _SCALE * apart[None], np.log1p(present)[None] / 4])


def _probability(odds: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(1 / (1 + np.exp(-np.clip(odds, -500, 500))))
