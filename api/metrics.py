"""What Prometheus reads. One registry an application; with several processes their files are added up
(``PROMETHEUS_MULTIPROC_DIR``).
"""

import os
from typing import Final

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from api.gauges import Gauges
from api.pools import Pools, forget_dead
from payments.provider import Counters

CONTENT_TYPE: Final = CONTENT_TYPE_LATEST
NO_ROUTE: Final = "none"
"""The route label of requests that met no route: a path that somebody made up must not become a label."""

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class Metrics:
    """Labels are bounded: routes are templates, codes the contract's."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._seconds = Histogram(
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
        self._batches = Histogram(
            "flashsale_hold_batch_size",
            "Hold requests that one script call took.",
            buckets=_SIZES,
            registry=self.registry,
        )
        self._calls = Histogram(
            "flashsale_hold_batch_duration_seconds",
            "Time from sending a batch of holds to Redis to its answer.",
            buckets=_SECONDS,
            registry=self.registry,
        )
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
        self._of_route: dict[tuple[str, str], Histogram] = {}
        self._of_answer: dict[tuple[str, str, int, str], Counter] = {}

    def answered(self, method: str, route: str, status: int, code: str, seconds: float) -> None:
        """Count one answer. The labels' children are kept, for looking them up costs more than counting."""
        if method not in _METHODS:
            method = "OTHER"
        histogram = self._of_route.get((method, route))
        if histogram is None:
            histogram = self._of_route[method, route] = self._seconds.labels(method, route)
        counter = self._of_answer.get((method, route, status, code))
        if counter is None:
            counter = self._of_answer[method, route, status, code] = self._answers.labels(
                method, route, str(status), code
            )
        histogram.observe(seconds)
        counter.inc()

    def on_batch(self, size: int, seconds: float) -> None:
        """Count a script call that took ``size`` holds."""
        self._batches.observe(size)
        self._calls.observe(seconds)

    def on_provider(self, name: str) -> None:
        """Count what happened to a call to the payment provider."""
        self._provider[name].inc()

    def text(self) -> bytes:
        """Everything in Prometheus's text format, of all processes where there are several."""
        folder = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
        if not folder:
            return generate_latest(self.registry)
        forget_dead(folder)
        everybody = CollectorRegistry()
        MultiProcessCollector(everybody)  # type: ignore[no-untyped-call]
        everybody.register(self.gauges)
        return generate_latest(everybody)
