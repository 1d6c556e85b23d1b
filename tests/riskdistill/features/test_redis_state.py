"""Account state in Redis: the numbers of the engine in memory, whoever else writes and whatever breaks.

These tests talk to a real Redis on this machine, database 15, each under a prefix of its own that it removes.
"""

from __future__ import annotations

import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import redis
from hypothesis import given, settings
from hypothesis import strategies as st
from payment_histories import Payment, histories, history, payment, table, transaction

from riskdistill.errors import ConfigError, StateError, UnavailableError
from riskdistill.features import Encoded, FeatureEngine, FeatureSpec, redis_state, snapshot
from riskdistill.features.record import ACCOUNT, RECORD_VERSION
from riskdistill.features.redis_state import RedisFeatureEngine

URL = "redis://127.0.0.1:6379/15"
SMALL = FeatureSpec(events_per_party=4)
WRITERS = 4


@pytest.fixture(scope="module")
def server() -> Iterator[redis.Redis]:
    client = redis.Redis.from_url(URL, socket_connect_timeout=1)
    try:
        client.ping()
    except redis.ConnectionError as error:
        pytest.skip(f"no Redis answers at {URL}: {error}")
    yield client
    client.close()


@pytest.fixture
def prefixes(server: redis.Redis) -> Iterator[Callable[[], str]]:
    """New prefixes, each of an empty state; all are removed in the end."""
    made: list[str] = []

    def new() -> str:
        made.append(f"test-{uuid.uuid4().hex}")
        return made[-1]

    yield new
    for prefix in made:
        if names := list(server.scan_iter(f"{prefix}:*", count=1_000)):
            server.delete(*names)


@pytest.fixture
def prefix(prefixes: Callable[[], str]) -> str:
    return prefixes()


@pytest.fixture
def new_engine(prefix: str) -> Iterator[Callable[..., RedisFeatureEngine]]:
    """Engines of one prefix."""
    made: list[RedisFeatureEngine] = []

    def new(**options: Any) -> RedisFeatureEngine:
        made.append(RedisFeatureEngine(URL, SMALL, prefix=prefix, **options))
        return made[-1]

    yield new
    for engine in made:
        engine.close()


def same(left: Encoded, right: Encoded) -> bool:
    """Whether two encodings are equal to the bit."""
    return (left.context.tobytes(), left.events.tobytes()) == (right.context.tobytes(), right.events.tobytes())


def busy(count: int, seed: int = 0) -> list[Payment]:
    return history(np.random.default_rng(seed), count, steps=(0.0, 60.0, 5_000.0))


def replayed(rows: list[Payment]) -> Encoded:
    return FeatureEngine(SMALL).encode(table(rows))


def stored(server: redis.Redis, prefix: str) -> dict[int, bytes]:
    """Every record under a prefix, by account key."""
    names = list(server.scan_iter(f"{prefix}:account:*", count=1_000))
    return {int(name.rpartition(b":")[2], 16): bytes(server.get(name))[8:] for name in names}


def in_memory(rows: list[Payment], path: Path) -> dict[int, bytes]:
    """Every record of an engine in memory that observed `rows`, by account key."""
    engine = FeatureEngine(SMALL)
    engine.advance(table(rows))
    engine.save(path)
    records, header = snapshot.read(path)
    return {int(record["key"]): record.tobytes() for record in records[1 : header.accounts + 1]}


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


def interfere(monkeypatch: pytest.MonkeyPatch, act: Callable[[], object], times: int = 1) -> None:
    """Let `act` happen between the reading and the commit of each of the next `times` steps."""
    step = redis_state.update.replay
    left = [times]

    def interrupted(*arguments: Any) -> None:
        if left[0] > 0:
            left[0] -= 1
            monkeypatch.setattr(redis_state.update, "replay", step)
            act()
            monkeypatch.setattr(redis_state.update, "replay", interrupted)
        step(*arguments)

    monkeypatch.setattr(redis_state.update, "replay", interrupted)


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
    rows, engine, other = busy(500), new_engine(deadline=0.05), new_engine()
    others = iter(rows)
    interfere(monkeypatch, lambda: other.observe(transaction(next(others))), times=400)
    batch = [transaction(payment(1_000 + n, n, (n + 1) % 5, 1e8)) for n in range(5)]
    with pytest.raises(
        UnavailableError, match=r"during each of \d+ tries .*smaller batches or with a longer deadline"
    ):
        engine.observe_many(batch)
    assert server.get(f"{prefix}:sequence") == str(other.sequence).encode()
    assert engine.sequence == 0


# ---- Redis fails


def test_a_commit_whose_reply_was_lost_is_not_made_twice(
    monkeypatch: pytest.MonkeyPatch, server: redis.Redis, prefix: str, new_engine: Callable[..., RedisFeatureEngine]
) -> None:
    rows, engine = busy(10), new_engine()
    receive = redis.Redis.parse_response
    lost = []

    def lose_one_reply(self: Any, connection: Any, command_name: str, **options: Any) -> Any:
        reply = receive(self, connection, command_name, **options)
        if command_name == "EVALSHA" and not lost:
            lost.append(reply)
            raise redis.ConnectionError("the connection broke")
        return reply

    first = engine.observe_many([transaction(row) for row in rows[:5]])
    monkeypatch.setattr(redis.Redis, "parse_response", lose_one_reply)
    second = engine.observe_many([transaction(row) for row in rows[5:]])
    assert lost == [[2, []]]
    assert same(Encoded.concat([first, second]), replayed(rows))
    assert (engine.sequence, engine.conflicts) == (2, 0)
    assert server.get(f"{prefix}:sequence") == b"2"


def test_the_script_is_sent_again_to_a_redis_that_forgot_it(
    server: redis.Redis, new_engine: Callable[..., RedisFeatureEngine]
) -> None:
    engine, rows = new_engine(), busy(10)
    before = engine.observe_many([transaction(row) for row in rows[:5]])
    server.script_flush()
    after = engine.observe_many([transaction(row) for row in rows[5:]])
    assert same(Encoded.concat([before, after]), replayed(rows))


@pytest.mark.parametrize("moment", ["before the step", "within the step"])
def test_state_that_redis_lost_is_noticed_and_not_written_over(
    monkeypatch: pytest.MonkeyPatch,
    server: redis.Redis,
    prefix: str,
    new_engine: Callable[..., RedisFeatureEngine],
    moment: str,
) -> None:
    engine = new_engine()
    engine.observe(transaction(payment(0, 0, 1, 0)))
    lose = lambda: server.delete(*server.scan_iter(f"{prefix}:*"))  # noqa: E731
    if moment == "before the step":
        lose()
    else:
        interfere(monkeypatch, lose)
    with pytest.raises(StateError, match=r"at commit 0, but was at 1: it lost account state .*seed it again"):
        engine.observe(transaction(payment(1, 2, 3, 0)))
    assert list(server.scan_iter(f"{prefix}:*")) == []


def free_port() -> int:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return int(unused.getsockname()[1])


def test_a_redis_that_is_down_is_told_at_once_and_without_the_password() -> None:
    port = free_port()
    engine = RedisFeatureEngine(f"redis://user:s3cr3t@127.0.0.1:{port}/2?client_name=me")
    asked = transaction(payment(0, 0, 1, 0))
    started = time.monotonic()
    for step in (engine.observe, engine.peek):
        with pytest.raises(UnavailableError) as caught:
            step(asked)
        assert str(caught.value).startswith(f"redis://127.0.0.1:{port}/2: Redis did not answer (")
        assert str(caught.value).endswith("(mend: see that it runs and can be reached)")
        assert "s3cr3t" not in everything_told(caught.value)
    assert time.monotonic() - started < 2
    assert "s3cr3t" not in repr(engine)


def test_a_redis_that_never_answers_is_given_up_within_the_deadline() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        engine = RedisFeatureEngine(f"redis://:s3cr3t@127.0.0.1:{silent.getsockname()[1]}", deadline=0.2)
        started = time.monotonic()
        with pytest.raises(UnavailableError, match="did not answer") as caught:
            engine.observe(transaction(payment(0, 0, 1, 0)))
        assert time.monotonic() - started < 2
        assert "s3cr3t" not in everything_told(caught.value)
        engine.close()


def everything_told(error: BaseException | None) -> str:
    """The messages of an error and of all its causes."""
    told = []
    while error is not None:
        told += [str(error), repr(error)]
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return "\n".join(told)


def test_a_wrong_password_is_refused_and_not_told(server: redis.Redis) -> None:
    engine = RedisFeatureEngine(URL.replace("//", "//nobody:s3cr3t@"))
    with pytest.raises(StateError, match="correct the user and password of the URL") as caught:
        engine.observe(transaction(payment(0, 0, 1, 0)))
    assert "s3cr3t" not in everything_told(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "http://user:s3cr3t@localhost:6379",
        "redis://user:s3cr3t/more@localhost:6379",
        "redis://:123?s3cr3t@localhost:6379",
        "redis://:123#s3cr3t@localhost:6379",
        "redis://[s3cr3t",
        "redis://user:s3cr3t@localhost:6379?socket_timeout=s3cr3t",
        "",
    ],
)
def test_a_url_that_is_none_is_refused_and_not_told(url: str) -> None:
    with pytest.raises(ConfigError, match="the URL of Redis cannot be read") as caught:
        RedisFeatureEngine(url)
    assert "s3cr3t" not in everything_told(caught.value)


# ---- what is stored


@pytest.mark.parametrize("harm", ["cut", "longer", "empty", "of another account"])
def test_a_value_that_is_no_record_of_the_account_is_refused_and_kept(
    server: redis.Redis, prefix: str, new_engine: Callable[..., RedisFeatureEngine], harm: str
) -> None:
    engine = new_engine()
    engine.observe(transaction(payment(0, 0, 1, 0)))
    name, other = sorted(server.scan_iter(f"{prefix}:account:*"))
    value = bytes(server.get(name))
    damaged = {"cut": value[:-1], "longer": value + b"x", "empty": b"", "of another account": server.get(other)}
    server.set(name, damaged[harm])
    for step in (engine.observe, engine.peek):
        with pytest.raises(StateError, match=rf"{name.decode()} holds [\d,]+ bytes that are no record"):
            step(transaction(payment(1, 0, 1, 60)))
    assert server.get(name) == damaged[harm]
    assert server.get(f"{prefix}:sequence") == b"1"


def test_a_key_of_another_kind_is_refused_and_kept(
    server: redis.Redis, prefix: str, new_engine: Callable[..., RedisFeatureEngine]
) -> None:
    engine = new_engine()
    engine.observe(transaction(payment(0, 0, 1, 0)))
    name = min(server.scan_iter(f"{prefix}:account:*"))
    server.delete(name)
    server.rpush(name, "x")
    with pytest.raises(StateError, match=r"Redis refused: .*wrong kind of value"):
        engine.observe(transaction(payment(1, 0, 1, 60)))
    assert server.type(name) == b"list"
    assert server.get(f"{prefix}:sequence") == b"1"


def test_keys_tell_the_record_version_and_the_account_and_stay_for_ever(
    server: redis.Redis, prefix: str, new_engine: Callable[..., RedisFeatureEngine]
) -> None:
    new_engine().observe(transaction(payment(0, 0, 0, 0)))
    (name,) = server.scan_iter(f"{prefix}:account:*")
    value = bytes(server.get(name))
    key = int(np.frombuffer(value, ACCOUNT, offset=8)["key"][0])
    assert name.decode() == f"{prefix}:account:{RECORD_VERSION}:{key:016x}"
    assert int.from_bytes(value[:8], "little") == 1
    assert server.ttl(name) == -1


def test_redis_drops_records_some_days_after_their_last_change_where_that_is_asked_for(
    server: redis.Redis, prefix: str, new_engine: Callable[..., RedisFeatureEngine], tmp_path: Path
) -> None:
    new_engine(keep_days=1_100).observe(transaction(payment(0, 0, 1, 0)))
    assert all(0 <= 1_100 * 86_400 - server.ttl(name) < 10 for name in server.scan_iter(f"{prefix}:account:*"))
    new_engine().seed(saved(busy(10), tmp_path), replace=True)
    assert all(server.ttl(name) == -1 for name in server.scan_iter(f"{prefix}:account:*"))
    new_engine(keep_days=1_100).seed(saved(busy(10), tmp_path), replace=True)
    assert all(server.ttl(name) > 1_099 * 86_400 for name in server.scan_iter(f"{prefix}:account:*"))


def test_a_record_that_was_dropped_meanwhile_is_as_new(
    monkeypatch: pytest.MonkeyPatch, server: redis.Redis, prefix: str, new_engine: Callable[..., RedisFeatureEngine]
) -> None:
    engine = new_engine()
    engine.observe(transaction(payment(0, 0, 0, 0)))
    interfere(monkeypatch, lambda: server.delete(*server.scan_iter(f"{prefix}:account:*")))
    later = payment(1, 0, 0, 60)
    assert same(engine.observe(transaction(later)), replayed([later]))
    assert engine.conflicts == 1


@pytest.mark.parametrize("keep_days", [0.0, 999.0, 1_000.0])
def test_records_are_not_dropped_before_an_account_counts_as_new(keep_days: float) -> None:
    with pytest.raises(ConfigError, match="longer than forget_after_days, 1000"):
        RedisFeatureEngine(URL, SMALL, keep_days=keep_days)


@pytest.mark.parametrize("prefix", ["", "a b", "a*", "a[b]", "é"])
def test_a_prefix_that_means_more_than_itself_is_refused(prefix: str) -> None:
    with pytest.raises(ConfigError, match="cannot be a prefix"):
        RedisFeatureEngine(URL, SMALL, prefix=prefix)


# ---- from a backfill to live


def saved(rows: list[Payment], folder: Path, position: int = 0) -> Path:
    engine = FeatureEngine(SMALL)
    engine.advance(table(rows))
    engine.save(folder / "snapshot", position=position)
    return folder / "snapshot"


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
        broken.setattr(redis.client.Pipeline, "execute", fail)
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
