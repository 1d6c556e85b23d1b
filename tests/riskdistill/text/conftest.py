"""Tiny language models: causal ones made from their configuration, and the small encoder that a package carries."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from tiny_text import byte_tokenizer, causal_config, tiny_config
from transformers import PreTrainedTokenizerFast

from riskdistill.config import TextTeacherConfig


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    return byte_tokenizer()


@pytest.fixture(scope="session")
def configured() -> Callable[..., TextTeacherConfig]:
    """Makes the configuration of a tiny text teacher from its model's name and other settings."""
    return tiny_config


@pytest.fixture(scope="session")
def causal(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], TextTeacherConfig]:
    """The configuration of a tiny causal model of a family, which tells few words."""
    return lambda family: causal_config(family, tmp_path_factory.mktemp(family))


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)
