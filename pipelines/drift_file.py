"""The drift report that a job writes anew (`monitor drift --decisions`), as a watch reads it."""

from __future__ import annotations

import logging
from pathlib import Path

from pydantic import ValidationError

from monitoring.drift import DriftReport

_logger = logging.getLogger(__name__)


class DriftFile:
    """The newest report at `path` that could be read; called, it answers with it, or None before the first.

    The job may not have written any yet, and may be writing one now.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read_at = 0  # when it was changed last, as far as that was seen; -1: it is not there
        self._report: DriftReport | None = None

    def __call__(self) -> DriftReport | None:
        """The report, read again if the file has changed."""
        try:
            changed_at = self._path.stat().st_mtime_ns
            if changed_at != self._read_at:
                self._read_at = changed_at
                self._report = DriftReport.model_validate_json(self._path.read_bytes())
        except OSError as error:
            if self._read_at >= 0:  # told once: a watch asks every few seconds
                _logger.warning("no new drift report: %s", error)
            self._read_at = -1
        except ValidationError:
            _logger.warning("%s is no drift report; the one before it holds", self._path)
        return self._report
