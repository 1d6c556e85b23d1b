"""A tiny bundle and engine with the interface of the real ones, and a client for the application around them.

The fake student's score is plain: `amount_paid / 1000`, plus 0.01 for each earlier transaction of the sender,
so that a test chooses the score by the amount and sees account state in it. A bundle is a folder with one
file, `fake.json`; its keys are the arguments of `FakeBundle`.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
from fastapi import FastAPI

from api.settings import ApiSettings
from riskdistill.bundle import Thresholds
from riskdistill.data.rates import Rates
from riskdistill.data.transaction import Transaction, transactions_from
from riskdistill.errors import BundleDamagedError
from riskdistill.features.encoded import Encoded
from riskdistill.models.onnx_model import Scored
from riskdistill.reasons import Explanation, Reason

KEY = "a-key-for-the-tests"
TYPOLOGIES = ("cycle", "fan_in", "normal")
THRESHOLDS = Thresholds(review=0.5, hold=0.8, uncertain_low=0.4, uncertain_high=0.6, high_risk=0.9)


class FakeEngine:
    """Knows how often each account sent; like the real one, it counts what it observes twice two times."""

    def __init__(self) -> None:
        self._sent: Counter[tuple[str, str]] = Counter()

    def __len__(self) -> int:
        return len(self._sent)

    def observe(self, transaction: Transaction) -> Encoded:
        with self.observing_many([transaction]) as encoded:
            return encoded

    @contextmanager
    def observing_many(self, transactions: Sequence[Transaction]) -> Iterator[Encoded]:
        before = self._sent.copy()
        context = np.array([self._step(transaction) for transaction in transactions], np.float32)
        try:
            yield Encoded(context, np.zeros((len(context), 2, 1), np.float32))
        except BaseException:
            self._sent = before
            raise

    def advance(self, table: pa.Table) -> None:
        for transaction in transactions_from(table):
            self._step(transaction)

    def _step(self, transaction: Transaction) -> list[float]:
        sender = transaction.sender_bank, transaction.sender_account
        context = [transaction.amount_paid, self._sent[sender]]
        self._sent[sender] += 1
        return context


class FakeModel:
    """Scores by the plain rule, plus `shift`."""

    def __init__(self, shift: float = 0.0) -> None:
        self._shift = shift

    def score(self, encoded: Encoded) -> Any:
        amount, sent = encoded.context[:, 0].astype(float), encoded.context[:, 1].astype(float)
        score = np.clip(amount / 1000 + 0.01 * sent + self._shift, 0, 1)
        typology = np.stack([score * 0.1, score, score * 2], axis=1).astype(np.float32)
        return Scored(score, score, typology)


class LateTeacher(FakeModel):
    """Answers its warm-up, and then only when `may_answer` is set."""

    may_answer = threading.Event()

    def __init__(self) -> None:
        super().__init__()
        self._is_warm = False

    def score(self, encoded: Encoded) -> Any:
        if self._is_warm:
            self.may_answer.wait(timeout=20)
        self._is_warm = True
        return super().score(encoded)


class FailingTeacher(FakeModel):
    """Answers its warm-up and fails from then on, or gives no number."""

    def __init__(self, gives_nan: bool) -> None:
        super().__init__()
        self._is_warm, self._gives_nan = False, gives_nan

    def score(self, encoded: Encoded) -> Any:
        if not self._is_warm:
            self._is_warm = True
            return super().score(encoded)
        if self._gives_nan:
            return Scored(np.array([np.nan]), np.array([np.nan]), np.zeros((1, 3), np.float32))
        raise RuntimeError("the teacher lost its weights")


TEACHERS: dict[str, Any] = {
    "ok": lambda: FakeModel(0.05),
    "late": LateTeacher,
    "failing": lambda: FailingTeacher(gives_nan=False),
    "nan": lambda: FailingTeacher(gives_nan=True),
    "none": lambda: None,
}


class FakeBundle:
    """See the module's docstring."""

    typologies = TYPOLOGIES
    thresholds = THRESHOLDS

    def __init__(self, version: str, teacher: str, shift: float, fingerprint: str) -> None:
        self.version = version
        self.spec = SimpleNamespace(fingerprint=fingerprint, names=("amount_usd", "sent"))
        self.student, self.teacher = FakeModel(shift), None
        self.has_teacher, self._make_teacher = teacher != "none", TEACHERS[teacher]

    def load_teacher(self, first: Encoded | None = None) -> None:
        if self.teacher is None and self.has_teacher:
            teacher = self._make_teacher()
            if first is not None:
                teacher.score(first)
            self.teacher = teacher

    @classmethod
    def load(cls, path: Path, *, teacher: bool, provider: str = "cpu") -> FakeBundle:
        try:
            fields = json.loads((path / "fake.json").read_text())
        except (OSError, ValueError) as error:
            raise BundleDamagedError("a file is damaged", where=str(path), mend="copy it again") from error
        return cls(**fields)

    def engine(self, rates: Rates | None = None) -> FakeEngine:
        return FakeEngine()


def fake_explain(_bundle: FakeBundle, encoded: Encoded, limit: int = 3, model: Any = None) -> Explanation:
    amount = float(encoded.context[0, 0])
    found = (Reason("amount", f"amount of {amount:.0f}", amount / 1000),)
    return Explanation(found[:limit], (), {"amount_usd": amount}, "1")


def write_bundle(
    folder: Path, version: str = "a" * 16, *, teacher: str = "ok", shift: float = 0.0, fingerprint: str = "f1"
) -> Path:
    folder.mkdir()
    fields = {"version": version, "teacher": teacher, "shift": shift, "fingerprint": fingerprint}
    (folder / "fake.json").write_text(json.dumps(fields))
    return folder


def body(tx_id: str = "tx-1", amount: float = 100.0, **changes: Any) -> dict[str, Any]:
    """A canonical transaction as JSON; `amount` chooses the score."""
    fields = {
        "tx_id": tx_id,
        "timestamp": "2026-03-01T09:30:00Z",
        "sender_account": "DE-sender",
        "sender_bank": "BANK1",
        "receiver_account": "FR-receiver",
        "receiver_bank": "BANK2",
        "amount_paid": amount,
        "currency_paid": "EUR",
        "amount_received": amount,
        "currency_received": "EUR",
        "payment_format": "wire",
    }
    return fields | changes


def settings_for(state_dir: Path, **changes: Any) -> ApiSettings:
    fields: dict[str, Any] = {"state_dir": state_dir, "api_keys": KEY, "pseudonym_key": "0123456789abcdef"}
    fields["sample_share"] = fields["shadow_sample_share"] = 0.0  # a test that looks at samples asks for them
    fields["deadline_ms"], fields["teacher_deadline_ms"] = 60_000, 20_000  # the machine is not ours alone
    return ApiSettings(**(fields | changes))


@asynccontextmanager
async def running(app: FastAPI, *, wait: bool = True) -> AsyncIterator[httpx.AsyncClient]:
    """A client of `app` while its service runs; with `wait`, once it is ready and has its teacher."""
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    headers = {"X-API-Key": KEY}
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://service", headers=headers) as client,
    ):
        if wait:
            await ready(client)
        yield client


async def ready(client: httpx.AsyncClient, *, status: int = 200) -> dict[str, Any]:
    """What `/readyz` says as soon as it answers with `status`, and loads no teacher any more."""
    async with asyncio.timeout(120):
        while (answer := await client.get("/readyz")).status_code != status or _is_loading(answer):
            await asyncio.sleep(0)
    said: dict[str, Any] = answer.json()
    return said


def _is_loading(answer: httpx.Response) -> bool:
    return bool(answer.json().get("teacher_state") == "loading")
