"""Alert rules and dashboard: they name what exists, every metric is in one of them, and each alert fires when it should."""

import re
import subprocess
from pathlib import Path

import pytest
import yaml

from docs.pages import dashboard
from docs.pages.metrics import ALL
from stockworker.adapters.metric import MetricKind
from tests.harness.promtool import PROMTOOL

ROOT = Path(__file__).resolve().parents[2]
RULES = ROOT / "etc" / "prometheus" / "stockworker.rules.yml"
SCENARIOS = Path(__file__).with_name("alert_scenarios.yml")
GUIDE = (ROOT / "docs" / "monitoring.md").read_text()
PARTS = ("_bucket", "_count", "_sum")


def alerts() -> dict[str, str]:
    """The expression of each alert."""
    (group,) = yaml.safe_load(RULES.read_text())["groups"]
    return {rule["alert"]: rule["expr"] for rule in group["rules"]}


def expressions() -> list[str]:
    return [*alerts().values(), *(query for panel in dashboard.PANELS for query in panel.queries.values())]


def named(expression: str) -> set[str]:
    """The metrics of an expression; a pattern of names counts as all metrics that it matches."""
    patterns = re.findall(r'__name__=~"([^"]*)"', expression)
    names = set(re.findall(r"\bstockworker_\w+", re.sub(r'"[^"]*"', "", expression)))
    return names | {metric.name for metric in ALL for pattern in patterns if re.fullmatch(pattern, metric.name)}


def test_rules_and_dashboard_name_metrics_that_exist() -> None:
    known = {metric.name for metric in ALL if metric.kind is not MetricKind.HISTOGRAM}
    known |= {f"{metric.name}{part}" for metric in ALL if metric.kind is MetricKind.HISTOGRAM for part in PARTS}
    assert {name for expression in expressions() for name in named(expression)} - known == set()


def test_every_metric_is_in_the_rules_or_in_the_dashboard() -> None:
    used = {re.sub(r"_bucket$", "", name) for expression in expressions() for name in named(expression)}
    assert {metric.name for metric in ALL} - used == set()


def test_labels_in_expressions_are_labels_of_metrics() -> None:
    labels = {label for metric in ALL for label in metric.labels} | {"le"}
    asked = {
        label
        for expression in expressions()
        for group in re.findall(r"\b(?:by|on) \(([^)]*)\)", expression)
        for label in re.findall(r"\w+", group)
    }
    assert asked - labels == set()


def test_the_names_follow_the_conventions() -> None:
    for metric in ALL:
        assert metric.name.endswith("_total") == (metric.kind is MetricKind.COUNTER), metric.name
        assert metric.meaning.endswith("."), metric.name
    assert len({metric.name for metric in ALL}) == len(ALL)


@pytest.mark.parametrize("alert", alerts())
def test_the_guide_says_what_to_do_about_an_alert(alert: str) -> None:
    assert f"| `{alert}` |" in GUIDE


def test_each_alert_has_a_scenario() -> None:
    cases = [case for test in yaml.safe_load(SCENARIOS.read_text())["tests"] for case in test["alert_rule_test"]]
    fires = {case["alertname"] for case in cases if case.get("exp_alerts")}
    silent = {case["alertname"] for case in cases if not case.get("exp_alerts")}
    assert (fires, silent) == (set(alerts()), set(alerts()))


def test_the_tool_of_prometheus_accepts_rules_and_scenarios(tmp_path: Path) -> None:
    scenarios = tmp_path / "scenarios.yml"
    scenarios.write_text(SCENARIOS.read_text().replace("RULES", str(RULES)))
    for command in (["check", "rules", str(RULES)], ["test", "rules", str(scenarios)]):
        done = subprocess.run([PROMTOOL, *command], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
