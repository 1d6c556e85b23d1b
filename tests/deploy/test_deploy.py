"""What is deployed fits what the service is: metrics, settings, probes, and least rights."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from api.settings import ApiSettings
from api.telemetry.metrics import Metrics
from monitoring.watch_metrics import WatchMetrics

REPOSITORY = Path(__file__).parents[2]
DEPLOY = REPOSITORY / "deploy"
DASHBOARD = json.loads((DEPLOY / "grafana" / "riskdistill.json").read_text())
ALERTS = [
    rule
    for group in yaml.safe_load((DEPLOY / "prometheus" / "alerts.yaml").read_text())["groups"]
    for rule in group["rules"]
]
MANUAL = (REPOSITORY / "docs" / "operation.md").read_text()
QUERIES = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]
QUERIES += [alert["expr"] for alert in ALERTS]
_ENDS = {"counter": ("_total",), "histogram": ("_bucket", "_count", "_sum")}


def exposed() -> dict[str, set[str]]:
    """Every name that a query may use, and its labels."""
    found: dict[str, set[str]] = {}
    registries = Metrics().registry, WatchMetrics().registry
    for collector in {one for registry in registries for one in registry._collector_to_names}:
        (family,) = collector.describe()  # type: ignore[attr-defined]
        labels = set(collector._labelnames)  # type: ignore[attr-defined]
        for end in _ENDS.get(family.type, ("",)):
            found[f"{family.name}{end}"] = labels | ({"le"} if end == "_bucket" else set())
    return found


def used(query: str) -> Iterator[tuple[str, set[str]]]:
    """The metrics in a query, each with the labels that it selects by."""
    for name, labels in re.findall(r"(riskdistill_\w+)(?:\{([^}]*)\})?", query):
        yield name, set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", labels))


@pytest.mark.parametrize("query", QUERIES)
def test_every_metric_and_label_of_a_query_is_exposed(query: str) -> None:
    known = exposed()
    for name, labels in used(query):
        assert name in known, f"no metric is {name}"
        assert labels <= known[name]
    if groups := re.findall(r"by \(([^)]*)\)", query):
        by = {label.strip() for group in groups for label in group.split(",")}
        assert by <= set().union(*(known[name] for name, _ in used(query)))


def test_the_comparison_would_notice_a_metric_that_is_not_there() -> None:
    assert dict(used('sum(rate(riskdistill_nonsense_total{route="x"}[5m]))')) == {
        "riskdistill_nonsense_total": {"route"}
    }
    assert "riskdistill_nonsense_total" not in exposed()


def test_names_and_units_are_those_that_prometheus_recommends() -> None:
    for name in exposed():
        assert name.startswith("riskdistill_")
        assert not re.search(r"(_ms|millis|minutes)", name)


def test_the_manual_says_what_each_metric_and_alert_means() -> None:
    for name in exposed():
        base = re.sub(r"_(bucket|count|sum)$", "", name)
        assert f"`{base}`" in MANUAL, f"docs/operation.md does not tell of {base}"
    for alert in ALERTS:
        assert f"`{alert['alert']}`" in MANUAL
        assert alert["annotations"]["summary"]
        assert alert["labels"]["severity"] in {"page", "ticket"}


def test_panels_have_ids_and_places_of_their_own() -> None:
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    assert len({(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels}) == len(panels)
    assert all(panel["targets"] for panel in panels)


def settings_named(text: str) -> set[str]:
    return {name.lower() for name in re.findall(r"RISKDISTILL_([A-Z_]+)", text)}


@pytest.mark.parametrize(
    "file",
    [
        "Dockerfile",
        "docker-compose.yaml",
        "helm/riskdistill/values.yaml",
        "helm/riskdistill/templates/deployment.yaml",
    ],
)
def test_every_setting_that_is_given_exists(file: str) -> None:
    assert settings_named((DEPLOY / file).read_text()) <= set(ApiSettings.model_fields)


def test_the_image_runs_as_nobody_in_particular_and_stops_by_draining() -> None:
    text = (DEPLOY / "Dockerfile").read_text()
    last = text[text.rindex("FROM ") :]
    assert re.search(r"^USER 10001:10001$", last, re.M)
    assert "STOPSIGNAL SIGTERM" in last
    assert "/livez" in last
    assert "-slim" in last.splitlines()[0]


def test_compose_keeps_secrets_out_and_ports_on_this_machine() -> None:
    services = yaml.safe_load((DEPLOY / "docker-compose.yaml").read_text())["services"]
    assert set(services) == {"api", "postgres", "redis", "prometheus", "grafana"}
    for service in services.values():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
        for name, value in service.get("environment", {}).items():
            if "PASSWORD" in name or "KEY" in name:
                assert re.fullmatch(r"\$\{\w+:\?set it\}", value)
        for volume in service["volumes"]:
            source = volume.split(":")[0]
            assert not source.startswith("./") or (DEPLOY / source).exists()
    assert services["api"]["read_only"]
    assert services["api"]["cap_drop"] == ["ALL"]
    assert "noeviction" in services["redis"]["command"]
    grace = int(services["api"]["stop_grace_period"].removesuffix("s"))
    assert grace > 2 * ApiSettings.model_fields["drain_seconds"].default


def filled(template: str) -> list[dict[str, Any]]:
    """A template with `x` for whatever Helm would fill in, without the lines that only steer it."""
    lines = [line for line in template.splitlines() if not re.fullmatch(r"\s*\{\{-? ?(if|end|range).*\}\}", line)]
    return [one for one in yaml.safe_load_all(re.sub(r"\{\{.*?\}\}", " x", "\n".join(lines))) if one]


def test_the_chart_probes_and_confines_the_service() -> None:
    chart = DEPLOY / "helm" / "riskdistill"
    assert yaml.safe_load((chart / "Chart.yaml").read_text())["name"] == "riskdistill"
    values = yaml.safe_load((chart / "values.yaml").read_text())
    text = (chart / "templates" / "deployment.yaml").read_text()
    assert set(re.findall(r"\.Values\.(\w+)", text)) == set(values)
    (deployment,) = filled(text)
    pod = deployment["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"
    assert container["livenessProbe"]["httpGet"]["path"] == "/livez"
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["automountServiceAccountToken"] is False
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert values["resources"]["requests"]
    assert values["resources"]["limits"]["memory"]
    # what each pod would else have of its own, and lose: without one of them in the secret no container starts
    needed = {one["name"]: one["valueFrom"]["secretKeyRef"] for one in container["env"] if "valueFrom" in one}
    assert needed == {
        f"RISKDISTILL_{name}": {"name": "x", "key": f"RISKDISTILL_{name}"}
        for name in ("STATE", "DATABASE", "PSEUDONYM_KEY", "ANCHOR_KEY")
    }
    kinds = {one["kind"] for one in filled((chart / "templates" / "service.yaml").read_text())}
    assert kinds == {"Service", "PodDisruptionBudget"}
