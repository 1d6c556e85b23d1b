"""Account state in Redis for services with one decision log: each transaction is observed once, by whoever asks.
asks.

    engine = OnceEngine("redis://localhost:6379/0", spec)
    engine.establish(build)                                # from the decision log, where there is no state yet
    (seen,) = engine.observe_once([transaction], accept)   # features, and the place in the one order of all
    engine.settled([transaction.tx_id])                    # its decision is durable

A worker that observes a transaction leaves its features and its place in the same commit. Whoever observes it
again, another worker at the same time or any worker after the first one died, gets these and changes nothing: so
the decision on it is the same whoever makes it, and equal to that of a serial replay in the order of the places.
When its decision is durable its features are dropped, and for a minute a mark stays that sends late askers to the
log. What was observed and is not settled after a while is an orphan: its worker died, and another one decides on
it, from the features that were left. So account state holds nothing that the log lacks for good.

Beside the keys of `redis_state`:

    {prefix}:once:{digest}   place (8 bytes), specification, features and transaction; empty once it is decided
    {prefix}:open            digests of what is not settled, by the time of its commit
    {prefix}:place           the last place that was given
    {prefix}:accounts        how many accounts there are
    {prefix}:building        lease of who builds the state from the log
    {prefix}:keyed           digest under the pseudonym key, so that all writers have the same
"""

from __future__ import annotations

import hashlib
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Final, NamedTuple

import numpy as np
from redis.exceptions import LockError

from riskdistill.data.rates import Rates
from riskdistill.data.transaction import Transaction
from riskdistill.errors import ConfigError, UnavailableError
from riskdistill.features.encoded import Encoded
from riskdistill.features.engine import FeatureEngine
from riskdistill.features.redis_state import _BACKOFF, _BLANK, _STAMP, RedisFeatureEngine
from riskdistill.features.spec import FeatureSpec

LATE_SECONDS: Final = 60  # how long a mark sends those to the log who looked there before the decision was durable
Accept = Callable[[Sequence[Transaction], Encoded], object]
_LEASE_SECONDS: Final = 30

# KEYS: sequence, rules, place, open, accounts; n records; m transactions
# ARGV: newest sequence known, seconds to keep a record, rules, n, m; n stamps; n records; m digests; m payloads
# Returns the sequence, whether it came too late and wrote nothing, the rules, the last place before
_COMMIT: Final = """
local sequence, rules = tonumber(redis.call('GET', KEYS[1]) or '0'), redis.call('GET', KEYS[2])
local n, m = tonumber(ARGV[4]), tonumber(ARGV[5])
if sequence <= 0 or sequence < tonumber(ARGV[1]) or rules ~= ARGV[3] then return {sequence, 1, rules, 0} end
for i = 1, n do
  if redis.call('GETRANGE', KEYS[5 + i], 0, 7) ~= ARGV[5 + i] then return {sequence, 1, rules, 0} end
end
for j = 1, m do
  if redis.call('EXISTS', KEYS[5 + n + j]) == 1 then return {sequence, 1, rules, 0} end
end
sequence = redis.call('INCR', KEYS[1])
local stamp, expiry = struct.pack('<I8', sequence), ARGV[2] == '0' and {} or {'EX', ARGV[2]}
local new = 0
for i = 1, n do
  local record = ARGV[5 + n + i]
  if record ~= '' then
    redis.call('SET', KEYS[5 + i], stamp .. record, unpack(expiry))
    if ARGV[5 + i] == '' then new = new + 1 end
  end
end
if new > 0 then redis.call('INCRBY', KEYS[5], new) end
local before = redis.call('INCRBY', KEYS[3], m) - m
local now = redis.call('TIME')[1]
for j = 1, m do
  redis.call('SET', KEYS[5 + n + j], struct.pack('<I8', before + j) .. ARGV[5 + 2 * n + m + j])
  redis.call('ZADD', KEYS[4], now, ARGV[5 + 2 * n + j])
end
return {sequence, 0, rules, before}
"""


class Observation(NamedTuple):
    """A transaction as the shared state saw it, the first time.

    Attributes:
        place: in the one order of all observations, from 1; 0 if it is decided already.
        encoded: one row; None if it is decided already, and to be found in the log.
        transaction: as it was first sent; None if it is decided already.
        is_new: whether it was observed now: its row is one of those that were accepted last.
    """

    place: int
    encoded: Encoded | None
    transaction: Transaction | None
    is_new: bool = False


class OnceEngine(RedisFeatureEngine):
    """See the module's docstring; arguments are those of `RedisFeatureEngine`. Not thread-safe."""

    def __init__(
        self,
        url: str,
        spec: FeatureSpec | None = None,
        rates: Rates | None = None,
        *,
        prefix: str = "riskdistill",
        deadline: float = 2.0,
    ) -> None:
        super().__init__(url, spec, rates, prefix=prefix, deadline=deadline)
        self._once_script = self._redis.register_script(_COMMIT)
        self._prefix, self._print = prefix, self.spec.fingerprint.encode()
        self._shapes = (
            (1, len(self.spec.context)),
            (1, 2 * self.spec.events_per_party, len(self.spec.token_channels)),
        )
        self._start = _STAMP + len(self._print)
        self._end = self._start + 4 * sum(int(np.prod(shape)) for shape in self._shapes)
        self._names = [f"{prefix}:{name}" for name in ("sequence", "rules", "place", "open", "accounts")]

    def observe_once(self, transactions: Sequence[Transaction], accept: Accept) -> list[Observation]:
        """Observe transactions, in their order and in one commit; those observed before as they were then.

        Args:
            transactions: with ids that differ.
            accept: called with what is new and its rows, before they are applied, and again if another writer was
                faster; what it raises is raised, and nothing is applied.

        Raises:
            UnavailableError: as `observe_many`. What was applied then is found by the next to ask.
            StateError: as `observe_many`; or there is no state yet.
        """
        give_up = time.monotonic() + self._deadline
        digests = [_digest(transaction.tx_id) for transaction in transactions]
        tries = 0
        while True:
            found = self._found(digests)
            new = [place for place, value in enumerate(found) if value is None]
            if new:
                first = self._apply([transactions[at] for at in new], [digests[at] for at in new], accept)
                if first is None:
                    tries, self.conflicts = tries + 1, self.conflicts + 1
                    self._pause(tries, give_up)
                    continue
                for at, observation in zip(new, first, strict=True):
                    found[at] = observation
            return [observation for observation in found if observation is not None]

    def settled(self, tx_ids: Sequence[str]) -> None:
        """The decisions on these transactions are durable; raises as `observe_many`."""
        digests = [_digest(tx_id) for tx_id in tx_ids]
        with self._talking():
            pipe = self._redis.pipeline(transaction=False)
            for digest in digests:
                pipe.set(self._once(digest), b"", ex=LATE_SECONDS)
            pipe.zrem(self._names[3], *digests)
            pipe.execute()

    def orphans(self, seconds: float, limit: int) -> list[Observation]:
        """At most `limit` transactions that were observed over so many `seconds` ago and are not settled.

        Raises as `observe_many`.
        """
        with self._talking():
            now: Any = self._redis.time()
            digests: Any = self._redis.zrange(
                self._names[3], "-inf", now[0] - seconds, byscore=True, offset=0, num=limit
            )
            values: Any = self._redis.mget([self._once(digest.decode()) for digest in digests]) if digests else []
            if gone := [digest for digest, value in zip(digests, values, strict=True) if not value]:
                self._redis.zrem(self._names[3], *gone)
        ours = [value for value in values if value and value[_STAMP : self._start] == self._print]
        return [self._observation(one) for one in ours]

    def place(self) -> int:
        """The last place that was given; -1 where there is no whole state. Raises as `observe_many`."""
        with self._talking():
            found: Any = self._redis.mget(self._names[:3])
        sequence, rules, place = found
        if int(sequence or 0) <= 0:
            return -1
        self._check_state(int(sequence), rules)
        return int(place or 0)

    def accounts(self) -> int:
        """The number of accounts known, without a walk over them. Raises as `observe_many`."""
        with self._talking():
            count: Any = self._redis.get(self._names[4])
        return int(count or 0)

    def establish(self, build: Callable[[], tuple[FeatureEngine, int]], settle_seconds: float) -> None:
        """Replace the state by one that is built anew, while all writers of the prefix are refused.

        Safe at any time: what was acknowledged is in the log, from which it is built.

        Args:
            build: the engine as of the log, and the last place in it; called when nobody can observe any more.
            settle_seconds: how long to wait before, so that what is under way elsewhere reaches the log.

        Raises as `seed`.
        """
        seeding = uuid.uuid4().hex
        with self._talking():
            stamp = self._claim(seeding, replace=True)
        self._newest = 0
        time.sleep(settle_seconds)
        engine, place = build()
        records = engine.records
        with self._talking():
            self._refill(seeding, stamp, records)
            self._forget_open()
            last: Any = self._redis.get(self._names[2])
            self._redis.mset({self._names[2]: max(place, int(last or 0)), self._names[4]: len(records)})
            self._fill(seeding, (), ())

    def reset(self) -> None:
        """Take the state as it is from now on, though it was further before."""
        self._newest = 0

    @contextmanager
    def building(self) -> Iterator[None]:
        """Waits until no other writer builds the state, and keeps the others waiting.

        Only against double work: `establish` is safe without. Raises as `observe_many`.
        """
        lease = self._redis.lock(f"{self._prefix}:building", timeout=_LEASE_SECONDS, thread_local=False)
        with self._talking():
            while not lease.acquire(blocking_timeout=1.0):
                pass
        over = threading.Event()

        def renew() -> None:
            while not over.wait(_LEASE_SECONDS / 3):
                try:
                    lease.reacquire()
                except Exception:  # then another one may begin, which does no harm
                    return

        renewing = threading.Thread(target=renew, name="state-lease", daemon=True)
        renewing.start()
        try:
            yield
        finally:
            over.set()
            renewing.join()
            with suppress(LockError):
                lease.release()

    def require_key(self, digest: str) -> None:
        """Refuse another pseudonym key than that of the first writer.

        Raises:
            ConfigError: it is another; the accounts of this writer would be strangers to the others.
        """
        name = f"{self._prefix}:keyed"
        with self._talking():
            self._redis.set(name, digest, nx=True)
            known: Any = self._redis.get(name)
        if known.decode() != digest:
            raise ConfigError(
                "the other workers of this account state have another pseudonym key",
                where=self._where,
                mend="give all of them one RISKDISTILL_PSEUDONYM_KEY",
            )

    def _found(self, digests: Sequence[str]) -> list[Observation | None]:
        with self._talking():
            values: Any = self._redis.mget([self._names[0], self._names[1], *map(self._once, digests)])
        self._require_whole(int(values[0] or 0), values[1])
        return [None if value is None else self._observation(value) for value in values[2:]]

    def _apply(
        self, transactions: Sequence[Transaction], digests: Sequence[str], accept: Accept
    ) -> list[Observation] | None:
        """Observe what is new; None if another writer was faster."""
        rows, keys = self._rows(transactions)
        values = self._read(keys)
        encoded, records = self._step(rows, values, apply=True)
        accept(transactions, encoded)
        n, m = len(keys), len(transactions)
        single = [encoded.take(slice(at, at + 1)) for at in range(m)]
        payloads = [
            self._print + one.context.tobytes() + one.events.tobytes() + transaction.model_dump_json().encode()
            for one, transaction in zip(single, transactions, strict=True)
        ]
        stamps = [value[:_STAMP] if value else b"" for value in values]
        changed = [
            record if record != (value[_STAMP:] if value else _BLANK) else b""
            for value, record in zip(values, records, strict=True)
        ]
        with self._talking():
            sequence, stale, rules, before = self._once_script(
                keys=[*self._names, *map(self._name, keys), *map(self._once, digests)],
                args=[self._newest, self._keep, self._rules, n, m, *stamps, *changed, *digests, *payloads],
            )
        self._require_whole(sequence, rules)
        if stale:
            return None
        self.sequence = sequence
        return [
            Observation(before + at, one, transaction, is_new=True)
            for at, (one, transaction) in enumerate(zip(single, transactions, strict=True), start=1)
        ]

    def _observation(self, value: bytes) -> Observation:
        if not value:
            return Observation(0, None, None)
        if value[_STAMP : self._start] != self._print:
            raise UnavailableError(
                "another worker observed the transaction for another feature specification",
                where=self._where,
                mend="send it again when that worker has decided, within a minute",
            )
        floats = np.frombuffer(value[self._start : self._end], np.float32)
        context, events = np.split(floats, [self._shapes[0][1]])
        encoded = Encoded(context.reshape(self._shapes[0]), events.reshape(self._shapes[1]))
        transaction = Transaction.model_validate_json(value[self._end :])
        return Observation(int.from_bytes(value[:_STAMP], "little"), encoded, transaction)

    def _require_whole(self, sequence: int, rules: bytes | None) -> None:
        self._check_state(sequence, rules)
        if sequence == 0:
            raise self._refusal("there is no account state", "build it from the decision log")

    def _pause(self, tries: int, give_up: float) -> None:
        pause = _BACKOFF.compute(tries)
        if time.monotonic() + pause > give_up:
            what = f"other writers changed the same accounts during each of {tries:,} tries"
            raise UnavailableError(what, where=self._where, mend="send the request again")
        time.sleep(pause)

    def _forget_open(self) -> None:
        """What was observed in the state that is replaced is as new."""
        digests: Any = self._redis.zrange(self._names[3], 0, -1)
        for digest in digests:
            self._redis.delete(self._once(digest.decode()))
        self._redis.delete(self._names[3])

    def _once(self, digest: str) -> str:
        return f"{self._prefix}:once:{digest}"


def _digest(tx_id: str) -> str:
    return hashlib.blake2b(tx_id.encode(), digest_size=16).hexdigest()
