"""What every scorer of a served model is, and the one of a network as ONNX.

It needs ONNX Runtime and NumPy only: no training library is loaded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, Protocol

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from riskdistill.errors import BundleDamagedError, BundleIncompatibleError
from riskdistill.features import Encoded
from riskdistill.models.calibration import Calibrator

DATASET_KEY: Final = "riskdistill.dataset"  # metadata of the ONNX file: fingerprint of what it was trained on
ROWS_AT_A_TIME: Final = 2_048  # of `score_all`


Provider = Literal["cpu", "cuda", "tensorrt"]
# In the order of preference: what one provider cannot compute, the next one does.
_PROVIDERS: Final[dict[Provider, tuple[str, ...]]] = {
    "cpu": ("CPUExecutionProvider",),
    "cuda": ("CUDAExecutionProvider", "CPUExecutionProvider"),
    "tensorrt": ("TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"),
}


def require_provider(provider: Provider) -> None:
    """Check that the installed ONNX Runtime has a provider, before any model is loaded.

    Raises:
        BundleIncompatibleError: it does not.
    """
    _require(provider, ort.get_available_providers())


def _require(provider: Provider, found: Sequence[str]) -> None:
    wanted = _PROVIDERS[provider][0]
    if wanted not in found:
        raise BundleIncompatibleError(
            f"this ONNX Runtime has no {wanted}",
            where=f"provider {provider}",
            mend="install onnxruntime-gpu beside a matching CUDA, or set the provider to cpu",
        )


def open_session(
    path: Path, threads: int = 1, provider: Provider = "cpu", dataset: str | None = None
) -> ort.InferenceSession:
    """An ONNX Runtime session of a model.

    Args:
        threads: for one call; spinning is off, so that an idle service uses no processor.
        provider: what computes.
        dataset: fingerprint of the dataset that it must have been trained on; None: any.

    Raises:
        BundleDamagedError: the file is not a model that ONNX Runtime can load.
        BundleIncompatibleError: it names another dataset (models of before files named one pass), or the installed
            ONNX Runtime does not have the provider, or cannot start it.
    """
    require_provider(provider)
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    try:
        session = ort.InferenceSession(str(path), options, providers=list(_PROVIDERS[provider]))
    except Exception as error:  # ONNX Runtime raises its own unrelated classes
        raise BundleDamagedError(
            f"ONNX Runtime cannot load the model ({error})",
            where=str(path),
            mend="build the bundle again",
        ) from error
    _require(provider, session.get_providers())  # without its GPU ONNX Runtime goes on with the next one, silently
    found = session.get_modelmeta().custom_metadata_map.get(DATASET_KEY)
    if found and dataset is not None and found != dataset:
        raise BundleIncompatibleError(
            f"the model was trained on dataset {found}, not {dataset}",
            where=str(path),
            mend="build the bundle from the models of one run",
        )
    return session


@dataclass(frozen=True)
class Scored:
    """Scores of a batch.

    Attributes:
        score: float64 [n], calibrated probability of laundering.
        logit: float64 [n], as the network gave it.
        typology: float32 [n, typologies], probabilities.
    """

    score: NDArray[np.float64]
    logit: NDArray[np.float64]
    typology: NDArray[np.float32]

    def take(self, rows: slice) -> Scored:
        """The chosen rows."""
        return Scored(self.score[rows], self.logit[rows], self.typology[rows])

    def rows(self) -> list[Scored]:
        """Each row by itself."""
        return [self.take(slice(row, row + 1)) for row in range(len(self.score))]

    @staticmethod
    def concat(parts: Sequence[Scored]) -> Scored:
        """All rows of `parts`, one after another."""
        return Scored(
            np.concatenate([part.score for part in parts]),
            np.concatenate([part.logit for part in parts]),
            np.concatenate([part.typology for part in parts]),
        )


class Scorer(Protocol):
    """What serves a model, whatever runs it."""

    calibrator: Calibrator
    bytes: int

    def score(self, encoded: Encoded) -> Scored:
        """Score any number of rows, none included."""
        ...

    def score_all(self, encoded: Encoded) -> Scored:
        """Score many rows in batches, in bounded memory."""
        starts = range(0, max(1, len(encoded)), ROWS_AT_A_TIME)
        return Scored.concat([self.score(encoded.take(slice(start, start + ROWS_AT_A_TIME))) for start in starts])


class NetworkScorer(Scorer, Protocol):
    """A scorer around a network, which may as well be computed somewhere else."""

    def finish(self, encoded: Encoded, logit: NDArray[np.float32], typology_logits: NDArray[np.float32]) -> Scored:
        """Scores of what the network gave for these rows: [n], and [n, typologies] or [n, 0] where it gave none."""
        ...


class OnnxScorer(NetworkScorer):
    """One ONNX Runtime session with its calibrator. Safe to call from several threads.

    Args:
        path: an .onnx file that `export_onnx` wrote.
        threads, dataset, provider: see `open_session`.

    Raises:
        BundleDamagedError, BundleIncompatibleError: see `open_session`.
    """

    def __init__(
        self,
        path: Path,
        calibrator: Calibrator,
        *,
        threads: int = 1,
        dataset: str | None = None,
        provider: Provider = "cpu",
    ) -> None:
        self._session = open_session(path, threads, provider, dataset)
        self.calibrator = calibrator
        self.bytes = path.stat().st_size

    def score(self, encoded: Encoded) -> Scored:
        """Score any number of rows, none included.

        Raises:
            BundleDamagedError: the model gives something other than a number.
        """
        logit, typology = self._session.run(None, {"context": encoded.context, "events": encoded.events})
        return self.finish(encoded, logit, typology)

    def finish(self, encoded: Encoded, logit: NDArray[np.float32], typology_logits: NDArray[np.float32]) -> Scored:
        """Scores of what the network gave for these rows; raises as `score` does."""
        logits = finite(logit)
        return Scored(self.calibrator(logits), logits, softmax(typology_logits))


def finite(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """A model's logits, once they are known to be numbers.

    Raises:
        BundleDamagedError: one is not; it would compare as below every threshold.
    """
    if not np.isfinite(logits).all():
        raise BundleDamagedError("the model's score is not a number", mend="serve the previous bundle")
    return np.asarray(logits, np.float64)


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Probabilities of logits, along the last axis."""
    if not logits.size:
        return logits
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    return np.asarray(powers / powers.sum(-1, keepdims=True), np.float32)
