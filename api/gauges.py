"""Metrics that are read from the stores when Prometheus asks. Where a store is away its samples are missing: a gauge
that stays at its last value would hide just that.
"""

from collections.abc import Iterator, Mapping

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from persistence.drift import Promise
from persistence.figures import Figures, SaleFigures


class Gauges(Collector):
    """Shows what it was given last; each part is None where it could not be read."""

    def __init__(self) -> None:
        self.workers: dict[str, int] | None = None
        self.figures: Figures | None = None
        self.sales: dict[str, SaleFigures] | None = None
        self.promises: Mapping[Promise, int] | None = None

    def collect(self) -> Iterator[Metric]:
        """Every family, also without samples."""
        figures, sales = self.figures, self.sales or {}
        calls = CounterMetricFamily(
            "flashsale_worker_provider_events",
            "What happened on all workers' way to the payment provider.",
            labels=["event"],
        )
        for name, number in (self.workers or {}).items():
            calls.add_metric([name], number)
        yield calls
        yield _family(
            "flashsale_promise_breaches",
            "What breaks one of the four promises: each must be 0.",
            {str(promise): number for promise, number in (self.promises or {}).items()},
            "promise",
        )
        yield _single(
            "flashsale_orders_refused",
            "Paid orders that Postgres's last guard refused: each would have been oversold, and its money goes back.",
            figures.orders_refused if figures else None,
        )
        yield _single(
            "flashsale_events_set_aside",
            "Events that could not be written to Postgres and wait for people.",
            figures.events_set_aside if figures else None,
        )
        yield _family(
            "flashsale_webhook_events",
            "Stored payment events that were not handled, by status.",
            figures.webhook_events if figures else {},
            "status",
        )
        yield _family(
            "flashsale_oldest_webhook_event_seconds",
            "Age of the oldest stored payment event that was not handled, by status; 0 for none.",
            figures.oldest_webhook_seconds if figures else {},
            "status",
        )
        yield _single(
            "flashsale_oldest_authorisation_seconds",
            "Age of the oldest authorisation of a live order that was not captured; 0 for none.",
            figures.oldest_authorisation_seconds if figures else None,
        )
        yield _family(
            "flashsale_payments_due",
            "Payments for which something is owed to the provider or to Redis, by what it is.",
            figures.payments_due if figures else {},
            "due",
        )
        yield _family(
            "flashsale_drain_lag_events",
            "Events of a sale that are in Redis and not in Postgres yet.",
            {sale_id: sale.lag_events for sale_id, sale in sales.items() if sale.lag_events is not None},
            "sale",
        )
        yield _family(
            "flashsale_drain_lag_seconds",
            "Age of a sale's oldest event that is not in Postgres yet; 0 for none.",
            {sale_id: sale.lag_seconds for sale_id, sale in sales.items() if sale.lag_seconds is not None},
            "sale",
        )
        yield _family(
            "flashsale_sale_fenced",
            "Whether a sale answers nothing but reads, for its stores differ (1) or not (0).",
            {sale_id: sale.fenced for sale_id, sale in sales.items()},
            "sale",
        )


def _single(name: str, help_text: str, value: float | None) -> Metric:
    return GaugeMetricFamily(name, help_text, value=value)


def _family(name: str, help_text: str, values: Mapping[str, float], label: str) -> Metric:
    family = GaugeMetricFamily(name, help_text, labels=[label])
    for word, value in values.items():
        family.add_metric([word], value)
    return family
