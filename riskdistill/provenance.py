"""How a bundle's models came about: what a retraining has to know of its champion, kept inside the bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from riskdistill import __version__
from riskdistill.bundle import EXPERIMENT, Bundle
from riskdistill.config import ExperimentConfig
from riskdistill.dataset import Dataset
from riskdistill.errors import BundleIncompatibleError


class Provenance(BaseModel):
    """How the models of a bundle came about.

    Attributes:
        config: the experiment, complete.
        learned_until: time of the last payment that a model was trained, tuned or calibrated on.
        labels_known_at: the labels were as known then.
        version: of riskdistill.
        parent: version of the bundle that was retrained, and how; None where training began anew.
        retraining: hex digits over all that decides the retraining, by which it is found in the release log.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    config: ExperimentConfig
    learned_until: AwareDatetime
    labels_known_at: AwareDatetime
    version: str = __version__
    parent: str | None = None
    mode: str | None = None
    retraining: str | None = None

    @classmethod
    def of(cls, config: ExperimentConfig, dataset: Dataset, **retrained: Any) -> Provenance:
        """Of models made by `config` from `dataset`; `retrained` names the parent and how it was retrained."""
        return cls(
            config=config, learned_until=dataset.validation.end, labels_known_at=dataset.built_at, **retrained
        )

    @property
    def told(self) -> str:
        """A sentence for the model card."""
        until, known_at = f"{self.learned_until:%Y-%m-%d}", f"{self.labels_known_at:%Y-%m-%d}"
        known = f"Labels as known on {known_at}; nothing after {until} was learned from."
        if self.parent is None:
            return known
        return f"Retrained from bundle `{self.parent}` ({str(self.mode).replace('_', ' ')}). {known}"


def provenance_of(bundle: Bundle) -> Provenance | None:
    """How a bundle's models came about; None for one of before bundles said so.

    Raises:
        BundleIncompatibleError: another version of riskdistill said it in other words.
    """
    path: Path = bundle.path / EXPERIMENT
    if EXPERIMENT not in bundle.manifest.files:
        return None
    try:
        return Provenance.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise BundleIncompatibleError(
            f"its experiment is none of this version ({error.errors()[0]['msg']})",
            where=str(path),
            mend="name the experiment with --config",
        ) from error
