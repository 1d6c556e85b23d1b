"""Drills: a stream of decisions with a fault in it, replayed through the real monitors.

Which monitor finds a fault matters as much as that one does: a poisoned label that looks like a bad model would
have the wrong thing rolled back. So each scenario names the detectors that are right for it, and a drill passes
if the first alarm after the fault is one of theirs.

    controller     `monitoring.rollback`, every hour: alerts, false alerts, missed laundering, errors, time
    canary         `monitoring.canary`, at the same looks and of the same, while there is one
    drift          `monitoring.drift`, every day on the last day and on the last week
    performance    every third day: precision against the scores; what was missed; what estimates expect
    labels         every day: second looks that contradict
    volume         every hour: a silence longer than any that the reference had, three times over

The last three are of `monitoring.alarms`, which `riskdistill monitor watch` runs as well.

A scenario without a fault has no right detector: it passes if nothing alarms.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from monitoring.alarms import (
    HOUR,
    LABELS_EVERY,
    PERFORMANCE_EVERY,
    Alarm,
    contradicted,
    drifted,
    moment,
    silence,
    worse,
)
from monitoring.canary import CanaryWatch
from monitoring.drift import measure_drift
from monitoring.evidence import Expectation, RollbackPolicy
from monitoring.labels import Outcome
from monitoring.maturity import DAY
from monitoring.performance import Decided
from monitoring.profile import ReferenceProfile
from monitoring.rollback import RollbackController
from riskdistill.data.transaction import Transaction
from riskdistill.storage.decisions import Decision, Entry, Shadow
from riskdistill.storage.releases import ReleaseLog, State, Transition

CHAMPION, PREVIOUS, CANARY = "champion", "previous", "canary"


@dataclass(frozen=True)
class Stream:
    """What the service decided, row for row, in order of time.

    Attributes:
        transactions: as they are stored.
        context: float32 [n, features], as the models saw it.
        champion, previous, teacher: scores; the teacher's of every row, asked or not.
        asked: whether the teacher was asked, `failed` whether it did not answer.
        rows: what performance is measured on.
        latency: milliseconds.
        canary: scores of the rows that a canary decides, NaN elsewhere; None: there is none.
    """

    transactions: Sequence[Transaction]
    context: NDArray[np.float32]
    champion: NDArray[np.float64]
    previous: NDArray[np.float64]
    asked: NDArray[np.bool_]
    failed: NDArray[np.bool_]
    latency: NDArray[np.float64]
    rows: Decided
    canary: NDArray[np.float64] | None = None

    def take(self, rows: NDArray[np.bool_]) -> Stream:
        """Some of the rows."""
        places = np.flatnonzero(rows).tolist()
        told = {
            name: getattr(self.rows, name)[rows]
            for name in (
                "time",
                "score",
                "alert",
                "sampled",
                "student",
                "teacher",
                "covariates",
                "label",
                "known",
                "again",
                "again_known",
            )
        }
        return Stream(
            [self.transactions[place] for place in places],
            self.context[rows],
            self.champion[rows],
            self.previous[rows],
            self.asked[rows],
            self.failed[rows],
            self.latency[rows],
            replace(self.rows, **told),
            None if self.canary is None else self.canary[rows],
        )


@dataclass(frozen=True)
class Setting:
    """What all drills share.

    Attributes:
        names: of the features.
        profile: the reference, frozen before the stream begins.
        review: the score from which a model alerts.
        gap: longest silence of the reference, microseconds.
        promoted: when the champion began to serve; what came before was decided by the previous model.
        begins: when the monitors begin to look.
        end: when they stop.
    """

    names: tuple[str, ...]
    profile: ReferenceProfile
    review: float
    gap: int
    promoted: int
    begins: int
    end: int


class DrillResult(BaseModel):
    """One scenario."""

    model_config = ConfigDict(frozen=True)

    scenario: str
    fault: str
    fault_at: datetime
    right: tuple[str, ...] = Field(description="detectors that are right for it")
    detected: Alarm | None = Field(description="the first alarm after the fault")
    passed: bool = Field(description="whether that was one of the right detectors; none without a fault")
    false_alarms: tuple[Alarm, ...] = Field(description="before the fault")
    delay_hours: float | None
    exposure: int = Field(description="payments decided between fault and detection, or the end")
    restored: str = Field(description="what put things right, or who has to")
    restore_seconds: float | None = Field(
        description="from the alarm to the other model's deciding by the release log, measured"
    )
    seconds: float


def run_drill(
    scenario: str,
    fault: str,
    right: Sequence[str],
    stream: Stream,
    fault_at: int,
    setting: Setting,
    *,
    stays: bool = False,
) -> DrillResult:
    """Replay a stream until the first alarm after the fault, or to its end.

    Args:
        stays: whether the champion must stay, for the previous model does no better; replayed to the end then.
    """
    started = perf_counter()
    before: list[Alarm] = []
    detected: Alarm | None = None
    restore: float | None = None
    for alarm, seconds in _alarms(stream, setting):
        if alarm.at.timestamp() * 1e6 <= fault_at:
            before.append(alarm)
            continue
        detected, restore = detected or alarm, seconds
        if restore is not None or not (stays or detected.detector.startswith("controller")):
            break  # what the controller only alarms on may still be followed by what it acts on
    until = setting.end if detected is None else round(detected.at.timestamp() * 1e6)
    return DrillResult(
        scenario=scenario,
        fault=fault,
        fault_at=moment(fault_at),
        right=tuple(right),
        detected=detected,
        passed=_is_right(detected, right) and not (stays and restore is not None),
        false_alarms=tuple(before),
        delay_hours=None if detected is None else (until - fault_at) / HOUR,
        exposure=int(((stream.rows.time > fault_at) & (stream.rows.time <= until)).sum()),
        restored=(
            "a person: mend what all models share"
            if stays and restore is None
            else _restored(right, detected, restore)
        ),
        restore_seconds=restore,
        seconds=perf_counter() - started,
    )


def _is_right(detected: Alarm | None, right: Sequence[str]) -> bool:
    return not right if detected is None else any(detected.detector.startswith(name) for name in right)


def _restored(right: Sequence[str], detected: Alarm | None, seconds: float | None) -> str:
    if detected is not None and seconds is not None:
        return "the champion" if detected.detector.startswith("canary") else "the previous model"
    return "a person: retrain, mend the source, or the labels" if right else "nothing is broken"


def _alarms(stream: Stream, setting: Setting) -> Iterator[tuple[Alarm, float | None]]:
    """Alarms in order of time, each with how long a rollback took, where one was done."""
    with TemporaryDirectory() as folder:
        watch = _Watch(Path(folder), stream, setting)
        watch.controller.look()  # what came before the monitors began
        for hour in range(setting.begins, setting.end, HOUR):
            now = hour + HOUR
            checks: list[Callable[[int], Alarm | None]] = [watch.volume]
            if (now - setting.begins) % DAY == 0:
                checks.append(watch.drift)
            if (now - setting.begins) % LABELS_EVERY == 0:
                checks.append(watch.labels)
            if (now - setting.begins) % PERFORMANCE_EVERY == 0:
                checks.append(watch.performance)
            yield from watch.roll_back(now)
            for check in checks:
                if (alarm := check(now)) is not None:
                    yield alarm, None


class _Watch:
    """The monitors on one stream."""

    def __init__(self, folder: Path, stream: Stream, setting: Setting) -> None:
        self._stream, self._setting = stream, setting
        self._source = _Source(stream, setting)
        expected = Expectation(setting.review, max(setting.profile.alert_rate, 1e-4))
        self._now = setting.begins
        releases, policy = _Releases(folder, setting.promoted, stream), RollbackPolicy(labels=True)
        self._told: dict[str, Outcome] = {}
        self._canary = CanaryWatch(
            releases, self._source, policy, lambda _: expected, lambda: self._told, lambda: moment(self._now)
        )
        self.controller = RollbackController(
            releases, self._source, policy, lambda _: expected, lambda: moment(self._now)
        )
        self._labelled = np.argsort(stream.rows.known, kind="stable")
        self._seen = int((stream.rows.known == 0).sum())

    def roll_back(self, now: int) -> Iterator[tuple[Alarm, float | None]]:
        """A look of the controller, and one at the canary."""
        self._now = now
        self._source.until = int(np.searchsorted(self._stream.rows.time, now, "right"))
        labels = self._labels(now)
        for who, look in (("controller", lambda: self.controller.look(labels)), ("canary", self._canary.look)):
            started = perf_counter()
            verdict = look()
            if verdict is not None and verdict.action not in ("none", "waiting"):
                metric = verdict.reason.removeprefix("canary: ").partition(":")[0].partition(" ")[0]
                seconds = perf_counter() - started if verdict.action == "rolled_back" else None
                yield Alarm(at=moment(now), detector=f"{who}: {metric}", detail=verdict.reason), seconds

    def _labels(self, now: int) -> dict[str, Outcome]:
        rows = self._stream.rows
        end = int(np.searchsorted(rows.known[self._labelled], now, "right"))
        for place in self._labelled[self._seen : end].tolist():
            outcome = Outcome(bool(rows.label[place] == 1), moment(int(rows.known[place])))
            self._told[self._stream.transactions[place].tx_id] = outcome
        self._seen = max(self._seen, end)
        return self._told

    def volume(self, now: int) -> Alarm | None:
        """Whether the stream has gone silent."""
        seen = int(np.searchsorted(self._stream.rows.time, now, "right"))
        return silence(int(self._stream.rows.time[seen - 1]), self._setting.gap, now)

    def drift(self, now: int) -> Alarm | None:
        """Drift of the last day and of the last week."""
        for days in (1, 7):
            rows = (self._stream.rows.time > now - days * DAY) & (self._stream.rows.time <= now)
            if not rows.any():
                continue
            score = self._stream.champion[rows]
            report = measure_drift(
                self._setting.profile,
                self._stream.context[rows],
                self._setting.names,
                score,
                alert_rate=float((score >= self._setting.review).mean()),
                hours=24.0 * days,
            )
            if (alarm := drifted(report, now)) is not None:
                return alarm.model_copy(update={"detail": f"last {days} days: {alarm.detail}"})
        return None

    def labels(self, now: int) -> Alarm | None:
        """Whether second looks contradict the labels more than usual."""
        return contradicted(self._stream.rows, now)

    def performance(self, now: int) -> Alarm | None:
        """Whether a mature week is worse than estimated, or more was missed than before."""
        return worse(self._stream.rows, now)


class _Releases(ReleaseLog):
    """A release log whose champion was promoted, and whose canary was staged, at times of the stream."""

    def __init__(self, folder: Path, promoted: int, stream: Stream) -> None:
        super().__init__(f"sqlite:///{folder}/releases.db")
        self._times = {(CHAMPION, State.CHAMPION): moment(promoted)}
        who: dict[str, Any] = {"actor": "drill", "reason": "drill"}
        for version in (PREVIOUS, CHAMPION):
            release = self.register(folder / version, version, **who)
            self.promote(release.release_id, **who, evidence={})
        if stream.canary is not None:
            mine = ~np.isnan(stream.canary)
            self._times[CANARY, State.CANARY] = moment(int(stream.rows.time[mine.argmax()]))
            release = self.register(folder / CANARY, CANARY, **who)
            self.stage(release.release_id, State.CANARY, **who, evidence={}, share=float(mine.mean()))

    def history(self) -> tuple[Transition, ...]:
        """The transitions, at the times of the stream."""
        return tuple(
            entry.model_copy(update={"at": self._times.get((entry.bundle_version, entry.after), entry.at)})
            for entry in super().history()
        )


class _Source:
    """The stream as a decision log that grows: `until` rows are there."""

    def __init__(self, stream: Stream, setting: Setting) -> None:
        self._stream, self._setting = stream, setting
        self.until = int(np.searchsorted(stream.rows.time, setting.begins, "right"))

    def read(
        self, after_sequence: int = 0, limit: int | None = None, *, start: datetime | None = None
    ) -> Iterator[Entry]:
        time = self._stream.rows.time
        first = 0 if start is None else int(np.searchsorted(time, round(start.timestamp() * 1e6)))
        begin = max(after_sequence, first)
        for place in range(begin, self.until if limit is None else min(self.until, begin + limit)):
            yield Entry(place + 1, self._decision(place))

    def _decision(self, place: int) -> Decision:
        stream, transaction = self._stream, self._stream.transactions[place]
        rows = stream.rows
        student, shadow = self._models(place)
        asked, failed = bool(stream.asked[place]), bool(stream.failed[place])
        alert, raised = bool(rows.alert[place]), bool(shadow.score >= self._setting.review)
        return Decision.model_construct(  # of valid parts; checking tens of thousands would take most of the time
            decision_id=transaction.tx_id,
            tx_id=transaction.tx_id,
            transaction=transaction,
            request_hash="",
            decided_at=moment(int(rows.time[place])),
            score=float(rows.score[place]),
            student_score=student.score,
            teacher_score=float(rows.teacher[place]) if asked and not failed else None,
            band="medium" if alert else "low",
            action="review" if alert else "allow",
            route="student" if not asked else "student_degraded" if failed else "teacher",
            route_reason="none" if not asked else "teacher_late" if failed else "above_threshold",
            reasons=(),
            sample_share=1.0 if raised and not alert else None,  # all that one model alone raises is looked at
            bundle_version=student.version,
            latency_ms=float(stream.latency[place]),
            shadow=Shadow.model_construct(
                bundle_version=shadow.version,
                score=shadow.score,
                action="review" if raised else "allow",
            ),
        )

    def _models(self, place: int) -> tuple[_Scored, _Scored]:
        """What decides a row, and what scores it beside that."""
        stream = self._stream
        champion = _Scored(CHAMPION, float(stream.champion[place]))
        previous = _Scored(PREVIOUS, float(stream.previous[place]))
        if stream.canary is not None and not np.isnan(stream.canary[place]):
            return _Scored(CANARY, float(stream.canary[place])), champion
        served = stream.rows.time[place] >= self._setting.promoted
        return (champion, previous) if served else (previous, champion)


class _Scored(NamedTuple):
    version: str
    score: float
