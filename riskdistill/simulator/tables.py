"""Payments of one window as canonical tables: what happened, what the bank has on record of it, and what is true.

Names are positions in dictionaries here, which costs a tenth of text; `plain` makes text of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import numba
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from riskdistill.data.currencies import CURRENCY_CODES
from riskdistill.data.schema import LABELS, NORMAL, TIMESTAMP, TRANSACTIONS
from riskdistill.simulator.arrays import Bools, Floats, Ints
from riskdistill.simulator.methods import TYPOLOGIES
from riskdistill.simulator.payments import ORDINARY, Payments
from riskdistill.simulator.population import COUNTRIES, RATE, Kind, Population

Column = Any  # an Arrow array
SECONDS_A_DAY: Final = 86_400
ID_DIGITS: Final = 10


@dataclass(frozen=True)
class Simulated:
    """Canonical tables in the order of time; row i of each belongs to row i of the others.

    Attributes:
        transactions: schema TRANSACTIONS.
        labels: schema LABELS: what the bank has on record in the end; laundering that nobody found is normal.
        truth: schema LABELS: all that is laundering, for evaluation only.
    """

    transactions: pa.Table
    labels: pa.Table
    truth: pa.Table


def plain(parts: Sequence[Simulated]) -> Simulated:
    """All `parts` in one, with text for names."""
    schemas = {"transactions": TRANSACTIONS, "labels": LABELS, "truth": LABELS}
    return Simulated(
        **{
            name: pa.concat_tables([getattr(part, name).cast(schema) for part in parts]).combine_chunks()
            for name, schema in schemas.items()
        }
    )


def cents(payments: Payments, population: Population) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """What is paid and what is received, in cents of the payer's and the payee's currency; at least one."""
    paid_in, received_in = population.currency[payments.sender], population.currency[payments.receiver]
    paid = np.rint(100 * payments.value / RATE[paid_in]).clip(1)
    received = np.where(paid_in == received_in, paid, np.rint(paid * RATE[paid_in] / RATE[received_in]).clip(1))
    return paid.astype(np.int64), received.astype(np.int64)


class Tables:
    """Makes tables of the payments of one world, window after window; ids count on."""

    def __init__(self, population: Population, formats: tuple[str, ...], start: datetime) -> None:
        self.population, self.start = population, start
        self.rows = 0
        self._formats = pa.array(formats)
        self._names = pa.array(population.name)
        self._banks = pa.array(population.bank_names)
        self._currencies = pa.array(CURRENCY_CODES)
        self._countries = pa.array([code for code, *_ in COUNTRIES])
        self._typologies = pa.array([*TYPOLOGIES, NORMAL])  # ORDINARY, -1, is the last
        self._classes = pa.array([kind.name.lower() for kind in Kind])
        self._counter = population.kind >= Kind.EXCHANGE

    def of(
        self, payments: Payments, paid: npt.NDArray[np.int64], received: npt.NDArray[np.int64], balances: Floats
    ) -> Simulated:
        """The tables of payments in the order of time.

        Args:
            paid, received: in cents.
            balances: of payer and payee just before, in units of their currencies; shape [2, n].
        """
        ids, stamps = self._ids(len(payments)), self._stamps(payments.time)
        self.rows += len(payments)
        found, laundering = payments.recorded != ORDINARY, payments.scheme != ORDINARY
        known = np.where(found, payments.known, 0.0) + np.where(found, 0.0, payments.time)
        return Simulated(
            transactions=_table(TRANSACTIONS, self._transactions(payments, ids, stamps, paid, received, balances)),
            labels=_table(
                LABELS,
                [ids, *self._told(payments, payments.recorded, found, found & laundering), self._stamps(known)],
            ),
            truth=_table(LABELS, [ids, *self._told(payments, payments.typology, laundering, laundering), stamps]),
        )

    def _transactions(
        self,
        payments: Payments,
        ids: Column,
        stamps: Column,
        paid: npt.NDArray[np.int64],
        received: npt.NDArray[np.int64],
        balances: Floats,
    ) -> list[Column]:
        parties, population = (payments.sender, payments.receiver), self.population
        accounts = [_named(self._names, party) for party in parties]
        banks = [_named(self._banks, population.bank[party]) for party in parties]
        money = [_named(self._currencies, population.currency[party]) for party in parties]
        day = np.floor(payments.time)
        moved = [pa.array(amount / 100) for amount in (paid, received)]
        return [
            ids,
            stamps,
            *(column for both in zip(accounts, banks, strict=True) for column in both),
            *(column for both in zip(moved, money, strict=True) for column in both),
            _named(self._formats, payments.format),
            *(_named(self._countries, population.country[party]) for party in parties),
            # a counter of the bank, or an exchange, is no customer whose balance and class are on the payment
            *(pa.array(held, mask=self._counter[party]) for held, party in zip(balances, parties, strict=True)),
            *(pa.array(day - population.opened[party]) for party in parties),
            *(pa.array(self._contact_changes(party, day)) for party in parties),
            *(_named(self._classes, population.kind[party], self._counter[party]) for party in parties),
        ]

    def _contact_changes(self, party: Ints, day: Floats) -> Floats:
        """How often the party's contact details had changed by that day."""
        population = self.population
        here = (day - population.opened[party].clip(min=0)).clip(min=0)
        return np.asarray(np.floor(population.changes[party] + here * population.change_rate[party]))

    def _told(self, payments: Payments, typology: Ints, mask: Bools, of_scheme: Bools) -> list[Column]:
        """Whether it is laundering, of which typology and of which scheme."""
        schemes, place = np.unique(payments.scheme[of_scheme], return_inverse=True)
        index = np.zeros(len(payments), dtype=np.int32)
        index[of_scheme] = place
        names = pa.array([f"S{scheme:011d}" for scheme in schemes], pa.string())
        index_column = pa.array(index, mask=~of_scheme)
        name = np.where(typology == ORDINARY, np.int8(len(TYPOLOGIES)), typology)
        return [
            pa.array(mask),
            _named(self._typologies, name),
            pa.DictionaryArray.from_arrays(index_column, names),
        ]

    def _ids(self, n: int) -> Column:
        text = np.empty((n, 1 + ID_DIGITS), dtype=np.uint8)
        _count(self.rows, text)
        offsets = np.arange(n + 1, dtype=np.int32) * (1 + ID_DIGITS)
        return pa.StringArray.from_buffers(n, pa.py_buffer(offsets), pa.py_buffer(text))

    def _stamps(self, time: Floats) -> Column:
        """Days since the start as canonical timestamps in whole seconds."""
        seconds = np.floor(time * SECONDS_A_DAY).astype(np.int64) + int(self.start.timestamp())
        return pa.array(seconds * 1_000_000).cast(TIMESTAMP)


@numba.njit(nogil=True, cache=True)
def _count(first: int, text: npt.NDArray[np.uint8]) -> None:
    """Writes T and the numbers from `first` on, in decimal, into rows of bytes."""
    for row in range(text.shape[0]):
        number = first + row
        text[row, 0] = 84
        for place in range(text.shape[1] - 1, 0, -1):
            text[row, place] = 48 + number % 10
            number //= 10


def _named(names: Column, codes: Ints, unknown: Bools | None = None) -> Column:
    return pa.DictionaryArray.from_arrays(pa.array(codes.astype(np.int32, copy=False), mask=unknown), names)


def _table(schema: Any, columns: list[Column]) -> pa.Table:
    """A table of `schema`, but with dictionaries in the place of repeated texts."""
    fields = [field.with_type(column.type) for field, column in zip(schema, columns, strict=True)]
    return pa.Table.from_arrays(columns, schema=pa.schema(fields))
