"""Moments on the command line."""

from __future__ import annotations

from datetime import datetime

from riskdistill.errors import ConfigError


def instant(text: str | None, option: str) -> datetime | None:
    """The moment that an option names; None where it was not given.

    Raises:
        ConfigError: it is none, or says no offset from UTC.
    """
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise ConfigError(str(error), where=option, mend="write it as 2022-09-10T00:00:00Z") from error
    if moment.tzinfo is None:
        raise ConfigError("it says no offset from UTC", where=option, mend="write it as 2022-09-10T00:00:00Z")
    return moment
