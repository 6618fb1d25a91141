"""ops/: alert rules, runbook and dashboard hold together with the metrics there are, by promtool and by name."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from fix_prometheus import promtool
from floodmark.metrics import catalogue

ROOT = Path(__file__).parents[2]
RULES = ROOT / "ops/prometheus/alerts.yml"
RUNBOOK = (ROOT / "ops/runbook.md").read_text(encoding="utf-8")
DASHBOARD = json.loads((ROOT / "ops/grafana/dashboard.json").read_text(encoding="utf-8"))
METRICS = (ROOT / "docs/metrics.md").read_text(encoding="utf-8")
ALERTS = {rule["alert"]: rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]}
BY_NAME = {metric.name: metric for metric in catalogue.ALL}
# What Prometheus and Kubernetes add to every series, and the exporter if it is asked to.
ADDED = {"namespace", "instance", "job", "pod", "state_url"}
ENTRY_PARTS = ("**Symptom.**", "**Meaning.**", "**Check.**", "**Fix.**", "**Escalate.**")


def panels() -> Iterator[dict[str, Any]]:
    yield from (panel for panel in DASHBOARD["panels"] if panel["type"] != "row")


QUERIES = [
    *((f"alert {name}", rule["expr"]) for name, rule in ALERTS.items()),
    *((f"panel {one['title']}", target["expr"]) for one in panels() for target in one["targets"]),
    *((f"docs {number}", text) for number, text in enumerate(re.findall(r"```promql\n(.*?)\n```", METRICS, re.DOTALL))),
]


def used(expression: str) -> Iterator[tuple[str, set[str]]]:
    """Each metric a query names, with the labels it selects by."""
    for name, selector in re.findall(r"\b(floodmark_\w+)(?:\{([^}]*)\})?", expression):
        yield name, set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", selector))


def grouped(expression: str) -> set[str]:
    """Every label that a query groups or matches by."""
    lists = re.findall(r"\b(?:by|on|ignoring|without)\s*\(([^)]*)\)", expression)
    return {label.strip() for text in lists for label in text.split(",")}


@pytest.mark.parametrize(("where", "expression"), QUERIES, ids=[where for where, _ in QUERIES])
def test_every_query_names_metrics_and_labels_that_exist(where: str, expression: str) -> None:
    found = list(used(expression))
    assert found, "a query about nothing of ours"
    for name, labels in found:
        assert name in BY_NAME, f"{where} asks for {name}, which does not exist"
        assert labels <= {*BY_NAME[name].labels, *ADDED}, f"{where} selects {name} by a label it does not have"
    some = {label for name, _ in found for label in BY_NAME[name].labels}
    assert grouped(expression) <= some | ADDED


def test_every_query_is_one_that_prometheus_understands(tmp_path: Path) -> None:
    """As rules, so that the server's own parser reads them; what Grafana fills in is filled in."""
    rules = [
        {"record": f"try:{number}", "expr": re.sub(r"\$\w+", "x", expression)}
        for number, (_, expression) in enumerate(QUERIES)
    ]
    file = tmp_path / "rules.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "all", "rules": rules}]}))
    assert f"{len(QUERIES)} rules found" in promtool("check", "rules", str(file))


def test_the_dashboard_asks_what_a_legend_needs() -> None:
    """A legend shows only labels that the query's result can have."""
    for panel in panels():
        for target in panel["targets"]:
            shown = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
            some = {label for name, _ in used(target["expr"]) for label in BY_NAME[name].labels}
            kept = grouped(target["expr"]) or some | ADDED
            assert shown <= kept, f"{panel['title']}: {shown - kept}"


def test_the_dashboard_is_whole() -> None:
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    asked = {name for panel in panels() for target in panel["targets"] for name, _ in used(target["expr"])}
    for name in ("snapshot_timestamp_seconds", "run_duration_seconds", "table_rows", "table_bytes", "table_reason"):
        assert f"floodmark_{name}" in asked
    for variable in DASHBOARD["templating"]["list"]:
        for name, _ in used(str(variable["query"])):
            assert name in BY_NAME


def test_the_rules_are_accepted() -> None:
    assert f"{len(ALERTS)} rules found" in promtool("check", "rules", str(RULES))


def test_the_rules_do_as_their_cases_say() -> None:
    assert "SUCCESS" in promtool("test", "rules", str(RULES.with_name("alerts_test.yml")))


def test_each_alert_has_a_case_in_which_it_fires() -> None:
    cases = yaml.safe_load(RULES.with_name("alerts_test.yml").read_text())["tests"]
    fired = {
        name
        for case in cases
        for check in case["promql_expr_test"]
        for sample in check["exp_samples"]
        for name in re.findall(r'alertname="(\w+)"', sample["labels"])
    }
    assert fired == set(ALERTS)


@pytest.mark.parametrize("name", ALERTS)
def test_each_alert_leads_to_an_entry_that_can_be_followed(name: str) -> None:
    annotations = ALERTS[name]["annotations"]
    assert annotations["runbook_url"].endswith(f"/runbook.md#{name.lower()}")
    assert ALERTS[name]["labels"]["severity"] in ("critical", "warning", "info")
    entry = RUNBOOK.split(f"\n## {name}\n")[1].split("\n## ")[0]
    at = [entry.index(part) for part in ENTRY_PARTS]
    assert at == sorted(at)
    assert "`" in entry.split("**Check.**")[1].split("**Fix.**")[0], "a check without a command"


def test_no_entry_is_about_an_alert_that_is_not() -> None:
    assert re.findall(r"^## (\w+)$", RUNBOOK, re.MULTILINE) == list(ALERTS)
