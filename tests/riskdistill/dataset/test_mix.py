"""The mix: shares as configured, every row learned from, and hard negatives beside known laundering."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import tiny
from hypothesis import given
from hypothesis import strategies as st

from riskdistill.config import MixConfig
from riskdistill.data.schema import NORMAL
from riskdistill.dataset import Dataset, as_known_at, build_dataset
from riskdistill.dataset.mix import beside_laundering, choose

Tables = tuple[pa.Table, pa.Table]


@pytest.mark.parametrize("mix", [(0.85, 0.10, 0.05), (0.6, 0.25, 0.15), (0.8, 0.2, 0.0)])
def test_the_mix_has_the_configured_shares(tiny_tables: Tables, mix: tuple[float, float, float]) -> None:
    normal, laundering, synthetic = mix
    wanted = {"normal": normal, "laundering": laundering, "synthetic": synthetic, "max_rows": 1_000}
    built = build_dataset(*tiny_tables, tiny.configured(mix=wanted))
    draw, label = built.train.draw, built.train.label
    real = int(built.train_label.sum()) + round(1_000 * normal)  # the real rows come first, synthetic ones after
    is_made, is_bad = draw >= real, label[draw] == 1
    counts = np.array([(~is_made & ~is_bad).sum(), (~is_made & is_bad).sum(), is_made.sum()])
    size = round(1_000 * normal) / normal
    np.testing.assert_allclose(counts, size * np.array(mix), atol=1)
    assert set(draw.tolist()) == set(range(len(label)))  # every row is learned from
    assert built.mixed_prevalence == pytest.approx(is_bad.mean())
    assert built.prevalence == pytest.approx(built.train_label.mean())


def test_laundering_rows_are_drawn_equally_often(tiny_tables: Tables) -> None:
    mix = {"normal": 0.5, "laundering": 0.4, "synthetic": 0.1, "max_rows": 2_000}
    built = build_dataset(*tiny_tables, tiny.configured(mix=mix))
    real = int(built.train_label.sum()) + 1_000
    times_drawn = np.bincount(built.train.draw)[:real][built.train.label[:real] == 1]
    assert times_drawn.sum() == 800
    assert times_drawn.max() - times_drawn.min() <= 1


def test_typologies_are_named_with_normal_first(tiny_dataset: Dataset) -> None:
    assert tiny_dataset.typologies[0] == NORMAL
    assert len(set(tiny_dataset.typologies)) == len(tiny_dataset.typologies)
    assert ((tiny_dataset.train.typology > 0) == (tiny_dataset.train.label == 1)).all()
    assert tiny_dataset.train.typology.max() < len(tiny_dataset.typologies)


def test_rows_of_one_scheme_have_one_number_and_others_another(tiny_dataset: Dataset, tiny_tables: Tables) -> None:
    known = as_known_at(tiny_tables[1], tiny_dataset.built_at)
    real = tiny_dataset.mixed_from[tiny_dataset.mixed_from >= 0]
    names = [*known["scheme_id"].take(real).to_pylist(), *tiny_dataset.synthetic["scheme_id"].to_pylist()]
    assert tiny_dataset.train.scheme is not None
    pairs = set(zip(tiny_dataset.train.scheme.tolist(), names, strict=True))
    assert len(pairs) == len({number for number, _ in pairs}) == len({name for _, name in pairs}) > 2
    assert all((number == -1) == (name is None) for number, name in pairs)
    assert (tiny_dataset.train.label[tiny_dataset.train.scheme >= 0] == 1).all()


def test_a_source_without_schemes_has_none_in_the_mix(tiny_tables: Tables) -> None:
    transactions, labels = tiny_tables
    at = labels.schema.get_field_index("scheme_id")
    unknown = labels.set_column(at, labels.schema.field(at), pa.nulls(len(labels), labels.schema.field(at).type))
    mix = {"normal": 0.85, "laundering": 0.15, "synthetic": 0.0, "max_rows": 500}  # grafts would be schemes
    assert build_dataset(transactions, unknown, tiny.configured(mix=mix)).train.scheme is None


@pytest.mark.parametrize("count", [0, 200, 100_000])
def test_unlabelled_rows_stand_beside_the_mix_and_tell_no_label(tiny_tables: Tables, count: int) -> None:
    mix = {**tiny.CONFIG.mix.model_dump(), "max_rows": 500}
    plain, more = (
        build_dataset(*tiny_tables, tiny.configured(mix={**mix, "unlabelled": rows})) for rows in (0, count)
    )
    untold = more.train.unlabelled
    assert len(untold) == min(count, len(plain.train_label) - int((plain.mixed_from >= 0).sum()))
    assert np.isnan(more.train.label[untold]).all()
    assert (more.train.typology[untold] == -1).all()
    assert set(more.train.draw.tolist()).isdisjoint(untold.tolist())
    assert not more.train_label[more.mixed_from[untold]].any()  # all that is known to be laundering is in the mix
    np.testing.assert_array_equal(more.train.encoded.context[untold], more.train_context[more.mixed_from[untold]])
    for one in (more.mixed_prevalence - plain.mixed_prevalence, len(more.train.draw) - len(plain.train.draw)):
        assert one == 0


def test_reviewed_rows_are_those_whose_label_came_after_the_payment(tiny_tables: Tables) -> None:
    built = build_dataset(*tiny_tables, tiny.configured())
    transactions, labels = tiny_tables
    looked_at = pc.and_(
        pc.greater(labels["known_at"], transactions["timestamp"]),
        pc.less_equal(labels["known_at"], pa.scalar(built.built_at, labels["known_at"].type)),
    ).to_numpy()
    real = built.mixed_from >= 0
    assert set(built.train.reviewed) == set(np.flatnonzero(looked_at[built.mixed_from] & real))
    assert 0 < len(built.train.reviewed) < real.sum()


@given(
    rows=st.lists(st.sampled_from(["normal", "hard", "laundering"]), min_size=1, max_size=60),
    share=st.floats(0, 1),
    most=st.integers(1, 80),
)
def test_hard_negatives_are_their_share_as_far_as_there_are_so_many(
    rows: list[str], share: float, most: int
) -> None:
    kinds = np.array(rows)
    label, hard = kinds == "laundering", kinds == "hard"
    mix = MixConfig(max_rows=most, hard_negatives=share)
    chosen = choose(label, hard, mix, np.random.default_rng(0))
    count = min(int((~label).sum()), round(mix.normal * most))
    assert chosen[label].all()
    assert chosen[~label].sum() == count
    assert chosen[hard].sum() >= min(hard.sum(), round(share * count))
    if share == 1:
        assert chosen[hard].sum() == min(hard.sum(), count)


def test_hard_rows_share_an_account_that_launders_more_than_others(tiny_tables: Tables) -> None:
    transactions, labels = tiny_tables
    label = labels["is_laundering"].to_numpy()
    hard = beside_laundering(transactions, label)
    accounts = [
        pc.binary_join_element_wise(transactions[f"{side}_bank"], transactions[f"{side}_account"], "/").to_pylist()
        for side in ("sender", "receiver")
    ]
    told = pd.DataFrame({"name": [*accounts[0], *accounts[1]], "bad": [*label, *label]})
    share = told.groupby("name")["bad"].mean()
    launderers = set(share[share > label.mean()].index)
    rows = zip(*accounts, label, strict=True)
    expected = [not bad and bool({one, other} & launderers) for one, other, bad in rows]
    assert hard.tolist() == expected
    assert 0 < hard.sum() < len(hard) / 2


def test_hard_negatives_come_into_the_mix_by_what_is_known_of_training_alone(tiny_tables: Tables) -> None:
    plain, hard = (
        build_dataset(*tiny_tables, tiny.configured(mix={"max_rows": 500, "hard_negatives": share}))
        for share in (0.0, 0.5)
    )
    first = len(plain.train_label)
    near = beside_laundering(tiny_tables[0].slice(0, first), plain.train_label)
    places = {row.tobytes() for row in plain.train_context[near]}
    normal = hard.train.label == 0
    found = sum(row.tobytes() in places for row in hard.train.encoded.context[normal])
    assert found >= min(near.sum(), round(0.5 * 0.85 * 500))
    assert normal.sum() == (plain.train.label == 0).sum()
    np.testing.assert_array_equal(hard.train_context, plain.train_context)
    assert hard.prevalence == plain.prevalence
