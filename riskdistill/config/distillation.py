"""What a student learns from its teachers, and how."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from riskdistill.config.base import Count, NonNegative, Section, Share
from riskdistill.config.models import Switch

Heat = Annotated[float, Field(strict=True, ge=1)]

AnswersFrom = Literal["all_trees", "unseen_trees"]

# Terms of the literature that teach nothing where there are two classes, and why.
DEGENERATE: Final = {
    "non_target": "of two classes the non-target distribution has one member: its KL is exactly 0; use logits",
    "class_correlation": "over two classes any two models correlate with ±1; use batch_correlation",
    "logit_standardisation": "over two classes every standardised logit is ±0.707; use logits with a temperature",
}

INSIDE: Final = (
    "attention_relations",
    "attention_maps",
    "hidden_states",
    "feature",
)  # terms on the teacher's states
ADAPTED: Final = ("hidden_states", "feature")  # those of them that learn an adapter between the widths
SCORED: Final = ("logits", "labels", "batch_correlation", "ranking")  # terms that train the laundering logit


class TermConfig(Section):
    """One named term of the distillation loss.

    Attributes:
        weight: in the first epoch.
        end_weight: in the last one, reached evenly; None: the weight stays.
        form: of the distance, for `attention_maps` (mse, kl) and `feature` (cosine, mse); None: the term's own.
        by_head: whether `attention_maps` compares each head with the teacher's of the same place, of which both
            have as many then, and not the means over heads.
    """

    name: Literal[
        "logits",
        "attention_relations",
        "labels",
        "typology",
        "attention_maps",
        "hidden_states",
        "feature",
        "batch_correlation",
        "ranking",
    ]
    weight: NonNegative
    end_weight: NonNegative | None = None
    form: Literal["mse", "kl", "cosine"] | None = None
    by_head: Switch = False

    @property
    def last_weight(self) -> float:
        """The weight in the last epoch."""
        return self.weight if self.end_weight is None else self.end_weight

    @field_validator("name", mode="before")
    @classmethod
    def _carries_a_signal(cls, name: Any) -> Any:
        if isinstance(name, str) and name in DEGENERATE:
            raise ValueError(f"{name} is degenerate: {DEGENERATE[name]}")
        return name

    @field_validator("form")
    @classmethod
    def _of_that_term(cls, form: str | None, info: ValidationInfo) -> str | None:
        forms = {"attention_maps": ("mse", "kl"), "feature": ("cosine", "mse")}.get(info.data.get("name", ""), ())
        if form is not None and form not in forms:
            raise ValueError(f"{form} is none of the term's forms: {', '.join(forms) or 'it has one only'}")
        return form

    @field_validator("by_head")
    @classmethod
    def _of_attention_maps(cls, by_head: bool, info: ValidationInfo) -> bool:
        if by_head and info.data.get("name") != "attention_maps":
            raise ValueError("only attention_maps are compared head by head")
        return by_head


class TemperatureConfig(Section):
    """Temperature of the logit and typology terms over the epochs.

    `constant`: `start`. `rising`: `start` for `after_epoch` epochs, then evenly up to `end`. `annealed`: the same,
    down to `end`. `learned`: begins at `start` and stays between 1 and `end`; the student's adversary moves it.
    """

    schedule: Literal["constant", "rising", "annealed", "learned"] = "constant"
    start: Heat = 2.0
    end: Heat = 8.0
    after_epoch: Annotated[int, Field(strict=True, ge=0)] = 5

    @field_validator("end")
    @classmethod
    def _on_the_right_side_of_the_start(cls, end: float, info: ValidationInfo) -> float:
        schedule, start = info.data.get("schedule"), info.data.get("start", end)
        if schedule == "rising" and end < start:
            raise ValueError(f"{end} is below the start {start}")
        if schedule == "annealed" and end > start:
            raise ValueError(f"{end} is above the start {start}")
        if schedule == "learned" and not 1 < start < end:
            raise ValueError(f"the start {start} is not between 1 and {end}")
        return end


class SelectionConfig(Section):
    """Strong supervision only where the teacher is confident."""

    # share of each predicted class, the surest first
    confident: Annotated[float, Field(strict=True, gt=0, le=1)] = 1.0
    otherwise: Share = 0.0  # weight of the teacher's terms on the other rows


class MiningConfig(Section):
    """Rows that are drawn again because they are hard."""

    share: Share = 0.0  # of an epoch's rows; 0: off
    by: Literal["entropy", "disagreement"] = "entropy"  # the teacher's own; between it and the student


PRESETS: Final = {
    "logits_and_attention": (
        TermConfig(name="logits", weight=0.7),
        TermConfig(name="attention_relations", weight=0.3),
    ),
    "soft_and_hard": (TermConfig(name="logits", weight=0.7), TermConfig(name="labels", weight=0.3)),
    "feature_attention_logits": (
        TermConfig(name="feature", weight=1.0),
        TermConfig(name="attention_maps", weight=0.5),
        TermConfig(name="logits", weight=0.8),
    ),
}


class DistillationConfig(Section):
    """The student's loss: a weighted sum of named terms.

    Attributes:
        preset: named terms and weights in place of `terms`.
        answers: whose answers to a training row teach: the mean of all trees, of which most have seen the row and
            its label, or those of the trees that were fitted without its block of time.
        weights: as configured; for each row from learned signals; or so that gradient norms keep these shares.
        stages: which terms are on in which third of the epochs; see `riskdistill.distillation.stages`.
        mixup: alpha of MixUp, with which rows, labels and the teacher's logits are mixed; 0 leaves them as they
            are. Only terms on outputs can follow, and nothing that remembers each row.
        adversarial: share of the loss that is taken on adversarial examples, in stages only in the last.
    """

    preset: Literal["logits_and_attention", "soft_and_hard", "feature_attention_logits"] | None = None
    terms: tuple[TermConfig, ...] = (
        TermConfig(name="logits", weight=0.7),
        TermConfig(name="labels", weight=0.3),
        TermConfig(name="attention_relations", weight=0.1),
        TermConfig(name="typology", weight=0.1),
    )
    temperature: TemperatureConfig = TemperatureConfig()
    answers: AnswersFrom = "all_trees"
    weights: Literal["configured", "dynamic", "gradient_norms"] = "configured"
    stages: Literal["output_intermediate_adversarial", "feature_attention_logits"] | None = None
    selection: SelectionConfig = SelectionConfig()
    mining: MiningConfig = MiningConfig()
    mixup: NonNegative = 0.0
    adversarial: Share = 0.0
    relation_heads: Count = 4  # divides both models' widths

    @property
    def by_head(self) -> bool:
        """Whether attention maps are compared head by head."""
        return any(term.by_head for term in self.terms)

    def settled(self) -> DistillationConfig:
        """The loss once its schedules have ended, for a student that is trained on: no stages, one temperature.

        Terms with an adapter are left out: a new one would have to learn first. A learned temperature settles at
        its start, as no configuration knows where the adversary left it.
        """
        terms = tuple(
            term.model_copy(update={"weight": term.last_weight, "end_weight": None})
            for term in self.terms
            if term.last_weight and term.name not in ADAPTED
        )
        heat = self.temperature
        last = heat.end if heat.schedule in ("rising", "annealed") else heat.start
        temperature = TemperatureConfig(start=last)
        changes = {"preset": None, "terms": terms, "temperature": temperature, "stages": None}
        return self.model_copy(update=changes)

    @model_validator(mode="before")
    @classmethod
    def _terms_of_the_preset(cls, data: Any) -> Any:
        preset = data.get("preset") if isinstance(data, dict) else None
        return {"terms": PRESETS[preset], **data} if isinstance(preset, str) and preset in PRESETS else data

    @field_validator("terms")
    @classmethod
    def _a_preset_or_terms(cls, terms: tuple[TermConfig, ...], info: ValidationInfo) -> tuple[TermConfig, ...]:
        preset = info.data.get("preset")
        if preset is not None and terms != PRESETS[preset]:  # a preset that was written out states the same
            raise ValueError(f"preset {preset} and other terms are both stated")
        return terms

    @field_validator("terms")
    @classmethod
    def _named_once_and_the_score_is_trained(cls, terms: tuple[TermConfig, ...]) -> tuple[TermConfig, ...]:
        names = [term.name for term in terms]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"named more than once: {', '.join(twice)}")
        if not any(term.last_weight for term in terms if term.name in SCORED):
            raise ValueError(f"no term that trains the score ends with a weight above 0: add {' or '.join(SCORED)}")
        return terms

    @field_validator("mixup")
    @classmethod
    def _of_rows_whose_states_are_not_needed(cls, alpha: float, info: ValidationInfo) -> float:
        inside = [term.name for term in info.data.get("terms", ()) if term.name in INSIDE]
        if alpha and inside:
            raise ValueError(f"the teacher's states are not known between rows: leave out {', '.join(inside)}")
        return alpha

    @field_validator("mixup")
    @classmethod
    def _of_rows_that_are_not_remembered(cls, alpha: float, info: ValidationInfo) -> float:
        mining = info.data.get("mining", MiningConfig())
        remember = {
            "weights: dynamic": info.data.get("weights") == "dynamic",
            "mining by: disagreement": mining.share > 0 and mining.by == "disagreement",
        }
        found = [name for name, asked in remember.items() if asked]
        if alpha and found:
            raise ValueError(f"a mixed row is no row to be remembered: leave out {' and '.join(found)}")
        return alpha

    @field_validator("adversarial")
    @classmethod
    def _where_its_stage_needs_it(cls, share: float, info: ValidationInfo) -> float:
        if info.data.get("stages") == "output_intermediate_adversarial" and not share:
            raise ValueError("the adversarial stage needs a share above 0")
        return share
