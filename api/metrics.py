"""What Prometheus reads. One registry an application; with several processes their files are added up
(``PROMETHEUS_MULTIPROC_DIR``).

Counting is on everybody's way, and a file that processes share is slow to count in. So a request is counted in plain
numbers here, which ``flush`` brings to Prometheus's own once a second.
"""

import os
from bisect import bisect_left
from typing import Final, NamedTuple

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from api.gauges import Gauges
from api.pools import Pools, forget_dead
from payments.provider import Counters

CONTENT_TYPE: Final = CONTENT_TYPE_LATEST
FLUSH_SECONDS: Final = 1.0
NO_ROUTE: Final = "none"
"""The route label of requests that met no route: a path that somebody made up must not become a label."""

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class _Histogram(Histogram):
    """Takes many observations at once."""

    def add(self, counts: list[int], total: float) -> None:
        """``counts`` a bucket, the last one's without a bound; ``total`` is what the observed add up to."""
        self._sum.inc(total)
        for bucket, count in zip(self._buckets, counts, strict=True):
            if count:
                bucket.inc(count)


class _Tally:
    """Observations that Prometheus was not told of."""

    __slots__ = ("_bounds", "_counts", "_total", "count")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self._reset()

    def _reset(self) -> None:
        self._counts = [0] * (len(self._bounds) + 1)
        self._total = 0.0
        self.count = 0

    def observe(self, value: float) -> None:
        self._counts[bisect_left(self._bounds, value)] += 1
        self._total += value
        self.count += 1

    def move_to(self, histogram: _Histogram) -> None:
        histogram.add(self._counts, self._total)
        self._reset()


class _Way(NamedTuple):
    """One way to answer a route: what it took, and who is told."""

    tally: _Tally
    seconds: _Histogram
    answers: Counter


class Metrics:
    """Labels are bounded: routes are templates, codes the contract's. Everything but ``text`` is for the event loop's
    thread.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._seconds = _Histogram(
            "flashsale_http_request_duration_seconds",
            "Time from a request's headers to the end of its answer.",
            ("method", "route"),
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._answers = Counter(
            "flashsale_http_responses_total",
            "Answers, by status and by the problem's code (empty for none).",
            ("method", "route", "status", "code"),
            registry=self.registry,
        )
        self._batches = _Histogram(
            "flashsale_hold_batch_size",
            "Hold requests that one script call took.",
            buckets=_SIZES,
            registry=self.registry,
        )
        self._calls = _Histogram(
            "flashsale_hold_batch_duration_seconds",
            "Time from sending a batch of holds to Redis to its answer.",
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._batch_sizes, self._batch_seconds = _Tally(_SIZES), _Tally(_SECONDS)
        provider = Counter(
            "flashsale_provider_events_total",
            "What happened on the API's way to the payment provider.",
            ("event",),
            registry=self.registry,
        )
        self._provider = {name: provider.labels(name) for name in Counters.NAMES}
        self.pools = Pools(self.registry)
        self.gauges = Gauges()
        self.registry.register(self.gauges)
        self._ways: dict[tuple[str, str, int, str], _Way] = {}

    def answered(self, method: str, route: str, status: int, code: str, seconds: float) -> None:
        """Count one answer."""
        if method not in _METHODS:
            method = "OTHER"
        way = (method, route, status, code)
        found = self._ways.get(way)
        if found is None:
            answers = self._answers.labels(method, route, str(status), code)
            found = self._ways[way] = _Way(_Tally(_SECONDS), self._seconds.labels(method, route), answers)
        found.tally.observe(seconds)

    def on_batch(self, size: int, seconds: float) -> None:
        """Count a script call that took ``size`` holds."""
        self._batch_sizes.observe(size)
        self._batch_seconds.observe(seconds)

    def on_provider(self, name: str) -> None:
        """Count what happened to a call to the payment provider. Safe in any thread."""
        self._provider[name].inc()

    def flush(self) -> None:
        """Tell Prometheus what was counted since the last time."""
        for way in self._ways.values():
            if way.tally.count:
                way.answers.inc(way.tally.count)
                way.tally.move_to(way.seconds)
        if self._batch_sizes.count:
            self._batch_sizes.move_to(self._batches)
            self._batch_seconds.move_to(self._calls)

    def text(self) -> bytes:
        """Everything in Prometheus's text format, of all processes where there are several; ``flush`` first. Safe in
        any thread.
        """
        folder = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
        if not folder:
            return generate_latest(self.registry)
        forget_dead(folder)
        everybody = CollectorRegistry()
        MultiProcessCollector(everybody)  # type: ignore[no-untyped-call]
        everybody.register(self.gauges)
        return generate_latest(everybody)
