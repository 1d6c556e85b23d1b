"""A training on random rows that takes a second: for tests that run it in processes of their own.

    python small_training.py FOLDER [key=value of TrainingConfig, ...]

tells every step on a line of its own, and leaves the weights in FOLDER/weights-PROCESS.pt.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from riskdistill.config import TrainingConfig
from riskdistill.features import Encoded
from riskdistill.features.spec import TOKEN_CHANNELS
from riskdistill.models.bins import Bins
from riskdistill.models.event_transformer import EventTransformer, EventTransformerConfig
from riskdistill.models.label_objective import LabelObjective
from riskdistill.models.training import Progress, Trainer, TrainingRows


def small_rows() -> TrainingRows:
    """160 random rows, one of four of which is laundering, in schemes of 1 to 16 rows."""
    n, rng = 160, np.random.default_rng(3)
    events = np.abs(rng.normal(size=(n, 8, len(TOKEN_CHANNELS)))).astype(np.float32)
    events[..., 0] = rng.choice([-1, 0, 1], (n, 8))
    events[..., -3:] = 1
    label = (np.arange(n) % 4 == 0).astype(np.float32)
    context = (rng.normal(size=(n, 6)) + label[:, None]).astype(np.float32)
    scheme = np.where(label > 0, np.arange(n) // 64, -1)
    return TrainingRows(
        Encoded(context, events), label, label.astype(np.int64), np.arange(n), scheme, context[:, 0].copy()
    )


def small_trainer(
    checkpoint: Path | None = None, progress: Progress | None = None, seed: int = 5, **config: Any
) -> Trainer:
    """A trainer for ten steps an epoch, unless `config` tells otherwise."""
    torch.manual_seed(seed)
    rows = small_rows()
    bins = Bins.of_quantiles(rows.encoded.context, 24)
    size = EventTransformerConfig(
        features=6, events_per_party=4, width=8, heads=2, pieces=24, context_width=8, feature_dropout=0.2
    )
    model = EventTransformer(size)
    model.numbers.set(bins)
    settings = {"epochs": 3, "batch_size": 16, "patience": 3, "checkpoint_minutes": 0.0, **config}
    return Trainer(
        "small",
        model,
        rows,
        (rows.encoded, rows.label > 0.5),
        TrainingConfig(**settings),
        checkpoint=checkpoint,
        progress=progress,
    )


def small_labels() -> LabelObjective:
    return LabelObjective(small_rows(), label_smoothing=0.05)


if __name__ == "__main__":
    torch.set_num_threads(1)
    folder = Path(sys.argv[1])
    asked = {name: json.loads(value) for name, value in (word.split("=") for word in sys.argv[2:])}

    def tell(name: str, done: int, total: int, best: float) -> None:
        print(done, flush=True)

    trained = small_trainer(folder / "small.pt", tell, **asked).run(small_labels())
    torch.save(trained.model.state_dict(), folder / f"weights-{os.environ.get('RANK', '0')}.pt")
