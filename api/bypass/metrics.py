"""What Prometheus sees of the bypass. Labels have few values: kinds of reason, outcome and state, no ids."""

from __future__ import annotations

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from api.bypass.breaker import STATES, State
from riskdistill.storage.decisions import Decision

_SECONDS: Final = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0)
_APART: Final = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0)


class BypassMetrics:
    """The bypass's metrics, in the service's `registry`."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._wanted = Counter(
            "riskdistill_teacher_wanted_total",
            "Decisions for which the teacher was wanted, by each reason and by what came of it",
            ["reason", "outcome"],
            registry=registry,
        )
        self._seconds = Histogram(
            "riskdistill_teacher_seconds",
            "Time from asking the teacher to its answer, or to the deadline",
            ["outcome"],
            buckets=_SECONDS,
            registry=registry,
        )
        self._cost = Counter(
            "riskdistill_teacher_cost_total", "Cost of calling the teacher, as configured", registry=registry
        )
        self._breaker = Gauge(
            "riskdistill_teacher_breaker",
            "1 for the state of the circuit breaker",
            ["state"],
            registry=registry,
            multiprocess_mode="livemax",
        )
        self._apart = Histogram(
            "riskdistill_teacher_disagreement",
            "Distance of the student's score from the teacher's; sampled: drawn whatever the score",
            ["sampled"],
            buckets=_APART,
            registry=registry,
        )
        self._differing = Counter(
            "riskdistill_teacher_differing_actions_total",
            "Transactions on which student and teacher call for different actions",
            ["sampled"],
            registry=registry,
        )
        self._raised = Counter(
            "riskdistill_raised_bands_total", "Bands raised for want of the teacher's answer", registry=registry
        )

    def breaker(self, state: State) -> None:
        """Shows the breaker's state."""
        for one in STATES:
            self._breaker.labels(one).set(one == state)

    def decided(self, decision: Decision) -> None:
        """Counts a durable decision for which the teacher was wanted."""
        bypass = decision.bypass
        assert bypass is not None
        for reason in bypass.wanted:
            self._wanted.labels(reason, bypass.outcome).inc()
        if bypass.latency_ms is not None:
            self._seconds.labels(bypass.outcome).observe(bypass.latency_ms / 1e3)
            self._cost.inc(bypass.cost)
        if decision.teacher_score is not None:
            sampled = "true" if "sampled" in bypass.wanted else "false"
            self._apart.labels(sampled).observe(abs(decision.student_score - decision.teacher_score))
            if bypass.teacher_action != bypass.student_action:
                self._differing.labels(sampled).inc()
        if bypass.raised:
            self._raised.inc()
