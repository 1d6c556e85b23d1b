"""Typed configuration: `schema` says what an experiment may state, `loader` reads it from YAML."""

from riskdistill.config.loader import load_config
from riskdistill.config.schema import (
    BoostedTreesConfig,
    DistillationConfig,
    EvaluationConfig,
    ExperimentConfig,
    FeaturesConfig,
    MixConfig,
    ModelConfig,
    PerturbationConfig,
    ServingConfig,
    SourceConfig,
    SplitConfig,
    StudentConfig,
    TemperatureConfig,
    TermConfig,
    TrainingConfig,
    TreeCandidate,
)

__all__ = [
    "BoostedTreesConfig",
    "DistillationConfig",
    "EvaluationConfig",
    "ExperimentConfig",
    "FeaturesConfig",
    "MixConfig",
    "ModelConfig",
    "PerturbationConfig",
    "ServingConfig",
    "SourceConfig",
    "SplitConfig",
    "StudentConfig",
    "TemperatureConfig",
    "TermConfig",
    "TrainingConfig",
    "TreeCandidate",
    "load_config",
]
