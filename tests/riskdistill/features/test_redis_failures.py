"""Account state in Redis when Redis fails, loses or holds something else: told with the mend, nothing harmed."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import redis
from payment_histories import payment, transaction
from ports import free_port
from redis_records import URL, interfere, saved
from small_engines import SMALL, busy, same
from small_engines import encoded as replayed

from riskdistill.errors import ConfigError, StateError, UnavailableError
from riskdistill.features import Encoded, FeatureSpec
from riskdistill.features.record import ACCOUNT, RECORD_VERSION, RING, UPSTREAM
from riskdistill.features.redis_state import RedisFeatureEngine

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
    assert lost == [[2, [], engine._rules.encode()]]
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

OUTSIDE = [
    ("head", -1),
    ("head", RING),
    ("size", -1),
    ("size", RING + 1),
    ("up_size", -1),
    ("up_size", UPSTREAM + 1),
]


@pytest.mark.parametrize("harm", ["cut", "longer", "empty", "of another account", *OUTSIDE])
def test_a_value_that_is_no_record_of_the_account_is_refused_and_kept(
    server: redis.Redis, prefix: str, new_engine: Callable[..., RedisFeatureEngine], harm: str
) -> None:
    engine = new_engine()
    engine.observe(transaction(payment(0, 0, 1, 0)))
    name, other = sorted(server.scan_iter(f"{prefix}:account:*"))
    value = bytes(server.get(name))
    damaged = {"cut": value[:-1], "longer": value + b"x", "empty": b"", "of another account": server.get(other)}
    for field, number in OUTSIDE:
        record = np.frombuffer(value, ACCOUNT, offset=8).copy()
        record[field] = number
        damaged[field, number] = value[:8] + record.tobytes()
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


OTHERS = [FeatureSpec(events_per_party=4, forget_after_days=400.0), FeatureSpec(events_per_party=4, max_hops=3)]


@pytest.mark.parametrize("spec", OTHERS, ids=["forget_after_days", "max_hops"])
def test_an_engine_of_other_rules_is_refused_and_changes_nothing(
    monkeypatch: pytest.MonkeyPatch,
    server: redis.Redis,
    prefix: str,
    new_engine: Callable[..., RedisFeatureEngine],
    spec: FeatureSpec,
) -> None:
    engine, other = new_engine(), RedisFeatureEngine(URL, spec, prefix=prefix)
    asked = transaction(payment(1, 2, 3, 60))
    interfere(monkeypatch, lambda: engine.observe(transaction(payment(0, 0, 1, 0))))  # the prefix was new when read
    for step in (other.observe, other.observe, other.peek):
        with pytest.raises(StateError, match=r"has the rules .*, this engine .*give all writers one specification"):
            step(asked)
    assert server.get(f"{prefix}:sequence") == b"1"
    assert len(engine) == 2
    other.close()


@pytest.mark.parametrize("spec", OTHERS, ids=["forget_after_days", "max_hops"])
def test_a_snapshot_of_other_rules_is_refused_and_changes_nothing(
    server: redis.Redis, prefix: str, tmp_path: Path, spec: FeatureSpec
) -> None:
    engine = RedisFeatureEngine(URL, spec, prefix=prefix)
    with pytest.raises(StateError, match="made with forget_after_days"):
        engine.seed(saved(busy(10), tmp_path), replace=True)
    assert list(server.scan_iter(f"{prefix}:*")) == []
    engine.close()


@pytest.mark.parametrize("deadline", [0.0, -1.0, float("inf"), float("nan")])
def test_a_deadline_that_is_none_is_refused(deadline: float) -> None:
    with pytest.raises(ConfigError, match=r"deadline: .*finite number of seconds above 0"):
        RedisFeatureEngine(URL, SMALL, deadline=deadline)


@pytest.mark.parametrize("keep_days", [0.0, 999.0, 1_000.0, float("inf"), float("nan")])
def test_records_are_not_dropped_before_an_account_counts_as_new(keep_days: float) -> None:
    with pytest.raises(ConfigError, match="longer than forget_after_days, 1000"):
        RedisFeatureEngine(URL, SMALL, keep_days=keep_days)


@pytest.mark.parametrize("prefix", ["", "a b", "a*", "a[b]", "é"])
def test_a_prefix_that_means_more_than_itself_is_refused(prefix: str) -> None:
    with pytest.raises(ConfigError, match="cannot be a prefix"):
        RedisFeatureEngine(URL, SMALL, prefix=prefix)
