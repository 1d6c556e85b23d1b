"""How fast and in how much memory drift is measured, and whether PSI alarms where it should and only there.

Evidently's PSI, with its equal-width bins over both samples, is worked out on the same samples.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Final

import numpy as np
from feature_data import ROOT, Measurement
from monitoring_rules import proportion
from numpy.typing import NDArray

from monitoring.drift import measure_drift
from monitoring.profile import ReferenceProfile, build_profile

ROWS, COLUMNS = 100_000, 100
PASSES: Final = 5
SPREADS: Final = (1.0, 1.5, 1.85)  # of the logarithm of amounts; 1.85: ten quantiles give x 3 a PSI of 0.35
SMALL: Final = 2_000
DAY: Final = 86_400_000_000
MEASURE: Final = """
import json, time
import numpy as np
from monitoring.drift import Traffic, measure_drift
from monitoring.profile import build_profile
rows, columns, passes = %d, %d, %d
draw = np.random.default_rng(0)
names = [f"f{i}" for i in range(columns)]
window = np.exp(draw.standard_normal((rows, columns), dtype=np.float32))
window[:, ::3] *= draw.random((rows, len(names[::3])), dtype=np.float32) < 0.05
score = draw.beta(0.5, 20, rows)
times = np.sort(draw.integers(0, 7 * 86_400_000_000, rows))
channel = np.array(["wire", "card", "cash"])[draw.integers(0, 3, rows)]
few = window[:20_000]
profile = build_profile(
    few, names, score[:20_000], alert_rate=0.02, bypass_rate=0.05, hours=168, times=np.sort(draw.integers(
        0, 28 * 86_400_000_000, 20_000)), categories={"channel": channel[:20_000].tolist()},
)
sample, traffic = few[:2_000], None
channel = channel.tolist()
open("/proc/self/clear_refs", "w").write("5")  # the peak begins anew
def memory(what):
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(what)) / 1024
before = memory("VmRSS")
taken, used = [], []
for _ in range(passes):
    started, busy = time.perf_counter(), time.process_time()
    traffic = Traffic(times=times, categories={"channel": channel}, sample=sample)
    measure_drift(profile, window, names, score, alert_rate=0.02, bypass_rate=0.05, hours=168, traffic=traffic)
    taken.append(time.perf_counter() - started)
    used.append(time.process_time() - busy)
print(json.dumps({"wall": taken, "cpu": used, "before": before, "more": memory("VmHWM") - before}))
"""


def drift_speed() -> list[Measurement]:
    """Everything but the HTML, in a process of its own: columns, rates, kinds, all together, heat map."""
    code = MEASURE % (ROWS, COLUMNS, PASSES)
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True)
    found = json.loads(done.stdout)
    what = f"{ROWS:,} rows x {COLUMNS} columns"
    median = float(np.median(found["wall"]))
    detail = f"best of {PASSES}; median {median:.2f}; processor time {min(found['cpu']):.2f} s at best"
    data = ROWS * COLUMNS * 4 / 2**20
    beside = f"at its peak, beside {found['before']:.0f} MiB of Python, libraries and data ({data:.0f} MiB)"
    return [
        Measurement(f"{what}: time", min(found["wall"]), "s", 1.0, "lower", detail),
        Measurement(f"{what}: memory", found["more"], "MiB", 300.0, "lower", beside),
    ]


def psi(quick: bool) -> list[Measurement]:
    """Amounts that are scaled, and samples of the very same distribution."""
    runs = 200 if quick else 2_000
    rows = []
    for spread in SPREADS:
        profile = _profile(spread)
        for factor in (2.0, 3.0):
            alarms, values, theirs = 0, [], []
            for seed in range(20):
                draw = np.random.default_rng([1, seed])
                amounts = np.exp(draw.normal(8, spread, 20_000))
                now = factor * np.exp(draw.normal(8, spread, SMALL))
                found = _measured(profile, now)
                alarms += found[0]
                values.append(found[1])
                theirs.append(equal_width(amounts, now))
            detail = (
                f"of 20 samples of {SMALL:,}; PSI {np.mean(values):.3f}, equal-width bins {np.mean(theirs):.3f}"
            )
            name = f"log-normal amounts (deviation {spread}) x {factor:.0f}: alarms"
            rows.append(Measurement(name, 100 * alarms / 20, "%", 100.0, "higher", detail))
    alarms = sum(
        _measured(_PROFILES[1.0], np.exp(np.random.default_rng([2, seed]).normal(8, 1.0, SMALL)))[0]
        for seed in range(runs)
    )
    low, high = proportion(alarms, runs)
    detail = f"{alarms} of {runs:,} samples of {SMALL:,}, 95 % {low:.2%} to {high:.2%}"
    rows.append(Measurement("the same distribution: false alarms", 100 * alarms / runs, "%", 1.0, "lower", detail))
    return rows


_PROFILES: dict[float, ReferenceProfile] = {}


def _profile(spread: float) -> ReferenceProfile:
    """Of four weeks of amounts, and of scores that never change."""
    draw = np.random.default_rng(0)
    amounts = np.exp(draw.normal(8, spread, (20_000, 1))).astype(np.float32)
    times = np.sort(draw.integers(0, 28 * DAY, 20_000))
    _PROFILES[spread] = build_profile(
        amounts, ["amount"], draw.beta(0.5, 20, 20_000), alert_rate=0.02, bypass_rate=0.05, times=times
    )
    return _PROFILES[spread]


def _measured(profile: ReferenceProfile, amounts: NDArray[np.float64]) -> tuple[bool, float]:
    """Whether there is any alarm, and the PSI of the amounts."""
    score = np.random.default_rng(abs(hash(float(amounts[0]))) % 2**32).beta(0.5, 20, len(amounts))
    report = measure_drift(profile, amounts[:, None].astype(np.float32), ["amount"], score)
    return report.verdict == "drift", report.features[0].psi


def equal_width(reference: NDArray[np.float64], now: NDArray[np.float64], bins: int = 10) -> float:
    """PSI as many tools work it out: bins of one width over both samples."""
    edges = np.histogram_bin_edges(np.concatenate([reference, now]), bins)
    p, q = (np.histogram(sample, edges)[0] / len(sample) + 1e-4 for sample in (now, reference))
    return float(((p - q) * np.log(p / q)).sum())


def drills(quick: bool) -> list[Measurement]:
    """Every scenario through the real monitors: found by the right detector, and after how long."""
    from pipelines.drill import ALL, drill
    from pipelines.progress import Steps

    with Steps() as steps:
        results = [result for seed in range(1 if quick else 3) for result in drill(ALL, steps, seed=seed)]
    passed = sum(result.passed for result in results)
    rows = [
        Measurement(
            "drills found by the right detector",
            100 * passed / len(results),
            "%",
            100.0,
            detail=f"{passed} of {len(results)}",
        )
    ]
    for result in results:
        found = "nothing" if result.detected is None else result.detected.detector
        told = f"{found}; {result.exposure:,} payments meanwhile; {len(result.false_alarms)} false alarms"
        rows.append(
            Measurement(
                f"{result.scenario}: delay",
                -1.0 if result.delay_hours is None else result.delay_hours,
                "h",
                detail=told,
            )
        )
    return rows
