"""A training that is killed goes on to the weights it would have had; a checkpoint that is no good is refused."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import small_training
import torch
from small_training import small_labels, small_trainer
from torch import Tensor

from riskdistill.errors import TrainingError


class KilledError(Exception):
    """Stands for the end of the process."""


@pytest.fixture(scope="module")
def whole() -> dict[str, Tensor]:
    """The weights of a training that nobody interrupts."""
    torch.set_num_threads(1)
    return small_trainer().run(small_labels()).model.state_dict()


def assert_same(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        assert torch.equal(tensor, other[name]), name


def killed_after(steps: int, checkpoint: Path) -> None:
    def stop(name: str, done: int, total: int, best: float) -> None:
        if done == steps:
            raise KilledError

    with pytest.raises(KilledError):
        small_trainer(checkpoint, stop).run(small_labels())


def test_a_process_that_is_killed_at_any_moment_resumes_to_the_same_weights(tmp_path: Path) -> None:
    epochs = {"epochs": 12, "patience": 12}  # enough steps after the kill that it cannot come too late
    step = random.randrange(12, 40)
    command = [sys.executable, small_training.__file__, str(tmp_path)]
    command += [f"{name}={value}" for name, value in epochs.items()]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if int(line) == step:
                process.send_signal(signal.SIGKILL)
                break
        assert process.wait() == -signal.SIGKILL
    torch.set_num_threads(1)
    steps: list[int] = []
    resumed = small_trainer(
        tmp_path / "small.pt", lambda name, done, total, best: steps.append(done), **epochs
    ).run(small_labels())
    assert step <= steps[0] < 120, f"killed after step {step}, went on with {steps[0]}"
    assert_same(resumed.model.state_dict(), small_trainer(**epochs).run(small_labels()).model.state_dict())


@pytest.mark.parametrize("steps", [1, 9, 10, 15, 30])
def test_a_run_goes_on_from_the_step_it_reached(tmp_path: Path, whole: dict[str, Tensor], steps: int) -> None:
    killed_after(steps, tmp_path / "x.pt")
    torch.manual_seed(99)  # another process, another random state
    assert_same(small_trainer(tmp_path / "x.pt").run(small_labels()).model.state_dict(), whole)


def test_within_an_epoch_there_is_a_checkpoint_only_when_it_is_due(tmp_path: Path) -> None:
    def stop(name: str, done: int, total: int, best: float) -> None:
        if done == 9:
            raise KilledError

    with pytest.raises(KilledError):
        small_trainer(tmp_path / "x.pt", stop, checkpoint_minutes=5.0).run(small_labels())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("damage", ["truncated", "emptied", "overwritten"])
def test_a_damaged_checkpoint_is_refused_with_its_mend(tmp_path: Path, damage: str) -> None:
    checkpoint = tmp_path / "x.pt"
    killed_after(4, checkpoint)
    stored = checkpoint.read_bytes()
    checkpoint.write_bytes(
        {"truncated": stored[: len(stored) // 2], "emptied": b"", "overwritten": b"no checkpoint" * 9}[damage]
    )
    with pytest.raises(TrainingError, match=r"x\.pt: the checkpoint is damaged \(mend: delete it"):
        small_trainer(checkpoint).run(small_labels())
    checkpoint.unlink()
    small_trainer(checkpoint).run(small_labels())


def test_a_checkpoint_of_something_else_is_refused(tmp_path: Path) -> None:
    torch.save({"model": {}}, tmp_path / "x.pt")
    with pytest.raises(TrainingError, match="the checkpoint is not of this small"):
        small_trainer(tmp_path / "x.pt").run(small_labels())
