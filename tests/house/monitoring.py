"""What the monitoring files say: alerts, panels, and what their expressions ask for."""

import json
import re
from collections.abc import Iterator
from functools import cache
from typing import Any

import promql_parser
import yaml

from tests.house.paths import ROOT

FOLDER = ROOT / "monitoring"
INTERVAL = re.compile(r"\$__rate_interval")
VARIABLE = re.compile(r"\$\w+")


@cache
def alerts() -> list[dict[str, Any]]:
    groups = yaml.safe_load((FOLDER / "alerts.yaml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


@cache
def dashboard() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((FOLDER / "dashboard.json").read_text())
    return found


def panels() -> list[dict[str, Any]]:
    return [panel for panel in dashboard()["panels"] if panel["type"] != "row"]


def expressions() -> Iterator[tuple[str, str]]:
    """Where each expression stands, and the expression as Prometheus gets it."""
    for rule in alerts():
        yield rule["alert"], rule["expr"]
    for panel in panels():
        for target in panel["targets"]:
            yield panel["title"], VARIABLE.sub(".*", INTERVAL.sub("1m", target["expr"]))


def selectors(expression: Any) -> Iterator[tuple[str, dict[str, tuple[str, str]]]]:
    """The name and the matchers (label -> operator and value) of each metric that an expression reads."""
    if isinstance(expression, promql_parser.VectorSelector):
        matchers = expression.matchers.matchers
        yield expression.name or "", {each.name: (str(each.op), each.value) for each in matchers}
    for name in ("lhs", "rhs", "expr", "vector_selector"):
        if (part := getattr(expression, name, None)) is not None:
            yield from selectors(part)
    for part in getattr(expression, "args", None) or ():
        yield from selectors(part)


def read() -> Iterator[tuple[str, str, dict[str, tuple[str, str]]]]:
    """Every metric that is asked for: where, its name, its matchers."""
    for where, text in expressions():
        for name, matchers in selectors(promql_parser.parse(text)):
            yield where, name, matchers
