"""The bench's results: one row a figure, as JSON, as a Markdown table and as a table on the terminal."""

import json
import os
import platform
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from operator import eq, ge, le, lt
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from loadtests.charts import Chart
from loadtests.stats import Spread

_COMPARE: Final[dict[str, Callable[[float, float], bool]]] = {">=": ge, "<=": le, "<": lt, "=": eq}


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """``goal`` as ``>= 1.2``, empty for what is only told. ``measured`` has the rounds' median, lowest and highest."""

    name: str
    measured: Spread
    unit: str = ""
    goal: str = ""
    detail: str = ""
    figures: dict[str, Any] = field(default_factory=dict)

    @property
    def met(self) -> bool | None:
        """Whether the median reaches the goal; None where there is none."""
        if not self.goal:
            return None
        sign, _, number = self.goal.partition(" ")
        return _COMPARE[sign](self.measured.median, float(number.replace(",", "")))

    @property
    def verdict(self) -> str:
        return {True: "met", False: "missed", None: ""}[self.met]

    @property
    def shown(self) -> str:
        low, high = _number(self.measured.low), _number(self.measured.high)
        spread = f" ({low} to {high})" if low != high else ""
        return f"{_number(self.measured.median)}{self.unit and ' ' + self.unit}{spread}"


@dataclass(slots=True)
class Report:
    """All rows, what broke on the way, and the charts."""

    quick: bool
    rounds: int
    rows: list[Row] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    charts: list[Chart] = field(default_factory=list)
    began: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))

    def write(self, folder: Path) -> None:
        """``bench.json``, ``bench.md`` and one SVG a chart."""
        folder.mkdir(parents=True, exist_ok=True)
        rows = [asdict(row) | {"measured": row.measured._asdict(), "met": row.met} for row in self.rows]
        document = {
            "began": self.began,
            "machine": _machine(),
            "quick": self.quick,
            "rounds": self.rounds,
            "broken": self.broken,
            "rows": rows,
        }
        (folder / "bench.json").write_text(json.dumps(document, indent=2) + "\n")
        (folder / "bench.md").write_text(self._markdown())
        for chart in self.charts:
            chart.write(folder)

    def print(self) -> None:
        table = Table(box=None, header_style="bold", pad_edge=False)
        for column in ("figure", "goal", "measured", "", "detail"):
            table.add_column(column, overflow="fold")
        for row in self.rows:
            table.add_row(row.name, row.goal, row.shown, row.verdict, row.detail)
        console = Console(width=None if os.isatty(1) else 200, highlight=False, markup=False)
        console.print(table)
        for line in self.broken:
            console.print(f"BROKEN: {line}")

    def _markdown(self) -> str:
        head = [
            f"Measured {self.began} on {_machine()}; {self.rounds} rounds{', quick' if self.quick else ''}: median",
            "(lowest to highest).",
            "",
            "| figure | goal | measured | | how |",
            "| --- | --- | --- | --- | --- |",
        ]
        lines = [f"| {row.name} | {row.goal} | {row.shown} | {row.verdict} | {row.detail} |" for row in self.rows]
        broken = ["", "Broken on the way:", *(f"- {line}" for line in self.broken)] if self.broken else []
        charts = [f"![{chart.title}]({chart.name}.svg)" for chart in self.charts]
        return "\n".join([*head, *lines, *broken, "", *charts]).rstrip() + "\n"


def row(name: str, values: Sequence[float], **more: Any) -> Row:
    """A row of several rounds' values."""
    return Row(name=name, measured=Spread.of(values), **more)


def _number(value: float) -> str:
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.0f}" if value == int(value) else f"{value:.3g}" if value < 100 else f"{value:.0f}"


def _machine() -> str:
    return f"{os.cpu_count()} cores ({platform.machine()}), {platform.system()}, Python {platform.python_version()}"
