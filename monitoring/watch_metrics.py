"""What Prometheus sees of a watch (`riskdistill monitor watch --metrics-port`): that it looks, and what it did.

Loopback only: it tells of releases and asks for no key. `docs/operation.md` says what each metric means.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from time import monotonic
from typing import get_args

from prometheus_client import CollectorRegistry, Counter, Gauge, start_http_server

from monitoring.notices import Kind, Notice
from monitoring.rollback import Action, Verdict
from riskdistill.errors import ConfigError


class WatchMetrics:
    """The metrics of one watch, in a registry of their own. Each count is there from the beginning, as 0."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._looks = self._counter("looks", "Looks at the champion, by what each found or did", "action")
        self._notices = self._counter("notices", "What was begun, ended or done", "kind")
        self.undelivered = self._counter("webhook_failures", "Notices that the webhook did not take")
        self._alarm = self._gauge("alarm", "1 while an alarm stands")
        self._last = monotonic()
        age = self._gauge("last_look_age_seconds", "Time since the last look that was possible, or since the start")
        age.set_function(
            lambda: monotonic() - self._last
        )  # asked by another thread: it tells of a watch that hangs
        for action in get_args(Action):
            self._looks.labels(action)
        for kind in get_args(Kind):
            self._notices.labels(kind)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"riskdistill_monitor_{name}_total", text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str) -> Gauge:
        return Gauge(f"riskdistill_monitor_{name}", text, registry=self.registry)

    def looked(self, verdict: Verdict, notices: Sequence[Notice], *, alarm: bool) -> None:
        """Counts a look at the champion, and what is told of it or of a canary; `alarm` is whether one stands."""
        self._last = monotonic()
        self._looks.labels(verdict.action).inc()
        for notice in notices:
            self._notices.labels(notice.kind).inc()
        self._alarm.set(alarm)

    @contextmanager
    def served(self, port: int) -> Iterator[int]:
        """Serves them at a `port` of loopback (0: any that is free), which it gives.

        Raises:
            ConfigError: nothing can listen there.
        """
        try:
            server, thread = start_http_server(port, addr="127.0.0.1", registry=self.registry)
        except OSError as error:
            raise ConfigError(
                f"metrics cannot be served ({error.strerror})",
                where=f"127.0.0.1:{port}",
                mend="choose another port, or 0 for any that is free",
            ) from error
        try:
            yield server.server_port
        finally:
            server.shutdown()
            server.server_close()
            thread.join()
