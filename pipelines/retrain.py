"""Retraining: from the champion and what became known since to a challenger in shadow. Reads top to bottom.

    champion → labels as known now → what it misses → dataset, with more of that → teachers → student → bundle
        → gates on mature data that neither has learned from → registered and shadowing, or refused

OUT/retraining/   index.html and gates.json (the evidence), analysis.json (what the champion misses)
OUT/              otherwise as `riskdistill run` leaves it

Nothing is registered before every gate is passed, and then in one write. A job that is stopped resumes where it
was; one that has registered its challenger finds it in the release log and does nothing again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from monitoring.pages import write_whole
from pipelines.bundle_store import keep
from pipelines.champion import Champion, beginnings, changed, kept_teachers, load_champion, trained_on
from pipelines.contest import budget_of, contest, unlearned
from pipelines.datasets import Prepared, prepare_tables, read
from pipelines.progress import Steps
from pipelines.retraining_page import write_page
from pipelines.run import furnished, judge_and_bundle, taught_student
from pipelines.teachers import fit_teachers
from riskdistill import __version__
from riskdistill.bundle import Bundle
from riskdistill.config import ExperimentConfig, SourceConfig, SplitConfig
from riskdistill.data.rates import Rates
from riskdistill.data.tables import SUMMARY_FILE
from riskdistill.dataset import Period, RowCache, Tables, split_points
from riskdistill.dataset.clock import microseconds
from riskdistill.dataset.labels import matured
from riskdistill.dataset.split import MATURE
from riskdistill.evaluation.gates import RETRAINING, Gate, judge
from riskdistill.evaluation.metrics import STUDENT
from riskdistill.evaluation.misses import TYPOLOGY, ErrorAnalysis, amount_bands, analyse
from riskdistill.features import Encoded
from riskdistill.provenance import Provenance
from riskdistill.storage.releases import Release, ReleaseLog


@dataclass(frozen=True)
class Retrained:
    """What a retraining found and made.

    Attributes:
        challenger: its release, shadowing; None where a gate was not passed.
        gates: every question to the challenger.
        bundle: where the challenger's is.
        page: the evidence, for people.
    """

    champion: Release
    challenger: Release | None
    gates: tuple[Gate, ...]
    bundle: Path
    page: Path

    @property
    def failed(self) -> tuple[Gate, ...]:
        """The gates that were not passed."""
        return tuple(gate for gate in self.gates if not gate.passed)


@dataclass(frozen=True)
class Retraining:
    """What is asked for.

    Attributes:
        source: folder of canonical tables with labels, ingested or not.
        out: folder of everything that is made.
        store: folder of the kept bundles.
        config: the experiment, in place of the champion's own.
        mode: in place of the experiment's `retraining.mode`.
        now: labels are as known then; the time of the newest transaction where it is None.
        actor, command: who does this, and what was typed, for the log and the cards.
    """

    source: Path
    out: Path
    store: Path
    config: ExperimentConfig | None = None
    mode: str | None = None
    now: datetime | None = None
    actor: str = "riskdistill retrain"
    command: str = "riskdistill retrain"


def retrain(log: ReleaseLog, asked: Retraining, steps: Steps) -> Retrained:
    """Do the whole job.

    Args:
        log: whose champion is retrained, and which takes the challenger.

    Raises:
        ReleaseError: there is no champion, or another one by the time the challenger is ready.
        RiskDistillError: see the parts; what was finished before stays and is used by the next attempt.
    """
    out = asked.out
    out.mkdir(parents=True, exist_ok=True)
    champion = load_champion(log, asked.config)
    base = champion.config if asked.mode is None else changed(champion.config, retraining={"mode": asked.mode})
    is_ingested = (asked.source / SUMMARY_FILE).exists()  # and needs no reader
    everything = read(SourceConfig(format=None if is_ingested else "canonical"), asked.source, out, steps)
    known_at = asked.now or everything.transactions["timestamp"][-1].as_py()
    tables = matured(everything, known_at, MATURE)

    analysis = _analysis(champion, base, tables, out, steps)
    settings = _settings(base, analysis)
    prepared = prepare_tables(settings, tables, out, steps, command=asked.command, known_at=known_at)
    identity = _identity(champion, settings, prepared)
    if (done := _registered(log, identity)) is not None:
        return done

    bundle = _challenger(champion, base, settings, prepared, out, steps, identity)

    step = steps.step("gates")
    seen = unlearned(champion, tables, prepared.dataset)
    measured = contest(champion, bundle, prepared.dataset.test, seen, settings)
    gates = judge(measured, settings.retraining.gates, seed=settings.seed)
    passed = sum(gate.passed for gate in gates)
    step.done(f"{passed} of {len(gates)} passed")
    evidence = _evidence(champion, settings, prepared, analysis, gates, seen, identity)
    page = write_page(out / "retraining", analysis, gates, evidence)
    if passed < len(gates):
        return Retrained(champion.release, None, gates, bundle.path, page)

    step = steps.step("release")
    kept = keep(bundle, asked.store)
    challenger = log.register(
        kept,
        bundle.version,
        actor=asked.actor,
        reason=f"retrained from {champion.release.release_id}: {passed} of {len(gates)} gates passed",
        evidence={RETRAINING: evidence | {"page": str(page.resolve())}},
        shadow=True,
        against=champion.release.release_id,
    )
    step.done(f"{challenger.release_id} shadows")
    return Retrained(champion.release, challenger, gates, kept, page)


def _analysis(
    champion: Champion, config: ExperimentConfig, tables: Tables, out: Path, steps: Steps
) -> ErrorAnalysis:
    """What the champion misses and falsely alerts, on what came after it learned and before what will judge it."""
    step = steps.step("what the champion misses", tables.transactions.num_rows)
    times = microseconds(tables.transactions)
    _, judged = split_points(times, _split(config))
    window = np.zeros(len(times), np.bool_)
    window[:judged] = times[:judged] > champion.learned_until.timestamp() * 1e6
    engine = champion.bundle.engine(Rates.read(config.features.rates))
    cache = RowCache(out / "dataset" / "rows")
    encoded = cache.encode(engine, tables.transactions, tokens=window, progress=step.advance)
    rows = Encoded(encoded.context[window], encoded.events)
    seen, told = (table.filter(pa.array(window)) for table in (tables.transactions, tables.labels))
    usd = rows.context[:, champion.bundle.spec.names.index("amount_usd")]
    cuts = {"payment format": "payment_format", "sender's bank": "sender_bank", "currency": "currency_paid"}
    analysis = analyse(
        champion.bundle.version,
        champion.bundle.student.score_all(rows).score,
        told["is_laundering"].to_numpy(),
        budget_of(config),
        {
            TYPOLOGY: told["typology"].to_numpy(zero_copy_only=False),
            "amount in dollars": amount_bands(usd),
            **{name: seen[column].to_numpy(zero_copy_only=False) for name, column in cuts.items()},
        },
    )
    write_whole(out / "retraining" / "analysis.json", analysis.model_dump_json(indent=1) + "\n")
    caught = "none is known there" if analysis.recall is None else f"{analysis.recall:.1%} found"
    step.done(f"{analysis.laundering:,} laundering payments since it learned: {caught}")
    return analysis


def _settings(base: ExperimentConfig, analysis: ErrorAnalysis) -> ExperimentConfig:
    """The experiment that makes the challenger: its split, and more copies and grafts of what was missed."""
    mix, retraining = base.mix, base.retraining
    normal = 1 - mix.laundering - retraining.synthetic
    emphasis = analysis.emphasis(retraining.emphasis)
    return changed(
        base,
        source={"format": None, "mapping": None, "until": None},
        split=_split(base).model_dump(),
        mix={
            "normal": normal,
            "synthetic": retraining.synthetic,
            "emphasis": emphasis,
        },
    )


def _split(config: ExperimentConfig) -> SplitConfig:
    """Most of the rows to learn from, the newest to judge on; typologies that were left out are learned now."""
    shares = config.retraining
    return SplitConfig(
        train=shares.train, validation=shares.validation, test=shares.test, purge_days=config.split.purge_days
    )


def _challenger(
    champion: Champion,
    base: ExperimentConfig,
    settings: ExperimentConfig,
    prepared: Prepared,
    out: Path,
    steps: Steps,
    identity: str,
) -> Bundle:
    """Teachers, student and bundle, as the mode says."""
    mode, dataset = settings.retraining.mode, prepared.dataset
    begun = {} if mode == "full" else beginnings(champion, settings, dataset)
    settings = trained_on(settings, begun)
    workshop = furnished(out, settings, dataset, steps, begun)
    if mode == "student":
        teachers = kept_teachers(champion, settings, workshop)
    else:
        teachers = fit_teachers(settings, workshop)
    student = taught_student(teachers, settings, workshop)
    made = Provenance.of(base, dataset, parent=champion.bundle.version, mode=mode, retraining=identity)
    return judge_and_bundle(settings, prepared, workshop, teachers, {STUDENT: student}, made).bundle


def _identity(champion: Champion, settings: ExperimentConfig, prepared: Prepared) -> str:
    """16 hex digits over all that decides what is made."""
    told = champion.bundle.version, prepared.dataset.fingerprint, settings.model_dump_json(), __version__
    return hashlib.sha256("\n".join(told).encode()).hexdigest()[:16]


def _registered(log: ReleaseLog, identity: str) -> Retrained | None:
    """What the release log says of this very retraining, if it has registered a challenger already."""
    for entry in log.history():
        told = entry.evidence.get(RETRAINING, {})
        if told.get("identity") == identity:
            gates = tuple(Gate.model_validate(gate) for gate in told["gates"])
            champion, challenger = log.get(told["champion"]["release"]), log.get(entry.release_id)
            return Retrained(champion, challenger, gates, Path(entry.bundle_path), Path(told["page"]))
    return None


def _evidence(
    champion: Champion,
    settings: ExperimentConfig,
    prepared: Prepared,
    analysis: ErrorAnalysis,
    gates: Sequence[Gate],
    seen: Period,
    identity: str,
) -> dict[str, Any]:
    """The figures that a release rests on, JSON-able."""
    return {
        "identity": identity,
        "mode": settings.retraining.mode,
        "champion": {"release": champion.release.release_id, "bundle": champion.bundle.version},
        "dataset": prepared.dataset.fingerprint,
        "labels_known_at": prepared.dataset.built_at.isoformat(),
        "judged_on": {
            "from": seen.start.isoformat(),
            "to": seen.end.isoformat(),
            "rows": len(seen),
            "laundering": int(seen.label.sum()),
        },
        "missed": {line.value: line.missed for line in analysis.of(TYPOLOGY)},
        "emphasis": dict(settings.mix.emphasis),
        "gates": [gate.model_dump(mode="json") for gate in gates],
    }
