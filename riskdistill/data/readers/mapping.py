"""Any CSV or Parquet file, with a YAML file that says which of its columns is what.

    columns:                      # canonical field: column of the file
      timestamp: booked_at
      sender_account: from_iban
      receiver_account: to_iban
      amount_paid: amount
      sender_balance: saldo       # optional, as receiver_balance, sender_tenure_days, sender_contact_changes, …
      is_laundering: confirmed    # leave out where nothing is known yet: there are no labels then
    constants:                    # for what the file does not tell
      sender_bank: our_bank
      receiver_bank: other_bank
      currency_paid: EUR
      payment_format: transfer
    timestamp:                    # how times are written; without this, ISO 8601 with an offset
      format: "%d.%m.%Y %H:%M"
      timezone: Europe/Berlin     # of times that carry no offset
      coarse: true                # stamped by the day or the hour: the file's order within one is not used
    delimiter: ";"                # of a CSV file; a comma if not given

Without `tx_id`, ids are `mapping-<row number>`; without `amount_received` and `currency_received`, what was
received is what was paid; without `known_at`, a label is taken as known when its transaction happened. Times that
can only say the day or the hour (dates, a format without minutes, a unit of hours or days) are coarse anyway.
Beside a coarse clock, map balances only if they are those of the day's or the hour's start: one that is taken
between two payments of the same day tells which came first.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, Literal, Self
from zoneinfo import ZoneInfo

import pyarrow as pa
import yaml
from pydantic import (
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from riskdistill.data import columns
from riskdistill.data.columns import Column, pc
from riskdistill.data.schema import CUSTOMER_CLASSES, RANGES, TIMESTAMP, TRANSACTIONS
from riskdistill.data.source import Rows, locate, read_rows
from riskdistill.data.transaction import describe
from riskdistill.data.validate import Batch, Draft, SeenIds, canonicalise
from riskdistill.errors import ConfigError

_LABELS: Final[tuple[str, ...]] = ("is_laundering", "typology", "scheme_id", "known_at")
_FIELDS: Final = (*TRANSACTIONS.names, *_LABELS)
_MAY_BE_CONSTANT: Final = (
    "sender_bank",
    "receiver_bank",
    "currency_paid",
    "currency_received",
    "payment_format",
    "sender_country",
    "receiver_country",
)
_NEEDED: Final = (
    "timestamp",
    "sender_account",
    "sender_bank",
    "receiver_account",
    "receiver_bank",
    "amount_paid",
    "currency_paid",
    "payment_format",
)
_AS_PAID: Final = {"amount_received": "amount_paid", "currency_received": "currency_paid"}
_SAYS_MINUTES: Final = re.compile("%[MRTrXcs]")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class TimeSpelling(BaseModel):
    """How a file writes its times: ISO 8601, a strptime pattern, or a number of units since a start."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: str | None = None
    unit: Literal["microseconds", "milliseconds", "seconds", "minutes", "hours", "days"] | None = None
    start: AwareDatetime = _EPOCH
    timezone: str | None = None
    coarse: bool = False

    @field_validator("timezone")
    @classmethod
    def _is_known(cls, name: str | None) -> str | None:
        try:
            return name if name is None else ZoneInfo(name).key
        except (KeyError, ValueError, OSError) as error:
            raise ValueError(f"no time zone {name!r}; use an IANA name, e.g. Europe/Berlin") from error

    @model_validator(mode="after")
    def _is_one_way(self) -> Self:
        if self.format and self.unit:
            raise ValueError("give either a format (texts) or a unit (numbers)")
        if self.format and not self.timezone:
            raise ValueError("a format needs a timezone, e.g. UTC")
        if self.format and "%z" in self.format.lower():
            raise ValueError("times with an offset are read as ISO 8601; leave the format out")
        return self

    def is_coarse(self, column: Column) -> bool:
        """Whether the times of `column` say no more than the hour."""
        return (
            self.coarse
            or self.unit in ("hours", "days")
            or (self.format is not None and not _SAYS_MINUTES.search(self.format))
            or pa.types.is_date(column.type)
        )


class ColumnMapping(BaseModel):
    """What a mapping file says; see the module's text for an example."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    columns: dict[str, str]
    constants: dict[str, str] = Field(default_factory=dict)
    timestamp: TimeSpelling = TimeSpelling()
    delimiter: str = Field(default=",", min_length=1, max_length=1)

    @model_validator(mode="after")
    def _tells_all(self) -> Self:
        mapped, constant = set(self.columns), set(self.constants)
        mistakes = {
            f"no such field (they are {', '.join(_FIELDS)})": mapped - set(_FIELDS),
            f"no constant is possible (only for {', '.join(_MAY_BE_CONSTANT)})": constant - set(_MAY_BE_CONSTANT),
            "neither a column nor a constant": set(_NEEDED) - mapped - constant,
            "both a column and a constant": mapped & constant,
            "a label without a column for is_laundering": mapped & set(_LABELS)
            if "is_laundering" not in mapped
            else set(),
        }
        told = [f"{', '.join(sorted(names))}: {problem}" for problem, names in mistakes.items() if names]
        if told:
            raise ValueError("; ".join(told))
        return self


def load_mapping(path: Path) -> ColumnMapping:
    """The mapping that a YAML file holds.

    Raises:
        ConfigError: absent, not YAML, or wrong: all mistakes at once.
    """
    try:
        return ColumnMapping.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise ConfigError("no such mapping file", where=str(path), mend="check the path") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        told = " ".join(str(error).split())
        raise ConfigError(f"not YAML: {told}", where=str(path), mend="correct the line named") from error
    except ValidationError as error:
        raise ConfigError(describe(error), where=str(path), mend="correct the fields named") from error


def read(path: Path, mapping: ColumnMapping) -> Iterator[Batch]:
    """Reads a CSV, gzipped CSV or Parquet file, or the only such file of a folder, as `mapping` says."""
    file = locate(path, "*.csv", "*.csv.gz", "*.parquet")
    seen = SeenIds() if "tx_id" in mapping.columns else None
    for rows in read_rows(file, mapping.columns.values(), mapping.delimiter):
        yield canonicalise(draft(rows, mapping), seen)


def draft(rows: Rows, mapping: ColumnMapping) -> Draft:
    """What `mapping` makes of `rows`, which have all the columns that it names."""
    made: dict[str, Column] = {
        name: columns.repeated(value, len(rows.numbers)) for name, value in mapping.constants.items()
    }
    for name, source in mapping.columns.items():
        made[name] = _canonical(name, rows.table[source], mapping.timestamp)
    made.setdefault("tx_id", columns.row_ids("mapping", rows.numbers))
    for name, paid in _AS_PAID.items():
        made.setdefault(name, made[paid])
    labels: dict[str, Column] = {
        name: made.pop(name) for name in ("is_laundering", "typology", "scheme_id", "known_at") if name in made
    }
    if labels:
        none = pa.nulls(len(rows.numbers), pa.string())
        laundering = labels["is_laundering"]
        labels["typology"] = columns.typology(laundering, columns.words(labels.get("typology", none)))
        labels["scheme_id"] = columns.only_where(laundering, labels.get("scheme_id", none))
    origin: dict[str, tuple[str, ...]] = {name: (source,) for name, source in mapping.columns.items()}
    origin |= {name: origin[paid] for name, paid in _AS_PAID.items() if name not in origin and paid in origin}
    coarse = mapping.timestamp.is_coarse(rows.table[mapping.columns["timestamp"]])
    return Draft(rows, made, labels, origin, coarse=coarse)


def _canonical(name: str, column: Column, spelling: TimeSpelling) -> Column:
    match name:
        case "timestamp" | "known_at":
            return _time(column, spelling)
        case "amount_paid" | "amount_received":
            return columns.number(column)
        case "currency_paid" | "currency_received":
            return columns.currency(column)
        case "is_laundering":
            return columns.flag(column)
        case "sender_country" | "receiver_country" | "scheme_id":
            return columns.text_or_null(column)
        case _ if name in CUSTOMER_CLASSES:
            return columns.text_or_null(column)
        case _ if name in RANGES:
            return columns.number_or_null(column)
        case _:
            return columns.text(column)


def _time(column: Column, spelling: TimeSpelling) -> Column:
    """UTC times; null where a time cannot be read, or has no offset and no time zone is declared."""
    if pa.types.is_timestamp(column.type) and column.type.tz:
        return column.cast(TIMESTAMP, safe=False)
    if pa.types.is_temporal(column.type):
        return _in_zone(column.cast(pa.timestamp("us"), safe=False), spelling.timezone)
    if spelling.unit:
        return columns.elapsed_time(column, timedelta(**{spelling.unit: 1}), spelling.start)
    if spelling.format:
        naive = pc.strptime(columns.text(column), format=spelling.format, unit="us", error_is_null=True)
        return _in_zone(naive, spelling.timezone)
    written = columns.offset_time(column)
    if spelling.timezone is None:
        return written
    naive = columns.naive_time(columns.only_where(pc.is_null(written), columns.text(column)))
    return pc.coalesce(written, _in_zone(naive, spelling.timezone))


def _in_zone(naive: Column, timezone: str | None) -> Any:
    if timezone is None:
        return pa.nulls(len(naive), TIMESTAMP)
    if timezone == "UTC":
        return naive.cast(TIMESTAMP)
    # in the hour that clocks repeat, and in the one that they skip, either reading is as good
    zoned = pc.assume_timezone(naive, timezone, ambiguous="earliest", nonexistent="earliest")
    return zoned.cast(TIMESTAMP)
