"""How fast the API answers: what its counters grew by over the last seconds, of all processes that share its port."""

import os
from collections import deque
from collections.abc import Iterable
from itertools import pairwise
from typing import Final

import msgspec
from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.multiprocess import MultiProcessCollector

WINDOW_SECONDS: Final = 10.0
HOLDS: Final = ("POST", "/v1/holds")
ANSWERS_MAX: Final = 12


class AnswerRate(msgspec.Struct, frozen=True):
    """Answers with that status and problem's code (empty for none), a second over the window and in all."""

    status: int
    code: str
    per_second: float
    total: int


class Rates(msgspec.Struct, frozen=True):
    """Of ``POST /v1/holds``, over the window: requests a second, and the times within which half and 99 of 100 were
    answered (milliseconds, as fine as the histogram's buckets; None without requests). ``answers`` are those of every
    route under ``/v1``, the most frequent first.
    """

    holds_per_second: float
    p50_ms: float | None
    p99_ms: float | None
    answers: list[AnswerRate]


class Reading(msgspec.Struct, frozen=True):
    """The counters at one moment: buckets by their upper bound in seconds, and answers by status and code."""

    at: float
    buckets: dict[float, float]
    answers: dict[tuple[int, str], float]


def read(registry: CollectorRegistry, at: float) -> Reading:
    """What the registry counted until now; of all processes where there are several. It reads files then: for a
    thread.
    """
    if os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return _reading(registry.collect(), at)


def _reading(families: Iterable[Metric], at: float) -> Reading:
    buckets: dict[float, float] = {}
    answers: dict[tuple[int, str], float] = {}
    for family in families:
        if family.name == "flashsale_http_request_duration_seconds":
            for sample in family.samples:
                if sample.name.endswith("_bucket") and (sample.labels["method"], sample.labels["route"]) == HOLDS:
                    buckets[float(sample.labels["le"])] = sample.value
        elif family.name == "flashsale_http_responses":
            for sample in family.samples:
                if sample.name.endswith("_total") and sample.labels["route"].startswith("/v1/"):
                    key = int(sample.labels["status"]), sample.labels["code"]
                    answers[key] = answers.get(key, 0) + sample.value
    return Reading(at, dict(sorted(buckets.items())), answers)


class Window:
    """The readings of the last seconds."""

    def __init__(self) -> None:
        self._readings: deque[Reading] = deque()

    def add(self, now: Reading) -> Rates:
        """What happened between the oldest reading of the window and this one."""
        self._readings.append(now)
        while len(self._readings) > 2 and now.at - self._readings[0].at > WINDOW_SECONDS:
            self._readings.popleft()
        before = self._readings[0]
        return between(before, now)


def between(before: Reading, now: Reading) -> Rates:
    """The rates from one reading to a later one; without a time between them, none."""
    seconds = now.at - before.at
    grown = {bound: max(value - before.buckets.get(bound, 0.0), 0.0) for bound, value in now.buckets.items()}
    holds = max(grown.values(), default=0.0)
    per_second = 1 / seconds if seconds > 0 else 0.0
    answers = [
        AnswerRate(
            status, code, round(max(total - before.answers.get((status, code), 0.0), 0.0) * per_second, 1), total
        )
        for (status, code), total in ((key, int(value)) for key, value in now.answers.items())
    ]
    return Rates(
        holds_per_second=round(holds * per_second, 1),
        p50_ms=quantile(grown, 0.5),
        p99_ms=quantile(grown, 0.99),
        answers=sorted(answers, key=lambda each: (-each.per_second, -each.total))[:ANSWERS_MAX],
    )


def quantile(cumulative: dict[float, float], share: float) -> float | None:
    """Milliseconds within which that share was answered, straight within a bucket, as Prometheus reads it; of the last
    bucket its lower bound.
    """
    total = max(cumulative.values(), default=0.0)
    if total <= 0:
        return None
    wanted = share * total
    for (low, below), (high, upto) in pairwise([(0.0, 0.0), *cumulative.items()]):
        if upto >= wanted:
            within = (wanted - below) / (upto - below) if upto > below else 1.0
            seconds = low if high == float("inf") else low + (high - low) * within
            return round(seconds * 1000, 2)
    return None
