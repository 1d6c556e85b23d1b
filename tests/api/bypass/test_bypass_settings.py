"""The file of the bypass: defaults that change nothing, and every mistake on its line."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from api.bypass.settings import BypassSettings, read_bypass
from riskdistill.errors import ConfigError

WHOLE = """
policies:
  above_threshold: true
  uncertain: false
  amount_usd: 50000
  countries: [KP, NO]
  payment_formats: [Bitcoin]
  customer_classes: {file: classes.csv, classes: [pep]}
  sample: 0.001
budget: {share: 0.02, per_second: 50, burst: 20}
breaker: {failures: 3, pause_seconds: 10}
teacher:
  open_inference: {url: "https://teacher.example:8443/", model: event-teacher, ca_file: ca.pem}
  calls_at_once: 8
  calls_waiting: 16
  cost_per_call: 0.002
fallback: cheap
fallback_of: {amount: safe, country: safe}
"""


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str], Path]:
    def write(text: str) -> Path:
        path = tmp_path / "bypass.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def test_without_a_file_the_bundle_s_thresholds_and_teacher_are_used_and_the_student_s_score_stands() -> None:
    settings = read_bypass(None)
    assert settings == BypassSettings()
    assert (settings.policies.above_threshold, settings.policies.uncertain) == (True, True)
    assert settings.policies.sample is settings.budget.share is settings.budget.per_second is None
    assert settings.teacher.riskdistill is settings.teacher.open_inference is None
    assert not settings.is_safe(("above_threshold", "uncertain"))


def test_a_whole_file_is_read_with_norway_as_a_country(write: Callable[[str], Path]) -> None:
    settings = read_bypass(write(WHOLE))
    assert settings.policies.countries == {"KP", "NO"}
    assert settings.policies.payment_formats == {"bitcoin"}
    assert settings.teacher.open_inference is not None
    assert settings.teacher.open_inference.url == "https://teacher.example:8443"
    assert settings.is_safe(("uncertain", "amount"))
    assert not settings.is_safe(("uncertain", "sampled"))


def test_the_file_in_the_manual_is_read_and_states_the_defaults_that_it_says(write: Callable[[str], Path]) -> None:
    manual = (Path(__file__).parents[3] / "docs" / "service.md").read_text(encoding="utf-8")
    (text,) = re.findall(r"^    policies: .*?^    fallback_of: .*?$", manual, re.DOTALL | re.MULTILINE)
    settings = read_bypass(write(textwrap.dedent(text)))
    assert settings.breaker == BypassSettings().breaker
    assert settings.fallback == BypassSettings().fallback
    assert settings.is_safe(("amount",))
    assert settings.policies.customer_classes is not None


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("policys: {}\n", "FILE:1: policys: unknown key, did you mean 'policies'?"),
        ("policies:\n  amount: 5\n", "FILE:2: policies.amount: unknown key, did you mean 'amount_usd'?"),
        ("policies:\n  sample: 1.5\n", "FILE:2: policies.sample: should be less than or equal to 1, is 1.5"),
        ("policies: {countries: [Norway]}\n", "FILE:1: policies.countries.0: "),
        ("policies: {customer_classes: {file: a.csv, classes: []}}\n", "policies.customer_classes.classes: "),
        ("budget: {share: 0}\n", "budget.share: should be greater than 0, is 0"),
        ("budget: {burst: 2.5}\n", "budget.burst: "),
        ("breaker: {failures: 0}\n", "breaker.failures: should be greater than or equal to 1, is 0"),
        ("fallback: safest\n", "FILE:1: fallback: should be 'cheap' or 'safe', is 'safest'"),
        ("fallback_of: {sampled: safe}\n", "the student decides on what is sampled"),
        ("fallback_of: {amuont: safe}\n", "fallback_of.amuont"),
        ("teacher: {open_inference: {url: 'http://teacher.example'}}\n", "must be https"),
        ("teacher: {open_inference: {url: 'https://me:pa55@teacher.example'}}\n", "RISKDISTILL_TEACHER_KEY"),
        ("teacher: {open_inference: {url: 'file:///etc/passwd'}}\n", "must be the URL"),
        ("teacher: {open_inference: {url: 'https://t', model: '../admin'}}\n", "open_inference.model: "),
        ("teacher: {riskdistill: {url: 'https://t', model: other}}\n", "has one model"),
        ("teacher:\n  open_inference: {url: 'https://a'}\n  riskdistill: {url: 'https://b'}\n", "name one"),
        ("teacher: {cost_per_call: .nan}\n", "teacher.cost_per_call: "),
        ("", "is empty"),
    ],
)
def test_a_mistake_is_told_with_its_line_and_key(write: Callable[[str], Path], text: str, says: str) -> None:
    path = write(text)
    with pytest.raises(ConfigError) as caught:
        read_bypass(path)
    told = str(caught.value).replace(f"{path}:", "FILE:")
    assert says in told
    assert "pa55" not in told


@pytest.mark.parametrize("host", ["127.0.0.1:8", "localhost:8", "[::1]:8"])
def test_plain_http_is_taken_on_loopback(host: str) -> None:
    told = BypassSettings.model_validate(
        {"teacher": {"riskdistill": {"url": f"http://{host}"}}}
    ).teacher.riskdistill
    assert told is not None
    assert host in str(told.url)


def test_all_mistakes_are_told_at_once(write: Callable[[str], Path]) -> None:
    with pytest.raises(ConfigError) as caught:
        read_bypass(write("fallback: x\nbudget: {share: 2}\n"))
    assert len(str(caught.value).splitlines()) == 2


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"absent\.yaml: no such file"):
        read_bypass(tmp_path / "absent.yaml")
