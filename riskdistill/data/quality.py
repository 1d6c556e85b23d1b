"""The quality of a source: what is suspicious in the rows that are usable, counted as they stream by.

Rows that cannot be used are in quarantine (see `validate`); the rows counted here stay where they are. Each check
says what it looked at, what it found, and the ids of the first rows concerned; a row may be found by several.
Memory does not grow with the source: counters, days, bins of amounts, and the two tables of `recent`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime
from typing import Final

import numpy as np
import pyarrow as pa
from pydantic import BaseModel, ConfigDict

from riskdistill.data.quality_checks import (
    EXAMPLES,
    LOWEST,
    STEPS,
    AmountChecks,
    BalanceChecks,
    ClockChecks,
    CurrencyChecks,
    Found,
    Kind,
    RepeatChecks,
    SelfTransferChecks,
    StreamedCheck,
    Stretch,
)
from riskdistill.data.schema import TRANSACTIONS
from riskdistill.data.volume import DailyVolume, unlike_their_weekday

_ROWS_AT_A_TIME: Final = 1 << 17
_CHECKED: Final = {  # check → what it is about
    "schema": "Fields that are there, can be read, and are of their kind.",
    "ranges": "Amounts, balances and tallies within what is possible.",
    "duplicates": "Rows that are there twice. Found among some two million rows at a time.",
    "clock": "Stamps: in the future, far from the rest, in order, and in which unit.",
    "currencies": "Known currencies, and amounts that agree with them.",
    "self-transfers": "Accounts that pay themselves.",
    "balances": "Balances that payments contradict. An account is followed while some two million are in use.",
    "volume": "Days unlike the same weekday in the four weeks before and after.",
}


class Finding(BaseModel):
    """One thing that a check looked for: how many of the rows that it could look at, and the first ids."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    what: str
    rows: int
    of: int
    kind: Kind
    examples: tuple[str, ...]


class Check(BaseModel):
    """What one check refused (reason → rows, which are in quarantine) and what it found in the rows that stay."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    about: str
    refused: dict[str, int]
    findings: tuple[Finding, ...]


class Day(BaseModel):
    """The traffic of a day (UTC)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    day: date
    rows: int
    usd: float
    unusual: bool


class Bin(BaseModel):
    """Rows that paid at least `least` dollars and less than the next bin's; the lowest holds smaller ones too."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    least: float
    rows: int


class QualityReport(BaseModel):
    """What `quality.json` holds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str
    format: str
    rows_read: int
    accepted: int
    quarantined: int
    checks: tuple[Check, ...]
    days: tuple[Day, ...]  # the main span, without gaps
    amounts: tuple[Bin, ...]


class QualityMeter:
    """Takes in canonical rows, a stretch at a time, and reports in the end.

    Args:
        now: what counts as the future; the present if not given.
    """

    def __init__(self, now: datetime | None = None) -> None:
        moment = int((now or datetime.now(UTC)).timestamp() * 1e6)
        self._amounts = AmountChecks()
        self._checks: dict[str, StreamedCheck] = {
            "ranges": self._amounts,
            "duplicates": RepeatChecks(),
            "clock": ClockChecks(moment),
            "currencies": CurrencyChecks(),
            "self-transfers": SelfTransferChecks(),
            "balances": BalanceChecks(),
        }
        self._volume = DailyVolume()
        self._filled = {entry.name: 0 for entry in TRANSACTIONS if entry.nullable}
        self._rows = 0

    def add(self, transactions: pa.Table) -> None:
        """Count rows of schema TRANSACTIONS, in order of time where they are to be checked for balances."""
        for start in range(0, transactions.num_rows, _ROWS_AT_A_TIME):
            stretch = Stretch(transactions.slice(start, _ROWS_AT_A_TIME))
            for check in self._checks.values():
                check.add(stretch)
            self._volume.add(stretch.times, stretch.usd[:, 0])
            self._rows += stretch.table.num_rows
            for name in self._filled:
                self._filled[name] += stretch.table.num_rows - stretch.table[name].null_count

    def report(
        self, source: str, format_name: str, *, rows_read: int, out_of_order: int, refused: Mapping[str, int]
    ) -> QualityReport:
        """What was found in the rows added, of which there was one at least.

        Args:
            rows_read: rows of the source, of any kind.
            out_of_order: rows of the source that were stamped earlier than one before them.
            refused: reason → rows in quarantine.
        """
        found = {name: list(check.found()) for name, check in self._checks.items()}
        found["schema"] = [
            Found(f"{name} is known", rows, self._rows, "fact") for name, rows in self._filled.items()
        ]
        found["clock"].append(Found("earlier than a row before it", out_of_order, self._rows))
        days, of_days = self._days()
        found["clock"].append(of_days["clock"])
        found["volume"] = [of_days["volume"]]
        reasons = _by_check(refused)
        return QualityReport(
            source=source,
            format=format_name,
            rows_read=rows_read,
            accepted=self._rows,
            quarantined=sum(refused.values()),
            checks=tuple(
                Check(name=name, about=about, refused=reasons.get(name, {}), findings=_findings(found[name]))
                for name, about in _CHECKED.items()
            ),
            days=tuple(days),
            amounts=tuple(self._bins()),
        )

    def _days(self) -> tuple[list[Day], dict[str, Found]]:
        first, last = self._volume.main_span()
        rows, usd = self._volume.rows[first : last + 1], self._volume.usd[first : last + 1]
        unusual, judged = unlike_their_weekday(rows)
        days = [
            Day(day=self._volume.date_of(first + at), rows=rows[at], usd=round(usd[at], 2), unusual=unusual[at])
            for at in range(len(rows))
        ]
        far = self._rows - int(rows.sum())
        examples = tuple(str(day.day) for day in days if day.unusual)[:EXAMPLES]
        told = "days with far more or fewer rows than usual, of the days that have others to compare with"
        return days, {
            "clock": Found(f"before {days[0].day} or after {days[-1].day}, far from all the rest", far, self._rows),
            "volume": Found(told, int(unusual.sum()), int(judged.sum()), examples=examples),
        }

    def _bins(self) -> Iterator[Bin]:
        used = np.flatnonzero(self._amounts.bins)
        for place in range(used[0], used[-1] + 1):
            yield Bin(least=round(10.0 ** (LOWEST + place / STEPS), 2), rows=self._amounts.bins[place])


def _findings(found: list[Found]) -> tuple[Finding, ...]:
    return tuple(Finding(**one._asdict()) for one in found)


def _by_check(refused: Mapping[str, int]) -> dict[str, dict[str, int]]:
    """The reasons of quarantine, by the check that they belong to."""
    parted: dict[str, dict[str, int]] = {}
    for reason, rows in refused.items():
        parted.setdefault(_check_of(reason), {})[reason] = rows
    return parted


def _check_of(reason: str) -> str:
    field, _, problem = reason.partition(" ")
    if problem.startswith("is a duplicate"):
        return "duplicates"
    if problem.startswith(("is below", "is above", "is negative", "is not finite")):
        return "ranges"
    if field in ("timestamp", "known_at"):
        return "clock"
    return "currencies" if field.startswith("currency_") else "schema"
