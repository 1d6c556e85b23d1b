"""Account state in Redis: the numbers of the engine in memory, whoever else writes."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import redis
from hypothesis import given, settings
from hypothesis import strategies as st
from payment_histories import Payment, histories, payment, transaction
from redis_records import URL, after_page, in_memory, interfere, saved, stored
from small_engines import SMALL, busy, same
from small_engines import encoded as replayed

from riskdistill.errors import StateError, UnavailableError
from riskdistill.features import Encoded, redis_state
from riskdistill.features.redis_state import RedisFeatureEngine

WRITERS = 4


def test_the_features_and_records_are_those_of_the_engine_in_memory(
    server: redis.Redis, prefixes: Callable[[], str], tmp_path: Path
) -> None:
    @settings(max_examples=25)
    @given(histories(late=0.2), st.lists(st.integers(1, 8), max_size=3))
    def check(rows: list[Payment], batches: list[int]) -> None:
        prefix, expected = prefixes(), replayed(rows)
        engine, start = RedisFeatureEngine(URL, SMALL, prefix=prefix), 0
        for size in [*batches, *[1] * len(rows)]:
            asked = [transaction(row) for row in rows[start : start + size]]
            part = slice(start, start + len(asked))
            if len(asked) == 1:
                assert same(engine.peek(asked[0]), expected.take(part))
            assert same(engine.observe_many(asked), expected.take(part))
            start += len(asked)
        assert stored(server, prefix) == in_memory(rows, tmp_path / "records")
        assert len(engine) == len(stored(server, prefix))
        engine.close()

    check()


def test_a_transaction_that_comes_twice_counts_once(
    server: redis.Redis, prefix: str, new_engine: Callable[..., RedisFeatureEngine]
) -> None:
    rows, engine = busy(20), new_engine()
    engine.observe_many([transaction(row) for row in rows])
    before = stored(server, prefix)
    other = new_engine()
    other.observe_many([transaction(row) for row in rows[-5:]])
    other.observe(transaction(rows[-1]))
    assert stored(server, prefix) == before
    assert other.sequence == 3


def test_peeking_changes_nothing(
    server: redis.Redis, prefix: str, new_engine: Callable[..., RedisFeatureEngine]
) -> None:
    engine = new_engine()
    first = engine.peek(transaction(payment(0, 0, 1, 0)))
    assert same(first, replayed([payment(0, 0, 1, 0)]))
    assert list(server.scan_iter(f"{prefix}:*")) == []
    assert (len(engine), engine.sequence) == (0, 0)


def test_no_transactions_are_no_step(server: redis.Redis, prefix: str, new_engine: Callable[..., Any]) -> None:
    assert len(new_engine().observe_many([])) == 0
    assert list(server.scan_iter(f"{prefix}:*")) == []


def test_another_client_goes_on_where_the_first_ended(new_engine: Callable[..., RedisFeatureEngine]) -> None:
    rows = busy(40)
    first = new_engine()
    before = first.observe_many([transaction(row) for row in rows[:25]])
    first.close()
    after = new_engine().observe_many([transaction(row) for row in rows[25:]])
    assert same(Encoded.concat([before, after]), replayed(rows))


def test_an_idle_account_is_as_new(new_engine: Callable[..., RedisFeatureEngine]) -> None:
    rows = [payment(0, 0, 1, 0), payment(1, 0, 1, 1_001 * 86_400.0), payment(2, 1, 0, 1_002 * 86_400.0)]
    engine = new_engine()
    assert same(Encoded.concat([engine.observe(transaction(row)) for row in rows]), replayed(rows))


# ---- several writers


@pytest.mark.parametrize("batch", [1, 7])
def test_concurrent_writers_lose_nothing_and_equal_the_replay_in_the_order_of_their_commits(
    server: redis.Redis, prefix: str, new_engine: Callable[..., RedisFeatureEngine], tmp_path: Path, batch: int
) -> None:
    rows = busy(WRITERS * 70)
    engines = [new_engine(deadline=60.0) for _ in range(WRITERS)]
    together = threading.Barrier(WRITERS)

    def write(number: int) -> list[tuple[int, list[Payment], Encoded]]:
        engine, done = engines[number], []
        together.wait()
        mine = rows[number::WRITERS]
        for start in range(0, len(mine), batch):
            part = mine[start : start + batch]
            encoded = engine.observe_many([transaction(row) for row in part])
            done.append((engine.sequence, part, encoded))
        return done

    with ThreadPoolExecutor(WRITERS) as pool:
        done = [step for steps in pool.map(write, range(WRITERS)) for step in steps]
    done.sort(key=lambda step: step[0])
    assert [step[0] for step in done] == list(range(1, len(done) + 1))
    order = [row for _, part, _ in done for row in part]
    assert same(Encoded.concat([encoded for _, _, encoded in done]), replayed(order))
    assert stored(server, prefix) == in_memory(order, tmp_path / "records")
    assert sum(engine.conflicts for engine in engines) > 0


@pytest.mark.parametrize("known", [True, False])
def test_a_step_that_another_writer_overtook_is_computed_again(
    monkeypatch: pytest.MonkeyPatch, new_engine: Callable[..., RedisFeatureEngine], known: bool
) -> None:
    rows = busy(12) if known else []
    engine, other = new_engine(), new_engine()
    engine.observe_many([transaction(row) for row in rows])
    first, second = payment(100, 0, 1, 1e8), payment(101, 1, 2, 1e8 + 60)
    interfere(monkeypatch, lambda: other.observe(transaction(first)))
    encoded = engine.observe(transaction(second))
    assert same(encoded, replayed([*rows, first, second]).take(slice(len(rows) + 1, None)))
    assert (engine.conflicts, other.conflicts) == (1, 0)
    assert engine.sequence == other.sequence + 1


def test_writers_of_other_accounts_do_not_disturb_each_other(
    monkeypatch: pytest.MonkeyPatch, new_engine: Callable[..., RedisFeatureEngine]
) -> None:
    engine, other = new_engine(), new_engine()
    interfere(monkeypatch, lambda: other.observe(transaction(payment(0, 0, 1, 0))))
    engine.observe(transaction(payment(1, 2, 3, 0)))
    assert (engine.conflicts, engine.sequence) == (0, 2)


def test_a_step_that_is_always_overtaken_is_given_up_and_changes_nothing(
    monkeypatch: pytest.MonkeyPatch, server: redis.Redis, prefix: str, new_engine: Callable[..., RedisFeatureEngine]
) -> None:
    rows, engine, other = busy(500), new_engine(deadline=60.0), new_engine()
    others = iter(rows)
    engine._deadline = 0.05  # of the step; a server that is slow to answer is not what this is about
    interfere(monkeypatch, lambda: other.observe(transaction(next(others))), times=400)
    batch = [transaction(payment(1_000 + n, n, (n + 1) % 5, 1e8)) for n in range(5)]
    with pytest.raises(
        UnavailableError, match=r"during each of \d+ tries .*smaller batches or with a longer deadline"
    ):
        engine.observe_many(batch)
    assert server.get(f"{prefix}:sequence") == str(other.sequence).encode()
    assert engine.sequence == 0


# ---- from a backfill to live


def test_what_follows_a_seeding_is_what_follows_the_backfill(
    monkeypatch: pytest.MonkeyPatch,
    server: redis.Redis,
    prefix: str,
    new_engine: Callable[..., RedisFeatureEngine],
    tmp_path: Path,
) -> None:
    monkeypatch.setattr(redis_state, "_PAGE", 2)  # more than one piece
    rows, engine = busy(60), new_engine()
    assert engine.seed(saved(rows[:40], tmp_path, position=40)) == 40
    assert len(engine) == 5
    assert stored(server, prefix) == in_memory(rows[:40], tmp_path / "records")
    after = new_engine().observe_many([transaction(row) for row in rows[40:]])
    assert same(after, replayed(rows).take(slice(40, None)))


def test_a_state_is_replaced_only_when_told(
    server: redis.Redis, prefix: str, new_engine: Callable[..., RedisFeatureEngine], tmp_path: Path
) -> None:
    engine, path = new_engine(), saved([payment(0, 3, 4, 0)], tmp_path)
    engine.observe(transaction(payment(1, 0, 1, 0)))
    before = stored(server, prefix)
    with pytest.raises(StateError, match=r"there is a state already .*say that it is to be replaced"):
        engine.seed(path)
    assert stored(server, prefix) == before
    engine.seed(path, replace=True)
    assert stored(server, prefix) == in_memory([payment(0, 3, 4, 0)], tmp_path / "records")
    engine.observe(transaction(payment(2, 0, 1, 0)))
    assert engine.sequence == 3  # a seeding is a commit, too


def test_a_step_that_a_seeding_overtook_is_computed_again(
    monkeypatch: pytest.MonkeyPatch, new_engine: Callable[..., RedisFeatureEngine], tmp_path: Path
) -> None:
    rows, engine, other = busy(20), new_engine(), new_engine()
    engine.observe(transaction(payment(0, 0, 1, 0)))
    interfere(monkeypatch, lambda: other.seed(saved(rows, tmp_path), replace=True))
    last = payment(100, 0, 1, 1e8)
    assert same(engine.observe(transaction(last)), replayed([*rows, last]).take(slice(20, None)))


def test_a_state_that_was_not_filled_to_the_end_is_not_used(
    monkeypatch: pytest.MonkeyPatch, new_engine: Callable[..., RedisFeatureEngine], tmp_path: Path
) -> None:
    rows, engine = busy(20), new_engine()
    path = saved(rows, tmp_path)

    def fail(*_: Any, **__: Any) -> None:
        raise redis.ConnectionError("gone")

    with monkeypatch.context() as broken:
        broken.setattr(redis_state, "_PAGE", 2)
        after_page(broken, 1, fail)
        with pytest.raises(UnavailableError, match="did not answer"):
            engine.seed(path)
    asked = transaction(payment(100, 0, 1, 1e8))
    for step in (engine.observe, new_engine().observe, new_engine().peek):
        with pytest.raises(StateError, match=r"being filled, or filling it was broken off .*seed it again"):
            step(asked)
    with pytest.raises(StateError, match="there is a state already"):
        engine.seed(path)
    engine.seed(path, replace=True)
    assert same(engine.peek(asked), replayed([*rows, payment(100, 0, 1, 1e8)]).take(slice(20, None)))


@pytest.mark.parametrize("page", range(1, 7))
def test_of_two_seedings_at_once_the_later_one_is_used_and_whole(
    monkeypatch: pytest.MonkeyPatch,
    server: redis.Redis,
    prefix: str,
    new_engine: Callable[..., RedisFeatureEngine],
    tmp_path: Path,
    page: int,
) -> None:
    monkeypatch.setattr(redis_state, "_PAGE", 1)  # five accounts: five pages and the end
    early, late = tmp_path / "early", tmp_path / "late"
    for folder in (early, late):
        folder.mkdir()
    first, second = new_engine(), new_engine()
    path, other = saved(busy(20), early), saved(busy(30, seed=1), late)
    after_page(monkeypatch, page, lambda: second.seed(other, replace=True))
    if page < 6:
        with pytest.raises(StateError, match=r"another seeding .*let one writer seed, or seed again with replace"):
            first.seed(path)
    else:
        first.seed(path)
    assert stored(server, prefix) == in_memory(busy(30, seed=1), tmp_path / "records")
    assert server.get(f"{prefix}:sequence") == b"2"


def test_a_seeding_that_was_overtaken_drops_nothing_of_the_later_one(
    monkeypatch: pytest.MonkeyPatch,
    server: redis.Redis,
    prefix: str,
    new_engine: Callable[..., RedisFeatureEngine],
    tmp_path: Path,
) -> None:
    rows, engine, other = busy(20), new_engine(), new_engine()
    path = saved(rows, tmp_path)
    engine.seed(path)
    scan = redis.Redis.scan

    def overtaken(*arguments: Any, **options: Any) -> Any:
        found = scan(*arguments, **options)
        monkeypatch.setattr(redis.Redis, "scan", scan)
        other.seed(path, replace=True)
        return found

    monkeypatch.setattr(redis_state, "_PAGE", 1_000_000)  # the one walk finds a key for sure
    monkeypatch.setattr(redis.Redis, "scan", overtaken)
    with pytest.raises(StateError, match="another seeding"):
        engine.seed(path, replace=True)
    assert stored(server, prefix) == in_memory(rows, tmp_path / "records")


def test_a_step_within_a_seeding_is_refused(
    monkeypatch: pytest.MonkeyPatch, server: redis.Redis, prefix: str, new_engine: Callable[..., RedisFeatureEngine]
) -> None:
    interfere(monkeypatch, lambda: server.set(f"{prefix}:sequence", -1))
    with pytest.raises(StateError, match="being filled"):
        new_engine().observe(transaction(payment(0, 0, 1, 0)))
    assert stored(server, prefix) == {}


def test_a_snapshot_that_cannot_be_read_changes_nothing(
    server: redis.Redis, prefix: str, new_engine: Callable[..., RedisFeatureEngine], tmp_path: Path
) -> None:
    with pytest.raises(StateError, match="not a snapshot"):
        new_engine().seed(tmp_path / "absent", replace=True)
    assert list(server.scan_iter(f"{prefix}:*")) == []
