"""The model card of a bundle: what a reviewer asks of a model, answered from the figures of its run.

Its questions are those that model-risk guidance of banks (SR 26-2 in the United States) and the EU's rules on
automated monitoring (AMLR, Articles 76 and 77) raise. That they are answered is no statement that any rule is met.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import numpy as np
from numpy.typing import NDArray

from monitoring.evidence import RollbackPolicy
from monitoring.profile import ReferenceProfile
from monitoring.segments import segment_rows
from pipelines.datasets import Prepared
from pipelines.distillation_evidence import scheme_names
from pipelines.served import Served
from riskdistill import __version__
from riskdistill.bundle import Thresholds
from riskdistill.config import ExperimentConfig
from riskdistill.evaluation.metrics import STUDENT, TEACHER, MetricsReport, ModelMetrics, ScoredPeriod
from riskdistill.evaluation.parts import Part, Share, measure_parts
from riskdistill.evaluation.ranking import reliability_groups
from riskdistill.provenance import Provenance

GROUPS: Final = 5  # of scores, in the table of calibration


@dataclass(frozen=True)
class Carded:
    """What a card is about.

    Attributes:
        report: the figures of the run.
        test: every model's scores on the test period.
        thresholds, profile: of the bundle.
    """

    config: ExperimentConfig
    prepared: Prepared
    served: Served
    report: MetricsReport
    test: ScoredPeriod
    thresholds: Thresholds
    profile: ReferenceProfile
    provenance: Provenance

    @property
    def student(self) -> ModelMetrics:
        """The student's figures."""
        return self.report.models[STUDENT]


def model_card(of: Carded, created_at: datetime) -> str:
    """The card, as Markdown."""
    dataset = of.prepared.dataset
    sections = {
        "Purpose": _PURPOSE,
        "Data": _data(of),
        "Performance": _performance(of),
        "Performance by typology": _typologies(of),
        "Performance by part of the traffic": _segments(of),
        "Calibration": _calibration(of),
        "Thresholds": _thresholds(of.thresholds),
        "Limits": _limits(of),
        "Monitoring and fallback": _monitoring(of),
        "Human oversight": _OVERSIGHT,
        "Changes": _changes(of.provenance),
    }
    head = f"""# Model card: {of.config.name}

Made {created_at:%Y-%m-%d %H:%M} UTC by riskdistill {__version__} from dataset `{dataset.fingerprint}`.
It answers what a reviewer of models asks, from the figures of the run that made the model; it is no statement that
any rule is met.
"""
    return "\n".join([head, *(f"## {title}\n\n{text.strip()}\n" for title, text in sections.items())])


_PURPOSE: Final = """
Ranks single payments by the risk that they are money laundering, for review by people. It decides nothing about a
customer by itself, and was not judged for other uses: not for rating customers, nor for closing accounts.
"""

_OVERSIGHT: Final = """
- An alert is a proposal: people review it, with reasons in words, the values behind them and past payments.
- What they find is recorded as a case, corrects the labels, and is learned from when the model is retrained.
- Alerts that shall pass for a while need an owner, a reason and an end; they stay in the log.
- A sample of what was let pass is drawn for review, so that what the model misses can be estimated.
- Whether it serves is decided by people, by name and with a reason, and with another person's approval where the
  operator asks for it; a rollback waits for nobody's approval.
"""


def _data(of: Carded) -> str:
    dataset = of.prepared.dataset
    return f"""
Learned from {len(dataset.train_label):,} transactions until {dataset.train_span[1]:%Y-%m-%d}
({int(dataset.train_label.sum()):,} known laundering). Of {len(dataset.validation):,} later ones the earlier half
tuned the models, the later one gave calibration and thresholds; judged on {len(dataset.test):,} later still
({dataset.test.start:%Y-%m-%d} to {dataset.test.end:%Y-%m-%d}, {int(dataset.test.label.sum()):,} laundering).
"""


def _performance(of: Carded) -> str:
    student, teacher = of.student, of.report.models[TEACHER]
    low, high = student.pr_auc_interval
    caught = "\n".join(
        f"| recall with {float(budget):.2%} of the traffic alerted | {student.recall_at_budget[budget]:.1%} "
        f"| {teacher.recall_at_budget[budget]:.1%} |"
        for budget in student.recall_at_budget
    )
    return f"""
| on the test period | student | teacher |
|---|---|---|
| PR-AUC | {student.pr_auc:.3f} (95 % interval {low:.3f} to {high:.3f}) | {teacher.pr_auc:.3f} |
| ROC-AUC | {student.roc_auc:.3f} | {teacher.roc_auc:.3f} |
{caught}
| calibration error | {student.ece:.4f} | {teacher.ece:.4f} |
| parameters | {student.parameters:,} | {teacher.parameters:,} |

**Compression of the student.** {_compressed(of)}.
"""


def _measured(of: Carded, parts: Mapping[str, NDArray[np.bool_]]) -> tuple[Part, ...]:
    test = of.prepared.dataset.test
    alert = np.asarray(of.test.scores[STUDENT] >= of.thresholds.review, np.bool_)
    return measure_parts(test.label, scheme_names(test), alert, parts)


def _typologies(of: Carded) -> str:
    """All payments of a typology are laundering, so there is no precision."""
    test = of.prepared.dataset.test
    names = sorted(set(test.typology[test.label]))
    parts = _measured(of, {str(name): test.label & (test.typology == name) for name in names})
    rows = [(part.name, f"{part.schemes:,}", f"{part.laundering:,}", _told(part.recall)) for part in parts]
    return f"{_HOW}\n\n{_table(('typology', 'schemes', 'payments', 'recall'), rows)}"


def _segments(of: Carded) -> str:
    test = of.prepared.test
    parts = _measured(of, {"all": np.ones(test.num_rows, np.bool_)} | segment_rows(test))
    rows = [
        (
            part.name,
            *(f"{number:,}" for number in (part.rows, part.laundering, part.alerts)),
            _told(part.precision),
            _told(part.recall),
        )
        for part in parts
    ]
    return f"{_HOW}\n\n{_table(('part', 'payments', 'laundering', 'alerts', 'precision', 'recall'), rows)}"


_HOW: Final = """
The student alone, alerting from the review threshold on. In brackets 95 % intervals; for recall each scheme is one
trial, as its payments are found together.
""".strip()


def _told(share: Share | None) -> str:
    return "–" if share is None else f"{share.value:.1%} ({share.interval[0]:.0%} to {share.interval[1]:.0%})"


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    cells = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in cells)


def _calibration(of: Carded) -> str:
    score, label = of.test.scores[STUDENT], of.test.labels
    rows = [
        (f"{predicted:.3%}", f"{observed:.3%} ({low:.3%} to {high:.3%})")
        for predicted, low, observed, high in zip(*reliability_groups(label, score, GROUPS), strict=True)
    ]
    return f"""
A score is meant as a probability. On the test period the student's scores expect {score.sum():,.0f} laundering
payments; {int(label.sum()):,} were. Groups of payments of which the same amount of laundering is expected:

{_table(("expected", "observed (95 % interval)"), rows)}
"""


def _thresholds(chosen: Thresholds) -> str:
    return f"""
Review from {chosen.review:.4g}, hold from {chosen.hold:.4g}; the teacher is asked between
{chosen.uncertain_low:.4g} and {chosen.uncertain_high:.4g} and from {chosen.high_risk:.4g}. Chosen on the later half
of validation.
"""


def _limits(of: Carded) -> str:
    dataset = of.prepared.dataset
    return f"""
Scores hold for traffic like that of the reference profile; drift is watched against it. Labels mark
what was found: laundering that nobody found counts as normal. Typologies seen in training:
{", ".join(dataset.typologies[1:])}.

Of the dataset (its card has the rest):

{chr(10).join(f"- {limit}" for limit in of.prepared.card.limits)}
"""


def _monitoring(of: Carded) -> str:
    profile, policy = of.profile, RollbackPolicy()
    watched = ", ".join(profile.segments) or "none"
    return f"""
- The reference profile holds {profile.rows:,} payments: the student alerts on {profile.alert_rate:.2%} of them and
  sends {profile.bypass_rate:.2%} on to the teacher. Live traffic is compared with it (`riskdistill monitor drift`).
  Segments that are watched: {watched}.
- The model before it scores the same payments. Sequential tests compare the two and roll it back on harm
  (`riskdistill monitor watch`); by default the chance of a wrong rollback in its whole life is at most
  {policy.alpha:.1%}.
- Labels come late: realised and estimated precision stand side by side (`riskdistill monitor performance`).
- Where the teacher does not answer in time the student decides, and the decision says so; where the bundle does not
  verify it is refused, and the one before stays.
"""


def _changes(provenance: Provenance) -> str:
    first = "" if provenance.parent else "The first of its line: no model before it is known. "
    later = "What became of it as a release is in the release log (`riskdistill release report`)."
    return f"{first}{provenance.told} {later}"


def _compressed(of: Carded) -> str:
    """What was done to the student after it was taught, in words."""
    student, whole, compression = of.served.students[STUDENT], of.config.student, of.config.compression
    left = student.model.config
    counts = {
        "attention heads of each layer": (left.heads, whole.heads),
        "feed-forward units of each layer": (left.feedforward_width, whole.feedforward * whole.width),
        "context units": (left.context_width, whole.context_width),
    }
    done = [f"{kept} of {count} {part} kept" for part, (kept, count) in counts.items() if kept < count]
    if compression.int8:
        done.append("served in 8-bit integers")
    if student.exits is not None:
        done.append(
            f"with early exits: {of.student.layers_saved:.0%} of the layer evaluations saved on the test period, "
            f"{student.exits.gain.saved:.0%} where their rule was chosen"
        )
    return ", ".join(done) or "none"
