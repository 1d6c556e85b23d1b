"""What an investigator gets: a queue, explanations, cases that empty it, suppressions that lapse, an estimate."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from fake_serving import body, running, settings_for
from fastapi import FastAPI

from api.app import create_app
from api.path.pseudonyms import Pseudonyms
from api.security.key_ring import SIMPLE
from riskdistill.features import FeatureSpec
from riskdistill.storage.cases import CaseLog
from riskdistill.storage.database import open_database

pytestmark = pytest.mark.anyio
KNOWN = "2026-03-09T16:00:00Z"  # after the payments of `body`, before now
CASE = {"outcome": "laundering", "typology": "fan_in", "known_at": KNOWN}
SENDER = Pseudonyms("0123456789abcdef").of("DE-sender")
RECEIVER = Pseudonyms("0123456789abcdef").of("FR-receiver")


def suppression(**changes: Any) -> dict[str, Any]:
    later = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    fields = {"owner": "ops", "reason": "payroll", "expires_at": later}
    return fields | {"target": {"account": SENDER}} | changes


async def score(client: httpx.AsyncClient, tx_id: str, amount: float) -> dict[str, Any]:
    answer = await client.post("/v1/score", json=body(tx_id, amount, sender_account=f"DE-{tx_id}"))
    assert answer.status_code == 200, answer.text
    stored: dict[str, Any] = (await client.get(f"/v1/decisions/{answer.json()['decision_id']}")).json()
    return stored


async def refused(answer: httpx.Response, status: int, said: str) -> None:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert said in answer.json()["detail"]


async def queued(client: httpx.AsyncClient, **query: Any) -> list[str]:
    answer = await client.get("/v1/alerts", params=query)
    assert answer.status_code == 200, answer.text
    return [alert["tx_id"] for alert in answer.json()["alerts"]]


async def test_the_amount_at_risk_is_the_feature_of_that_name() -> None:
    from api.path import triage

    assert FeatureSpec().names[triage._AMOUNT] == "amount_usd"


async def test_an_alert_is_queued_explained_and_settled(client: httpx.AsyncClient, tmp_path: Path) -> None:
    await score(client, "small", 100)
    alert, larger = await score(client, "alert", 650), await score(client, "larger", 850)
    assert alert["explained"]["facts"] == {"amount_usd": 650.0}
    assert alert["explained"]["catalogue"] == "1"
    assert alert["explained"]["milliseconds"] > 0
    assert (alert["at_risk_usd"], alert["sample_share"]) == (650.0, None)
    told = (await client.get("/v1/alerts")).json()
    assert [one["tx_id"] for one in told["alerts"]] == ["larger", "alert"]
    first = told["alerts"][0]
    assert (first["kind"], first["typology"], first["decision_id"]) == ("alert", "fan_in", larger["decision_id"])
    assert first["expected_value_usd"] == pytest.approx(0.85 * 850)
    assert first["reasons"] == larger["reasons"]
    answer = await client.post("/v1/cases", json=CASE | {"decision_id": alert["decision_id"]})
    assert answer.status_code == 200, answer.text
    assert (answer.json()["case_id"], answer.json()["tx_ids"]) == ("c1", ["alert"])
    assert await queued(client) == ["larger"]
    assert (await client.get("/v1/alerts")).json()["reviewed_today"] == 1
    cases = CaseLog(f"sqlite:///{tmp_path}/state/decisions.db", create=False)
    assert cases.labels(datetime.now(UTC)).to_pylist()[0]["typology"] == "fan_in"
    cases.close()


async def test_explain_tells_both_models_views_and_what_was_read(client: httpx.AsyncClient) -> None:
    alert, low = await score(client, "alert", 950), await score(client, "low", 100)
    said = (await client.post("/v1/explain", json={"decision_id": alert["decision_id"]})).json()
    assert (said["student"]["reproduced"], said["teacher"]["reproduced"], said["lacks"]) == (True, True, [])
    assert said["student"]["score"] == pytest.approx(0.95)
    assert said["teacher"]["score"] == pytest.approx(1.0)
    assert said["features"] == {"amount_usd": 950.0, "sent": 0.0}
    assert said["reasons"] == alert["reasons"]
    said = (await client.post("/v1/explain", json={"decision_id": low["decision_id"]})).json()
    assert (said["student"], said["features"], said["reasons"]) == (None, None, [])
    assert "kept of alerts and samples only" in said["lacks"][0]
    await refused(await client.post("/v1/explain", json={"decision_id": "none"}), 404, "no decision has this id")


async def test_every_decision_can_be_explained_where_all_rows_are_kept(tmp_path: Path, bundle: Path) -> None:
    app = create_app(settings_for(tmp_path / "state", bundle=bundle, keep_features="all"))
    async with running(app) as client:
        low = await score(client, "low", 100)
        said = (await client.post("/v1/explain", json={"decision_id": low["decision_id"]})).json()
    assert said["student"]["reproduced"] is True
    assert said["teacher"]["reproduced"] is None  # it was not asked
    assert low["at_risk_usd"] is None


async def test_a_bundle_that_is_not_warm_is_said_to_be_lacking(client: httpx.AsyncClient, tmp_path: Path) -> None:
    alert = await score(client, "alert", 850)
    engine = open_database(f"sqlite:///{tmp_path}/state/decisions.db")
    with engine.begin() as connection:
        connection.exec_driver_sql("DROP TRIGGER decisions_no_update")
        connection.exec_driver_sql(f"UPDATE decisions SET body = replace(body, '{'a' * 16}', '{'b' * 16}')")
    engine.dispose()
    said = (await client.post("/v1/explain", json={"decision_id": alert["decision_id"]})).json()
    assert said["student"] is None
    assert said["reasons"] == alert["reasons"]
    assert f"bundle {'b' * 16} is not warm" in said["lacks"][0]


@pytest.mark.parametrize(
    ("changes", "status", "said"),
    [
        ({"tx_ids": ["t9"]}, 404, "never decided on here"),
        ({"decision_id": "none"}, 404, "no decision has this id"),
        ({}, 422, "name one of the two"),
        ({"tx_ids": ["alert"], "decision_id": "d"}, 422, "name one of the two"),
        ({"tx_ids": ["alert"], "typology": "no_such"}, 422, "use one of cycle, fan_in, unlisted"),
        ({"tx_ids": ["alert"], "typology": "No such!", "is_new_typology": True}, 422, "cannot name a typology"),
        ({"tx_ids": ["alert"], "typology": "normal", "is_new_typology": True}, 422, "cannot name a typology"),
        ({"tx_ids": ["alert"], "outcome": "guilty"}, 422, "outcome"),
        ({"tx_ids": ["alert"], "outcome": "false_alert"}, 422, "has no typology"),
        ({"tx_ids": ["alert"], "known_at": "2099-01-01T00:00:00Z"}, 422, "in the future"),
        ({"tx_ids": ["alert"], "known_at": "2026-03-09T16:00:00"}, 422, "timezone"),
        # told by the key, not by the body
        ({"tx_ids": ["alert"], "actor": "somebody"}, 422, "#/actor: there is no such field"),
        ({"tx_ids": ["alert"], "more": 1}, 422, "more"),
    ],
)
async def test_a_case_that_cannot_be_is_refused(
    client: httpx.AsyncClient, changes: dict[str, Any], status: int, said: str
) -> None:
    await score(client, "alert", 850)
    await refused(await client.post("/v1/cases", json=CASE | changes), status, said)
    assert (await client.get("/v1/cases")).json() == {"cases": [], "next_after": None}


async def test_a_new_method_is_named_once_as_new_and_known_from_then_on(client: httpx.AsyncClient) -> None:
    await score(client, "alert", 850)
    await score(client, "other", 860)
    named = CASE | {"typology": "layered_loans"}
    await refused(await client.post("/v1/cases", json=named | {"tx_ids": ["alert"]}), 422, "or say that it is new")
    said = await client.post("/v1/cases", json=named | {"tx_ids": ["alert"], "is_new_typology": True})
    assert (said.status_code, said.json()["typology"]) == (200, "layered_loans")
    assert (await client.post("/v1/cases", json=named | {"tx_ids": ["other"]})).status_code == 200


async def test_a_contradicting_outcome_is_a_conflict_and_a_later_one_corrects(client: httpx.AsyncClient) -> None:
    await score(client, "alert", 850)
    wrong = {"tx_ids": ["alert"], "outcome": "false_alert", "typology": None}
    assert (await client.post("/v1/cases", json=CASE | {"tx_ids": ["alert"]})).status_code == 200
    await refused(await client.post("/v1/cases", json=CASE | wrong), 409, "case c1 of the same known_at")
    later = {"known_at": "2026-03-10T00:00:00Z"}
    assert (await client.post("/v1/cases", json=CASE | wrong | later)).json()["case_id"] == "c2"
    page = (await client.get("/v1/cases", params={"limit": 1})).json()
    assert (page["cases"][0]["case_id"], page["next_after"]) == ("c1", 1)
    page = (await client.get("/v1/cases", params={"limit": 2, "after": 1})).json()
    assert ([case["outcome"] for case in page["cases"]], page["next_after"]) == (["false_alert"], None)


async def test_a_suppressed_alert_is_decided_recorded_and_counted_but_allowed(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/suppressions", json=suppression(target={"account": RECEIVER}))
    assert answer.status_code == 200, answer.text
    stored = await score(client, "medium", 650)
    assert (stored["band"], stored["action"], stored["suppression"]) == ("medium", "allow", "s1")
    assert stored["reasons"]
    high = await score(client, "high", 850)
    assert (high["band"], high["action"], high["suppression"]) == ("high", "hold", None)
    assert await queued(client) == ["high"]
    assert "riskdistill_suppressed_alerts_total 1.0" in (await client.get("/metrics")).text
    everything = suppression(target={"typology": "fan_in"}, covers_high=True)
    assert (await client.post("/v1/suppressions", json=everything)).status_code == 200
    assert (await score(client, "high-2", 850))["suppression"] == "s2"


async def test_a_suppression_taken_back_is_over_at_once(client: httpx.AsyncClient, app: FastAPI) -> None:
    await client.post("/v1/suppressions", json=suppression(target={"account": RECEIVER}))
    assert [one["owner"] for one in (await client.get("/v1/suppressions")).json()["suppressions"]] == ["ops"]
    told = {"reason": "account closed"}
    assert (await client.delete("/v1/suppressions/s1", params=told)).status_code == 200
    await refused(await client.delete("/v1/suppressions/s1", params=told), 404, "in force")
    assert (await score(client, "medium", 650))["action"] == "review"
    history = app.state.service.parts.desk.suppressions.history()
    assert [(change.change, change.actor) for change in history] == [("added", SIMPLE), ("removed", SIMPLE)]


async def test_a_suppression_lapses_by_itself(client: httpx.AsyncClient) -> None:
    soon = (datetime.now(UTC) + timedelta(seconds=2)).isoformat()
    target = {"target": {"account": RECEIVER}, "expires_at": soon}
    assert (await client.post("/v1/suppressions", json=suppression(**target))).status_code == 200
    assert (await score(client, "medium-0", 650))["action"] == "allow"
    async with asyncio.timeout(60):
        number = 1
        while (await score(client, f"medium-{number}", 650))["action"] != "review":
            number += 1
    assert (await client.get("/v1/suppressions")).json() == {"suppressions": []}


async def test_what_another_process_suppresses_holds_here_too(client: httpx.AsyncClient, app: FastAPI) -> None:
    from riskdistill.storage.suppressions import SuppressionList, Target

    other = SuppressionList(app.state.service.settings.database_url)
    end = datetime.now(UTC) + timedelta(days=1)
    other.add(Target(account=RECEIVER), owner="ops", reason="payroll", expires_at=end, actor="cli")
    other.close()
    async with asyncio.timeout(10):
        number = 0
        while (await score(client, f"medium-{number}", 650))["action"] != "allow":
            number += 1
            await asyncio.sleep(0.01)
    assert (await score(client, "medium-later", 650))["suppression"] is not None


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"target": {}}, "name one of"),
        ({"target": {"account": "DE-sender"}}, "target/account"),
        ({"target": {"typology": "no_such"}}, "no such typology"),
        ({"expires_at": "2020-01-01T00:00:00Z"}, "end after now"),
        ({"expires_at": "2099-01-01T00:00:00Z"}, "within 366 days"),
        ({"owner": ""}, "owner"),
        ({"reason": ""}, "reason"),
    ],
)
async def test_a_suppression_that_cannot_be_is_refused(
    client: httpx.AsyncClient, changes: dict[str, Any], said: str
) -> None:
    await refused(await client.post("/v1/suppressions", json=suppression(**changes)), 422, said)


async def test_samples_below_the_line_are_drawn_alike_every_time_and_give_an_estimate(
    tmp_path: Path, bundle: Path
) -> None:
    drawn = []
    for name in ("one", "two"):
        settings = settings_for(tmp_path / name, bundle=bundle, sample_share=0.1)
        async with running(create_app(settings)) as client:
            stored = [await score(client, f"t{number}", 20 if number % 2 else 300) for number in range(60)]
            drawn.append([(one["tx_id"], one["sample_share"]) for one in stored if one["sample_share"]])
            told = (await client.get("/v1/alerts")).json()
            assert {one["tx_id"] for one in told["alerts"]} == {tx_id for tx_id, _ in drawn[-1]}
            assert {one["kind"] for one in told["alerts"]} == {"sample"}
            before = (await client.get("/v1/alerts/estimate")).json()
            for tx_id, _ in drawn[-1]:
                case = CASE | {"tx_ids": [tx_id], "outcome": "false_alert", "typology": None}
                assert (await client.post("/v1/cases", json=case)).status_code == 200
            after = (await client.get("/v1/alerts/estimate")).json()
    assert drawn[0] == drawn[1]
    assert {share for _, share in drawn[0]} == {0.1, 1.0}  # 300 is near the line of 500, 20 is not
    assert before["missed"] is None
    assert (after["missed"], after["missed_low"]) == (0.0, 0.0)
    assert after["missed_high"] > 0
    assert sum(stratum["settled"] for stratum in after["strata"]) == len(drawn[0])


async def test_the_queue_keeps_to_the_budget_after_a_restart_too(tmp_path: Path, bundle: Path) -> None:
    settings = settings_for(tmp_path / "state", bundle=bundle, alert_budget=2, review_cost_usd=50)
    async with running(create_app(settings)) as client:
        for number in range(4):
            await score(client, f"t{number}", 600 + number)
        await client.post("/v1/cases", json=CASE | {"tx_ids": ["t3"]})
    async with running(create_app(settings)) as client:
        told = (await client.get("/v1/alerts")).json()
        assert [one["tx_id"] for one in told["alerts"]] == ["t2"]
        assert told["alerts"][0]["expected_value_usd"] == pytest.approx(0.602 * 602 - 50, abs=1e-3)
        assert (told["budget"], told["reviewed_today"], told["alerts_waiting"]) == (2, 1, 3)
        assert await queued(client, limit=1) == ["t2"]
        await refused(await client.get("/v1/alerts", params={"limit": 0}), 422, "limit")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/alerts"),
        ("GET", "/v1/alerts/estimate"),
        ("POST", "/v1/explain"),
        ("POST", "/v1/cases"),
        ("GET", "/v1/cases"),
        ("POST", "/v1/suppressions"),
        ("GET", "/v1/suppressions"),
        ("DELETE", "/v1/suppressions/s1"),
    ],
)
async def test_without_a_key_nobody_reads_or_writes(client: httpx.AsyncClient, method: str, path: str) -> None:
    del client.headers["X-API-Key"]
    await refused(await client.request(method, path), 401, "no API key")
