"""The journals that live in a decision log's database, for whoever verifies or exports all that is there."""

from __future__ import annotations

from riskdistill.storage.cases import case_journal
from riskdistill.storage.journal import Journal
from riskdistill.storage.suppressions import suppression_journal


def desk_journals(url: str) -> tuple[Journal, ...]:
    """The journals of cases and of suppressions at the `url` of a decision log, opened to be read.

    A database may lack one, see `Journal.is_there`.

    Raises:
        ConfigError: nothing opens at `url`, or a journal is of another version.
    """
    return case_journal(url, create=False), suppression_journal(url, create=False)
