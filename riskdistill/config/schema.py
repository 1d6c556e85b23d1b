"""The typed configuration of one experiment: every knob, its default, its unit and its limits.

Defaults live here and nowhere else; a file in `configs/` states only what it does differently. All sections
are frozen and refuse unknown keys. Checks that span several keys hang on the last of them, so that pydantic
reports them next to all other mistakes instead of after those are mended.
"""

from __future__ import annotations

from itertools import pairwise
from math import isclose
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from riskdistill.augmentation.registry import parse
from riskdistill.errors import ConfigError
from riskdistill.features.spec import FORGET_AFTER_DAYS, MAX_HOPS, WINDOWS, ForgetAfter, Hops, Windows

# Numbers are strict: `epochs: true` or `epochs: "3"` is a mistake, not 1 or 3.
Count = Annotated[int, Field(strict=True, ge=1)]
Seed = Annotated[int, Field(strict=True, ge=0, lt=2**32)]
Share = Annotated[float, Field(strict=True, ge=0, le=1)]  # may be nothing or everything
OpenShare = Annotated[float, Field(strict=True, gt=0, lt=1)]
Positive = Annotated[float, Field(strict=True, gt=0)]
NonNegative = Annotated[float, Field(strict=True, ge=0)]
Number = Annotated[float, Field(strict=True)]


def _sums_to_one(last: float, *names: str, info: ValidationInfo) -> float:
    """`last`, once the parts called `names` (of which it is the last) make a whole."""
    if all(name in info.data for name in names[:-1]):
        total = sum(info.data[name] for name in names[:-1]) + last
        if not isclose(total, 1.0, abs_tol=1e-6):
            raise ValueError(f"{' + '.join(names)} must be 1, is {total:.6g}")
    return last


class Section(BaseModel):
    """Base of every section: frozen, no unknown keys, finite numbers, defaults checked too."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True, serialize_by_alias=True
    )


class SourceConfig(Section):
    """Which reader opens `--input`, and how much of it is used."""

    format: str | None = None  # a reader's name; None: a folder that `ingest` made
    until: AwareDatetime | None = None  # rows at or after this instant are left out
    mapping: Path | None = None  # names the columns, for format `mapping`

    @field_validator("mapping")
    @classmethod
    def _goes_with_its_format(cls, mapping: Path | None, info: ValidationInfo) -> Path | None:
        if "format" in info.data and (mapping is not None) != (info.data["format"] == "mapping"):
            raise ValueError("a mapping file and 'format: mapping' need each other")
        return mapping


class SplitConfig(Section):
    """Shares of the rows, oldest first: the test period is the last."""

    train: OpenShare = 0.6
    validation: OpenShare = 0.2
    test: OpenShare = 0.2
    purge_days: NonNegative = 0.0  # gaps before validation and test, whose rows only move the features on
    as_of: AwareDatetime | None = None  # labels are as known then; None: at the beginning of the test period
    leave_out: tuple[str, ...] = ()  # typologies that only the test has: neither trained nor validated on

    @field_validator("test")
    @classmethod
    def _whole(cls, test: float, info: ValidationInfo) -> float:
        return _sums_to_one(test, "train", "validation", "test", info=info)


class FeaturesConfig(Section):
    """What the feature engine keeps of each account, and in which money it counts."""

    events_per_party: Annotated[int, Field(strict=True, ge=4, le=48)] = 16
    windows: Windows = WINDOWS  # seconds, ascending
    forget_after_days: ForgetAfter = FORGET_AFTER_DAYS  # an account idle for longer is as new
    max_hops: Hops = MAX_HOPS  # how far money is followed
    rates: Path | None = None  # file of US dollars per unit as of a day (`data.rates`); None: the fixed ones


class MixConfig(Section):
    """What the training rows are made of; evaluation always keeps the natural prevalence."""

    normal: OpenShare = 0.85
    laundering: OpenShare = 0.10
    synthetic: Share = 0.05  # perturbed copies and grafted schemes
    max_rows: Count = 60_000
    hard_negatives: Share = 0.0  # of the normal rows: beside known laundering (`dataset.mix.beside_laundering`)

    @field_validator("synthetic")
    @classmethod
    def _whole(cls, synthetic: float, info: ValidationInfo) -> float:
        return _sums_to_one(synthetic, "normal", "laundering", "synthetic", info=info)


class PerturbationConfig(Section):
    """One way to make synthetic rows from real ones."""

    model_config = ConfigDict(validate_by_name=True, validate_by_alias=True)

    name: str
    share: Annotated[float, Field(strict=True, gt=0, le=1)] = 0.02  # of the stories, told anew
    parameters: dict[str, Number | str] = Field(
        default_factory=dict, validation_alias="with", serialization_alias="with"
    )

    @field_validator("parameters")
    @classmethod
    def _as_the_perturbation_takes_them(
        cls, parameters: dict[str, Number | str], info: ValidationInfo
    ) -> dict[str, Number | str]:
        if "name" in info.data:
            try:
                parse([{"name": info.data["name"], **parameters}])
            except ConfigError as error:
                raise ValueError(str(error)) from error
        return parameters


class ModelConfig(Section):
    """Size of an event transformer; the defaults are the teacher's."""

    width: Count = 128
    layers: Count = 3
    heads: Count = 4  # divides the width
    feedforward: Count = 2  # hidden width of the feed-forward block, as a multiple of `width`
    dropout: Annotated[float, Field(strict=True, ge=0, lt=1)] = 0.1
    feature_dropout: Annotated[float, Field(strict=True, ge=0, lt=1)] = 0.3  # of whole context features
    events_per_party: Count = 16  # latest events that it reads, at most what the features keep
    bins: Count = 16  # percentile bins of each context feature
    context_width: Count = 256  # hidden width of the block that reads the context vector

    @field_validator("heads")
    @classmethod
    def _divides_the_width(cls, heads: int, info: ValidationInfo) -> int:
        if info.data.get("width", 0) % heads:
            raise ValueError(f"{heads} heads do not divide the width {info.data['width']}")
        return heads


class StudentConfig(ModelConfig):
    """Size of the student: the same transformer with smaller defaults."""

    width: Count = 32
    layers: Count = 2
    heads: Count = 4
    # less than the teacher's: the student answers for a teacher that saw every feature
    feature_dropout: Annotated[float, Field(strict=True, ge=0, lt=1)] = 0.1
    events_per_party: Count = 8
    bins: Count = 8
    context_width: Count = 32


class TreeCandidate(Section):
    """One LightGBM setting; names are LightGBM's, `rounds` is the most trees it may grow."""

    num_leaves: Annotated[int, Field(strict=True, ge=2)] = 15
    learning_rate: Positive = 0.02
    feature_fraction: Annotated[float, Field(strict=True, gt=0, le=1)] = 0.4
    min_data_in_leaf: Count = 50
    rounds: Count = 1_500


class BoostedTreesConfig(Section):
    """Candidates for the baseline; the validation period chooses one."""

    candidates: tuple[TreeCandidate, ...] = (
        TreeCandidate(),
        TreeCandidate(num_leaves=31, learning_rate=0.03, feature_fraction=0.6),
        TreeCandidate(num_leaves=63, learning_rate=0.05, feature_fraction=0.8, rounds=600),
    )
    early_stopping_rounds: Count = 100

    @field_validator("candidates")
    @classmethod
    def _some(cls, candidates: tuple[TreeCandidate, ...]) -> tuple[TreeCandidate, ...]:
        if not candidates:
            raise ValueError("at least one candidate is needed")
        return candidates


class TrainingConfig(Section):
    """How one network is trained."""

    epochs: Count = 6
    batch_size: Count = 256
    learning_rate: Positive = 1e-3  # the peak, after the warm-up
    weight_decay: NonNegative = 0.01
    warmup: Share = 0.05  # share of all steps
    clip: Positive = 1.0  # largest gradient norm
    average_decay: Annotated[float, Field(strict=True, ge=0, lt=1)] = 0.995  # of the running average of weights
    patience: Count = 2  # epochs without a better validation PR-AUC before it stops
    label_smoothing: Annotated[float, Field(strict=True, ge=0, lt=0.5)] = 0.05
    mixup: NonNegative = 0.0  # alpha of MixUp on encoded rows; 0: off
    adversarial: Share = 0.0  # share of the loss that is taken on adversarial examples; 0: off
    seed: Seed = 7  # where the file is silent: the experiment's


class TermConfig(Section):
    """One named term of the distillation loss."""

    name: Literal["logits", "attention_relations", "labels", "typology"]
    weight: NonNegative


class TemperatureConfig(Section):
    """Temperature of the logit term: `start` up to `after_epoch` (from 1), then rising to `end`."""

    start: Annotated[float, Field(strict=True, ge=1)] = 5.0
    end: Annotated[float, Field(strict=True, ge=1)] = 8.0
    after_epoch: Annotated[int, Field(strict=True, ge=0)] = 5

    @field_validator("end")
    @classmethod
    def _rises(cls, end: float, info: ValidationInfo) -> float:
        if end < info.data.get("start", end):
            raise ValueError(f"{end} is below the start {info.data['start']}")
        return end


class DistillationConfig(Section):
    """The student's loss: a weighted sum of named terms."""

    terms: tuple[TermConfig, ...] = (
        TermConfig(name="logits", weight=0.7),
        TermConfig(name="attention_relations", weight=0.3),
        TermConfig(name="labels", weight=0.5),
        TermConfig(name="typology", weight=0.1),
    )
    temperature: TemperatureConfig = TemperatureConfig()
    relation_heads: Count = 4  # divides both models' widths
    # of the boosted trees in the logits that are taught: they see what the event teacher misses, and the reverse
    trees_share: Share = 0.5

    @field_validator("terms")
    @classmethod
    def _named_once_and_some_weight(cls, terms: tuple[TermConfig, ...]) -> tuple[TermConfig, ...]:
        names = [term.name for term in terms]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"named more than once: {', '.join(twice)}")
        if not any(term.weight for term in terms):
            raise ValueError("at least one term needs a weight above 0")
        return terms


class EvaluationConfig(Section):
    """What is measured on the test period."""

    budgets: tuple[OpenShare, ...] = (0.001, 0.005, 0.01)  # shares of traffic
    typology_budget: OpenShare = 0.005  # the budget at which recall is told for each typology
    fpr: OpenShare = 0.01  # the false-positive rate at which recall is reported
    batch_size: Count = 256  # of the timing, the same for every model
    timing_rows: Count = 4_096

    @field_validator("budgets")
    @classmethod
    def _rising(cls, budgets: tuple[float, ...]) -> tuple[float, ...]:
        if not budgets or any(low >= high for low, high in pairwise(budgets)):
            raise ValueError("at least one budget is needed, each above the one before")
        return budgets


class ServingConfig(Section):
    """How scores become actions, as shares of traffic on the validation period."""

    review_budget: OpenShare = 0.005  # reviewed or held
    hold_budget: OpenShare = 0.001  # held
    uncertain_width: Share = 0.01  # traffic on both sides of the review threshold that takes the bypass
    high_risk_budget: OpenShare = 0.001  # traffic above it takes the bypass

    @field_validator("hold_budget")
    @classmethod
    def _within_review(cls, hold: float, info: ValidationInfo) -> float:
        if hold > info.data.get("review_budget", hold):
            raise ValueError(f"{hold} is above the review budget {info.data['review_budget']}")
        return hold


class ExperimentConfig(Section):
    """Everything that, with the input's fingerprint, determines a run."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
    seed: Seed = 7
    source: SourceConfig = SourceConfig()
    split: SplitConfig = SplitConfig()
    features: FeaturesConfig = FeaturesConfig()
    mix: MixConfig = MixConfig()
    # those that docs/perturbations.md does not show to harm, as they were measured there
    perturbations: tuple[PerturbationConfig, ...] = tuple(
        PerturbationConfig(name=name, share=0.5, parameters={"among": "laundering"})
        for name in ("amount_jitter", "delay", "intermediary", "counterparty_substitution", "channel_change")
    )
    teacher: ModelConfig = ModelConfig()
    student: StudentConfig = StudentConfig()
    boosted_trees: BoostedTreesConfig = BoostedTreesConfig()
    training: TrainingConfig = TrainingConfig()
    student_training: TrainingConfig = TrainingConfig(epochs=14, learning_rate=2e-3, patience=5)
    distillation: DistillationConfig = DistillationConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    serving: ServingConfig = ServingConfig()

    @field_validator("perturbations")
    @classmethod
    def _needed_by_the_mix(
        cls, chosen: tuple[PerturbationConfig, ...], info: ValidationInfo
    ) -> tuple[PerturbationConfig, ...]:
        if not chosen and "mix" in info.data and info.data["mix"].synthetic > 0:
            raise ValueError(f"none, but mix.synthetic is {info.data['mix'].synthetic}")
        return chosen

    @field_validator("teacher", "student")
    @classmethod
    def _reads_what_is_kept(cls, model: ModelConfig, info: ValidationInfo) -> ModelConfig:
        kept = info.data["features"].events_per_party if "features" in info.data else model.events_per_party
        if model.events_per_party > kept:
            raise ValueError(f"events_per_party {model.events_per_party} is above features.events_per_party {kept}")
        return model

    @field_validator("training", "student_training", mode="before")
    @classmethod
    def _inherits_the_seed(cls, training: Any, info: ValidationInfo) -> Any:
        if isinstance(training, TrainingConfig):
            training = training.model_dump(exclude_unset=True)
        if isinstance(training, dict) and "seed" in info.data:
            return {"seed": info.data["seed"], **training}
        return training

    @field_validator("student_training")
    @classmethod
    def _learns_from_rows_as_the_teacher_saw_them(cls, training: TrainingConfig) -> TrainingConfig:
        if training.mixup or training.adversarial:
            raise ValueError(
                "mixup and adversarial must be 0: the teacher's answers are of rows as they are; "
                "set them under training, for the teacher"
            )
        return training

    @field_validator("distillation")
    @classmethod
    def _relation_heads_divide_both_widths(
        cls, chosen: DistillationConfig, info: ValidationInfo
    ) -> DistillationConfig:
        for model in ("teacher", "student"):
            if model in info.data and info.data[model].width % chosen.relation_heads:
                raise ValueError(
                    f"relation_heads {chosen.relation_heads} does not divide the {model}'s width "
                    f"{info.data[model].width}"
                )
        return chosen
