"""The card tells the truth: every figure is counted here again, another way."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import tiny

from riskdistill.augmentation import PERTURBATIONS
from riskdistill.config import ExperimentConfig
from riskdistill.data.schema import LABELS, NORMAL, TRANSACTIONS
from riskdistill.dataset import Dataset, Tables, build_dataset
from riskdistill.dataset.card import DatasetCard, describe
from riskdistill.dataset.clock import DAY, microseconds, on_the_clock
from riskdistill.dataset.identity import table_digest

SPLIT = {"purge_days": 1.0}


@pytest.fixture(scope="module")
def config() -> ExperimentConfig:
    return ExperimentConfig.model_validate({**tiny.CONFIG.model_dump(), "split": SPLIT})


@pytest.fixture(scope="module")
def tables(tiny_tables: tuple[pa.Table, pa.Table]) -> Tables:
    """With a truth that knows of more laundering than was recorded, and of records that are wrong."""
    transactions, labels = tiny_tables
    found = labels["is_laundering"].to_numpy()
    rng = np.random.default_rng(3)
    bad = np.where(found, rng.random(len(found)) < 0.9, rng.random(len(found)) < 0.02)
    names = np.where(bad & ~found, "hidden", labels["typology"].to_numpy(zero_copy_only=False))
    names = np.where(bad, names, NORMAL)
    truth = labels.set_column(1, LABELS.field(1), pa.array(bad))
    return Tables(transactions, labels, truth.set_column(2, LABELS.field(2), pa.array(names.tolist())))


@pytest.fixture(scope="module")
def dataset(tables: Tables, config: ExperimentConfig) -> Dataset:
    return build_dataset(tables.transactions, tables.labels, config, truth=tables.truth)


@pytest.fixture(scope="module")
def card(dataset: Dataset, tables: Tables, config: ExperimentConfig) -> DatasetCard:
    return describe(dataset, tables, config, "make it so")


def test_every_row_is_in_one_place(card: DatasetCard, tables: Tables) -> None:
    counted = sum(part.rows for part in card.parts.values()) + sum(card.in_no_part.values())
    assert counted == tables.transactions.num_rows == card.source.rows
    assert card.in_no_part["purged"] > 0


def test_parts_are_those_of_the_dataset(card: DatasetCard, dataset: Dataset, tables: Tables) -> None:
    assert tables.truth is not None
    label = {
        "train": dataset.train_label,
        "validation": dataset.validation.label,
        "test": dataset.test.label,
    }
    names = {"validation": dataset.validation.typology, "test": dataset.test.typology}
    for name, part in card.parts.items():
        ids = set(np.array(tables.transactions["tx_id"].to_pylist())[dataset.parts == name])
        rows = [each for each in tables.labels.to_pylist() if each["tx_id"] in ids]
        true = [each for each in tables.truth.to_pylist() if each["tx_id"] in ids]
        assert (part.rows, part.laundering) == (len(label[name]), label[name].sum())
        assert part.prevalence == pytest.approx(label[name].mean())
        assert part.recorded == sum(each["is_laundering"] for each in rows)
        assert part.true == sum(each["is_laundering"] for each in true)
        assert part.found == len(
            {each["tx_id"] for each in rows if each["is_laundering"]}
            & {each["tx_id"] for each in true if each["is_laundering"]}
        )
        judged = true if name == "test" else [r for r in rows if r["known_at"] <= dataset.built_at]
        assert part.schemes == len({r["scheme_id"] for r in judged if r["is_laundering"]} - {None})
        if name in names:
            assert part.typologies == Counter(names[name][label[name]])
        stamps = [each["timestamp"] for each in tables.transactions.to_pylist() if each["tx_id"] in ids]
        assert (part.start, part.end) == (stamps[0], stamps[-1])
    assert card.parts["train"].recorded >= card.parts["train"].laundering
    assert card.parts["test"].typologies["hidden"] > 0
    assert card.parts["test"].start - card.parts["validation"].end > timedelta(days=SPLIT["purge_days"])


def test_the_mix_is_counted(card: DatasetCard, dataset: Dataset, config: ExperimentConfig) -> None:
    assert sum(card.mix.drawn.values()) == len(dataset.train.draw)
    assert sum(card.mix.different.values()) == len(dataset.train.label)
    share = card.mix.drawn["normal"] / sum(card.mix.drawn.values())
    assert share == pytest.approx(config.mix.normal, abs=0.01)
    assert card.mix.mixed_prevalence == dataset.mixed_prevalence
    assert sum(made.rows for made in card.synthetic) == dataset.synthetic.num_rows
    assert {made.name for made in card.synthetic} == {*(p.name for p in config.perturbations), "graft"}
    promised = {made.name: (made.settings, made.label, set(made.conserves)) for made in card.synthetic}
    for each in config.perturbations:
        kind = PERTURBATIONS[each.name]
        settings, label, conserves = promised[each.name]
        assert (label, conserves) == (kind.effect, kind.conserves)
        assert set(settings) == set(kind.model_fields) - {"name"}  # bounds that nobody set are bounds too
        assert settings["share"] == each.share


def test_the_source_is_named_by_its_content(card: DatasetCard, tables: Tables) -> None:
    assert card.source.transactions == table_digest(tables.transactions, TRANSACTIONS)
    assert card.source.labels == table_digest(tables.labels, LABELS) != card.source.truth
    assert card.fingerprint


def test_delays_are_of_what_was_recorded(card: DatasetCard, tables: Tables, dataset: Dataset) -> None:
    bad = (dataset.parts == "train") & tables.labels["is_laundering"].to_numpy()
    days = (microseconds(tables.labels, "known_at") - microseconds(tables.transactions))[bad] / DAY
    assert card.delays is not None
    assert card.delays.median == pytest.approx(np.median(days))
    assert card.delays.nine_tenths == pytest.approx(np.quantile(days, 0.9))
    assert card.delays.not_known_yet == bad.sum() - dataset.train_label.sum()


def test_a_card_survives_its_file_and_its_page_tells_it(card: DatasetCard) -> None:
    assert DatasetCard.model_validate_json(card.model_dump_json()) == card
    page = card.markdown()
    for told in (card.fingerprint, card.command, card.source.transactions, *card.limits, *card.parts):
        assert told in page
    for part in card.parts.values():
        assert f"{part.rows:,} | {part.laundering:,} | {100 * part.prevalence:.3f} %" in page


def test_what_is_on_record_is_held_to_the_truth(card: DatasetCard, tables: Tables) -> None:
    assert tables.truth is not None
    assert card.record is not None
    both = zip(tables.truth["is_laundering"].to_pylist(), tables.labels["is_laundering"].to_pylist(), strict=True)
    counted = Counter(both)
    assert card.record.laundering == counted[True, True] + counted[True, False]
    assert (card.record.on_record, card.record.wrong) == (counted[True, True], counted[False, True])
    assert card.record.wrong > 0
    assert f"{card.parts['test'].found} of them on record" in card.markdown()


def limits(tables: Tables, **sections: Any) -> str:
    config = ExperimentConfig.model_validate({**tiny.CONFIG.model_dump(), **sections})
    dataset = build_dataset(tables.transactions, tables.labels, config, truth=tables.truth)
    return " ".join(describe(dataset, tables, config, "").limits)


def test_few_or_too_many_positives_and_young_labels_are_told(tables: Tables, card: DatasetCard) -> None:
    said = " ".join(card.limits)
    for name, part in card.parts.items():
        assert (f"Only {part.laundering} laundering transactions in {name}" in said) == (part.laundering < 100)
        assert (f"% of {name} is laundering" in said) == (part.prevalence > 0.05)
    assert min(part.laundering for part in card.parts.values()) < 100
    young = card.in_no_part["immature"]
    assert young > 0
    assert f"Validation ends {young:,} rows early" in said
    flags = np.arange(tables.transactions.num_rows) % 4 == 0
    crowd = tables.labels.set_column(1, LABELS.field(1), pa.array(flags))
    crowd = crowd.set_column(2, LABELS.field(2), pa.array(np.where(flags, "cycle", NORMAL).tolist()))
    crowd = crowd.set_column(4, LABELS.field(4), tables.transactions["timestamp"])
    many = limits(Tables(tables.transactions, crowd))
    for told in ("25.0 % of test is laundering", "% of train is laundering"):
        assert told in many
    assert "Only" not in many
    assert "rows early" not in many


def test_limits_are_told_where_they_hold_and_not_elsewhere(tables: Tables, card: DatasetCard) -> None:
    usual = " ".join(card.limits)
    assert "Judged on the truth" in usual
    days = on_the_clock(tables.transactions, DAY)
    at_once = tables.labels.set_column(4, LABELS.field(4), days["timestamp"])
    for name in ("sender_balance", "receiver_balance"):
        at = TRANSACTIONS.get_field_index(name)
        days = days.set_column(at, TRANSACTIONS.field(at), pa.nulls(len(days), pa.float64()))
    name = next(each for each in card.parts["test"].typologies if each not in (NORMAL, "hidden"))
    poor = limits(
        Tables(days, at_once),
        split={"leave_out": (name,)},
        mix={**tiny.CONFIG.mix.model_dump(), "hard_negatives": 0.5},
    )
    for told in (
        "Stamps are whole days",
        "Judged on what was recorded",
        "no delay is felt",
        "sender_balance, receiver_balance",
        "Hard negatives",
        "Some typologies are in the test only",
    ):
        assert told in poor
        assert told not in usual
