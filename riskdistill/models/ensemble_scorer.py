"""The served form of an ensemble: the event transformer as ONNX, the boosted trees as LightGBM's text, the gate.

    teacher.onnx  teacher_trees_0.txt …  teacher_gate.json

It scores as `OnnxScorer` does, and so stands wherever a teacher scores.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from riskdistill.errors import BundleIncompatibleError
from riskdistill.features import Encoded
from riskdistill.models.calibration import Calibrator
from riskdistill.models.ensemble import Gate, load_gate, save_gate
from riskdistill.models.onnx_model import NetworkScorer, OnnxScorer, Provider, Scored

ONNX: Final = "teacher.onnx"
GATE: Final = "teacher_gate.json"
TREES: Final = "teacher_trees_{}.txt"


class EnsembleScorer(NetworkScorer):
    """A bundle's teacher. Safe to call from several threads.

    Args:
        folder: holds the files above.
        calibrator: of the ensemble's log-odds.
        threads, dataset, provider: as for `OnnxScorer`; the trees must be of the same dataset, and use the CPU.

    Raises:
        BundleDamagedError, BundleIncompatibleError, UnreadableFileError, TrainingError: see the parts.
    """

    def __init__(
        self,
        folder: Path,
        calibrator: Calibrator,
        *,
        threads: int = 1,
        dataset: str,
        provider: Provider = "cpu",
    ) -> None:
        from riskdistill.models.boosted_trees import (
            load_booster,
        )  # LightGBM: a second that a student can do without

        path = folder / ONNX
        self._event = OnnxScorer(path, Calibrator(), threads=threads, dataset=dataset, provider=provider)
        self._gate = load_gate(folder / GATE)
        paths = trees_of(folder)
        if self._gate.files != _hashes(folder) or not paths:
            raise BundleIncompatibleError(
                f"the teacher's gate was fitted for other files than these: {', '.join(_hashes(folder))}",
                where=str(folder),
                mend="build the bundle from the models of one run",
            )
        self._trees = [load_booster(path, dataset=dataset) for path in paths]
        self.calibrator = calibrator
        self.bytes = sum(path.stat().st_size for path in (folder / ONNX, folder / GATE, *paths))

    def score(self, encoded: Encoded) -> Scored:
        """Score any number of rows, none included; see `OnnxScorer.score`."""
        return self._combined(encoded, self._event.score(encoded))

    def finish(self, encoded: Encoded, logit: NDArray[np.float32], typology_logits: NDArray[np.float32]) -> Scored:
        """Scores of what the event transformer gave for these rows, with the trees and the gate."""
        return self._combined(encoded, self._event.finish(encoded, logit, typology_logits))

    def _combined(self, encoded: Encoded, event: Scored) -> Scored:
        if not len(encoded):
            return event
        trees = np.mean(
            [booster.predict(encoded.context, raw_score=True, num_threads=1) for booster in self._trees], axis=0
        )
        logit = self._gate.combine(np.array([trees, event.logit + self._gate.event_shift]), encoded)
        return Scored(self.calibrator(logit), logit, event.typology)


def save_served(gate: Gate, event_shift: float, folder: Path) -> None:
    """Write the gate beside the files of its members, which lie in `folder` already, and tie it to them."""
    told = {"event_shift": event_shift, "files": _hashes(folder)}
    save_gate(gate.model_copy(update=told), folder / GATE)


def _hashes(folder: Path) -> dict[str, str]:
    paths = (folder / ONNX, *trees_of(folder))
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths if path.exists()}


def trees_of(folder: Path) -> Sequence[Path]:
    """The files of the boosted trees, in order."""
    return sorted(folder.glob(TREES.format("*")))
