"""What Prometheus sees: counts, latencies, queues and the bundle in service, with labels of few values.

Times are in seconds, all names begin with `riskdistill_`, and `docs/operation.md` says what each means.

Each application has its own registry, so several can live in one process. Where several workers serve one socket,
each writes into a file of its own in the folder `PROMETHEUS_MULTIPROC_DIR`, and whichever is asked adds up all of
them: counts of workers that ended stay, their gauges go.

The hot path appends to lists and counts in dictionaries. `flush` takes these over into the client's metrics, when
metrics are asked for and twice a second (`api.service`), so that another worker's answer lags by that at most.
"""

from __future__ import annotations

import os
from collections import Counter as Tally
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from api.bypass.metrics import BypassMetrics
from api.telemetry.stages import STAGES, Marks
from riskdistill.storage.decisions import Decision

DIRECTORY: Final = "PROMETHEUS_MULTIPROC_DIR"  # must be set before the client library is imported
BUCKETS: Final = (0.0005, 0.001, 0.002, 0.003, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
STAGE_BUCKETS: Final = (0.00001, 0.00003, 0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
SIZES: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
FULL: Final = 2_048  # observations kept before they are taken over
REFUSALS: Final = {401: "credentials", 403: "scope", 413: "size", 415: "type", 422: "invalid", 429: "rate"}


class BatchHistogram(Histogram):
    """A histogram that takes many observations for little more than the price of one."""

    def observe_many(self, amounts: Sequence[float]) -> None:
        """Observe each of `amounts`."""
        places = np.searchsorted(self._upper_bounds, amounts)  # the first bound that is not below
        for bucket, count in zip(self._buckets, np.bincount(places), strict=False):
            if count:
                bucket.inc(int(count))
        self._sum.inc(float(np.sum(amounts)))


class Metrics:
    """The service's own registry and the metrics in it. For one thread, that of the event loop."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = self._counter("requests", "Requests answered", "route", "status")
        self._latency = self._histogram(
            "request_seconds", "Time from a request's arrival to the end of its answer", BUCKETS, "route"
        )
        self._refusals = self._counter("refused_requests", "Requests refused, by why", "reason")
        self._in_flight = self._gauge("requests_in_flight", "Requests of /v1 that are being answered", "livesum")
        self._stages = self._histogram(
            "stage_seconds", "Time that a transaction took in a stage of its path", STAGE_BUCKETS, "stage"
        )
        self._decisions = self._counter("decisions", "Decisions made durable", "route", "action")
        self._bypass = self._counter(
            "bypass", "Decisions for which the teacher was wanted, by what came of it", "reason"
        )
        self._queues = self._gauge("queue_depth", "Transactions that wait, by what for", "livesum", "queue")
        self._commit_sizes = self._histogram("commit_decisions", "Decisions in one group commit", SIZES)
        self._commit_times = self._histogram("commit_seconds", "Time that one group commit took", BUCKETS)
        self._commit_failures = self._counter("commit_failures", "Group commits that failed")
        self._accounts = self._gauge("state_accounts", "Accounts in the state", "livemax")
        self._state_conflicts = self._counter(
            "state_conflicts", "Steps of the shared state computed again, because another worker was faster"
        )
        self._state_failures = self._counter("state_failures", "Steps of the shared state that failed")
        self._bundle = self._gauge(
            "bundle_info", "Bundles kept warm, by role: 1 now, 0 before", "livemax", "role", "version"
        )
        self._teacher = self._gauge("teacher_loaded", "Workers whose teacher can be asked", "livesum")
        self._ready = self._gauge("ready_workers", "Workers that can score", "livesum")
        self._workers = self._gauge("workers", "Workers that run", "livesum")
        self._start = self._gauge("start_seconds", "Longest time from start to ready", "livemax")
        self.refused = self._counter("refused_bundles", "Released bundles that were not taken")
        self.teacher = BypassMetrics(self.registry)
        self._reasons = self._histogram(
            "reasons_seconds",
            "Time that was spent on an alert's reasons, queueing included, by what came of it",
            BUCKETS,
            "outcome",
        )
        for outcome in ("given", "late", "failed"):
            self._reasons.labels(outcome)  # from 0, so that the first one counts as an increase
        self._suppressed = self._counter("suppressed_alerts", "Alerts that a suppression let pass")
        self._sampled = self._counter("sampled", "Decisions below the line drawn for review")
        self._shadows = self._counter(
            "shadow_scores", "Decisions for the other bundle to score, by what came of it", "outcome"
        )
        self._callers = self._counter(
            "refused_callers", "Requests refused for their credential or rate, by reason", "reason"
        )
        self._key_file_damaged = self._gauge(
            "key_file_damaged",
            "1 while the key file cannot be used and the keys of before stay in force",
            "livemax",
        )
        self._workers.set(1)
        self._flying = 0
        self._answered: Tally[tuple[str, int]] = Tally()
        self._decided: Tally[tuple[str, str]] = Tally()
        self._times: defaultdict[tuple[BatchHistogram, str], list[float]] = defaultdict(list)
        self._shown: set[tuple[str, str]] = set()

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"riskdistill_{name}_total", text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str, bounds: Sequence[float], *labels: str) -> BatchHistogram:
        return BatchHistogram(f"riskdistill_{name}", text, labels, buckets=bounds, registry=self.registry)

    def _gauge(self, name: str, text: str, mode: Any, *labels: str) -> Gauge:
        return Gauge(f"riskdistill_{name}", text, labels, registry=self.registry, multiprocess_mode=mode)

    @property
    def in_flight(self) -> int:
        """Requests of /v1 that this worker is answering."""
        return self._flying

    def began(self) -> None:
        """A request of /v1 came in."""
        self._flying += 1

    def ended(self) -> None:
        """It is answered, or its caller went away."""
        self._flying -= 1

    def answered(self, route: str, status: int, seconds: float) -> None:
        """Counts a request that ended."""
        self._answered[route, status] += 1
        self._note(self._latency, route, seconds)

    def refused_for(self, reason: str) -> None:
        """Counts a refusal whose reason its status does not tell."""
        self._refusals.labels(reason).inc()

    def turned_away(self, reason: str) -> None:
        """Counts a caller that was refused: missing, unknown, expired, revoked, token or rate."""
        self._callers.labels(reason).inc()

    def shadowed(self, outcome: str, count: int = 1) -> None:
        """Counts decisions that the other bundle was to score: scored, dropped or failed."""
        self._shadows.labels(outcome).inc(count)

    def key_file(self, *, damaged: bool) -> None:
        """Shows whether the key file can be used."""
        self._key_file_damaged.set(damaged)

    def decided(self, decision: Decision, marks: Marks) -> None:
        """Counts a decision that is durable now, and the time that it took in each stage."""
        self._decided[decision.route, decision.action] += 1
        if decision.route_reason != "none":
            self._bypass.labels(decision.route_reason).inc()
        if decision.bypass is not None:
            self.teacher.decided(decision)
        if decision.suppression is not None:
            self._suppressed.inc()
        if decision.sample_share is not None:
            self._sampled.inc()
        before, times, stages = marks.began, self._times, self._stages
        for stage, end in marks.ends:
            times[stages, stage].append(end - before)
            before = end
        if len(times[stages, STAGES[0]]) >= FULL:
            self.flush()

    def explained(self, outcome: str, seconds: float) -> None:
        """Counts an alert that reasons were sought for: given, late or failed."""
        self._note(self._reasons, outcome, seconds)

    def committed(self, decisions: int, seconds: float, failed: bool) -> None:
        """Counts a group commit."""
        self._note(self._commit_sizes, "", decisions)
        self._note(self._commit_times, "", seconds)
        if failed:
            self._commit_failures.inc()

    def waiting(self, **queues: int) -> None:
        """Shows how many transactions wait for what."""
        for queue, depth in queues.items():
            self._queues.labels(queue).set(depth)

    def accounts(self, number: int) -> None:
        """Shows the size of the state."""
        self._accounts.set(number)

    def state_trouble(self, conflicts: int, failures: int) -> None:
        """Counts what went wrong in a shared state since the last call."""
        self._state_conflicts.inc(conflicts)
        self._state_failures.inc(failures)

    def readiness(self, ready: bool, teacher: bool) -> None:
        """Shows whether this worker can score, and whether its teacher can be asked."""
        self._ready.set(ready)
        self._teacher.set(teacher)

    def started(self, seconds: float) -> None:
        """Shows how long this worker took until it was ready."""
        self._start.set(seconds)

    def serving(self, current: str, previous: str | None, challenger: str | None = None) -> None:
        """Shows these bundle versions and no others."""
        serving = (("current", current), ("previous", previous), ("challenger", challenger))
        shown = {(role, version) for role, version in serving if version is not None}
        for role, version in self._shown | shown:
            self._bundle.labels(role, version).set((role, version) in shown)
        self._shown |= shown

    def text(self) -> bytes:
        """All metrics in Prometheus' text format, of all workers."""
        self.flush()
        if not os.environ.get(DIRECTORY):
            return generate_latest(self.registry)
        every = CollectorRegistry()
        MultiProcessCollector(every)  # type: ignore[no-untyped-call]
        return generate_latest(every)

    def flush(self) -> None:
        """Takes over what the hot path left."""
        answered, self._answered = self._answered, Tally()
        for (route, status), count in answered.items():
            self._requests.labels(route, str(status)).inc(count)
            if (reason := REFUSALS.get(status)) is not None:
                self._refusals.labels(reason).inc(count)
        decided, self._decided = self._decided, Tally()
        for labels, count in decided.items():
            self._decisions.labels(*labels).inc(count)
        times, self._times = self._times, defaultdict(list)
        for (histogram, label), amounts in times.items():
            child = histogram.labels(label) if label else histogram
            child.observe_many(amounts)
        self._in_flight.set(self._flying)

    def _note(self, histogram: BatchHistogram, label: str, amount: float) -> None:
        kept = self._times[histogram, label]
        kept.append(amount)
        if len(kept) >= FULL:
            self.flush()
