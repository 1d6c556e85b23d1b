"""Saved account records: an engine that restores them goes on as if it had never stopped, or refuses them."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from payment_histories import START, Payment, histories, payment, table, transaction
from small_engines import SMALL, busy, engine_after, go_on_alike, probe, same

from riskdistill.data.rates import Rates
from riskdistill.errors import StateError
from riskdistill.features import FeatureEngine, FeatureSpec, snapshot
from riskdistill.features.record import ACCOUNT

PAST = busy(40)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """What `save` writes of an engine after PAST."""
    path = tmp_path_factory.mktemp("saved") / "state"
    engine_after(PAST).save(path, position=40)
    return path.read_bytes()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state"


def restored(path: Path) -> FeatureEngine:
    engine = FeatureEngine(SMALL)
    engine.restore(path)
    return engine


# ---- going on


@settings(max_examples=25)
@given(rows=histories(late=0.2, again=0.2), future=histories(most=5))
def test_a_restored_engine_goes_on_as_if_never_stopped(
    rows: list[Payment], future: list[Payment], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("state") / "state"
    engine, again = engine_after(rows), engine_after(busy(5))
    engine.save(path)
    again.restore(path)
    assert len(again) == len(engine)
    assert go_on_alike(engine, again, future)


def test_the_position_that_was_saved_comes_back(path: Path) -> None:
    engine = engine_after(PAST)
    engine.save(path, position=1_234_567)
    assert FeatureEngine(SMALL).restore(path) == 1_234_567
    engine.save(path)
    assert FeatureEngine(SMALL).restore(path) == 0


def test_an_empty_engine_is_saved_and_restored(path: Path) -> None:
    FeatureEngine(SMALL).save(path)
    engine = engine_after(PAST)
    engine.restore(path)
    assert len(engine) == 0
    assert go_on_alike(engine, FeatureEngine(SMALL), PAST)


def test_accounts_that_were_only_named_in_a_repeated_payment_take_nobodys_place(path: Path) -> None:
    """A repeated id to new receivers applies nothing, but knows their names."""
    rows = [payment(0, 0, 1, 0), payment(0, 0, 2, 60.0), payment(0, 0, 3, 60.0), payment(1, 0, 4, 120.0)]
    engine = engine_after(rows)
    engine.save(path)
    more = [payment(number, number, number - 1, 600.0 * number) for number in range(5, 12)]
    assert go_on_alike(engine, restored(path), [*more, payment(20, 4, 0, 1e5)])


def test_a_restored_engine_grows_beyond_the_room_of_the_file(path: Path, saved: bytes) -> None:
    path.write_bytes(saved)
    room = json.loads(saved[: snapshot.HEADER_BYTES])["capacity"]
    new = [payment(number, 0, 1, 1.0 * number, receiver_account=f"new {number}") for number in range(room + 10)]
    plain, again = engine_after(PAST), restored(path)
    assert go_on_alike(plain, again, new)
    assert len(again) == len(plain) > room
    assert go_on_alike(plain, again, PAST)


@pytest.mark.parametrize("spec", ["saver", "other"])
def test_records_do_not_depend_on_windows_or_tokens(path: Path, saved: bytes, spec: str) -> None:
    path.write_bytes(saved)
    other = SMALL if spec == "saver" else type(SMALL)(windows=(600.0,), events_per_party=2)
    engine = FeatureEngine(other)
    engine.restore(path)
    assert go_on_alike(engine, engine_after(PAST, other), PAST)


# ---- the file


def test_the_file_is_never_changed_by_an_engine_that_restored_it(path: Path, saved: bytes) -> None:
    path.write_bytes(saved)
    first, second = restored(path), restored(path)
    for row in PAST:
        first.observe(transaction(row | {"tx_id": f"later-{row['tx_id']}"}))
    assert path.read_bytes() == saved
    assert go_on_alike(second, engine_after(PAST), PAST)


def test_saving_onto_the_file_that_is_mapped_is_safe(path: Path, saved: bytes) -> None:
    path.write_bytes(saved)
    later = [row | {"tx_id": f"second-{row['tx_id']}"} for row in PAST]
    plain, engine, bystander = engine_after(PAST), restored(path), restored(path)
    for one in (plain, engine):
        one.advance(table(later))
    engine.save(path)
    assert go_on_alike(restored(path), engine_after([*PAST, *later]), PAST)
    assert go_on_alike(engine, plain, PAST)
    assert go_on_alike(bystander, engine_after(PAST), PAST)


def test_nothing_but_the_snapshot_is_left_in_its_folder(path: Path) -> None:
    engine = engine_after(PAST)
    engine.save(path)
    engine.save(path)
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_a_save_that_fails_leaves_the_old_snapshot(
    path: Path, saved: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    path.write_bytes(saved)

    def full(*_: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(StateError, match="no space"):
        engine_after(busy(5)).save(path)
    assert path.read_bytes() == saved
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_a_disk_that_takes_less_than_it_is_given_gets_all_of_it(
    path: Path, saved: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A write may take fewer bytes than asked, on a disk that fills up say, and tells so by its result alone."""
    whole = os.pwrite
    monkeypatch.setattr("os.pwrite", lambda file, block, at: whole(file, block[:4_096], at))
    engine_after(PAST).save(path, position=40)
    assert path.read_bytes() == saved


def test_a_file_system_without_direct_writes_takes_it_too(
    path: Path, saved: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> int:
        raise OSError("invalid argument")

    monkeypatch.setattr("fcntl.fcntl", refused)
    engine_after(PAST).save(path, position=40)
    assert path.read_bytes() == saved


def test_two_savers_of_one_path_do_not_meet(path: Path, saved: bytes) -> None:
    with ThreadPoolExecutor(4) as savers:
        list(savers.map(lambda _: engine_after(PAST).save(path, position=40), range(12)))
    assert path.read_bytes() == saved
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_only_its_owner_reads_it(path: Path) -> None:
    engine_after(PAST).save(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_folder_that_is_absent_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(StateError, match="absent"):
        engine_after(PAST).save(tmp_path / "absent" / "state")


# ---- refusing


@pytest.mark.parametrize("changes", [{"forget_after_days": 500.0}, {"max_hops": 3}])
def test_a_state_of_other_rules_is_refused(path: Path, saved: bytes, changes: dict[str, float]) -> None:
    path.write_bytes(saved)
    engine = engine_after(busy(5), FeatureSpec(events_per_party=4, **changes))
    with pytest.raises(StateError, match="made with forget_after_days 1000 and max_hops 5"):
        engine.restore(path)
    assert len(engine) == len(engine_after(busy(5)))


def test_a_state_made_at_other_rates_is_refused_and_later_rates_are_none_of_its_business(path: Path) -> None:
    day = int(START.timestamp() // 86_400)
    then, later, other = ({"EUR": {day: 2.0}}, {"EUR": {day: 2.0, day + 900: 3.0}}, {"EUR": {day: 2.5}})
    engine = FeatureEngine(SMALL, Rates(then))
    engine.advance(table(PAST))
    engine.save(path)
    FeatureEngine(SMALL, Rates(later)).restore(path)
    for rates in (None, Rates(other)):
        with pytest.raises(StateError, match="other rates"):
            FeatureEngine(SMALL, rates).restore(path)


def with_header(saved: bytes, **changes: object) -> bytes:
    header = json.loads(saved[: snapshot.HEADER_BYTES]) | changes
    return json.dumps(header).encode().ljust(snapshot.HEADER_BYTES) + saved[snapshot.HEADER_BYTES :]


HARMS: dict[str, Callable[[bytes], bytes | None]] = {
    "absent": lambda saved: None,
    "empty": lambda saved: b"",
    "cut in the header": lambda saved: saved[:100],
    "cut after the header": lambda saved: saved[: snapshot.HEADER_BYTES],
    "cut in the records": lambda saved: saved[: snapshot.HEADER_BYTES + ACCOUNT.itemsize + 7],
    "cut in the room": lambda saved: saved[:-1],
    "longer": lambda saved: saved + b"\0",
    "another file": lambda saved: b"not a snapshot\n" * 1_000,
    "another kind": lambda saved: with_header(saved, kind="something else"),
    "another version": lambda saved: with_header(saved, record_version=1),
    "another record size": lambda saved: with_header(saved, record_bytes=8),
    "another position": lambda saved: with_header(saved, position=41),
    "fewer accounts": lambda saved: with_header(saved, accounts=1),
    "more accounts": lambda saved: with_header(saved, accounts=6),
    "too many accounts": lambda saved: with_header(saved, accounts=10**9),
    "an unknown field": lambda saved: with_header(saved, more=1),
}


def refuses(path: Path) -> None:
    """The snapshot is refused with a mend, and the engine is as it was."""
    engine = engine_after(PAST)
    with pytest.raises(StateError, match="replay the history") as told:
        engine.restore(path)
    assert str(path) in str(told.value)
    assert len(engine) == len(engine_after(PAST))
    assert same(probe(engine), probe(engine_after(PAST)))


@pytest.mark.parametrize("harm", HARMS)
def test_a_damaged_or_old_snapshot_is_refused_and_the_state_kept(path: Path, saved: bytes, harm: str) -> None:
    content = HARMS[harm](saved)
    if content is not None:
        path.write_bytes(content)
    refuses(path)


def test_a_folder_is_no_snapshot(tmp_path: Path) -> None:
    refuses(tmp_path)


@settings(max_examples=40)
@given(data=st.data(), bit=st.integers(0, 7))
def test_a_flipped_bit_is_refused_or_means_nothing(
    data: st.DataObject, bit: int, saved: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    used = snapshot.HEADER_BYTES + 6 * ACCOUNT.itemsize
    header = len(saved[: snapshot.HEADER_BYTES].rstrip())
    at = data.draw(st.integers(0, header) | st.integers(0, used) | st.integers(0, len(saved) - 1))
    flipped = bytearray(saved)
    flipped[at] ^= 1 << bit
    path = tmp_path_factory.mktemp("flipped") / "state"
    path.write_bytes(flipped)
    engine = FeatureEngine(SMALL)
    try:
        position = engine.restore(path)
    except StateError:
        assert len(engine) == 0
        return
    assert position == 40
    strangers = [payment(100 + number, 6 + number, 0, 1e7) for number in range(5)]
    assert go_on_alike(engine, engine_after(PAST), [*strangers, *PAST])


def test_every_place_in_the_room_is_cleared_before_use(path: Path, saved: bytes) -> None:
    used = snapshot.HEADER_BYTES + 6 * ACCOUNT.itemsize
    path.write_bytes(saved[:used] + b"\xff" * (len(saved) - used))
    strangers = [payment(100 + number, 6 + number, 0, 1e7) for number in range(5)]
    assert go_on_alike(restored(path), engine_after(PAST), [*strangers, *PAST])
