"""What an API's /metrics says of its answers, between two looks."""

import http.client
import urllib.error
import urllib.request
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

from prometheus_client.parser import text_string_to_metric_families

PATIENCE_SECONDS = 3
HOLDS = ("POST", "/v1/holds")
DURATION, ANSWERS = "flashsale_http_request_duration_seconds", "flashsale_http_responses"


@dataclass(slots=True)
class Counts:
    """Since the API's start: ``answers`` by problem code, or by status where there is none; ``buckets`` of the time
    that a hold takes, by their upper bound in seconds, each with all below it.
    """

    answers: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    buckets: dict[float, float] = field(default_factory=lambda: defaultdict(float))


def read(api_url: str) -> Counts | None:
    """None where the API does not answer."""
    try:
        with urllib.request.urlopen(f"{api_url}/metrics", timeout=PATIENCE_SECONDS) as answer:  # noqa: S310 - our own
            return parse(answer.read().decode())
    except (OSError, ValueError, http.client.HTTPException, urllib.error.URLError):
        return None


def parse(text: str) -> Counts:
    """Raises ``ValueError`` for what is not Prometheus's text."""
    counts = Counts()
    for family in text_string_to_metric_families(text):
        if family.name == ANSWERS:
            for sample in family.samples:
                if sample.name.endswith("_total"):
                    counts.answers[sample.labels["code"] or sample.labels["status"]] += sample.value
        elif family.name == DURATION:
            for sample in family.samples:
                if sample.name.endswith("_bucket") and (sample.labels["method"], sample.labels["route"]) == HOLDS:
                    counts.buckets[float(sample.labels["le"])] += sample.value
    return counts


def since(now: Counts, before: Counts | None) -> Counts:
    """What came between two looks; all of it where there was none before, or where the API began anew."""
    if before is None or sum(now.answers.values()) < sum(before.answers.values()):
        return now
    return Counts(_minus(now.answers, before.answers), _minus_bounds(now.buckets, before.buckets))


def _minus(now: Mapping[str, float], before: Mapping[str, float]) -> dict[str, float]:
    return {name: value - before.get(name, 0) for name, value in now.items()}


def _minus_bounds(now: Mapping[float, float], before: Mapping[float, float]) -> dict[float, float]:
    return {bound: value - before.get(bound, 0) for bound, value in now.items()}


def quantile(buckets: Mapping[float, float], part: float) -> float | None:
    """Seconds below which that part of the holds was answered, as Prometheus reads a histogram: evenly spread within a
    bucket, and the last bound where it lies past all of them. None without a hold.
    """
    bounds = sorted(buckets)
    if not bounds or not buckets[bounds[-1]]:
        return None
    rank = part * buckets[bounds[-1]]
    lower_bound, lower = 0.0, 0.0
    for bound in bounds:
        if buckets[bound] >= rank:
            if bound == float("inf"):
                return lower_bound
            width = buckets[bound] - lower
            return lower_bound + (bound - lower_bound) * ((rank - lower) / width if width else 0)
        lower_bound, lower = bound, buckets[bound]
    return lower_bound
