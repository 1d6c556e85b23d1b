"""What a retraining takes over of the champion: its experiment, its networks, and its teacher where it is kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from pipelines.networks import Workshop
from pipelines.teachers import Teachers, fit_baseline, teacher_names
from riskdistill.bundle import Bundle
from riskdistill.config import ExperimentConfig, TreeCandidate
from riskdistill.data.rates import SECONDS_A_DAY
from riskdistill.dataset import Dataset, feature_engine
from riskdistill.errors import BundleIncompatibleError, ConfigError, ReleaseError
from riskdistill.evaluation.metrics import STUDENT, TEACHER
from riskdistill.models.boosted_trees import BoostedTrees, load_booster
from riskdistill.models.calibration import prior_shift
from riskdistill.models.committee import Committee
from riskdistill.models.cross_fitting import CrossFittedTrees
from riskdistill.models.ensemble import EnsembleTeacher, load_gate
from riskdistill.models.ensemble_scorer import GATE, trees_of
from riskdistill.models.event_transformer import EventTransformer
from riskdistill.models.kept_networks import load_network, retold, same_architecture
from riskdistill.models.teacher import EventTeacher, TreesTeacher
from riskdistill.provenance import Provenance, provenance_of
from riskdistill.releasing import load_release
from riskdistill.storage.releases import Release, ReleaseLog


@dataclass(frozen=True)
class Champion:
    """The release that decides now, and how it was made.

    Attributes:
        learned_until: nothing later was learned from.
    """

    release: Release
    bundle: Bundle
    config: ExperimentConfig
    learned_until: datetime


def load_champion(log: ReleaseLog, config: ExperimentConfig | None) -> Champion:
    """The champion of the release log.

    Args:
        config: stands for the experiment that its bundle names.

    Raises:
        ReleaseError: there is none.
        BundleError: its bundle is damaged, or does not name its experiment and there is no `config`.
        ConfigError: `config` has other features than the champion, whose account state is the service's.
    """
    release = log.champion()
    if release is None:
        raise ReleaseError(
            "no release is champion", where="release log", mend="promote one made by riskdistill run"
        )
    bundle = load_release(release)
    told = _told(bundle, config)
    if config is None:
        if told is None:
            raise BundleIncompatibleError(
                "it does not name its experiment", where=str(bundle.path), mend="name it with --config"
            )
        config = told.config
    day_after = datetime.fromtimestamp((bundle.rates.until + 1) * SECONDS_A_DAY, UTC)
    until = told.learned_until if told else day_after
    if feature_engine(config.features).spec.fingerprint != bundle.spec.fingerprint:
        raise ConfigError(
            "the champion's features are others, and the service keeps account state for them",
            where="features",
            mend="leave the features as they are, or make a first release with riskdistill run",
        )
    return Champion(release, bundle, config, until)


def _told(bundle: Bundle, config: ExperimentConfig | None) -> Provenance | None:
    """What the bundle says of itself; nothing that counts if in the words of another version beside a `config`."""
    try:
        return provenance_of(bundle)
    except BundleIncompatibleError:
        if config is None:
            raise
        return None


def beginnings(champion: Champion, config: ExperimentConfig, dataset: Dataset) -> dict[str, EventTransformer]:
    """The champion's networks to train on from, by role, those whose architecture is the one configured."""
    found = {}
    teachers = dict.fromkeys(teacher_names(config.teacher.members), config.teacher.network)
    for role, size in {STUDENT: config.student, **teachers}.items():
        network = load_network(champion.bundle.path, role)
        if network is not None and same_architecture(network, size, dataset.spec.fingerprint):
            found[role] = retold(network, size, dataset.typologies, dataset.fingerprint)
    return found


def changed(config: ExperimentConfig, **sections: Mapping[str, Any]) -> ExperimentConfig:
    """The experiment with other values in some of its sections.

    Raises:
        ConfigError: they do not go together with the others.
    """
    fields = config.model_dump()
    for name, values in sections.items():
        fields[name] = {**(fields[name] or {}), **values}
    try:
        return ExperimentConfig.model_validate(fields)
    except ValidationError as error:
        raise ConfigError(
            error.errors()[0]["msg"], where="retraining", mend="change the experiment, and name it with --config"
        ) from error


def trained_on(config: ExperimentConfig, begun: Mapping[str, EventTransformer]) -> ExperimentConfig:
    """The experiment with gentler steps for the networks that are trained on; a teacher has learned its phases."""
    slower = config.retraining.learning_rate
    sections = {"student_training": STUDENT, "training": TEACHER}
    gentle = {
        section: {"learning_rate": slower * getattr(config, section).learning_rate}
        for section, role in sections.items()
        if role in begun
    }
    gentler = changed(config, **gentle)
    return gentler.model_copy(update={"phases": None}) if TEACHER in begun else gentler


def kept_teachers(champion: Champion, config: ExperimentConfig, workshop: Workshop) -> Teachers:
    """The champion's teachers as they are, answering the rows of the new mix; only the baseline is fitted anew.

    Of typologies that they were never taught they know nothing: on such laundering rows what they say is raised to
    what they say, in the middle, of laundering that they know.

    Raises:
        BundleIncompatibleError: the champion's bundle does not hold an ensemble with its weights.
    """
    dataset, folder = workshop.dataset, champion.bundle.path
    networks = _members(folder)
    if not networks or GATE not in champion.bundle.manifest.files:
        raise BundleIncompatibleError(
            "it holds no teacher that could be kept", where=str(folder), mend="choose --mode teacher_and_student"
        )
    gate, made_of = load_gate(folder / GATE), champion.bundle.manifest.dataset_fingerprint
    shift = prior_shift(dataset.prevalence, dataset.mixed_prevalence)
    moved, size = gate.event_shift - shift, config.teacher.network
    told = [retold(network, size, dataset.typologies, dataset.fingerprint, moved) for network in networks]
    for name, network in zip(teacher_names(len(told)), told, strict=True):
        workshop.save(name, network, {"kept_from": champion.bundle.version})
    model = Committee(told) if len(told) > 1 else told[0]
    members = tuple(
        BoostedTrees(load_booster(path, dataset=made_of), TreeCandidate(), np.nan) for path in trees_of(folder)
    )
    trees = CrossFittedTrees(members, np.zeros(len(dataset.train_label), np.int64))
    teachers = TreesTeacher(trees, "boosted_trees"), EventTeacher(model, shift, "event_transformer")
    of_event = workshop.answers(teachers[1], config.student, config.distillation)
    rows = dataset.train.encoded
    logits = np.array([trees.score_logits(rows.context, threads=0), of_event.logit])
    taught = _corrected(gate.combine(logits, rows), dataset, champion.bundle.typologies).astype(np.float32)
    return Teachers(
        baseline=fit_baseline(config, workshop),
        trees=trees,
        event=model,
        ensemble=EnsembleTeacher(teachers, gate),
        shift=shift,
        taught={"all_trees": taught, "unseen_trees": taught},  # none of them has seen any of these rows' labels
    )


def _members(folder: Path) -> list[EventTransformer]:
    """The networks of the teacher whose weights a bundle holds."""
    found: list[EventTransformer] = []
    while (network := load_network(folder, teacher_names(len(found) + 1)[-1])) is not None:
        found.append(network)
    return found


def _corrected(logit: NDArray[np.float64], dataset: Dataset, known: tuple[str, ...]) -> NDArray[np.float64]:
    """Log-odds [n] of the rows of the mix, raised on laundering of typologies that are not `known`."""
    names = np.asarray(dataset.typologies, object)[dataset.train.typology]
    laundering, heard = dataset.train.label == 1, np.isin(names.astype(str), known)
    if not (laundering & heard).any():
        return logit
    middle = np.median(logit[laundering & heard])
    return np.where(laundering & ~heard, np.maximum(logit, middle), logit)
