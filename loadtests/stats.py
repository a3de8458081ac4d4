"""What is said about many numbers: percentiles, medians, spread."""

from collections.abc import Mapping, Sequence
from statistics import median
from typing import NamedTuple

PERCENTILES = {"p50": 0.50, "p90": 0.90, "p99": 0.99, "p999": 0.999, "max": 1.0}


def percentile(ordered: Sequence[float], share: float) -> float:
    """The value below which that share of them lies; ``ordered`` is sorted and not empty."""
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)]


def percentiles(values: Sequence[float]) -> dict[str, float]:
    """p50 to max of values in any order; empty for none."""
    ordered = sorted(values)
    return {name: percentile(ordered, share) for name, share in PERCENTILES.items()} if ordered else {}


class Spread(NamedTuple):
    """Several rounds' values in one."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        return cls(median(values), min(values), max(values))


def ratios(over: Sequence[float], under: Sequence[float]) -> list[float]:
    """Round by round, so that what slows a whole round down cancels out."""
    return [a / b if b else float("inf") for a, b in zip(over, under, strict=True)]


def add_up(counts: Sequence[Mapping[str, int]]) -> dict[str, int]:
    """Several counts by name as one."""
    total: dict[str, int] = {}
    for each in counts:
        for name, number in each.items():
            total[name] = total.get(name, 0) + number
    return total
