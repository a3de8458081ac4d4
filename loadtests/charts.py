"""Line charts as plain SVG, so that the bench needs no plotting library."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from math import ceil, floor, log10
from typing import Final

Points = Sequence[tuple[float, float]]

WIDTH: Final = 720
HEIGHT: Final = 360
LEFT, RIGHT, TOP, BOTTOM = 70, 160, 40, 50
COLOURS: Final = ("#1f6feb", "#d1242f", "#2da44e", "#bf8700", "#8250df", "#57606a")


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """``name`` is the file's. With ``log_x`` the x values are powers apart, as connections are."""

    name: str
    title: str
    x: str
    y: str
    lines: Mapping[str, Points]
    log_x: bool = False

    def svg(self) -> str:
        points = [point for line in self.lines.values() for point in line]
        if not points:
            return _frame(self.title, ["<text x='20' y='60'>nothing was measured</text>"])
        xs, ys = [x for x, _ in points], [y for _, y in points]
        step = _step(max(ys))
        top = step * max(ceil(max(ys) / step), 1)
        low, high = self._place(min(xs)), self._place(max(xs))

        def at(x: float, y: float) -> tuple[float, float]:
            share = (self._place(x) - low) / (high - low) if high > low else 0.5
            return LEFT + share * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - y / top * (HEIGHT - TOP - BOTTOM)

        parts = []
        for number in range(round(top / step) + 1):
            _, y = at(xs[0], number * step)
            parts.append(f"<line x1='{LEFT}' y1='{y:.1f}' x2='{WIDTH - RIGHT}' y2='{y:.1f}' stroke='#d0d7de'/>")
            parts.append(f"<text x='{LEFT - 8}' y='{y + 4:.1f}' text-anchor='end'>{number * step:,.10g}</text>")
        for tick in self._ticks(sorted(set(xs))):
            x, _ = at(tick, 0)
            parts.append(f"<text x='{x:.1f}' y='{HEIGHT - BOTTOM + 18}' text-anchor='middle'>{tick:,.4g}</text>")
        for number, (name, line) in enumerate(self.lines.items()):
            colour = COLOURS[number % len(COLOURS)]
            path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (at(*point) for point in line))
            parts.append(f"<polyline points='{path}' fill='none' stroke='{colour}' stroke-width='2'/>")
            y = TOP + 16 + 20 * number
            parts.append(f"<rect x='{WIDTH - RIGHT + 12}' y='{y - 9}' width='12' height='4' fill='{colour}'/>")
            parts.append(f"<text x='{WIDTH - RIGHT + 30}' y='{y}'>{escape(name)}</text>")
        middle = LEFT + (WIDTH - LEFT - RIGHT) / 2
        parts.append(f"<text x='{middle}' y='{HEIGHT - 10}' text-anchor='middle'>{escape(self.x)}</text>")
        parts.append(f"<text x='{LEFT}' y='{TOP - 8}'>{escape(self.y)}</text>")
        return _frame(self.title, parts)

    def _place(self, x: float) -> float:
        return log10(x) if self.log_x and x > 0 else x

    def _ticks(self, xs: Sequence[float]) -> Sequence[float]:
        if self.log_x or len(xs) <= 6:
            return xs
        step = _step(xs[-1])
        return [step * number for number in range(floor(xs[-1] / step) + 1) if step * number >= xs[0]]


def _step(most: float) -> float:
    """A round number of which four to ten make up ``most``."""
    if most <= 0:
        return 1.0
    size = 10.0 ** floor(log10(most))
    share = most / size
    return size / 5 if share < 2 else size / 2 if share < 5 else size


_TEXT: Final = "font-family='sans-serif' font-size='12' fill='#1f2328'"


def _frame(title: str, parts: Sequence[str]) -> str:
    return "\n".join(
        [
            f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {WIDTH} {HEIGHT}' {_TEXT}>",
            f"<rect width='{WIDTH}' height='{HEIGHT}' fill='white'/>",
            f"<text x='{WIDTH / 2}' y='18' text-anchor='middle' font-size='14'>{escape(title)}</text>",
            *parts,
            "</svg>\n",
        ]
    )
