"""The metrics of a watch, as Prometheus reads them over HTTP."""

from __future__ import annotations

import httpx
import pytest

from monitoring.notices import Notices
from monitoring.rollback import Verdict
from monitoring.watch_metrics import WatchMetrics
from riskdistill.errors import ConfigError


def test_looks_notices_and_the_age_of_the_last_look_are_served() -> None:
    metrics, notices = WatchMetrics(), Notices()
    with metrics.served(0) as port:
        before = httpx.get(f"http://127.0.0.1:{port}/metrics").text
        for action in ("none", "alarm", "alarm"):
            verdict = Verdict(action=action, reason="slow", release_id="r2")
            metrics.looked(verdict, notices.of(verdict), alarm=notices.alarm)
        after = httpx.get(f"http://127.0.0.1:{port}/metrics").text
    assert 'riskdistill_monitor_notices_total{kind="rolled_back"} 0.0' in before, "a first one shows as an increase"
    assert 'riskdistill_monitor_looks_total{action="alarm"} 2.0' in after
    assert 'riskdistill_monitor_notices_total{kind="alarm_began"} 1.0' in after
    assert "riskdistill_monitor_alarm 1.0" in after
    ages = [float(text.split("last_look_age_seconds ")[-1].splitlines()[0]) for text in (before, after)]
    assert all(0 <= age < 20 for age in ages)


def test_a_port_that_is_taken_is_an_error() -> None:
    with WatchMetrics().served(0) as port, pytest.raises(ConfigError, match=f"127.0.0.1:{port}: metrics cannot be"):
        WatchMetrics().served(port).__enter__()
