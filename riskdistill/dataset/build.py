"""Builds the dataset of a run: labels as known, the split, one replay of what happened, one of what was made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from riskdistill.config import ExperimentConfig, FeaturesConfig, MixConfig, SplitConfig
from riskdistill.data.rates import Rates
from riskdistill.data.schema import NORMAL
from riskdistill.dataset.cache import RowCache
from riskdistill.dataset.clock import Ints, microseconds, moment
from riskdistill.dataset.identity import fingerprint
from riskdistill.dataset.labels import Bools, Tables, as_known_at, reviewed
from riskdistill.dataset.mix import Labelled, beside_laundering, choose, left_over, mixed
from riskdistill.dataset.split import Split, left_out, split_rows
from riskdistill.dataset.synthetic import retell
from riskdistill.errors import DataError
from riskdistill.features import Encoded, FeatureEngine, FeatureSpec
from riskdistill.models.training import TrainingRows

Progress = Callable[[int], None]  # rows encoded since the last call
Rows = slice | Ints


@dataclass(frozen=True)
class Period:
    """The rows of one part of the split, in order of time.

    Attributes:
        encoded: rows as the models see them.
        label: bool [n], what is true for the test period (of a source without truth: what was recorded in the end);
            as known at the time of building for the others.
        typology: object [n], names.
        scheme: object [n], names of the laundering operations, None where there is none; known as the label is.
        time: int64 [n], microseconds since 1970.
    """

    encoded: Encoded
    label: Bools
    typology: NDArray[np.object_]
    scheme: NDArray[np.object_]
    time: Ints

    def __len__(self) -> int:
        return len(self.label)

    @property
    def start(self) -> datetime:
        """Time of the first row."""
        return moment(int(self.time[0]))

    @property
    def end(self) -> datetime:
        """Time of the last row."""
        return moment(int(self.time[-1]))

    def take(self, rows: slice | Bools) -> Period:
        """Some of the rows."""
        return Period(
            self.encoded.take(rows), self.label[rows], self.typology[rows], self.scheme[rows], self.time[rows]
        )

    def halves(self) -> tuple[Period, Period]:
        """The earlier and the later half of the rows.

        Of validation the earlier one tunes models (when to stop, how much each teacher counts), the later one, on
        which nothing was chosen, calibrates them. Both keep the times of the whole period.

        Raises:
            DataError: one of them holds no laundering.
        """
        middle = len(self) // 2
        parts = slice(0, middle), slice(middle, None)
        for name, part in zip(("earlier", "later"), parts, strict=True):
            _require_laundering(f"{name} half of the validation", self.label[part])
        return self.take(parts[0]), self.take(parts[1])


@dataclass(frozen=True)
class Dataset:
    """Everything that a run learns from and is judged on.

    Attributes:
        spec: what the features are.
        typologies: class names, "normal" first.
        train: the mix, for networks.
        train_context: float32 [n, features], all rows of the training period, for trees and reference figures.
        train_label: bool [n], for the same rows.
        mixed_from: int64 [rows of `train`], the place of each among `train_context`; -1 for synthetic rows.
        parts: object [rows of the source], the part of each, or why it is in none (see `split`).
        prevalence: of laundering in the training period, as known when the model is built.
        mixed_prevalence: of laundering among the rows of the mix.
        built_at: labels of training and validation are as known then.
        synthetic: labels of the synthetic rows, which are the last rows of `train`; schema LABELS.
        fingerprint: 16 hex digits over the input and all that shapes the rows.
    """

    spec: FeatureSpec
    typologies: tuple[str, ...]
    train: TrainingRows
    train_context: NDArray[np.float32]
    train_label: Bools
    mixed_from: Ints
    train_span: tuple[datetime, datetime]
    validation: Period
    test: Period
    parts: NDArray[np.object_]
    prevalence: float
    mixed_prevalence: float
    built_at: datetime
    synthetic: pa.Table
    fingerprint: str


def build_dataset(
    transactions: pa.Table,
    labels: pa.Table,
    config: ExperimentConfig,
    *,
    truth: pa.Table | None = None,
    known_at: datetime | None = None,
    cache: RowCache | None = None,
    progress: Progress | None = None,
) -> Dataset:
    """Build the dataset of a run.

    Args:
        transactions: canonical, in order of arrival.
        labels: canonical, row for row.
        config: split, mix, perturbations, features, seed.
        truth: as `labels`, complete; the test period is judged by it. Without it, by all labels.
        known_at: the labels of training and validation are as known then, even where the test has begun by then:
            whoever judges has to leave out the schemes that were learned. None: as `split.as_of` says.
        cache: where encoded rows are kept and looked for; without one everything is replayed.
        progress: see `Progress`; there are `len(transactions)` rows and then those of the second replay.

    Raises:
        DataError: labels are missing or in another order, a period holds no laundering, or the split is impossible.
    """
    tables = Tables(transactions, labels, truth)
    split, out, known = _split(tables, config.split, known_at)
    past = _past(tables, known, split, out)
    label, typology = _told(past.labels)
    rng = np.random.default_rng([config.seed, 0])
    told = _chosen(past, config.mix, rng)
    chosen = np.flatnonzero(told | left_over(told, config.mix.unlabelled, rng))
    mixed_in = np.flatnonzero(~out[split.train])[chosen]
    wanted = _judged(split, out)
    wanted[mixed_in] = True

    engine = feature_engine(config.features)
    encoded = _encoded(engine, transactions, wanted, cache, progress)  # the real rows
    kept = len(mixed_in)
    seen = Encoded(encoded.context[mixed_in], encoded.events[:kept])
    learned = known.take(mixed_in)
    looked_at = reviewed(past, moment(split.built_at))[chosen]
    real = Labelled(seen, *_told(learned), _schemes(learned), told[chosen], looked_at)

    count = round(int((~real.label & real.told).sum()) / config.mix.normal * config.mix.synthetic)
    retold = retell(transactions.slice(0, split.train.stop), past, config, count, moment(split.trained_until), rng)
    other = feature_engine(config.features)
    replayed = _encoded(other, retold.transactions, retold.learned, cache, progress)  # the synthetic rows
    made = Encoded(replayed.context[retold.learned], replayed.events)
    label_of_made, typology_of_made = _told(retold.labels)
    known_of_made = np.ones_like(label_of_made), np.zeros_like(label_of_made)
    synthetic = Labelled(made, label_of_made, typology_of_made, _schemes(retold.labels), *known_of_made)

    typologies = _classes(typology, synthetic.typology)
    train = mixed(real, synthetic, typologies, config.mix, rng)
    validation, test = _periods(tables, known, split, out, Encoded(encoded.context, encoded.events[kept:]))
    return Dataset(
        spec=engine.spec,
        typologies=typologies,
        train=train,
        train_context=encoded.context[_without(split.train, out)],
        train_label=label,
        mixed_from=np.concatenate([chosen, np.full(len(train.label) - len(chosen), -1)]),
        train_span=_span(past.transactions),
        validation=validation,
        test=test,
        parts=split.named(out),
        prevalence=float(label.mean()),
        mixed_prevalence=float(train.label[train.draw].mean()),
        built_at=moment(split.built_at),
        synthetic=retold.labels,
        fingerprint=_identity(tables, engine, config, known_at),
    )


def _encoded(
    engine: FeatureEngine, transactions: pa.Table, tokens: Bools, cache: RowCache | None, progress: Progress | None
) -> Encoded:
    if cache is None:
        return engine.encode(transactions, tokens=tokens, progress=progress)
    return cache.encode(engine, transactions, tokens=tokens, progress=progress)


def feature_engine(features: FeaturesConfig) -> FeatureEngine:
    """A new, empty feature engine as an experiment's configuration describes it.

    Raises:
        DataError: the file of rates is absent or damaged.
    """
    spec = FeatureSpec(**features.model_dump(exclude={"rates"}))
    return FeatureEngine(spec, Rates.read(features.rates))


def periods_to_judge(
    transactions: pa.Table,
    labels: pa.Table,
    engine: FeatureEngine,
    split: SplitConfig,
    *,
    truth: pa.Table | None = None,
    progress: Progress | None = None,
) -> tuple[Period, Period]:
    """Validation and test of labelled tables, for models that are finished: earlier rows only move the engine on.

    Args:
        transactions, labels, truth: as for `build_dataset`.
        engine: of the models' feature specification.
        split: where the periods begin.
        progress: see `Progress`; there are `len(transactions)` rows.

    Raises:
        DataError: labels are missing or in another order, there are too few rows, or a period holds no laundering.
    """
    tables = Tables(transactions, labels, truth)
    rows, out, known = _split(tables, split)
    encoded = engine.encode(transactions, tokens=_judged(rows, out), progress=progress)
    return _periods(tables, known, rows, out, encoded)


def _split(tables: Tables, config: SplitConfig, known_at: datetime | None = None) -> tuple[Split, Bools, pa.Table]:
    """The periods, the rows of typologies that are left out, and the labels as known when the model is built."""
    tables.require_order()
    split = split_rows(microseconds(tables.transactions), tables.labels, config, known_at)
    return split, left_out(tables, split, config.leave_out), as_known_at(tables.labels, moment(split.built_at))


def _past(tables: Tables, known: pa.Table, split: Split, out: Bools) -> Tables:
    """The rows that may be learned from.

    Raises:
        DataError: none of them is known to be laundering.
    """
    rows = _without(split.train, out)
    past = Tables(_take(tables.transactions, rows), _take(known, rows))
    _require_laundering("training", _told(past.labels)[0])
    return past


def _chosen(past: Tables, mix: MixConfig, rng: np.random.Generator) -> Bools:
    """bool [n]: those of the past's rows that are mixed in."""
    label, _ = _told(past.labels)
    hard = beside_laundering(past.transactions, label) if mix.hard_negatives else np.zeros_like(label)
    return choose(label, hard, mix, rng)


def _periods(tables: Tables, known: pa.Table, split: Split, out: Bools, encoded: Encoded) -> tuple[Period, Period]:
    """Validation with labels as known, test with those that it is judged by.

    Args:
        encoded: context of all rows; events of those of the two periods.
    """
    periods, done = [], 0
    for name, part, labels in (
        ("validation", split.validation, known),
        ("test", split.test, tables.judged_by),
    ):
        rows = _without(part, out)
        told = _take(labels, rows)
        label, typology = _told(told)
        _require_laundering(name, label)
        seen = Encoded(encoded.context[rows], encoded.events[done : done + len(label)])
        done += len(label)
        times = microseconds(_take(tables.transactions, rows))
        periods.append(Period(seen, label, typology, _schemes(told), times))
    return periods[0], periods[1]


def _judged(split: Split, out: Bools) -> Bools:
    """bool [n]: rows of validation and test."""
    judged = np.zeros(len(out), np.bool_)
    judged[split.validation] = judged[split.test] = True
    return judged & ~out


def _without(part: slice, out: Bools) -> Rows:
    """The rows of a part that are not left out; a slice, which copies nothing, where all of them stay."""
    return part.start + np.flatnonzero(~out[part]) if out[part].any() else part


def _take(table: pa.Table, rows: Rows) -> pa.Table:
    return table.slice(rows.start, rows.stop - rows.start) if isinstance(rows, slice) else table.take(rows)


def _told(labels: pa.Table) -> tuple[Bools, NDArray[np.object_]]:
    """Label bool [n] and typology object [n]."""
    return labels["is_laundering"].to_numpy(), labels["typology"].to_numpy(zero_copy_only=False)


def _schemes(labels: pa.Table) -> NDArray[np.object_]:
    """Names [n] of the schemes, None where there is none."""
    return np.asarray(labels["scheme_id"].to_numpy(zero_copy_only=False), np.object_)


def _span(transactions: pa.Table) -> tuple[datetime, datetime]:
    """Times of the first and of the last row."""
    first, last = microseconds(transactions)[[0, -1]]
    return moment(first), moment(last)


def _classes(*typologies: NDArray[np.object_]) -> tuple[str, ...]:
    """The names there are, "normal" first."""
    found: set[object] = set().union(*typologies)
    return NORMAL, *sorted(str(name) for name in found - {NORMAL})


def _require_laundering(name: str, label: Bools) -> None:
    if not label.any():
        raise DataError(
            f"no laundering is known in the {name} period ({len(label)} rows)",
            mend="give a longer history, or change the split",
        )


def _identity(tables: Tables, engine: FeatureEngine, config: ExperimentConfig, known_at: datetime | None) -> str:
    shaping = config.model_dump_json(include={"seed", "split", "features", "mix", "perturbations"})
    shaping += "" if known_at is None else known_at.isoformat()
    return fingerprint(
        tables.transactions,
        tables.labels,
        engine.spec.fingerprint + engine.rates.fingerprint + shaping,
        truth=tables.truth,
    )
