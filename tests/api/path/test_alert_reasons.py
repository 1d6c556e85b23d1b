"""One alert is explained in each turn of the event loop, and none holds up the others."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from api.path.alert_reasons import AlertReasons, Found
from api.telemetry.metrics import Metrics
from riskdistill.reasons import Explanation, Reason

pytestmark = pytest.mark.anyio


@pytest.fixture
def reasons() -> AlertReasons:
    return AlertReasons(Metrics())


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What is explained, in order; the row "bad" cannot be."""
    order: list[Any] = []

    def explain(_bundle: object, row: Any) -> Explanation:
        order.append(row)
        if row == "bad":
            raise RuntimeError("no reasons")
        return Explanation((Reason(str(row), "", 1.0),), (), {}, "1")

    monkeypatch.setattr("api.path.alert_reasons.explain", explain)
    return order


def find(reasons: AlertReasons, row: Any) -> asyncio.Task[Found]:
    bundle: Any = SimpleNamespace(version="v1")
    return asyncio.create_task(reasons.find(bundle, row))


async def test_the_loop_has_a_turn_between_two_alerts(reasons: AlertReasons, told: list[Any]) -> None:
    finds = [find(reasons, row) for row in ("a", "b", "c")]
    while not finds[-1].done():
        told.append("turn")
        await asyncio.sleep(0)
    assert [one.result().reasons[0].code for one in finds] == ["a", "b", "c"]
    between = "".join(told).replace("turn", "-").strip("-")
    assert between.replace("-", "") == "abc"
    assert "ab" not in between
    assert "bc" not in between


async def test_an_alert_that_cannot_be_explained_keeps_no_other_from_its_reasons(
    reasons: AlertReasons, told: list[Any]
) -> None:
    bad, good = await asyncio.gather(find(reasons, "bad"), find(reasons, "good"))
    assert bad == Found()
    assert [reason.code for reason in good.reasons] == ["good"]


async def test_what_nobody_waits_for_is_not_explained(reasons: AlertReasons, told: list[Any]) -> None:
    gone, stays = find(reasons, "gone"), find(reasons, "stays")
    await asyncio.sleep(0)  # both stand in line
    gone.cancel()
    await stays
    assert told == ["stays"]


async def test_later_alerts_are_explained_when_the_line_was_empty(reasons: AlertReasons, told: list[Any]) -> None:
    await find(reasons, "first")
    await find(reasons, "second")
    assert told == ["first", "second"]
