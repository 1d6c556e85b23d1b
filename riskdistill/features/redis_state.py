"""Account records in Redis, so that several replicas of a service share one state and none loses an update.

    engine = RedisFeatureEngine("redis://localhost:6379/0")
    position = engine.seed(path)            # what FeatureEngine.save wrote after the backfill
    encoded = engine.observe(transaction)   # the next step, while other writers make theirs

A step reads the records that it needs, runs the compiled kernel of `FeatureEngine` on copies of them, and commits
them by one script inside Redis: if none was written since it was read, all are, and the commit gets the next number
of one sequence; else nothing is written and the step is computed again on what is there now. So commits have one
order, and features and records are, to the bit, those of one `FeatureEngine` that observes in that order. A commit
that is sent again because its reply was lost is recognised, and not made twice.

    {prefix}:sequence                   number of the last commit; below 0 while `seed` fills the prefix
    {prefix}:writer:{name}              the last commit of each engine, for an hour
    {prefix}:rules                      what records rest on: that of the first commit or the last `seed`
    {prefix}:seed                       name of the last `seed`; only it may fill the prefix
    {prefix}:account:{version}:{key}    number of the commit that wrote it (8 bytes), then a record.ACCOUNT

What it asks of Redis: version 6 or later; one primary and no cluster, for a commit spans accounts; and the setting
`maxmemory-policy noeviction`, or Redis drops records as it likes. A commit is as durable as Redis keeps it. If it
comes back with fewer commits than an engine has seen, that engine refuses to go on.

All writers of a prefix need the same rules: record version, `forget_after_days` and `max_hops`. An engine with
others is refused. They need the same rates, too; that is not checked, for files of rates grow from day to day.
"""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from math import ceil, inf
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import numpy as np
import redis
from numpy.typing import NDArray
from redis.backoff import FullJitterBackoff, NoBackoff
from redis.retry import Retry

from riskdistill.data.rates import Rates
from riskdistill.data.transaction import Transaction
from riskdistill.errors import ConfigError, StateError, UnavailableError
from riskdistill.features import snapshot, update
from riskdistill.features.encoded import Encoded
from riskdistill.features.record import ACCOUNT, DAY, RECORD_VERSION, RING, TRANSACTION, UPSTREAM
from riskdistill.features.rows import RowEncoder
from riskdistill.features.spec import FeatureSpec

_STAMP: Final = 8  # bytes before a record: the number of the commit that wrote it, little-endian
_BLANK: Final = bytes(ACCOUNT.itemsize)
_BYTES: Final = np.dtype((np.void, TRANSACTION.itemsize))  # copies a row whole, not field by field
_BACKOFF: Final = FullJitterBackoff(cap=0.05, base=0.000_5)  # seconds
_PAGE: Final = 200  # records sent to Redis, or keys walked, at a time: a megabyte at most
_RULES: Final = {"record_version", "forget_after_days", "max_hops"}  # what of the specification changes records
_AGAIN: Final = "seed it again from a snapshot, with replace, and start the writers anew"

# KEYS: the sequence, this writer's last commit, the rules, the records
# ARGV: name of the commit, newest sequence known, seconds to keep a record (0: for ever), the rules;
#       the stamp of each record as read ('' for none); the new bytes of each ('' where they did not change)
# Returns the sequence; for each record that was written meanwhile its index and what is there now; and the rules.
_COMMIT: Final = """
local sequence = tonumber(redis.call('GET', KEYS[1]) or '0')
local last = redis.call('HMGET', KEYS[2], 'commit', 'sequence')
if last[1] == ARGV[1] then return {tonumber(last[2]), {}, ARGV[4]} end
local rules = redis.call('GET', KEYS[3])
if sequence == 0 and not rules then rules = ARGV[4] end
if sequence < tonumber(ARGV[2]) or rules ~= ARGV[4] then return {sequence, {}, rules} end
local n, stale = #KEYS - 3, {}
for i = 1, n do
  if redis.call('GETRANGE', KEYS[i + 3], 0, 7) ~= ARGV[i + 4] then
    stale[#stale + 1], stale[#stale + 2] = i - 1, redis.call('GET', KEYS[i + 3])
  end
end
if #stale > 0 then return {sequence, stale, rules} end
sequence = redis.call('INCR', KEYS[1])
redis.call('SET', KEYS[3], rules)
local stamp, expiry = struct.pack('<I8', sequence), ARGV[3] == '0' and {} or {'EX', ARGV[3]}
for i = 1, n do
  local record = ARGV[i + n + 4]
  if record ~= '' then redis.call('SET', KEYS[i + 3], stamp .. record, unpack(expiry)) end
end
redis.call('HSET', KEYS[2], 'commit', ARGV[1], 'sequence', sequence)
redis.call('EXPIRE', KEYS[2], 3600)
return {sequence, {}, rules}
"""

# KEYS: the sequence, the last seeding, the rules
# ARGV: name of this seeding, the rules, 1 if it may replace a state
# Marks the prefix as being filled by this seeding; returns the sequence to end with, 0 if there is a state.
_CLAIM: Final = """
local sequence = tonumber(redis.call('GET', KEYS[1]) or '0')
if redis.call('GET', KEYS[2]) == ARGV[1] then return -sequence end
if sequence ~= 0 and ARGV[3] == '0' then return 0 end
sequence = math.abs(sequence) + 1
redis.call('MSET', KEYS[1], -sequence, KEYS[2], ARGV[1], KEYS[3], ARGV[2])
return sequence
"""

# KEYS: the sequence, the last seeding, the records; without records the seeding is done
# ARGV: name of this seeding, seconds to keep a record, what to store for each ('' to drop it)
# Returns whether this seeding is still the last. What comes late or twice, when it is done, changes nothing.
_FILL: Final = """
local sequence, expiry = tonumber(redis.call('GET', KEYS[1]) or '0'), ARGV[2] == '0' and {} or {'EX', ARGV[2]}
if sequence == 0 or redis.call('GET', KEYS[2]) ~= ARGV[1] then return 0 end
if sequence > 0 then return 1 end
for i = 3, #KEYS do
  if ARGV[i] == '' then redis.call('UNLINK', KEYS[i])
  else redis.call('SET', KEYS[i], ARGV[i], unpack(expiry)) end
end
if #KEYS == 2 then redis.call('SET', KEYS[1], -sequence) end
return 1
"""


class RedisFeatureEngine:
    """The feature engine with its records in Redis: the same step, the same numbers, several writers.

    Not thread-safe; any number of them, in threads, processes and machines, may work on one prefix.

    Args:
        url: of Redis: `redis://`, `rediss://` or `unix://`. Its password is never shown.
        spec: which features and how many event tokens; the default is what bundles are trained with.
        rates: dollars per unit of each currency as of a day; the default is one fixed table.
        prefix: before all keys; each prefix is a state of its own.
        deadline: seconds after which a step is given up. One that Redis leaves without a reply may take twice that.
        keep_days: Redis drops a record so long after its last change, by the clock on the wall; the default is
            never. It must exceed `spec.forget_after_days`, which goes by the stamps of transactions. The excess is
            how late a transaction may arrive: dropping changes no feature as long as each arrives less than that
            after its stamp, and none before its stamp. So it suits live traffic, and not a slow replay of old
            transactions, whose clock is not the one on the wall.

    Attributes:
        sequence: number of the last commit of this engine in the one order of all commits, from 1; 0 before it.
        conflicts: how many commits of this engine came too late and were computed again.

    Raises:
        ConfigError: the URL, the prefix, `deadline` or `keep_days` cannot be used.
    """

    def __init__(
        self,
        url: str,
        spec: FeatureSpec | None = None,
        rates: Rates | None = None,
        *,
        prefix: str = "riskdistill",
        deadline: float = 2.0,
        keep_days: float | None = None,
    ) -> None:
        self.spec = spec or FeatureSpec()
        self.rates = rates or Rates.fixed()
        self.sequence = self.conflicts = 0
        self._deadline, self._keep = deadline, _seconds_to_keep(keep_days, self.spec)
        self._redis, self._where = _connect(url, deadline)
        scripts = map(self._redis.register_script, (_COMMIT, _CLAIM, _FILL))
        self._commit_script, self._claim_script, self._fill_script = scripts
        if not re.fullmatch(r"[\w.:-]+", prefix, re.ASCII):
            raise ConfigError(f"{prefix!r} cannot be a prefix", mend="use letters, digits and any of _ . : -")
        self._sequence_key, self._rules_key = f"{prefix}:sequence", f"{prefix}:rules"
        self._seed_key, self._writer_key = f"{prefix}:seed", f"{prefix}:writer:{uuid.uuid4().hex}"
        self._account_prefix = f"{prefix}:account:{RECORD_VERSION}:"
        self._rules = self.spec.model_dump_json(include=_RULES)
        self._newest = 0  # sequence that Redis is known to have reached
        self._encoder = RowEncoder(self.rates)
        self._windows = np.array(self.spec.windows)

    def __len__(self) -> int:
        """The number of accounts known; walks all keys of the database."""
        with self._talking():
            return len(set(self._redis.scan_iter(f"{self._account_prefix}*", count=_PAGE)))

    def observe(self, transaction: Transaction) -> Encoded:
        """Encode one transaction as known strictly before it, and apply it; raises as `observe_many`."""
        return self.observe_many([transaction])

    def observe_many(self, transactions: Sequence[Transaction]) -> Encoded:
        """Encode and apply transactions in their order, in one commit: all are applied, or none.

        Two round trips for all of them, and one more for each conflict. Longer batches conflict more often and keep
        Redis busy for longer: some dozens are good, thousands are not.

        Raises:
            UnavailableError: Redis did not answer, or other writers were faster until the deadline. Without an
                answer, the step may have been applied, once. Observe again: what was applied counts once. But then
                the features of the repeat include the first time, and its score may differ from the first.
            StateError: a record is none of this version, the prefix has other rules, Redis lost commits, or it
                refused. Nothing was applied.
        """
        rows, keys = self._rows(transactions)
        if not transactions:
            return self._step(rows, [], apply=True)[0]
        give_up = time.monotonic() + self._deadline
        values, tries = self._read(keys), 0
        while True:
            encoded, records = self._step(rows, values, apply=True)
            stale = self._commit(keys, values, records)
            if not stale:
                return encoded
            tries, self.conflicts = tries + 1, self.conflicts + 1
            pause = _BACKOFF.compute(tries)
            if time.monotonic() + pause > give_up:
                what = f"other writers changed the same accounts during each of {tries:,} tries"
                mend = "observe again, in smaller batches or with a longer deadline"
                raise UnavailableError(what, where=self._where, mend=mend)
            time.sleep(pause)
            for index, value in stale.items():
                values[index] = self._checked(keys[index], value)

    def peek(self, transaction: Transaction) -> Encoded:
        """Encode one transaction without applying it; raises as `observe_many`."""
        rows, keys = self._rows([transaction])
        return self._step(rows, self._read(keys), apply=False)[0]

    def seed(self, path: Path, *, replace: bool = False) -> int:
        """Fill the prefix with the records that `FeatureEngine.save` wrote; returns the position given there.

        Until it is done every engine of the prefix raises StateError, and if it is broken off, until it is done
        again. Of two at once the one that began first is broken off: a state that is not whole is never used.

        Args:
            path: the snapshot.
            replace: whether to drop all records that are there.

        Raises:
            StateError: there is a state already and `replace` is False; or the snapshot cannot be read, or was made
                by other rules or at other rates. Nothing was changed. Or another seeding began meanwhile.
            UnavailableError: Redis did not answer.
        """
        records, header = snapshot.read(path)
        header.made.require(self.spec, self.rates, where=str(path))
        seeding = uuid.uuid4().hex
        with self._talking():
            stamp = self._claim(seeding, replace)
            self._refill(seeding, stamp, records[1 : header.accounts + 1])
            self._fill(seeding, (), ())
        return header.position

    def close(self) -> None:
        """Close the connections; the next step would open new ones."""
        self._redis.close()

    def _claim(self, seeding: str, replace: bool) -> int:
        """Mark the prefix as being filled; returns the sequence to end with."""
        keys = [self._sequence_key, self._seed_key, self._rules_key]
        sequence = int(self._claim_script(keys=keys, args=[seeding, self._rules, int(replace)]))
        if not sequence:
            what = f"there is a state already under {self._account_prefix}*"
            raise self._refusal(what, "take another prefix, or say that it is to be replaced")
        return sequence

    def _refill(self, seeding: str, sequence: int, records: NDArray[Any]) -> None:
        """Drop the records that are there, and store these, page by page."""
        stamp = sequence.to_bytes(_STAMP, "little")
        cursor: Any = None
        while cursor != 0:
            cursor, old = self._redis.scan(cursor or 0, match=f"{self._account_prefix}*", count=_PAGE)
            if old:
                self._fill(seeding, old, [b""] * len(old))
        for start in range(0, len(records), _PAGE):
            page = records[start : start + _PAGE]
            self._fill(seeding, map(self._name, page["key"].tolist()), [stamp + one.tobytes() for one in page])

    def _fill(self, seeding: str, names: Iterable[Any], values: Iterable[bytes]) -> None:
        """Store a page of records, drop those whose value is empty, or, without any, end the seeding."""
        keys = [self._sequence_key, self._seed_key, *names]
        if not self._fill_script(keys=keys, args=[seeding, self._keep, *values]):
            what = f"another seeding of {self._account_prefix}* began before this one was done"
            raise self._refusal(what, "let one writer seed, or seed again with replace")

    def _rows(self, transactions: Sequence[Transaction]) -> tuple[NDArray[Any], list[int]]:
        """Rows that name accounts by their place, from 1, in the list of account keys that comes with them."""
        places: dict[int, int] = {}
        rows = np.empty(len(transactions), TRANSACTION)
        for number, transaction in enumerate(transactions):
            row = self._encoder.one(transaction, lambda key: places.setdefault(key, len(places) + 1))
            rows.view(_BYTES)[number : number + 1] = row.view(_BYTES)
        return rows, list(places)

    def _step(self, rows: NDArray[Any], values: list[bytes | None], *, apply: bool) -> tuple[Encoded, list[bytes]]:
        """What the rows look like, and the records after them."""
        found = (value[_STAMP:] if value else _BLANK for value in values)
        state = bytearray().join((_BLANK, *found))
        encoded = Encoded(
            np.empty((len(rows), len(self.spec.context)), np.float32),
            np.empty((len(rows), 2 * self.spec.events_per_party, len(self.spec.token_channels)), np.float32),
        )
        records, slots, limits = np.frombuffer(state, ACCOUNT), np.arange(len(rows)), np.array(self.spec.limits)
        update.replay(records, rows, encoded.context, encoded.events, slots, self._windows, limits, apply)
        size = ACCOUNT.itemsize
        return encoded, [bytes(state[start : start + size]) for start in range(size, len(state), size)]

    def _read(self, keys: list[int]) -> list[bytes | None]:
        """What is stored for each account, all at one moment."""
        with self._talking():
            found: list[Any] = self._redis.mget([self._sequence_key, self._rules_key, *map(self._name, keys)])
        self._check_state(int(found[0] or 0), found[1])
        return [self._checked(key, value) for key, value in zip(keys, found[2:], strict=True)]

    def _commit(self, keys: list[int], values: list[bytes | None], records: list[bytes]) -> dict[int, bytes | None]:
        """Write the records that changed, if all are as they were read; else what is stored now, by index."""
        commit = uuid.uuid4().hex  # a counter would repeat itself in a forked process
        stamps = [value[:_STAMP] if value else b"" for value in values]
        changed = [
            record if record != (value[_STAMP:] if value else _BLANK) else b""
            for value, record in zip(values, records, strict=True)
        ]
        with self._talking():
            sequence, stale, rules = self._commit_script(
                keys=[self._sequence_key, self._writer_key, self._rules_key, *map(self._name, keys)],
                args=[commit, self._newest, self._keep, self._rules, *stamps, *changed],
            )
        self._check_state(sequence, rules)
        if not stale:
            self.sequence = sequence
        return dict(zip(stale[::2], stale[1::2], strict=True))

    def _check_state(self, found: int, rules: bytes | None) -> None:
        """Refuse a state that is being filled, that went back, or that rests on other rules."""
        if found < 0:
            raise self._refusal("account state is being filled, or filling it was broken off", _AGAIN)
        if found < self._newest:
            what = f"Redis is at commit {found:,}, but was at {self._newest:,}: it lost account state"
            raise self._refusal(what, _AGAIN)
        if (found or rules is not None) and rules != self._rules.encode():
            theirs = "none" if rules is None else rules.decode(errors="replace")
            what = f"account state under {self._account_prefix}* has the rules {theirs}, this engine {self._rules}"
            raise self._refusal(what, f"give all writers one specification, take another prefix, or {_AGAIN}")
        self._newest = found

    def _checked(self, key: int, value: bytes | None) -> bytes | None:
        """`value`, if it is a record of this account or none."""
        if value is not None and not _is_record(value, key):
            what = f"{self._name(key)} holds {len(value):,} bytes that are no record of this account"
            raise self._refusal(what, f"see what else writes there, then {_AGAIN}")
        return value

    def _name(self, key: int) -> str:
        return f"{self._account_prefix}{key:016x}"

    def _refusal(self, what: str, mend: str) -> StateError:
        return StateError(what, where=self._where, mend=mend)

    @contextmanager
    def _talking(self) -> Iterator[None]:
        try:
            yield
        except redis.AuthenticationError as error:
            raise self._refusal(str(error), "correct the user and password of the URL") from error
        except (redis.ConnectionError, redis.TimeoutError) as error:
            what = f"Redis did not answer ({str(error).rstrip('.')})"
            raise UnavailableError(what, where=self._where, mend="see that it runs and can be reached") from error
        except redis.RedisError as error:
            raise self._refusal(f"Redis refused: {error}", "correct what it names") from error


def _is_record(value: bytes, key: int) -> bool:
    """Whether it is a stamp and a record of this account that the kernel can index with."""
    if len(value) != _STAMP + ACCOUNT.itemsize:
        return False
    one = np.frombuffer(value, ACCOUNT, offset=_STAMP)[0]
    ring = 0 <= one["head"] < RING and 0 <= one["size"] <= RING
    return bool(one["key"] == key and ring and 0 <= one["up_size"] <= UPSTREAM)


def _seconds_to_keep(days: float | None, spec: FeatureSpec) -> int:
    if days is None:
        return 0
    if not spec.forget_after_days < days < inf:
        what = f"{days:g} days are no time to keep records: they end, but not before an account counts as new"
        mend = f"give none, for ever, or a finite time longer than forget_after_days, {spec.forget_after_days:g}"
        raise ConfigError(what, where="keep_days", mend=mend)
    return ceil(days * DAY)


def _connect(url: str, deadline: float) -> tuple[redis.Redis, str]:
    """A client, and what may be told of its URL: no user, no password and no options."""
    if not 0 < deadline < inf:
        mend = "give a finite number of seconds above 0"
        raise ConfigError(f"a step cannot be given up after {deadline:g} seconds", where="deadline", mend=mend)
    try:
        parts = urlsplit(url)
        if "@" in parts.path + parts.query + parts.fragment:  # then a password has a / ? or # as it is
            raise ValueError
        where = f"{parts.scheme}://{parts.hostname or ''}{f':{parts.port}' if parts.port else ''}{parts.path}"
        client = redis.Redis.from_url(
            url,
            # opening a connection may be tried twice within each of two tries to send
            socket_timeout=deadline / 4,
            socket_connect_timeout=deadline / 4,
            retry=Retry(NoBackoff(), 1),
        )
    except ValueError:  # its message may quote the password, and so would the cause
        mend = "write it as redis://user:password@host:6379/0, with special characters in % codes"
        raise ConfigError("the URL of Redis cannot be read", mend=mend) from None
    return client, where
