"""Charts as inline SVG: nothing to load, and as sharp on paper."""

from collections.abc import Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 720, 200
TICKS = 4


@dataclass(frozen=True, slots=True)
class Tick:
    at: float
    label: str


@dataclass(frozen=True, slots=True)
class Chart:
    """``area`` and ``line`` are SVG paths, ``bars`` rectangles as (x, y, width, height)."""

    title: str
    says: str
    line: str
    area: str
    bars: tuple[tuple[float, float, float, float], ...]
    y_ticks: tuple[Tick, ...]
    x_ticks: tuple[Tick, ...]


def chart(title: str, says: str, values: Sequence[int], step_seconds: int, *, bars: bool = False) -> Chart:
    """``values`` at equal steps; ``says`` is the chart in words, for those who do not see it."""
    top = _round_up(max([*values, 1]))
    width = WIDTH / max(len(values), 1)
    points = [(round((at + 1) * width, 1), round(HEIGHT * (1 - value / top), 1)) for at, value in enumerate(values)]
    line = " ".join(f"L{x} {y}" for x, y in points)
    return Chart(
        title,
        says,
        line="" if bars else f"M0 {HEIGHT} {line}",
        area="" if bars else f"M0 {HEIGHT} {line} L{points[-1][0] if points else 0} {HEIGHT} Z",
        bars=tuple(
            (round(at * width + width * 0.1, 1), y, round(width * 0.8, 1), round(HEIGHT - y, 1))
            for at, (_, y) in enumerate(points)
            if values[at]
        )
        if bars
        else (),
        y_ticks=tuple(Tick(HEIGHT * (1 - part / TICKS), f"{top * part // TICKS:,}") for part in range(TICKS + 1)),
        x_ticks=tuple(
            Tick(WIDTH * part / TICKS, duration(len(values) * step_seconds * part / TICKS)) for part in range(TICKS + 1)
        ),
    )


def duration(seconds: float | None) -> str:
    """``4.2 s``, ``3 min 10 s``, ``2 h 5 min``; a dash for None."""
    if seconds is None:
        return "-"
    if seconds < 60:
        return f"{seconds:.0f} s" if seconds == int(seconds) else f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"


def _round_up(value: int) -> int:
    """The next 1, 2 or 5 with zeros that four ticks divide into whole numbers."""
    size = 4
    while True:
        for factor in (1, 2, 5):
            if size * factor >= value:
                return size * factor
        size *= 10
