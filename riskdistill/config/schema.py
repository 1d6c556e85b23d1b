"""The typed configuration of one experiment: every knob, its default, its unit and its limits.

Defaults live here and nowhere else; a file in `configs/` states only what it does differently. All sections
are frozen and refuse unknown keys. Checks that span several keys hang on the last of them, so that pydantic
reports them next to all other mistakes instead of after those are mended.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

from pydantic import AwareDatetime, ConfigDict, Field, ValidationInfo, field_validator

from riskdistill.augmentation.registry import parse
from riskdistill.config.base import (
    Count,
    NonNegative,
    Number,
    OpenShare,
    Positive,
    Section,
    Seed,
    Share,
    sums_to_one,
)
from riskdistill.config.distillation import INSIDE, DistillationConfig
from riskdistill.config.models import (
    BoostedTreesConfig,
    ModelConfig,
    NonNegativeCount,
    StudentConfig,
    TeacherConfig,
)
from riskdistill.config.retraining import RetrainingConfig
from riskdistill.config.student import CompressionConfig, PruningConfig, SearchConfig, kept_parts
from riskdistill.config.text import TextTeacherConfig
from riskdistill.config.thresholds import ThresholdConfig
from riskdistill.config.training import PhasesConfig, StudentTrainingConfig, TrainingConfig
from riskdistill.errors import ConfigError
from riskdistill.features.spec import FORGET_AFTER_DAYS, MAX_HOPS, WINDOWS, ForgetAfter, Hops, Windows


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
        return sums_to_one(test, "train", "validation", "test", info=info)


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
    max_rows: Count = 400_000  # of which every epoch takes `training.rows_per_epoch` anew
    hard_negatives: Share = 0.0  # of the normal rows: beside known laundering (`dataset.mix.beside_laundering`)
    unlabelled: NonNegativeCount = 0  # rows that the mix leaves over, which only teachers tell a student about
    # by typology: how many times as often as the others its schemes are grafted and its copies learned from
    emphasis: dict[str, Positive] = Field(default_factory=dict, exclude_if=lambda chosen: not chosen)

    @field_validator("synthetic")
    @classmethod
    def _whole(cls, synthetic: float, info: ValidationInfo) -> float:
        return sums_to_one(synthetic, "normal", "laundering", "synthetic", info=info)


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
    """How scores become actions, chosen on the validation period; budgets are shares of its traffic."""

    review: ThresholdConfig = ThresholdConfig()  # reviewed or held
    hold_budget: OpenShare = 0.001  # held
    uncertain_width: Share = 0.01  # traffic on both sides of the review threshold that takes the bypass
    high_risk_budget: OpenShare = 0.001  # traffic above it takes the bypass

    @field_validator("hold_budget")
    @classmethod
    def _within_review(cls, hold: float, info: ValidationInfo) -> float:
        review = info.data.get("review")
        if review is not None and review.share is not None and hold > review.share:
            raise ValueError(f"{hold} is above the review budget {review.share}")
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
    teacher: TeacherConfig = TeacherConfig()
    student: StudentConfig = StudentConfig()
    boosted_trees: BoostedTreesConfig = BoostedTreesConfig()
    text_teacher: TextTeacherConfig | None = None  # teaches beside the other two, and is never served
    training: TrainingConfig = TrainingConfig()
    phases: PhasesConfig | None = (
        None  # of the teacher's training; None: the domain phase alone, as `training` says
    )
    student_training: StudentTrainingConfig = StudentTrainingConfig()
    distillation: DistillationConfig = DistillationConfig()
    compression: CompressionConfig = CompressionConfig()
    search: SearchConfig = SearchConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    serving: ServingConfig = ServingConfig()
    retraining: RetrainingConfig = RetrainingConfig()

    @field_validator("perturbations")
    @classmethod
    def _needed_by_the_mix(
        cls, chosen: tuple[PerturbationConfig, ...], info: ValidationInfo
    ) -> tuple[PerturbationConfig, ...]:
        if not chosen and "mix" in info.data and info.data["mix"].synthetic > 0:
            raise ValueError(f"none, but mix.synthetic is {info.data['mix'].synthetic}")
        return chosen

    @field_validator("teacher", "student", "text_teacher")
    @classmethod
    def _reads_what_is_kept(
        cls, model: ModelConfig | TextTeacherConfig | None, info: ValidationInfo
    ) -> ModelConfig | TextTeacherConfig | None:
        if model is None or "features" not in info.data:
            return model
        kept = info.data["features"].events_per_party
        if model.events_per_party > kept:
            raise ValueError(f"events_per_party {model.events_per_party} is above features.events_per_party {kept}")
        return model

    @field_validator("student")
    @classmethod
    def _reads_no_more_than_its_teacher(cls, student: StudentConfig, info: ValidationInfo) -> StudentConfig:
        teacher = info.data.get("teacher")
        if teacher is not None and student.events_per_party > teacher.events_per_party:
            raise ValueError(
                f"events_per_party {student.events_per_party} is above the teacher's {teacher.events_per_party}"
            )
        return student

    @field_validator("training", "student_training", mode="before")
    @classmethod
    def _inherits_the_seed(cls, training: Any, info: ValidationInfo) -> Any:
        return _seeded(training, info)

    @field_validator("text_teacher", mode="before")
    @classmethod
    def _trains_with_the_seed(cls, text: Any, info: ValidationInfo) -> Any:
        if isinstance(text, TextTeacherConfig):
            text = text.model_dump(exclude_unset=True)
        return {**text, "training": _seeded(text.get("training", {}), info)} if isinstance(text, dict) else text

    @field_validator("training")
    @classmethod
    def _knows_no_difficulty(cls, training: TrainingConfig) -> TrainingConfig:
        if training.curriculum == "easy_first":
            raise ValueError(
                "curriculum easy_first needs to know how hard a row is, which the teachers tell the student: "
                "set it under student_training"
            )
        return training

    @field_validator("phases")
    @classmethod
    def _learn_from_labels(cls, phases: PhasesConfig | None) -> PhasesConfig | None:
        if phases is not None and phases.domain == phases.alignment == 0:
            raise ValueError("domain and alignment are 0: the general phase alone learns nothing of laundering")
        return phases

    @field_validator("student_training")
    @classmethod
    def _learns_from_rows_as_the_teacher_saw_them(cls, training: StudentTrainingConfig) -> StudentTrainingConfig:
        if training.mixup or training.adversarial:
            raise ValueError(
                "mixup and adversarial must be 0: the teacher's answers are of rows as they are; "
                "set them under training, for the teacher, or under distillation"
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

    @field_validator("distillation")
    @classmethod
    def _heads_that_are_matched_are_as_many(
        cls, chosen: DistillationConfig, info: ValidationInfo
    ) -> DistillationConfig:
        teacher, student = info.data.get("teacher"), info.data.get("student")
        if chosen.by_head and teacher and student and teacher.heads != student.heads:
            raise ValueError(
                f"attention_maps by_head: student.heads is {student.heads}, teacher.heads {teacher.heads}"
            )
        return chosen

    @field_validator("distillation")
    @classmethod
    def _states_of_a_text_are_those_that_the_student_reads(
        cls, chosen: DistillationConfig, info: ValidationInfo
    ) -> DistillationConfig:
        text, student = info.data.get("text_teacher"), info.data.get("student")
        inside = [term.name for term in chosen.terms if term.name in INSIDE and (term.weight or term.end_weight)]
        if text is None or student is None or not inside:
            return chosen
        if text.events_per_party < student.events_per_party:
            raise ValueError(
                f"{', '.join(inside)}: the student reads {student.events_per_party} events of each party, "
                f"text_teacher.events_per_party is {text.events_per_party}"
            )
        if chosen.by_head:
            raise ValueError("attention_maps by_head: heads of a text_teacher are not the student's")
        return chosen

    @field_validator("distillation")
    @classmethod
    def _schedules_move_within_the_epochs(
        cls, chosen: DistillationConfig, info: ValidationInfo
    ) -> DistillationConfig:
        if "student_training" not in info.data:
            return chosen
        epochs, heat = info.data["student_training"].epochs, chosen.temperature
        if heat.schedule in ("rising", "annealed") and heat.after_epoch >= epochs:
            raise ValueError(
                f"the temperature would never move: temperature.after_epoch is {heat.after_epoch}, "
                f"student_training.epochs {epochs}"
            )
        if chosen.stages is not None and epochs < 3:
            raise ValueError(f"three stages need 3 epochs, student_training.epochs is {epochs}")
        return chosen

    @field_validator("compression")
    @classmethod
    def _suits_the_student(cls, chosen: CompressionConfig, info: ValidationInfo) -> CompressionConfig:
        student, distillation = info.data.get("student"), info.data.get("distillation")
        if student is None or distillation is None:
            return chosen
        if chosen.early_exits and student.layers == 1:
            raise ValueError("early_exits: student.layers is 1, and after one layer there is nothing to save")
        if chosen.pruning != PruningConfig() and student.experts > 1:
            raise ValueError(f"pruning: student.experts is {student.experts}, and experts are not pruned")
        if chosen.pruning.heads < 1 and distillation.by_head:
            raise ValueError("pruning.heads: attention_maps by_head need all of the student's heads")
        heads = kept_parts(chosen.pruning.heads, student.heads)
        width = heads * (student.width // student.heads)  # of what the relations of a pruned student are cut from
        related = any(term.name == "attention_relations" for term in distillation.terms)
        if related and width % distillation.relation_heads:
            raise ValueError(
                f"pruning.heads leaves {heads} of {student.heads} heads, {width} wide together, which "
                f"distillation.relation_heads {distillation.relation_heads} does not divide"
            )
        return chosen


def _seeded(training: Any, info: ValidationInfo) -> Any:
    """What is told of a training, with the experiment's seed where it names none."""
    if isinstance(training, Section):
        training = training.model_dump(exclude_unset=True)
    if isinstance(training, dict) and "seed" in info.data:
        return {"seed": info.data["seed"], **training}
    return training
