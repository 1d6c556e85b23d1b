"""The stages of a transaction's path, and when each of them ended: for the metrics and for traces alike."""

from __future__ import annotations

from time import perf_counter
from typing import Final

# `state` stands for `features` and `student` where workers share the state
STAGES: Final = ("lookup", "features", "student", "state", "teacher", "reasons", "order", "store")


class Marks:
    """When a transaction arrived and when it was through with each stage, on the clock of `perf_counter`.

    A stage lasts from the end of the one before it. What a transaction did not need, it has no mark of.

    Args:
        began: when it arrived.
        trace: what `tracing.here` said of its request.
    """

    __slots__ = ("began", "ends", "trace")

    def __init__(self, began: float, trace: object = None) -> None:
        self.began, self.trace = began, trace
        self.ends: list[tuple[str, float]] = []

    def end(self, stage: str, at: float | None = None) -> None:
        """The transaction is through with `stage`, now or since that time."""
        self.ends.append((stage, perf_counter() if at is None else at))
