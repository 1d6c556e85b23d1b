"""Offline scoring: whatever the batches, what the service decided; nothing of a file is lost."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines import score
from pipelines.jobs import score_file
from pipelines.progress import Steps
from pipelines.score import COLUMNS, score_table, write_scores
from riskdistill.bundle import ACTIONS, Bundle
from riskdistill.errors import ConfigError, EmptyInputError
from riskdistill.storage.decisions import DecisionLog

Tables = tuple[pa.Table, pa.Table]


def test_batches_do_not_matter(tiny_bundle: Bundle, tiny_tables: Tables, monkeypatch: pytest.MonkeyPatch) -> None:
    traffic = tiny_tables[0].slice(0, 100)
    whole = score_table(tiny_bundle, tiny_bundle.engine(), traffic)
    monkeypatch.setattr(score, "ROWS_AT_A_TIME", 7)
    parts = score_table(tiny_bundle, tiny_bundle.engine(), traffic)
    numbers = ["score", "student_score"]
    pd.testing.assert_frame_equal(parts.drop(columns=numbers), whole.drop(columns=numbers))
    np.testing.assert_allclose(parts[numbers], whole[numbers], rtol=0, atol=1e-6)


def test_the_service_decides_the_same(tiny_bundle: Bundle, tiny_tables: Tables, service_folder: Path) -> None:
    log = DecisionLog(f"sqlite:///{service_folder}/decisions.db", create=False)
    decisions = [entry.decision for entry in log.read()]
    log.close()
    offline = score_table(tiny_bundle, tiny_bundle.engine(), tiny_tables[0].slice(0, len(decisions)))
    assert {decision.route for decision in decisions} == {"student", "teacher"}
    for name in ("tx_id", "band", "action", "route", "bundle_version"):
        assert offline[name].tolist() == [getattr(decision, name) for decision in decisions]
    for name in ("score", "student_score"):
        np.testing.assert_allclose(offline[name], [getattr(one, name) for one in decisions], rtol=0, atol=1e-6)


def test_the_teacher_decides_what_takes_the_bypass(tiny_bundle: Bundle, tiny_tables: Tables) -> None:
    traffic = tiny_tables[0].slice(0, 200)
    scores = score_table(tiny_bundle, tiny_bundle.engine(), traffic)
    encoded = tiny_bundle.engine().encode(traffic)
    assert tiny_bundle.teacher is not None
    teacher, student = (model.score_all(encoded).score for model in (tiny_bundle.teacher, tiny_bundle.student))
    bypassed = np.array([tiny_bundle.thresholds.bypass(value) is not None for value in student])
    assert 0 < bypassed.sum() < len(bypassed)
    assert (scores["route"] == np.where(bypassed, "teacher", "student")).all()
    np.testing.assert_allclose(scores["score"], np.where(bypassed, teacher, student), rtol=0, atol=1e-6)
    assert [tiny_bundle.thresholds.band(value) for value in scores["score"]] == scores["band"].tolist()
    assert [ACTIONS[band] for band in scores["band"]] == scores["action"].tolist()


def test_without_a_teacher_the_student_decides_and_the_route_tells(
    tiny_bundle: Bundle, tiny_tables: Tables
) -> None:
    traffic = tiny_tables[0].slice(0, 200)
    alone = Bundle.load(tiny_bundle.path, teacher=False)
    with_teacher = score_table(tiny_bundle, tiny_bundle.engine(), traffic)["route"]
    scores = score_table(alone, alone.engine(), traffic)
    assert (scores["score"] == scores["student_score"]).all()
    assert scores["route"].tolist() == with_teacher.replace("teacher", "student_degraded").tolist()


def test_nothing_to_score_gives_the_columns_and_no_row(tiny_bundle: Bundle, tiny_tables: Tables) -> None:
    scores = score_table(tiny_bundle, tiny_bundle.engine(), tiny_tables[0].slice(0, 0))
    assert (len(scores), tuple(scores.columns)) == (0, COLUMNS)


@pytest.mark.parametrize("ending", [".csv", ".parquet"])
def test_written_scores_keep_every_digit(
    tiny_bundle: Bundle, tiny_tables: Tables, tmp_path: Path, ending: str
) -> None:
    scores = score_table(tiny_bundle, tiny_bundle.engine(), tiny_tables[0].slice(0, 20))
    path = write_scores(scores, tmp_path / f"scores{ending}")
    if ending == ".csv":
        read = pd.read_csv(path, dtype={"bundle_version": str}, float_precision="round_trip")
    else:
        read = pd.read_parquet(path)
    assert read.to_dict("list") == scores.to_dict("list")
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("name", ["scores.xlsx", "scores"])
def test_another_ending_is_refused_before_anything_is_read(tmp_path: Path, name: str) -> None:
    with Steps() as steps, pytest.raises(ConfigError, match=r"end the name in \.csv or \.parquet"):
        score_file(tmp_path / "absent.csv", tmp_path / "absent", None, tmp_path / name, steps)


def test_a_file_is_scored_in_order_of_time(tiny_bundle: Bundle, tiny_tables: Tables, tmp_path: Path) -> None:
    traffic = tiny_tables[0].slice(0, 50)
    pq.write_table(traffic.take(list(range(49, -1, -1))), tmp_path / "backwards.parquet")
    with Steps() as steps:
        scores, _ = score_file(
            tmp_path / "backwards.parquet", tiny_bundle.path, None, tmp_path / "scores.csv", steps
        )
    pd.testing.assert_frame_equal(scores, score_table(tiny_bundle, tiny_bundle.engine(), traffic))


def test_a_history_before_the_file_is_account_state(
    tiny_bundle: Bundle, tiny_tables: Tables, tmp_path: Path
) -> None:
    pq.write_table(tiny_tables[0].slice(0, 300), tmp_path / "past.parquet")
    pq.write_table(tiny_tables[0].slice(300, 50), tmp_path / "live.parquet")
    with Steps() as steps:
        scores, _ = score_file(
            tmp_path / "live.parquet",
            tiny_bundle.path,
            tmp_path / "past.parquet",
            tmp_path / "scores.csv",
            steps,
        )
    whole = score_table(tiny_bundle, tiny_bundle.engine(), tiny_tables[0].slice(0, 350))
    np.testing.assert_allclose(scores["score"], whole["score"][300:], rtol=0, atol=1e-6)


def test_invalid_rows_go_to_quarantine_with_a_reason_and_the_rest_is_scored(
    tiny_bundle: Bundle, tiny_tables: Tables, tmp_path: Path
) -> None:
    rows = tiny_tables[0].slice(0, 10).to_pandas()
    rows.loc[3, "amount_paid"], rows.loc[5, "currency_paid"] = -1.0, "EURO"
    rows.to_parquet(tmp_path / "live.parquet")
    out, quarantine = tmp_path / "out" / "scores.parquet", tmp_path / "out" / "scores.quarantine.parquet"
    with Steps() as steps:
        scores, rejected = score_file(tmp_path / "live.parquet", tiny_bundle.path, None, out, steps)
    assert (len(scores), rejected) == (8, 2)
    told = pq.read_table(quarantine).to_pydict()
    assert told["source_row"] == [4, 6]
    assert "amount_paid is negative" in told["reason"][0]
    assert "did you mean EUR" in told["reason"][1]


def test_the_quarantine_of_an_earlier_file_does_not_stay(tiny_bundle: Bundle, live: Path, tmp_path: Path) -> None:
    old = tmp_path / "scores.quarantine.parquet"
    old.touch()
    with Steps() as steps:
        _, rejected = score_file(live, tiny_bundle.path, None, tmp_path / "scores.csv", steps)
    assert (rejected, old.exists()) == (0, False)


def test_a_file_without_one_valid_row_is_an_error_that_tells_the_first_reason(
    tiny_bundle: Bundle, tiny_tables: Tables, tmp_path: Path
) -> None:
    tiny_tables[0].slice(0, 5).to_pandas().assign(currency_paid="EURO").to_parquet(tmp_path / "live.parquet")
    out = tmp_path / "scores.csv"
    with Steps() as steps, pytest.raises(EmptyInputError, match=r"none of 5 rows is valid.*did you mean EUR"):
        score_file(tmp_path / "live.parquet", tiny_bundle.path, None, out, steps)
    assert not out.exists()
    assert pq.read_table(tmp_path / "scores.quarantine.parquet").num_rows == 5
