"""Encoded rows that are kept are those that a replay gives, and nothing stale or damaged is ever used."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from tiny import CONFIG

from riskdistill.dataset import RowCache, build_dataset, cache
from riskdistill.features import Encoded, FeatureEngine, FeatureSpec

SPEC = FeatureSpec(events_per_party=8)


@pytest.fixture
def table(tiny_tables: tuple[pa.Table, pa.Table]) -> pa.Table:
    return tiny_tables[0].slice(0, 300)


def encode(rows: RowCache, table: pa.Table, spec: FeatureSpec = SPEC, every: int = 3) -> Encoded:
    return rows.encode(FeatureEngine(spec), table, tokens=np.arange(len(table)) % every == 0)


def same(one: Encoded, other: Encoded) -> bool:
    return np.array_equal(one.context, other.context, equal_nan=True) and np.array_equal(one.events, other.events)


def entries(folder: Path) -> list[Path]:
    return [path.parent for path in folder.glob("*/entry.json")]


def test_the_second_time_the_same_rows_come_without_a_replay(
    table: pa.Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = encode(RowCache(tmp_path), table)
    replayed = FeatureEngine(SPEC).encode(table, tokens=np.arange(len(table)) % 3 == 0)
    assert same(first, replayed)
    monkeypatch.setattr(FeatureEngine, "encode", lambda *_, **__: pytest.fail("replayed"))
    again, told = RowCache(tmp_path), []
    tokens = np.arange(len(table)) % 3 == 0
    found = again.encode(FeatureEngine(SPEC), table, tokens=tokens, progress=told.append)
    assert same(found, first)
    assert (again.hits, again.misses, again.notes, sum(told)) == (1, 0, [], len(table))


def test_rows_are_mapped_and_writing_into_them_is_not_kept(table: pa.Table, tmp_path: Path) -> None:
    encoded = encode(RowCache(tmp_path), table)
    assert isinstance(encoded.context, np.memmap)
    before = encoded.context[0, 0].copy()
    encoded.context[0, 0] = before + 1
    assert encode(RowCache(tmp_path), table).context[0, 0] == before


def test_content_is_the_key_and_not_the_batches_that_a_table_came_in(table: pa.Table, tmp_path: Path) -> None:
    rows = RowCache(tmp_path)
    encode(rows, table)
    encode(rows, pa.concat_tables([table.slice(0, 7), table.slice(7)]))
    assert (rows.hits, rows.misses) == (1, 1)


@pytest.mark.parametrize("change", ["a cent", "the order", "the specification", "the tokens", "the code"])
def test_another_content_specification_mask_or_code_is_another_entry(
    change: str, table: pa.Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, spec, every = RowCache(tmp_path), SPEC, 3
    encode(rows, table)
    if change == "a cent":
        place = table.schema.get_field_index("amount_paid")
        paid = pc.add(table["amount_paid"], pa.array(np.arange(len(table)) == 5).cast(pa.float64()))
        table = table.set_column(place, table.schema.field(place), paid)
    elif change == "the order":
        table = table.take([1, 0, *range(2, len(table))])
    elif change == "the specification":
        spec = FeatureSpec(events_per_party=4)
    elif change == "the tokens":
        every = 2
    else:
        monkeypatch.setattr(cache, "_engine_sources", lambda: "another version")
    encode(rows, table, spec, every)
    assert (rows.hits, rows.misses) == (0, 2)


@pytest.mark.parametrize("damage", ["a byte", "cut", "gone", "no checksums"])
def test_a_damaged_entry_is_made_again(damage: str, table: pa.Table, tmp_path: Path) -> None:
    first = encode(RowCache(tmp_path), table)
    whole = Encoded(np.array(first.context), np.array(first.events))
    (entry,) = entries(tmp_path)
    file = entry / "context.npy"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    if damage == "a byte":
        file.write_bytes(content)
    elif damage == "cut":
        file.write_bytes(content[:1000])
    elif damage == "gone":
        file.unlink()
    else:
        (entry / "entry.json").write_text("{")
    rows = RowCache(tmp_path)
    assert same(encode(rows, table), whole)
    assert (rows.hits, rows.misses) == (0, 1)
    assert "made again" in rows.notes[0]
    assert same(encode(RowCache(tmp_path), table), whole)


def test_a_write_that_was_cut_short_leaves_no_entry(
    table: pa.Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(np, "save", full)
    rows = RowCache(tmp_path)
    assert same(encode(rows, table), FeatureEngine(SPEC).encode(table, tokens=np.arange(len(table)) % 3 == 0))
    assert "No space left" in rows.notes[0]
    assert list(tmp_path.iterdir()) == []


def test_the_entries_used_longest_ago_go_first(table: pa.Table, tmp_path: Path) -> None:
    encode(RowCache(tmp_path), table)
    (first,) = entries(tmp_path)
    size = sum(file.stat().st_size for file in first.iterdir())
    rows = RowCache(tmp_path, limit=round(2.5 * size))
    encode(rows, table.slice(1))
    os.utime(first / "entry.json", ns=(1, 1))  # used longest ago
    encode(rows, table)  # and used again
    second = next(entry for entry in entries(tmp_path) if entry != first)
    os.utime(second / "entry.json", ns=(2, 2))
    encode(rows, table.slice(2))
    assert first in entries(tmp_path)
    assert second not in entries(tmp_path)
    assert len(entries(tmp_path)) == 2


def test_one_entry_beyond_the_limit_still_serves(table: pa.Table, tmp_path: Path) -> None:
    rows = RowCache(tmp_path, limit=1)
    encode(rows, table)
    encode(rows, table)
    assert (rows.hits, len(entries(tmp_path))) == (1, 1)


def test_what_a_killed_process_left_is_removed_and_what_is_being_written_is_not(
    table: pa.Table, tmp_path: Path
) -> None:
    old, young = tmp_path / ".draft-old", tmp_path / ".draft-young"
    for draft in (old, young):
        draft.mkdir()
        (draft / "context.npy").write_bytes(b"half")
    os.utime(old, (1, 1))
    encode(RowCache(tmp_path), table)
    assert not old.exists()
    assert young.exists()


def test_rows_that_another_process_evicts_at_once_are_still_given(
    table: pa.Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "shrink", lambda folder, entry, limit: shutil.rmtree(entry))
    rows = RowCache(tmp_path)
    encoded = encode(rows, table)
    assert same(encoded, FeatureEngine(SPEC).encode(table, tokens=np.arange(len(table)) % 3 == 0))
    assert "not kept" in rows.notes[0]


def test_no_rows_are_rows_too(table: pa.Table, tmp_path: Path) -> None:
    for _ in range(2):
        encoded = encode(RowCache(tmp_path), table.slice(0, 0))
        assert encoded.context.shape == (0, len(SPEC.context))


def test_a_dataset_is_the_same_with_and_without_the_cache(
    tiny_tables: tuple[pa.Table, pa.Table], tmp_path: Path
) -> None:
    plain = build_dataset(*tiny_tables, CONFIG)
    for hits in (0, 2):
        rows = RowCache(tmp_path)
        kept = build_dataset(*tiny_tables, CONFIG, cache=rows)
        assert rows.hits == hits
        assert kept.fingerprint == plain.fingerprint
        assert same(kept.train.encoded, plain.train.encoded)
        assert same(kept.test.encoded, plain.test.encoded)
    assert all(json.loads((entry / "entry.json").read_text()) for entry in entries(tmp_path))
