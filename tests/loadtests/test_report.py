"""What the bench and the load test leave behind."""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from loadtests import bench
from loadtests.charts import Chart
from loadtests.crowd import SALE, STOCK, Target, sale_document
from loadtests.report import Report, row
from persistence import salefile
from sandbox.stack import RunningStack, hold_data_dir

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("goal", "values", "met"),
    [
        (">= 1.2", [1.1, 1.3, 1.2], True),
        (">= 1.2", [1.1, 1.3, 1.19], False),
        (">= 10,000", [9_999.0], False),
        ("<= 2", [2.0], True),
        ("< 1", [1.0], False),
        ("= 500", [500.0], True),
        ("", [1.0], None),
    ],
)
def test_the_median_is_held_against_the_goal(goal: str, values: list[float], met: bool | None) -> None:
    assert row("x", values, goal=goal).met is met


def test_a_row_shows_median_and_spread() -> None:
    assert row("x", [12345.6, 9000.0, 15000.0], unit="/s").shown == "12,346 /s (9,000 to 15,000)"
    assert row("x", [0.0325], unit="s").shown == "0.0325 s"


def test_the_report_is_json_a_table_and_charts(tmp_path: Path) -> None:
    chart = Chart(name="lag", title="Lag <p99>", x="s", y="s", lines={"a & b": [(0.0, 0.1), (10.0, 0.3)]})
    report = Report(quick=True, rounds=1, rows=[row("holds", [1.5], goal=">= 1.2")], broken=["a thing"], charts=[chart])
    report.write(tmp_path)
    written = json.loads((tmp_path / "bench.json").read_text())
    assert written["rows"][0] | {"met": True, "goal": ">= 1.2"} == written["rows"][0]
    assert written["broken"] == ["a thing"]
    table = (tmp_path / "bench.md").read_text()
    assert "| holds | >= 1.2 | 1.5 | met |  |" in table
    assert "![Lag <p99>](lag.svg)" in table
    ET.parse(tmp_path / "lag.svg")


@pytest.mark.parametrize("points", [[], [(1.0, 0.0)], [(1.0, 5.0), (4.0, 50.0), (256.0, 12_000.0)]])
def test_every_chart_can_be_drawn(points: list[tuple[float, float]], tmp_path: Path) -> None:
    chart = Chart(name="c", title="c", x="x", y="y", lines={"line": points}, log_x=True)
    chart.write(tmp_path)
    drawn = (tmp_path / "c.svg").read_bytes()
    ET.fromstring(drawn)
    chart.write(tmp_path)
    assert (tmp_path / "c.svg").read_bytes() == drawn, "the same figures are no change"


def test_an_unknown_figure_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert bench.main(["--only", "speed"]) == 2
    assert "no such figure: speed" in capsys.readouterr().err


def test_the_crowds_sale_is_a_sale_file() -> None:
    file = salefile.parse(json.dumps(sale_document()).encode(), format="json")
    assert file.id == SALE
    assert {product.id: product.stock for product in file.products} == STOCK


def test_the_crowd_finds_the_stack_that_runs_here(tmp_path: Path) -> None:
    assert Target.find({"FLASHSALE_DATA_DIR": str(tmp_path)}, tmp_path) == Target()
    with hold_data_dir(tmp_path / ".flashsale") as data_dir:
        data_dir.announce(
            RunningStack(
                data_dir=str(data_dir.path),
                stripe_api_base="http://127.0.0.1:1",
                stripe_secret_key="sk_test_a",
                stripe_webhook_secret="whsec_a",
            ),
            {"XDG_STATE_HOME": str(tmp_path)},
        )
        found = Target.find({"XDG_STATE_HOME": str(tmp_path)}, tmp_path)
    assert found == Target(stripe_url="http://127.0.0.1:1", publishable_key="pk_test_a", webhook_secret="whsec_a")
    assert Target.find(found.environment(), tmp_path) == found


@pytest.mark.slow
def test_locust_finds_the_crowd() -> None:
    """In a process of its own: importing locust patches sockets."""
    argv = [sys.executable, "-m", "locust", "-f", str(ROOT / "loadtests" / "locustfile.py"), "--list"]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    listed = subprocess.run(argv, env=env, capture_output=True, text=True, check=True).stdout.split()
    assert {"InTheRush", "Buying", "Abandoning", "TooLate", "Webhooks"} <= set(listed)


def test_production_imports_none_of_this() -> None:
    for package in ("lua", "engine", "persistence", "payments", "workers", "api", "cli", "sandbox"):
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
                assert not any(name.split(".")[0] == "loadtests" for name in names), path
