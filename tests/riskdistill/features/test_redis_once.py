"""Each transaction is observed once, whoever asks, and what was left undone is found."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import redis
from payment_histories import payment, transaction
from redis_records import URL
from small_engines import SMALL, busy, engine_after, same
from small_engines import encoded as replayed

from riskdistill.errors import ConfigError, StateError, UnavailableError
from riskdistill.features import Encoded, FeatureSpec
from riskdistill.features.engine import FeatureEngine
from riskdistill.features.redis_once import Observation, OnceEngine

WRITERS = 3


def take(_new: object, _rows: Encoded) -> None:
    """Accepts whatever comes."""


def nothing() -> tuple[FeatureEngine, int]:
    return FeatureEngine(SMALL), 0


@pytest.fixture
def once(prefix: str) -> Iterator[Callable[..., OnceEngine]]:
    """Engines of one prefix that holds an empty state."""
    made: list[OnceEngine] = []

    def new(spec: FeatureSpec = SMALL, deadline: float = 2.0) -> OnceEngine:
        made.append(OnceEngine(URL, spec, prefix=prefix, deadline=deadline))
        return made[-1]

    new().establish(nothing, 0.0)
    yield new
    for engine in made:
        engine.close()


def rows_of(found: list[Observation]) -> Encoded:
    return Encoded.concat([one.encoded for one in found if one.encoded is not None])


def test_the_features_are_those_of_the_engine_in_memory_and_places_go_up(once: Callable[..., OnceEngine]) -> None:
    rows, engine = busy(40), once()
    found = engine.observe_once([transaction(row) for row in rows[:1]], take)
    for start in range(1, 40, 13):
        found += engine.observe_once([transaction(row) for row in rows[start : start + 13]], take)
    assert same(rows_of(found), replayed(rows))
    assert [one.place for one in found] == list(range(1, 41))
    assert engine.accounts() == len(engine_after(rows))


def test_who_asks_again_gets_what_was_seen_first_and_changes_nothing(once: Callable[..., OnceEngine]) -> None:
    rows, engine, other = busy(10), once(), once()
    asked = [transaction(row) for row in rows]
    first = engine.observe_once(asked, take)
    changed = asked[3].model_copy(update={"amount_paid": 1.0})
    again = other.observe_once([*asked[:3], changed], take)
    assert same(rows_of(again), rows_of(first[:4]))
    assert [one.place for one in again] == [1, 2, 3, 4]
    assert again[3].transaction == asked[3]  # not the body that came later
    assert other.place() == 10


def test_what_is_decided_is_to_be_found_in_the_log(once: Callable[..., OnceEngine]) -> None:
    asked, engine = [transaction(row) for row in busy(3)], once()
    engine.observe_once(asked, take)
    engine.settled([asked[1].tx_id])
    assert [one.place for one in once().observe_once(asked, take)] == [1, 0, 3]


def test_what_is_not_accepted_is_not_applied(once: Callable[..., OnceEngine]) -> None:
    def refuse(_new: object, _rows: Encoded) -> None:
        raise ValueError("no score")

    asked, engine = [transaction(row) for row in busy(3)], once()
    with pytest.raises(ValueError, match="no score"):
        engine.observe_once(asked, refuse)
    assert (engine.place(), engine.accounts(), engine.orphans(-1, 9)) == (0, 0, [])


def test_what_a_writer_left_is_found_by_another_until_it_is_settled(once: Callable[..., OnceEngine]) -> None:
    asked, engine = [transaction(row) for row in busy(5)], once()
    first = engine.observe_once(asked, take)
    engine.settled([asked[0].tx_id])
    assert engine.orphans(3_600, 9) == []
    found = once().orphans(-1, 9)
    assert {one.place: one.transaction for one in found} == {one.place: one.transaction for one in first[1:]}
    assert same(rows_of(sorted(found, key=lambda one: one.place)), rows_of(first[1:]))
    engine.settled([one.tx_id for one in asked])
    assert engine.orphans(-1, 9) == []


def test_writers_that_ask_for_the_same_at_once_see_the_same_and_equal_a_serial_replay(
    once: Callable[..., OnceEngine],
) -> None:
    rows = busy(60)
    engines, together = [once(deadline=60.0) for _ in range(WRITERS)], threading.Barrier(WRITERS)

    def write(number: int) -> list[Observation]:
        together.wait()
        found: list[Observation] = []
        for start in range(0, 60, 4):
            found += engines[number].observe_once([transaction(row) for row in rows[start : start + 4]], take)
        return found

    with ThreadPoolExecutor(WRITERS) as pool:
        found = list(pool.map(write, range(WRITERS)))
    assert [[one.place for one in each] for each in found] == [[one.place for one in found[0]]] * WRITERS
    in_order = sorted(found[0], key=lambda one: one.place)
    assert [one.place for one in in_order] == list(range(1, 61))
    order = {f"{row['tx_id']}": row for row in rows}
    serial = replayed([order[one.transaction.tx_id] for one in in_order if one.transaction is not None])
    for each in found:
        assert same(rows_of(sorted(each, key=lambda one: one.place)), serial)


def test_a_state_that_is_built_anew_goes_on_from_the_log_and_forgets_what_was_open(
    once: Callable[..., OnceEngine],
) -> None:
    rows, engine = busy(30), once()
    engine.observe_once([transaction(row) for row in rows[:20]], take)
    other = once()
    other.establish(lambda: (engine_after(rows[:10]), 10), 0.0)
    engine.reset()
    assert engine.orphans(-1, 9) == []
    found = engine.observe_once([transaction(row) for row in rows[10:]], take)
    assert same(rows_of(found), replayed(rows).take(slice(10, None)))
    assert found[0].place == 21  # places are never given twice


def test_a_state_that_is_not_there_is_refused_and_one_that_went_back_too(
    server: redis.Redis, prefix: str, once: Callable[..., OnceEngine]
) -> None:
    engine, asked = once(), transaction(payment(0, 0, 1, 0))
    engine.observe_once([asked], take)
    server.delete(*server.scan_iter(f"{prefix}:*"))
    for each in (engine, once()):
        with pytest.raises(StateError):
            each.observe_once([transaction(payment(1, 0, 1, 60))], take)
    assert once().place() == -1
    engine.establish(lambda: (engine_after([payment(0, 0, 1, 0)]), 1), 0.0)
    (found,) = engine.observe_once([transaction(payment(1, 0, 1, 60))], take)
    assert found.place == 2


def test_what_was_seen_for_other_features_is_not_taken(once: Callable[..., OnceEngine]) -> None:
    engine, other = once(), once(FeatureSpec(events_per_party=3))
    asked = transaction(payment(0, 0, 1, 0))
    engine.observe_once([asked], take)
    with pytest.raises(UnavailableError, match="another feature specification"):
        other.observe_once([asked], take)
    assert other.orphans(-1, 9) == []


def test_writers_with_another_pseudonym_key_are_refused(once: Callable[..., OnceEngine]) -> None:
    once().require_key("a" * 32)
    once().require_key("a" * 32)
    with pytest.raises(ConfigError, match="another pseudonym key"):
        once().require_key("b" * 32)


def test_only_one_writer_builds_at_a_time(once: Callable[..., OnceEngine]) -> None:
    first, second, entered = once(), once(), threading.Event()

    def wait_for_turn() -> None:
        with second.building():
            entered.set()

    with ThreadPoolExecutor(1) as pool:
        with first.building():
            waiting = pool.submit(wait_for_turn)
            assert not entered.wait(0.05)
        waiting.result(timeout=5)
    assert entered.is_set()
