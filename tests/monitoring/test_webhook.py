"""The webhook: signed as specified, sent again until it is taken, and never in the controller's way."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import logging
import socket
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from time import time
from typing import Any

import pytest
from webhook_receiver import SECRET, Received, Receiver, receiving

from monitoring.notices import Notice
from monitoring.rollback import Verdict
from monitoring.webhook import MOST, Webhook
from riskdistill.errors import ConfigError

NOTICE = Notice(
    kind="rolled_back",
    at=datetime(2026, 3, 1, tzinfo=UTC),
    release_id="r2",
    about="more_alerts: e-value 900",
    verdict=Verdict(
        action="rolled_back",
        reason="more_alerts: e-value 900",
        release_id="r2",
        restored="r1",
        evidence={"looks": 3},
    ),
)


class Lost:
    """Counts what was not delivered."""

    def __init__(self) -> None:
        self.count, self.happened = 0, threading.Event()

    def __call__(self) -> None:
        self.count += 1
        self.happened.set()


@pytest.fixture
def lost() -> Lost:
    return Lost()


def webhook(url: str, lost: Callable[[], object], **options: Any) -> Webhook:
    return Webhook(url, SECRET, lost, **({"pauses": (0.001, 0.001)} | options))


def is_signed(received: Received) -> bool:
    """As the specification tells a receiver to check it, without the code of the sender."""
    key = base64.b64decode(SECRET.removeprefix("whsec_"))
    content = f"{received.headers['webhook-id']}.{received.headers['webhook-timestamp']}.".encode() + received.body
    expected = base64.b64encode(hmac.new(key, content, hashlib.sha256).digest()).decode()
    return received.headers["webhook-signature"] == f"v1,{expected}"


def test_a_notice_arrives_signed_with_its_verdict_and_evidence(lost: Lost) -> None:
    with receiving() as receiver:
        hook = webhook(receiver.url, lost)
        hook.tell(NOTICE)
        hook.close()
    (received,) = receiver.received
    assert is_signed(received)
    assert not is_signed(received._replace(body=received.body + b" "))
    assert abs(int(received.headers["webhook-timestamp"]) - time()) < 60
    assert received.headers["content-type"] == "application/json"
    told = json.loads(received.body)
    assert (told["type"], told["timestamp"]) == ("monitor.rolled_back", "2026-03-01T00:00:00Z")
    assert (told["data"]["release_id"], told["data"]["verdict"]["restored"]) == ("r2", "r1")
    assert told["data"]["verdict"]["evidence"] == {"looks": 3}
    assert lost.count == 0


@pytest.mark.parametrize("statuses", [(500, 200), (429, 503, 204), (404, 200)])
def test_what_is_not_taken_is_sent_again_under_the_same_id(lost: Lost, statuses: tuple[int, ...]) -> None:
    with receiving(*statuses) as receiver:
        hook = webhook(receiver.url, lost)
        hook.tell(NOTICE)
        received = receiver.wait_for(len(statuses))
        hook.close()
    assert len({(one.headers["webhook-id"], one.body) for one in received}) == 1
    assert all(map(is_signed, received))
    assert lost.count == 0


def test_notices_arrive_in_their_order_each_under_an_id_of_its_own(lost: Lost) -> None:
    with receiving(500, 200) as receiver:
        hook = webhook(receiver.url, lost)
        for kind in ("alarm_began", "rolled_back"):
            hook.tell(NOTICE.model_copy(update={"kind": kind}))
        received = receiver.wait_for(3)
        hook.close()
    assert [json.loads(one.body)["data"]["kind"] for one in received] == [
        "alarm_began",
        "alarm_began",
        "rolled_back",
    ]
    assert len({one.headers["webhook-id"] for one in received}) == 2


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_is_not_followed(lost: Lost, status: int, caplog: pytest.LogCaptureFixture) -> None:
    with receiving(status) as receiver:
        hook = webhook(receiver.url, lost, pauses=())
        hook.tell(NOTICE)
        hook.close()
    assert [one.path for one in receiver.received] == ["/hooks"]
    assert lost.count == 1
    assert f"status {status}" in caplog.text


def test_a_receiver_that_is_down_is_only_logged(lost: Lost, caplog: pytest.LogCaptureFixture) -> None:
    with socket.socket() as held:  # bound and not listening: connections are refused
        held.bind(("127.0.0.1", 0))
        hook = webhook(f"http://127.0.0.1:{held.getsockname()[1]}/token-in-the-path", lost)
        hook.tell(NOTICE)
        hook.close()
    assert lost.count == 1
    assert "did not take a notice (ConnectError" in caplog.text
    assert "rolled_back: more_alerts: e-value 900" in caplog.text
    assert "token-in-the-path" not in caplog.text
    assert {record.levelno for record in caplog.records} <= {logging.WARNING, logging.ERROR}


def hung(receiver: Receiver, lost: Lost, **options: Any) -> Webhook:
    """A webhook that waits for its receiver's answer."""
    receiver.may_answer.clear()
    hook = webhook(receiver.url, lost, **options)
    hook.tell(NOTICE)
    receiver.wait_for(1)
    return hook


def test_a_receiver_that_hangs_is_left_after_the_deadline(lost: Lost, caplog: pytest.LogCaptureFixture) -> None:
    with receiving() as receiver:
        hook = hung(receiver, lost, deadline=0.05, pauses=())
        assert lost.happened.wait(20)
        hook.close()
        hook._thread.join(20)
    assert "did not take a notice (ReadTimeout" in caplog.text


def test_the_end_waits_for_a_receiver_that_hangs_no_longer_than_the_deadline(lost: Lost) -> None:
    with receiving() as receiver:
        hook = hung(receiver, lost, deadline=0.05, pauses=(3600.0,))
        hook.close()
        assert not receiver.may_answer.is_set(), "it hangs still"


def test_more_than_may_wait_are_given_up_and_told(lost: Lost, caplog: pytest.LogCaptureFixture) -> None:
    with receiving() as receiver:
        hook = hung(receiver, lost, deadline=20)
        for _ in range(MOST + 2):
            hook.tell(NOTICE)
        assert lost.count == 2
        assert f"{MOST} others wait already" in caplog.text
        receiver.may_answer.set()
        hook.close()
    assert len(receiver.received) == MOST + 1


@pytest.mark.parametrize(
    "secret",
    [
        "",
        "whsec_",
        "whsec_not base64",
        "whsec_c2hvcnQ=",
        "whsec_" + "QUFB" * 30,
        "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
    ],
)
def test_a_secret_that_is_none_is_refused_and_not_repeated(secret: str, lost: Lost) -> None:
    with pytest.raises(ConfigError, match="RISKDISTILL_WEBHOOK_SECRET: the webhook needs a secret") as refused:
        Webhook("https://example.com", secret, lost)
    assert not secret.removeprefix("whsec_") or secret not in str(refused.value)


@pytest.mark.parametrize(
    "url",
    ["", "example.com", "http://example.com/hook", "ftp://localhost/", "https://", "http://[::"],
)
def test_an_address_that_is_not_safe_is_refused(url: str, lost: Lost) -> None:
    with pytest.raises(ConfigError, match="https://…, or http on loopback"):
        Webhook(url, SECRET, lost)
