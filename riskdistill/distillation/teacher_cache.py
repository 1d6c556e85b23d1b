"""What a teacher says of the training rows, asked once and kept: distilling from it costs no teacher pass.

    FOLDER/<key>/logit.npy  typology_logits.npy  relations.npy …  entry.json

The key is a hash of the rows, the teacher, the feature specification and what is wanted, so that an entry cannot be
stale. Answers are written batch by batch, and a pass that was stopped goes on after the last batch that is whole.
They are read as memory maps: what a student does not look at is never loaded. One process at a time may ask for
the same answers.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import xxhash
from numpy.typing import NDArray

from riskdistill import __version__
from riskdistill.config import DistillationConfig
from riskdistill.distillation.terms import TERMS
from riskdistill.entries import DRAFT, ENTRY_FILE, LIMIT, seal, shrink, verify
from riskdistill.errors import TrainingError
from riskdistill.features import Encoded
from riskdistill.models.teacher import Answers, Teacher, Wanted

BATCH_ROWS: Final = 2_048  # what a stopped pass loses at most
_COUNTER: Final = "batches.json"


@dataclass(frozen=True)
class TeacherCache(Answers):
    """A teacher's answers on all training rows.

    Attributes:
        rows: fingerprint of the rows that were asked.
        teacher: fingerprint of the teacher that answered.
        heard: what a further teacher shows of its states on some of the rows; None: there is none.
    """

    rows: str = ""
    teacher: str = ""
    heard: Heard | None = None

    def check(self, encoded: Encoded) -> None:
        """Refuse answers to other rows; those of another teacher or preprocessing lie under another key.

        Raises:
            TrainingError: rows were changed, added or shuffled since.
        """
        expected = rows_fingerprint(encoded)
        if self.rows != expected:
            raise TrainingError(
                f"the teacher's answers are for rows {self.rows}, not {expected}", mend="ask the teacher again"
            )


@dataclass(frozen=True)
class Heard:
    """The answers of a teacher that was asked about some training rows alone.

    Attributes:
        rows: int64 [k], their places among the training rows.
        answers: [k].
    """

    rows: NDArray[np.int64]
    answers: TeacherCache


def rows_fingerprint(encoded: Encoded) -> str:
    """16 hex digits over the content and order of the rows."""
    digest = hashlib.sha256(np.ascontiguousarray(encoded.context).data)
    digest.update(np.ascontiguousarray(encoded.events).data)
    return digest.hexdigest()[:16]


def wanted_by(config: DistillationConfig, student_events: int) -> Wanted:
    """What the configured terms read of a teacher, and nothing more."""
    read = {name for term in config.terms if term.weight or term.end_weight for name in TERMS[term.name].answers}
    return Wanted(
        student_events,
        config.relation_heads,
        relations="relations" in read,
        attention="attention" in read,
        by_head=config.by_head,
        hidden="hidden" in read,
        embedding="embedding" in read,
    )


def ask(
    teacher: Teacher,
    encoded: Encoded,
    wanted: Wanted,
    *,
    folder: Path | None = None,
    spec: str = "",
    limit: int = LIMIT,
    progress: Callable[[int, int], None] | None = None,
) -> TeacherCache:
    """The teacher's answers to all rows: from the folder where they are there and whole, else asked anew.

    Args:
        folder: where answers are kept; None keeps them in memory alone.
        spec: fingerprint of the feature specification that the rows follow.
        limit: bytes that the folder may hold; the answers asked for stay in any case.
        progress: hears rows done and rows in all.

    Raises:
        TrainingError: the teacher cannot give what is wanted.
    """
    told: dict[str, Any] = {"rows": rows_fingerprint(encoded), "teacher": teacher.fingerprint}
    report = progress or (lambda done, total: None)
    if folder is None:
        starts = range(0, max(1, len(encoded)), BATCH_ROWS)
        parts = []
        for start in starts:
            parts.append(_answered(teacher, encoded, wanted, start))
            report(min(start + BATCH_ROWS, len(encoded)), len(encoded))
        given: dict[str, Any] = Answers.concat(parts).parts()
        return TeacherCache(**given, **told)
    key = xxhash.xxh3_128_hexdigest(f"{told} {spec} {wanted} {__version__}".encode())
    entry = folder / key
    found = _read(entry)
    if found is None:
        draft = _Draft(folder / f"{DRAFT}{key}", len(encoded))
        for start in range(draft.done, max(1, len(encoded)), BATCH_ROWS):
            draft.write(_answered(teacher, encoded, wanted, start))
            report(draft.done, len(encoded))
        names = draft.close()
        seal(draft.folder, entry, names)
        shrink(folder, entry, limit)
        found = _mapped(entry, names)
    report(len(encoded), len(encoded))
    return TeacherCache(**found, **told)


class _Draft:
    """Answers in the making: one file for each part, as long as all rows, and a counter of the batches in them.

    The counter holds a checksum for each batch, so that a batch whose bytes never reached the disk is asked again.
    """

    def __init__(self, folder: Path, total: int) -> None:
        self.folder, self.total, self.done = folder, total, 0
        self._maps: dict[str, np.memmap[Any, Any]] = {}
        self._checksums: list[str] = []
        try:
            self._resume()
        except (OSError, ValueError):  # nothing there, or nothing that can be used
            self._maps, self._checksums, self.done = {}, [], 0
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)

    def write(self, answers: Answers) -> None:
        """Append one batch."""
        for name, part in answers.parts().items():
            if name not in self._maps:
                shape = (self.total, *part.shape[1:])
                self._maps[name] = np.lib.format.open_memmap(self.folder / f"{name}.npy", "w+", part.dtype, shape)
            self._maps[name][self.done : self.done + len(answers)] = part
            self._maps[name].flush()
        self._checksums.append(self._checksum(self.done))
        self.done = min(self.done + BATCH_ROWS, self.total)
        temporary = self.folder / f"{_COUNTER}.tmp"
        temporary.write_text(json.dumps({"parts": list(self._maps), "checksums": self._checksums}))
        temporary.replace(self.folder / _COUNTER)

    def close(self) -> list[str]:
        """End the draft; gives the names of its files."""
        names = [f"{name}.npy" for name in self._maps]
        self._maps.clear()
        (self.folder / _COUNTER).unlink()
        return names

    def _resume(self) -> None:
        """Take over the batches that are whole, up to the first that is not."""
        told = json.loads((self.folder / _COUNTER).read_text())
        for name in told["parts"]:
            self._maps[name] = np.lib.format.open_memmap(self.folder / f"{name}.npy", "r+")
        for checksum in told["checksums"]:
            if self._checksum(self.done) != checksum:
                break
            self._checksums.append(checksum)
            self.done = min(self.done + BATCH_ROWS, self.total)

    def _checksum(self, start: int) -> str:
        digest = xxhash.xxh3_128()
        for name in sorted(self._maps):
            digest.update(np.ascontiguousarray(self._maps[name][start : start + BATCH_ROWS]).data)
        return digest.hexdigest()


def _answered(teacher: Teacher, encoded: Encoded, wanted: Wanted, start: int) -> Answers:
    """A teacher's answers to one batch.

    Raises:
        TrainingError: a part that is wanted is not among them.
    """
    answers = teacher.answer(encoded.take(slice(start, start + BATCH_ROWS)), wanted)
    absent = [
        name
        for name in ("relations", "attention", "hidden", "embedding")
        if getattr(wanted, name) and getattr(answers, name) is None
    ]
    if absent:
        raise TrainingError(
            f"the teacher {teacher.name} gives no {', '.join(absent)}", mend="leave out the terms that read them"
        )
    return answers


def _read(entry: Path) -> dict[str, Any] | None:
    """What an entry holds, if it is there and whole; a damaged one is removed."""
    if not (entry / ENTRY_FILE).is_file():
        return None
    try:
        return _mapped(entry, verify(entry))
    except (OSError, ValueError):
        shutil.rmtree(entry, ignore_errors=True)
        return None


def _mapped(entry: Path, names: list[str]) -> dict[str, Any]:
    return {Path(name).stem: np.load(entry / name, mmap_mode="r", allow_pickle=False) for name in names}
