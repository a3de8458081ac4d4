"""Alerts and dashboard: each expression parses, each alert says how bad it is, what it is and where its runbook is,
and promtool agrees where it is installed.
"""

import shutil
import subprocess

import promql_parser
import pytest
import yaml

from tests.docs.pages import page, sections
from tests.house.monitoring import FOLDER, alerts, dashboard, expressions, panels
from tests.house.paths import ROOT

promtool = pytest.mark.skipif(not shutil.which("promtool"), reason="promtool (Debian: prometheus) is not here")


@pytest.mark.parametrize(("where", "text"), [*expressions()], ids=lambda value: value[:40])
def test_every_expression_parses(where: str, text: str) -> None:
    promql_parser.parse(text)


@pytest.mark.parametrize("alert", alerts(), ids=lambda alert: alert["alert"])
def test_every_alert_says_how_bad_what_and_what_to_do(alert: dict[str, dict[str, str]]) -> None:
    assert alert["labels"]["severity"] in {"critical", "warning"}
    assert alert["annotations"]["summary"]
    path, _, anchor = alert["annotations"]["runbook_url"].partition("#")
    assert path == "docs/runbooks.md"
    assert anchor == str(alert["alert"]).lower()
    text = sections(page("runbooks.md"), 3)[str(alert["alert"])]
    assert "\n- Look" in text
    assert "ype: " in text, "what to do is missing"


def test_every_alert_has_one_runbook_and_every_runbook_an_alert() -> None:
    names = [alert["alert"] for alert in alerts()]
    assert names == list(sections(sections(page("runbooks.md"), 2)["During a sale"], 3))


def test_the_dashboard_can_be_loaded() -> None:
    every = dashboard()["panels"]
    assert len({panel["id"] for panel in every}) == len(every)
    assert [each["name"] for each in dashboard()["templating"]["list"]] == ["datasource", "sale"]
    places: set[tuple[int, int]] = set()
    for panel in panels():
        assert panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"]
        assert panel["datasource"]["uid"] == "${datasource}"
        for target in panel["targets"]:
            assert target["datasource"]["uid"] == "${datasource}"
        at = panel["gridPos"]
        cells = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
        assert not cells & places, f"{panel['title']} lies on another"
        assert at["x"] + at["w"] <= 24
        places |= cells


def test_prometheus_and_grafana_are_given_files_that_exist() -> None:
    prometheus = yaml.safe_load((FOLDER / "prometheus.yaml").read_text())
    assert all((FOLDER / name).exists() for name in prometheus["rule_files"])
    [job] = prometheus["scrape_configs"]
    jobs = {alert["expr"] for alert in alerts() if "up{" in alert["expr"]}
    assert jobs
    assert all(f'job="{job["job_name"]}"' in expression for expression in jobs)


@promtool
def test_promtool_takes_the_rules_and_their_own_tests_pass() -> None:
    for arguments in (
        ["check", "rules", "alerts.yaml"],
        ["check", "config", "--syntax-only", "prometheus.yaml"],
        ["test", "rules", "alerts.test.yaml"],
    ):
        done = subprocess.run(
            ["promtool", *arguments], cwd=ROOT / "monitoring", capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
