"""A training's state on disk: written whole or not at all, and refused when it is damaged."""

from __future__ import annotations

from pathlib import Path
from pickle import UnpicklingError  # what PyTorch raises for a file that holds more
from typing import Any

import torch

from riskdistill.errors import TrainingError


def save_checkpoint(state: dict[str, Any], path: Path) -> None:
    """Write tensors and plain values; a process killed meanwhile leaves the checkpoint before."""
    temporary = path.with_suffix(".tmp")
    torch.save(state, temporary)
    temporary.replace(path)


def load_checkpoint(path: Path, device: torch.device) -> dict[str, Any]:
    """The state, its tensors on `device`; nothing but tensors and plain values is read, so no code can run.

    Raises:
        TrainingError: the file cannot be read.
    """
    try:
        state = torch.load(path, map_location=device, weights_only=True)
    except (RuntimeError, OSError, EOFError, ValueError, KeyError, UnpicklingError) as error:
        raise unusable(path, "is damaged") from error
    if not isinstance(state, dict):
        raise unusable(path, "is damaged")
    return state


def unusable(path: Path, what: str) -> TrainingError:
    """The error for a checkpoint that no training can go on from."""
    return TrainingError(f"the checkpoint {what}", where=str(path), mend="delete it, and training starts anew")
