"""`riskdistill monitor drill`: faults in a healthy stream, replayed through the real monitors, and the report."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
import xxhash
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from monitoring.drills import DrillResult, Stream, run_drill
from monitoring.maturity import DAY
from monitoring.pages import render, write_whole
from pipelines.drill_stream import Base, base, serve
from pipelines.progress import Steps
from riskdistill.errors import ConfigError

ALL: Final = "all"
GRADUAL_DAYS: Final = 14.0
CANARY: Final = 0.2  # of the accounts


@dataclass(frozen=True)
class Scenario:
    """One fault: what it is, which detectors are right for it, and what it makes of the stream.

    Attributes:
        stays: whether a rollback would be wrong, for the previous model does no better.
    """

    fault: str
    right: tuple[str, ...]
    inject: Callable[[Base], Stream]
    stays: bool = False


def _scores(base: Base) -> dict[str, NDArray[np.float64]]:
    stream = base.stream
    scores = {"champion": stream.champion, "previous": stream.previous, "teacher": stream.rows.teacher}
    return {name: score.copy() for name, score in scores.items()}


def _days(base: Base) -> NDArray[np.float64]:
    """Days since the fault, 0 before it."""
    return np.maximum(base.stream.rows.time - base.fault_at, 0) / DAY


def _scaled(base: Base, factor: NDArray[np.float64]) -> Stream:
    """Other amounts after the fault, and all sums and means with them."""
    context = base.stream.context.copy()
    for column, name in enumerate(base.setting.names):
        if name == "amount_usd" or any(part in name for part in ("_sum_", "_in_mean_", "_out_mean_")):
            context[:, column] *= factor.astype(np.float32)
    return base.rescored(context)


def _broken_feature(base: Base) -> Stream:
    context = base.stream.context.copy()
    for column, name in enumerate(base.setting.names):
        if name.startswith("receiver_in_count"):
            context[base.after, column] = np.nan
    return base.rescored(context)


def _currency_scale(base: Base) -> Stream:
    draw = np.random.default_rng([base.seed, 2])
    hit = base.after & (draw.random(len(base.after)) < 0.5)
    return _scaled(base, np.where(hit, 100.0, 1.0))


def _label_shift(base: Base) -> Stream:
    draw = np.random.default_rng([base.seed, 3])
    truth = base.truth & ~(base.after & (draw.random(len(base.after)) < 0.75))
    return serve(base.stream, _scores(base), truth, base.setting, base.seed)


def _new_typology(base: Base) -> Stream:
    draw, scores = np.random.default_rng([base.seed, 4]), _scores(base)
    quiet = base.after & ~base.truth & (scores["champion"] < np.median(scores["champion"]))
    truth = base.truth | (quiet & (draw.random(len(quiet)) < 0.06))
    return serve(base.stream, scores, truth, base.setting, base.seed)


def _poisoned_labels(base: Base) -> Stream:
    draw, rows = np.random.default_rng([base.seed, 5]), base.stream.rows
    wrong = (rows.label == 1) & (rows.known > base.fault_at) & (draw.random(len(rows.label)) < 0.7)
    return replace(base.stream, rows=replace(rows, label=np.where(wrong, 0, rows.label).astype(np.int8)))


def _slow_model(base: Base) -> Stream:
    return replace(base.stream, latency=np.where(base.after, 3.0, 1.0) * base.stream.latency)


def _failing_teacher(base: Base) -> Stream:
    draw = np.random.default_rng([base.seed, 6])
    more = base.stream.asked & base.after & (draw.random(len(base.after)) < 0.1)
    return replace(base.stream, failed=base.stream.failed | more)


def _bad_release(base: Base) -> Stream:
    """The champion's calibration is lost: it alerts on four times as much."""
    scores = _scores(base)
    scores["champion"] = np.where(base.after, _uncalibrated(scores["champion"]), scores["champion"])
    return serve(base.stream, scores, base.truth, base.setting, base.seed)


def _uncalibrated(score: NDArray[np.float64]) -> NDArray[np.float64]:
    odds = 8 * score / (1 - score)
    return odds / (1 + odds)


def _with_canary(base: Base, change: Callable[[NDArray[np.float64]], NDArray[np.float64]]) -> Stream:
    """A canary decides for some accounts: a model as good as the champion, whose scores were changed."""
    scores = _scores(base)
    senders = [payment.sender_account.encode() for payment in base.stream.transactions]
    drawn = [xxhash.xxh64_intdigest(sender) < CANARY * 2**64 for sender in senders]
    scores["canary"] = np.where(base.after & np.array(drawn), change(scores["previous"]), np.nan)
    return serve(base.stream, scores, base.truth, base.setting, base.seed)


def _bad_teacher(base: Base) -> Stream:
    """Its answers call all that it is asked about laundering; both students are as before."""
    stream = base.stream
    answered = base.after & stream.asked & ~stream.failed
    rows = replace(
        stream.rows,
        teacher=np.where(base.after, 0.99, stream.rows.teacher),
        score=np.where(answered, 0.99, stream.rows.score),
        alert=stream.rows.alert | answered,
    )
    return replace(stream, rows=rows)


def _shared_outage(base: Base) -> Stream:
    """The database that all of the service writes to hardly answers."""
    draw = np.random.default_rng([base.seed, 7])
    stream = replace(
        base.stream,
        failed=base.stream.failed | (base.stream.asked & base.after),
        latency=np.where(base.after, 20.0, 1.0) * base.stream.latency,
    )
    return stream.take(~base.after | (draw.random(len(base.after)) < 0.5))


def _gradual(base: Base) -> Stream:
    return _scaled(base, 1 + 2 * np.minimum(_days(base) / GRADUAL_DAYS, 1))


def _sudden(base: Base) -> Stream:
    return _scaled(base, np.where(base.after, 3.0, 1.0))


def _stop(base: Base) -> Stream:
    return base.stream.take(~base.after)


SCENARIOS: Final = {
    "healthy": Scenario("none: whatever alarms is wrong", (), lambda base: base.stream),
    "broken_feature": Scenario(
        "counts of what the receiver got are missing", ("drift: receiver_in_count",), _broken_feature
    ),
    "currency_scale": Scenario(
        "half of the amounts come in cents", ("drift: amount", "drift: sender", "drift: receiver"), _currency_scale
    ),
    "label_shift": Scenario(
        "three quarters of what was laundering is none any more", ("performance: precision",), _label_shift
    ),
    "new_typology": Scenario("laundering among what looks most ordinary", ("performance: missed",), _new_typology),
    "poisoned_labels": Scenario(
        "labels that come call 70 % of the laundering normal", ("labels",), _poisoned_labels
    ),
    "slow_model": Scenario("every decision takes three times as long", ("controller: slow",), _slow_model),
    "failing_teacher": Scenario(
        "the teacher fails in a tenth more of the cases", ("controller: errors",), _failing_teacher
    ),
    "bad_release": Scenario(
        "the champion's calibration is lost",
        ("controller: more_alerts", "controller: teacher_disagreement"),
        _bad_release,
    ),
    "healthy_canary": Scenario(
        "none: a canary as good as the champion", (), lambda base: _with_canary(base, lambda score: score)
    ),
    "bad_canary": Scenario(
        "the calibration of a canary is lost",
        ("canary: more_alerts",),
        lambda base: _with_canary(base, _uncalibrated),
    ),
    "bad_teacher": Scenario(
        "the teacher calls everything laundering", ("controller: more_final_alerts",), _bad_teacher
    ),
    "shared_outage": Scenario(
        "the log hardly answers: half of the payments are not decided, the rest late and without the teacher",
        ("controller: errors", "controller: slow"),
        _shared_outage,
        stays=True,
    ),
    "gradual_drift": Scenario("amounts grow threefold within a fortnight", ("drift",), _gradual),
    "sudden_drift": Scenario("amounts grow threefold at once", ("drift",), _sudden),
    "traffic_stop": Scenario("no payment comes any more", ("volume",), _stop),
}


class DrillReport(BaseModel):
    """All drills of one stream, JSON-able."""

    model_config = ConfigDict(frozen=True)

    results: tuple[DrillResult, ...]


def drill(scenario: str, steps: Steps, *, source: Path | None = None, seed: int = 0) -> Iterator[DrillResult]:
    """Run one scenario or all of them, one after another.

    Args:
        scenario: a name of `SCENARIOS`, or `ALL`.
        steps: shows the stream and each scenario as it begins and ends.
        source: folder of canonical tables with labels to make the stream of; a simulated world by default.
        seed: of the world and the faults.

    Raises:
        ConfigError: no such scenario.
        DataError: the source cannot be used.
    """
    if scenario != ALL and scenario not in SCENARIOS:
        raise ConfigError(f"no scenario {scenario!r}", mend=f"choose {ALL} or one of {', '.join(SCENARIOS)}")
    step = steps.step("healthy stream")
    healthy = base(source, seed=seed)
    step.done(f"{len(healthy.stream.transactions):,} payments")
    for name in SCENARIOS if scenario == ALL else (scenario,):
        chosen, step = SCENARIOS[name], steps.step(name)
        result = run_drill(
            name,
            chosen.fault,
            chosen.right,
            chosen.inject(healthy),
            healthy.fault_at,
            healthy.setting,
            stays=chosen.stays,
        )
        found = "nothing" if result.detected is None else result.detected.detector
        step.done(f"found by {found}, {'right' if result.passed else 'wrong'}")
        yield result


_BODY: Final = """
<h1>Drills</h1>
<p class="soft">Faults in a healthy stream, replayed through the monitors that watch the service. A drill passes if
the first alarm after the fault is of a detector that is right for it, and without a fault if there is no alarm.
For machines: <a href="drills.json">drills.json</a>.</p>
<section><table><tr><th>scenario<th>fault<th>found by<th>right<th class="n">after<th class="n">payments meanwhile
<th class="n">false alarms before<th>restored by</tr>
{% for r in results %}
<tr><td>{{ r.scenario }}<td>{{ r.fault }}
<td>{% if r.detected %}{{ r.detected.detector }}<br><span class="soft">{{ r.detected.detail }}</span>{% else %}
<span class="bad">nothing</span>{% endif %}
<td>{% if r.passed %}<span class="good">yes</span>{% else %}<span class="bad">no</span>:
{{ r.right | join(" or ") or "nothing" }}{% endif %}
<td class="n">{% if r.delay_hours is none %}–{% else %}{{ "%.0f h" | format(r.delay_hours) }}{% endif %}
<td class="n">{{ "{:,}".format(r.exposure) }}<td class="n">{{ r.false_alarms | length }}
<td>{{ r.restored }}{% if r.restore_seconds is not none %}, {{ "%.2f s" | format(r.restore_seconds) }}{% endif %}
</tr>
{% endfor %}</table></section>
"""


def write_drills(folder: Path, results: list[DrillResult]) -> Path:
    """Write `drills.json` and `drills.html` into `folder`, each whole or not at all; returns the page."""
    write_whole(folder / "drills.json", DrillReport(results=tuple(results)).model_dump_json(indent=2))
    return write_whole(folder / "drills.html", render(_BODY, title="Drills", results=results))
