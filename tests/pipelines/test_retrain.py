"""Retraining whole, on a tiny bank: a challenger in shadow with its evidence, or nothing at all.

The champion is trained once; a retraining keeps its teacher, which is the quickest, and each test goes on from what
the one before has trained in the same folder, as a job that is started again does.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from tiny_bank import WORLD, Bank, settings
from tiny_runs import Epochs

from riskdistill.bundle import Bundle
from riskdistill.errors import BundleIncompatibleError, ConfigError, DataError, ReleaseError
from riskdistill.evaluation.gates import RETRAINING
from riskdistill.provenance import provenance_of
from riskdistill.storage.releases import ReleaseLog, State

WHO: dict[str, Any] = {"actor": "ann", "reason": "a test"}


def test_a_killed_retraining_registers_nothing_and_goes_on_to_a_challenger_in_shadow(
    bank: Bank, epochs: Epochs
) -> None:
    log = bank.log("killed")
    epochs.stop_at = ("student", 1)
    with pytest.raises(KeyboardInterrupt):
        bank.retrained(log)
    assert [release.state for release in log.list()] == [State.CHAMPION]

    epochs.stop_at, epochs.trained[:] = None, []
    result = bank.retrained(log, actor="nightly")
    assert epochs.trained == [("student", 1)]  # the teacher is kept, and the first epoch was done
    assert result.challenger is not None
    assert not result.failed
    assert log.challenger() == result.challenger
    registered, shadowed = log.history()[-2:]
    assert (registered.after, shadowed.after, shadowed.actor) == (State.REGISTERED, State.SHADOW, "nightly")
    told = shadowed.evidence[RETRAINING]
    assert told["champion"] == {"release": "r1", "bundle": bank.champion.version}
    assert [gate["name"] for gate in told["gates"]] == [gate.name for gate in result.gates]

    bundle = Bundle.load(Path(result.challenger.bundle_path))
    assert bundle.version == result.challenger.bundle_version
    origin = provenance_of(bundle)
    assert origin is not None
    assert (origin.parent, origin.mode, origin.retraining) == (bank.champion.version, "student", told["identity"])
    assert origin.config == settings()
    card = (bundle.path / "model_card.md").read_text()
    assert f"Retrained from bundle `{bank.champion.version}` (student)." in card

    epochs.trained.clear()
    again = bank.retrained(log)
    assert again == result
    assert epochs.trained == []
    assert len(log.history()) == 4


def test_the_gates_judge_on_what_neither_has_learned_from(bank: Bank) -> None:
    told = json.loads((bank.out / "retrained" / "retraining" / "gates.json").read_text())
    origin = provenance_of(bank.champion)
    assert origin is not None
    assert told["judged_on"]["from"] > origin.learned_until.isoformat()
    assert told["judged_on"]["laundering"] > 0
    analysis = json.loads((bank.out / "retrained" / "retraining" / "analysis.json").read_text())
    assert analysis["model"] == bank.champion.version
    assert told["emphasis"].keys() == {
        line["value"] for line in analysis["lines"] if line["slice"] == "typology" and line["recall"] < 1
    }
    page = (bank.out / "retrained" / "retraining" / "index.html").read_text()
    assert all(gate["name"] in page for gate in told["gates"])
    assert "http" not in page


def test_a_challenger_that_fails_a_gate_is_refused_by_name_and_leaves_the_log_as_it_was(
    bank: Bank, refused: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    log = bank.log("strict")
    config = bank.out / "strict.yaml"
    config.write_text(yaml.safe_dump(settings(size=0.01).model_dump(mode="json", exclude_unset=True)))
    url = f"sqlite:///{bank.out}/strict.db"
    folders = ("--input", bank.now, "--out", bank.out / "retrained")
    told = refused("retrain", "--releases", url, *folders, "--config", config)
    assert "the challenger is refused, and nothing is registered: size of the student" in told
    assert [release.state for release in log.list()] == [State.CHAMPION]
    assert "refused" in (bank.out / "retrained" / "retraining" / "index.html").read_text()


def test_without_a_champion_there_is_nothing_to_retrain(bank: Bank) -> None:
    with pytest.raises(ReleaseError, match="no release is champion"):
        bank.retrained(ReleaseLog(f"sqlite:///{bank.out}/empty.db"))


def test_a_bundle_that_does_not_name_its_experiment_needs_one(
    bank: Bank, tiny_bundle: Bundle, tmp_path: Path
) -> None:
    log = ReleaseLog(f"sqlite:///{tmp_path}/releases.db")
    release = log.register(tiny_bundle.path, tiny_bundle.version, **WHO)
    log.promote(release.release_id, **WHO, evidence={})
    with pytest.raises(BundleIncompatibleError, match="does not name its experiment"):
        bank.retrained(log)


def test_other_features_than_the_champion_s_are_refused(bank: Bank) -> None:
    other = settings().model_copy(update={"features": settings().features.model_copy(update={"max_hops": 3})})
    with pytest.raises(ConfigError, match="the champion's features are others"):
        bank.retrained(bank.log("features"), config=other)


def test_before_any_label_is_known_it_says_so(bank: Bank) -> None:
    with pytest.raises(DataError, match="no laundering is known at 2025-01-02"):
        bank.retrained(bank.log("early"), now=WORLD.start + timedelta(days=1))


def test_changes_without_an_experiment_are_refused(bank: Bank, refused: Callable[..., str]) -> None:
    bank.log("changes").close()
    folders = ("--input", bank.now, "--out", bank.out / "retrained")
    told = refused("retrain", "--releases", f"sqlite:///{bank.out}/changes.db", *folders, "--set", "seed=3")
    assert told.startswith("--set: there is nothing to change")


def test_a_moment_without_an_offset_is_refused_as_by_other_commands(
    tmp_path: Path, refused: Callable[..., str]
) -> None:
    folders = ("--input", tmp_path, "--out", tmp_path / "retrained")
    told = refused("retrain", "--releases", f"sqlite:///{tmp_path}/no.db", *folders, "--now", "2025-03-01")
    assert told.startswith("--now: it says no offset from UTC")
