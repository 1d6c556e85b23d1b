"""Answers that are kept are those that the teacher gave, to these rows, under this preprocessing."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import tiny

from riskdistill.distillation import teacher_cache
from riskdistill.distillation.teacher_cache import TeacherCache, ask, wanted_by
from riskdistill.entries import DRAFT, ENTRY_FILE
from riskdistill.errors import TrainingError
from riskdistill.features import Encoded
from riskdistill.models.teacher import Answers, Wanted

ROWS, BATCH = 23, 5
WANTED = Wanted(student_events=2, relation_heads=2, relations=True)


class Counting:
    """A teacher whose answers follow from the rows; it counts what it was asked, and stops when told to."""

    name = "counting"

    def __init__(self, offset: float = 0.0, stop_after: int | None = None) -> None:
        self.offset, self.stop_after, self.asked = offset, stop_after, 0
        self.fingerprint = hashlib.sha256(str(offset).encode()).hexdigest()[:16]

    def answer(self, encoded: Encoded, wanted: Wanted) -> Answers:
        if self.asked == self.stop_after:
            raise KeyboardInterrupt
        self.asked += 1
        logit = encoded.context[:, 0] + np.float32(self.offset)
        shape = (len(encoded), 3, 2, 5, 5)
        relations = np.broadcast_to(logit[:, None, None, None, None], shape).astype(np.float16)
        return Answers(logit, relations=relations if wanted.relations else None)


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(teacher_cache, "BATCH_ROWS", BATCH)


def rows(count: int = ROWS) -> Encoded:
    random = np.random.default_rng(3)
    context = random.normal(size=(count, 3)).astype(np.float32)
    return Encoded(context, random.normal(size=(count, 4, 2)).astype(np.float32))


def same(one: TeacherCache, other: TeacherCache) -> bool:
    parts = one.parts(), other.parts()
    return parts[0].keys() == parts[1].keys() and all(
        np.array_equal(parts[0][name], parts[1][name]) for name in parts[0]
    )


def test_the_second_time_no_teacher_is_asked(tmp_path: Path) -> None:
    first, second, told = Counting(), Counting(), []
    before = ask(first, rows(), WANTED, folder=tmp_path)
    after = ask(second, rows(), WANTED, folder=tmp_path, progress=lambda done, total: told.append((done, total)))
    assert (first.asked, second.asked) == (5, 0)
    assert same(before, after)
    assert isinstance(after.relations, np.memmap)
    assert told == [(ROWS, ROWS)]


def test_answers_in_memory_are_those_on_disk(tmp_path: Path) -> None:
    assert same(ask(Counting(), rows(), WANTED), ask(Counting(), rows(), WANTED, folder=tmp_path))


@pytest.mark.parametrize("other", ["teacher", "rows", "spec", "wanted"])
def test_what_answers_depend_on_is_asked_anew(tmp_path: Path, other: str) -> None:
    ask(Counting(), rows(), WANTED, folder=tmp_path)
    teacher = Counting(1.0 if other == "teacher" else 0.0)
    encoded = rows().take(np.arange(ROWS)[::-1]) if other == "rows" else rows()
    wanted = Wanted(2, 2) if other == "wanted" else WANTED
    cache = ask(teacher, encoded, wanted, folder=tmp_path, spec="other" if other == "spec" else "")
    assert teacher.asked == 5
    np.testing.assert_array_equal(cache.logit, encoded.context[:, 0] + teacher.offset)


@pytest.mark.parametrize("stop", [0, 1, 4])
def test_a_stopped_pass_goes_on_where_it_stopped(tmp_path: Path, stop: int) -> None:
    with pytest.raises(KeyboardInterrupt):
        ask(Counting(stop_after=stop), rows(), WANTED, folder=tmp_path)
    second = Counting()
    found = ask(second, rows(), WANTED, folder=tmp_path)
    assert second.asked == 5 - stop
    assert same(found, ask(Counting(), rows(), WANTED))
    assert not list(tmp_path.glob(f"{DRAFT}*"))


def test_a_batch_that_never_reached_the_disk_is_asked_again(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        ask(Counting(stop_after=3), rows(), WANTED, folder=tmp_path)
    (draft,) = tmp_path.glob(f"{DRAFT}*")
    logit = np.load(draft / "logit.npy", mmap_mode="r+")
    logit[BATCH] += 1.0
    logit.flush()
    second = Counting()
    found = ask(second, rows(), WANTED, folder=tmp_path)
    assert second.asked == 4  # the first batch alone was whole
    assert same(found, ask(Counting(), rows(), WANTED))


def test_a_draft_that_cannot_be_read_is_begun_anew(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        ask(Counting(stop_after=3), rows(), WANTED, folder=tmp_path)
    (draft,) = tmp_path.glob(f"{DRAFT}*")
    (draft / "logit.npy").write_bytes(b"torn")
    assert same(ask(Counting(), rows(), WANTED, folder=tmp_path), ask(Counting(), rows(), WANTED))


@pytest.mark.parametrize("damage", ["bytes", "missing", "checksums"])
def test_damaged_answers_are_made_again(tmp_path: Path, damage: str) -> None:
    good = ask(Counting(), rows(), WANTED)
    ask(Counting(), rows(), WANTED, folder=tmp_path)
    (entry,) = (path.parent for path in tmp_path.glob(f"*/{ENTRY_FILE}"))
    if damage == "bytes":
        content = bytearray((entry / "relations.npy").read_bytes())
        content[-3] ^= 1
        (entry / "relations.npy").write_bytes(content)
    elif damage == "missing":
        (entry / "logit.npy").unlink()
    else:
        (entry / ENTRY_FILE).write_text("{")
    again = Counting()
    assert same(ask(again, rows(), WANTED, folder=tmp_path), good)
    assert again.asked == 5


def test_a_full_folder_loses_the_answers_used_longest_ago(tmp_path: Path) -> None:
    for offset in (1.0, 2.0):
        ask(Counting(offset), rows(), WANTED, folder=tmp_path, limit=1)
    kept = [json.loads(path.read_text()) for path in tmp_path.glob(f"*/{ENTRY_FILE}")]
    assert len(kept) == 1
    last = Counting(2.0)
    ask(last, rows(), WANTED, folder=tmp_path, limit=1)
    assert last.asked == 0


def test_answers_to_shuffled_or_other_rows_are_refused() -> None:
    cache = ask(Counting(), rows(), WANTED)
    cache.check(rows())
    for other in (rows().take(np.arange(ROWS)[::-1]), rows(ROWS - 1)):
        with pytest.raises(TrainingError, match=r"for rows .* ask the teacher again"):
            cache.check(other)


def test_what_a_teacher_cannot_give_is_named() -> None:
    with pytest.raises(TrainingError, match="counting gives no attention, hidden"):
        ask(Counting(), rows(), Wanted(2, 2, attention=True, hidden=True))


def test_no_rows_have_answers_too(tmp_path: Path) -> None:
    for folder in (None, tmp_path):
        cache = ask(Counting(), rows(0), WANTED, folder=folder)
        assert (len(cache), cache.relations.shape) == (0, (0, 3, 2, 5, 5))


def test_only_what_terms_read_is_wanted() -> None:
    wanted = wanted_by(tiny.CONFIG.distillation, 4)
    assert wanted == Wanted(4, tiny.CONFIG.distillation.relation_heads, relations=True)
    logits = tiny.CONFIG.distillation.terms[:1]
    assert not wanted_by(tiny.CONFIG.distillation.model_copy(update={"terms": logits}), 4).relations


def test_a_folder_may_be_deleted_at_any_time(tmp_path: Path) -> None:
    folder = tmp_path / "answers"
    ask(Counting(), rows(), WANTED, folder=folder)
    shutil.rmtree(folder)
    assert same(ask(Counting(), rows(), WANTED, folder=folder), ask(Counting(), rows(), WANTED))
