"""What operators are given keeps in step: dashboards with their code, alerts with their pages."""

from __future__ import annotations

import json
from pathlib import Path

import yaml

from deploy.grafana.generate import FOLDER, dashboards

DEPLOY = Path(__file__).parents[2] / "deploy"


def alerts() -> list[dict[str, object]]:
    rules = yaml.safe_load((DEPLOY / "prometheus/rules.yml").read_text())
    return [rule for group in rules["groups"] for rule in group["rules"] if "alert" in rule]


def test_the_committed_dashboards_are_what_the_code_makes() -> None:
    committed = {path.name: path.read_text() for path in FOLDER.iterdir()}
    assert committed == dashboards(), "run python -m deploy.grafana.generate"


def test_each_panel_has_a_number_and_a_place_of_its_own() -> None:
    for name, text in dashboards().items():
        panels = json.loads(text)["panels"]
        assert [panel["id"] for panel in panels] == list(range(1, len(panels) + 1)), name
        taken: set[tuple[int, int]] = set()
        for panel in panels:
            at = panel["gridPos"]
            cells = {
                (x, y)
                for x in range(at["x"], at["x"] + at["w"])
                for y in range(at["y"], at["y"] + at["h"])
            }
            assert max(x for x, _ in cells) < 24, (name, panel["title"])
            assert not cells & taken, (name, panel["title"])
            taken |= cells


def test_each_alert_has_its_page_and_each_page_its_alert() -> None:
    named = {alert["annotations"]["runbook"] for alert in alerts()}  # type: ignore[index]
    assert named == {f"deploy/runbooks/{alert['alert']}.md" for alert in alerts()}
    pages = (DEPLOY / "runbooks").glob("*.md")
    assert {f"deploy/runbooks/{page.name}" for page in pages} == named


def test_each_alert_is_seen_to_fire_and_to_stay_silent() -> None:
    well, broken = yaml.safe_load((DEPLOY / "prometheus/rules_test.yml").read_text())["tests"]
    names = {alert["alert"] for alert in alerts()}
    assert {case["alertname"] for case in well["alert_rule_test"]} == names
    assert not any(case.get("exp_alerts") for case in well["alert_rule_test"])
    assert {case["alertname"] for case in broken["alert_rule_test"] if case["exp_alerts"]} == names
