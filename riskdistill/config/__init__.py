"""Typed configuration: `schema` says what an experiment may state, `loader` reads it from YAML."""

from riskdistill.config.distillation import (
    AnswersFrom,
    DistillationConfig,
    MiningConfig,
    SelectionConfig,
    TemperatureConfig,
    TermConfig,
)
from riskdistill.config.loader import load_config
from riskdistill.config.models import BoostedTreesConfig, ModelConfig, StudentConfig, TeacherConfig, TreeCandidate
from riskdistill.config.retraining import GatesConfig, RetrainingConfig, RetrainingMode
from riskdistill.config.schema import (
    EvaluationConfig,
    ExperimentConfig,
    FeaturesConfig,
    MixConfig,
    PerturbationConfig,
    ServingConfig,
    SourceConfig,
    SplitConfig,
)
from riskdistill.config.student import CompressionConfig, PruningConfig, SearchConfig
from riskdistill.config.text import TextTeacherConfig, TextTemplates, TextTrainingConfig
from riskdistill.config.thresholds import ThresholdConfig
from riskdistill.config.training import (
    AlignmentConfig,
    PhasesConfig,
    PretrainingConfig,
    StudentTrainingConfig,
    TrainingConfig,
)

__all__ = [
    "AlignmentConfig",
    "AnswersFrom",
    "BoostedTreesConfig",
    "CompressionConfig",
    "DistillationConfig",
    "EvaluationConfig",
    "ExperimentConfig",
    "FeaturesConfig",
    "GatesConfig",
    "MiningConfig",
    "MixConfig",
    "ModelConfig",
    "PerturbationConfig",
    "PhasesConfig",
    "PretrainingConfig",
    "PruningConfig",
    "RetrainingConfig",
    "RetrainingMode",
    "SearchConfig",
    "SelectionConfig",
    "ServingConfig",
    "SourceConfig",
    "SplitConfig",
    "StudentConfig",
    "StudentTrainingConfig",
    "TeacherConfig",
    "TemperatureConfig",
    "TermConfig",
    "TextTeacherConfig",
    "TextTemplates",
    "TextTrainingConfig",
    "ThresholdConfig",
    "TrainingConfig",
    "TreeCandidate",
    "load_config",
]
