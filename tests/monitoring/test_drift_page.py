"""The drift report: written whole, self-contained, and about the columns that moved."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from monitoring.drift import DriftReport, measure_drift
from monitoring.drift_page import write_drift_report
from monitoring.profile import build_profile, draw_sample
from riskdistill.errors import EmptyInputError, MissingColumnError

NAMES = ["amount <in>", *(f"f{i}" for i in range(24)), "constant", "all_missing"]


@pytest.fixture(scope="module")
def measured() -> tuple[DriftReport, pd.DataFrame, pd.DataFrame]:
    draw = np.random.default_rng(0)
    reference = np.exp(draw.normal(size=(4_000, len(NAMES)))).astype(np.float32)
    current = np.exp(draw.normal(size=(600, len(NAMES)))).astype(np.float32)
    reference[:, -2:] = current[:, -2:] = [1.0, np.nan]
    current[:, 0] *= 3
    score, now = draw.beta(1, 20, 4_000), draw.beta(1, 20, 600)
    profile = build_profile(reference, NAMES, score, alert_rate=0.02, bypass_rate=0.1, hours=24)
    drift = measure_drift(profile, current, NAMES, now, alert_rate=0.02, bypass_rate=0.1, hours=4)
    return drift, draw_sample(reference, NAMES, score), draw_sample(current, NAMES, now)


def test_the_report_names_what_moved_and_stands_alone(
    measured: tuple[DriftReport, pd.DataFrame, pd.DataFrame], tmp_path: Path
) -> None:
    drift, reference, current = measured
    page = write_drift_report(tmp_path / "new", drift, reference, current)
    assert sorted(path.name for path in page.parent.iterdir()) == [
        "drift.html",
        "drift.json",
        "evidently.html",
    ]
    assert DriftReport.model_validate_json((page.parent / "drift.json").read_text()) == drift
    html = page.read_text()
    assert drift.drifting == ("amount <in>",)
    assert "amount &lt;in&gt;" in html
    assert "amount <in>" not in html
    assert '<script src="http' not in html
    assert "<img" not in html
    assert 'href="evidently.html"' in html
    evidently = (page.parent / "evidently.html").read_text()
    assert '<script src="http' not in evidently
    assert "amount" in evidently
    assert drift.features[-1].name not in evidently


def test_tables_that_do_not_fit_are_refused_before_anything_is_written(
    measured: tuple[DriftReport, pd.DataFrame, pd.DataFrame], tmp_path: Path
) -> None:
    drift, reference, current = measured
    with pytest.raises(MissingColumnError, match="current window: lacks f3"):
        write_drift_report(tmp_path, drift, reference, current.drop(columns="f3"))
    with pytest.raises(EmptyInputError, match="reference sample: has no rows"):
        write_drift_report(tmp_path, drift, reference.head(0), current)
    assert not list(tmp_path.iterdir())
