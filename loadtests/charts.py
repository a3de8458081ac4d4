"""Line charts as SVG files."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.ticker import ScalarFormatter

Points = Sequence[tuple[float, float]]

_STYLE: Any = {
    "svg.fonttype": "none",  # text stays text, and the file small
    "svg.hashsalt": "flashsale",  # the same figures give the same file
    "font.family": "sans-serif",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "grid.color": "#d0d7de",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """``name`` is the file's. With ``log_x`` the x values are powers apart, as connections are."""

    name: str
    title: str
    x: str
    y: str
    lines: Mapping[str, Points]
    log_x: bool = False

    def write(self, folder: Path) -> None:
        """``{name}.svg``, with a white ground: it is read on dark pages too."""
        with mpl.rc_context(_STYLE):
            figure = Figure(figsize=(7.2, 3.6), layout="constrained", facecolor="white")
            axes = figure.add_subplot(title=self.title, xlabel=self.x, ylabel=self.y)
            for label, points in self.lines.items():
                axes.plot(
                    [x for x, _ in points], [y for _, y in points], label=label, marker="." if len(points) < 40 else ""
                )
            axes.set_ylim(bottom=0)
            axes.yaxis.set_major_formatter("{x:,.10g}")
            ticks = sorted({x for points in self.lines.values() for x, _ in points})
            if self.log_x and ticks:
                axes.set_xscale("log", base=2)
                axes.set_xticks(ticks)
                axes.xaxis.set_major_formatter(ScalarFormatter())
            if self.lines:
                axes.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
            figure.savefig(folder / f"{self.name}.svg", metadata={"Date": None})
