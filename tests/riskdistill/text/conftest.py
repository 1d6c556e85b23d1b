"""Tiny language models: causal ones made from their configuration, and the small encoder that a package carries."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaModel, PreTrainedTokenizerFast, Qwen2Config, Qwen2Model

from riskdistill.config import TextTeacherConfig

WIDTH = 32
FAMILIES = {"llama": (LlamaConfig, LlamaModel), "qwen": (Qwen2Config, Qwen2Model)}


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """One piece for each byte; no piece for padding, as causal models have it."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({letter: place for place, letter in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)


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

    def config(family: str) -> TextTeacherConfig:
        folder = tmp_path_factory.mktemp(family)
        torch.manual_seed(1)
        settings, model = FAMILIES[family]
        size = settings(
            vocab_size=300,  # with room for pieces that a family adds
            hidden_size=WIDTH,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=1_024,
        )
        model(size).save_pretrained(folder)
        byte_tokenizer().save_pretrained(folder)
        return tiny_config(str(folder), max_tokens=400)

    return config


def tiny_config(model: str, **changes: object) -> TextTeacherConfig:
    """A text teacher that tells four events of each party in few words."""
    settings = {
        "model": model,
        "events_per_party": 4,
        "inference_batch": 8,
        "templates": {
            "context": ("payment", "{amount_usd}", "{payment_format}"),
            "event": ("{party} {direction} {amount}", "{age}"),
        },
        "training": {"epochs": 1, "rows_per_epoch": 16, "validation_rows": 16, "batch_size": 8},
    }
    return TextTeacherConfig.model_validate(settings | changes)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)
