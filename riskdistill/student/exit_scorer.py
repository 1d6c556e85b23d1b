"""Serving with early exits: one ONNX segment for each layer, and only the rows that stay go on to the next.

    segment_0.onnx  context, events -> hidden, bias, logits      the embedding and the first layer
    segment_k.onnx  hidden, bias    -> hidden, logits            every further layer with its exit
    exits.json      the `ExitRule`

It scores as `OnnxScorer` does, and so stands wherever a student scores.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from riskdistill.errors import BundleDamagedError
from riskdistill.features import Encoded
from riskdistill.models.calibration import Calibrator
from riskdistill.models.onnx_model import (
    ROWS_AT_A_TIME,
    Provider,
    Scored,
    Scorer,
    finite,
    open_session,
    softmax,
)

RULE_FILE: Final = "exits.json"
NEVER: Final = -1.0  # a bound below every score
_ALWAYS: Final = 2.0  # one above


class ExitRule(BaseModel):
    """Which rows leave where.

    Attributes:
        events_per_party: how many the student reads.
        calibrators: of each depth, the last being the whole network's; with them all exits answer on one scale.
        bounds: of each depth but the last: scores below it leave.
        short: rows with at most as many events leave at the first exit; -1: no such rule.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    events_per_party: int = Field(ge=1)
    calibrators: tuple[Calibrator, ...] = Field(min_length=2)
    bounds: tuple[float, ...]
    short: int = -1

    @model_validator(mode="after")
    def _a_bound_for_each_exit(self) -> Self:
        if len(self.bounds) != len(self.calibrators) - 1:
            raise ValueError(f"{len(self.calibrators)} depths need one bound fewer, there are {len(self.bounds)}")
        return self

    @classmethod
    def read(cls, path: Path) -> Self:
        """The rule in a file.

        Raises:
            BundleDamagedError: it is absent, or none.
        """
        try:
            return cls.model_validate_json(path.read_bytes())
        except (OSError, ValidationError) as error:
            told = " ".join(str(error).split())  # pydantic tells in several lines
            raise BundleDamagedError(
                f"no rule for early exits ({told})", where=str(path), mend="build the bundle again"
            ) from error

    def leaving_at(self, depth: int) -> Self:
        """One by which every row leaves after layer `depth` (from 0), uncalibrated: to look at one exit alone."""
        bounds = tuple(_ALWAYS if place == depth else NEVER for place in range(len(self.bounds)))
        plain = (Calibrator(),) * len(self.calibrators)
        return self.model_copy(update={"bounds": bounds, "calibrators": plain, "short": -1})

    def leaves(self, depth: int, score: NDArray[np.float64], events: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which rows [n] leave after layer `depth` (from 0), by their scores there and counts of events."""
        if depth == len(self.bounds):
            return np.ones(len(score), bool)
        return np.asarray((score < self.bounds[depth]) | (events <= self.short))


def event_counts(encoded: Encoded, events_per_party: int) -> NDArray[np.int64]:
    """Events [n] of both parties that the student reads."""
    parties = encoded.events[..., 0].reshape(len(encoded), 2, encoded.events.shape[1] // 2)[:, :, :events_per_party]
    return np.asarray((parties != 0).sum((1, 2)), np.int64)


class EarlyExitScorer(Scorer):
    """Scores rows with as many layers as each needs. Safe to call from several threads.

    A row's `logit` is the log-odds that its exit's calibrator gives it, so that rows of all exits compare.

    Args:
        folder: what `export_exits` wrote.
        calibrator: of those log-odds.
        threads, dataset, provider: as for `open_session`.

    Attributes:
        files: what it was read from.

    Raises:
        BundleDamagedError, BundleIncompatibleError: see `ExitRule.read` and `open_session`.
    """

    def __init__(
        self,
        folder: Path,
        calibrator: Calibrator,
        *,
        threads: int = 1,
        dataset: str | None = None,
        provider: Provider = "cpu",
    ) -> None:
        self.rule = ExitRule.read(folder / RULE_FILE)
        segments = [folder / segment_file(depth) for depth in range(len(self.rule.calibrators))]
        self._segments = [open_session(path, threads, provider, dataset) for path in segments]
        self.calibrator = calibrator
        self.files = (folder / RULE_FILE, *segments)
        self.bytes = sum(path.stat().st_size for path in self.files)

    def score(self, encoded: Encoded) -> Scored:
        """Score any number of rows, none included; see `OnnxScorer.score`."""
        return self.score_by_layers(encoded)[0]

    def score_by_layers(self, encoded: Encoded) -> tuple[Scored, NDArray[np.int64]]:
        """The same, and how many layers [n] each row went through."""
        rule = self.rule
        events = event_counts(encoded, rule.events_per_party)
        hidden, bias, logits = self._segments[0].run(None, {"context": encoded.context, "events": encoded.events})
        answers = np.array(logits, np.float32)
        log_odds = np.empty(len(encoded))
        layers = np.zeros(len(encoded), np.int64)
        staying = np.arange(len(encoded))
        for depth, calibrator in enumerate(rule.calibrators):
            if depth:
                hidden, logits = self._segments[depth].run(None, {"hidden": hidden, "bias": bias})
            logit = finite(logits[:, 0])
            answers[staying], log_odds[staying] = logits, calibrator.log_odds(logit)
            layers[staying] = depth + 1
            stays = ~rule.leaves(depth, calibrator(logit), events[staying])
            hidden, bias, staying = hidden[stays], bias[stays], staying[stays]
            if not len(staying):
                break
        return Scored(self.calibrator(log_odds), log_odds, softmax(answers[:, 1:])), layers

    def layers_saved(self, encoded: Encoded) -> float:
        """Share of the layer evaluations of at least one row that the exits spare; in bounded memory."""
        starts = range(0, len(encoded), ROWS_AT_A_TIME)
        parts = [encoded.take(slice(start, start + ROWS_AT_A_TIME)) for start in starts]
        done = sum(int(self.score_by_layers(part)[1].sum()) for part in parts)
        return 1 - done / (len(encoded) * len(self._segments))

    def by_score_alone(self) -> EarlyExitScorer:
        """The same, by a rule under which no row leaves for having few events."""
        other = copy.copy(self)  # sessions are shared
        other.rule = self.rule.model_copy(update={"short": -1})
        return other


def segment_file(depth: int) -> str:
    """Its name; depths count from 0."""
    return f"segment_{depth}.onnx"
