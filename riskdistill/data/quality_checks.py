"""The checks of `quality`: each looks at stretches of canonical rows and says in the end what it found.

All work on whole columns, and none keeps more than counters and the first ids: a check costs the same for the last
million rows as for the first.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final, Literal, NamedTuple, Protocol

import numpy as np
import pyarrow as pa

from riskdistill.data.columns import pc
from riskdistill.data.currencies import CURRENCY_CODES, USD_PER_UNIT
from riskdistill.data.recent import Balances, Hashes, Repeats, hashes, with_number, with_text
from riskdistill.data.volume import DAY, Flags, Floats, Ints

Kind = Literal["suspicious", "fact"]
EXAMPLES: Final = 5  # ids per finding
HUGE: Final = 1e9  # dollars
TWICE: Final = 2.0  # how far an exchange may be off the fixed rate of its currencies
LOWEST, STEPS = -2, 4  # bins of amounts: from a cent, four to a power of ten
POWERS: Final = 15
UNITS: Final = {"second": 1_000_000, "minute": 60_000_000, "hour": 3_600_000_000, "day": DAY}
_CODES: Final = pa.array(CURRENCY_CODES)
_RATES: Final = np.array(list(USD_PER_UNIT.values()))


class Found(NamedTuple):
    """One line of a check: how many of the rows that it could look at, and the ids of the first ones."""

    what: str
    rows: int
    of: int
    kind: Kind = "suspicious"
    examples: tuple[str, ...] = ()


@dataclass(frozen=True)
class Stretch:
    """Canonical rows, and what several checks need of them; rows are in order of time where the source's are."""

    table: pa.Table

    @cached_property
    def times(self) -> Ints:
        """int64[n], microseconds since 1970."""
        return np.asarray(self.table["timestamp"].cast(pa.int64()).to_numpy())

    @cached_property
    def amounts(self) -> Floats:
        """float64[n, 2]: paid and received, each in its currency."""
        return np.column_stack([self.table["amount_paid"].to_numpy(), self.table["amount_received"].to_numpy()])

    @cached_property
    def currencies(self) -> Ints:
        """int64[n, 2]: positions in CURRENCY_CODES of what was paid and received."""
        found = [pc.index_in(self.table[f"currency_{side}"], value_set=_CODES) for side in ("paid", "received")]
        return np.column_stack([column.to_numpy() for column in found]).astype(np.int64)

    @cached_property
    def usd(self) -> Floats:
        """float64[n, 2]: the amounts in dollars, at the fixed rates."""
        return np.asarray(self.amounts * _RATES[self.currencies])

    @cached_property
    def accounts(self) -> Hashes:
        """uint64[n, 2]: of sender and receiver, each with its bank."""
        sides = ("sender", "receiver")
        start = hashes(len(self.table))
        named = [
            with_text(with_text(start, self.table[f"{side}_bank"]), self.table[f"{side}_account"]) for side in sides
        ]
        return np.column_stack(named)

    @cached_property
    def to_oneself(self) -> Flags:
        return np.asarray(self.accounts[:, 0] == self.accounts[:, 1])


@dataclass
class Marks:
    """Counts marked rows, and keeps the first ids."""

    rows: int = 0
    of: int = 0
    examples: list[str] = field(default_factory=list)

    def add(self, marked: Flags, stretch: Stretch, of: int | None = None) -> None:
        """Count `marked` (bool[n]) rows of the stretch, of which `of` could be looked at (all if not given)."""
        self.of += len(marked) if of is None else of
        found = np.flatnonzero(marked)
        self.rows += len(found)
        if len(found) and len(self.examples) < EXAMPLES:
            first = pa.array(found[: EXAMPLES - len(self.examples)])
            self.examples += stretch.table["tx_id"].take(first).to_pylist()

    def found(self, what: str, kind: Kind = "suspicious") -> Found:
        return Found(what, self.rows, self.of, kind, tuple(self.examples))


class StreamedCheck(Protocol):
    """A check that has seen some stretches."""

    def add(self, stretch: Stretch) -> None:
        """Look at one more stretch."""

    def found(self) -> Iterator[Found]:
        """What it has found so far."""


class AmountChecks:
    """Ranges: zero and huge amounts, and how amounts are spread."""

    def __init__(self) -> None:
        self._zero, self._huge = Marks(), Marks()
        self.bins: Ints = np.zeros(POWERS * STEPS, np.int64)

    def add(self, stretch: Stretch) -> None:
        self._zero.add(np.any(stretch.amounts == 0, axis=1), stretch)
        self._huge.add(np.any(stretch.usd > HUGE, axis=1), stretch)
        paid = stretch.usd[:, 0]
        place = np.floor((np.log10(np.maximum(paid, 10.0**LOWEST)) - LOWEST) * STEPS).astype(np.int64)
        self.bins += np.bincount(np.minimum(place, len(self.bins) - 1), minlength=len(self.bins))

    def found(self) -> Iterator[Found]:
        yield self._zero.found("nothing was paid or received: the amount is zero")
        yield self._huge.found(f"more than {HUGE:,.0f} US dollars")


class RepeatChecks:
    """Duplicates: rows with an id of their own that say what another row said, to the last character and stamp."""

    def __init__(self) -> None:
        self._repeats, self._marks = Repeats(), Marks()

    def add(self, stretch: Stretch) -> None:
        said = stretch.accounts[:, 0]
        for numbers in (stretch.accounts[:, 1], stretch.times, *stretch.amounts.T, *stretch.currencies.T):
            said = with_number(said, numbers)
        said = with_text(said, stretch.table["payment_format"])
        self._marks.add(self._repeats.of(said), stretch)

    def found(self) -> Iterator[Found]:
        yield self._marks.found("the same time, accounts, amounts and format as an earlier row, under another id")


class ClockChecks:
    """The clock: stamps in the future, and the unit in which the source stamps."""

    def __init__(self, now: int) -> None:
        self._now = now  # microseconds since 1970
        self._future = Marks()
        self._whole = dict.fromkeys(UNITS, 0)
        self._rows = 0

    def add(self, stretch: Stretch) -> None:
        self._future.add(stretch.times > self._now, stretch)
        self._rows += len(stretch.times)
        left = stretch.times
        for name, unit in UNITS.items():  # what is a whole minute is a whole second too
            left = left[left % unit == 0]
            self._whole[name] += len(left)

    def found(self) -> Iterator[Found]:
        yield self._future.found("stamped later than the clock of the machine that read it")
        for name, rows in self._whole.items():
            yield Found(f"stamped on a whole {name}", rows, self._rows, "fact")


class CurrencyChecks:
    """Currencies: how much of each, and exchanges that no rate explains."""

    def __init__(self) -> None:
        self._unequal, self._far, self._exchanged = Marks(), Marks(), Marks()
        self._paid: Ints = np.zeros(len(CURRENCY_CODES), np.int64)

    def add(self, stretch: Stretch) -> None:
        codes, (paid, received) = stretch.currencies, stretch.usd.T
        exchanged = codes[:, 0] != codes[:, 1]
        self._exchanged.add(exchanged, stretch)
        differs = ~exchanged & (np.abs(stretch.amounts[:, 0] - stretch.amounts[:, 1]) > 0.01)
        self._unequal.add(differs, stretch, of=int((~exchanged).sum()))
        far = exchanged & ((received > TWICE * paid) | (paid > TWICE * received))
        self._far.add(far, stretch, of=int(exchanged.sum()))
        self._paid += np.bincount(codes[:, 0], minlength=len(CURRENCY_CODES))

    def found(self) -> Iterator[Found]:
        yield self._unequal.found("paid and received differ, in one currency")
        yield self._far.found("exchanged at more than twice, or less than half, the fixed rate")
        yield self._exchanged.found("paid in one currency and received in another", "fact")
        for place in np.argsort(-self._paid, kind="stable"):
            if self._paid[place]:
                told = f"paid in {CURRENCY_CODES[place]}"
                yield Found(told, int(self._paid[place]), int(self._paid.sum()), "fact")


class SelfTransferChecks:
    """Self-transfers: an account that pays itself. Ordinary in some sources, and never a flow of money."""

    def __init__(self) -> None:
        self._marks = Marks()

    def add(self, stretch: Stretch) -> None:
        self._marks.add(stretch.to_oneself, stretch)

    def found(self) -> Iterator[Found]:
        yield self._marks.found("sender and receiver are one account")


class BalanceChecks:
    """Impossible balances, where the source reports any; those of accounts hold only in order of time."""

    def __init__(self) -> None:
        self._overdrawn, self._contradicted = Marks(), Marks()
        self._balances: Balances | None = None  # a source without balances needs no memory for them

    def add(self, stretch: Stretch) -> None:
        columns = [stretch.table[f"{side}_balance"] for side in ("sender", "receiver")]
        if all(column.null_count == len(column) for column in columns):
            return
        balances = np.column_stack([pc.fill_null(column, np.nan).to_numpy() for column in columns])
        known, paid = np.isfinite(balances), stretch.amounts[:, 0]
        above = ~stretch.to_oneself & known[:, 0] & (paid > balances[:, 0] + 0.01)
        self._overdrawn.add(above, stretch, of=int(known[:, 0].sum()))
        self._balances = self._balances or Balances()
        before = self._balances.checked
        accounts = with_number(stretch.accounts, stretch.currencies)
        wrong = self._balances.contradicted(accounts, balances, stretch.amounts * [-1.0, 1.0])
        self._contradicted.add(np.any(wrong, axis=1), stretch, of=self._balances.checked - before)

    def found(self) -> Iterator[Found]:
        yield self._overdrawn.found("pays more than the balance reported")
        yield self._contradicted.found("the balance does not follow from the one before and the payments since")
