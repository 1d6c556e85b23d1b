"""The whole loop on a simulated quarter, as a bank would go through it, with nothing faked and no step skipped:

    champion → live traffic → cases → labels → retrain → shadow → canary → promote → fault → rollback

Service, monitor and commands are the real ones, all of them on the same two logs in PostgreSQL; MLflow follows.
A payment comes every few milliseconds while releases change, and every one of them must be decided.
"""

from __future__ import annotations

import json
import shutil
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow.parquet as pq
import pytest
from databases import closing_engines, new_url
from fake_serving import KEY
from service_process import Running, serving, started, until
from tiny_bank import DAYS, NOW, TRAINED, WORLD, Bank, between

from api.path.rollout import decides
from api.serving_bundle import Challenger
from riskdistill.bundle import Bundle, rebuild_bundle
from riskdistill.client import Answer, Client
from riskdistill.data.transaction import Transaction, transactions_from
from riskdistill.errors import RiskDistillError
from riskdistill.models.calibration import Calibrator
from riskdistill.storage.decisions import Decision, DecisionLog
from riskdistill.storage.releases import ReleaseLog, State, Transition
from riskdistill.storage.shadows import ShadowLog
from riskdistill.tracking import MODEL, Tracker

pytestmark = [
    pytest.mark.timeout(300, func_only=True),  # the whole loop takes five minutes at most
    # MLflow 3.17 uses a loader strategy that SQLAlchemy 2.1 is about to drop
    pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy:DeprecationWarning", "ignore::UserWarning"),
]
SHARE = 0.3  # of the accounts, for the canary
FOLLOWS = 30.0  # seconds within which the service follows the release log, on any machine
SHADOWED, CANARIED = NOW + 3, NOW + 6  # the days on which shadow and canary end
PAUSE = 0.01  # seconds between two payments of the steady traffic


class Loop(NamedTuple):
    """The bank, its two logs in the database at `url`, and how commands are run on them."""

    bank: Bank
    url: str
    releases: ReleaseLog
    log: DecisionLog
    folder: Path
    mlflow: str
    run: Callable[..., str]

    def release(self, *words: str, actor: str = "ann") -> str:
        """A command `release …` on the release log."""
        return self.run("release", *words, "--releases", self.url, "--actor", actor, "--reason", "the loop")

    def register(self, bundle: Path) -> str:
        """The command `release register`."""
        return self.release("register", str(bundle), "--store", str(self.store))

    @property
    def store(self) -> Path:
        return self.folder / "bundles"

    def aliases(self) -> dict[str, str]:
        """The release that holds each alias in MLflow."""
        from mlflow import MlflowClient

        client = MlflowClient(tracking_uri=self.mlflow, registry_uri=self.mlflow)
        held = client.get_registered_model(MODEL).aliases
        return {alias: client.get_model_version(MODEL, held[alias]).tags["riskdistill.release"] for alias in held}

    def days(self, first: int, last: int) -> Iterator[Transaction]:
        """What is paid from the beginning of one day to that of another."""
        table = self.bank.world.transactions
        return transactions_from(between(table, table["timestamp"], first, last))

    def decisions(self, since: datetime) -> list[Decision]:
        """What was decided from a moment on."""
        return [entry.decision for entry in self.log.read(start=since)]


class Traffic:
    """Payments that go on, one after another, while something else happens; a context manager.

    What the world has left comes first; then it comes again, later and under new ids.
    """

    def __init__(self, loop: Loop, url: str) -> None:
        self._payments = self._without_end(list(loop.days(CANARIED, DAYS)))
        self._client = Client(url, api_key=KEY, timeout=60.0, retries=0)  # what fails is to be seen
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._score, name="traffic")
        self.sent: list[str] = []
        self.answers: list[Answer] = []
        self.errors: list[RiskDistillError] = []

    def __enter__(self) -> Traffic:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self._client.close()

    def decided_by(self, version: str) -> bool:
        """Whether that bundle made the newest decision."""
        return bool(self.answers) and self.answers[-1].bundle_version == version

    def _score(self) -> None:
        while not self._over.wait(PAUSE):
            payment = next(self._payments)
            self.sent.append(payment.tx_id)
            try:
                self.answers.append(self._client.score(payment))
            except RiskDistillError as error:
                self.errors.append(error)

    @staticmethod
    def _without_end(payments: list[Transaction]) -> Iterator[Transaction]:
        for again in count():
            later = timedelta(days=again * (DAYS - CANARIED))
            for one in payments:
                changes = {"tx_id": f"{one.tx_id}-{again}", "timestamp": one.timestamp + later}
                yield one.model_copy(update=changes)


@pytest.fixture
def loop(bank: Bank, tmp_path: Path, done: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Loop]:
    urls = new_url("postgresql", tmp_path)
    mlflow = f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("RISKDISTILL_MLFLOW", mlflow)
    assert Tracker(mlflow, deadline=250).log_run("opened", parameters={}, metrics={})  # it makes its tables
    with closing_engines():
        url = next(urls)()
        yield Loop(bank, url, ReleaseLog(url), DecisionLog(url), tmp_path, mlflow, done)
    next(urls, None)


def test_a_quarter_from_new_cases_to_a_rollback(loop: Loop) -> None:
    loop.register(loop.bank.champion.path)
    loop.release("promote", "r1")
    assert loop.aliases() == {"champion": "r1"}
    settings = {"releases": loop.url, "database": loop.url, "history": loop.bank.before / "transactions.parquet"}
    settings["teacher_deadline_ms"] = "20000"
    with (
        serving(loop.folder / "service", None, **settings) as service,
        Client(service.url, api_key=KEY, timeout=60.0) as client,
    ):
        answers = scored(client, loop.days(TRAINED, NOW))
        assert {answer.bundle_version for answer in answers} == {loop.bank.champion.version}
        tell_cases(loop, service, answers)
        challenger = retrained(loop)
        until(lambda: client.ready().challenger_release == "r2")
        compared_in_shadow(loop, client)
        decided_as_canary(loop, client, challenger)
        with Traffic(loop, service.url) as traffic:
            promoted(loop, traffic, challenger)
            rolled_back_after_a_fault(loop, traffic, challenger)
        assert traffic.errors == []
        assert [answer.tx_id for answer in traffic.answers] == traffic.sent
    decided = len(list(loop.days(TRAINED, CANARIED))) + len(traffic.sent)
    told = loop.run("audit", "verify", "--decisions", loop.url, "--releases", loop.url)
    assert f"decision log intact: {decided:,} entries" in told
    assert f"release log intact: {len(loop.releases.history())} entries" in told
    reported(loop)


def scored(client: Client, payments: Iterable[Transaction]) -> list[Answer]:
    """Every payment decided on, in batches; fails where one is not."""
    found = list(client.score_many(payments))
    assert all(isinstance(answer, Answer) for answer in found)
    return [answer for answer in found if isinstance(answer, Answer)]


def tell_cases(loop: Loop, service: Running, answers: list[Answer]) -> None:
    """Investigators have settled what is on record by the day of the retraining; other alerts were false."""
    times = loop.bank.world.transactions["timestamp"]
    now = WORLD.start + timedelta(days=NOW)
    cases: dict[tuple[Any, ...], list[str]] = defaultdict(list)
    open_alerts = {answer.tx_id for answer in answers if answer.action != "allow"}
    for label in between(loop.bank.world.labels, times, TRAINED, NOW).to_pylist():
        if label["is_laundering"]:
            open_alerts.discard(label["tx_id"])
            if label["known_at"] <= now:
                cases["laundering", label["typology"], label["scheme_id"], label["known_at"]].append(label["tx_id"])
    for payment in loop.days(TRAINED, NOW - 2):
        if payment.tx_id in open_alerts:
            seen = payment.timestamp.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=2)
            cases["false_alert", None, None, seen].append(payment.tx_id)
    with service.client() as http:
        for (outcome, typology, _, known_at), tx_ids in cases.items():
            is_new = typology is not None and typology not in loop.bank.champion.typologies
            case = {"outcome": outcome, "typology": typology, "is_new_typology": is_new, "tx_ids": tx_ids}
            answer = http.post("/v1/cases", json=case | {"known_at": known_at.isoformat()})
            assert answer.status_code == 200, answer.text
    assert {outcome for outcome, *_ in cases} == {"laundering", "false_alert"}


def retrained(loop: Loop) -> Bundle:
    """Labels from the cases, and a challenger from them; the champion's own experiment sets its gates."""
    folder = loop.folder / "now"
    folder.mkdir()
    shutil.copyfile(loop.bank.now / "transactions.parquet", folder / "transactions.parquet")
    shutil.copyfile(loop.bank.before / "labels.parquet", folder / "labels.parquet")
    files = ("--input", folder, "--out", folder / "labels.parquet")
    now = (WORLD.start + timedelta(days=NOW)).isoformat()
    loop.run("labels", "export", "--cases", loop.url, *files, "--as-known-at", now)
    labels = pq.read_table(folder / "labels.parquet").to_pylist()
    assert len(labels) == len(list(loop.days(0, NOW)))
    assert sum(str(label["scheme_id"]).startswith("c") for label in labels) > 20  # of cases
    files = ("--input", folder, "--out", folder / "retrained", "--store", loop.store)
    assert "r2 is shadow" in loop.run("retrain", "--releases", loop.url, *files)
    assert loop.aliases() == {"champion": "r1", "challenger": "r2"}
    gates = loop.releases.history()[-1].evidence["retraining"]["gates"]
    assert len(gates) == 7
    return Bundle.load(Path(loop.releases.history()[-1].bundle_path), teacher=False)


def compared_in_shadow(loop: Loop, client: Client) -> None:
    """The challenger scores beside the champion, and a command compares them."""
    answers = scored(client, loop.days(NOW, SHADOWED))
    assert {answer.bundle_version for answer in answers} == {loop.bank.champion.version}
    shadows = ShadowLog(loop.url, create=False)
    until(lambda: len(list(shadows.read("r2"))) == len(answers))
    figures = loop.folder / "shadow.json"
    loop.run("monitor", "shadow", "--releases", loop.url, "--decisions", loop.url, "--json", figures)
    windows = json.loads(figures.read_text())["windows"]
    assert sum(window["transactions"] for window in windows) == len(answers)
    assert all(window["by_challenger"] == 0 and window["distance"] > 0 for window in windows)


def decided_as_canary(loop: Loop, client: Client, challenger: Bundle) -> None:
    """The challenger decides for its accounts, and for no other one."""
    loop.release("canary", "r2", "--share", str(SHARE))
    until(lambda: client.ready().canary_share == SHARE)
    began = datetime.now(UTC)
    scored(client, loop.days(SHADOWED, CANARIED))
    canary, accounts = Challenger(challenger, "r2", SHARE), defaultdict[str, set[str]](set)
    for decision in loop.decisions(began):
        account = decision.transaction.sender_account
        accounts[decision.bundle_version].add(account)
        assert (decision.bundle_version == challenger.version) == decides(canary, account)
    mine, others = accounts[challenger.version], accounts[loop.bank.champion.version]
    assert accounts.keys() == {challenger.version, loop.bank.champion.version}
    assert mine.isdisjoint(others)
    assert abs(len(mine) / len(mine | others) - SHARE) < 0.15


def promoted(loop: Loop, traffic: Traffic, challenger: Bundle) -> None:
    """Another person approves the challenger, it is promoted, and the service follows."""
    until(lambda: len(traffic.answers) > 20)
    loop.release("approve", "r2", actor="bob")
    loop.release("promote", "r2", "--approvals", "1")
    until(lambda: traffic.decided_by(challenger.version))
    assert loop.aliases() == {"champion": "r2", "previous": "r1"}
    assert seconds_to_follow(loop, loop.releases.history()[-1]) <= FOLLOWS


def rolled_back_after_a_fault(loop: Loop, traffic: Traffic, challenger: Bundle) -> None:
    """A bundle whose calibration is lost alerts on nearly everything; the monitor finds out and takes it back."""
    lost = {role: Calibrator(intercept=6.0) for role in ("student", "teacher")}
    harmful = rebuild_bundle(challenger, loop.folder / "harmful", calibrators=lost)
    logs = ("--releases", loop.url, "--decisions", loop.url)
    with started("monitor", "watch", *logs, "--interval", "0.2", log=loop.folder / "watch.log", mlflow=loop.mlflow):
        loop.register(harmful.path)
        loop.release("promote", "r3")
        assert loop.aliases() == {"champion": "r3", "previous": "r2"}
        until(lambda: traffic.decided_by(harmful.version))
        until(lambda: any(entry.after is State.ROLLED_BACK for entry in loop.releases.history()))
        until(lambda: traffic.decided_by(challenger.version))
        until(lambda: loop.aliases() == {"champion": "r2"})
    withdrawn, restored = loop.releases.history()[-2:]
    assert [(step.release_id, step.after) for step in (withdrawn, restored)] == [
        ("r3", State.ROLLED_BACK),
        ("r2", State.CHAMPION),
    ]
    assert withdrawn.actor == "monitor"
    assert withdrawn.evidence["metric"] == "more_alerts"
    assert withdrawn.evidence["e_value"] >= 1 / withdrawn.evidence["alpha"]
    assert seconds_to_follow(loop, restored) <= FOLLOWS


def reported(loop: Loop) -> None:
    """What a reviewer makes of the logs afterwards: the evidence, and the same bytes each time."""
    logs = ("--releases", loop.url, "--decisions", loop.url)
    written = []
    for folder in (loop.folder / "report", loop.folder / "again"):
        for release in ("r2", "r3"):
            loop.run("release", "report", release, *logs, "--out", folder / release)
        loop.run("audit", "record", *logs, "--out", folder)
        written.append({path.relative_to(folder): path.read_bytes() for path in folder.rglob("*.*")})
    assert written[0] == written[1]
    assert len(written[0]) == 6
    told, harmful = (json.loads(written[0][Path(release, "release.json")]) for release in ("r2", "r3"))
    assert (told["release"]["approved_by"], len(told["gates"]), told["replaced"]) == (["bob"], 7, "r1")
    assert [spell["state"] for spell in told["spells"]] == ["canary", "champion", "champion"]
    as_canary = sum(window["by_challenger"] for window in told["shadow"])  # also just after its promotion
    assert 0 < told["spells"][0]["decisions"] <= as_canary
    assert harmful["rollback"]["restored"] == "r2"
    assert (harmful["rollback"]["followed_seconds"] or 0.0) <= FOLLOWS  # none of its decisions may have come after


def seconds_to_follow(loop: Loop, step: Transition) -> float:
    """From when a champion was written to the first decision of its bundle, and to the last one of another."""
    decisions = loop.decisions(step.at)
    mine = min(decision.decided_at for decision in decisions if decision.bundle_version == step.bundle_version)
    others = (decision.decided_at for decision in decisions if decision.bundle_version != step.bundle_version)
    return (max([mine, *others]) - step.at).total_seconds()
