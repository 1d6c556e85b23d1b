"""Features as files: the engine's own numbers, by name; bad rows aside; nothing half-written."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.features import encode_file
from pipelines.progress import Steps
from riskdistill.errors import EmptyInputError
from riskdistill.features import FeatureEngine, FeatureSpec

Tables = tuple[pa.Table, pa.Table]


def test_a_file_s_features_go_on_from_its_history(
    done: Callable[..., str], tiny_tables: Tables, tmp_path: Path
) -> None:
    past, live, out = (tmp_path / f"{name}.parquet" for name in ("past", "live", "features"))
    pq.write_table(tiny_tables[0].slice(0, 300), past)
    pq.write_table(tiny_tables[0].slice(300, 60), live)
    assert f"features {out}" in done("encode", live, "--history", past, "--out", out)
    made = pd.read_parquet(out)
    whole = FeatureEngine().encode(tiny_tables[0].slice(0, 360), tokens=False).context
    assert tuple(made.columns) == ("tx_id", *FeatureSpec().names)
    assert made["tx_id"].tolist() == tiny_tables[0]["tx_id"].to_pylist()[300:360]
    np.testing.assert_array_equal(made.drop(columns="tx_id").to_numpy(), whole[300:])


def test_rows_that_are_not_valid_go_to_quarantine(
    done: Callable[..., str], tiny_tables: Tables, tmp_path: Path
) -> None:
    rows = tiny_tables[0].slice(0, 10).to_pandas()
    rows.loc[3, "amount_paid"] = -1.0
    rows.to_parquet(tmp_path / "live.parquet")
    told = done("encode", tmp_path / "live.parquet", "--out", tmp_path / "made" / "features.parquet")
    assert "features.quarantine.parquet" in told
    assert pq.read_table(tmp_path / "made" / "features.parquet").num_rows == 9
    assert pq.read_table(tmp_path / "made" / "features.quarantine.parquet").num_rows == 1


def test_without_one_valid_row_nothing_is_made(tiny_tables: Tables, tmp_path: Path) -> None:
    tiny_tables[0].slice(0, 5).to_pandas().assign(currency_paid="EURO").to_parquet(tmp_path / "live.parquet")
    with Steps() as steps, pytest.raises(EmptyInputError, match="none of 5 rows is valid"):
        encode_file(tmp_path / "live.parquet", tmp_path / "features.parquet", None, steps)
    assert not (tmp_path / "features.parquet").exists()


def test_a_rate_of_the_day_moves_the_amount(done: Callable[..., str], tiny_tables: Tables, tmp_path: Path) -> None:
    euros = tiny_tables[0].slice(0, 3).to_pandas().assign(currency_paid="EUR")
    euros.to_parquet(tmp_path / "live.parquet")
    (tmp_path / "rates.csv").write_text("day,currency,usd_per_unit\n2000-01-01,EUR,2.0\n")
    out = tmp_path / "features.parquet"
    done("encode", tmp_path / "live.parquet", "--out", out, "--rates", tmp_path / "rates.csv")
    np.testing.assert_allclose(pd.read_parquet(out)["amount_usd"], 2.0 * euros["amount_paid"], rtol=1e-6)


@pytest.mark.parametrize(
    ("command", "told"),
    [
        (("encode", "absent.parquet", "--out", "features.csv"), "end the name in .parquet"),
        (("features", "--out", "features.xlsx"), "end the name in .md or .json"),
    ],
)
def test_another_ending_is_refused(refused: Callable[..., str], command: tuple[str, ...], told: str) -> None:
    assert told in refused(*command)


def test_the_specification_is_data(done: Callable[..., str], tmp_path: Path) -> None:
    done("features", "--out", tmp_path / "features.json")
    told = json.loads((tmp_path / "features.json").read_text())
    assert [feature["name"] for feature in told["context"]] == list(FeatureSpec().names)
    assert FeatureSpec.told(told) == FeatureSpec()
