"""Tiny language models for tests: causal ones made from their configuration, with one piece for each byte."""

from __future__ import annotations

from pathlib import Path

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


def causal_config(family: str, folder: Path) -> TextTeacherConfig:
    """The configuration of a tiny causal model of a family, which is made in `folder` and tells few words."""
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
