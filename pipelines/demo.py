"""The whole story on simulated traffic, in one command.

    simulate → ingest → dataset → teacher → student → evaluate → bundle
      → API on loopback → live transactions over HTTP, some by the bypass
      → drift sets in, and a bad challenger is promoted → the monitor rolls back → reports

Every figure that it prints was measured in that very run, through the same jobs and HTTP routes that a user has.
"""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from monitoring.audit import audit
from monitoring.audit_page import write_audit_record
from monitoring.evidence import RollbackPolicy
from monitoring.rollback import RollbackController, Verdict, watch
from pipelines.bundle_store import expectation, keep
from pipelines.demo_service import DemoService, Outcome, failures
from pipelines.drift import look, measure, write
from pipelines.experiment_commands import report_table
from pipelines.progress import Steps
from pipelines.run import RunResult, run
from pipelines.score import score_table
from riskdistill.bundle import Bundle, rebuild_bundle
from riskdistill.client import Answer
from riskdistill.config import load_config
from riskdistill.data.transaction import transactions_from
from riskdistill.errors import ConfigError, RiskDistillError, UnavailableError
from riskdistill.models.calibration import Calibrator
from riskdistill.simulator import PRESETS, Drift, Simulated, simulate
from riskdistill.simulator import write as write_simulated
from riskdistill.storage.decisions import DecisionLog
from riskdistill.storage.desk_journals import desk_journals
from riskdistill.storage.releases import ReleaseLog

CONFIG: Final = Path(__file__).parents[1] / "configs" / "demo.yaml"
TRAINING_DAYS: Final = 120
LIVE_DAYS: Final = 2  # the first as before, the second with drift
COMPARED: Final = 150  # live transactions that are also scored offline
SENT_AT_A_TIME: Final = 50
MOST_SENT: Final = 2_000  # in each phase


@dataclass
class Story:
    """What happened, for the closing table."""

    rows: list[tuple[str, str]] = field(default_factory=list)
    paths: dict[str, Path] = field(default_factory=dict)

    def tell(self, what: str, figure: str) -> None:
        """Add one line."""
        self.rows.append((what, figure))


def run_demo(out: Path, *, console: Console, keep_serving: bool, port: int) -> None:
    """Run the story; leaves everything that it made in `out`.

    Raises:
        ConfigError: `out` holds something that no demo made.
        UnavailableError: the service did not start, or no rollback came.
    """
    _empty(out)
    story, started = Story(), time.perf_counter()
    with Steps(console) as steps:
        live = _simulate(out, steps, story)
        result = run(load_config(CONFIG), out / "simulated", out / "run", steps, command="riskdistill demo")
        _tell_training(result, story)
        releases = ReleaseLog(f"sqlite:///{out.absolute()}/releases.db")
        _release(releases, result.bundle, out, "trained", "the first champion")
        service = DemoService(
            out / "state",
            f"sqlite:///{out.absolute()}/releases.db",
            out / "run" / "canonical" / "transactions.parquet",
            port,
        )
        step = steps.step("start the API")
        with service:
            step.done(service.url)
            calm, drifted = _score_live(service, result.bundle, live, out, steps, story)
            _bad_release(service, releases, result.bundle, drifted, out, steps, story)
            _report(service, releases, result.bundle, calm, drifted, out, steps, story)
            steps.stop()
            _close(console, result, story, time.perf_counter() - started)
            if keep_serving:
                _keep_serving(console, service, live)


def _empty(out: Path) -> None:
    marker = out / ".riskdistill-demo"
    if out.exists() and any(out.iterdir()) and not marker.exists():
        raise ConfigError("the folder is not empty and not a demo's", where=str(out), mend="choose another --out")
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    marker.touch()


def _simulate(out: Path, steps: Steps, story: Story) -> pa.Table:
    """Write the training history; returns the live traffic that follows it."""
    step = steps.step("simulate", 1.0)
    config = PRESETS["demo"].model_copy(
        update={
            "days": TRAINING_DAYS + LIVE_DAYS,
            "drifts": (Drift(start_day=TRAINING_DAYS + 1, amount_factor=1.6, new_format_share=0.2),),
        }
    )
    simulated = simulate(config, progress=step.at)
    end = pa.scalar(config.start + timedelta(days=TRAINING_DAYS), pa.timestamp("us", "UTC"))
    past = pc.less(simulated.transactions["timestamp"], end)
    tables = simulated.transactions, simulated.labels, simulated.truth
    history = Simulated(*(table.filter(past) for table in tables))
    write_simulated([history], out / "simulated", config)
    live = simulated.transactions.filter(pc.invert(past))
    step.done(f"{history.transactions.num_rows:,} transactions to learn from, {live.num_rows:,} to come")
    story.tell("simulated history", f"{history.transactions.num_rows:,} transactions, {TRAINING_DAYS} days")
    return live


def _tell_training(result: RunResult, story: Story) -> None:
    report = result.report
    student, teacher = report.models["student"], report.models["teacher"]
    story.tell("PR-AUC on the test period", f"teacher {teacher.pr_auc:.3f}, student {student.pr_auc:.3f}")
    story.tell(
        "student against teacher",
        f"{report.retention:.0%} of the PR-AUC, {report.compression:.0f} x smaller, {report.speedup:.0f} x faster",
    )
    story.paths |= {"report": result.page, "distillation": result.distillation, "bundle": result.bundle.path}


def _score_live(
    service: DemoService, bundle: Bundle, live: pa.Table, out: Path, steps: Steps, story: Story
) -> tuple[pa.Table, pa.Table]:
    """Send the calm day, and compare its beginning with offline scores; returns the calm and the drifted rows."""
    first_day = pc.min(live["timestamp"]).as_py().replace(hour=0, minute=0, second=0, microsecond=0)
    is_calm = pc.less(live["timestamp"], pa.scalar(first_day + timedelta(days=1), pa.timestamp("us", "UTC")))
    calm, drifted = live.filter(is_calm).slice(0, MOST_SENT), live.filter(pc.invert(is_calm)).slice(0, MOST_SENT)
    step = steps.step("live over HTTP", calm.num_rows)
    started = time.perf_counter()
    answers: list[Outcome] = []
    # one after another at first, so that offline scoring sees the same order
    for answer in service.send(calm.slice(0, COMPARED), clients=1):
        answers.append(answer)
        step.advance(1)
    for answer in service.send(calm.slice(COMPARED)):
        answers.append(answer)
        step.advance(1)
    took = time.perf_counter() - started
    decisions = _decisions(answers)
    routes = Counter(decision.route for decision in decisions)
    step.done(", ".join(f"{route} {count:,}" for route, count in sorted(routes.items())))
    story.tell("scored over HTTP", f"{len(answers):,} transactions, {len(answers) / took:,.0f} a second")
    story.tell("decided by", ", ".join(f"{route} {count:,}" for route, count in sorted(routes.items())))
    median = float(np.median([decision.latency_ms for decision in decisions]))
    story.tell("median time to a decision", f"{median:.1f} ms before it is stored")
    differences = _offline_differences(bundle, out, calm.slice(0, COMPARED), decisions[:COMPARED])
    story.tell("HTTP against offline", f"{len(differences)} scores, largest difference {differences.max():.1e}")
    return calm, drifted


def _offline_differences(
    bundle: Bundle, out: Path, sent: pa.Table, decisions: Sequence[Answer]
) -> NDArray[np.float64]:
    """Differences of scores, but for those where the teacher was late: offline nobody is."""
    engine = bundle.engine()
    engine.advance(pq.read_table(out / "run" / "canonical" / "transactions.parquet"))
    offline: NDArray[np.float64] = score_table(bundle, engine, sent)["score"].to_numpy()
    told = np.array([decision.score for decision in decisions], np.float64)
    in_time = np.flatnonzero([decision.route != "student_degraded" for decision in decisions])
    return np.asarray(np.abs(offline - told)[in_time], np.float64)


def _bad_release(
    service: DemoService,
    releases: ReleaseLog,
    champion: Bundle,
    traffic: pa.Table,
    out: Path,
    steps: Steps,
    story: Story,
) -> None:
    """Promote a challenger that forgot the prior correction, and send traffic while the monitor takes it back."""
    forgot = {role: Calibrator() for role in ("student", "teacher")}
    challenger = rebuild_bundle(champion, out / "bad_challenger", calibrators=forgot)
    _release(releases, challenger, out, "a retraining", "looked good on its own data")
    _until_served(service, challenger.version)

    stop, verdicts, thread = _watch(releases, service)
    step = steps.step("drift, bad release")
    sent = failed = 0
    for start in range(0, traffic.num_rows, SENT_AT_A_TIME):
        part = traffic.slice(start, SENT_AT_A_TIME)
        answers = list(service.send(part))
        sent, failed = sent + part.num_rows, failed + failures(answers)
        step.at(sent, None, verdicts[-1].reason if verdicts else "")
    stop.set()
    thread.join()
    rolled_back = next((verdict for verdict in verdicts if verdict.action == "rolled_back"), None)
    if rolled_back is None or _served(answers) != {champion.version}:
        raise UnavailableError("the monitor did not roll the bad release back", where="demo", mend="report this")
    step.done(rolled_back.reason)
    story.tell("bad release rolled back", f"after {rolled_back.compared:,} transactions: {rolled_back.reason}")
    story.tell("served again by", f"bundle {champion.version}, {failed} of {sent:,} requests failed meanwhile")
    if failed:
        raise UnavailableError(f"{failed} requests failed during the rollback", where=str(service.log))


def _release(releases: ReleaseLog, bundle: Bundle, out: Path, registered: str, promoted: str) -> None:
    """Keep a copy of a bundle beside the log, and make it the champion."""
    kept = keep(bundle, (out / "bundles").resolve())
    release = releases.register(kept, bundle.version, actor="demo", reason=registered)
    releases.promote(release.release_id, actor="demo", reason=promoted, evidence={})


def _watch(releases: ReleaseLog, service: DemoService) -> tuple[threading.Event, list[Verdict], threading.Thread]:
    """The monitor, looking twice a second beside the traffic as `riskdistill monitor watch` would."""
    controller = RollbackController(
        releases, DecisionLog(service.decisions_url, create=False), RollbackPolicy(), expectation
    )
    stop: threading.Event = threading.Event()
    verdicts: list[Verdict] = []

    def look() -> None:
        for verdict in watch(controller, 0.5, stop):
            verdicts.append(verdict)
            if verdict.action == "rolled_back":
                return

    thread = threading.Thread(target=look, name="monitor", daemon=True)
    thread.start()
    return stop, verdicts, thread


def _report(
    service: DemoService,
    releases: ReleaseLog,
    bundle: Bundle,
    calm: pa.Table,
    drifted: pa.Table,
    out: Path,
    steps: Steps,
    story: Story,
) -> None:
    """The drift report of the drifted traffic, and the audit record of all decisions."""
    step = steps.step("reports")
    engine = bundle.engine()
    engine.advance(pq.read_table(out / "run" / "canonical" / "transactions.parquet"))
    before = measure(bundle, look(bundle, engine, calm))
    window = look(bundle, engine, drifted)
    drift = measure(bundle, window)
    drift_page = write(bundle, window, drift, out / "drift")
    decisions = DecisionLog(service.decisions_url, create=False)
    verified = decisions.verify()
    told = audit(releases, decisions, desk_journals(service.decisions_url))
    audit_page = write_audit_record(out / "audit", told)
    step.done()
    names = ", ".join((*drift.drifting[:3], *(["..."] if len(drift.drifting) > 3 else [])))
    story.tell("first live day", f"{before.verdict}: {len(before.drifting)} of {len(before.features)} inputs drift")
    story.tell(
        "second live day", f"{drift.verdict}: {len(drift.drifting)} of {len(drift.features)} inputs ({names})"
    )
    story.tell("decision log", f"{verified.entries:,} entries, hash chain intact")
    story.paths |= {"drift report": drift_page, "audit record": audit_page}


def _close(console: Console, result: RunResult, story: Story, seconds: float) -> None:
    console.print()
    console.print(report_table(result.report))
    table = Table("what happened", "figure", title=f"riskdistill demo, {seconds:.0f} s")
    for what, figure in story.rows:
        table.add_row(what, figure)
    console.print(table)
    for name, path in story.paths.items():
        console.print(f"{name:<14} {path}", soft_wrap=True, highlight=False)


def _keep_serving(console: Console, service: DemoService, live: pa.Table) -> None:
    last = next(iter(transactions_from(live.slice(live.num_rows - 1))))
    body = json.dumps(last.model_dump(mode="json") | {"tx_id": "try-me-1"})
    console.print(f"\nThe API is up at {service.url} (docs at {service.url}/docs). Try:\n")
    print(service.curl(body), flush=True)
    console.print("\nCtrl-C stops it.")
    with suppress(KeyboardInterrupt):
        service.serve_on()


def _until_served(service: DemoService, version: str) -> None:
    until = time.monotonic() + 10
    while time.monotonic() < until:
        if service.client.ready().bundle_version == version:
            return
        time.sleep(0.1)
    raise UnavailableError(f"the service did not take bundle {version} over", where=str(service.log))


def _decisions(answers: Sequence[Outcome]) -> list[Answer]:
    errors = [answer for answer in answers if isinstance(answer, RiskDistillError)]
    if errors:
        raise UnavailableError(f"{len(errors)} requests failed, the first with {errors[0]}")
    return [answer for answer in answers if isinstance(answer, Answer)]


def _served(answers: Sequence[Outcome]) -> set[str]:
    return {decision.bundle_version for decision in _decisions(answers)}
