"""Every shipped experiment loads, and all the mistakes in a file are found at once, each with its line."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from riskdistill.config import ExperimentConfig, PerturbationConfig, TrainingConfig, load_config
from riskdistill.errors import ConfigError

CONFIGS = sorted((Path(__file__).parents[2] / "configs").glob("*.yaml"))


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str], Path]:
    def write(text: str) -> Path:
        path = tmp_path / "experiment.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def mistakes_in(path: Path, *overrides: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_config(path, overrides)
    return str(caught.value).replace(f"{path}:", "FILE:").splitlines()


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_shipped_experiment_loads_and_its_header_gives_the_command(path: Path) -> None:
    config = load_config(path)
    assert config.name == path.stem
    assert f"riskdistill run configs/{path.name} --input" in path.read_text(encoding="utf-8").split("name:")[0]


def test_shipped_experiments_are_found() -> None:
    assert {path.stem for path in CONFIGS} >= {"amlgentex", "amlworld", "amlsim", "demo"}


def test_defaults_fill_what_the_file_leaves_out(write: Callable[[str], Path]) -> None:
    config = load_config(write("name: small\nstudent: {width: 16}\n"))
    assert (config.student.width, config.student.layers) == (16, 1)
    assert config == ExperimentConfig.model_validate({"name": "small", "student": {"width": 16}})


def test_configuration_survives_json() -> None:
    config = ExperimentConfig(
        name="x", perturbations=(PerturbationConfig(name="amount_jitter", parameters={"bound": 0.05}),)
    )
    text = config.model_dump_json()
    assert '"with":{"bound":0.05}' in text
    assert ExperimentConfig.model_validate_json(text) == config


def test_configuration_is_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        ExperimentConfig(name="x").seed = 8


def test_training_takes_the_experiments_seed_unless_it_names_one(write: Callable[[str], Path]) -> None:
    config = load_config(write("name: x\nseed: 11\nstudent_training: {seed: 3}\n"))
    assert (config.training.seed, config.student_training.seed) == (11, 3)
    assert ExperimentConfig(name="x", seed=11, training=TrainingConfig(epochs=2)).training.seed == 11


def test_a_text_teacher_is_off_unless_named_and_takes_the_experiments_seed(write: Callable[[str], Path]) -> None:
    assert load_config(write("name: x\n")).text_teacher is None
    text = load_config(write("name: x\nseed: 11\n"), ["text_teacher.rows=500"]).text_teacher
    assert text is not None
    assert (text.rows, text.training.seed) == (500, 11)
    config = load_config(write("name: x\nseed: 11\ntext_teacher: {training: {seed: 3, epochs: 1}}\n"))
    assert config.text_teacher is not None
    assert (config.text_teacher.training.seed, config.text_teacher.training.epochs) == (3, 1)
    assert ExperimentConfig.model_validate_json(config.model_dump_json()) == config


def test_mistakes_in_a_text_teacher_are_told_on_their_lines(write: Callable[[str], Path]) -> None:
    few = (
        "name: x\nfeatures: {events_per_party: 6}\nteacher: {events_per_party: 6}\nstudent: {events_per_party: 6}\n"
    )
    path = write(f"{few}text_teacher:\n  rows: 0\n  modle: m\n")
    assert mistakes_in(path) == [
        "FILE:6: text_teacher.rows: should be greater than or equal to 1, is 0",
        "FILE:7: text_teacher.modle: unknown key, did you mean 'model'?",
    ]
    told = mistakes_in(write(f"{few}text_teacher: {{model: m}}\n"))
    assert told == ["FILE:5: text_teacher: events_per_party 8 is above features.events_per_party 6"]


def test_numbers_follow_yaml_1_2(write: Callable[[str], Path]) -> None:
    config = load_config(write("name: no\ntraining: {learning_rate: 3e-4, weight_decay: .5}\n"))
    assert (config.name, config.training.learning_rate, config.training.weight_decay) == ("no", 3e-4, 0.5)


def test_until_is_read_as_an_instant(write: Callable[[str], Path]) -> None:
    config = load_config(write("name: x\nsource: {format: amlworld, until: 2022-09-10T00:00:00Z}\n"))
    assert config.source.until == datetime(2022, 9, 10, tzinfo=UTC)


def test_rates_are_a_path(write: Callable[[str], Path]) -> None:
    config = load_config(write("name: x\nfeatures: {rates: rates/2026.csv}\n"))
    assert config.features.rates == Path("rates/2026.csv")
    assert ExperimentConfig.model_validate_json(config.model_dump_json()) == config
    assert load_config(write("name: x\n")).features.rates is None


def test_a_split_has_gaps_a_date_and_typologies_of_its_own(write: Callable[[str], Path]) -> None:
    text = "split: {purge_days: 2, as_of: 2026-03-01T00:00:00Z, leave_out: [cycle, fan_in]}"
    config = load_config(write(f"name: x\n{text}\nmix: {{hard_negatives: 0.2}}\n"))
    assert (config.split.purge_days, config.split.leave_out) == (2, ("cycle", "fan_in"))
    assert config.split.as_of == datetime(2026, 3, 1, tzinfo=UTC)
    assert ExperimentConfig.model_validate_json(config.model_dump_json()) == config
    path = write("name: x\nsplit: {purge_days: -1, as_of: 2026-03-01}\nmix: {hard_negatives: 1.5}\n")
    assert [line.split(":")[2].strip() for line in mistakes_in(path)] == [
        "split.purge_days",
        "split.as_of",
        "mix.hard_negatives",
    ]


def test_all_mistakes_are_reported_at_once_each_on_its_line(write: Callable[[str], Path]) -> None:
    path = write(
        "name: x\n"
        "sead: 3\n"
        "split: {train: 0.7, validation: 0.2}\n"
        "teacher:\n"
        "  width: 30\n"
        "  heads: 4\n"
        "training:\n"
        "  epochs: true\n"
        "  epoch: 3\n"
        "source:\n"
        "  until: 2022-09-10\n"
        "distillation:\n"
        "  terms:\n"
        "    - {name: logit, weight: 1}\n"
        "boosted_trees: {candidates: [{num_leaves: 1}]}\n"
    )
    assert mistakes_in(path) == [
        "FILE:2: sead: unknown key, did you mean 'seed'?",
        "FILE:3: split.test: train + validation + test must be 1, is 1.1",
        "FILE:6: teacher.heads: 4 heads do not divide the width 30",
        "FILE:8: training.epochs: should be a valid integer, is True",
        "FILE:9: training.epoch: unknown key, did you mean 'epochs'?",
        "FILE:11: source.until: should have timezone info, is '2022-09-10'",
        "FILE:14: distillation.terms.0.name: should be 'logits', 'attention_relations', 'labels', 'typology', "
        "'attention_maps', 'hidden_states', 'feature', 'batch_correlation' or 'ranking', is 'logit'",
        "FILE:15: boosted_trees.candidates.0.num_leaves: should be greater than or equal to 2, is 1",
    ]


@pytest.mark.parametrize(
    ("text", "mistake"),
    [
        ("", "is empty"),
        ("# only a comment\n", "is empty"),
        ("- a\n", "holds a list"),
        ("name: [\n", "FILE:2:1: not valid YAML"),
        ("name: x\n\tseed: 3\n", "FILE:2:1: not valid YAML"),
        ("name: x\nname: y\n", "FILE:2: name: written twice, first on line 1"),
        ("name: x\nseed: &s 3\ntraining: {seed: *s}\n", "FILE:3:18: not valid YAML: aliases"),
        ("name: !!python/object:os.system x\n", "FILE:1:7: not valid YAML: could not determine"),
        ("seed: 3\n", "name: is required"),
        ("name: x\nmix: {max_rows: .inf}\n", "FILE:2: mix.max_rows: should be a valid integer"),
        ("name: x\nmix: {laundering: .nan}\n", "FILE:2: mix.laundering: should be"),
        ("name: x\nteacher: {events_per_party: 40}\n", "FILE:2: teacher: events_per_party 40 is above"),
        ("name: x\ndistillation: {relation_heads: 5}\n", "does not divide the teacher's width 64"),
        ("name: x\nperturbations: [{name: amount_jiter}]\n", "unknown perturbation 'amount_jiter'"),
        ("name: x\nperturbations: [{name: delay, with: {hour: 1}}]\n", "FILE:2: perturbations.0.with: Delay.hour"),
        ("name: x\ndistillation: {terms: []}\n", "no term that trains the score"),
        (
            "name: x\ndistillation: {terms: [{name: labels, weight: 1}, {name: labels, weight: 1}]}\n",
            "named more than once: labels",
        ),
        (
            "name: x\ndistillation: {temperature: {schedule: rising, start: 9}}\n",
            "8.0 is below the start 9.0",
        ),
        (
            "name: x\ndistillation: {temperature: {schedule: annealed, start: 5}}\n",
            "8.0 is above the start 5.0",
        ),
        (
            "name: x\ndistillation: {temperature: {schedule: learned, start: 1}}\n",
            "the start 1.0 is not between 1 and 8.0",
        ),
        ("name: x\ndistillation: {mixup: 0.2}\n", "leave out attention_relations"),
        (
            "name: x\ndistillation: {stages: output_intermediate_adversarial}\n",
            "the adversarial stage needs a share above 0",
        ),
        (
            "name: x\ndistillation: {terms: [{name: non_target, weight: 1}]}\n",
            "non_target is degenerate: of two classes",
        ),
        (
            "name: x\ndistillation: {terms: [{name: logits, weight: 1, form: mse}]}\n",
            "mse is none of the term's forms",
        ),
        (
            "name: x\ndistillation: {preset: soft_and_hard, terms: [{name: logits, weight: 1}]}\n",
            "preset soft_and_hard and other terms are both stated",
        ),
        (
            "name: x\ndistillation: {temperature: {schedule: rising, after_epoch: 6}}\n",
            "the temperature would never move",
        ),
        (
            "name: x\nstudent_training: {epochs: 2}\ndistillation: {stages: feature_attention_logits}\n",
            "three stages need 3 epochs",
        ),
        ("name: x\nboosted_trees: {candidates: []}\n", "at least one candidate"),
        ("name: x\nevaluation: {budgets: [0.01, 0.001]}\n", "each above the one before"),
        ("name: x\nserving: {hold_budget: 0.01}\n", "above the review budget"),
        ("name: x\nstudent_training: {mixup: 0.2}\n", "set them under training, for the teacher"),
        ("name: x\ntraining: {adversarial: 1.5}\n", "FILE:2: training.adversarial"),
        ("name: x\ntraining: {curriculum: easy_first}\n", "set it under student_training"),
        ("name: x\nphases: {general: 1.0, domain: 0.0, alignment: 0.0}\n", "learns nothing of laundering"),
        ("name: x\nperturbations: []\n", "none, but mix.synthetic is 0.05"),
        ("name: x\nsource: {format: mapping}\n", "a mapping file and 'format: mapping' need each other"),
        ("name: ../x\n", "FILE:1: name: String should match"),
        ("3: x\nname: y\n", "FILE:1: 3:"),
        ("teacher: 3\nname: y\n", "FILE:1: teacher: should be a valid dictionary"),
    ],
)
def test_mistake_is_named(write: Callable[[str], Path], text: str, mistake: str) -> None:
    found = mistakes_in(write(text))
    assert len(found) == 1
    assert mistake in found[0]


def test_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    assert "no such file" in mistakes_in(tmp_path / "absent.yaml")[0]
    assert "cannot be read" in mistakes_in(tmp_path)[0]
    (tmp_path / "latin.yaml").write_bytes(b"name: caf\xe9\n")
    assert "not UTF-8" in mistakes_in(tmp_path / "latin.yaml")[0]


def test_overrides_reach_sections_list_items_and_defaults(write: Callable[[str], Path]) -> None:
    path = write("name: x\nboosted_trees: {candidates: [{rounds: 10}]}\n")
    config = load_config(
        path,
        [
            "seed=9",
            "boosted_trees.candidates.0.num_leaves=7",
            "distillation.terms.0.weight=0.9",
            "perturbations.1.with.max_hours=1e-1",
            "training={epochs: 2}",
            "training.patience=1",
        ],
    )
    assert config.seed == config.training.seed == 9
    assert (config.boosted_trees.candidates[0].rounds, config.boosted_trees.candidates[0].num_leaves) == (
        10,
        7,
    )
    assert [term.weight for term in config.distillation.terms] == [0.9, 0.3, 0.1, 0.1]
    assert config.perturbations[1].parameters["max_hours"] == 0.1
    assert (config.training.epochs, config.training.patience) == (2, 1)


def test_wrong_overrides_are_reported_beside_the_files_mistakes(write: Callable[[str], Path]) -> None:
    path = write("name: x\nteacher: {width: 0}\nboosted_trees: {candidates: [{}]}\n")
    found = mistakes_in(
        path,
        "seed",
        "seed=[",
        "name.first=x",
        "boosted_trees.candidates.4.rounds=1",
        "teacher.width=-2",
        "stuednt.width=3",
        "evaluation.fpr=2",
        "split.0=1",
    )
    assert found == [
        "--set seed: write it as key.key=value",
        "--set seed=[: the value is not valid YAML: expected the node content, but found '<stream end>'",
        "--set name.first=x: name is not a section",
        "--set boosted_trees.candidates.4.rounds=1: boosted_trees.candidates has 1 items, counted from 0",
        "--set split.0=1: split is not a list",
        "--set teacher.width=-2: teacher.width: should be greater than or equal to 1, is -2",
        "--set stuednt.width=3: stuednt: unknown key, did you mean 'student'?",
        "--set evaluation.fpr=2: evaluation.fpr: should be less than 1, is 2",
    ]


@given(st.floats(0.01, 0.97), st.floats(0.01, 0.97))
def test_split_is_accepted_exactly_when_it_makes_a_whole(train: float, validation: float) -> None:
    rest = 1 - train - validation
    data = {"name": "x", "split": {"train": train, "validation": validation, "test": rest}}
    if rest > 0:
        assert ExperimentConfig.model_validate(data).split.test == rest
    else:
        with pytest.raises(ValidationError):
            ExperimentConfig.model_validate(data)


@given(st.text(max_size=60))
def test_any_text_loads_or_is_explained(text: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "x.yaml")
        path.write_bytes(text.encode("utf-8", "surrogatepass"))
        with pytest.raises(ConfigError):
            load_config(path, [text])


def test_one_value_of_the_students_training_changes_that_value_alone() -> None:
    default, told = (
        ExperimentConfig.model_validate({"name": "x", "student_training": each}) for each in ({}, {"epochs": 8})
    )
    assert told.student_training == default.student_training.model_copy(update={"epochs": 8})


def test_a_student_that_reads_more_than_its_teacher_is_refused() -> None:
    with pytest.raises(ValidationError, match="above the teacher's 4"):
        ExperimentConfig.model_validate({"name": "x", "teacher": {"events_per_party": 4}})
