"""The whole job as a person runs it: how long it takes, and that one that is killed ends as one that is not."""

from __future__ import annotations

import json
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final

from distillation_world import QUICK, World
from feature_data import ROOT, SETS, Measurement

# A run is killed in each of these stages, soon after the first file that it keeps: while trees are fitted, and
# while networks train, which keep their state after every step here.
KILLED_AT: Final = ("boosted_trees_0.txt", "teacher-*.pt", "student-*.pt")
AFTER_SECONDS: Final = 2.0  # at most; how soon is drawn
EVERY_STEP: Final = ("training.checkpoint_minutes=0.0", "student_training.checkpoint_minutes=0.0")
_SPEEDS: Final = {"rows_per_second", "speedup"}


def recipe(world: World) -> list[Measurement]:
    """`riskdistill run` from nothing, on two cores, against its limit."""
    out = world.folder / "recipe"
    shutil.rmtree(out, ignore_errors=True)
    seconds = _run(world, out)
    label = f"{SETS[world.name]}: riskdistill run, from files to bundle and reports"
    return [Measurement(label, seconds / 60, "minutes", 45.0, "lower", "two threads, nothing cached")]


def killed(world: World) -> list[Measurement]:
    """Two runs with the same settings, of which one is killed without warning and started again."""
    whole, stopped = world.folder / "whole", world.folder / "killed"
    for out in (whole, stopped):
        shutil.rmtree(out, ignore_errors=True)  # or there would be nothing left to kill
    _run(world, whole, *EVERY_STEP)
    hit = [_killed(_command(world, stopped, *EVERY_STEP), stopped, kept) for kept in KILLED_AT]
    _run(world, stopped, *EVERY_STEP)
    compared, differ = _compared(whole, stopped)
    label = f"{SETS[world.name]}: a run killed {len(hit)} times"
    told = f"of {compared} below models and bundle; killed after it had written {', '.join(hit)}"
    figures = int(_figures(whole) != _figures(stopped))
    return [
        Measurement(f"{label}, files of weights that differ", len(differ), "files", 0, "lower", told),
        Measurement(f"{label}, reports that differ", figures, "of 1", 0, "lower", "speeds aside"),
    ]


def _killed(command: list[str], out: Path, kept: str) -> str:
    """Start the job, kill it soon after it has kept a certain checkpoint, and tell which it had written last.

    Raises:
        RuntimeError: it ended before it could be killed.
    """
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as job:
        while not list((out / "checkpoints").glob(kept)) and job.poll() is None:
            time.sleep(0.02)
        time.sleep(random.Random(kept).uniform(0, AFTER_SECONDS))
        if job.poll() is not None:
            raise RuntimeError(f"the job ended by itself with {job.returncode} before it was killed at {kept}")
        job.send_signal(signal.SIGKILL)
    if job.returncode != -signal.SIGKILL:
        raise RuntimeError(f"the job ended by itself with {job.returncode} while it was killed at {kept}")
    return max((out / "checkpoints").glob("*.*"), key=lambda path: path.stat().st_mtime_ns).name


def _run(world: World, out: Path, *changes: str) -> float:
    """Seconds that the job took; what an earlier run finished in `out` is taken over.

    Raises:
        subprocess.CalledProcessError: it failed.
    """
    started = time.perf_counter()
    subprocess.run(_command(world, out, *changes), check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


def _command(world: World, out: Path, *changes: str) -> list[str]:
    source = world.options.data / SETS[world.name]
    config = ROOT / "configs" / f"{world.name}.yaml"
    every = (*changes, *(QUICK if world.options.quick else ()))
    job = [sys.executable, "-m", "pipelines", "run", str(config), "--input", str(source), "--out", str(out)]
    return [*job, *(word for change in every for word in ("--set", change))]


def _compared(one: Path, other: Path) -> tuple[int, set[str]]:
    """How many files of weights two runs left, and which of them are not the same in every bit."""
    first, second = (_weights(out) for out in (one, other))
    names = first.keys() | second.keys()
    return len(names), {name for name in names if first.get(name) != second.get(name)}


def _weights(out: Path) -> dict[str, bytes]:
    """Every network's tensors and every tree, of the models and of the bundle."""
    found = [path for part in ("models", "bundle") for path in (out / part).rglob("*")]
    return {
        str(path.relative_to(out)): path.read_bytes() for path in found if path.suffix in (".safetensors", ".txt")
    }


def _figures(out: Path) -> Any:
    def without_speeds(fields: dict[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in fields.items() if name not in _SPEEDS}

    return json.loads((out / "report" / "metrics.json").read_text(), object_hook=without_speeds)
