"""What every section of the configuration is made of: strict numbers, and the base class."""

from __future__ import annotations

from math import isclose
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo

# Numbers are strict: `epochs: true` or `epochs: "3"` is a mistake, not 1 or 3.
Count = Annotated[int, Field(strict=True, ge=1)]
Seed = Annotated[int, Field(strict=True, ge=0, lt=2**32)]
Share = Annotated[float, Field(strict=True, ge=0, le=1)]  # may be nothing or everything
OpenShare = Annotated[float, Field(strict=True, gt=0, lt=1)]
Positive = Annotated[float, Field(strict=True, gt=0)]
NonNegative = Annotated[float, Field(strict=True, ge=0)]
Number = Annotated[float, Field(strict=True)]


def sums_to_one(last: float, *names: str, info: ValidationInfo) -> float:
    """`last`, once the parts called `names` (of which it is the last) make a whole."""
    if all(name in info.data for name in names[:-1]):
        total = sum(info.data[name] for name in names[:-1]) + last
        if not isclose(total, 1.0, abs_tol=1e-6):
            raise ValueError(f"{' + '.join(names)} must be 1, is {total:.6g}")
    return last


class Section(BaseModel):
    """Base of every section: frozen, no unknown keys, finite numbers, defaults checked too."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True, serialize_by_alias=True
    )
