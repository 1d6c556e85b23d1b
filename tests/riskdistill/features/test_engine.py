"""The engine's promises: only the past counts, however the stream is cut, whoever the accounts are."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from payment_histories import RATES, Payment, histories, payment, table, transaction
from small_engines import NAMES, SMALL, busy, encoded, engine_after, go_on_alike, named, probe, same

from riskdistill.features import Encoded, FeatureEngine
from riskdistill.features.record import RING

# ---- only what came before


@settings(max_examples=40)
@given(histories(late=0.2, again=0.1), st.data())
def test_later_rows_never_change_earlier_features(rows: list[Payment], data: st.DataObject) -> None:
    kept = data.draw(st.integers(0, len(rows)))
    future = data.draw(histories())
    before = encoded(rows).take(slice(0, kept))
    assert same(before, encoded(rows[:kept]))
    assert same(before, encoded(rows[:kept] + future).take(slice(0, kept)))


def test_a_row_does_not_see_itself() -> None:
    first = encoded([payment(0, 0, 1, 0)])
    values = named(first)
    assert values["sender_out_total_count"] == values["receiver_in_count_28d"] == values["pair_count"] == 0
    assert np.isnan(values["sender_age"])
    assert not first.events.any()


# ---- however the stream is cut


@settings(max_examples=40)
@given(histories(late=0.2, again=0.1), st.lists(st.integers(0, 24), max_size=3), st.integers(1, 30))
def test_one_table_equals_pieces_batches_and_single_steps(
    rows: list[Payment], cuts: list[int], batch_rows: int
) -> None:
    whole = encoded(rows)
    pieces, batches, steps = FeatureEngine(SMALL), FeatureEngine(SMALL), FeatureEngine(SMALL)
    bounds = [0, *sorted(min(cut, len(rows)) for cut in cuts), len(rows)]
    assert same(whole, Encoded.concat([pieces.encode(table(rows[at:end])) for at, end in pairwise(bounds)]))
    assert same(whole, Encoded.concat(list(batches.replay(table(rows), batch_rows=batch_rows))))
    assert same(whole, Encoded.concat([steps.observe(transaction(row)) for row in rows]))
    assert len(pieces) == len(batches) == len(steps)


@settings(max_examples=20)
@given(histories(late=0.2, again=0.1), st.integers(0, 24))
def test_rates_of_the_day_count_alike_in_tables_and_single_steps(rows: list[Payment], cut: int) -> None:
    whole, mixed = FeatureEngine(SMALL, RATES), FeatureEngine(SMALL, RATES)
    mixed.advance(table(rows[:cut]))
    steps = [mixed.observe(transaction(row)) for row in rows[cut:]]
    assert same(whole.encode(table(rows)).take(slice(cut, None)), Encoded.concat([encoded([]), *steps]))


@settings(max_examples=20)
@given(histories(late=0.2, again=0.1), histories(most=5))
def test_advancing_leaves_the_engine_where_encoding_does(rows: list[Payment], future: list[Payment]) -> None:
    walked = FeatureEngine(SMALL)
    walked.encode(table(rows))
    assert go_on_alike(walked, engine_after(rows), future)


def test_a_batch_is_applied_when_it_is_taken() -> None:
    rows = busy(30)
    engine = FeatureEngine(SMALL)
    batches = engine.replay(table(rows), batch_rows=10)
    assert len(engine) == 0
    assert [len(next(batches)), len(next(batches))] == [10, 10]
    assert go_on_alike(engine, engine_after(rows[:20]), rows[20:])


def test_replay_without_tokens_has_the_same_features() -> None:
    rows = busy(30)
    bare = Encoded.concat(list(FeatureEngine(SMALL).replay(table(rows), tokens=False, batch_rows=8)))
    assert bare.context.tobytes() == encoded(rows).context.tobytes()
    assert bare.events.shape == (0, 2 * SMALL.events_per_party, len(SMALL.token_channels))


def test_the_chunks_of_a_table_do_not_matter() -> None:
    rows = busy(60)
    chunked = pa.concat_tables([table(rows[:13]), table(rows[13:])])
    assert same(encoded(rows), FeatureEngine(SMALL).encode(chunked))
    batches = FeatureEngine(SMALL).replay(chunked, batch_rows=7)
    assert same(encoded(rows), Encoded.concat(list(batches)))


def test_progress_tells_the_rows_done() -> None:
    rows = table(busy(60))
    heard: list[int] = []
    for _ in FeatureEngine(SMALL).replay(rows, batch_rows=25, progress=heard.append):
        pass
    assert heard == [25, 25, 10]
    heard.clear()
    FeatureEngine(SMALL).encode(rows, progress=heard.append)
    FeatureEngine(SMALL).advance(rows, progress=heard.append)
    assert sum(heard) == 120


def test_a_pandas_and_a_polars_frame_are_read_as_the_arrow_table() -> None:
    rows = busy(40)
    whole = encoded(rows)
    pandas_frame, polars_frame = table(rows).to_pandas(), pl.from_arrow(table(rows))
    assert same(whole, FeatureEngine(SMALL).encode(pandas_frame))
    assert same(whole, FeatureEngine(SMALL).encode(polars_frame))
    assert same(whole, Encoded.concat(list(FeatureEngine(SMALL).replay(polars_frame, batch_rows=9))))


def test_tokens_by_mask_are_those_of_the_rows_asked_for() -> None:
    rows = busy(40)
    wanted = np.arange(40) % 3 == 0
    whole, some = encoded(rows), FeatureEngine(SMALL).encode(table(rows), tokens=wanted)
    none = FeatureEngine(SMALL).encode(table(rows), tokens=False)
    assert some.context.tobytes() == whole.context.tobytes() == none.context.tobytes()
    assert some.events.tobytes() == whole.events[wanted].tobytes()
    assert none.events.shape == (0, 8, len(SMALL.token_channels))


# ---- looking without applying


@settings(max_examples=40)
@given(histories(), histories(most=3))
def test_peek_tells_what_observe_would_and_changes_nothing(rows: list[Payment], others: list[Payment]) -> None:
    engine = engine_after(rows)
    known = len(engine)
    fresh = payment(99, 0, 1, 0, sender_account="never seen", receiver_bank="nor this")
    for row in (*others, fresh):
        asked = transaction(row | {"tx_id": "asked"})
        assert same(engine.peek(asked), engine.peek(asked))
        assert same(engine.peek(asked), engine_after(rows).observe(asked))
    assert len(engine) == known
    assert go_on_alike(engine, engine_after(rows), others)


def test_peek_of_two_unknown_accounts_sees_no_past() -> None:
    engine = engine_after(busy(30))
    strangers = payment(99, 0, 1, 1e7, sender_account="x", receiver_account="y")
    assert same(engine.peek(transaction(strangers)), encoded([strangers]))


@settings(max_examples=30)
@given(histories(late=0.2, again=0.1), histories(late=0.2, again=0.1, accounts=8))
def test_preview_tells_what_encode_would_and_changes_nothing(rows: list[Payment], others: list[Payment]) -> None:
    engine = engine_after(rows)
    known = len(engine)
    asked = table([row | {"tx_id": f"asked-{row['tx_id']}"} for row in others])
    assert same(engine.preview(asked), engine.preview(asked))
    assert same(engine.preview(asked), engine_after(rows).encode(asked))
    assert len(engine) == known
    assert go_on_alike(engine, engine_after(rows), others)


def test_a_preview_of_more_accounts_than_there_is_room_for_leaves_none_behind() -> None:
    past = busy(20)
    engine = engine_after(past)
    new = [payment(n, 0, 1, 1e6 + n, receiver_account=f"new {n}") for n in range(1_500)]
    assert same(engine.preview(table(new)), engine_after(past).encode(table(new)))
    assert len(engine) == len(engine_after(past))
    assert go_on_alike(engine, engine_after(past), [*new[5:0:-1], *past])


@settings(max_examples=30)
@given(histories(late=0.2, again=0.1), st.data())
def test_observing_many_is_observing_each_in_turn_and_is_undone_if_its_block_fails(
    rows: list[Payment], data: st.DataObject
) -> None:
    plain, guarded = FeatureEngine(SMALL), FeatureEngine(SMALL)
    while rows:
        size = data.draw(st.integers(1, len(rows)))
        group, rows = [transaction(row) for row in rows[:size]], rows[size:]
        if data.draw(st.booleans()):
            known = len(guarded)
            with pytest.raises(ZeroDivisionError), guarded.observing_many(group):
                raise ZeroDivisionError
            assert len(guarded) == known
        with guarded.observing_many(group) as features:
            assert same(features, Encoded.concat([plain.observe(one) for one in group]))
    assert len(plain) == len(guarded)


# ---- ids and names


@settings(max_examples=40)
@given(histories(), st.data())
def test_the_same_transaction_twice_counts_once(rows: list[Payment], data: st.DataObject) -> None:
    again = data.draw(st.sampled_from(rows))
    once, twice = engine_after(rows), engine_after(rows)
    twice.observe(transaction(again))
    twice.advance(table([again, again]))
    assert go_on_alike(once, twice, rows)


def test_a_transaction_is_known_again_while_it_is_among_the_senders_last_events() -> None:
    first = payment(0, 0, 1, 0)
    others = [payment(number, 0, 1, 60.0 * number) for number in range(1, RING)]
    inside, beyond = engine_after([first, *others]), engine_after([first, *others, payment(RING, 0, 1, 1e4)])
    for engine, counted in ((inside, RING), (beyond, RING + 2)):
        engine.observe(transaction(first))
        assert named(probe(engine))["sender_out_total_count"] == counted


def test_a_repeated_id_to_somebody_new_pays_nobody() -> None:
    engine = engine_after([payment(0, 0, 1, 0)])
    engine.observe(transaction(payment(0, 0, 3, 60.0)))
    assert named(engine.peek(transaction(payment(1, 3, 0, 120.0))))["sender_in_total_count"] == 0


@settings(max_examples=40)
@given(histories())
def test_names_of_accounts_and_ids_do_not_matter(rows: list[Payment]) -> None:
    def pseudonymised(row: Payment) -> Payment:
        changed = {key: f"#{hash(value)}" for key, value in row.items() if key.endswith(("_account", "_bank"))}
        return row | changed | {"tx_id": f"other-{row['tx_id']}"}

    assert same(encoded(rows), encoded([pseudonymised(row) for row in rows]))


def test_an_account_is_known_by_its_bank_too() -> None:
    rows = [payment(0, 0, 2, 0), payment(1, 0, 1, 60)]  # two banks' accounts "a", then the first one again
    assert named(encoded(rows), 0)["self_transfer"] == 0
    assert np.isnan(named(encoded([rows[0], payment(1, 2, 1, 60)]))["sender_out_gap"])


def test_the_border_between_bank_and_account_matters() -> None:
    rows = [
        payment(0, 0, 1, 0, sender_bank="x", sender_account="yz"),
        payment(1, 0, 1, 60, sender_bank="xy", sender_account="z"),
    ]
    assert named(encoded(rows))["sender_out_total_count"] == 0


def test_an_unknown_account_has_no_past_beside_a_known_one() -> None:
    engine = engine_after(busy(50))
    values = named(engine.peek(transaction(payment(99, 0, 1, 1e7, sender_account="new"))))
    assert np.isnan(values["sender_age"])
    assert values["sender_in_total_count"] == 0
    assert values["receiver_in_total_count"] > 0


# ---- the container


def test_encoded_rows_are_taken_and_joined() -> None:
    whole = encoded(busy(10))
    parts = [whole.take(slice(0, 4)), whole.take(slice(4, 4)), whole.take(np.arange(4, 10))]
    assert [len(part) for part in parts] == [4, 0, 6]
    assert same(Encoded.concat(parts), whole)
    assert same(whole.take(np.arange(10)[::-1].copy()).take(np.arange(10)[::-1].copy()), whole)
    assert same(whole.take(np.arange(10) < 3), whole.take(slice(0, 3)))


def test_an_empty_table_has_no_rows() -> None:
    nothing = encoded([])
    assert nothing.context.shape == (0, len(NAMES))
    assert nothing.events.shape == (0, 2 * SMALL.events_per_party, len(SMALL.token_channels))
    assert list(FeatureEngine(SMALL).replay(table([]))) == []


@pytest.mark.parametrize("batch_rows", [0, -5])
def test_batches_without_rows_are_refused(batch_rows: int) -> None:
    engine = FeatureEngine(SMALL)
    with pytest.raises(ValueError, match="give 1 or more"):
        engine.replay(table(busy(3)), batch_rows=batch_rows)
    assert len(engine) == 0
