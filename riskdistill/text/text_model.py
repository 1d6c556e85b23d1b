"""Any Hugging Face encoder or causal model with a head for laundering and typologies.

Weights come from a folder, the hub (or its cache, with HF_HUB_OFFLINE=1), or an installed package. Only safetensors
are read, and no code of the model's own is run.
"""

from __future__ import annotations

import importlib.util
import json
import shutil
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import AutoModel, AutoTokenizer
from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

from riskdistill.config import TextTeacherConfig
from riskdistill.errors import ConfigError
from riskdistill.text.pieces import PieceBatch, Pieces, by_length, collate

_PACKAGE: Final = "package:"
_BACKBONE, _HEAD, _SETTINGS = "backbone", "head.safetensors", "text_model.json"


class TextOutput(NamedTuple):
    """What the model says of a batch.

    Attributes:
        logit: float32 [n], of laundering, on the training mix's scale.
        typology_logits: float32 [n, typologies].
        embedding: float32 [n, width], what the head reads.
        hidden: [n, pieces, width], of the last layer.
        attention: [n, heads, pieces, pieces] of the last layer; only where it was asked for.
    """

    logit: Tensor
    typology_logits: Tensor
    embedding: Tensor
    hidden: Tensor
    attention: Tensor | None


class TextModel(nn.Module):
    """A language model whose pooled hidden states are classified.

    An encoder is read at the mean over its pieces, a causal model at its last piece, which has seen all others.

    Args:
        backbone: without a head of its own; may carry adapters.
        tokenizer: fast, so that pieces can be traced to characters.
        typologies: names of the typology classes, the first being "normal".
    """

    def __init__(self, backbone: Any, tokenizer: Any, config: TextTeacherConfig, typologies: Sequence[str]) -> None:
        super().__init__()
        self.backbone, self.tokenizer, self.config = backbone, tokenizer, config
        self.typologies = tuple(typologies)
        self._attention = self._base.config._attn_implementation  # the fastest that the architecture has
        self.causal = backbone.config.model_type not in MODEL_FOR_MASKED_LM_MAPPING_NAMES
        self.head = nn.Linear(backbone.config.hidden_size, 1 + len(self.typologies))
        nn.init.normal_(self.head.weight, std=0.02)
        nn.init.zeros_(self.head.bias)

    @classmethod
    def build(cls, config: TextTeacherConfig, typologies: Sequence[str]) -> TextModel:
        """The pre-trained model with a new head, and new adapters where `config.method` is lora.

        Raises:
            ConfigError: the model or a package that it needs is not there, it has no fast tokenizer, or cannot be
                loaded in so few bits here.
        """
        backbone, tokenizer = _pretrained(config)
        torch.manual_seed(config.training.seed)
        if config.method == "lora":
            backbone = _with_adapters(backbone, config)
        return cls(backbone, tokenizer, config, typologies)

    @property
    def _base(self) -> Any:
        """The backbone without its adapters."""
        return self.backbone.get_base_model() if hasattr(self.backbone, "get_base_model") else self.backbone

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.head.weight.device

    @property
    def padding(self) -> int:
        """The piece that pads; it is masked everywhere, so any will do."""
        return int(self.tokenizer.pad_token_id or 0)

    def forward(self, batch: PieceBatch, attention: bool = False) -> TextOutput:
        """With `attention` the maps are worked out in the open, which the fused kernel never does."""
        base, wanted = self._base, "eager" if attention else self._attention
        if base.config._attn_implementation != wanted:  # some architectures know one, and complain when told of it
            base.set_attn_implementation(wanted)
        output = self.backbone(input_ids=batch.ids, attention_mask=batch.mask, output_attentions=attention)
        hidden = output.last_hidden_state
        there = batch.mask.unsqueeze(-1).to(hidden.dtype)
        if self.causal:
            rows = torch.arange(len(hidden), device=hidden.device)
            pooled = hidden[rows, batch.mask.sum(1) - 1]
        else:
            pooled = (hidden * there).sum(1) / there.sum(1)
        embedding = pooled.float()
        logits = self.head(embedding)
        maps = output.attentions[-1] if attention else None
        return TextOutput(logits[:, 0].float(), logits[:, 1:].float(), embedding, hidden, maps)

    @torch.inference_mode()
    def score(self, pieces: Sequence[Pieces]) -> NDArray[np.float32]:
        """Laundering logits [n] of all texts, in evaluation mode."""
        self.train(False)
        logits = np.empty(len(pieces), np.float32)
        for rows in by_length(pieces, self.config.inference_batch):
            batch = collate([pieces[row] for row in rows], self.padding).to(self.device)
            logits[rows] = self(batch).logit.cpu().numpy()
        return logits

    def save(self, folder: Path) -> None:
        """Write backbone (or its adapters), tokenizer, head and settings, replacing what `folder` held."""
        draft = folder.with_name(f".{folder.name}.tmp")
        shutil.rmtree(draft, ignore_errors=True)
        self.backbone.save_pretrained(draft / _BACKBONE)
        self.tokenizer.save_pretrained(draft / _BACKBONE)
        save_file(
            {name: tensor.contiguous().cpu() for name, tensor in self.head.state_dict().items()}, draft / _HEAD
        )
        settings = {"config": self.config.model_dump(mode="json"), "typologies": self.typologies}
        (draft / _SETTINGS).write_text(json.dumps(settings, indent=2) + "\n")
        shutil.rmtree(folder, ignore_errors=True)
        draft.replace(folder)

    @classmethod
    def load(cls, folder: Path) -> TextModel:
        """What `save` wrote. Adapters need the base model that they were trained on, named in the settings.

        Raises:
            ConfigError: the folder holds no text model, or its base model is not there.
        """
        try:
            settings = json.loads((folder / _SETTINGS).read_text())
        except (OSError, ValueError) as error:
            raise ConfigError("holds no text model", where=str(folder), mend="train it first") from error
        config = TextTeacherConfig.model_validate_json(json.dumps(settings["config"]))
        kept = str(folder / _BACKBONE)
        if config.method == "lora":
            from peft import PeftModel

            base, tokenizer = _pretrained(config)
            with _older_names():
                backbone = PeftModel.from_pretrained(base, kept)
        else:
            backbone, tokenizer = _pretrained(config.model_copy(update={"model": kept, "revision": None}))
        model = cls(backbone, tokenizer, config, settings["typologies"])
        model.head.load_state_dict(load_file(folder / _HEAD))
        return model.to(backbone.device)


def located(model: str) -> str:
    """The folder or hub id of a model's name; `package:NAME/FOLDER` is a folder of an installed package.

    Raises:
        ConfigError: there is no such package or folder.
    """
    if not model.startswith(_PACKAGE):
        return model
    package, _, folder = model.removeprefix(_PACKAGE).partition("/")
    try:
        found = importlib.util.find_spec(package)
    except (ImportError, ValueError):  # the package that it would be part of is not there, or it is no name
        found = None
    for place in found.submodule_search_locations or () if found is not None else ():
        path = Path(place) / folder
        if path.is_dir():
            return str(path)
    raise ConfigError(
        f"no installed package has {model!r}", where="text_teacher.model", mend=f"pip install {package}"
    )


def _pretrained(config: TextTeacherConfig) -> tuple[Any, Any]:
    """The backbone, its weights in `load_bits`, and its tokenizer."""
    if config.method == "lora" and importlib.util.find_spec("peft") is None:
        raise ConfigError(
            "adapters need the package peft",
            where="text_teacher.method",
            mend="pip install -e .[text], or set it to full",
        )
    source = located(config.model)
    weights = _weights(config)  # first: it may refuse
    try:
        tokenizer = AutoTokenizer.from_pretrained(source, revision=config.revision or "main")
        backbone = AutoModel.from_pretrained(
            source, revision=config.revision or "main", use_safetensors=True, trust_remote_code=False, **weights
        )
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{config.model!r} cannot be loaded: {str(error).splitlines()[0]}",
            where="text_teacher.model",
            mend="name a folder with safetensors weights, or download the model where HF_HUB_OFFLINE is not set",
        ) from error
    if not tokenizer.is_fast:
        raise ConfigError(
            f"{config.model!r} has no fast tokenizer", where="text_teacher.model", mend="use another model"
        )
    tokenizer.padding_side = tokenizer.truncation_side = "right"
    room = getattr(backbone.config, "max_position_embeddings", config.max_tokens)
    if config.max_tokens > room:
        raise ConfigError(
            f"{config.model!r} reads {room} pieces",
            where="text_teacher.max_tokens",
            mend=f"set it to {room} or less",
        )
    return backbone, tokenizer


def _weights(config: TextTeacherConfig) -> dict[str, Any]:
    """How the weights are loaded; 4 bits as in Dettmers et al., "QLoRA", 2023, 8 as in their "LLM.int8()", 2022."""
    if config.load_bits >= 16:
        return {"dtype": torch.float32 if config.load_bits == 32 else torch.bfloat16}
    if importlib.util.find_spec("bitsandbytes") is None or not torch.cuda.is_available():
        raise ConfigError(
            f"weights of {config.load_bits} bits need a CUDA device and bitsandbytes",
            where="text_teacher.load_bits",
            mend="pip install bitsandbytes on a machine with a GPU, or set load_bits to 16 or 32",
        )
    from transformers import BitsAndBytesConfig

    quantised = BitsAndBytesConfig(
        load_in_4bit=config.load_bits == 4,
        load_in_8bit=config.load_bits == 8,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_compute_dtype=torch.bfloat16,
    )
    return {"quantization_config": quantised, "device_map": {"": torch.cuda.current_device()}}


@contextmanager
def _older_names() -> Iterator[None]:
    """peft still asks transformers by a name that this release deprecates."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
        yield


def _with_adapters(backbone: Any, config: TextTeacherConfig) -> Any:
    from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training

    if config.load_bits < 16:
        backbone = prepare_model_for_kbit_training(backbone)  # type: ignore[no-untyped-call]
    lora, targets = config.lora, config.lora.target_modules
    settings = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=targets if isinstance(targets, str) else list(targets),
    )
    try:
        with _older_names():
            return get_peft_model(backbone, settings)
    except ValueError as error:
        raise ConfigError(
            f"adapters do not fit {config.model!r}: {error}", where="text_teacher.lora.target_modules"
        ) from error
