"""Scoring with as many layers as a row needs: rows that are surely normal leave the batch before the last layer.

The network lies in segments: what makes the tokens, then each layer, every one with a head. After each segment the
rows that may leave are answered and taken out, so that the next layer runs on fewer (Teerapittayanon et al.,
"BranchyNet", 2016). Whether a row leaves follows from its own numbers alone, not from its batch. Only rows of low
risk leave: what a person might have to look at is always read in full depth.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from riskdistill.errors import BundleDamagedError
from riskdistill.features import Encoded
from riskdistill.models.calibration import Calibrator
from riskdistill.models.onnx_model import Provider, Scored, open_session, softmax

POLICY_FILE: Final = "exits.json"
NEVER: Final = -1e9  # a limit that no row is below


def segment_file(depth: int) -> str:
    """Name of the segment whose head is the exit after `depth` layers."""
    return f"segment-{depth}.onnx"


class ExitPolicy(BaseModel):
    """When a row leaves.

    Attributes:
        calibrators: of the head after 0, 1, … layers; the last one is of full depth.
        limits: calibrated log-odds at or below which a row leaves, for every head but the last.
        short_history: rows with at most so many events leave at the first exit where they are below `short_limit`;
            -1: none has a rule of its own.
        short_limit: log-odds; higher than the limits, because more layers have little more to read.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    calibrators: tuple[Calibrator, ...]
    limits: tuple[float, ...]
    short_history: int = -1
    short_limit: float = NEVER

    def leaves(self, depth: int, log_odds: NDArray[np.float64], events: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which rows leave after `depth` layers, [n].

        Args:
            log_odds: [n], calibrated, of the head after `depth` layers.
            events: [n], how many events a row has.
        """
        if depth == len(self.limits):
            return np.ones(len(log_odds), bool)
        short = (events <= self.short_history) & (log_odds <= self.short_limit)
        return np.asarray((log_odds <= self.limits[depth]) | short)


class EarlyExitScorer:
    """Scores as `OnnxScorer` does, from a folder that `export_exits` wrote. Safe to call from several threads.

    Raises:
        BundleDamagedError: the policy or a segment cannot be read.
        BundleIncompatibleError: the installed ONNX Runtime does not have the provider.
    """

    def __init__(self, folder: Path, *, threads: int = 1, provider: Provider = "cpu") -> None:
        try:
            self.policy = ExitPolicy.model_validate_json((folder / POLICY_FILE).read_text())
        except (OSError, ValidationError) as error:
            raise BundleDamagedError(
                "the rules for early exits cannot be read", where=str(folder / POLICY_FILE)
            ) from error
        self._segments = [
            open_session(folder / segment_file(depth), threads, provider)
            for depth in range(len(self.policy.calibrators))
        ]
        self._outputs = int(self._segments[0].get_outputs()[0].shape[1])

    def score(self, encoded: Encoded) -> Scored:
        """Score any number of rows, none included. `Scored.logit` is calibrated, of the head where a row left."""
        return self.score_with_depths(encoded)[0]

    def score_with_depths(self, encoded: Encoded) -> tuple[Scored, NDArray[np.int64]]:
        """The same, and how many layers were computed for each row, [n].

        Raises:
            BundleDamagedError: the model gives something other than a number.
        """
        answers = np.zeros((len(encoded), self._outputs), np.float32)
        log_odds, depths = np.zeros(len(encoded)), np.zeros(len(encoded), np.int64)
        rows = np.arange(len(encoded))
        state = {"context": encoded.context, "events": encoded.events}
        for depth, segment in enumerate(self._segments):
            if not len(rows):
                break
            answer, *rest = segment.run(None, state)
            answers[rows], depths[rows] = answer, depth
            log_odds[rows] = self.policy.calibrators[depth].log_odds(answer[:, 0])
            if depth == len(self.policy.limits):
                break
            hidden, mask = rest if depth == 0 else (rest[0], state["mask"])
            stay = ~self.policy.leaves(depth, log_odds[rows], mask[:, 1:].sum(1))
            rows = rows[stay]
            state = {"hidden": hidden[stay], "mask": mask[stay], "events": state["events"][stay]}
        if not np.isfinite(log_odds).all():  # would compare as below every threshold
            raise BundleDamagedError("the model's score is not a number", mend="serve the previous bundle")
        score = 1 / (1 + np.exp(-np.clip(log_odds, -500, 500)))
        return Scored(score, log_odds, softmax(answers[:, 1:])), depths
