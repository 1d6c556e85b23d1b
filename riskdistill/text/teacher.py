"""The text teacher behind the protocol of teachers: it answers encoded rows, which it reads as text."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch import Tensor

from riskdistill.errors import ConfigError, TrainingError
from riskdistill.features import Encoded, FeatureSpec
from riskdistill.models.teacher import Answers, Wanted, shared_tokens
from riskdistill.text.fine_tuning import cut_rows
from riskdistill.text.pieces import Pieces, by_length, collate
from riskdistill.text.pooling import membership, pool_attention, pool_hidden, pool_relations
from riskdistill.text.serialise import Serialiser
from riskdistill.text.text_model import TextModel

_MODEL, _SETTINGS = "model", "text_teacher.json"
CUT_ROWS: Final = 4_096  # rows in words at a time


class TextTeacher:
    """A fine-tuned text model as a teacher.

    Args:
        shift: to the logits of the training mix, from `calibration.prior_shift(natural, mixed)`.
    """

    name = "text"

    def __init__(self, model: TextModel, spec: FeatureSpec, shift: float) -> None:
        self.model, self.shift = model, shift
        self.serialiser = Serialiser(spec, model.config)

    @cached_property
    def fingerprint(self) -> str:
        """16 hex digits over weights, templates, features and shift."""
        settings = self.model.config.model_dump_json(exclude={"rows"})  # how many it is asked changes no answer
        digest = hashlib.sha256(settings.encode())
        digest.update(f"{self.serialiser.spec.fingerprint} {self.shift!r}".encode())
        for name, tensor in sorted(self.model.state_dict().items()):
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
        return digest.hexdigest()[:16]

    @torch.inference_mode()
    def answer(self, encoded: Encoded, wanted: Wanted) -> Answers:
        """See `Teacher`. Relations are those of hidden states, thrice; see `pooling.pool_relations`.

        Attention maps are averaged over heads. Raises as `check` does.
        """
        self.check(wanted)
        self.model.train(False)
        answered: dict[str, np.ndarray] = {}
        for start in range(0, len(encoded), CUT_ROWS):
            part = encoded.take(slice(start, start + CUT_ROWS))
            pieces = cut_rows(self.model, self.serialiser, part)
            for rows in by_length(pieces, self.model.config.inference_batch):
                for name, tensor in self._batch([pieces[row] for row in rows], wanted).items():
                    values = tensor.cpu().numpy()
                    kept = answered.setdefault(name, np.empty((len(encoded), *values.shape[1:]), values.dtype))
                    kept[start + rows] = values
        if not answered:
            raise TrainingError("a teacher was asked about no rows", mend="choose rows that exist")
        return Answers(**answered)

    def _batch(self, pieces: Sequence[Pieces], wanted: Wanted) -> dict[str, Tensor]:
        batch = collate(pieces, self.model.padding).to(self.model.device)
        output = self.model(batch, attention=wanted.attention)
        answers = {"logit": output.logit + self.shift, "typology_logits": output.typology_logits}
        if wanted.embedding:
            answers["embedding"] = output.embedding
        tokens = torch.from_numpy(shared_tokens(self.model.config.events_per_party, wanted.student_events))
        members = membership(batch.part, tokens.to(batch.part.device))
        if wanted.attention and output.attention is not None:
            answers["attention"] = pool_attention(output.attention, members).half()
        if wanted.hidden or wanted.relations:
            hidden = pool_hidden(output.hidden, members)
            if wanted.hidden:
                answers["hidden"] = hidden.half()
            if wanted.relations:
                answers["relations"] = pool_relations(hidden, members, wanted.relation_heads).half()
        return answers

    def check(self, wanted: Wanted) -> None:
        """Refuse what it cannot answer.

        Raises:
            TrainingError: the student reads events that are not told, or relation heads do not divide the width.
        """
        told, width = self.model.config.events_per_party, self.model.head.in_features
        if wanted.student_events > told:
            raise TrainingError(
                f"the student reads {wanted.student_events} events of each party, the text tells only {told}",
                mend="lower student.events_per_party or raise text_teacher.events_per_party",
            )
        if wanted.relations and width % wanted.relation_heads:
            raise TrainingError(
                f"{wanted.relation_heads} relation heads do not divide the text teacher's width {width}",
                mend="change distillation.relation_heads",
            )

    def save(self, folder: Path) -> None:
        """Write the model and what is needed to ask it again."""
        folder.mkdir(parents=True, exist_ok=True)
        self.model.save(folder / _MODEL)
        settings = {"features": self.serialiser.spec.model_dump(mode="json"), "shift": self.shift}
        settings["feature_fingerprint"] = self.serialiser.spec.fingerprint
        temporary = folder / f"{_SETTINGS}.tmp"
        temporary.write_text(json.dumps(settings) + "\n")
        temporary.replace(folder / _SETTINGS)

    @classmethod
    def load(cls, folder: Path) -> TextTeacher:
        """What `save` wrote.

        Raises:
            ConfigError: no text teacher is there, or it was trained on features that are no longer computed so.
        """
        try:
            settings = json.loads((folder / _SETTINGS).read_text())
        except (OSError, ValueError) as error:
            raise ConfigError("holds no text teacher", where=str(folder), mend="train it first") from error
        spec = FeatureSpec.told(settings["features"])
        if spec.fingerprint != settings["feature_fingerprint"]:
            raise ConfigError("was trained on other features", where=str(folder), mend="train it again")
        return cls(TextModel.load(folder / _MODEL), spec, settings["shift"])
