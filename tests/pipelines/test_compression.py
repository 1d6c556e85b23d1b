"""A run that compresses its student, whole: what its bundle serves is what was pruned, rounded or given exits.

All runs here share a world, teachers and the taught student, which they take from one run's checkpoints.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import onnx
import pytest
import tiny
import torch
from sklearn.metrics import average_precision_score
from tiny_runs import Epochs, config_with, run_to

from pipelines import served
from pipelines.compression import Compression, Student
from pipelines.progress import Steps
from pipelines.run import RunResult
from riskdistill.bundle import Bundle, rebuild_bundle
from riskdistill.config import ExperimentConfig
from riskdistill.dataset import Dataset
from riskdistill.errors import BundleDamagedError, BundleIncompatibleError
from riskdistill.features import Encoded
from riskdistill.manifest import MANIFEST, Manifest
from riskdistill.models.calibration import Calibrator
from riskdistill.models.event_transformer import EventTransformer
from riskdistill.models.onnx_model import OnnxScorer, Scored
from riskdistill.models.training import Training, score_logits
from riskdistill.reasons import explain
from riskdistill.student.exit_scorer import NEVER, RULE_FILE, EarlyExitScorer

PRUNING = {"heads": 0.5, "feedforward": 0.5, "context": 0.5}
FORMS: Mapping[str, Mapping[str, Any]] = {
    "int8": {"pruning": PRUNING, "int8": True},
    "exits": {"pruning": PRUNING, "early_exits": True},
}

pytestmark = pytest.mark.usefixtures("one_export_of_equal_weights", "no_export_of_the_untaught")


class Unexported(OnnxScorer):
    """A network that scores by itself."""

    def __init__(self, model: EventTransformer) -> None:
        self.model, self.calibrator, self.bytes = model, Calibrator(), 1

    def score(self, encoded: Encoded) -> Scored:
        logit, typology = score_logits(self.model, encoded)
        return Scored(self.calibrator(logit), logit, typology)


@pytest.fixture(scope="module")
def no_export_of_the_untaught() -> Iterator[None]:
    """The student without a teacher, of which no bundle knows, is spared the seconds that an export takes."""
    export = served._exported

    def exported(name: str, student: Student, *rest: Any) -> Any:
        return (Unexported(student.model), ()) if name == "student_scratch" else export(name, student, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(served, "_exported", exported)
        yield


def config_of(compression: Mapping[str, Any]) -> ExperimentConfig:
    """The tiny experiment with a student of two layers, so that there is an earlier exit."""
    return config_with({"student": {"layers": 2}, "compression": compression})


def begun(trained: Path, out: Path) -> Path:
    """A folder in which a run finds what another one trained."""
    shutil.copytree(trained / "checkpoints", out / "checkpoints")
    return out


@pytest.fixture(scope="module")
def first(simulated: Path, tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    """The run with exits, which trains what the other takes over, in a folder that another configuration used."""
    out = tmp_path_factory.mktemp("exits")
    for name in ("student_pruned", "student_int8", "text_teacher"):
        (out / "models" / name).mkdir(parents=True)
    return run_to(out, simulated, config_of(FORMS["exits"]))


@pytest.fixture(scope="module")
def trained(first: RunResult) -> Path:
    """Its folder."""
    return first.bundle.path.parent


@pytest.fixture(scope="module")
def runs(
    first: RunResult, simulated: Path, trained: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, RunResult]:
    """A finished run of each form."""
    out = begun(trained, tmp_path_factory.mktemp("int8"))
    return {"exits": first, "int8": run_to(out, simulated, config_of(FORMS["int8"]))}


@pytest.fixture
def exiting(runs: dict[str, RunResult], tmp_path: Path) -> Path:
    """A copy, which a test may damage, of the bundle whose student has early exits."""
    return Path(shutil.copytree(runs["exits"].bundle.path, tmp_path / "exiting"))


@pytest.mark.parametrize("form", list(FORMS))
def test_what_was_judged_is_what_the_bundle_serves(runs: dict[str, RunResult], form: str) -> None:
    result = runs[form]
    bundle, test = Bundle.load(result.bundle.path), result.dataset.test
    judged = result.report.models["student"]
    score = bundle.student.score_all(test.encoded).score
    assert average_precision_score(test.label, score) == pytest.approx(judged.pr_auc, abs=1e-9)
    assert (bundle.manifest.parameters["student"], bundle.student.bytes) == (judged.parameters, judged.bytes)
    assert judged.rows_per_second > 0
    surest = int(score.argmax())
    effects = [reason.effect for reason in explain(bundle, test.encoded.take(slice(surest, surest + 1))).reasons]
    assert effects
    assert effects == sorted(effects, reverse=True)


@pytest.mark.parametrize("form", list(FORMS))
def test_a_row_scores_alone_as_in_a_batch(runs: dict[str, RunResult], form: str) -> None:
    student, rows = runs[form].bundle.student, runs[form].dataset.test.encoded.take(slice(0, 64))
    together = student.score(rows)
    alone = [student.score(rows.take(slice(row, row + 1))) for row in range(len(rows))]
    np.testing.assert_allclose([one.score[0] for one in alone], together.score, rtol=0, atol=1e-6)
    np.testing.assert_allclose([one.typology[0] for one in alone], together.typology, rtol=0, atol=1e-6)


@pytest.mark.parametrize("form", list(FORMS))
def test_the_student_is_calibrated_on_the_later_half_of_validation(runs: dict[str, RunResult], form: str) -> None:
    student = runs[form].bundle.student
    _, fold = runs[form].dataset.validation.halves()
    logit, shift = student.score_all(fold.encoded).logit, student.calibrator.prior_shift
    assert Calibrator.fit(logit, fold.label, shift=shift) == student.calibrator
    assert (shift == 0) == (form == "exits")  # the exits' own calibrators took the mix back


def test_a_pruned_student_is_smaller_and_stored_as_it_is_served(runs: dict[str, RunResult]) -> None:
    result = runs["exits"]
    models, rows = result.bundle.path.parent / "models", result.dataset.test.encoded
    whole, pruned = (EventTransformer.from_pretrained(models / name) for name in ("student", "student_pruned"))
    assert (pruned.config.heads, pruned.config.feedforward_width, pruned.config.context_width) == (1, 16, 8)
    assert pruned.parameter_count() < result.report.models["student"].parameters < whole.parameter_count()
    assert result.report.models["student_scratch"].parameters == whole.parameter_count()
    student = Bundle.load(result.bundle.path).student
    assert isinstance(student, EarlyExitScorer)
    student.rule = student.rule.leaving_at(1)  # the whole network
    np.testing.assert_allclose(student.score_all(rows).logit, score_logits(pruned, rows)[0], rtol=0, atol=1e-4)
    assert [one["epoch"] for one in json.loads((models / "student_pruned" / "training.json").read_text())] == [0]


@pytest.mark.parametrize(("before", "kept"), [(0.3, True), (0.2, False), (0.1, False)])
def test_the_gentle_epoch_is_kept_only_where_it_ranks_no_worse(
    before: float, kept: bool, tiny_dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def train_on(name: str, model: EventTransformer, *_: object) -> Training:
        with torch.no_grad():
            model.head.bias.fill_(5.0)
        model.save_pretrained(tmp_path / "models" / name)
        return Training(model, 0, 0.2)

    config = config_of(FORMS["exits"])
    workshop = SimpleNamespace(out=tmp_path, steps=Steps(), train_on=train_on)
    monkeypatch.setattr(Compression, "_judge", lambda *_: before)
    monkeypatch.setattr(Compression, "_objective", lambda *_: None)
    school: Any = SimpleNamespace(workshop=workshop)
    answers: Any = SimpleNamespace(teacher="")
    given = Compression(school, config, answers).recovered(
        "student_pruned", tiny.network(tiny_dataset, config.student)
    )
    stored = EventTransformer.from_pretrained(tmp_path / "models" / "student_pruned")
    for model in (given, stored):
        assert (model.head.bias[0].item() != 5.0) == kept


@pytest.mark.parametrize(("rounded", "trained"), [(0.4, False), (0.5, False), (0.3, True)])
def test_a_network_is_taught_to_round_only_where_rounding_ranks_worse(
    rounded: float, trained: bool, tiny_dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_of(FORMS["int8"])
    model = tiny.network(tiny_dataset, config.student)
    rounding = tiny.network(tiny_dataset, config.student, seed=8)
    taught: list[EventTransformer] = []
    monkeypatch.setattr(Compression, "_judge", lambda _, judged: 0.4 if judged is model else rounded)
    monkeypatch.setattr(Compression, "rounded", lambda *_: rounding)
    monkeypatch.setattr(Compression, "recovered", lambda _, name, given: taught.append(given) or given)
    school: Any = SimpleNamespace(workshop=SimpleNamespace(out=tmp_path))
    assert Compression(school, config, cast(Any, None)).in_8_bits(model) is rounding
    assert taught == ([rounding] if trained else [])
    assert (tmp_path / "models" / "student_int8" / "model.safetensors").exists() != trained


def test_a_student_in_8_bits_multiplies_integers(runs: dict[str, RunResult]) -> None:
    bundle = runs["int8"].bundle
    assert isinstance(bundle.student, OnnxScorer)
    kinds = [node.op_type for node in onnx.load(bundle.path / "student.onnx").graph.node]
    assert kinds.count("MatMulInteger") == 2 + 4 + 2  # the context's, the first layer's, the last's feed-forward


def test_a_student_with_exits_is_served_in_segments(runs: dict[str, RunResult]) -> None:
    bundle, test = runs["exits"].bundle, runs["exits"].dataset.test.encoded
    assert isinstance(bundle.student, EarlyExitScorer)
    assert {RULE_FILE, "segment_0.onnx", "segment_1.onnx"} < bundle.manifest.files.keys()
    assert "student.onnx" not in bundle.manifest.files
    _, layers = bundle.student.score_by_layers(test)
    rule, judged = bundle.student.rule, runs["exits"].report.models
    assert 1 in layers or (rule.bounds, rule.short) == ((NEVER,), -1)
    assert judged["student"].layers_saved == pytest.approx(1 - layers.mean() / 2)
    assert judged["teacher"].layers_saved is judged["student_scratch"].layers_saved is None
    model = EventTransformer.from_pretrained(bundle.path.parent / "models" / "student_pruned")
    heads = (model.config.width + 1) * (1 + len(model.config.typologies))
    assert bundle.manifest.parameters["student"] == model.parameter_count() + heads


def test_a_rebuilt_bundle_keeps_its_exits(runs: dict[str, RunResult], tmp_path: Path) -> None:
    bundle, rows = runs["exits"].bundle, runs["exits"].dataset.test.encoded
    forgot = Calibrator(slope=0.1)
    rebuilt = rebuild_bundle(bundle, tmp_path / "b", calibrators={"student": forgot, "teacher": Calibrator()})
    np.testing.assert_array_equal(rebuilt.student.score(rows).score, forgot(bundle.student.score(rows).logit))


@pytest.mark.parametrize(
    ("form", "told"),
    [
        ("exits", "1 of 2 attention heads of each layer kept, 16 of 32 feed-forward units of each layer kept"),
        ("int8", "8 of 16 context units kept, served in 8-bit integers."),
        ("exits", "of the layer evaluations saved on the test period"),
    ],
)
def test_the_model_card_tells_what_was_done(runs: dict[str, RunResult], form: str, told: str) -> None:
    assert told in (runs[form].bundle.path / "model_card.md").read_text()


def test_changed_exits_are_found(exiting: Path) -> None:
    content = (exiting / RULE_FILE).read_bytes()
    (exiting / RULE_FILE).write_bytes(content.replace(b'"short": ', b'"short":  '))
    with pytest.raises(BundleDamagedError, match=RULE_FILE):
        Bundle.load(exiting)


def test_exits_that_are_no_rule_are_refused_even_where_the_manifest_agrees(exiting: Path) -> None:
    told = json.loads((exiting / RULE_FILE).read_text())
    (exiting / RULE_FILE).write_text(json.dumps(told | {"bounds": []}))
    sealed_again(exiting, RULE_FILE)
    with pytest.raises(BundleDamagedError, match=r"exits\.json: no rule for early exits .*one bound fewer"):
        Bundle.load(exiting)


def test_a_segment_of_another_dataset_is_refused(exiting: Path) -> None:
    segment = exiting / "segment_1.onnx"
    model = onnx.load(segment)
    onnx.helper.set_model_props(model, {"riskdistill.dataset": "0123456789abcdef"})
    onnx.save(model, segment)
    sealed_again(exiting, segment.name)
    with pytest.raises(BundleIncompatibleError, match="0123456789abcdef"):
        Bundle.load(exiting)


def sealed_again(bundle: Path, name: str) -> None:
    """Let the manifest agree with a changed file, as a forger would."""
    told = json.loads((bundle / MANIFEST).read_text())
    told["files"][name] = hashlib.sha256((bundle / name).read_bytes()).hexdigest()
    (bundle / MANIFEST).write_text(Manifest.model_validate(told).sealed().model_dump_json())


def test_a_stopped_run_goes_on_where_it_was_and_another_time_trains_nothing(
    runs: dict[str, RunResult],
    simulated: Path,
    trained: Path,
    tmp_path: Path,
    epochs: Epochs,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    begun(trained, tmp_path)
    epochs.stop_at = "student_int8", 0
    with pytest.raises(KeyboardInterrupt):
        run_to(tmp_path, simulated, config_of(FORMS["int8"]))
    assert epochs.trained == []
    epochs.stop_at = None
    resumed = run_to(tmp_path, simulated, config_of(FORMS["int8"]))
    assert epochs.trained == [("student_int8", 0)]
    assert resumed.report.models["student"].pr_auc == runs["int8"].report.models["student"].pr_auc

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("pipelines.run.serve", stop)  # once all is trained: exports take seconds
    with pytest.raises(KeyboardInterrupt):
        run_to(tmp_path, simulated, config_of(FORMS["int8"]))
    assert epochs.trained == [("student_int8", 0)]


def test_networks_that_an_earlier_run_made_and_this_one_does_not_are_removed(runs: dict[str, RunResult]) -> None:
    made = {
        form: {path.name for path in (run.bundle.path.parent / "models").iterdir()} for form, run in runs.items()
    }
    both = {"boosted_trees.txt", "teacher", "student_scratch", "student", "student_pruned"}
    assert made == {"exits": both, "int8": both | {"student_int8"}}


def test_a_recovery_of_another_pruning_is_not_taken_up(
    simulated: Path, trained: Path, tmp_path: Path, epochs: Epochs
) -> None:
    begun(trained, tmp_path)
    epochs.stop_at = "student_pruned", 0
    with pytest.raises(KeyboardInterrupt):
        run_to(tmp_path, simulated, config_of({"pruning": {"feedforward": 0.5}}))
    assert epochs.trained == []
