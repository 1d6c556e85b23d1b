"""Trained weights inside a bundle, for a retraining that goes on from them; serving never reads them.

ROLE_network.json  ROLE_network.safetensors
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from riskdistill.bundle import NETWORK
from riskdistill.config import ModelConfig
from riskdistill.errors import BundleDamagedError
from riskdistill.models.event_transformer import EventTransformer, EventTransformerConfig

_PARTS: Final = {"config.json": "json", "model.safetensors": "safetensors"}  # as `save_pretrained` calls them
_UNHEARD: Final = -6.0  # logit of a class that the network has never met: surely not this one
# what may differ between two networks of one architecture: what is taken from the data, and what only training uses
_FREE: Final = {"pieces", "dropout", "feature_dropout"}


def network_files(models: Path, roles: Sequence[str], folder: Path) -> list[Path]:
    """Copy the weights of each role from `models`/ROLE into `folder`, under the names that a bundle has."""
    copied = []
    for role in roles:
        for name, ending in _PARTS.items():
            copied.append(folder / f"{role}{NETWORK}{ending}")
            shutil.copyfile(models / role / name, copied[-1])
    return copied


def load_network(bundle: Path, role: str) -> EventTransformer | None:
    """The network of a role as it was trained, from the directory of a verified bundle; None where it has none.

    Raises:
        BundleDamagedError: the weights are not of the network that they stand beside.
    """
    paths = [bundle / f"{role}{NETWORK}{ending}" for ending in _PARTS.values()]
    if not all(path.is_file() for path in paths):
        return None
    model = EventTransformer(EventTransformerConfig.from_json_file(str(paths[0])))
    try:
        model.load_state_dict(load_file(paths[1]))
    except (RuntimeError, SafetensorError) as error:
        raise BundleDamagedError(
            f"the weights do not fit ({error})", where=str(paths[1]), mend="copy the bundle again"
        ) from error
    model.train(False)
    return model


def same_architecture(model: EventTransformer, size: ModelConfig, features: str) -> bool:
    """Whether `model` is a network of that size, for the feature specification with that fingerprint."""
    fields = set(type(size).model_fields) - _FREE
    return model.config.feature_fingerprint == features and all(
        getattr(model.config, name) == getattr(size, name) for name in fields
    )


def retold(
    model: EventTransformer, size: ModelConfig, typologies: Sequence[str], dataset: str, shift: float = 0.0
) -> EventTransformer:
    """A copy of `model` that knows other typologies, each old one as before, and belongs to another dataset.

    Args:
        size: whose dropout it trains with.
        typologies: names of the classes; of those that are new it is sure that it is none.
        dataset: the fingerprint.
        shift: is added to its logit of laundering.
    """
    told = {**model.config.to_dict(), "typologies": list(typologies), "dataset_fingerprint": dataset}
    told |= {"dropout": size.dropout, "feature_dropout": size.feature_dropout}
    copy = EventTransformer(EventTransformerConfig(**told))
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    weight, bias = state["head.weight"], state["head.bias"]
    rows = [weight[:1]]
    offsets = [bias[:1] + shift]
    for name in typologies:
        known = 1 + model.config.typologies.index(name) if name in model.config.typologies else None
        rows.append(torch.zeros_like(weight[:1]) if known is None else weight[known : known + 1])
        offsets.append(torch.full_like(bias[:1], _UNHEARD) if known is None else bias[known : known + 1])
    copy.load_state_dict(state | {"head.weight": torch.cat(rows), "head.bias": torch.cat(offsets)})
    copy.train(False)
    return copy
