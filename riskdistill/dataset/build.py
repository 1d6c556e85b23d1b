"""From canonical tables to rows to learn from and rows to be judged on.

    time ──────────────────────────────────────────────────────────────►
    │ train: normal + laundering + synthetic │ validation │ test        │
                                                          ▲ the model is built here: labels as known then

Every split is by time and never cuts through one timestamp. Training rows are a mix (85 % normal, 10 % laundering,
5 % synthetic by default); validation and test keep every row. Features of real rows come from one replay of what
really happened; those of synthetic rows from a second replay in which they did happen.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from riskdistill.augmentation import perturb, synthetic_anomalies
from riskdistill.config import ExperimentConfig, FeaturesConfig, SplitConfig
from riskdistill.data.order import time_order
from riskdistill.data.rates import Rates
from riskdistill.data.schema import LABELS, NORMAL, TIMESTAMP, TRANSACTIONS
from riskdistill.errors import DataError
from riskdistill.features import Encoded, FeatureEngine, FeatureSpec
from riskdistill.models.training import TrainingRows

Progress = Callable[[int], None]  # rows encoded since the last call
MATURE: Final = 0.9  # share of the labels that have arrived after the time that validation waits for them
SECOND: Final = 1_000_000  # microseconds
HOUR: Final = 3_600 * SECOND
DAY: Final = 24 * HOUR
Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Period:
    """All rows of one part of the split, in order of time.

    Attributes:
        encoded: rows as the models see them.
        label: bool [n], what is true (known in hindsight), for the test period; as known at the time of building
            for the others.
        typology: object [n], names.
        start, end: times of the first and the last row.
    """

    encoded: Encoded
    label: Bools
    typology: NDArray[np.object_]
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
    fingerprint: str


def as_known_at(labels: pa.Table, moment: datetime) -> pa.Table:
    """The labels as an observer had them at `moment`: what was found later still counts as normal."""
    known = pc.less_equal(labels["known_at"], pa.scalar(moment, LABELS.field("known_at").type))
    laundering = pc.and_(labels["is_laundering"], known)
    typology = pc.if_else(laundering, labels["typology"], NORMAL)
    scheme = pc.if_else(laundering, labels["scheme_id"], pa.scalar(None, pa.string()))
    columns = {"is_laundering": laundering, "typology": typology, "scheme_id": scheme}
    return pa.Table.from_arrays([columns.get(name, labels[name]) for name in LABELS.names], schema=LABELS)


def split_points(times: Ints, split: SplitConfig) -> tuple[int, int]:
    """First row of validation and of test in rows sorted by time; rows of one timestamp stay together.

    Raises:
        DataError: a part would be empty.
    """
    rows = len(times)
    shares = split.train, split.train + split.validation
    cuts = [min(rows - 1, round(rows * share)) for share in shares]
    first, second = (int(np.searchsorted(times, times[cut])) if rows else 0 for cut in cuts)
    if not 0 < first < second < rows:
        raise DataError(
            f"{rows} rows do not split into three periods by time (cuts at rows {first} and {second})",
            mend="give a longer history",
        )
    return first, second


def build_dataset(
    transactions: pa.Table, labels: pa.Table, config: ExperimentConfig, *, progress: Progress | None = None
) -> Dataset:
    """Build the dataset of a run.

    Args:
        transactions: canonical, in order of arrival.
        labels: canonical, row for row.
        config: split, mix, perturbations, features, seed.
        progress: see `Progress`; there are `len(transactions)` rows and then those of the second replay.

    Raises:
        DataError: labels are missing or in another order, or a period holds no laundering.
    """
    _check_labels(transactions, labels)
    times = transactions["timestamp"].cast(pa.int64()).to_numpy()
    first, second = split_points(times, config.split)
    known = as_known_at(labels, _moment(times[second]))
    label = known["is_laundering"].to_numpy()
    typology = known["typology"].to_numpy(zero_copy_only=False)
    _require_laundering(label[:first], label[first:second], labels["is_laundering"].to_numpy()[second:])

    rng = np.random.default_rng([config.seed, 0])
    chosen = _choose(label[:first], config, rng)
    wanted = np.concatenate([chosen, np.ones(len(times) - first, np.bool_)])
    engine = feature_engine(config.features)
    encoded = engine.encode(transactions, tokens=wanted, progress=progress)
    normal, kept = int((chosen & ~label[:first]).sum()), int(chosen.sum())
    past = transactions.slice(0, first), known.slice(0, first)
    count = round(normal / config.mix.normal * config.mix.synthetic)
    synthetic = _synthetic(*past, config, count, _moment(times[first]), rng, progress)

    names = sorted({*typology[:first], *synthetic.typology} - {NORMAL})
    typologies = (NORMAL, *(str(name) for name in names))
    seen = Encoded(encoded.context[:first][chosen], encoded.events[:kept])
    real = _Labelled(seen, label[:first][chosen], typology[:first][chosen])
    train = _mixed(real, synthetic, typologies, config, rng)
    after = Encoded(encoded.context[first:], encoded.events[kept:])
    validation, test = _periods(after, known, labels, times, second)
    return Dataset(
        spec=engine.spec,
        typologies=typologies,
        train=train,
        train_context=encoded.context[:first],
        train_label=label[:first],
        train_span=(_moment(times[0]), _moment(times[first - 1])),
        validation=validation,
        test=test,
        prevalence=float(label[:first].mean()),
        mixed_prevalence=float(train.label[train.draw].mean()),
        fingerprint=fingerprint(
            transactions,
            labels,
            engine.spec.fingerprint
            + engine.rates.fingerprint
            + config.model_dump_json(include={"seed", "split", "features", "mix", "perturbations"}),
        ),
    )


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
    progress: Progress | None = None,
) -> tuple[Period, Period]:
    """Validation and test of labelled tables, for models that are finished: earlier rows only move the engine on.

    Args:
        transactions, labels: as for `build_dataset`.
        engine: of the models' feature specification.
        split: where the periods begin.
        progress: see `Progress`; there are `len(transactions)` rows.

    Raises:
        DataError: labels are missing or in another order, or there are too few rows.
    """
    _check_labels(transactions, labels)
    times = transactions["timestamp"].cast(pa.int64()).to_numpy()
    first, second = split_points(times, split)
    encoded = engine.encode(transactions, tokens=np.arange(len(times)) >= first, progress=progress)
    after = Encoded(encoded.context[first:], encoded.events)
    return _periods(after, as_known_at(labels, _moment(times[second])), labels, times, second)


def _check_labels(transactions: pa.Table, labels: pa.Table) -> None:
    if labels.num_rows != transactions.num_rows:
        raise DataError(
            f"{labels.num_rows} labels for {transactions.num_rows} transactions",
            mend="training needs a source with labels",
        )
    if not labels["tx_id"].equals(transactions["tx_id"]):
        raise DataError("labels are not in the order of the transactions", mend="ingest the source again")


def _periods(after: Encoded, known: pa.Table, labels: pa.Table, times: Ints, second: int) -> tuple[Period, Period]:
    """Validation with labels as `known` and test with all `labels`, of the rows `after` training.

    The end of the validation period is left out as long as labels take to arrive: laundering that nobody could have
    found yet would be learned from as normal.
    """
    first = len(times) - len(after)
    mature = _mature(known, times, first, second)
    return (
        _period(after.take(slice(0, mature - first)), known, times, slice(first, mature)),
        _period(after.take(slice(second - first, None)), labels, times, slice(second, len(times))),
    )


def _mature(known: pa.Table, times: Ints, first: int, second: int) -> int:
    """The row of validation from which labels are too young; at least half of the period stays."""
    found = known["is_laundering"].to_numpy()[:second]
    delays = (known["known_at"].cast(pa.int64()).to_numpy()[:second] - times[:second])[found]
    waiting = int(np.quantile(delays, MATURE)) if len(delays) else 0
    end = int(np.searchsorted(times, times[second] - waiting))
    return min(second, max(end, first + (second - first + 1) // 2))


def _period(encoded: Encoded, labels: pa.Table, times: Ints, rows: slice) -> Period:
    return Period(
        encoded,
        labels["is_laundering"].to_numpy()[rows],
        labels["typology"].to_numpy(zero_copy_only=False)[rows],
        _moment(times[rows.start]),
        _moment(times[rows.stop - 1]),
    )


@dataclass(frozen=True)
class _Labelled:
    encoded: Encoded
    label: Bools
    typology: NDArray[np.object_]


def _require_laundering(train: Bools, validation: Bools, test: Bools) -> None:
    for name, part in (("training", train), ("validation", validation), ("test", test)):
        if not part.any():
            raise DataError(
                f"no laundering is known in the {name} period ({len(part)} rows)",
                mend="give a longer history, or change the split",
            )


def _choose(label: Bools, config: ExperimentConfig, rng: np.random.Generator) -> Bools:
    """Which training rows are in the mix: all laundering, and as many normal rows as their share allows."""
    normal = np.flatnonzero(~label)
    count = min(len(normal), round(config.mix.normal * config.mix.max_rows))
    chosen = label.copy()
    chosen[rng.choice(normal, count, replace=False)] = True
    return chosen


def _synthetic(
    transactions: pa.Table,
    labels: pa.Table,
    config: ExperimentConfig,
    count: int,
    until: datetime,
    rng: np.random.Generator,
    progress: Progress | None,
) -> _Labelled:
    """`count` perturbed and grafted rows, as they would have been encoded among the real ones.

    There are fewer where there is too little to perturb, and more where the last grafted scheme is larger.
    """
    engine = feature_engine(config.features)
    if count == 0:
        empty = engine.encode(transactions.slice(0, 0))
        return _Labelled(empty, np.zeros(0, np.bool_), np.zeros(0, object))
    options = [{"name": p.name, "share": p.share, **p.parameters} for p in config.perturbations]
    retold = perturb(transactions, labels, options, rng, until)
    perturbed, perturbed_labels = retold.transactions, retold.labels
    # grafts make up half of the synthetic share; perturbed copies the rest
    grafted, grafted_labels = synthetic_anomalies(transactions, labels, max(1, count // 2), rng, until)
    pool = min(perturbed.num_rows, max(0, count - grafted.num_rows))
    learned = np.ones(perturbed.num_rows + grafted.num_rows, np.bool_)
    learned[rng.choice(perturbed.num_rows, perturbed.num_rows - pool, replace=False)] = False

    # a copy takes the place of what it was made from; all copies happen, so that no scheme is cut
    kept = transactions.filter(pc.invert(pc.is_in(transactions["tx_id"], value_set=retold.replaced)))
    unit = clock_unit(transactions["timestamp"].cast(pa.int64()).to_numpy())
    made = _on_the_clock(pa.concat_tables([perturbed, grafted]), unit)
    merged = pa.concat_tables([kept, made])
    order = time_order(merged, coarse=unit >= HOUR)
    place = order - kept.num_rows  # among the made rows; negative for the real ones
    is_learned = (place >= 0) & learned[np.maximum(place, 0)]
    encoded = engine.encode(merged.take(order), tokens=is_learned, progress=progress)
    told = pa.concat_tables([perturbed_labels, grafted_labels]).take(place[is_learned])
    return _Labelled(
        Encoded(encoded.context[is_learned], encoded.events),
        told["is_laundering"].to_numpy(),
        told["typology"].to_numpy(zero_copy_only=False),
    )


def clock_unit(times: Ints) -> int:
    """Microseconds of the coarsest unit (day, hour, minute, second) in which all times are whole; else 1.

    >>> clock_unit(np.array([0, 2 * DAY]))
    86400000000
    """
    return next((unit for unit in (DAY, HOUR, 60 * SECOND, SECOND) if not (times % unit).any()), 1)


def _on_the_clock(transactions: pa.Table, unit: int) -> pa.Table:
    """Made rows stamped as the source stamps: a finer stamp would tell them from the real ones."""
    times = transactions["timestamp"].cast(pa.int64()).to_numpy()
    stamps = pa.array(times - times % unit, pa.int64()).cast(TIMESTAMP)
    column = TRANSACTIONS.get_field_index("timestamp")
    return transactions.set_column(column, TRANSACTIONS.field(column), stamps)


def _mixed(
    real: _Labelled,
    synthetic: _Labelled,
    typologies: tuple[str, ...],
    config: ExperimentConfig,
    rng: np.random.Generator,
) -> TrainingRows:
    """The rows of the mix; laundering and synthetic rows are drawn again until they make up their shares."""
    label = np.concatenate([real.label, synthetic.label])
    typology = np.concatenate([real.typology, synthetic.typology])
    index = {name: number for number, name in enumerate(typologies)}
    normal = np.flatnonzero(~real.label)
    rows = len(normal) / config.mix.normal  # the size of the mix that its normal rows allow
    laundering = _draw(np.flatnonzero(real.label), round(rows * config.mix.laundering), rng)
    made = _draw(len(real.label) + np.arange(len(synthetic.label)), round(rows * config.mix.synthetic), rng)
    return TrainingRows(
        encoded=Encoded.concat([real.encoded, synthetic.encoded]),
        label=label.astype(np.float32),
        typology=np.array([index[name] for name in typology], np.int64),
        draw=np.concatenate([normal, laundering, made]),
    )


def _draw(rows: Ints, count: int, rng: np.random.Generator) -> Ints:
    """`count` of `rows`, each as often as the others; all of them at least once where there are more."""
    if len(rows) == 0:
        return rows
    whole, rest = divmod(max(count, len(rows)), len(rows))
    return np.concatenate([np.tile(rows, whole), rng.choice(rows, rest, replace=False)])


def _moment(microseconds: int) -> datetime:
    return datetime.fromtimestamp(int(microseconds) / 1e6, UTC)


def fingerprint(transactions: pa.Table, labels: pa.Table, shaping: str = "") -> str:
    """16 hex digits over canonical tables and the settings that shape rows made of them."""
    digest = hashlib.sha256(shaping.encode())
    for table, schema in ((transactions, TRANSACTIONS), (labels, LABELS)):
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, schema) as writer:
            # one layout, whatever the batches that the table came in
            writer.write_table(table.select(schema.names).combine_chunks())
        digest.update(sink.getvalue())
    return digest.hexdigest()[:16]
