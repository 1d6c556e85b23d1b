"""The engine's promises: only the past counts, however the stream is cut, whoever the accounts are."""

from __future__ import annotations

from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from payment_histories import Payment, histories, history, payment, table, transaction

from riskdistill.errors import StateError, TransactionError
from riskdistill.features import Encoded, FeatureEngine, FeatureSpec
from riskdistill.features.record import RING

SMALL = FeatureSpec(events_per_party=4)
NAMES = SMALL.names


def replayed(rows: list[Payment]) -> Encoded:
    return FeatureEngine(SMALL).replay(table(rows))


def same(left: Encoded, right: Encoded) -> bool:
    """Whether two encodings are equal to the bit."""
    return (left.context.tobytes(), left.events.tobytes()) == (right.context.tobytes(), right.events.tobytes())


def busy(count: int, seed: int = 0) -> list[Payment]:
    return history(np.random.default_rng(seed), count, steps=(0.0, 60.0, 5_000.0))


# ---- only what came before


@settings(max_examples=40)
@given(histories(late=0.2), st.data())
def test_later_rows_never_change_earlier_features(rows: list[Payment], data: st.DataObject) -> None:
    kept = data.draw(st.integers(0, len(rows)))
    future = data.draw(histories())
    before = replayed(rows).take(slice(0, kept))
    assert same(before, replayed(rows[:kept]))
    assert same(before, replayed(rows[:kept] + future).take(slice(0, kept)))


def test_a_row_does_not_see_itself() -> None:
    first = replayed([payment(0, 0, 1, 0)])
    values = dict(zip(NAMES, first.context[0], strict=True))
    assert values["sender_out_total_count"] == values["receiver_in_count_28d"] == values["pair_count"] == 0
    assert np.isnan(values["sender_age"])
    assert not first.events.any()


# ---- however the stream is cut


@settings(max_examples=40)
@given(histories(late=0.2), st.lists(st.integers(0, 24), max_size=3))
def test_one_replay_equals_replays_in_pieces_and_single_steps(rows: list[Payment], cuts: list[int]) -> None:
    whole = replayed(rows)
    pieces, steps = FeatureEngine(SMALL), FeatureEngine(SMALL)
    bounds = [0, *sorted(min(cut, len(rows)) for cut in cuts), len(rows)]
    cut = [pieces.replay(table(rows[start:end])) for start, end in pairwise(bounds)]
    assert same(whole, Encoded.concat(cut))
    assert same(whole, Encoded.concat([steps.observe(transaction(row)) for row in rows]))


def test_the_chunks_of_a_table_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = busy(60)
    whole = replayed(rows)
    heard: list[int] = []
    monkeypatch.setattr("riskdistill.features.engine.CHUNK", 7)
    chunked = pa.concat_tables([table(rows[:13]), table(rows[13:])])
    assert same(whole, FeatureEngine(SMALL).replay(chunked, progress=heard.append))
    assert sum(heard) == len(rows)
    assert len(heard) == 9


def test_tokens_by_mask_are_those_of_the_rows_asked_for() -> None:
    rows = busy(40)
    wanted = np.arange(40) % 3 == 0
    whole, some = replayed(rows), FeatureEngine(SMALL).replay(table(rows), tokens=wanted)
    none = FeatureEngine(SMALL).replay(table(rows), tokens=False)
    assert some.context.tobytes() == whole.context.tobytes() == none.context.tobytes()
    assert some.events.tobytes() == whole.events[wanted].tobytes()
    assert none.events.shape == (0, 8, len(SMALL.token_channels))


@settings(max_examples=40)
@given(histories(), histories(most=3))
def test_peek_tells_what_observe_would_and_changes_nothing(rows: list[Payment], others: list[Payment]) -> None:
    engine = FeatureEngine(SMALL)
    engine.replay(table(rows))
    known = len(engine)
    fresh = payment(99, 0, 1, 0, sender_account="never seen", receiver_bank="nor this")
    for row in (*others, fresh):
        asked = row | {"tx_id": "asked"}
        assert same(engine.peek(transaction(asked)), engine.peek(transaction(asked)))
    assert len(engine) == known
    untouched = FeatureEngine(SMALL)
    untouched.replay(table(rows))
    last = transaction(others[-1] | {"tx_id": "asked"})
    assert same(engine.peek(last), untouched.observe(last))
    assert same(engine.observe(last), engine_after(rows).observe(last))


def engine_after(rows: list[Payment]) -> FeatureEngine:
    engine = FeatureEngine(SMALL)
    engine.replay(table(rows))
    return engine


# ---- ids and names


@settings(max_examples=40)
@given(histories(), st.data())
def test_the_same_transaction_twice_counts_once(rows: list[Payment], data: st.DataObject) -> None:
    again = data.draw(st.sampled_from(rows))
    once, twice = engine_after(rows), engine_after(rows)
    twice.observe(transaction(again))
    asked = transaction(payment(99, 0, 1, 1e8))
    assert same(once.observe(asked), twice.observe(asked))


@settings(max_examples=40)
@given(histories())
def test_names_of_accounts_and_ids_do_not_matter(rows: list[Payment]) -> None:
    def pseudonymised(row: Payment) -> Payment:
        changed = {key: f"#{hash(value)}" for key, value in row.items() if key.endswith(("_account", "_bank"))}
        return row | changed | {"tx_id": f"other-{row['tx_id']}"}

    assert same(replayed(rows), replayed([pseudonymised(row) for row in rows]))


def test_an_account_is_known_by_its_bank_too() -> None:
    rows = [payment(0, 0, 2, 0), payment(1, 0, 1, 60)]  # two banks' accounts "a", then the first one again
    context = replayed(rows).context
    assert context[0, NAMES.index("self_transfer")] == 0
    assert np.isnan(replayed([rows[0], payment(1, 2, 1, 60)]).context[1, NAMES.index("sender_out_gap")])


def test_the_border_between_bank_and_account_matters() -> None:
    rows = [
        payment(0, 0, 1, 0, sender_bank="x", sender_account="yz"),
        payment(1, 0, 1, 60, sender_bank="xy", sender_account="z"),
    ]
    assert replayed(rows).context[1, NAMES.index("sender_out_total_count")] == 0


def test_an_account_id_of_ten_kilobytes_is_like_any_other() -> None:
    rows = busy(30)
    long = [
        {key: f"{value}" * 10_000 if key.endswith("_account") else value for key, value in row.items()}
        for row in rows
    ]
    assert replayed(long).context.tobytes() == replayed(rows).context.tobytes()


# ---- odd payments


def test_a_hub_costs_no_more_memory_and_keeps_its_totals() -> None:
    count = 5 * RING
    rows = [payment(n, 0, 1, 60.0 * n, receiver_account=f"customer {n}") for n in range(count)]
    engine = engine_after(rows)
    values = dict(zip(NAMES, engine.peek(transaction(payment(count, 0, 1, 60.0 * count))).context[0], strict=True))
    assert values["sender_out_total_count"] == count
    assert values["sender_out_count_28d"] == values["sender_out_peers_28d"] == RING
    assert len(engine) == count + 1


def test_a_self_transfer_is_both_sent_and_received() -> None:
    context = replayed([payment(0, 0, 0, 0, 70.0), payment(1, 0, 0, 60, 70.0)]).context
    values = dict(zip(NAMES, context[1], strict=True))
    assert values["self_transfer"] == 1
    assert values["sender_in_total_count"] == values["sender_out_total_count"] == 1
    assert values["upstream_sender"] == 0
    assert np.isnan(values["cycle_hops"])


def test_nothing_is_infinite_for_zero_amounts() -> None:
    rows = [payment(n, n % 3, (n + 1) % 3, 60.0 * n, 0.0) for n in range(20)]
    encoded = replayed(rows)
    assert not np.isinf(encoded.context).any()
    assert np.isfinite(encoded.events).all()


@settings(max_examples=40)
@given(histories(late=0.5))
def test_time_going_backwards_gives_no_negative_gap_or_count(rows: list[Payment]) -> None:
    encoded = replayed(rows)
    units = np.array([feature.unit for feature in SMALL.context])
    magnitudes = encoded.context[:, np.isin(units, ["seconds", "payments", "accounts", "payment pairs", "hops"])]
    assert not (magnitudes < 0).any()
    assert (encoded.events[:, :, 3:] >= 0).all()


def test_an_unknown_account_has_no_past_beside_a_known_one() -> None:
    engine = engine_after(busy(50))
    values = dict(
        zip(NAMES, engine.peek(transaction(payment(99, 0, 1, 1e7, sender_account="new"))).context[0], strict=True)
    )
    assert np.isnan(values["sender_age"])
    assert values["sender_in_total_count"] == 0
    assert values["receiver_in_total_count"] > 0


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"amount_paid": float("nan")}, "not a finite number"),
        ({"amount_received": float("inf")}, "not a finite number"),
        ({"currency_paid": "ZZZ"}, "unknown currency 'ZZZ'"),
    ],
)
def test_an_unusable_row_is_refused_whole(changes: Payment, named: str) -> None:
    rows = busy(20)
    engine = engine_after(rows)
    with pytest.raises(TransactionError, match=named):
        engine.replay(table([payment(50, 0, 1, 1e7), payment(51, 3, 2, 1e7, **changes)]))
    asked = transaction(payment(99, 0, 1, 1e8))
    assert same(engine.observe(asked), engine_after(rows).observe(asked))


def test_an_empty_table_has_no_rows() -> None:
    encoded = replayed([])
    assert len(encoded) == 0
    assert encoded.context.shape == (0, len(NAMES))


# ---- saved state


@settings(max_examples=25)
@given(rows=histories(late=0.2), future=histories(most=5))
def test_a_restored_engine_goes_on_as_if_never_stopped(
    rows: list[Payment], future: list[Payment], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("state") / "state.npz"
    engine, restored = engine_after(rows), FeatureEngine(SMALL)
    engine.save(path)
    restored.restore(path)
    assert len(restored) == len(engine)
    later = table([row | {"tx_id": f"later-{row['tx_id']}"} for row in future])
    assert same(engine.replay(later), restored.replay(later))


def test_an_empty_engine_is_saved_and_restored(tmp_path: Path) -> None:
    FeatureEngine(SMALL).save(tmp_path / "state.npz")
    engine = engine_after(busy(5))
    engine.restore(tmp_path / "state.npz")
    assert len(engine) == 0


@pytest.mark.parametrize("harm", ["absent", "empty", "cut", "flipped", "other version", "other file"])
def test_a_damaged_or_old_snapshot_is_refused_and_the_state_kept(tmp_path: Path, harm: str) -> None:
    rows, path = busy(40), tmp_path / "state.npz"
    spec = SMALL.model_copy(update={"record_version": 0}) if harm == "other version" else SMALL
    if harm != "absent":
        FeatureEngine(spec).save(path)
        written = FeatureEngine(spec)
        written.replay(table(rows))
        written.save(path)
        content = path.read_bytes()
        middle = len(content) // 2
        flipped = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
        damaged = {"empty": b"", "cut": content[:middle], "flipped": flipped, "other file": b"not a snapshot"}
        path.write_bytes(damaged.get(harm, content))
    engine = engine_after(rows)
    with pytest.raises(StateError, match="replay the history"):
        engine.restore(path)
    asked = transaction(payment(99, 0, 1, 1e8))
    assert same(engine.observe(asked), engine_after(rows).observe(asked))


# ---- tokens


def test_tokens_are_newest_first_sender_then_receiver_and_padded() -> None:
    rows = [payment(n, 0, 1, 3_600.0 * n, 10.0 * (n + 1)) for n in range(2)]
    rows += [payment(2, 2, 1, 9_000.0, 500.0), payment(3, 0, 1, 10_000.0, 40.0)]
    tokens = replayed(rows).events[3]
    channel = {name: tokens[:, index] for index, name in enumerate(SMALL.token_channels)}
    usd = np.expm1(channel["log_usd"])
    np.testing.assert_allclose(usd, [20, 10, 0, 0, 500, 20, 10, 0], rtol=1e-5)
    np.testing.assert_array_equal(channel["flow"], [-1, -1, 0, 0, 1, 1, 1, 0])
    np.testing.assert_array_equal(channel["is_other_party"], [1, 1, 0, 0, 0, 1, 1, 0])
    np.testing.assert_array_equal(channel["first_contact"], [0, 1, 0, 0, 1, 0, 1, 0])
    ages = np.expm1(channel["log_age"])
    np.testing.assert_allclose(ages, [6_400, 10_000, 0, 0, 1_000, 6_400, 10_000, 0], rtol=1e-4)
    gaps = np.expm1(channel["log_gap"])
    np.testing.assert_allclose(gaps, [3_600, 0, 0, 0, 5_400, 3_600, 0, 0], rtol=1e-4)
    assert not tokens[[2, 3, 7]].any()


def test_tokens_beyond_the_ring_are_the_last_events() -> None:
    rows = [payment(n, 0, 1, 60.0 * n, float(n + 1)) for n in range(RING + 10)]
    usd = np.expm1(replayed(rows).events[-1, :4, 1])
    np.testing.assert_allclose(usd, [RING + 9, RING + 8, RING + 7, RING + 6], rtol=1e-4)


def test_more_tokens_only_add_older_ones() -> None:
    rows = busy(30)
    few, many = replayed(rows), FeatureEngine(FeatureSpec(events_per_party=9)).replay(table(rows))
    assert few.context.tobytes() == many.context.tobytes()
    np.testing.assert_array_equal(few.events[:, :4], many.events[:, :4])
    np.testing.assert_array_equal(few.events[:, 4:], many.events[:, 9:13])


def test_late_stamps_are_kept_on_the_calendar_of_the_row_itself() -> None:
    rows = [
        payment(0, 0, 1, 0),
        payment(1, 0, 1, 0) | {"timestamp": payment(1, 0, 1, 0)["timestamp"] - timedelta(hours=5)},
    ]
    assert replayed(rows).context[1, NAMES.index("hour")] == 17.0


# ---- the container and the specification


def test_encoded_rows_are_taken_and_joined() -> None:
    encoded = replayed(busy(10))
    parts = [encoded.take(slice(0, 4)), encoded.take(slice(4, 4)), encoded.take(np.arange(4, 10))]
    assert [len(part) for part in parts] == [4, 0, 6]
    assert same(Encoded.concat(parts), encoded)
    assert same(encoded.take(np.arange(10)[::-1].copy()).take(np.arange(10)[::-1].copy()), encoded)
    assert same(encoded.take(np.arange(10) < 3), encoded.take(slice(0, 3)))


def test_groups_hold_every_column_once() -> None:
    columns = [column for members in SMALL.groups.values() for column in members]
    assert sorted(columns) == list(range(len(NAMES)))


def test_the_fingerprint_tells_specifications_apart_and_survives_json() -> None:
    assert SMALL.fingerprint != FeatureSpec().fingerprint
    assert FeatureSpec.model_validate_json(SMALL.model_dump_json()).fingerprint == SMALL.fingerprint
    assert SMALL.fingerprint != SMALL.model_copy(update={"record_version": 99}).fingerprint


# ---- a step that is taken back


@settings(max_examples=30)
@given(histories(late=0.2), st.data())
def test_observing_applies_as_observe_does_unless_its_block_fails(rows: list[Payment], data: st.DataObject) -> None:
    plain, guarded = FeatureEngine(SMALL), FeatureEngine(SMALL)
    for row in rows:
        if data.draw(st.booleans()):
            with pytest.raises(ZeroDivisionError), guarded.observing(transaction(row)):
                raise ZeroDivisionError
        with guarded.observing(transaction(row)) as encoded:
            assert same(encoded, guarded.peek(transaction(row)))
        assert same(encoded, plain.observe(transaction(row)))
    assert len(plain) == len(guarded)
