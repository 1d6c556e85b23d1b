"""The dataset's card: what is in it, where it came from, what it cannot show, and how to build it again.

Every figure is counted from the dataset itself. Equal datasets have equal cards: a card has no date of its own.
"""

from __future__ import annotations

from typing import Final, Literal

import numpy as np
import pyarrow as pa
from pydantic import AwareDatetime, BaseModel, ConfigDict

from riskdistill import __version__
from riskdistill.augmentation.grafting import NAME as GRAFT
from riskdistill.augmentation.registry import parse
from riskdistill.augmentation.rows import MARK
from riskdistill.config import ExperimentConfig
from riskdistill.data.columns import pc
from riskdistill.data.schema import ACCOUNT_FIELDS, LABELS, TRANSACTIONS
from riskdistill.dataset.build import Dataset
from riskdistill.dataset.card_page import markdown
from riskdistill.dataset.clock import DAY, HOUR, Ints, clock_unit, microseconds
from riskdistill.dataset.identity import table_digest
from riskdistill.dataset.labels import Bools, Tables, as_known_at
from riskdistill.dataset.split import IMMATURE, LEFT_OUT, PURGED, TEST, TRAIN, VALIDATION

FEW: Final = 100  # laundering transactions, below which a figure is uncertain
RARE: Final = 0.05  # laundering is rarer than this in any real traffic


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class SourceCard(_Record):
    """The tables that went in; hashes are SHA-256 over their rows."""

    transactions: str
    labels: str
    truth: str | None
    rows: int
    start: AwareDatetime
    end: AwareDatetime
    stamped_in: Literal["days", "hours", "finer units"]
    absent: tuple[str, ...]  # optional columns that no row has


class PartCard(_Record):
    """One part of the split.

    Attributes:
        laundering: rows labelled so in this part: as known when the model is built, true in the test.
        recorded: rows that the bank has on record as laundering in the end, whenever it learned of it.
        true: rows that are laundering; found: those of them that are on record. None where nobody knows.
        typologies: rows of `laundering` by typology; `schemes` is how many schemes they belong to.
    """

    rows: int
    laundering: int
    prevalence: float
    recorded: int
    true: int | None
    found: int | None
    start: AwareDatetime
    end: AwareDatetime
    typologies: dict[str, int]
    schemes: int


class MixCard(_Record):
    """What one epoch draws, and how many different rows there are of each kind."""

    drawn: dict[str, int]
    different: dict[str, int]
    hard_negatives: float
    unlabelled: int  # rows beside the mix that only teachers tell a student about
    reviewed: int  # rows of the mix that somebody looked at
    prevalence: float  # of the training period, to which scores are corrected
    mixed_prevalence: float


class MadeCard(_Record):
    """One way in which synthetic rows were made: its bounds, what it promises, and its rows in the mix."""

    name: str
    settings: dict[str, float | str]
    label: Literal["keeps", "changes"]
    conserves: tuple[str, ...]
    rows: int


class RecordCard(_Record):
    """How far what the bank has on record in the end is the truth, over all periods."""

    laundering: int  # rows that are
    on_record: int  # of them, those that the bank knows of
    wrong: int  # rows on record that are not laundering


class DelayCard(_Record):
    """How late labels were, in days after the payment, for laundering on record in the training period."""

    median: float
    nine_tenths: float
    not_known_yet: int  # on record in the end, but learned of after the model was built


class DatasetCard(_Record):
    """Everything that a reader should know of a dataset before believing a model trained on it."""

    name: str
    fingerprint: str
    features: str
    built_at: AwareDatetime  # labels are as known then
    riskdistill: str
    source: SourceCard
    parts: dict[str, PartCard]
    in_no_part: dict[str, int]  # rows, by reason
    left_out: tuple[str, ...]
    mix: MixCard
    synthetic: tuple[MadeCard, ...]
    delays: DelayCard | None  # None where nothing is on record in the training period
    record: RecordCard | None  # None where nobody knows the truth
    limits: tuple[str, ...]
    command: str  # builds it again

    def markdown(self) -> str:
        """The card as a page."""
        return markdown(self)


def describe(dataset: Dataset, tables: Tables, config: ExperimentConfig, command: str) -> DatasetCard:
    """The card of a dataset.

    Args:
        dataset: what `build_dataset` made of
        tables: these, with
        config: this.
        command: how a person builds it again.
    """
    times = microseconds(tables.transactions)
    known = as_known_at(tables.labels, dataset.built_at)
    parts = {
        name: _part(labels, tables, dataset.parts == name)
        for name, labels in ((TRAIN, known), (VALIDATION, known), (TEST, tables.judged_by))
    }
    reasons = {reason: int((dataset.parts == reason).sum()) for reason in (PURGED, IMMATURE, LEFT_OUT)}
    source, mix = _source(tables, times), _mix(dataset, config)
    delays = _delays(tables.labels, times, dataset)
    return DatasetCard(
        name=config.name,
        fingerprint=dataset.fingerprint,
        features=dataset.spec.fingerprint,
        built_at=dataset.built_at,
        riskdistill=__version__,
        source=source,
        parts=parts,
        in_no_part=reasons,
        left_out=config.split.leave_out,
        mix=mix,
        synthetic=tuple(_made(dataset, config)),
        delays=delays,
        record=_record(tables),
        limits=tuple(_limits(source, parts, reasons, delays, mix)),
        command=command,
    )


def _source(tables: Tables, times: Ints) -> SourceCard:
    unit = clock_unit(times)
    stamped: Literal["days", "hours", "finer units"] = (
        "days" if unit == DAY else "hours" if unit == HOUR else "finer units"
    )
    rows = tables.transactions.num_rows
    optional = [field.name for field in TRANSACTIONS if field.nullable]
    ends = tables.transactions["timestamp"][0].as_py(), tables.transactions["timestamp"][-1].as_py()
    return SourceCard(
        transactions=table_digest(tables.transactions, TRANSACTIONS),
        labels=table_digest(tables.labels, LABELS),
        truth=None if tables.truth is None else table_digest(tables.truth, LABELS),
        rows=rows,
        start=ends[0],
        end=ends[1],
        stamped_in=stamped,
        absent=tuple(name for name in optional if tables.transactions[name].null_count == rows),
    )


def _part(labels: pa.Table, tables: Tables, mask: Bools) -> PartCard:
    """Of the rows of `mask`; `labels` are those that the part has."""
    inside = pa.array(mask)
    bad = labels.filter(inside)
    rows, bad = bad.num_rows, bad.filter(bad["is_laundering"])
    named = pc.value_counts(bad["typology"]).to_pylist()
    recorded = tables.labels["is_laundering"].to_numpy() & mask
    true = None if tables.truth is None else tables.truth["is_laundering"].to_numpy() & mask
    stamps = tables.transactions["timestamp"].filter(inside)
    return PartCard(
        rows=rows,
        laundering=bad.num_rows,
        prevalence=bad.num_rows / rows,
        recorded=int(recorded.sum()),
        true=None if true is None else int(true.sum()),
        found=None if true is None else int((true & recorded).sum()),
        start=stamps[0].as_py(),
        end=stamps[-1].as_py(),
        typologies={each["values"]: each["counts"] for each in sorted(named, key=lambda each: str(each["values"]))},
        schemes=pc.count_distinct(bad["scheme_id"]).as_py(),
    )


def _record(tables: Tables) -> RecordCard | None:
    if tables.truth is None:
        return None
    true, told = (table["is_laundering"].to_numpy() for table in (tables.truth, tables.labels))
    return RecordCard(
        laundering=int(true.sum()), on_record=int((true & told).sum()), wrong=int((told & ~true).sum())
    )


def _mix(dataset: Dataset, config: ExperimentConfig) -> MixCard:
    rows, label = dataset.train, dataset.train.label == 1
    made = np.arange(len(label)) >= len(label) - dataset.synthetic.num_rows
    kinds = {"normal": ~made & (rows.label == 0), "laundering": ~made & label, "synthetic": made}
    return MixCard(
        drawn={name: int(kind[rows.draw].sum()) for name, kind in kinds.items()},
        different={name: int(kind.sum()) for name, kind in kinds.items()},
        hard_negatives=config.mix.hard_negatives,
        unlabelled=len(rows.unlabelled),
        reviewed=len(rows.reviewed),
        prevalence=dataset.prevalence,
        mixed_prevalence=dataset.mixed_prevalence,
    )


def _made(dataset: Dataset, config: ExperimentConfig) -> list[MadeCard]:
    if not dataset.synthetic.num_rows:
        return []
    ids = dataset.synthetic["tx_id"].to_pylist()
    of = np.array([tx_id.rpartition(MARK)[2].rstrip("0123456789") for tx_id in ids])
    chosen = parse([{"name": each.name, "share": each.share, **each.parameters} for each in config.perturbations])
    made = [
        MadeCard(
            name=each.name,
            settings=each.model_dump(exclude={"name"}),
            label=each.effect,
            conserves=tuple(sorted(each.conserves)),
            rows=int((of == each.name).sum()),
        )
        for each in chosen
    ]
    # what a graft keeps is said by `augmentation.grafting`: one scheme, other accounts, one factor on all amounts
    graft = MadeCard(
        name=GRAFT, settings={}, label="keeps", conserves=("gaps", "shape"), rows=int((of == GRAFT).sum())
    )
    return [*made, graft]


def _delays(labels: pa.Table, times: Ints, dataset: Dataset) -> DelayCard | None:
    bad = (dataset.parts == TRAIN) & labels["is_laundering"].to_numpy()
    if not bad.any():
        return None
    known_at = microseconds(labels, "known_at")[bad]
    late = (known_at - times[bad]) / DAY
    return DelayCard(
        median=float(np.quantile(late, 0.5)),
        nine_tenths=float(np.quantile(late, 0.9)),
        not_known_yet=int((known_at > round(dataset.built_at.timestamp() * 1e6)).sum()),
    )


def _limits(
    source: SourceCard,
    parts: dict[str, PartCard],
    reasons: dict[str, int],
    delays: DelayCard | None,
    mix: MixCard,
) -> list[str]:
    """What figures on this dataset cannot show, in sentences."""
    test, said = parts[TEST], []
    if source.stamped_in != "finer units":
        said.append(
            f"Stamps are whole {source.stamped_in}: what came first within one is not known, and content orders it."
        )
    for name, part in parts.items():
        if part.prevalence > RARE:
            said.append(
                f"{100 * part.prevalence:.1f} % of {name} is laundering, which no traffic has: precision, alert "
                "budgets and calibration do not carry over."
            )
        if part.laundering < FEW:
            said.append(f"Only {part.laundering} laundering transactions in {name}: differences may be chance.")
    if test.true is None:
        said.append("Judged on what was recorded: laundering that nobody found counts as normal.")
    else:
        said.append(
            f"Judged on the truth, {test.true:,} laundering transactions; the bank has {test.found:,} of them on "
            "record."
        )
    if reasons[IMMATURE]:
        said.append(f"Validation ends {reasons[IMMATURE]:,} rows early: their labels had no time to arrive.")
    if delays is not None and delays.nine_tenths == 0:
        said.append("Labels are known at the payment's own time: no delay is felt in training.")
    if source.absent:
        what = "balances and customer fields" if set(ACCOUNT_FIELDS) <= set(source.absent) else ""
        said.append(f"The source tells no {what or ', '.join(source.absent)}.")
    if mix.hard_negatives:
        said.append(
            "Hard negatives make ordinary payments in the mix unlike traffic: only calibration mends the scores."
        )
    if reasons[LEFT_OUT]:
        said.append("Some typologies are in the test only: figures over all are not those of a usual split.")
    return said
