"""The main job on three data sets whose generators nobody here wrote: quality, size and speed side by side.

    python benchmarks/main_job.py --data ../shared/data --json main_job.json
    python benchmarks/main_job.py --quick          # one data set, fewer rows: minutes, not the README's figures

Each data set goes through `riskdistill run` with its file in configs/: split 60/20/20 by time, features from what
came strictly before, thresholds and calibration from the validation fifth, figures from the last fifth with
bootstrap 95 % intervals. Beside our models, in the same run: LightGBM on the transaction's own columns, which is
what a model sees without a feature engine.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

from machine import describe, machine
from rich.console import Console
from rich.table import Table
from sklearn.metrics import average_precision_score

from pipelines.progress import Steps
from pipelines.run import RunResult, run
from riskdistill.config import load_config
from riskdistill.features.spec import TRANSACTION_FEATURES
from riskdistill.models.boosted_trees import fit_trees

ROOT = Path(__file__).resolve().parents[1]
SETS = {"amlgentex": "amlgentex-5k", "amlworld": "amlworld-hard", "amlsim": "amlsim-10k"}
QUICK = ("mix.max_rows=6000", "training.epochs=2", "student_training.epochs=4")
BARS = {"amlgentex": 0.38, "amlworld": 0.87, "amlsim": 0.93}  # boosted trees on our features, PR-AUC


def raw_columns(result: RunResult, seed: int) -> float:
    """PR-AUC on the test period of LightGBM that sees nothing but the transaction itself."""
    own, data = slice(0, len(TRANSACTION_FEATURES)), result.dataset
    trees = fit_trees(
        (data.train_context[:, own], data.train_label),
        (data.validation.encoded.context[:, own], data.validation.label),
        result.config.boosted_trees,
        seed=seed,
    )
    return float(average_precision_score(data.test.label, trees.score_logits(data.test.encoded.context[:, own])))


def measure(name: str, data: Path, out: Path, overrides: list[str], steps: Steps) -> dict[str, Any]:
    """Run one data set; returns what the table and the JSON hold."""
    config = load_config(ROOT / "configs" / f"{name}.yaml", overrides)
    started = time.perf_counter()
    result = run(config, data / SETS[name], out / name, steps)
    seconds = time.perf_counter() - started
    report = result.report.model_dump(mode="json")
    return {"seconds": seconds, "raw_columns_pr_auc": raw_columns(result, config.seed), "report": report}


def table(measured: dict[str, dict[str, Any]]) -> Table:
    """PR-AUC of all models, and the bars that the student is held to."""
    columns = ("data", "positives", "raw columns", "trees", "bar", "teacher", "student", "no teacher")
    shown = Table(*columns, "retention", "student / trees", "smaller", "faster", "gain of teaching (95 %)")
    for name, found in measured.items():
        report = found["report"]
        models = report["models"]
        test = report["dataset"]["test"]
        low, high = report["distillation_gain_interval"]
        shown.add_row(
            name,
            f"{test['laundering']:,} ({test['prevalence']:.2%})",
            f"{found['raw_columns_pr_auc']:.3f}",
            f"{models['boosted_trees']['pr_auc']:.3f}",
            f"{BARS[name]:.2f}",
            f"{models['teacher']['pr_auc']:.3f}",
            f"{models['student']['pr_auc']:.3f}",
            f"{models['student_scratch']['pr_auc']:.3f}",
            f"{report['retention']:.1%}",
            f"{report['trees_ratio']:.2f}",
            f"{report['compression']:.1f} x",
            f"{report['speedup']:.1f} x",
            f"{report['distillation_gain']:+.3f} ({low:+.3f} to {high:+.3f})",
        )
    shown.caption = describe()
    return shown


def main() -> None:
    """Parse the options, measure, print, write."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    options.add_argument("--out", type=Path, help="keep the runs there (resumes); default: a temporary folder")
    options.add_argument("--json", type=Path, help="write all figures to this file")
    options.add_argument("--quick", action="store_true", help="amlworld only, fewer rows and epochs")
    chosen = options.parse_args()
    names = ["amlworld"] if chosen.quick else list(SETS)
    measured = {}
    with tempfile.TemporaryDirectory() as temporary, Steps() as steps:
        for name in names:
            out = chosen.out or Path(temporary)
            measured[name] = measure(name, chosen.data, out, list(QUICK) if chosen.quick else [], steps)
    Console(width=180).print(table(measured))
    if chosen.json:
        chosen.json.write_text(json.dumps({"machine": machine(), "sets": measured}, indent=1))


if __name__ == "__main__":
    main()
