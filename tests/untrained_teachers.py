"""Teachers that nobody trained, for jobs that only need some."""

from __future__ import annotations

from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import tiny

from pipelines.students import School
from riskdistill.config import ExperimentConfig
from riskdistill.dataset import Dataset
from riskdistill.models.bins import Bins


def untrained_teachers(
    monkeypatch: pytest.MonkeyPatch, job: ModuleType, dataset: Dataset, config: ExperimentConfig
) -> SimpleNamespace:
    """What the job finds in place of fitted teachers."""
    said = np.linspace(-4, 4, len(dataset.train.label), dtype=np.float32)
    teachers = SimpleNamespace(
        event=tiny.network(dataset, config.teacher.network),
        shift=0.0,
        text=None,
        taught={"all_trees": said, "unseen_trees": -said},
    )
    monkeypatch.setattr(job, "prepare", lambda *_, **__: SimpleNamespace(dataset=dataset))
    monkeypatch.setattr(job, "fit_teachers", lambda *_: teachers)
    monkeypatch.setattr(
        School, "bins", lambda self, size: Bins.of_quantiles(dataset.train.encoded.context, size.pieces)
    )
    return teachers
