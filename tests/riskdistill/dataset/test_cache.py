"""Cached rows are the replay's, are found again, and are never believed when they are not what was asked for."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import tiny
from hypothesis import given
from hypothesis import strategies as st

from riskdistill.data.rates import Rates
from riskdistill.dataset import Dataset, RowCache, build_dataset, cache
from riskdistill.features import Encoded, FeatureEngine, FeatureSpec

SPEC = FeatureSpec(events_per_party=4)


@pytest.fixture(scope="module")
def table(tiny_tables: tuple[pa.Table, pa.Table]) -> pa.Table:
    return tiny_tables[0].slice(0, 200)


def mask(table: pa.Table) -> np.typing.NDArray[np.bool_]:
    return np.arange(table.num_rows) % 3 == 0


def encoded(kept: RowCache, table: pa.Table, spec: FeatureSpec = SPEC, **options: Any) -> Encoded:
    return kept.encode(FeatureEngine(spec), table, tokens=mask(table), **options)


def require_same(one: Encoded, other: Encoded) -> None:
    np.testing.assert_array_equal(one.context, other.context)
    np.testing.assert_array_equal(one.events, other.events)


def only_file(folder: Path) -> Path:
    (file,) = folder.iterdir()
    return file


def test_rows_are_found_again_and_are_those_of_a_replay(tmp_path: Path, table: pa.Table) -> None:
    plain = FeatureEngine(SPEC).encode(table, tokens=mask(table))
    kept, heard = RowCache(tmp_path / "a" / "cache"), list[int]()
    require_same(encoded(kept, table), plain)
    in_pieces = pa.concat_tables([table.slice(0, 7), table.slice(7)])
    later = RowCache(tmp_path / "a" / "cache")
    require_same(encoded(later, in_pieces, progress=heard.append), plain)
    assert ((kept.found, kept.made), (later.found, later.made)) == ((0, 1), (1, 0))
    assert heard == [table.num_rows]
    assert only_file(tmp_path / "a" / "cache").stat().st_mode & 0o777 == 0o600


def test_what_decides_a_row_decides_the_key(
    tmp_path: Path, table: pa.Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = RowCache(tmp_path)
    encoded(kept, table)
    encoded(kept, table.slice(1))
    encoded(kept, table, FeatureSpec(events_per_party=5))
    kept.encode(FeatureEngine(SPEC, Rates({"EUR": {20_000: 1.5}})), table, tokens=mask(table))
    kept.encode(FeatureEngine(SPEC), table, tokens=~mask(table))
    monkeypatch.setattr(cache, "encoding_code", lambda: "another version")
    encoded(kept, table)
    assert (kept.found, kept.made) == (0, 6)
    assert len(list(tmp_path.iterdir())) == 6


@given(place=st.floats(0, 1, exclude_max=True), flip=st.integers(1, 255))
def test_a_changed_byte_is_found_out_and_the_rows_are_made_again(
    tmp_path_factory: pytest.TempPathFactory, table: pa.Table, place: float, flip: int
) -> None:
    folder = tmp_path_factory.mktemp("cache")
    short = table.slice(0, 20)
    encoded(RowCache(folder), short)
    file = only_file(folder)
    whole = file.read_bytes()
    told = len(whole[: cache.HEADER_BYTES].rstrip())
    places = [*range(told), *range(cache.HEADER_BYTES, len(whole))]  # the rest is room
    at = places[int(place * len(places))]
    file.write_bytes(whole[:at] + bytes([whole[at] ^ flip]) + whole[at + 1 :])
    kept = RowCache(folder)
    require_same(encoded(kept, short), FeatureEngine(SPEC).encode(short, tokens=mask(short)))
    assert (kept.found, kept.made) == (0, 1)
    assert str(file) in kept.notes[0]
    assert file.read_bytes() == whole


@pytest.mark.parametrize("size", [0, 10, cache.HEADER_BYTES, -1])
def test_a_file_that_was_cut_is_made_again(tmp_path: Path, table: pa.Table, size: int) -> None:
    encoded(RowCache(tmp_path), table)
    file = only_file(tmp_path)
    os.truncate(file, size if size >= 0 else file.stat().st_size + size)
    kept = RowCache(tmp_path)
    require_same(encoded(kept, table), FeatureEngine(SPEC).encode(table, tokens=mask(table)))
    assert (kept.found, kept.made, len(kept.notes)) == (0, 1, 1)


def test_rows_under_another_key_are_not_believed(tmp_path: Path, table: pa.Table) -> None:
    encoded(RowCache(tmp_path), table)
    first = only_file(tmp_path)
    other = table.slice(0, 199)
    kept = RowCache(tmp_path)
    encoded(kept, other)
    (second,) = set(tmp_path.iterdir()) - {first}
    second.write_bytes(first.read_bytes())
    require_same(encoded(RowCache(tmp_path), other), FeatureEngine(SPEC).encode(other, tokens=mask(other)))


def test_a_change_in_place_stays_out_of_the_file(tmp_path: Path, table: pa.Table) -> None:
    rows = encoded(RowCache(tmp_path), table)
    rows.context[:] = 7.0
    assert not (encoded(RowCache(tmp_path), table).context == 7.0).all()


def test_a_replay_that_fails_leaves_nothing(
    tmp_path: Path, table: pa.Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_: Any, **__: Any) -> Encoded:
        raise KeyboardInterrupt

    monkeypatch.setattr(FeatureEngine, "encode", stopped)
    with pytest.raises(KeyboardInterrupt):
        encoded(RowCache(tmp_path), table)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_costs_the_cache_and_not_the_job(
    tmp_path: Path, table: pa.Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    kept = RowCache(tmp_path)
    require_same(encoded(kept, table), FeatureEngine(SPEC).encode(table, tokens=mask(table)))
    assert list(tmp_path.iterdir()) == []
    assert "No space left" in kept.notes[0]


def test_the_folder_is_bounded_and_what_was_used_longest_ago_goes(tmp_path: Path, table: pa.Table) -> None:
    tables = [table.slice(start) for start in range(3)]
    for age, one in enumerate(tables):
        encoded(RowCache(tmp_path), one)
        for file in tmp_path.iterdir():
            os.utime(file, (file.stat().st_mtime - 100 * (3 - age),) * 2)
    size = max(file.stat().st_size for file in tmp_path.iterdir())
    kept = RowCache(tmp_path, most_bytes=2 * size)
    encoded(kept, tables[0])  # found, and so used last
    encoded(kept, table.slice(3))
    assert len(list(tmp_path.iterdir())) == 2
    again = RowCache(tmp_path)
    encoded(again, tables[0])
    encoded(again, table.slice(3))
    assert (again.found, again.made) == (2, 0)


def test_an_engine_that_has_a_past_is_refused(tmp_path: Path, table: pa.Table) -> None:
    engine = FeatureEngine(SPEC)
    engine.advance(table)
    with pytest.raises(ValueError, match="give an empty one"):
        RowCache(tmp_path).encode(engine, table, tokens=mask(table))


def test_no_rows_are_cached_too(tmp_path: Path, table: pa.Table) -> None:
    for _ in range(2):
        rows = encoded(RowCache(tmp_path), table.slice(0, 0))
        assert rows.context.shape == (0, len(SPEC.context))
        assert len(rows.events) == 0


def test_a_dataset_from_the_cache_is_the_same_and_replays_nothing(
    tmp_path: Path,
    tiny_tables: tuple[pa.Table, pa.Table],
    tiny_dataset: Dataset,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first = build_dataset(*tiny_tables, tiny.CONFIG, cache=RowCache(tmp_path))

    def never(*_: Any, **__: Any) -> Encoded:
        raise AssertionError("it was replayed")

    monkeypatch.setattr(FeatureEngine, "encode", never)
    kept = RowCache(tmp_path)
    second = build_dataset(*tiny_tables, tiny.CONFIG, cache=kept)
    assert (kept.found, kept.made) == (2, 0)
    for built in (first, second):
        assert built.fingerprint == tiny_dataset.fingerprint
        np.testing.assert_array_equal(built.train_context, tiny_dataset.train_context)
        require_same(built.train.encoded, tiny_dataset.train.encoded)
        require_same(built.validation.encoded, tiny_dataset.validation.encoded)
        require_same(built.test.encoded, tiny_dataset.test.encoded)
        assert built.rows.equals(tiny_dataset.rows)
