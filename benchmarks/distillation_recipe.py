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
from safetensors.numpy import load_file

KILLS: Final = 3
KILLED_WITHIN: Final = (0.15, 0.5)  # of the time that an undisturbed run takes, after each start
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
    seconds, random_ = _run(world, whole), random.Random(7)
    for _ in range(KILLS):
        with subprocess.Popen(
            _command(world, stopped), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as job:
            time.sleep(seconds * random_.uniform(*KILLED_WITHIN))
            job.send_signal(signal.SIGKILL)
    _run(world, stopped)
    differ = sum(_different(whole / "models" / name, stopped / "models" / name) for name in ("teacher", "student"))
    label = f"{SETS[world.name]}: a run killed {KILLS} times"
    figures = int(_figures(whole) != _figures(stopped))
    return [
        Measurement(f"{label}, weights that differ", differ, "tensors", 0, "lower"),
        Measurement(f"{label}, reports that differ", figures, "of 1", 0, "lower", "speeds aside"),
    ]


def _run(world: World, out: Path) -> float:
    """Seconds that the job took; what an earlier run finished in `out` is taken over.

    Raises:
        subprocess.CalledProcessError: it failed.
    """
    started = time.perf_counter()
    subprocess.run(_command(world, out), check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


def _command(world: World, out: Path) -> list[str]:
    source = world.options.data / SETS[world.name]
    config = ROOT / "configs" / f"{world.name}.yaml"
    changes = [word for change in QUICK if world.options.quick for word in ("--set", change)]
    job = [sys.executable, "-m", "pipelines", "run", str(config), "--input", str(source), "--out", str(out)]
    return [*job, *changes]


def _different(one: Path, other: Path) -> int:
    """Tensors of two networks that are not the same in every bit."""
    first, second = (load_file(folder / "model.safetensors") for folder in (one, other))
    return sum(first[name].tobytes() != second[name].tobytes() for name in first)


def _figures(out: Path) -> Any:
    def without_speeds(fields: dict[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in fields.items() if name not in _SPEEDS}

    return json.loads((out / "report" / "metrics.json").read_text(), object_hook=without_speeds)
