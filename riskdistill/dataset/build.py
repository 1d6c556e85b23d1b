"""The builder: tables and a configuration to a `Dataset`. See the package for the picture."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from riskdistill.config import ExperimentConfig, SplitConfig
from riskdistill.data.schema import NORMAL
from riskdistill.dataset.cache import RowCache
from riskdistill.dataset.clock import Ints, microseconds, moment
from riskdistill.dataset.identity import fingerprint
from riskdistill.dataset.labels import Bools, Tables, as_known_at
from riskdistill.dataset.mix import Labelled, beside_laundering, choose, mixed
from riskdistill.dataset.replay import Progress, Replay, feature_engine, span
from riskdistill.dataset.split import Split, left_out, split_rows
from riskdistill.dataset.synthetic import Past, synthetic_rows
from riskdistill.errors import DataError
from riskdistill.features import Encoded, FeatureEngine, FeatureSpec
from riskdistill.models.training import TrainingRows


@dataclass(frozen=True)
class Period:
    """All rows of one part of the split, in order of time, at their natural prevalence.

    Attributes:
        encoded: rows as the models see them.
        label: bool [n], for the test period what is true (where nobody knows, all that was recorded in the end); as
            known at the time of building for the others.
        typology: object [n], names.
        scheme: object [n], names of schemes; None where there is none.
        times: int64 [n], microseconds since 1970.
        start, end: times of the first and the last row.
    """

    encoded: Encoded
    label: Bools
    typology: NDArray[np.object_]
    scheme: NDArray[np.object_]
    times: Ints
    start: datetime
    end: datetime

    def __len__(self) -> int:
        return len(self.label)


@dataclass(frozen=True)
class Dataset:
    """Everything that a run learns from and is judged on.

    Attributes:
        spec: what the features are.
        typologies: class names, "normal" first.
        train: the mix, for networks.
        train_context: float32 [n, features], all rows of the training period, for trees and reference figures.
        train_label: bool [n], for the same rows.
        prevalence: of laundering in the training period, as known when the model is built.
        mixed_prevalence: of laundering among the rows of the mix.
        built_at: labels of training and validation are as known then.
        rows: what became of every transaction, row for row: `tx_id`, `part` (see `split`), `is_laundering`,
            `typology` and `scheme_id` as its part has them, and `drawn`, how often an epoch of the mix has it.
        synthetic: labels of the synthetic rows of the mix, schema LABELS.
        left_out: typologies that only the test period has.
        fingerprint: 16 hex digits over the input and all that shapes the rows.
    """

    spec: FeatureSpec
    typologies: tuple[str, ...]
    train: TrainingRows
    train_context: NDArray[np.float32]
    train_label: Bools
    train_span: tuple[datetime, datetime]
    validation: Period
    test: Period
    prevalence: float
    mixed_prevalence: float
    built_at: datetime
    rows: pa.Table
    synthetic: pa.Table
    left_out: tuple[str, ...]
    fingerprint: str


@dataclass(frozen=True)
class _Layout:
    """Which rows are in which part, and what is known of them.

    Attributes:
        times: int64 [n], microseconds since 1970.
        known: labels as known when the model is built.
        out: bool [n], rows that `split.leave_out` takes out.
        learned, validated, tested: rows of each part.
    """

    times: Ints
    split: Split
    known: pa.Table
    out: Bools
    learned: Ints
    validated: Ints
    tested: Ints

    @classmethod
    def of(cls, tables: Tables, split: SplitConfig) -> _Layout:
        """Of tables that are in order and have laundering in every part."""
        tables.require_order()
        times = microseconds(tables.transactions)
        periods = split_rows(times, tables.labels, split)
        out = left_out(tables, periods, split.leave_out)
        known = as_known_at(tables.labels, moment(periods.built_at))
        parts = [np.flatnonzero(~out[rows]) + rows.start for _, rows in periods.parts()]
        for name, rows, labels in zip(
            ("training", "validation", "test"), parts, (known, known, tables.judged_by), strict=True
        ):
            if not _told(labels, rows)[0].any():
                raise DataError(
                    f"no laundering is known in the {name} period ({len(rows)} rows)",
                    mend="give a longer history, or change the split",
                )
        return cls(times, periods, known, out, *parts)

    def past(self, transactions: pa.Table) -> Past:
        """The training period, for synthetic rows."""
        end = self.split.train.stop
        until = moment(self.times[end])
        return Past(transactions.slice(0, end), self.known.slice(0, end), self.out[:end], until)

    def became(self, tables: Tables, kept: Ints, draw: Ints) -> pa.Table:
        """See `Dataset.rows`; `draw` counts among the rows `kept`, and synthetic rows after them."""
        tested = self.split.test.start
        labels = pa.concat_tables([self.known.slice(0, tested), tables.judged_by.slice(tested)])
        drawn = np.zeros(len(self.times), np.int32)
        drawn[kept] = np.bincount(draw, minlength=len(kept))[: len(kept)]
        columns = {name: labels[name] for name in ("tx_id", "is_laundering", "typology", "scheme_id")}
        part = pa.array(self.split.named(self.out), pa.string()).dictionary_encode()
        return pa.table({**columns, "part": part, "drawn": drawn})


def build_dataset(
    transactions: pa.Table,
    labels: pa.Table,
    config: ExperimentConfig,
    *,
    truth: pa.Table | None = None,
    cache: RowCache | None = None,
    progress: Progress | None = None,
) -> Dataset:
    """Build the dataset of a run.

    Args:
        transactions: canonical, in order of arrival.
        labels: canonical, row for row, as recorded in the end; what was known when is in `known_at`.
        config: split, mix, perturbations, features, seed.
        truth: what is true, row for row, where it is known; the test is judged by it, and nothing learns from it.
            (It says which rows `split.leave_out` takes out.)
        cache: keeps encoded rows on the disk, and finds those of an earlier call; None: in memory.
        progress: see `Progress`; there are `len(transactions)` rows and then those of the second replay.

    Raises:
        DataError: labels are missing or in another order, the split has an empty part, or a period holds no
            laundering.
    """
    tables = Tables(transactions, labels, truth)
    layout = _Layout.of(tables, config.split)
    label, typology = _told(layout.known, layout.learned)
    rng = np.random.default_rng([config.seed, 0])
    chosen = choose(label, beside_laundering(transactions.take(layout.learned), label), config.mix, rng)
    kept = layout.learned[chosen]
    tokens = np.zeros(len(layout.times), np.bool_)
    tokens[np.concatenate([kept, layout.validated, layout.tested])] = True
    engine = feature_engine(config.features)
    replay = Replay(engine, transactions, tokens, cache=cache, progress=progress)
    normal = int((chosen & ~label).sum())
    count = round(normal / config.mix.normal * config.mix.synthetic)
    synthetic, made = synthetic_rows(layout.past(transactions), config, count, rng, cache=cache, progress=progress)
    names = sorted({*typology, *synthetic.typology} - {NORMAL})
    typologies = (NORMAL, *(str(name) for name in names))
    real = Labelled(replay.take(kept), label[chosen], typology[chosen])
    train = mixed(real, synthetic, typologies, config.mix, rng)
    shaping = config.model_dump_json(include={"seed", "split", "mix", "perturbations"})
    shaping += engine.spec.fingerprint + engine.rates.fingerprint
    ends = layout.times[layout.learned[[0, -1]]]
    return Dataset(
        spec=engine.spec,
        typologies=typologies,
        train=train,
        train_context=replay.context[span(layout.learned)],
        train_label=label,
        train_span=(moment(ends[0]), moment(ends[1])),
        validation=_period(replay, layout.known, layout.times, layout.validated),
        test=_period(replay, tables.judged_by, layout.times, layout.tested),
        prevalence=float(label.mean()),
        mixed_prevalence=float(train.label[train.draw].mean()),
        built_at=moment(layout.split.built_at),
        rows=layout.became(tables, kept, train.draw),
        synthetic=made,
        left_out=config.split.leave_out,
        fingerprint=fingerprint(transactions, labels, shaping, truth=truth),
    )


def periods_to_judge(
    tables: Tables, engine: FeatureEngine, split: SplitConfig, *, progress: Progress | None = None
) -> tuple[Period, Period]:
    """Validation and test of labelled tables, for models that are finished: earlier rows only move the engine on.

    Args:
        tables: as for `build_dataset`.
        engine: of the models' feature specification, empty.
        split: where the periods begin.
        progress: see `Progress`; there are as many rows as transactions.

    Raises:
        DataError: labels are missing or in another order, or there are too few rows.
    """
    tables.require_order()
    times = microseconds(tables.transactions)
    periods = split_rows(times, tables.labels, split)
    replay = Replay(
        engine, tables.transactions, np.arange(len(times)) >= periods.validation.start, progress=progress
    )
    known = as_known_at(tables.labels, moment(periods.built_at))
    return (
        _period(replay, known, times, _numbers(periods.validation)),
        _period(replay, tables.judged_by, times, _numbers(periods.test)),
    )


def _numbers(rows: slice) -> Ints:
    return np.arange(rows.start, rows.stop)


def _told(labels: pa.Table, rows: Ints) -> tuple[Bools, NDArray[np.object_]]:
    """Label and typology of some rows."""
    at = span(rows)
    return labels["is_laundering"].to_numpy()[at], labels["typology"].to_numpy(zero_copy_only=False)[at]


def _period(replay: Replay, labels: pa.Table, times: Ints, rows: Ints) -> Period:
    label, typology = _told(labels, rows)
    return Period(
        encoded=replay.take(rows),
        label=label,
        typology=typology,
        scheme=labels["scheme_id"].to_numpy(zero_copy_only=False)[span(rows)],
        times=times[span(rows)],
        start=moment(times[rows[0]]),
        end=moment(times[rows[-1]]),
    )
